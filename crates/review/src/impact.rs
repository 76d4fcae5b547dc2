//! What one change does to the machines that it concerns, told at once beside a hundred thousand other objects.
//!
//! [`Diff`](crate::Diff) is complete and looks at two whole catalogs; here somebody waits. So machines are tried one by one, as far as the
//! objects in question tell of them: each says one of the identities that an Assignment names, and presents the labels that it asks for.
//! They are found through the catalog's indexes. [`Limits`] bound how many are tried, and where there are more, the answer says "at least".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use boot::profile::Want;
use boot::{
    Assignment, Catalog, Change, Claim, ExtrinsicLabels, MatchedBy, NotSelected, ObjectKey,
    ObjectRef, Operator, Profile, Subject, SubjectSelectors,
};
use crd::FieldPath;

use crate::finding::Finding;
use crate::rule::{self, Rule};

mod machine;

use machine::Machine;

/// Most sorts of Profiles, by what they want, whose machines one is tried as.
const MAX_VARIANTS: usize = 8;
/// Most Profiles of one Assignment that are looked at for that.
const MAX_PROFILES: usize = 64;
/// Most machines that are named.
const MAX_EXAMPLES: usize = 3;

/// How much may be tried.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many machines.
    pub machines: usize,
    /// So often in all, as one machine is tried as one of each architecture that Profiles are for.
    pub tries: usize,
    /// So many Assignments to find them.
    pub assignments: usize,
    /// And not after this moment.
    pub deadline: Option<Instant>,
}

/// Machines to which the same happens.
#[derive(Default)]
struct Machines {
    /// Those that are counted, as one may be tried as several. In order, as they are found in none: the same are named each time, where all
    /// could be tried.
    seen: BTreeSet<String>,
    kinds: BTreeMap<&'static str, usize>,
    /// Those known by labels alone, in words: all that one Assignment allows, how many sorts these are, and which of them are meant.
    by_labels: BTreeMap<String, (usize, BTreeSet<String>)>,
}

/// What happens to a machine: the Profile before, the one after, and what it must present for that.
type Transition = (Option<ObjectKey>, Option<ObjectKey>, String);

/// What a machine boots, and whose it is: an Assignment that finds no Profile, or is not accepted, holds it back from all others.
struct BootResult {
    profile: Option<ObjectKey>,
    winner: Option<(Arc<Assignment>, MatchedBy)>,
}

/// The search for what a change does.
struct Search<'c> {
    old: &'c Catalog,
    new: &'c Catalog,
    /// What is changed.
    target: &'c ObjectRef,
    /// Whether it was not there before.
    is_new: bool,
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

/// What a change to a catalog does to machines: who loses its Profile, and who gets another. A new Assignment is written for the machines
/// that it names, so that these are no surprise; who else names them is told by [`Survey::written`](crate::Survey::written).
pub fn of(old: &Catalog, change: &Change, limits: Limits) -> Vec<Finding> {
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
                old.assignment(key).or_else(|| claim(old, &name)),
                new.assignment(key),
            );
            // Templates can read its labels; who boots what, they don't change.
            if before
                .zip(after)
                .is_some_and(|(before, after)| selects_the_same(before, after))
            {
                return Vec::new();
            }
            search.assignment(before, after);
        }
        ObjectRef::Profile(key) => search.profile(old.profile_or_claim(key), new.profile(key)),
    }
    search.findings()
}

/// What an Assignment claims that is not accepted. It holds its machines back.
fn claim<'c>(catalog: &'c Catalog, name: &ObjectRef) -> Option<&'c Arc<Assignment>> {
    match &catalog.rejected(name)?.claim {
        Claim::Assignment(claim) => Some(claim),
        Claim::Profile(_) | Claim::Nothing { .. } => None,
    }
}

