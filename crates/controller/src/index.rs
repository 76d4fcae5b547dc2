//! Metadata and status of every watched object.
//!
//! The publisher's catalog holds what each object means for selection. This index holds what the
//! controller needs to write status: resource versions, faults, conflicts.

mod patch;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use boot::{
    Catalog, Change, ConfigName, Conflicts, ObjectKey, ObjectRef, Partial, Profile, Rejected,
};
use feed::Publisher;
use jiff::Timestamp;
use tracing::warn;

use crate::config_ids::{ConfigIds, IdChanges};
use crate::object::{Fault, Ids, Object, ObservedMeta, Rejection};
use crate::observed::Version;
use crate::placements::{Catalogs, Placements};
use crate::selector_index::SelectorIndex;

pub(crate) use patch::{PendingEvent, Status, StatusPatch};

/// All watched objects, with their conflicts and selected Profiles.
pub(crate) struct Index {
    /// Keyed by the key that the object's last valid version has in the catalog, so that both share
    /// one allocation.
    objects: HashMap<ObjectRef, Box<Entry>>,
    profiles: usize,
    machines: usize,
    rejected: usize,
    conflicts: Conflicts,
    config_ids: ConfigIds,
    selector_index: SelectorIndex,
    placements: Placements,
    publisher: Arc<Publisher>,
}

struct Entry {
    meta: ObservedMeta,
    fault: Option<Box<Fault>>,
    /// The list in which the object was last seen.
    listing: u32,
}

/// How many objects to evaluate before the time is looked at.
const EVALUATIONS_PER_STEP: usize = 16;

/// A change to apply to the index.
pub(crate) enum IndexEvent {
    /// An object was created or changed.
    Put(Object),
    /// An object was deleted.
    Deleted(ObjectRef),
}

/// The numbers of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) profiles: usize,
    pub(crate) assignments: usize,
    pub(crate) machines: usize,
    pub(crate) rejected: usize,
    pub(crate) conflicted: usize,
    /// Rejected Assignments with unreadable selectors: their machines may get another Assignment.
    pub(crate) unreadable: usize,
}

// === impl Index ===

impl Index {
    pub(crate) fn new(publisher: Arc<Publisher>) -> Self {
        Self {
            objects: HashMap::new(),
            profiles: 0,
            machines: 0,
            rejected: 0,
            conflicts: Conflicts::new(),
            config_ids: ConfigIds::default(),
            selector_index: SelectorIndex::default(),
            placements: Placements::default(),
            publisher,
        }
    }

    /// Returns whether this version of the object, or a later one, has not been seen yet.
    pub(crate) fn is_new(&self, object: &Object) -> bool {
        self.objects.get(&object.name).is_none_or(|known| {
            let (old, new) = (&known.meta, &object.meta);
            (old.version != new.version || old.uid != new.uid) && !new.is_older_than(old)
        })
    }

    /// Records that an object was seen in a list.
    pub(crate) fn mark(&mut self, name: &ObjectRef, listing: u32) {
        if let Some(known) = self.objects.get_mut(name) {
            known.listing = listing;
        }
    }

    /// Returns the objects that are not marked as seen in `listing`.
    pub(crate) fn unmarked(
        &self,
        listing: u32,
        of: impl Fn(&ObjectRef) -> bool,
    ) -> BTreeSet<ObjectRef> {
        let lost = self
            .objects
            .iter()
            .filter(|(name, known)| known.listing != listing && of(name));
        lost.map(|(name, _)| name.clone()).collect()
    }

