//! The state of a folder: the last good objects of each file, and the current problems.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot::catalog::guard::{Guard, Hold, Limits, ObjectCounts, Verdict};
use boot::{Assignment, Change, Labels, ObjectKey, ObjectRef, Partial, Rejected, SubjectSelectors};
use files::{Activity, Listing, Symlinks, Unread, open_regular};
use tracing::{info, warn};

use super::Problem;
use super::fault::Fault;
use super::read::{self, Contents, MAX_FAULTS, MAX_FILE_BYTES, MAX_INVALID, Object, Room, Spots};
use super::walk::{self, Stamp, walk};

mod memory;

/// Maximum number of problems that a scan lists.
const MAX_PROBLEMS: usize = 1_000;
/// Maximum number of faults that are kept for all files together, besides the first of each file.
const MAX_KEPT_FAULTS: usize = 10_000;

/// A folder of manifests, as of the last scan.
pub struct Folder {
    dir: PathBuf,
    limits: FolderLimits,
    activity: Activity,
    /// Where the last scan stopped reading because its time was over.
    resume_at: Option<PathBuf>,
    files: BTreeMap<PathBuf, Held>,
    /// The objects that were handed out, and the file that each came from.
    served: HashMap<ObjectRef, (PathBuf, Object)>,
    /// Objects of broken files without a known good version.
    rejected: BTreeMap<ObjectRef, Arc<Rejected>>,
    /// Objects that are also in other files, up to [`MAX_PROBLEMS`].
    twice: Vec<Problem>,
    more_twice: usize,
    guard: Guard,
    /// See [`Scan::emptied`].
    emptied: Vec<(&'static str, usize)>,
}

/// Limits on one scan.
#[derive(Clone, Copy)]
struct FolderLimits {
    walk: files::Limits,
    /// Maximum time to read files. The next scan reads the others.
    read_time: Duration,
    /// Maximum number of invalid Assignments whose readable parts are kept.
    invalid: usize,
}

/// The result of a scan.
pub struct Scan {
    /// The changes from the objects of the last scan to those of this one.
    pub changes: Vec<Change>,
    /// The current problems, sorted by file and line, up to a thousand.
    pub problems: Vec<Problem>,
    /// The number of problems that are not listed.
    pub more_problems: usize,
    /// The limit that kept the scan from seeing the whole folder, if any. Objects of files that
    /// were not seen stay as they were.
    pub limit: Option<String>,
    /// The number of changed files that the next scan has to read, because the time was over.
    pub unread: usize,
    /// The number of manifest files.
    pub files: usize,
    /// The number of files that had changed and were read.
    pub read: usize,
    /// Whether the result of [`Folder::remember`] may have changed.
    pub is_other: bool,
    /// The kinds of which this scan removed the last object, with the number of objects removed.
    /// Without kinds whose loss was confirmed or held back by the guard.
    pub emptied: Vec<(&'static str, usize)>,
}

/// How many changed files a scan read.
#[derive(Default)]
struct Reads {
    read: usize,
    /// Files that no time was left for.
    unread: usize,
    /// New files beyond the number that is kept.
    beyond: usize,
}

/// The state of a file.
#[derive(Default)]
struct Held {
    /// The identity of the file when it was read; `None` if it must be read again.
    stamp: Option<Stamp>,
    good: Contents,
    faults: Vec<Fault>,
    /// The readable parts of its objects while it is broken.
    partials: Vec<(Partial, Option<String>)>,
    /// Invalid Assignments that are too many for their parts to be kept.
    beyond: Vec<ObjectRef>,
}

type Served = HashMap<ObjectRef, (PathBuf, Object)>;

// === impl Folder ===

impl Folder {
    /// Creates a folder without reading it. Keeps objects whose loss exceeds these limits until it
    /// is confirmed.
    pub fn new(dir: &Path, limits: Limits) -> Self {
        let (files, served, rejected) = (BTreeMap::new(), HashMap::new(), BTreeMap::new());
        Self {
            dir: dir.to_owned(),
            limits: FolderLimits {
                walk: walk::LIMITS,
                read_time: Duration::from_mins(1),
                invalid: MAX_INVALID,
            },
            activity: Activity::default(),
            resume_at: None,
            files,
            served,
            rejected,
            twice: Vec::new(),
            more_twice: 0,
            guard: Guard::new(limits),
            emptied: Vec::new(),
        }
    }