/// Whether two versions of an Assignment win the same machines and lead them to the same Profiles.
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
            // Who is named by what is new is meant; who matches by labels may be anybody.
            if before.is_some() || !version.subjects.names_identities() {
                self.try_machines_of(version, &[]);
            }
            if !version.subjects.names_identities() {
                self.try_overridden_by(version);
            }
        }
    }

    /// Machines that others name, over whom one without identities goes by its priority.
    fn try_overridden_by(&mut self, version: &Assignment) {
        let mut visited = 0;
        let old = self.old;
        let claims = old
            .all_rejected()
            .filter_map(|unaccepted| claim(old, &unaccepted.name()));
        for other in old.assignments().chain(claims) {
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
        let wants: Vec<&[Want]> = [before, after]
            .into_iter()
            .flatten()
            .map(|profile| profile.wants())
            .collect();
        let built = self
            .old
            .selectors()
            .is_none()
            .then(|| boot::SelectorIndex::of(self.old));
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
                    self.try_machines_of(assignment, &wants);
                }
            }
        }
    }

    /// Tries the machines that an Assignment speaks of, each with what these Profiles ask of it as well.
    fn try_machines_of(&mut self, assignment: &Assignment, wants: &[&[Want]]) {
        for machine in Machine::of(&assignment.subjects) {
            if self.is_exhausted() {
                self.is_truncated = true;
                return;
            }
            if !self.seen.insert(machine.query()) {
                continue;
            }
            self.tried += 1;
            self.try_machine(&machine, wants);
        }
    }

    /// Tries a machine that says nothing of what Profiles ask for, and such as say it: what these Profiles ask for, and those between which
    /// the Assignments choose that win it. What it would boot is told once, if it is the same for several.
    fn try_machine(&mut self, machine: &Machine<'_>, wants: &[&[Want]]) {
        let mut reported: BTreeSet<Option<ObjectKey>> = BTreeSet::new();
        let mut variants: Vec<Vec<Want>> = vec![Vec::new()];
        let mut winners: BTreeSet<ObjectKey> = BTreeSet::new();
        wants
            .iter()
            .for_each(|wants| self.add_variant(&mut variants, wants));
        let mut at = 0;
        while let Some(wants) = variants.get(at).cloned() {
            if at > 0 && self.is_out_of_time() {
                self.is_truncated = true;
                return;
            }
            at += 1;
            self.tries += 1;
            let Some(subject) = machine.subject(&wants) else {
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
                // The new catalog may have other Profiles for it, which are those that were asked for.
                if !winners.insert(winner.key.clone()) {
                    continue;
                }
                let profiles: Vec<_> = catalog.profiles_of(winner).take(MAX_PROFILES + 1).collect();
                self.is_truncated |= profiles.len() > MAX_PROFILES;
                profiles
                    .iter()
                    .take(MAX_PROFILES)
                    .for_each(|profile| self.add_variant(&mut variants, profile.wants()));
            }
            let is_other = after.profile != before.profile
                && (before.profile.is_some() || !self.is_intended(&before, &after));
            if is_other && reported.insert(after.profile.clone()) {
                let presented: Vec<_> = wants.iter().map(ToString::to_string).collect();
                self.found
                    .entry((before.profile, after.profile, presented.join(",")))
                    .or_default()
                    .add(machine);
            }
        }
    }

    fn add_variant(&mut self, variants: &mut Vec<Vec<Want>>, wants: &[Want]) {
        if variants.iter().any(|known| known == wants) {
            return;
        }
        if variants.len() > MAX_VARIANTS {
            self.is_truncated = true;
            return;
        }
        variants.push(wants.to_vec());
    }

    /// Whether a machine that boots nothing was waiting for just this change: nobody had it, or its own Assignment is mended or finds its
    /// Profile at last. Where another held it back it was not, and who gets it next may be a default that installs it anew. Who is matched
    /// by labels may be anybody.
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
            // It is gone, or all of it may be the reason.
            _ if !self.new.contains(name) => FieldPath::default(),
            ObjectRef::Profile(_) => FieldPath::of(["metadata", "labels"]),
            ObjectRef::Assignment(_) => FieldPath::of(["spec"]),
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
                "if this is not meant, undo it before they boot; `shaper diff` names them all",
            )
        };
        let mut findings: Vec<_> = self.found.into_iter().map(one).collect();
        if self.is_truncated && findings.is_empty() {
            let message = "there are too many machines to see what it does to each of them; the first of them boot as before";
            findings.push(
                Finding::new(&rule::INCOMPLETE_CHECK, name, field.clone(), message)
                    .help("`shaper diff` takes its time"),
            );
        }
        findings
    }
}

// === impl Boots ===

impl BootResult {
    fn of(catalog: &Catalog, subject: &Subject) -> Self {
        match catalog.select(subject) {
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
    fn add(&mut self, machine: &Machine<'_>) {
        let description = machine.describe();
        let Some(kind) = machine.kind() else {
            let (all, count) = machine.describe_all();
            self.by_labels
                .entry(all)
                .or_insert((count, BTreeSet::new()))
                .1
                .insert(description);
            return;
        };
        if self.seen.insert(description) {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    /// The sorts of machines that are known by labels alone; those of one Assignment in one, if it happens to all of them.
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

    /// Whether it is one machine.
    fn is_one(&self) -> bool {
        self.by_labels.is_empty() && self.kinds.values().sum::<usize>() == 1
    }

    /// Who they are, and some of them.
    fn describe(&self, is_truncated: bool) -> (String, String) {
        let all: usize = self.kinds.values().sum();
        let at_least = if is_truncated { "at least " } else { "" };
        let counted = |(kind, count): (&&str, &usize)| match *count {
            1 => format!("1 {kind}"),
            count if kind.ends_with('s') => format!("{count} {kind}es"),
            count => format!("{count} {kind}s"),
        };
        let named: Vec<&str> = self
            .seen
            .iter()
            .take(MAX_EXAMPLES)
            .map(String::as_str)
            .collect();
        let mut who: Vec<String> = match (all, named.first()) {
            (0, _) | (_, None) => Vec::new(),
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
            who.push(format!("{at_least}{more} other sorts of machines"));
        }
        let also = match all {
            0 | 1 => String::new(),
            all if all > named.len() || is_truncated => format!(", such as {}", named.join(", ")),
            _ => format!(": {}", named.join(", ")),
        };
        (who.join(", and "), also)
    }
}