    /// Counts the objects for which `of` holds.
    pub(crate) fn count(&self, of: impl Fn(&ObjectRef) -> bool) -> usize {
        self.objects.keys().filter(|name| of(name)).count()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &ObjectRef> {
        self.objects.keys()
    }

    pub(crate) fn counts(&self) -> Counts {
        let Self {
            profiles,
            machines,
            rejected,
            ..
        } = *self;
        let catalog = self.publisher.catalog().load();
        let unreadable = catalog
            .all_rejected()
            .filter(|one| one.is_unreadable() && !catalog.contains(&one.name()))
            .count();
        Counts {
            profiles,
            assignments: self.objects.len() - profiles - machines,
            machines,
            rejected,
            conflicted: self.conflicts.len(),
            unreadable,
        }
    }

    /// Forgets resource versions after the server's history went back, so that the next list counts
    /// as current whatever its versions.
    pub(crate) fn forget_versions(&mut self, of: impl Fn(&ObjectRef) -> bool) {
        let all = self.objects.iter_mut().filter(|(name, _)| of(name));
        all.for_each(|(_, known)| known.meta.version = Version::default());
    }

    fn insert(&mut self, name: ObjectRef, known: Entry) {
        self.remove(&name);
        self.rejected += usize::from(known.fault.is_some());
        self.profiles += usize::from(matches!(name, ObjectRef::Profile(_)));
        self.machines += usize::from(matches!(name, ObjectRef::Machine(_)));
        self.objects.insert(name, Box::new(known));
    }

    fn remove(&mut self, name: &ObjectRef) {
        if let Some(before) = self.objects.remove(name) {
            self.rejected -= usize::from(before.fault.is_some());
            self.profiles -= usize::from(matches!(name, ObjectRef::Profile(_)));
            self.machines -= usize::from(matches!(name, ObjectRef::Machine(_)));
        }
    }

    /// Applies all events at once. Returns the objects whose status may have to change.
    pub(crate) fn apply(
        &mut self,
        steps: impl IntoIterator<Item = IndexEvent>,
        listing: u32,
    ) -> BTreeSet<ObjectRef> {
        let before = self.publisher.catalog().load();
        let mut touched = BTreeSet::new();
        let mut changed = BTreeSet::new();
        let mut changes = Vec::new();
        let mut id_changes = IdChanges::default();
        for step in steps {
            match step {
                IndexEvent::Put(object) if !self.is_new(&object) => {}
                IndexEvent::Put(mut object) => {
                    self.restore_ids(&mut object);
                    let Object {
                        name,
                        meta,
                        converted,
                        ..
                    } = object;
                    let fault = match converted {
                        Ok(change) => {
                            changes.push(change);
                            None
                        }
                        Err(rejected) => {
                            let Rejection { fault, partial } = *rejected;
                            self.log_fault(&name, &fault);
                            changes.push(Change::Rejected(Arc::new(Rejected {
                                partial,
                                fault: fault.message.clone(),
                            })));
                            Some(Box::new(fault))
                        }
                    };
                    changed.insert(name.clone());
                    touched.insert(name.clone());
                    if let ObjectRef::Profile(key) = &name {
                        let created = changes.last().and_then(created_at);
                        id_changes.record(
                            key,
                            self.ids(&name),
                            Some((created, meta.ids().clone())),
                        );
                    }
                    self.insert(
                        name,
                        Entry {
                            meta,
                            fault,
                            listing,
                        },
                    );
                }
                IndexEvent::Deleted(name) => {
                    if let ObjectRef::Profile(key) = &name {
                        id_changes.record(key, self.ids(&name), None);
                    }
                    self.remove(&name);
                    changes.push(name.clone().deletion());
                    changed.insert(name);
                }
            }
        }
        self.config_ids.update(id_changes);
        self.remove_foreign_ids(&changed, &mut changes);
        self.publisher.apply(changes);
        let after = self.publisher.catalog().load();
        changed.iter().for_each(|name| self.share_key(&after, name));
        self.follow(&before, &after, &changed, &mut touched);
        touched.retain(|name| self.objects.contains_key(name));
        touched
    }

    /// Gives the configs of a Profile the ids back that they had, if somebody has removed them from
    /// the status or replaced them: links with these ids are in use.
    fn restore_ids(&self, object: &mut Object) {
        let Some(known) = self
            .objects
            .get(&object.name)
            .filter(|known| known.meta.uid.is_some() && known.meta.uid == object.meta.uid)
        else {
            return;
        };
        let has_config = |name: &ConfigName| match &object.converted {
            Ok(Change::Profile(profile)) => profile.templates.config_named(name.as_str()).is_some(),
            // It is not known which configs the last valid version has.
            _ => true,
        };
        let in_status = object.meta.ids();
        let lost: Ids = known
            .meta
            .ids()
            .iter()
            .filter(|(name, id)| match in_status.get(*name) {
                None => has_config(name),
                Some(other) => other != *id && object.foreign_writes.contains(*name),
            })
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        if lost.is_empty() {
            return;
        }
        let mut ids = in_status.clone();
        ids.extend(lost);
        match &mut object.converted {
            Ok(Change::Profile(profile)) => *profile = Arc::new(profile.with_ids(ids.clone())),
            Err(rejection) => {
                if let Partial::Profile(partial) = &mut rejection.partial {
                    *partial = Arc::new(partial.with_ids(ids.clone()));
                }
            }
            Ok(_) => {}
        }
        object.meta.set_ids(ids);
        object.meta.has_restored_ids = true;
    }

    /// Returns the ids of a Profile's configs.
    fn ids(&self, name: &ObjectRef) -> &Ids {
        static NONE: Ids = Ids::new();
        self.objects
            .get(name)
            .map_or(&NONE, |known| known.meta.ids())
    }

    /// Removes ids that belong to other configs from changed Profiles, which then get new ones.
    fn remove_foreign_ids(&mut self, changed: &BTreeSet<ObjectRef>, changes: &mut [Change]) {
        for name in changed {
            if let ObjectRef::Profile(key) = name
                && let Some(known) = self.objects.get_mut(name)
                && !self.config_ids.foreign_ids(key).is_empty()
            {
                let own = self.config_ids.own_ids(key, known.meta.ids());
                known.meta.set_ids(own);
            }
        }
        for change in changes {
            keep_own_ids(change, &self.config_ids);
        }
    }

    /// Stores the object under the catalog's key: an object whose meaning did not change keeps its
    /// earlier key there.
    fn share_key(&mut self, catalog: &Catalog, name: &ObjectRef) {
        let own = match name {
            ObjectRef::Assignment(key) => catalog
                .assignment(key)
                .map(|assignment| ObjectRef::Assignment(assignment.key.clone())),
            ObjectRef::Profile(key) => catalog
                .profile(key)
                .map(|profile| ObjectRef::Profile(profile.key.clone())),
            ObjectRef::Machine(key) => catalog
                .machine(key)
                .map(|machine| ObjectRef::Machine(machine.key.clone())),
        };
        if let Some(own) = own
            && let Some(known) = self.objects.remove(name)
        {
            self.objects.insert(own, known);
        }
    }

    /// Logs a fault, unless it is the one already known.
    fn log_fault(&self, name: &ObjectRef, fault: &Fault) {
        let before = self
            .objects
            .get(name)
            .and_then(|known| known.fault.as_deref());
        if before != Some(fault) {
            warn!(object = %name, reason = fault.reason, fault = %fault.message, "object rejected; its last valid version stays in use if known");
        }
    }

    /// Updates conflicts, selected Profiles and placements after the catalog changed.
    fn follow(
        &mut self,
        before: &Catalog,
        after: &Catalog,
        changed: &BTreeSet<ObjectRef>,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        let (mut profiles, mut machines) = (Vec::new(), Vec::new());
        for name in changed {
            match name {
                ObjectRef::Profile(key) => {
                    profiles.extend(
                        [before, after]
                            .into_iter()
                            .filter_map(|catalog| catalog.profile_or_partial(key))
                            .cloned(),
                    );
                }
                ObjectRef::Assignment(key) => {
                    if let Some(assignment) = before.assignment(key) {
                        self.selector_index.remove(assignment);
                    }
                    if let Some(assignment) = after.assignment(key) {
                        self.selector_index.insert(after, assignment);
                    }
                }
                ObjectRef::Machine(key) => machines.push(key),
            }
        }
        self.selector_index
            .profiles_changed(after, &profiles, |key| {
                touched.insert(ObjectRef::Assignment(key));
            });
        for name in changed {
            let ObjectRef::Assignment(key) = name else {
                continue;
            };
            let others = match after.assignment(key) {
                Some(assignment) => self.conflicts.put(after, assignment),
                None => self.conflicts.remove(after, key),
            };
            touched.extend(others.into_iter().map(ObjectRef::Assignment));
        }
        for (catalog, key) in [before, after]
            .into_iter()
            .flat_map(|catalog| machines.iter().map(move |key| (catalog, key)))
        {
            let machine = catalog.machine(key).into_iter();
            let others = machine.flat_map(|machine| catalog.conflicting_machines(machine));
            touched.extend(others.map(|other| ObjectRef::Machine(other.key.clone())));
        }
        let catalogs = Catalogs { before, after };
        self.placements.selection_changed(&catalogs, changed);
        let objects = &self.objects;
        let exists = |key: &ObjectKey| objects.contains_key(&ObjectRef::Machine(key.clone()));
        self.placements
            .machines_changed(&catalogs, &machines, exists, touched);
    }

    /// Starts to evaluate what each Machine gets, and which variables are missing.
    pub(crate) fn start_evaluation(&mut self) {
        let machines = self.objects.keys().filter_map(|name| match name {
            ObjectRef::Machine(key) => Some(key.clone()),
            ObjectRef::Profile(_) | ObjectRef::Assignment(_) => None,
        });
        self.placements.start(machines);
    }

    /// Stops to evaluate, and forgets the results.
    pub(crate) fn stop_evaluation(&mut self) {
        self.placements.stop();
    }

    /// Returns the evaluation, to ask what is to be done.
    pub(crate) fn placements(&mut self) -> &mut Placements {
        &mut self.placements
    }

    /// Evaluates a few objects, if anything is to be evaluated. Returns the objects whose status may
    /// have to change.
    pub(crate) fn evaluate_some(&mut self) -> BTreeSet<ObjectRef> {
        let catalog = self.publisher.catalog().load();
        let mut touched = BTreeSet::new();
        for _ in 0..EVALUATIONS_PER_STEP {
            if !self
                .placements
                .evaluate_next(&catalog, &self.selector_index, &mut touched)
            {
                break;
            }
        }
        touched.retain(|name| self.objects.contains_key(name));
        touched
    }
}

// === impl IndexEvent ===

impl IndexEvent {
    pub(crate) fn name(&self) -> &ObjectRef {
        match self {
            Self::Put(object) => &object.name,
            Self::Deleted(name) => name,
        }
    }
}

/// Returns the creation time of the Profile that a change is about.
fn created_at(change: &Change) -> Option<Timestamp> {
    match change {
        Change::Profile(profile) => profile.created,
        Change::Rejected(rejected) => rejected.created(),
        _ => None,
    }
}

/// Removes ids that belong to other configs from the Profile that a change is about.
fn keep_own_ids(change: &mut Change, config_ids: &ConfigIds) {
    let own = |profile: &Arc<Profile>| {
        let ids = config_ids.own_ids(&profile.key, &profile.ids);
        (ids.len() != profile.ids.len()).then(|| Arc::new(profile.with_ids(ids)))
    };
    match change {
        Change::Profile(profile) => {
            if let Some(own) = own(profile) {
                *profile = own;
            }
        }
        Change::Rejected(rejected) => {
            if let Partial::Profile(partial) = &rejected.partial
                && let Some(own) = own(partial)
            {
                *rejected = Arc::new(Rejected {
                    partial: Partial::Profile(own),
                    fault: rejected.fault.clone(),
                });
            }
        }
        Change::Assignment(_)
        | Change::AssignmentDeleted(_)
        | Change::ProfileDeleted(_)
        | Change::Machine(_)
        | Change::MachineDeleted(_) => {}
    }
}

#[cfg(test)]
mod tests;