    /// The folder's path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the scanning thread waits for.
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Reads the files that changed.
    pub fn rescan(&mut self) -> Scan {
        let found = walk(&self.dir, self.limits.walk, &self.activity);
        let before = self.files.len();
        let Reads {
            read,
            unread,
            beyond,
        } = self.read_changed(&found);
        // A file that is gone may be one of those that were not read yet, under another name.
        if unread == 0 {
            self.files.retain(|path, _| !found.is_gone(path));
        }
        let is_less = self.files.len() < before;
        let is_other = read > 0 || is_less || self.is_to_be_judged();
        let changes = if is_other { self.choose() } else { Vec::new() };
        let (problems, more_problems) = self.problems(&found, unread, beyond);
        Scan {
            changes,
            problems,
            more_problems,
            files: found.files.len(),
            limit: found.limit,
            unread,
            read,
            is_other,
            emptied: std::mem::take(&mut self.emptied),
        }
    }

    /// Reads the files that changed until the time is over.
    fn read_changed(&mut self, found: &Listing<Stamp>) -> Reads {
        let until = Instant::now() + self.limits.read_time;
        let mut kept: usize = self.files.values().map(|held| held.faults.len()).sum();
        let mut invalid: usize = self.files.values().map(Held::invalid).sum();
        let mut reads = Reads::default();
        let start = self.resume_at.take().unwrap_or_default();
        // Files that change all the time must not keep the others from being read.
        let in_turn = found
            .files
            .range(start.clone()..)
            .chain(found.files.range(..start));
        for (path, stamp) in in_turn {
            let known = self.files.get(path);
            if known.is_some_and(|held| held.stamp.as_ref() == Some(stamp)) {
                continue;
            }
            // Files that were not seen count too: names that change must not fill the memory.
            let has_room = known.is_some() || self.files.len() < self.limits.walk.files;
            if !has_room {
                reads.beyond += 1;
                continue;
            }
            if reads.read > 0 && Instant::now() >= until {
                self.resume_at.get_or_insert_with(|| path.clone());
                reads.unread += 1;
                continue;
            }
            let held = self.files.entry(path.clone()).or_default();
            kept -= held.faults.len();
            invalid -= held.invalid();
            let room = Room {
                faults: if kept < MAX_KEPT_FAULTS {
                    MAX_FAULTS
                } else {
                    1
                },
                invalid: self.limits.invalid.saturating_sub(invalid),
            };
            held.load(path, room, &self.activity);
            kept += held.faults.len();
            invalid += held.invalid();
            reads.read += 1;
        }
        reads
    }

    /// Returns the objects that the guard keeps although the folder lacks them.
    pub fn holding(&self) -> Option<&Hold> {
        self.guard.holding()
    }

    /// Accepts the loss that the guard holds back, on an operator's confirmation.
    pub fn confirm(&mut self) -> Vec<Change> {
        let lost = self.guard.confirm();
        for name in &lost {
            self.served.remove(name);
            self.rejected.remove(name);
        }
        lost.into_iter().map(ObjectRef::deletion).collect()
    }

    fn is_to_be_judged(&self) -> bool {
        let due = self.guard.holding().zip(self.guard.relist_interval());
        due.is_some_and(|(hold, every)| Instant::now() >= hold.since + every * hold.listings)
    }

