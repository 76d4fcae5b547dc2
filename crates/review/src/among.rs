//! What an object tells among all others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use boot::arch::BUILDARCH;
use boot::conflicts::MAX_NAMED;
use boot::nearest::nearest;
use boot::{Assignment, Catalog, Labels, Name, ObjectKey, Operator, Profile, Sorted};
use crd::FieldPath;

use crate::finding::Finding;
use crate::rule;

/// A catalog, and what has to be known of all of its objects to judge one.
pub struct Survey<'c> {
    catalog: &'c Catalog,
    reached: HashSet<&'c ObjectKey>,
    /// The architectures that objects of a namespace speak of.
    architectures: HashMap<Namespace<'c>, BTreeSet<&'c str>>,
}

type Namespace<'c> = (&'c str, &'c str);

// === impl Survey ===

impl<'c> Survey<'c> {
    /// Looks over a catalog once.
    pub fn of(catalog: &'c Catalog) -> Self {
        let mut reached = HashSet::new();
        let mut selectors: HashSet<(Namespace<'c>, &Labels)> = HashSet::new();
        let mut architectures: HashMap<Namespace<'c>, BTreeSet<&'c str>> = HashMap::new();
        for assignment in catalog.assignments() {
            if selectors.insert((namespace(&assignment.key), &assignment.profiles)) {
                reached.extend(catalog.profiles_of(assignment).map(|profile| &profile.key));
            }
            if let Some(asked) = asked_architectures(assignment) {
                architectures.entry(namespace(&assignment.key)).or_default().extend(asked);
            }
        }
        for profile in catalog.profiles() {
            if let Some(arch) = wanted_architecture(profile) {
                architectures.entry(namespace(&profile.key)).or_default().insert(arch);
            }
        }
        Self { catalog, reached, architectures }
    }

    /// What is to be said of a Profile of the catalog.
    pub fn profile(&self, profile: &Profile) -> Vec<Finding> {
        if self.reached.contains(&profile.key) {
            return Vec::new();
        }
        let name = Name::Profile(profile.key.clone());
        let message = format!("no Assignment in namespace {} selects this Profile, so that no machine boots it", profile.key.namespace);
        let help = match self.near_assignment(profile) {
            Some(near) => format!("the nearest is Assignment {near}; mend its profileSelectors or the labels here"),
            None => "write an Assignment whose profileSelectors are among its labels, or remove it".to_owned(),
        };
        vec![Finding::new(&rule::UNREACHED, &name, FieldPath::of(["metadata", "labels"]), message).help(help)]
    }

    /// What is to be said of an Assignment of the catalog.
    pub fn assignment(&self, assignment: &Arc<Assignment>) -> Vec<Finding> {
        let found = self.profiles_found(assignment);
        found.into_iter().chain(self.conflict(assignment)).collect()
    }

    /// Whether another Assignment goes before this one for no reason but its age or name.
    fn conflict(&self, assignment: &Arc<Assignment>) -> Option<Finding> {
        let goes_first = |other: &Assignment| order(other, assignment).is_lt();
        let mut rivals: Vec<_> = self.catalog.rivals(assignment).filter(|other| goes_first(other)).take(MAX_NAMED + 1).collect();
        rivals.sort_by(|a, b| order(a, b));
        let first = rivals.first()?;
        let why = if first.created == assignment.created { "its namespace and name come first" } else { "it is older" };
        let also = match rivals.len() {
            1 => String::new(),
            2 => ", and so does another".to_owned(),
            n if n > MAX_NAMED => format!(", and so do {} others or more", n - 1),
            n => format!(", and so do {} others", n - 1),
        };
        let what = common(first, assignment);
        let message = format!("Assignment {} matches {what} too, and goes first only because {why}{also}", first.key);
        let name = Name::Assignment(assignment.key.clone());
        let help = "give one of them a higher priority, or remove what both match from one";
        Some(Finding::new(&rule::CONFLICT, &name, FieldPath::of(["spec", "subjectSelectors"]), message).help(help))
    }

    /// Whether there is a Profile for it, whatever the machine's architecture.
    fn profiles_found(&self, assignment: &Assignment) -> Option<Finding> {
        let name = Name::Assignment(assignment.key.clone());
        let field = FieldPath::of(["spec", "profileSelectors"]);
        let profiles: Vec<_> = self.catalog.profiles_of(assignment).collect();
        let namespace_ = &assignment.key.namespace;
        if profiles.is_empty() {
            let selectors = list(&assignment.profiles);
            let message = match selectors.as_str() {
                "" => format!("there is no Profile in namespace {namespace_}: its machines boot nothing"),
                selectors => format!("no Profile in namespace {namespace_} has the labels {selectors}: its machines boot nothing"),
            };
            let finding = Finding::new(&rule::NO_PROFILE, &name, field, message);
            return Some(match self.near_profile(assignment) {
                Some(help) => finding.help(help),
                None => finding,
            });
        }
        let offered: Vec<_> = profiles.iter().map(|profile| wanted_architecture(profile)).collect();
        if offered.contains(&None) {
            return None;
        }
        let suits = |arch: &&str| offered.contains(&Some(*arch));
        let asked = asked_architectures(assignment);
        // One that names its machines is not for each architecture: whoever wrote it knows which they have.
        let possible: BTreeSet<&str> = match &asked {
            Some(asked) => asked.clone(),
            None if assignment.subjects.names_identities() => return None,
            None => self.architectures.get(&namespace(&assignment.key)).cloned().unwrap_or_default(),
        };
        let lacking: Vec<&str> = possible.iter().copied().filter(|arch| !suits(arch)).collect();
        if lacking.is_empty() {
            return None;
        }
        let offered: BTreeSet<&str> = offered.into_iter().flatten().collect();
        let offered = offered.into_iter().collect::<Vec<_>>().join(", ");
        let is_all = lacking.len() == possible.len();
        let (rule, what) = if is_all { (&rule::NO_PROFILE, "all") } else { (&rule::NO_PROFILE_FOR_ARCH, "only") };
        let message = format!(
            "machines of {} that it matches boot nothing: {} Profiles that it selects are for {offered}",
            lacking.join(", "),
            if what == "all" { "all" } else { "the" },
        );
        let help = "label a Profile for them, or have it match other machines, by matchLabels with buildarch";
        Some(Finding::new(rule, &name, field, message).help(help))
    }

    /// A Profile that the selectors nearly match, or that stands elsewhere.
    fn near_profile(&self, assignment: &Assignment) -> Option<String> {
        let elsewhere = self.catalog.profiles().find(|profile| profile.is_selected_by(&assignment.profiles));
        if let Some(profile) = elsewhere.filter(|_| !assignment.profiles.is_empty()) {
            return Some(format!(
                "Profile {} has them; an Assignment finds Profiles of its own namespace {} only",
                profile.key, assignment.key.namespace
            ));
        }
        let here = || self.catalog.profiles().filter(|profile| namespace(&profile.key) == namespace(&assignment.key));
        for (key, value) in assignment.profiles.iter() {
            let values: BTreeSet<&str> = here().filter_map(|profile| profile.labels.get(key)).collect();
            if values.contains(value) {
                continue;
            }
            if let Some(near) = nearest(value, values.iter().copied()) {
                return Some(format!("did you mean {key}={near}?"));
            }
            if values.is_empty()
                && let Some(near) = nearest(key, here().flat_map(|profile| profile.labels.iter()).map(|(key, _)| key))
            {
                return Some(format!("did you mean the label {near}?"));
            }
            let shown: Vec<_> = values.into_iter().take(8).collect();
            return (!shown.is_empty()).then(|| format!("Profiles there have {key}={}", shown.join(", ")));
        }
        None
    }

    /// An Assignment of which all but one of the selectors match.
    fn near_assignment(&self, profile: &Profile) -> Option<&'c ObjectKey> {
        const MOST: usize = 1000;
        let beside = self.catalog.assignments().filter(|assignment| namespace(&assignment.key) == namespace(&profile.key)).take(MOST);
        let is_near = |assignment: &Assignment| {
            let mut unmet = assignment.profiles.iter().filter(|(key, value)| profile.labels.get(key) != Some(value));
            let (Some((key, value)), None) = (unmet.next(), unmet.next()) else { return false };
            let own = profile.labels.get(key);
            assignment.profiles.len() > 1 || nearest(value, own).is_some()
        };
        // One that selects something already is meant for that.
        let idle = beside.filter(|assignment| self.catalog.profiles_of(assignment).next().is_none());
        idle.filter(|assignment| is_near(assignment)).map(|assignment| &assignment.key).min()
    }
}

