//! Estimates which machines a single change affects, fast enough for an admission review of a
//! catalog with a hundred thousand other objects.
//!
//! [`Diff`](crate::Diff) is complete and compares whole catalogs; a review has a deadline. So this
//! module tries machines one by one, as far as the objects concerned describe them: each presents
//! one of the identities that an Assignment names, and the labels that it asks for. The catalog's
//! indexes find them. [`Limits`] bounds how many are tried; beyond that, the finding says "at
//! least".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use boot::profile::Constraint;
use boot::{
    Assignment, Catalog, Change, ExtrinsicLabels, LabelSelector, Labels, MatchedBy, NotSelected,
    ObjectKey, ObjectRef, Operator, Partial, Profile, Subject, SubjectSelectors,
};
use crd::FieldPath;

use crate::disclosure::Disclosure;
use crate::finding::Finding;
use crate::rule::{self, Rule};

mod machine;

use machine::Machine;

/// Maximum number of distinct required-label sets of Profiles with which a machine is tried.
const MAX_VARIANTS: usize = 8;
/// Maximum number of Profiles of one Assignment from which these sets are taken.
const MAX_PROFILES: usize = 64;
/// Maximum number of machines named in a finding.
const MAX_EXAMPLES: usize = 3;

/// Bounds on the search.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Maximum number of machines.
    pub machines: usize,
    /// Maximum number of selections. A machine is tried once for each architecture that Profiles
    /// require.
    pub tries: usize,
    /// Maximum number of Assignments visited to find machines.
    pub assignments: usize,
    /// When to stop searching.
    pub deadline: Option<Instant>,
}

/// Machines with the same transition.
#[derive(Default)]
struct Machines {
    /// The machines counted so far, since one may be tried several times. Sorted, because they are
    /// found in arbitrary order: an exhaustive search names the same machines each time.
    seen: BTreeSet<String>,
    /// Those of them that may be named.
    named: BTreeSet<String>,
    kinds: BTreeMap<&'static str, usize>,
    /// Machines known by labels alone, keyed by a description of what their Assignment allows: how
    /// many label sets that is, and which of them are affected.
    by_labels: BTreeMap<String, (usize, BTreeSet<String>)>,
}

/// What happens to a machine: the Profile before, the Profile after, and the labels it must
/// present.
type Transition = (Option<ObjectKey>, Option<ObjectKey>, String);

/// What a machine boots, and the Assignment that holds it: one that is invalid or finds no Profile
/// keeps the machine from all others.
struct BootResult {
    profile: Option<ObjectKey>,
    winner: Option<(Arc<Assignment>, MatchedBy)>,
}

/// The state of a search for affected machines.
struct Search<'c> {
    old: &'c Catalog,
    new: &'c Catalog,
    /// The changed object.
    target: &'c ObjectRef,
    /// Whether the change creates the object.
    is_new: bool,
    disclosure: &'c Disclosure,
    limits: Limits,
    tried: usize,
    tries: usize,
    is_truncated: bool,
    seen: BTreeSet<String>,
    found: BTreeMap<Transition, Machines>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            machines: 500,
            tries: 1_000,
            assignments: 5_000,
            deadline: None,
        }
    }
}

/// Reports what a change does to machines: which lose their Profile, and which get another. A new
/// Assignment is meant for the machines that it names, so these are not reported; other Assignments
/// that name them are reported by
/// [`Survey::assignment_with_losers`](crate::Survey::assignment_with_losers).
///
/// The findings name the identities that `disclosure` allows, and count the others.
pub fn of(old: &Catalog, change: &Change, disclosure: &Disclosure, limits: Limits) -> Vec<Finding> {
    let name = change.name();
    let mut new = old.clone();
    if !new.apply(change.clone()) {
        return Vec::new();
    }
    let mut search = Search {
        old,
        new: &new,
        target: &name,
        is_new: !old.contains(&name) && old.rejected(&name).is_none(),
        disclosure,
        limits,
        tried: 0,
        tries: 0,
        is_truncated: false,
        seen: BTreeSet::new(),
        found: BTreeMap::new(),
    };
    match &name {
        ObjectRef::Assignment(key) => {
            let (before, after) = (
                old.assignment(key).or_else(|| partial(old, &name)),
                new.assignment(key),
            );
            // Templates can read its labels, but labels don't affect selection.
            if before
                .zip(after)
                .is_some_and(|(before, after)| selects_the_same(before, after))
            {
                return Vec::new();
            }
            search.assignment(before, after);
        }
        ObjectRef::Profile(key) => search.profile(old.profile_or_partial(key), new.profile(key)),
        ObjectRef::Machine(key) => search.machine(old.machine(key), new.machine(key)),
    }
    search.findings()
}

