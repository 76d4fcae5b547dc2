//! Which Assignment and Profile each Machine gets, and the variables that are missing.
//!
//! A changed Machine is evaluated alone. A changed Assignment or Profile may concern any Machine,
//! so it makes a pass over all Machines and then over the Assignments whose Profiles read
//! variables necessary. The work is done in steps of one object, so that a caller can stop at any
//! time; each step uses the catalog of that moment, and a change during a pass makes another pass
//! necessary. Only the controller that writes status evaluates.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use boot::{
    Assignment, Catalog, ExtrinsicLabels, Machine, NotSelected, ObjectKey, ObjectRef, Partial,
    Profile, Subject,
};

use crate::condition::{ConditionStatus, ConditionType, UntimedCondition};
use crate::selector_index::SelectorIndex;
use crate::variable_gap::VariableGap;

/// The maximum number of gaps that a condition describes. It has the total.
const MAX_GAPS: usize = 3;
/// If more Machines than this change at once, all Assignments are evaluated again, instead of those
/// that list an identity of one of the Machines.
const FEW: usize = 64;

/// The evaluation of all Machines, and of the Assignments whose Profiles read variables.
#[derive(Debug, Default)]
pub(crate) struct Placements {
    is_active: bool,
    /// All Machines. `None` until the Machine is evaluated.
    machines: BTreeMap<ObjectKey, Option<Placement>>,
    /// Assignments that have Machines, or whose Profiles read variables.
    assignments: HashMap<ObjectKey, AssignmentGaps>,
    /// The Profiles that read variables or have a schema for them.
    variable_profiles: HashSet<ObjectKey>,
    pending_machines: BTreeSet<ObjectKey>,
    pending_assignments: BTreeSet<ObjectKey>,
    /// Whether something has changed that may concern any Machine.
    needs_pass: bool,
    pass: Pass,
    /// The number of the current pass, or of the last one.
    pass_number: u64,
}

/// What a Machine would boot now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) assignment: Option<ObjectKey>,
    pub(crate) profile: Option<ObjectKey>,
    gap: Option<Box<VariableGap>>,
}

/// The gaps in the variables of one Assignment.
#[derive(Debug, Default)]
struct AssignmentGaps {
    /// The number of Machines that get the Assignment.
    machines: usize,
    /// Those of them that lack a variable.
    lacking: BTreeSet<ObjectKey>,
    /// The gap of a machine that no Machine describes.
    without_machine: Option<Box<VariableGap>>,
    /// Whether a pass has evaluated the Assignment.
    is_evaluated: bool,
    /// The last pass that has.
    last_pass: u64,
    /// The first pass that began after the Assignment was created.
    first_pass: u64,
}

/// The progress of a pass.
#[derive(Debug, Default)]
enum Pass {
    #[default]
    Idle,
    /// It has evaluated the Machines up to this one.
    Machines(Option<ObjectKey>),
    /// It has to evaluate these Assignments, whose Profiles read variables.
    Assignments(Vec<ObjectKey>),
    /// It has to evaluate these Assignments, whose Profiles did.
    Others(Vec<ObjectKey>),
}

/// What is known about the variables of an Assignment.
#[derive(Debug)]
pub(crate) enum Completeness {
    /// Its Profiles read no variables.
    NotNeeded,
    /// It is not evaluated yet.
    Unknown,
    Known(UntimedCondition),
}

/// The versions of the catalog before and after a change.
pub(crate) struct Catalogs<'c> {
    pub(crate) before: &'c Catalog,
    pub(crate) after: &'c Catalog,
}

// === impl Placement ===

impl Placement {
    /// Returns what a Machine would boot if it presented nothing but its identities.
    pub(crate) fn of(catalog: &Catalog, machine: &Arc<Machine>) -> Self {
        let subject = catalog.subject_of(machine, &ExtrinsicLabels::default());
        match catalog.select_ref(&subject) {
            Ok(selected) => Self {
                assignment: Some(selected.assignment.key.clone()),
                profile: Some(selected.profile.key.clone()),
                gap: VariableGap::find(selected.profile, selected.assignment, Some(machine))
                    .map(Box::new),
            },
            Err(
                NotSelected::NoProfile { assignment, .. }
                | NotSelected::NotAccepted { assignment, .. },
            ) => Self {
                assignment: Some(assignment.key.clone()),
                ..Self::default()
            },
            Err(NotSelected::NoAssignment) => Self::default(),
        }
    }
}

// === impl Placements ===

impl Placements {
    /// Starts to evaluate, beginning with a pass over everything.
    pub(crate) fn start(&mut self, machines: impl Iterator<Item = ObjectKey>) {
        self.stop();
        self.is_active = true;
        self.needs_pass = true;
        self.machines = machines.map(|key| (key, None)).collect();
    }