    /// Chooses the file that provides each object: the one that had it before, otherwise the first.
    fn choose(&mut self) -> Vec<Change> {
        self.follow_renamed();
        let mut holders: HashMap<ObjectRef, Vec<(&PathBuf, usize, &Object)>> = HashMap::new();
        for (path, held) in &self.files {
            for (spots, object) in &held.good.objects {
                holders.entry(object.name()).or_default().push((
                    path,
                    spots.object.line as usize,
                    object,
                ));
            }
        }
        let (mut twice, mut more_twice) = (Vec::new(), 0);
        let choose = |(name, holders): (ObjectRef, Vec<(&PathBuf, usize, &Object)>)| {
            let before = self.served.get(&name).map(|(path, _)| path);
            let at = holders
                .iter()
                .position(|(path, ..)| Some(*path) == before)
                .unwrap_or(0);
            let (path, _, object) = holders[at];
            for (other, line, _) in holders.iter().filter(|(other, ..)| *other != path) {
                if twice.len() == MAX_PROBLEMS {
                    more_twice += 1;
                    continue;
                }
                let reason = format!(
                    "{name} is also in {}, which is served; remove one of them",
                    path.display()
                );
                twice.push(Problem {
                    file: (*other).clone(),
                    line: Some(*line),
                    reason,
                });
            }
            (name, (path.clone(), object.clone()))
        };
        let mut chosen: Served = holders.into_iter().map(choose).collect();
        (self.twice, self.more_twice) = (twice, more_twice);
        let mut rejected = self.rejected_objects(&chosen);
        self.keep_lost_objects(&mut chosen, &mut rejected);
        self.replace(chosen, rejected)
    }

    /// Moves the last good objects of a file that was renamed while broken, as far as it still
    /// names them.
    fn follow_renamed(&mut self) {
        let mut found = Vec::new();
        let mut good: Option<HashSet<ObjectRef>> = None;
        for (path, held) in &self.files {
            for (partial, _) in &held.partials {
                let object = Rejected {
                    partial: partial.clone(),
                    fault: Box::default(),
                };
                let name = object.name();
                let Some((_, served)) = self.served.get(&name) else {
                    continue;
                };
                let all = || {
                    self.files
                        .values()
                        .flat_map(|held| &held.good.objects)
                        .map(|(_, object)| object.name())
                        .collect()
                };
                if !good.get_or_insert_with(all).contains(&name)
                    && !object.is_different_object(served.created())
                {
                    found.push((path.clone(), served.clone()));
                }
            }
        }
        for (path, object) in found {
            let Some(held) = self.files.get_mut(&path) else {
                continue;
            };
            held.good.objects.push((Spots::default(), object));
        }
    }

    /// Returns the objects that broken files name and that have no known good version.
    fn rejected_objects(&self, chosen: &Served) -> BTreeMap<ObjectRef, Arc<Rejected>> {
        let mut rejected = BTreeMap::new();
        for (path, held) in &self.files {
            let Some(first) = held.faults.first() else {
                continue;
            };
            let file = path.strip_prefix(&self.dir).unwrap_or(path).display();
            for (partial, own) in &held.partials {
                let fault = match (own, first.line()) {
                    (Some(own), _) => format!("{file}: {own}"),
                    (None, Some(line)) => format!(
                        "nothing in {file} is used until line {line} is fixed: {}",
                        first.sentence()
                    ),
                    (None, None) => format!(
                        "nothing in {file} is used until it is fixed: {}",
                        first.sentence()
                    ),
                };
                let object = Rejected {
                    partial: partial.clone(),
                    fault: fault.into(),
                };
                let name = object.name();
                if !chosen.contains_key(&name) {
                    rejected.entry(name).or_insert_with(|| Arc::new(object));
                }
            }
            let is_unknown = |name: &&ObjectRef| !chosen.contains_key(*name);
            let beyond = held.beyond.iter().filter(is_unknown).count();
            if beyond > 0 {
                let object = remainder(&file.to_string(), beyond);
                rejected.insert(object.name(), Arc::new(object));
            }
        }
        rejected
    }

