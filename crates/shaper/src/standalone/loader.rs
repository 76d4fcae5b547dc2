//! Loads the folder into the catalog that serves machines.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boot::{Catalog, Change, ObjectKey, Partial, Rejected, SharedCatalog};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tracing::{error, info, warn};

use crate::admin::Part;
use crate::ids::ConfigIds;
use manifests::{Folder, Problem};

use super::confirmations::Confirmations;
use super::last_good::LastGoodCopy;

/// Maximum number of loads before the first answer.
const MAX_FIRST_LOADS: usize = 60;
/// Maximum number of problems listed individually in metrics.
const MAX_LISTED: usize = 100;

/// Reads the folder and maintains the catalog.
pub(super) struct Loader {
    folder: Folder,
    ids: ConfigIds,
    catalog: Catalog,
    shared: Arc<SharedCatalog>,
    metrics: LoadMetrics,
    remarks: Arc<Mutex<Vec<String>>>,
    problems: BTreeSet<Problem>,
    /// Messages that were already logged, besides the problems.
    logged: Vec<String>,
    /// Profiles with configs whose ids are not on disk yet.
    unsaved: BTreeSet<ObjectKey>,
    /// Whether the ids of Profiles that were removed while no process ran have been marked as
    /// deleted.
    has_swept: bool,
    last_good: LastGoodCopy,
    confirmations: Arc<Confirmations>,
    /// Objects restored from the copy on disk, until the first scan.
    restored: Vec<Change>,
    has_scanned: bool,
    /// Whether the last scan left changed files to the next one.
    has_unread: bool,
}

/// The result of a load.
pub(super) struct LoadSummary {
    pub(super) assignments: usize,
    pub(super) profiles: usize,
    pub(super) machines: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) took: Duration,
}

/// The loader's metrics.
#[derive(Clone)]
pub(super) struct LoadMetrics {
    objects: Family<KindLabels, Gauge>,
    problems: Gauge,
    problem: Family<ProblemLabels, Gauge>,
    state_unsaved: Gauge,
    rejected: Gauge,
    guard: Gauge,
    held: Gauge,
    scan_incomplete: Gauge,
    read_stalled: Gauge,
    age: Gauge<f64, AtomicU64>,
    loads: prometheus_client::metrics::counter::Counter,
    loaded: Arc<Mutex<Option<Instant>>>,
    changed: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ProblemLabels {
    file: String,
    line: String,
    reason: String,
}

impl Loader {
    /// Creates a loader for a folder and restores its last good objects.
    pub(super) fn new(
        mut folder: Folder,
        mut last_good: LastGoodCopy,
        ids: ConfigIds,
        shared: Arc<SharedCatalog>,
        metrics: LoadMetrics,
        remarks: Arc<Mutex<Vec<String>>>,
        confirmations: Arc<Confirmations>,
    ) -> Self {
        let restored = folder.restore(last_good.read());
        Self {
            folder,
            ids,
            catalog: Catalog::new(),
            shared,
            metrics,
            remarks,
            problems: BTreeSet::new(),
            logged: Vec::new(),
            unsaved: BTreeSet::new(),
            has_swept: false,
            last_good,
            confirmations,
            restored,
            has_scanned: false,
            has_unread: false,
        }
    }

    /// Loads until all files are read: a machine must not be answered from a part of them.
    pub(super) fn load_all(&mut self) -> LoadSummary {
        let started = Instant::now();
        let mut summary = self.load();
        // Each load reads for a minute.
        for _ in 0..MAX_FIRST_LOADS {
            if !self.has_unread {
                break;
            }
            summary = self.load();
        }
        LoadSummary {
            took: started.elapsed(),
            ..summary
        }
    }