    /// Stops to evaluate and forgets the results.
    pub(crate) fn stop(&mut self) {
        *self = Self {
            variable_profiles: std::mem::take(&mut self.variable_profiles),
            pass_number: self.pass_number,
            ..Self::default()
        };
    }

    /// Returns whether a pass over everything is necessary.
    pub(crate) fn needs_pass(&self) -> bool {
        self.needs_pass && !self.is_passing()
    }

    pub(crate) fn begin_pass(&mut self) {
        self.needs_pass = false;
        self.pass_number += 1;
        self.pass = Pass::Machines(None);
    }

    pub(crate) fn is_passing(&self) -> bool {
        !matches!(self.pass, Pass::Idle)
    }

    /// Returns whether there is something to evaluate now.
    pub(crate) fn has_work(&self) -> bool {
        self.is_passing()
            || !self.pending_machines.is_empty()
            || !self.pending_assignments.is_empty()
    }

    /// Records that Profiles or Assignments were created, changed or deleted.
    pub(crate) fn selection_changed(
        &mut self,
        catalogs: &Catalogs<'_>,
        changed: &BTreeSet<ObjectRef>,
    ) {
        let mut has_changed = false;
        for name in changed {
            let ObjectRef::Profile(key) = name else {
                continue;
            };
            let before = catalogs.before.profile_or_partial(key);
            let after = catalogs.after.profile_or_partial(key);
            has_changed |= !is_same(before, after);
            let valid = catalogs.after.profile(key);
            if valid.is_some_and(|profile| reads_variables(profile)) {
                self.variable_profiles.insert(key.clone());
            } else {
                self.variable_profiles.remove(key);
            }
        }
        for name in changed {
            let ObjectRef::Assignment(key) = name else {
                continue;
            };
            let before = catalogs.before.assignment(key);
            let after = catalogs.after.assignment(key);
            // An invalid Assignment without a valid version may win, too.
            has_changed |= !is_same(before, after) || after.is_none();
            match (before, after) {
                (None, Some(_)) => self.assignment_created(key),
                (Some(_), None) => self.assignment_deleted(key),
                _ => {}
            }
        }
        let concerns_nothing = self.machines.is_empty()
            && self.variable_profiles.is_empty()
            && self.assignments.is_empty();
        self.needs_pass |= self.is_active && has_changed && !concerns_nothing;
    }

    fn assignment_created(&mut self, key: &ObjectKey) {
        if self.is_active && !self.variable_profiles.is_empty() {
            let first_pass = self.pass_number + 1;
            self.assignments.entry(key.clone()).or_default().first_pass = first_pass;
        }
    }

    fn assignment_deleted(&mut self, key: &ObjectKey) {
        if let Some(known) = self.assignments.get_mut(key) {
            known.without_machine = None;
            known.is_evaluated = false;
            known.first_pass = 0;
            self.forget_if_empty(key);
        }
    }

    /// Records that Machines were created, changed or deleted. `exists` says whether one is there
    /// now, valid or not.
    pub(crate) fn machines_changed(
        &mut self,
        catalogs: &Catalogs<'_>,
        changed: &[&ObjectKey],
        exists: impl Fn(&ObjectKey) -> bool,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        if !self.is_active {
            return;
        }
        let has_variables = !self.variable_profiles.is_empty();
        let are_few = changed.len() <= FEW;
        self.needs_pass |= has_variables && !are_few;
        for key in changed {
            if exists(key) {
                self.machines.entry((*key).clone()).or_default();
                self.pending_machines.insert((*key).clone());
            } else if let Some(Some(placement)) = self.machines.remove(*key) {
                self.detach(key, &placement, touched);
            }
            if !has_variables || !are_few {
                continue;
            }
            // Its identities may belong to no Machine now, or no longer.
            for catalog in [catalogs.before, catalogs.after] {
                let Some(machine) = machine_or_partial(catalog, key) else {
                    continue;
                };
                let subject = catalogs
                    .after
                    .subject_of(machine, &ExtrinsicLabels::default());
                let found = catalogs.after.by_identity(&subject).into_iter();
                self.pending_assignments
                    .extend(found.map(|found| found.assignment.key.clone()));
            }
        }
    }