/// Age, then place: what decides between two that are in conflict.
fn order(a: &Assignment, b: &Assignment) -> std::cmp::Ordering {
    let age = |assignment: &Assignment| (assignment.created.is_none(), assignment.created);
    age(a).cmp(&age(b)).then_with(|| a.key.cmp(&b.key))
}

/// What both match, in short.
fn common(a: &Assignment, b: &Assignment) -> String {
    let (a, b) = (&a.subjects, &b.subjects);
    let identities = [
        ("uuid", shared(&a.uuids, &b.uuids)),
        ("serial number", shared(&a.serials, &b.serials)),
        ("MAC address", shared(&a.macs, &b.macs)),
    ];
    if let Some((what, common)) = identities.into_iter().find(|(_, common)| !common.is_empty()) {
        let more = if common.len() > 1 { format!(" and {} more", common.len() - 1) } else { String::new() };
        return format!("{what} {}{more}", common[0]);
    }
    let mut labels: Vec<_> = a.labels.requirements().iter().chain(b.labels.requirements()).map(ToString::to_string).collect();
    labels.dedup();
    if labels.is_empty() { "every machine".to_owned() } else { format!("machines with {}", labels.join(", ")) }
}

fn shared<T: Ord + std::fmt::Display>(a: &Sorted<T>, b: &Sorted<T>) -> Vec<String> {
    a.iter().filter(|one| b.contains(*one)).map(ToString::to_string).collect()
}

fn namespace(key: &ObjectKey) -> Namespace<'_> {
    (&key.partition, &key.namespace)
}

fn list(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The architecture that a Profile is for, where it says so.
fn wanted_architecture(profile: &Profile) -> Option<&str> {
    profile.wants().iter().find(|want| !want.extrinsic && want.key == BUILDARCH).map(|want| want.value.as_str())
}

/// The architectures to which an Assignment is bound by its selector, where it is.
fn asked_architectures(assignment: &Assignment) -> Option<BTreeSet<&str>> {
    assignment.subjects.labels.requirements().iter().find_map(|requirement| match &requirement.operator {
        Operator::In(values) if &*requirement.key == BUILDARCH => Some(values.iter().map(AsRef::as_ref).collect()),
        _ => None,
    })
}