    /// Reads the changes and publishes them together.
    pub(super) fn load(&mut self) -> LoadSummary {
        let started = Instant::now();
        let is_first = !std::mem::replace(&mut self.has_scanned, true);
        let confirmed = if self.confirmations.take_confirmation() {
            self.folder.confirm()
        } else {
            Vec::new()
        };
        if !confirmed.is_empty() {
            warn!(objects = confirmed.len(), "mass deletion confirmed");
        }
        let scan = self.folder.rescan();
        self.has_unread = scan.unread > 0;
        self.metrics
            .scan_incomplete
            .set(i64::from(scan.limit.is_some()));
        for (kind, objects) in &scan.emptied {
            warn!(
                kind,
                objects,
                "the folder lost all objects of this kind, too few for the mass-deletion guard; their machines boot nothing or something else"
            );
        }
        if !confirmed.is_empty() {
            // First on disk: a restart must not bring back objects whose removal somebody has seen.
            self.last_good.write_soon();
            self.last_good.write(&self.folder);
        } else if scan.is_other {
            self.last_good.is_current = false;
        }
        let changes: Vec<_> = std::mem::take(&mut self.restored)
            .into_iter()
            .chain(confirmed)
            .chain(scan.changes)
            .collect();
        let is_complete =
            scan.problems.is_empty() && scan.more_problems == 0 && self.folder.holding().is_none();
        let changes = self.with_ids(changes, is_complete);
        let mut changed = 0;
        for change in changes {
            changed += i64::from(self.catalog.apply(change));
        }
        if changed > 0 {
            self.shared.publish(self.catalog.clone());
        }
        let took = started.elapsed();
        let (assignments, profiles, machines) = (
            self.catalog.assignment_count(),
            self.catalog.profile_count(),
            self.catalog.machine_count(),
        );
        if changed > 0 {
            info!(
                changes = changed,
                assignments,
                profiles,
                machines,
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "folder loaded"
            );
        }
        if is_first && scan.files == 0 && changed == 0 {
            warn!(
                "the folder contains no *.yaml, *.yml or *.json file, and no earlier objects of it are known; no machine boots until there is one"
            );
        }
        let problems = scan.problems.iter().cloned().collect();
        self.report(problems, scan.more_problems, changed);
        self.last_good.write(&self.folder);
        LoadSummary {
            assignments,
            profiles,
            machines,
            problems: scan.problems,
            took,
        }
    }

    /// Returns the time until work is due even if nothing changes.
    pub(super) fn pending(&self) -> Option<Duration> {
        if self.has_unread {
            return Some(Duration::ZERO);
        }
        self.last_good.pending()
    }

    /// Adds config ids to Profiles. Profiles whose ids could not be written are retried at the next
    /// load.
    fn with_ids(&mut self, changes: Vec<Change>, is_complete: bool) -> Vec<Change> {
        for change in &changes {
            match change {
                Change::Profile(profile) => self.ids.assign(profile),
                Change::ProfileDeleted(key) => self.ids.forget(key),
                Change::Assignment(_)
                | Change::AssignmentDeleted(_)
                | Change::Machine(_)
                | Change::MachineDeleted(_)
                | Change::Rejected(_) => {}
            }
        }
        if is_complete && !self.has_swept {
            self.has_swept = true;
            let deleted: BTreeSet<_> = changes
                .iter()
                .filter_map(|change| {
                    if let Change::ProfileDeleted(key) = change {
                        Some(key)
                    } else {
                        None
                    }
                })
                .collect();
            let known = self.catalog.profiles().map(|profile| &profile.key);
            let new = changes.iter().filter_map(|change| {
                if let Change::Profile(profile) = change {
                    Some(&profile.key)
                } else {
                    None
                }
            });
            let present = known.chain(new).filter(|key| !deleted.contains(key));
            self.ids
                .keep_only(&present.map(ToString::to_string).collect());
        }
        self.save_ids();
        let waiting: Vec<_> = self
            .unsaved
            .iter()
            .filter_map(|key| self.catalog.profile(key))
            .cloned()
            .map(Change::Profile)
            .collect();
        self.unsaved.clear();
        // Retried Profiles come first, so that newer changes override them.
        waiting
            .into_iter()
            .chain(changes)
            .map(|change| self.with_saved_ids(change))
            .collect()
    }