    /// Evaluates the next object. Returns false if there is nothing to do.
    pub(crate) fn evaluate_next(
        &mut self,
        catalog: &Catalog,
        selected: &SelectorIndex,
        touched: &mut BTreeSet<ObjectRef>,
    ) -> bool {
        if let Some(key) = self.pending_machines.pop_first() {
            self.evaluate_machine(catalog, &key, touched);
            return true;
        }
        if let Some(key) = self.pending_assignments.pop_first() {
            let is_evaluated = |known: &AssignmentGaps| known.is_evaluated;
            if self.assignments.get(&key).is_some_and(is_evaluated) {
                self.evaluate_assignment(catalog, selected, &key, touched);
            }
            return true;
        }
        match &mut self.pass {
            Pass::Idle => return false,
            Pass::Machines(last) => {
                let after = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let next = self.machines.range((after, Bound::Unbounded)).next();
                let next = next.map(|(key, _)| key.clone());
                if let Some(key) = next {
                    *last = Some(key.clone());
                    self.evaluate_machine(catalog, &key, touched);
                } else {
                    self.pass = Pass::Assignments(if self.variable_profiles.is_empty() {
                        Vec::new()
                    } else {
                        selected.members_of(|profile| self.variable_profiles.contains(profile))
                    });
                }
            }
            Pass::Assignments(left) => {
                if let Some(key) = left.pop() {
                    let first_pass = self.assignments.get(&key).map_or(0, |it| it.first_pass);
                    if first_pass <= self.pass_number {
                        self.evaluate_assignment(catalog, selected, &key, touched);
                    }
                } else {
                    let is_left = |known: &AssignmentGaps| {
                        known.is_evaluated && known.last_pass < self.pass_number
                    };
                    let known = self.assignments.iter();
                    let left = known.filter(|(_, known)| is_left(known));
                    self.pass = Pass::Others(left.map(|(key, _)| key.clone()).collect());
                }
            }
            Pass::Others(left) => {
                if let Some(key) = left.pop() {
                    self.evaluate_assignment(catalog, selected, &key, touched);
                } else {
                    self.pass = Pass::Idle;
                }
            }
        }
        true
    }

    fn evaluate_machine(
        &mut self,
        catalog: &Catalog,
        key: &ObjectKey,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        let Some(slot) = self.machines.get_mut(key) else {
            return;
        };
        let machine = catalog.machine(key);
        let now = machine.map_or_else(Placement::default, |it| Placement::of(catalog, it));
        let before = slot.replace(now.clone());
        if before.as_ref() == Some(&now) {
            return;
        }
        touched.insert(ObjectRef::Machine(key.clone()));
        if let Some(before) = &before {
            self.detach(key, before, touched);
        }
        if let Some(assignment) = &now.assignment {
            let known = self.assignments.entry(assignment.clone()).or_default();
            known.machines += 1;
            if now.gap.is_some() {
                known.lacking.insert(key.clone());
                touched.insert(ObjectRef::Assignment(assignment.clone()));
            }
            if known.machines == 1 {
                self.pending_assignments.insert(assignment.clone());
            }
        }
    }

    /// Removes a Machine from the Assignment that it had.
    fn detach(
        &mut self,
        machine: &ObjectKey,
        placement: &Placement,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        let Some(assignment) = &placement.assignment else {
            return;
        };
        let Some(known) = self.assignments.get_mut(assignment) else {
            return;
        };
        known.machines = known.machines.saturating_sub(1);
        if known.lacking.remove(machine) {
            touched.insert(ObjectRef::Assignment(assignment.clone()));
        }
        if known.machines == 0 {
            self.pending_assignments.insert(assignment.clone());
        }
        self.forget_if_empty(assignment);
    }

    fn forget_if_empty(&mut self, assignment: &ObjectKey) {
        if self.assignments.get(assignment).is_some_and(|known| {
            known.machines == 0 && !known.is_evaluated && known.first_pass <= self.pass_number
        }) {
            self.assignments.remove(assignment);
        }
    }

    /// Evaluates an Assignment for machines that no Machine describes.
    fn evaluate_assignment(
        &mut self,
        catalog: &Catalog,
        selected: &SelectorIndex,
        key: &ObjectKey,
        touched: &mut BTreeSet<ObjectRef>,
    ) {
        let assignment = catalog.assignment(key);
        let profiles: Vec<_> = assignment
            .map(|assignment| self.variable_profiles_of(assignment, &selected.of(assignment)))
            .unwrap_or_default()
            .iter()
            .filter_map(|profile| catalog.profile(profile))
            .collect();
        let Some(assignment) = assignment.filter(|_| !profiles.is_empty()) else {
            if let Some(known) = self.assignments.get_mut(key)
                && std::mem::take(&mut known.is_evaluated)
            {
                known.without_machine = None;
                self.forget_if_empty(key);
                touched.insert(ObjectRef::Assignment(key.clone()));
            }
            return;
        };
        let known = self.assignments.entry(key.clone()).or_default();
        let has_unknown_machines = if assignment.subjects.names_identities() {
            has_identity_without_machine(catalog, assignment)
        } else {
            known.machines == 0
        };
        let mut gaps = profiles
            .into_iter()
            .filter_map(|profile| VariableGap::find(profile, assignment, None));
        let gap = has_unknown_machines.then(|| gaps.next()).flatten();
        let gap = gap.map(Box::new);
        let was_evaluated = std::mem::replace(&mut known.is_evaluated, true);
        known.last_pass = self.pass_number;
        if !was_evaluated || known.without_machine != gap {
            known.without_machine = gap;
            touched.insert(ObjectRef::Assignment(key.clone()));
        }
    }

