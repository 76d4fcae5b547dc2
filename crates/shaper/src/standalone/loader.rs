//! From the folder to the catalog that machines are answered from.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boot::{Catalog, Change, ObjectKey, SharedCatalog};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tracing::{error, info, warn};

use crate::admin::Part;
use crate::ids::ConfigIds;
use crate::manifests::{Folder, Problem};

/// Most problems that are listed one by one in metrics.
const MAX_LISTED: usize = 100;

/// Reads the folder and keeps the catalog.
pub(super) struct Loader {
    folder: Folder,
    ids: ConfigIds,
    catalog: Catalog,
    shared: Arc<SharedCatalog>,
    gauges: Gauges,
    remarks: Arc<Mutex<Vec<String>>>,
    problems: BTreeSet<Problem>,
    /// Profiles that have configs whose ids are not on disk.
    unsaved: BTreeSet<ObjectKey>,
    /// Whether ids of Profiles that went while nobody looked were forgotten.
    is_swept: bool,
}

/// What there is after a load.
pub(super) struct Loaded {
    pub(super) assignments: usize,
    pub(super) profiles: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) took: Duration,
}

/// What the loader measures.
#[derive(Clone)]
pub(super) struct Gauges {
    objects: Family<Kind, Gauge>,
    problems: Gauge,
    problem: Family<Place, Gauge>,
    state_unsaved: Gauge,
    age: Gauge<f64, AtomicU64>,
    loads: prometheus_client::metrics::counter::Counter,
    loaded: Arc<Mutex<Option<Instant>>>,
    changed: Gauge<i64, AtomicI64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Place {
    file: String,
    line: String,
    reason: String,
}

impl Loader {
    pub(super) fn new(dir: &Path, ids: ConfigIds, shared: Arc<SharedCatalog>, gauges: Gauges, remarks: Arc<Mutex<Vec<String>>>) -> Self {
        Self {
            folder: Folder::new(dir),
            ids,
            catalog: Catalog::new(),
            shared,
            gauges,
            remarks,
            problems: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            is_swept: false,
        }
    }

    /// Reads what has changed and makes it current, all at once.
    pub(super) fn load(&mut self) -> Loaded {
        let started = Instant::now();
        let scan = self.folder.rescan();
        let changes = self.with_ids(scan.changes, scan.problems.is_empty());
        let mut changed = 0;
        for change in changes {
            changed += i64::from(self.catalog.apply(change));
        }
        if changed > 0 {
            self.shared.publish(self.catalog.clone());
        }
        let took = started.elapsed();
        let (assignments, profiles) = (self.catalog.assignment_count(), self.catalog.profile_count());
        if changed > 0 {
            info!(changes = changed, assignments, profiles, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "loaded");
        }
        self.report(scan.problems.iter().cloned().collect(), changed);
        Loaded { assignments, profiles, problems: scan.problems, took }
    }

    /// Gives Profiles the ids of their configs. Those that could not be written down wait for the next load.
    fn with_ids(&mut self, changes: Vec<Change>, is_whole: bool) -> Vec<Change> {
        for change in &changes {
            match change {
                Change::Profile(profile) => self.ids.assign(profile),
                Change::ProfileGone(key) => self.ids.forget(key),
                Change::Assignment(_) | Change::AssignmentGone(_) | Change::Unaccepted(_) => {}
            }
        }
        if is_whole && !self.is_swept {
            self.is_swept = true;
            let gone: BTreeSet<_> =
                changes.iter().filter_map(|change| if let Change::ProfileGone(key) = change { Some(key) } else { None }).collect();
            let known = self.catalog.profiles().map(|profile| &profile.key).filter(|key| !gone.contains(key));
            let new = changes.iter().filter_map(|change| if let Change::Profile(profile) = change { Some(&profile.key) } else { None });
            self.ids.keep_only(&known.chain(new).map(ToString::to_string).collect());
        }
        self.save_ids();
        let waiting: Vec<_> = self.unsaved.iter().filter_map(|key| self.catalog.profile(key)).cloned().map(Change::Profile).collect();
        self.unsaved.clear();
        // Those that waited come first, so that what is new about them comes after.
        waiting.into_iter().chain(changes).map(|change| self.with_id(change)).collect()
    }

