//! The state of a folder: the last good objects of each file, and what is wrong now.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use boot::Change;
use tracing::info;

use super::Problem;
use super::read::{self, Contents, Fault, Identity, MAX_FILE_BYTES, Object};
use super::walk::{Found, Stamp, walk};

/// A folder of manifests, as it was when it was last read.
pub struct Folder {
    dir: PathBuf,
    files: BTreeMap<PathBuf, Held>,
    /// What was handed out, and the file that each object came from.
    served: HashMap<Identity, (PathBuf, Object)>,
}

/// What a scan found.
pub struct Scan {
    /// What turns the objects of the last scan into those of this one.
    pub changes: Vec<Change>,
    /// All that is wrong now, sorted by file and line.
    pub problems: Vec<Problem>,
}

#[derive(Default)]
struct Held {
    stamp: Option<Stamp>,
    good: Contents,
    faults: Vec<Fault>,
}

impl Folder {
    /// A folder of which nothing was read yet.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: BTreeMap::new(), served: HashMap::new() }
    }

    /// Reads the files that have changed.
    pub fn rescan(&mut self) -> Scan {
        let found = walk(&self.dir);
        let is_kept = |path: &Path| found.files.contains_key(path) || found.unreadable.iter().any(|(above, _)| path.starts_with(above));
        self.files.retain(|path, _| is_kept(path));
        for (path, stamp) in &found.files {
            let held = self.files.entry(path.clone()).or_default();
            if held.stamp.as_ref() != Some(stamp) {
                held.load(path, *stamp);
            }
        }
        let (chosen, twice) = self.choose();
        let changes = self.replace(chosen);
        Scan { changes, problems: self.problems(&found, twice) }
    }

    /// One file for each object: that which had it before, or else the first.
    fn choose(&self) -> (HashMap<Identity, (PathBuf, Object)>, Vec<Problem>) {
        let mut holders: HashMap<Identity, Vec<(&PathBuf, usize, &Object)>> = HashMap::new();
        for (path, held) in &self.files {
            for (line, object) in &held.good.objects {
                holders.entry(object.identity()).or_default().push((path, *line, object));
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
        (holders.into_iter().map(choose).collect(), twice)
    }

    fn replace(&mut self, chosen: HashMap<Identity, (PathBuf, Object)>) -> Vec<Change> {
        let gone = self.served.keys().filter(|identity| !chosen.contains_key(*identity)).map(|identity| {
            let key = identity.key.clone();
            if identity.is_profile { Change::ProfileGone(key) } else { Change::AssignmentGone(key) }
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

    fn problems(&self, found: &Found, twice: Vec<Problem>) -> Vec<Problem> {
        let faults = self.files.iter().flat_map(|(path, held)| {
            held.faults.iter().map(|(line, reason)| Problem { file: path.clone(), line: *line, reason: reason.clone() })
        });
        let unreadable = found.unreadable.iter().map(|(path, reason)| Problem { file: path.clone(), line: None, reason: reason.clone() });
        let mut problems: Vec<_> = faults.chain(unreadable).chain(twice).collect();
        problems.sort();
        problems
    }
}

impl Held {
    fn load(&mut self, path: &Path, stamp: Stamp) {
        let read = open(path).and_then(|(bytes, stamp)| {
            let is_json = path.extension().is_some_and(|extension| extension == "json");
            read::read(&bytes, is_json).map(|contents| (contents, stamp))
        });
        match read {
            Ok((contents, stamp)) => {
                for foreign in contents.foreign.iter().filter(|foreign| !self.good.foreign.contains(foreign)) {
                    info!(file = %path.display(), object = foreign, "not shaper's: ignored");
                }
                *self = Self { stamp: Some(stamp), good: contents, faults: Vec::new() };
            }
            Err(faults) => {
                self.stamp = Some(stamp);
                self.faults = faults;
            }
        }
    }
}

/// The whole file, and what it was when it was opened: what is written meanwhile is seen by the next scan.
fn open(path: &Path) -> Result<(Vec<u8>, Stamp), Vec<Fault>> {
    let fault = |reason: String| vec![(None, reason)];
    let can_not = |error: std::io::Error| fault(format!("can't be read: {error}; what it held before stays"));
    let file = File::open(path).map_err(can_not)?;
    let metadata = file.metadata().map_err(can_not)?;
    if metadata.len() > MAX_FILE_BYTES {
        return Err(fault(format!("the file has {} bytes; split it into files of at most {MAX_FILE_BYTES}", metadata.len())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(can_not)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(fault(format!("the file grows while it is read; it may have {MAX_FILE_BYTES} bytes")));
    }
    Ok((bytes, Stamp::of(&metadata)))
}
