//! Status patches: what an object's status should be, and what follows once it is written.

use std::sync::Arc;

use boot::{Change, ObjectRef};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::condition::ConditionType;
use crate::config_ids::IdChanges;
use crate::object::{Ids, ObservedMeta};
use crate::observed::{self, Observed, Version};
use crate::placements::{Completeness, Placement};
use crate::status::{self, Acceptance};

use super::{Entry, Index};

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
    Machine(crd::MachineStatus),
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

// === impl Index ===

impl Index {
    /// Returns the status patch of an object, if one is needed. Returns `None` while the object's
    /// version is unknown: a patch without a version would overwrite any concurrent change. Also
    /// returns `None` while a condition that the object has is not evaluated yet.
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
                let completeness = known.map_or(Completeness::NotNeeded, |assignment| {
                    self.placements.completeness(assignment, &profiles)
                });
                let variables = match completeness {
                    Completeness::Unknown if meta.status.has(ConditionType::VariablesComplete) => {
                        return None;
                    }
                    Completeness::NotNeeded | Completeness::Unknown => None,
                    Completeness::Known(condition) => Some(condition),
                };
                let status = status::of_assignment(
                    meta,
                    known.map(|known| &**known),
                    acceptance,
                    &profiles,
                    self.conflicts.of(key),
                    variables,
                    now,
                );
                let observed = Observed::of_assignment(&status);
                (Status::Assignment(status), observed)
            }
            ObjectRef::Machine(key) => {
                let known = catalog.machine(key);
                let placement = known.map(|machine| Placement::of(&catalog, machine));
                let conflicts: Vec<_> = known
                    .map(|machine| catalog.conflicting_machines(machine))
                    .unwrap_or_default()
                    .into_iter()
                    .map(|machine| &machine.key)
                    .collect();
                let status = status::of_machine(
                    meta,
                    known.map(|known| &**known),
                    Acceptance::of(&catalog, name, fault),
                    &placement.unwrap_or_default(),
                    &conflicts,
                    now,
                );
                let observed = Observed::of_machine(&status);
                (Status::Machine(status), observed)
            }
        };
        if observed.digest == meta.status.digest {
            return None;
        }
        let foreign_ids = match name {
            ObjectRef::Profile(key) => self.config_ids.foreign_ids(key),
            ObjectRef::Assignment(_) | ObjectRef::Machine(_) => &[],
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

// === impl Status ===

impl Status {
    pub(crate) fn conditions(&self) -> &[Condition] {
        match self {
            Self::Profile(status) => &status.conditions,
            Self::Assignment(status) => &status.conditions,
            Self::Machine(status) => &status.conditions,
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