    fn with_saved_ids(&mut self, change: Change) -> Change {
        let profile = match change {
            Change::Profile(profile) => profile,
            Change::Rejected(rejected) => {
                return Change::Rejected(self.with_known_ids(rejected));
            }
            change => return change,
        };
        let profile = profile.with_ids(self.ids.saved_ids(&profile));
        if profile.config_without_id().is_some() {
            self.unsaved.insert(profile.key.clone());
        }
        Change::Profile(Arc::new(profile))
    }

    /// Adds known config ids to a rejected Profile, so that a machine that is being installed from
    /// it waits for its configs.
    fn with_known_ids(&self, rejected: Arc<Rejected>) -> Arc<Rejected> {
        let Partial::Profile(partial) = &rejected.partial else {
            return rejected;
        };
        let partial = Partial::Profile(Arc::new(
            partial.with_ids(self.ids.saved_ids_of_rejected(&partial.key)),
        ));
        Arc::new(Rejected {
            partial,
            fault: rejected.fault.clone(),
        })
    }

    fn save_ids(&mut self) {
        let was_unsaved = self.metrics.state_unsaved.get() == 1;
        match self.ids.save() {
            Ok(()) if was_unsaved => info!("config ids are written to the state directory again"),
            Ok(()) => {}
            Err(error) if was_unsaved => drop(error),
            Err(error) => error!(
                error = format!("{error:#}"),
                "can't write the ids of new configs to the state directory; their Profiles answer 503 until it works"
            ),
        }
        self.metrics
            .state_unsaved
            .set(i64::from(self.ids.is_unsaved()));
    }