    /// Keeps lost objects: an empty folder is more likely an unmounted one than intended.
    fn keep_lost_objects(
        &mut self,
        chosen: &mut Served,
        rejected: &mut BTreeMap<ObjectRef, Arc<Rejected>>,
    ) {
        let mut known = ObjectCounts::default();
        let mut lost = BTreeSet::new();
        for name in self.served.keys().chain(self.rejected.keys()) {
            match name {
                ObjectRef::Assignment(_) => known.assignments += 1,
                ObjectRef::Profile(_) => known.profiles += 1,
                ObjectRef::Machine(_) => known.machines += 1,
            }
            if !chosen.contains_key(name) && !rejected.contains_key(name) {
                lost.insert(name.clone());
            }
        }
        let (was_holding, count) = (self.guard.holding().is_some(), lost.len());
        match self.guard.judge(known, lost, Instant::now()) {
            Verdict::Delete(_) if was_holding => {
                info!("the guard released the objects that it held");
            }
            Verdict::Delete(_) => {
                let left = || chosen.keys().chain(rejected.keys());
                let left = ObjectCounts::of(left());
                let kinds = [
                    ("Assignment", known.assignments, left.assignments > 0),
                    ("Profile", known.profiles, left.profiles > 0),
                    ("Machine", known.machines, left.machines > 0),
                ];
                self.emptied = kinds
                    .into_iter()
                    .filter(|(_, before, is_left)| *before > 0 && !is_left)
                    .map(|(kind, before, _)| (kind, before))
                    .collect();
            }
            Verdict::Hold => {
                if !was_holding {
                    warn!(
                        folder = %self.dir.display(), lost = count, known = known.kinds().sum::<usize>(),
                        "the folder lacks most of its objects; is it mounted? Keeping them until their deletion is confirmed (POST /guard/confirm on the admin port, with the header X-Shaper-Request: 1)"
                    );
                }
                for name in self.guard.holding().into_iter().flat_map(|hold| &hold.lost) {
                    if let Some(served) = self.served.get(name) {
                        chosen.insert(name.clone(), served.clone());
                    } else if let Some(object) = self.rejected.get(name) {
                        rejected.insert(name.clone(), object.clone());
                    }
                }
            }
        }
    }

    fn replace(
        &mut self,
        chosen: Served,
        rejected: BTreeMap<ObjectRef, Arc<Rejected>>,
    ) -> Vec<Change> {
        let known = self.served.keys().chain(self.rejected.keys());
        let gone = known
            .filter(|name| !chosen.contains_key(*name) && !rejected.contains_key(*name))
            .map(|name| name.clone().deletion());
        let new = chosen.iter().filter(|(name, (_, object))| {
            self.served
                .get(*name)
                .is_none_or(|(_, before)| before != object)
        });
        let new = new.map(|(_, (_, object))| object.change());
        let newly_rejected = rejected
            .iter()
            .filter(|(name, object)| self.rejected.get(*name) != Some(*object));
        let newly_rejected = newly_rejected.map(|(_, object)| Change::Rejected(object.clone()));
        let changes = gone.chain(new).chain(newly_rejected).collect();
        (self.served, self.rejected) = (chosen, rejected);
        changes
    }

    /// Returns the problems, and how many more there are.
    fn problems(
        &self,
        found: &Listing<Stamp>,
        unread: usize,
        beyond: usize,
    ) -> (Vec<Problem>, usize) {
        let of_folder = |reason: String| Problem {
            file: self.dir.clone(),
            line: None,
            reason,
        };
        let limit = found.limit.as_ref().map(|limit| {
            of_folder(format!(
                "not all of the folder is read: {limit}; objects of files that were not seen stay as they were; remove files or symlinks"
            ))
        });
        let unread = (unread > 0).then(|| {
            of_folder(format!(
                "{unread} changed files are not read yet: reading the others took {} seconds; the next scan reads them, and their previous objects stay in use",
                self.limits.read_time.as_secs()
            ))
        });
        let beyond = (beyond > 0).then(|| {
            of_folder(format!(
                "{beyond} new files are not read: {} files are known already, including those that can't be read now",
                self.files.len()
            ))
        });
        let unreadable = found
            .unread
            .iter()
            .filter(|(path, why)| self.is_missed(path, why))
            .map(|(path, why)| Problem {
                file: path.clone(),
                line: None,
                reason: format!("can't be read: {why}; its previous objects stay in use"),
            });
        let aliases = found.aliases.iter().map(|alias| Problem {
            file: alias.link.clone(),
            line: None,
            reason: format!(
                "this symlink leads to {}, which is read already; remove the symlink",
                alias.directory.display()
            ),
        });
        let faults = self.files.iter().flat_map(|(path, held)| {
            held.faults.iter().map(|fault| Problem {
                file: path.clone(),
                line: fault.line(),
                reason: fault.sentence(),
            })
        });
        let mut all = limit
            .into_iter()
            .chain(unread)
            .chain(beyond)
            .chain(unreadable)
            .chain(aliases)
            .chain(faults)
            .chain(self.twice.iter().cloned());
        let mut listed: Vec<_> = all.by_ref().take(MAX_PROBLEMS).collect();
        let more = all.count() + self.more_twice;
        listed.sort();
        (listed, more)
    }

