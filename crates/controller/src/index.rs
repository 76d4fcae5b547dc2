//! Metadata and status of every watched object.
//!
//! The publisher's catalog holds what each object means for selection. This index holds what the
//! controller needs to write status: resource versions, faults, conflicts.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use boot::{Catalog, Change, ConfigName, Conflicts, ObjectRef, Partial, Profile, Rejected};
use feed::Publisher;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tracing::warn;

use crate::condition::ConditionType;
use crate::config_ids::{ConfigIds, IdChanges};
use crate::object::{Fault, Ids, Object, ObservedMeta, Rejection};
use crate::observed::{self, Observed, Version};
use crate::selector_index::SelectorIndex;
use crate::status::{self, Acceptance};

/// All watched objects, with their conflicts and selected Profiles.
pub(crate) struct Index {
    /// Keyed by the key that the object's last valid version has in the catalog, so that both share
    /// one allocation.
    objects: HashMap<ObjectRef, Box<Entry>>,
    profiles: usize,
    rejected: usize,
    conflicts: Conflicts,
    config_ids: ConfigIds,
    selector_index: SelectorIndex,
    publisher: Arc<Publisher>,
}

struct Entry {
    meta: ObservedMeta,
    fault: Option<Box<Fault>>,
    /// The list in which the object was last seen.
    listing: u32,
}

/// A change to apply to the index.
pub(crate) enum IndexEvent {
    /// An object was created or changed.
    Put(Object),
    /// An object was deleted.
    Deleted(ObjectRef),
}

/// A status patch that has not been written yet.
pub(crate) struct StatusPatch {
    pub(crate) name: ObjectRef,
    /// The metadata from which this patch was computed.
    pub(crate) meta: ObservedMeta,
    pub(crate) status: Status,
    /// The status that the object has once the patch is written.
    pub(crate) observed: Observed,
    /// The events to record with the patch.
    pub(crate) events: Vec<PendingEvent>,
    /// The number of config ids that the patch replaces because they belong to other configs.
    pub(crate) replaced_ids: usize,
}

pub(crate) enum Status {
    Profile(crd::ProfileStatus),
    Assignment(crd::AssignmentStatus),
}