    /// Logs each problem when it appears and when it is fixed, and updates remarks and metrics.
    fn report(&mut self, problems: BTreeSet<Problem>, more: usize, changed: i64) {
        for problem in problems.difference(&self.problems) {
            if problem.file == self.folder.dir() {
                warn!(folder = %problem.file.display(), reason = problem.reason, "folder not read completely");
                continue;
            }
            warn!(file = %problem.file.display(), line = problem.line, reason = problem.reason, "file rejected; its last good objects stay in use");
        }
        let now_broken: BTreeSet<_> = problems.iter().map(|problem| &problem.file).collect();
        let was_broken: BTreeSet<_> = self.problems.iter().map(|problem| &problem.file).collect();
        for file in was_broken.difference(&now_broken) {
            info!(file = %file.display(), "file accepted again");
        }
        let mut also = Vec::new();
        if more > 0 {
            also.push(format!(
                "{more} more problems than are listed; `shaper validate {}` lists them",
                self.folder.dir().display()
            ));
        }
        if let Some(hold) = self.folder.holding() {
            also.push(format!(
                "the guard keeps {} of {} objects that are missing from the folder; is it mounted? If they were deleted on purpose, POST \
                 /guard/confirm with the header X-Shaper-Request: 1 to this port",
                hold.lost.len(),
                hold.known
            ));
        }
        let rejected = self.catalog.describe_rejected(MAX_LISTED);
        for sentence in rejected
            .iter()
            .filter(|sentence| !self.logged.contains(sentence))
        {
            warn!(
                reason = sentence,
                "object rejected, and no good version of it is known"
            );
        }
        also.extend(rejected);
        if problems != self.problems {
            self.metrics.set_problems(&problems);
        }
        if problems != self.problems || also != self.logged {
            let remarks = also
                .iter()
                .cloned()
                .chain(problems.iter().map(ToString::to_string))
                .collect();
            *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = remarks;
        }
        (self.problems, self.logged) = (problems, also);
        let held = self.folder.holding().map_or(0, |hold| hold.lost.len());
        self.confirmations.held.store(held, Ordering::Relaxed);
        self.metrics.set_guard(held, self.catalog.rejected_count());
        self.metrics
            .record_load(&self.catalog, self.problems.len() + more, changed);
    }
}

impl LoadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            objects: Family::default(),
            problems: Gauge::default(),
            problem: Family::default(),
            state_unsaved: Gauge::default(),
            rejected: Gauge::default(),
            guard: Gauge::default(),
            held: Gauge::default(),
            scan_incomplete: Gauge::default(),
            read_stalled: Gauge::default(),
            age: Gauge::default(),
            loads: prometheus_client::metrics::counter::Counter::default(),
            loaded: Arc::default(),
            changed: Gauge::default(),
        };
        registry.register(
            "catalog_objects",
            "Objects in the catalog, by kind",
            metrics.objects.clone(),
        );
        registry.register(
            "manifest_problems",
            "Problems in the folder; a file with a problem keeps its last good objects",
            metrics.problems.clone(),
        );
        registry.register(
            "manifest_problem",
            "1 for each of the first hundred problems, by file, line and reason",
            metrics.problem.clone(),
        );
        registry.register(
            "state_unsaved",
            "1 while config ids can't be written to the state directory",
            metrics.state_unsaved.clone(),
        );
        registry.register(
            "manifest_scan_incomplete",
            "1 while the folder exceeds a limit, so that not all of it is read",
            metrics.scan_incomplete.clone(),
        );
        registry.register(
            "manifest_read_stalled",
            "1 while a read of the folder does not return, so that the folder is not followed",
            metrics.read_stalled.clone(),
        );
        registry.register(
            "manifest_rejected_objects",
            "Invalid objects of which no good version is known; their machines wait",
            metrics.rejected.clone(),
        );
        registry.register(
            "guard_holding",
            "1 while the mass-deletion guard keeps objects that are missing from the folder",
            metrics.guard.clone(),
        );
        registry.register(
            "guard_held_objects",
            "Objects that the mass-deletion guard keeps",
            metrics.held.clone(),
        );
        registry.register_with_unit(
            "load_age",
            "Time since the folder was last loaded",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register("loads", "Loads of the folder", metrics.loads.clone());
        registry.register(
            "load_changes",
            "Objects changed by the last load that changed any",
            metrics.changed.clone(),
        );
        metrics
    }

    /// Creates one series of each family, so that an encoded registry names every metric and label.
    pub(crate) fn create_series(&self) {
        drop(self.objects.get_or_create(&KindLabels { kind: "" }));
        drop(self.problem.get_or_create(&ProblemLabels::default()));
    }

    /// The gauge that is 1 while a read of the folder does not return.
    pub(super) fn read_stalled(&self) -> Gauge {
        self.read_stalled.clone()
    }

    fn record_load(&self, catalog: &Catalog, problems: usize, changed: i64) {
        let count = |objects: usize| i64::try_from(objects).unwrap_or(i64::MAX);
        self.objects
            .get_or_create(&KindLabels { kind: "Assignment" })
            .set(count(catalog.assignment_count()));
        self.objects
            .get_or_create(&KindLabels { kind: "Profile" })
            .set(count(catalog.profile_count()));
        self.problems.set(count(problems));
        if changed > 0 {
            self.changed.set(changed);
        }
        self.loads.inc();
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn set_guard(&self, held: usize, rejected: usize) {
        self.guard.set(i64::from(held > 0));
        self.held.set(i64::try_from(held).unwrap_or(i64::MAX));
        self.rejected
            .set(i64::try_from(rejected).unwrap_or(i64::MAX));
    }

    fn set_problems(&self, problems: &BTreeSet<Problem>) {
        self.problem.clear();
        for problem in problems.iter().take(MAX_LISTED) {
            let line = problem
                .line
                .map(|line| line.to_string())
                .unwrap_or_default();
            let place = ProblemLabels {
                file: problem.file.display().to_string(),
                line,
                reason: problem.reason.clone(),
            };
            self.problem.get_or_create(&place).set(1);
        }
    }
}

impl Part for LoadMetrics {
    fn remarks(&self) -> Vec<String> {
        let unsaved = self.state_unsaved.get() == 1;
        unsaved
            .then(|| "can't write the ids of new configs to --state-dir; their Profiles answer 503 until it works".to_owned())
            .into_iter()
            .collect()
    }

    fn refresh(&self) {
        if let Some(loaded) = *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) {
            self.age.set(loaded.elapsed().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests;