    /// Whether a path that can't be read matters: a dangling symlink does if it has the name of a
    /// manifest, or if it led to a folder with manifests.
    fn is_missed(&self, path: &Path, why: &Unread) -> bool {
        let had_files = || {
            let below = self.files.range(path.to_owned()..).next();
            below.is_some_and(|(known, _)| known.starts_with(path))
        };
        !matches!(why, Unread::Dangling(_)) || walk::is_manifest(path) || had_files()
    }
}

/// Stands in for the invalid Assignments of a file that are too many to be kept. It matches every
/// machine, and goes before valid defaults only: the machines that the file names must not fall to
/// one.
fn remainder(file: &str, count: usize) -> Rejected {
    let assignment = Assignment {
        key: ObjectKey::new("", file),
        created: None,
        labels: Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: Labels::default(),
        priority: i32::MAX,
        variables: boot::Variables::default(),
    };
    let fault = format!(
        "{count} more Assignments in {file} are invalid than can be kept, so all machines wait that no other Assignment selects by identity or labels; fix the file"
    );
    Rejected {
        partial: Partial::Assignment(assignment.into()),
        fault: fault.into(),
    }
}

// === impl Held ===

impl Held {
    /// The number of invalid objects whose readable parts are kept.
    fn invalid(&self) -> usize {
        self.partials
            .iter()
            .filter(|(_, own)| own.is_some())
            .count()
    }

    /// Reads the file.
    fn load(&mut self, path: &Path, room: Room, activity: &Activity) {
        self.stamp = None;
        match activity.run(path, || open(path)) {
            Ok(Opened::Whole(bytes, stamp)) => {
                self.stamp = stamp.is_settled().then_some(stamp);
                self.parse(path, &bytes, room);
            }
            Ok(Opened::TooLarge(bytes, stamp)) => {
                self.stamp = Some(stamp);
                let reason = format!(
                    "the file has {bytes} bytes; split it into files of at most {MAX_FILE_BYTES} (64 MiB)"
                );
                (self.faults, self.partials) = (vec![Fault::file(None, reason)], Vec::new());
                self.beyond = Vec::new();
            }
            // The next scan reads the final contents.
            Ok(Opened::Changing) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.faults = vec![Fault::file(
                    None,
                    format!("can't be read: {error}; its previous objects stay in use"),
                )];
            }
        }
    }

    fn parse(&mut self, path: &Path, bytes: &[u8], room: Room) {
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        match read::read(bytes, is_json, room) {
            Ok(contents) => {
                for foreign in contents
                    .foreign
                    .iter()
                    .filter(|foreign| !self.good.foreign.contains(foreign))
                {
                    info!(file = %path.display(), object = foreign, "not a kind of shaper; ignored");
                }
                self.good = contents;
                (self.faults, self.partials) = (Vec::new(), Vec::new());
                self.beyond = Vec::new();
            }
            Err(broken) => {
                (self.faults, self.partials) = (broken.faults, broken.partials);
                self.beyond = broken.beyond;
            }
        }
    }
}

enum Opened {
    Whole(Vec<u8>, Stamp),
    TooLarge(u64, Stamp),
    /// The file is being written.
    Changing,
}

/// Reads a file unless it changes meanwhile.
fn open(path: &Path) -> io::Result<Opened> {
    let file = open_regular(path, Symlinks::Follow)?;
    let metadata = file.metadata()?;
    let stamp = Stamp::of(&metadata);
    if metadata.len() > MAX_FILE_BYTES {
        return Ok(Opened::TooLarge(metadata.len(), stamp));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // Files of the kernel say that they are empty, and some never end.
    if metadata.len() > 0 {
        (&file).take(metadata.len() + 1).read_to_end(&mut bytes)?;
    }
    let is_same = Stamp::of(&file.metadata()?) == stamp && bytes.len() as u64 == metadata.len();
    Ok(if is_same {
        Opened::Whole(bytes, stamp)
    } else {
        Opened::Changing
    })
}

#[cfg(test)]
mod tests;