/// An event that has not been recorded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingEvent {
    /// The condition that the event is about, if it is about one.
    pub(crate) kind: Option<ConditionType>,
    pub(crate) is_warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// The numbers of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) profiles: usize,
    pub(crate) assignments: usize,
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
            rejected: 0,
            conflicts: Conflicts::new(),
            config_ids: ConfigIds::default(),
            selector_index: SelectorIndex::default(),
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
            profiles, rejected, ..
        } = *self;
        let catalog = self.publisher.catalog().load();
        let unreadable = catalog
            .all_rejected()
            .filter(|one| one.is_unreadable() && !catalog.contains(&one.name()))
            .count();
        Counts {
            profiles,
            assignments: self.objects.len() - profiles,
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
        self.objects.insert(name, Box::new(known));
    }

    fn remove(&mut self, name: &ObjectRef) {
        if let Some(before) = self.objects.remove(name) {
            self.rejected -= usize::from(before.fault.is_some());
            self.profiles -= usize::from(matches!(name, ObjectRef::Profile(_)));
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

    /// Updates conflicts and selected Profiles after the catalog changed.
    fn follow(
        &mut self,
        before: &Catalog,
        after: &Catalog,
        changed: &BTreeSet<ObjectRef>,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        let mut profiles = Vec::new();
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
    }

    /// Returns the status patch of an object, if one is needed. Returns `None` while the object's
    /// version is unknown: a patch without a version would overwrite any concurrent change.
    pub(crate) fn pending_patch(&self, name: &ObjectRef, now: Timestamp) -> Option<StatusPatch> {
        let Entry { meta, fault, .. } = &**self
            .objects
            .get(name)
            .filter(|known| known.meta.version != Version::default())?;
        let fault = fault.as_deref();
        let catalog = self.publisher.catalog().load();
        let (status, observed) = match name {
            ObjectRef::Profile(key) => {
                let known = catalog.profile(key).map(|profile| &**profile);
                let status =
                    status::of_profile(meta, known, Acceptance::of(&catalog, name, fault), now);
                let observed = Observed::of_profile(&status);
                (Status::Profile(status), observed)
            }
            ObjectRef::Assignment(key) => {
                let known = catalog.assignment(key);
                let profiles = known
                    .map(|assignment| self.selector_index.of(assignment))
                    .unwrap_or_default();
                let acceptance = Acceptance::of(&catalog, name, fault);
                let status = status::of_assignment(
                    meta,
                    known.map(|known| &**known),
                    acceptance,
                    &profiles,
                    self.conflicts.of(key),
                    now,
                );
                let observed = Observed::of_assignment(&status);
                (Status::Assignment(status), observed)
            }
        };
        if observed.digest == meta.status.digest {
            return None;
        }
        let foreign_ids = match name {
            ObjectRef::Profile(key) => self.config_ids.foreign_ids(key),
            ObjectRef::Assignment(_) => &[],
        };
        let mut events = events(&meta.status, status.conditions());
        events.extend(foreign_ids.iter().map(|id| PendingEvent {
            kind: None,
            is_warning: true,
            reason: "DuplicateConfigId".to_owned(),
            note: id.to_string(),
        }));
        if meta.has_restored_ids {
            events.push(PendingEvent {
                kind: None,
                is_warning: true,
                reason: "ConfigIdRestored".to_owned(),
                note: "another client has changed config ids in the status; they are written again as they were, since links with them are in use".to_owned(),
            });
        }
        Some(StatusPatch {
            name: name.clone(),
            meta: meta.clone(),
            status,
            observed,
            events,
            replaced_ids: foreign_ids.len(),
        })
    }

    /// Records that a status was written and that the object now has `version`.
    pub(crate) fn written(&mut self, write: &StatusPatch, version: &str) {
        let Some(known) = self
            .objects
            .get_mut(&write.name)
            .filter(|known| known.meta.version == write.meta.version)
        else {
            return;
        };
        let ids = if let Status::Profile(status) = &write.status {
            crd::config_ids(status)
        } else {
            Ids::new()
        };
        if let ObjectRef::Profile(key) = &write.name {
            let mut id_changes = IdChanges::default();
            // Each id is the Profile's own or new, so the age of the Profile doesn't matter.
            id_changes.record(key, known.meta.ids(), Some((None, ids.clone())));
            self.config_ids.update(id_changes);
        }
        known.meta.version = version.into();
        known.meta.status = write.observed.clone();
        known.meta.set_ids(ids.clone());
        known.meta.has_restored_ids = false;
        if let ObjectRef::Profile(key) = &write.name {
            // Serve the Profile with its ids right away instead of waiting for the watch.
            let catalog = self.publisher.catalog().load();
            if let Some(profile) = catalog.profile(key).filter(|profile| profile.ids != ids) {
                // The ids don't make the object valid.
                let rejected = catalog.rejected(&write.name).cloned().map(Change::Rejected);
                self.publisher.apply(
                    [Change::Profile(Arc::new(profile.with_ids(ids)))]
                        .into_iter()
                        .chain(rejected)
                        .collect(),
                );
            }
        }
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

// === impl Status ===

impl Status {
    pub(crate) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Profile(status) => &status.conditions,
            Self::Assignment(status) => &status.conditions,
        }
    }
}

/// Returns an event for each condition that became a problem, was fixed, or is a problem with a new
/// message.
fn events(before: &Observed, conditions: &[Condition]) -> Vec<PendingEvent> {
    let changed = conditions.iter().filter_map(|now| {
        let (kind, verdict) = observed::read(now)?;
        let (is_problem, was_bad) = (kind.is_problem(verdict), before.is_problem(kind));
        // Others that join a conflict are told of it themselves.
        let has_changed = kind != ConditionType::Conflicted && !before.is_same_problem(kind, now);
        let is_news = is_problem != was_bad || (is_problem && has_changed);
        is_news.then(|| PendingEvent {
            kind: Some(kind),
            is_warning: is_problem,
            reason: now.reason.clone(),
            note: now.message.clone(),
        })
    });
    changed.collect()
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
        Change::Assignment(_) | Change::AssignmentDeleted(_) | Change::ProfileDeleted(_) => {}
    }
}

#[cfg(test)]
mod tests;