/// Returns the machines claimed by an invalid Assignment, which holds them back.
fn partial<'c>(catalog: &'c Catalog, name: &ObjectRef) -> Option<&'c Arc<Assignment>> {
    match &catalog.rejected(name)?.partial {
        Partial::Assignment(partial) => Some(partial),
        Partial::Profile(_) | Partial::Machine(_) | Partial::Unreadable { .. } => None,
    }
}

/// Whether two versions of an Assignment win the same machines and select the same Profiles for
/// them.
fn selects_the_same(a: &Assignment, b: &Assignment) -> bool {
    a.subjects == b.subjects
        && a.profiles == b.profiles
        && a.priority == b.priority
        && a.created == b.created
}

// === impl Search ===

impl<'c> Search<'c> {
    fn assignment(
        &mut self,
        before: Option<&'c Arc<Assignment>>,
        after: Option<&'c Arc<Assignment>>,
    ) {
        for version in [before, after].into_iter().flatten() {
            // Machines that a new Assignment names are intended; machines matched by labels may be
            // any.
            if before.is_some() || !version.subjects.names_identities() {
                self.try_machines_of(version, &[]);
            }
            if !version.subjects.names_identities() {
                self.try_overridden_by(version);
            }
        }
    }

    /// Tries machines that others name and that an Assignment without identities overrides by its
    /// priority.
    fn try_overridden_by(&mut self, version: &Assignment) {
        let mut visited = 0;
        let old = self.old;
        let partials = old
            .all_rejected()
            .filter_map(|rejected| partial(old, &rejected.name()));
        for other in old.assignments().chain(partials) {
            visited += 1;
            if visited > self.limits.assignments || self.is_exhausted() {
                self.is_truncated = true;
                return;
            }
            let is_overridden = other.priority < version.priority
                && other.key != version.key
                && other.subjects.names_identities();
            if is_overridden
                && other
                    .subjects
                    .labels
                    .is_compatible(&version.subjects.labels)
            {
                self.try_machines_of(other, &[]);
            }
        }
    }

    fn profile(&mut self, before: Option<&'c Arc<Profile>>, after: Option<&'c Arc<Profile>>) {
        if before.zip(after).is_some_and(|(before, after)| {
            before.labels == after.labels && before.created == after.created
        }) {
            return;
        }
        let constraints: Vec<&[Constraint]> = [before, after]
            .into_iter()
            .flatten()
            .map(|profile| profile.constraints())
            .collect();
        let built = self
            .old
            .selectors()
            .is_none()
            .then(|| boot::SelectorIndex::build(self.old));
        let Some(selectors) = self.old.selectors().or(built.as_ref()) else {
            return;
        };
        for version in [before, after].into_iter().flatten() {
            for (_, group) in selectors.selecting(version) {
                for assignment in group.members() {
                    if self.is_exhausted() {
                        self.is_truncated = true;
                        return;
                    }
                    self.try_machines_of(assignment, &constraints);
                }
            }
        }
    }

    fn machine(&mut self, before: Option<&Arc<boot::Machine>>, after: Option<&Arc<boot::Machine>>) {
        for version in [before, after].into_iter().flatten() {
            let named = Assignment {
                key: version.key.clone(),
                created: None,
                labels: Labels::default(),
                subjects: SubjectSelectors {
                    uuids: version.real_uuid().into_iter().collect(),
                    serials: version.real_serial().cloned().into_iter().collect(),
                    macs: version.real_macs().copied().collect(),
                    labels: LabelSelector::default(),
                },
                profiles: Labels::default(),
                priority: 0,
                variables: boot::Variables::default(),
            };
            self.try_machines_of(&named, &[]);
        }
    }

    /// Tries the machines that an Assignment selects, each with the labels that these Profiles
    /// require.
    fn try_machines_of(&mut self, assignment: &Assignment, constraints: &[&[Constraint]]) {
        for machine in Machine::of(&assignment.subjects) {
            if self.is_exhausted() {
                self.is_truncated = true;
                return;
            }
            if !self.seen.insert(machine.query()) {
                continue;
            }
            self.tried += 1;
            self.try_machine(&machine, constraints);
        }
    }

