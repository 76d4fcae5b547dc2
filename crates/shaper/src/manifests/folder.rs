//! The state of a folder: the last good objects of each file, and what is wrong now.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boot::Change;
use tracing::info;

use super::Problem;
use super::fault::Fault;
use super::read::{self, Contents, Identity, Kind, MAX_FILE_BYTES, Object};
use super::walk::{Found, Stamp, walk};

/// A folder of manifests, as it was when it was last read.
pub struct Folder {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Held>,
    /// What was handed out, and the file that each object came from.
    served: HashMap<Identity, (PathBuf, Object)>,
    /// Objects that other files have, too.
    twice: Vec<Problem>,
}

/// What a scan found.
pub struct Scan {
    /// What turns the objects of the last scan into those of this one.
    pub changes: Vec<Change>,
    /// All that is wrong now, sorted by file and line.
    pub problems: Vec<Problem>,
    /// How many manifest files there are.
    pub files: usize,
    /// How many of them had changed and were read.
    pub read: usize,
}

/// What is known of a file.
#[derive(Default)]
struct Held {
    /// What the file was when it was read; nothing while it is to be read again.
    stamp: Option<Stamp>,
    good: Contents,
    faults: Vec<Fault>,
}

// === impl Folder ===

impl Folder {
    /// A folder of which nothing was read yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: BTreeMap::new(), served: HashMap::new(), twice: Vec::new() }
    }

    /// Reads the files that have changed.
    pub fn rescan(&mut self) -> Scan {
        let found = walk(&self.dir);
        let is_kept = |path: &Path| found.files.contains_key(path) || found.unreadable.iter().any(|(above, _)| path.starts_with(above));
        let before = self.files.len();
        self.files.retain(|path, _| is_kept(path));
        let is_less = self.files.len() < before;
        let mut read = 0;
        for (path, stamp) in &found.files {
            let held = self.files.entry(path.clone()).or_default();
            if held.stamp.as_ref() != Some(stamp) {
                held.load(path);
                read += 1;
            }
        }
        let changes = if read > 0 || is_less { self.choose() } else { Vec::new() };
        Scan { changes, problems: self.problems(&found), files: found.files.len(), read }
    }

    /// Takes each object from one file: that which had it before, or else the first.
    fn choose(&mut self) -> Vec<Change> {
        let mut holders: HashMap<Identity, Vec<(&PathBuf, usize, &Object)>> = HashMap::new();
        for (path, held) in &self.files {
            for (spots, object) in &held.good.objects {
                holders.entry(object.identity()).or_default().push((path, spots.object.line as usize, object));
            }
        }
        let mut twice = Vec::new();
        let choose = |(identity, holders): (Identity, Vec<(&PathBuf, usize, &Object)>)| {
            let before = self.served.get(&identity).map(|(path, _)| path);
            let at = holders.iter().position(|(path, ..)| Some(*path) == before).unwrap_or(0);
            let (path, _, object) = holders[at];
            for (other, line, _) in holders.iter().filter(|(other, ..)| *other != path) {
                let reason = format!("{identity} is in {} as well, which is served; remove one of them", path.display());
                twice.push(Problem { file: (*other).clone(), line: Some(*line), reason });
            }
            (identity, (path.clone(), object.clone()))
        };
        let chosen = holders.into_iter().map(choose).collect();
        self.twice = twice;
        self.replace(chosen)
    }

    fn replace(&mut self, chosen: HashMap<Identity, (PathBuf, Object)>) -> Vec<Change> {
        let gone = self.served.keys().filter(|identity| !chosen.contains_key(*identity)).map(|identity| {
            let key = identity.key.clone();
            match identity.kind {
                Kind::Profile => Change::ProfileGone(key),
                Kind::Assignment => Change::AssignmentGone(key),
            }
        });
        let new = chosen.iter().filter(|(identity, (_, object))| self.served.get(*identity).is_none_or(|(_, before)| before != object));
        let new = new.map(|(_, (_, object))| match object {
            Object::Profile(profile) => Change::Profile(profile.clone()),
            Object::Assignment(assignment) => Change::Assignment(assignment.clone()),
        });
        let changes = gone.chain(new).collect();
        self.served = chosen;
        changes
    }

    fn problems(&self, found: &Found) -> Vec<Problem> {
        let faults = self.files.iter().flat_map(|(path, held)| {
            held.faults.iter().map(|fault| Problem { file: path.clone(), line: fault.line(), reason: fault.sentence() })
        });
        let unreadable = found.unreadable.iter().map(|(path, reason)| Problem { file: path.clone(), line: None, reason: reason.clone() });
        let mut problems: Vec<_> = faults.chain(unreadable).chain(self.twice.iter().cloned()).collect();
        problems.sort();
        problems
    }
}

// === impl Held ===

impl Held {
    fn load(&mut self, path: &Path) {
        self.stamp = None;
        match open(path) {
            Ok(Opened::Whole(bytes, stamp)) => {
                self.stamp = stamp.is_settled().then_some(stamp);
                self.take(path, &bytes);
            }
            Ok(Opened::TooLarge(bytes, stamp)) => {
                self.stamp = Some(stamp);
                let reason = format!("the file has {bytes} bytes; split it into files of at most {MAX_FILE_BYTES} (64 MiB)");
                self.faults = vec![Fault::file(None, reason)];
            }
            // The next scan sees what it has become.
            Ok(Opened::Changing) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.faults = vec![Fault::file(None, format!("can't be read: {error}; what it held before stays"))],
        }
    }

    fn take(&mut self, path: &Path, bytes: &[u8]) {
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        match read::read(bytes, is_json) {
            Ok(contents) => {
                for foreign in contents.foreign.iter().filter(|foreign| !self.good.foreign.contains(foreign)) {
                    info!(file = %path.display(), object = foreign, "not shaper's: ignored");
                }
                self.good = contents;
                self.faults.clear();
            }
            Err(faults) => self.faults = faults,
        }
    }
}

enum Opened {
    Whole(Vec<u8>, Stamp),
    TooLarge(u64, Stamp),
    /// Somebody writes to it.
    Changing,
}

/// Reads a file that nobody writes to meanwhile.
fn open(path: &Path) -> io::Result<Opened> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    if metadata.len() > MAX_FILE_BYTES {
        return Ok(Opened::TooLarge(metadata.len(), stamp));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    (&mut file).take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    let is_same = Stamp::of(&file.metadata()?) == stamp && bytes.len() as u64 == metadata.len();
    Ok(if is_same { Opened::Whole(bytes, stamp) } else { Opened::Changing })
}

#[cfg(test)]
mod tests;