    /// Returns the Profiles that read variables, of those that an Assignment selects.
    fn variable_profiles_of(
        &self,
        assignment: &Assignment,
        profiles: &[Arc<str>],
    ) -> Vec<ObjectKey> {
        if self.variable_profiles.is_empty() {
            return Vec::new();
        }
        let keys = profiles
            .iter()
            .map(|name| ObjectKey::new(&assignment.key.namespace, name.clone()));
        keys.filter(|key| self.variable_profiles.contains(key))
            .collect()
    }

    /// Returns what is known about the variables of an Assignment. `profiles` are the names of the
    /// Profiles that it selects.
    pub(crate) fn completeness(
        &self,
        assignment: &Assignment,
        profiles: &[Arc<str>],
    ) -> Completeness {
        if self.variable_profiles_of(assignment, profiles).is_empty() {
            return Completeness::NotNeeded;
        }
        let Some(known) = self
            .assignments
            .get(&assignment.key)
            .filter(|known| known.is_evaluated)
        else {
            return Completeness::Unknown;
        };
        Completeness::Known(self.complete(known))
    }

    fn complete(&self, known: &AssignmentGaps) -> UntimedCondition {
        let of_machine = |machine: &ObjectKey| self.machines.get(machine)?.as_ref()?.gap.as_deref();
        let of_machines = known.lacking.iter().filter_map(of_machine);
        let gaps: Vec<_> = known
            .without_machine
            .as_deref()
            .into_iter()
            .chain(of_machines)
            .take(MAX_GAPS)
            .collect();
        let total = known.lacking.len() + usize::from(known.without_machine.is_some());
        let condition = |verdict, reason, message: String| {
            UntimedCondition::new(ConditionType::VariablesComplete, verdict, reason, message)
        };
        if gaps.is_empty() {
            let message = "no variable that the selected Profiles need is missing";
            return condition(ConditionStatus::True, "Complete", message.to_owned());
        }
        let reason = if gaps.iter().any(|gap| gap.is_missing) {
            "MissingVariables"
        } else {
            "InvalidVariables"
        };
        let mut sentences: Vec<_> = gaps.iter().map(ToString::to_string).collect();
        match total - gaps.len() {
            0 => {}
            1 => sentences.push("and 1 more Machine".to_owned()),
            more => sentences.push(format!("and {more} more Machines")),
        }
        condition(ConditionStatus::False, reason, sentences.join("; "))
    }
}

/// Returns the last valid version of a Machine, or the readable part of an invalid one.
fn machine_or_partial<'c>(catalog: &'c Catalog, key: &ObjectKey) -> Option<&'c Arc<Machine>> {
    let partial = || match &catalog.rejected(&ObjectRef::Machine(key.clone()))?.partial {
        Partial::Machine(machine) => Some(machine),
        _ => None,
    };
    catalog.machine(key).or_else(partial)
}

/// Returns whether a change left an object as it was. The catalog keeps an equal object.
fn is_same<T>(before: Option<&Arc<T>>, after: Option<&Arc<T>>) -> bool {
    match (before, after) {
        (Some(before), Some(after)) => Arc::ptr_eq(before, after),
        (None, None) => true,
        _ => false,
    }
}

/// Returns whether a Profile reads variables or has a schema for them.
fn reads_variables(profile: &Profile) -> bool {
    profile.variables_schema.is_some()
        || profile
            .templates
            .all_uses()
            .any(|(_, uses)| !uses.variables.is_empty())
}

/// Returns whether an Assignment lists an identity that belongs to no Machine. Placeholders, which
/// match nothing, don't count.
fn has_identity_without_machine(catalog: &Catalog, assignment: &Assignment) -> bool {
    let belongs_to_none = |key: &str, value: &str| {
        let mut query = String::new();
        boot::query::append(&mut query, key, value);
        Subject::from_query(&query, &ExtrinsicLabels::default()).is_ok_and(|subject| {
            subject.placeholders().is_empty() && catalog.machine_of(&subject).is_none()
        })
    };
    let subjects = &assignment.subjects;
    subjects
        .uuids
        .iter()
        .any(|uuid| belongs_to_none("uuid", &uuid.to_string()))
        || subjects
            .serials
            .iter()
            .any(|serial| belongs_to_none("serial", serial))
        || subjects
            .macs
            .iter()
            .any(|mac| belongs_to_none("mac", &mac.to_string()))
}