    /// Tries a machine without the labels that Profiles require, and then with them: those of these
    /// Profiles, and those of the Profiles between which the winning Assignments choose. Reports an
    /// outcome once, even if several variants have it.
    fn try_machine(&mut self, machine: &Machine<'_>, constraints: &[&[Constraint]]) {
        let mut reported: BTreeSet<Option<ObjectKey>> = BTreeSet::new();
        let mut variants: Vec<Vec<Constraint>> = vec![Vec::new()];
        let mut winners: BTreeSet<ObjectKey> = BTreeSet::new();
        constraints
            .iter()
            .for_each(|constraints| self.add_variant(&mut variants, constraints));
        let mut at = 0;
        while let Some(constraints) = variants.get(at).cloned() {
            if at > 0 && self.is_out_of_time() {
                self.is_truncated = true;
                return;
            }
            at += 1;
            self.tries += 1;
            let Some(subject) = machine.subject(&constraints) else {
                continue;
            };
            let (before, after) = (
                BootResult::of(self.old, &subject),
                BootResult::of(self.new, &subject),
            );
            for (catalog, boots) in [(self.old, &before), (self.new, &after)] {
                let Some((winner, _)) = &boots.winner else {
                    continue;
                };
                // The new catalog may select other Profiles, namely those passed in.
                if !winners.insert(winner.key.clone()) {
                    continue;
                }
                let profiles: Vec<_> = catalog.profiles_of(winner).take(MAX_PROFILES + 1).collect();
                self.is_truncated |= profiles.len() > MAX_PROFILES;
                profiles
                    .iter()
                    .take(MAX_PROFILES)
                    .for_each(|profile| self.add_variant(&mut variants, profile.constraints()));
            }
            let is_other = after.profile != before.profile
                && (before.profile.is_some() || !self.is_intended(&before, &after));
            if is_other && reported.insert(after.profile.clone()) {
                let presented: Vec<_> = constraints
                    .iter()
                    .map(|constraint| self.disclosure.label(&constraint.key, &constraint.value))
                    .collect();
                self.found
                    .entry((before.profile, after.profile, presented.join(",")))
                    .or_default()
                    .add(machine, self.disclosure);
            }
        }
    }

    fn add_variant(&mut self, variants: &mut Vec<Vec<Constraint>>, constraints: &[Constraint]) {
        if variants.iter().any(|known| known == constraints) {
            return;
        }
        if variants.len() > MAX_VARIANTS {
            self.is_truncated = true;
            return;
        }
        variants.push(constraints.to_vec());
    }

    /// Whether a machine that boots nothing was waiting for this change: no Assignment matched it,
    /// or its own Assignment is fixed or finds its Profile. If another Assignment held it back, the
    /// change is not intended: the next winner may be a default that reinstalls the machine. A
    /// machine matched by labels may be any.
    fn is_intended(&self, before: &BootResult, after: &BootResult) -> bool {
        let is_named = |boots: &BootResult| {
            boots
                .winner
                .as_ref()
                .is_some_and(|(_, by)| *by != MatchedBy::Labels)
        };
        let is_same = before.winner.as_ref().is_none_or(|(held, _)| {
            after
                .winner
                .as_ref()
                .is_some_and(|(winner, _)| winner.key == held.key)
        });
        match self.target {
            ObjectRef::Profile(_) => self.is_new || is_named(after),
            // A Machine is about exactly one machine, and its labels choose what it boots.
            ObjectRef::Machine(_) => after.profile.is_some(),
            ObjectRef::Assignment(key)
                if after
                    .winner
                    .as_ref()
                    .is_none_or(|(winner, _)| winner.key != *key) =>
            {
                false
            }
            ObjectRef::Assignment(_) if self.is_new => is_named(after) || !is_named(before),
            ObjectRef::Assignment(_) => is_same && is_named(after),
        }
    }

    fn is_exhausted(&self) -> bool {
        self.tried >= self.limits.machines || self.is_out_of_time()
    }

    fn is_out_of_time(&self) -> bool {
        self.tries >= self.limits.tries
            || self
                .limits
                .deadline
                .is_some_and(|deadline| Instant::now() > deadline)
    }

    fn findings(self) -> Vec<Finding> {
        let name = self.target;
        let field = match name {
            // The object is deleted, or any field of it may be the reason.
            _ if !self.new.contains(name) => FieldPath::default(),
            ObjectRef::Profile(_) => FieldPath::new(["metadata", "labels"]),
            ObjectRef::Assignment(_) | ObjectRef::Machine(_) => FieldPath::new(["spec"]),
        };
        let one = |((before, after, presented), machines): (Transition, Machines)| {
            let is_one = machines.is_one() && !self.is_truncated;
            let (who, also) = machines.describe(self.is_truncated);
            let (rule, then): (&'static Rule, _) = match &after {
                None => (&rule::LOSES_PROFILE, "nothing".to_owned()),
                Some(after) => (&rule::MOVES_MACHINES, format!("Profile {after}")),
            };
            let condition = if presented.is_empty() {
                String::new()
            } else {
                format!(" where {presented} is presented")
            };
            let message = match before {
                Some(before) => {
                    format!("{who} would boot {then} instead of Profile {before}{condition}{also}")
                }
                None => format!(
                    "{who}, which {} nothing now, would boot {then}{condition}{also}",
                    if is_one { "boots" } else { "boot" }
                ),
            };
            Finding::new(rule, name, field.clone(), message).help(
                "if this is not intended, undo it before they boot; `shaper diff` lists all of them",
            )
        };
        let mut findings: Vec<_> = self.found.into_iter().map(one).collect();
        if self.is_truncated && findings.is_empty() {
            let message = "too many machines to check the effect on each of them; nothing changes for those that were checked";
            findings.push(
                Finding::new(&rule::INCOMPLETE_CHECK, name, field.clone(), message)
                    .help("run `shaper diff`, which has no time limit"),
            );
        }
        findings
    }
}