    fn with_id(&mut self, change: Change) -> Change {
        let Change::Profile(profile) = change else { return change };
        let profile = profile.with_ids(self.ids.of(&profile));
        if profile.config_without_id().is_some() {
            self.unsaved.insert(profile.key.clone());
        }
        Change::Profile(Arc::new(profile))
    }

    fn save_ids(&mut self) {
        let was_unsaved = self.gauges.state_unsaved.get() == 1;
        match self.ids.save() {
            Ok(()) if was_unsaved => info!("the ids of configs are written down again"),
            Ok(()) => {}
            Err(error) if was_unsaved => drop(error),
            Err(error) => error!(
                error = format!("{error:#}"),
                "the ids of new configs can't be written down; their Profiles answer 503 until they can"
            ),
        }
        self.gauges.state_unsaved.set(i64::from(self.ids.is_unsaved()));
    }

    /// Says once what is wrong, and once when it is mended.
    fn report(&mut self, problems: BTreeSet<Problem>, changed: i64) {
        for problem in problems.difference(&self.problems) {
            warn!(file = %problem.file.display(), line = problem.line, reason = problem.reason, "a file can't be used; what it held before stays");
        }
        let now_broken: BTreeSet<_> = problems.iter().map(|problem| &problem.file).collect();
        let was_broken: BTreeSet<_> = self.problems.iter().map(|problem| &problem.file).collect();
        for file in was_broken.difference(&now_broken) {
            info!(file = %file.display(), "mended");
        }
        if problems != self.problems {
            self.gauges.list(&problems);
            *self.remarks.lock().unwrap_or_else(PoisonError::into_inner) = problems.iter().map(ToString::to_string).collect();
        }
        self.problems = problems;
        self.gauges.loaded(&self.catalog, self.problems.len(), changed);
    }
}

impl Gauges {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let gauges = Self {
            objects: Family::default(),
            problems: Gauge::default(),
            problem: Family::default(),
            state_unsaved: Gauge::default(),
            age: Gauge::default(),
            loads: prometheus_client::metrics::counter::Counter::default(),
            loaded: Arc::default(),
            changed: Gauge::default(),
        };
        registry.register("catalog_objects", "Objects that machines are answered from", gauges.objects.clone());
        registry.register(
            "manifest_problems",
            "What is wrong in the folder; each keeps a file at its last good state",
            gauges.problems.clone(),
        );
        registry.register("manifest_problem", "Where and what, for the first hundred", gauges.problem.clone());
        registry.register("state_unsaved", "1 while ids of configs can't be written to the state directory", gauges.state_unsaved.clone());
        registry.register_with_unit("load_age", "Time since the folder was last read", Unit::Seconds, gauges.age.clone());
        registry.register("loads", "How often the folder was read", gauges.loads.clone());
        registry.register("load_changes", "Objects that the last load with changes changed", gauges.changed.clone());
        gauges
    }

    fn loaded(&self, catalog: &Catalog, problems: usize, changed: i64) {
        let count = |objects: usize| i64::try_from(objects).unwrap_or(i64::MAX);
        self.objects.get_or_create(&Kind { kind: "Assignment" }).set(count(catalog.assignment_count()));
        self.objects.get_or_create(&Kind { kind: "Profile" }).set(count(catalog.profile_count()));
        self.problems.set(count(problems));
        if changed > 0 {
            self.changed.set(changed);
        }
        self.loads.inc();
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn list(&self, problems: &BTreeSet<Problem>) {
        self.problem.clear();
        for problem in problems.iter().take(MAX_LISTED) {
            let line = problem.line.map(|line| line.to_string()).unwrap_or_default();
            let place = Place { file: problem.file.display().to_string(), line, reason: problem.reason.clone() };
            self.problem.get_or_create(&place).set(1);
        }
    }
}

impl Part for Gauges {
    fn remarks(&self) -> Vec<String> {
        let unsaved = self.state_unsaved.get() == 1;
        unsaved
            .then(|| "the ids of new configs can't be written to --state-dir; their Profiles answer 503 until they can".to_owned())
            .into_iter()
            .collect()
    }

    fn refresh(&self) {
        if let Some(loaded) = *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) {
            self.age.set(loaded.elapsed().as_secs_f64());
        }
    }
}