// === impl Boots ===

impl BootResult {
    /// Selects for a subject of which no Machine is known yet.
    fn of(catalog: &Catalog, subject: &Subject) -> Self {
        let mut subject = subject.clone();
        catalog.recognise(&mut subject);
        match catalog.select(&subject) {
            Ok(selection) => Self {
                profile: Some(selection.profile.key.clone()),
                winner: Some((selection.assignment, selection.by)),
            },
            Err(
                NotSelected::NoProfile { assignment, by, .. }
                | NotSelected::NotAccepted { assignment, by, .. },
            ) => Self {
                profile: None,
                winner: Some((assignment, by)),
            },
            Err(NotSelected::NoAssignment) => Self {
                profile: None,
                winner: None,
            },
        }
    }
}

// === impl Machines ===

impl Machines {
    fn add(&mut self, machine: &Machine<'_>, disclosure: &Disclosure) {
        let description = machine.describe(disclosure);
        let Some(kind) = machine.kind() else {
            let (all, count) = machine.describe_all(disclosure);
            self.by_labels
                .entry(all)
                .or_insert((count, BTreeSet::new()))
                .1
                .insert(description);
            return;
        };
        if machine.is_shown(disclosure) {
            self.named.insert(description.clone());
        }
        if self.seen.insert(description) {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    /// Returns the label sets of machines known by labels alone; combines those of one Assignment
    /// if all of them are affected.
    fn label_sets(&self) -> BTreeSet<&str> {
        let mut label_sets = BTreeSet::new();
        for (all, (count, some)) in &self.by_labels {
            if some.len() == *count {
                label_sets.insert(all.as_str());
            } else {
                label_sets.extend(some.iter().map(String::as_str));
            }
        }
        label_sets
    }

    /// Whether exactly one machine is affected.
    fn is_one(&self) -> bool {
        self.by_labels.is_empty() && self.kinds.values().sum::<usize>() == 1
    }

    /// Describes the machines and names some of those that may be named.
    fn describe(&self, is_truncated: bool) -> (String, String) {
        let all: usize = self.kinds.values().sum();
        let at_least = if is_truncated { "at least " } else { "" };
        let counted = |(kind, count): (&&str, &usize)| match *count {
            1 => format!("1 {kind}"),
            count if kind.ends_with('s') => format!("{count} {kind}es"),
            count => format!("{count} {kind}s"),
        };
        let named: Vec<&str> = self
            .named
            .iter()
            .take(MAX_EXAMPLES)
            .map(String::as_str)
            .collect();
        let mut who: Vec<String> = match (all, named.first()) {
            (0, _) => Vec::new(),
            (1, None) if !is_truncated => {
                let kinds = self.kinds.keys();
                kinds
                    .map(|kind| format!("one machine ({kind} not shown)"))
                    .collect()
            }
            (1, Some(only)) if !is_truncated => vec![format!("the machine with {only}")],
            _ => vec![format!(
                "machines with {at_least}{}",
                self.kinds
                    .iter()
                    .map(counted)
                    .collect::<Vec<_>>()
                    .join(", ")
            )],
        };
        let label_sets = self.label_sets();
        who.extend(
            label_sets
                .iter()
                .take(MAX_EXAMPLES)
                .map(|label_set| (*label_set).to_owned()),
        );
        let more = label_sets.len().saturating_sub(MAX_EXAMPLES);
        if more > 0 {
            who.push(format!("{at_least}{more} other kinds of machines"));
        }
        let also = match all {
            0 | 1 => String::new(),
            _ if named.is_empty() => String::new(),
            all if all > named.len() || is_truncated => format!(", such as {}", named.join(", ")),
            _ => format!(": {}", named.join(", ")),
        };
        (who.join(", and "), also)
    }
}
