//! The index of all Profiles and Assignments that answers a lookup.
//!
//! A [`Catalog`] is a value: cloning it costs nothing, and a change to a clone copies only the few nodes that it touches. So a writer
//! prepares a new catalog, of one change or of a hundred thousand, while readers go on with the old one, and [`SharedCatalog`] swaps
//! them at once: a reader never waits and never sees half a change.
//!
//! | question | index |
//! |---|---|
//! | who names this identity? | one hash map for each of uuid, serial, mac |
//! | who asks for these labels? | `LabelIndex`, a tuple space search |
//! | which Profiles have this label? | a hash map of (partition, namespace, key, value) |
//! | whose config is this? | a hash map of ids |
//! | which Assignments select this Profile? | [`SelectorIndex`], where it is wanted |

mod bucket;
mod conflicts;
pub mod guard;
mod index;
mod labels;
mod profiles;
mod rejected;
pub mod selector_index;
mod shared;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::config_name::ConfigName;
use crate::identity::{self, Mac, MatchedBy};
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;
use crate::rejected::Rejected;
use crate::subject::Subject;

use bucket::{Bucket, Ranked};
use index::Index;
use labels::LabelIndex;
use profiles::ProfileIndex;
use rejected::RejectedIndex;
use selector_index::SelectorIndex;
pub use shared::SharedCatalog;

/// The index of all Profiles and Assignments.
#[derive(Clone)]
pub struct Catalog {
    assignments: Index<ByKey, ()>,
    uuids: Index<Uuid, Bucket<Assignment>>,
    serials: Index<Arc<str>, Bucket<Assignment>>,
    macs: Index<Mac, Bucket<Assignment>>,
    by_labels: LabelIndex,
    profiles: ProfileIndex,
    selectors: Option<SelectorIndex>,
    rejected: RejectedIndex,
    /// How many stand in the indexes with each priority.
    priorities: RedBlackTreeMapSync<i32, usize>,
}

/// One change to a catalog.
#[derive(Clone, Debug)]
pub enum Change {
    /// An Assignment is new or different.
    Assignment(Arc<Assignment>),
    /// An Assignment is gone.
    AssignmentDeleted(ObjectKey),
    /// A Profile is new or different.
    Profile(Arc<Profile>),
    /// A Profile is gone.
    ProfileDeleted(ObjectKey),
    /// An object exists and is not accepted. What it said before stays; where that is not known, or was said by another object of the same
    /// name, it stands in the catalog by what can be told of it, and whoever gets it boots nothing.
    Rejected(Arc<Rejected>),
}

/// An Assignment that an index found for a subject, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Found<'c> {
    /// What led to it.
    pub by: MatchedBy,
    /// The Assignment, whose labels may not hold.
    pub assignment: &'c Arc<Assignment>,
}

/// An Assignment under its own key, which is not kept a second time.
#[derive(Clone)]
struct ByKey(Arc<Assignment>);

impl Borrow<ObjectKey> for ByKey {
    fn borrow(&self) -> &ObjectKey {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Ranked for Assignment {
    fn rank(&self, other: &Self) -> Ordering {
        self.cmp_rank(other)
    }
}

// === impl Change ===

impl Change {
    /// Which object it is about.
    pub fn name(&self) -> ObjectRef {
        match self {
            Self::Assignment(assignment) => ObjectRef::Assignment(assignment.key.clone()),
            Self::AssignmentDeleted(key) => ObjectRef::Assignment(key.clone()),
            Self::Profile(profile) => ObjectRef::Profile(profile.key.clone()),
            Self::ProfileDeleted(key) => ObjectRef::Profile(key.clone()),
            Self::Rejected(rejected) => rejected.name(),
        }
    }
}

impl ObjectRef {
    /// The change by which it goes.
    pub fn gone(self) -> Change {
        match self {
            Self::Assignment(key) => Change::AssignmentDeleted(key),
            Self::Profile(key) => Change::ProfileDeleted(key),
        }
    }
}

// === impl Catalog ===

impl Catalog {
    /// A catalog of nothing.
    pub fn new() -> Self {
        Self {
            assignments: Index::new(),
            uuids: Index::new(),
            serials: Index::new(),
            macs: Index::new(),
            by_labels: LabelIndex::new(),
            profiles: ProfileIndex::new(),
            selectors: None,
            rejected: RejectedIndex::new(),
            priorities: RedBlackTreeMapSync::new_sync(),
        }
    }

    /// A catalog of nothing that also knows which Assignments select a Profile, as long as it and its clones live.
    pub fn with_selector_index() -> Self {
        Self {
            selectors: Some(SelectorIndex::new()),
            ..Self::new()
        }
    }

    /// Which Assignments select a Profile, if the catalog was made to know.
    pub fn selectors(&self) -> Option<&SelectorIndex> {
        self.selectors.as_ref()
    }

    /// Makes one change. False when it changes nothing.
    pub fn apply(&mut self, change: Change) -> bool {
        let change = match change {
            Change::Rejected(rejected) => return self.put_rejected(rejected),
            change => change,
        };
        // None of the others is about an object that is there and not accepted: if it was, that is over.
        let was_rejected = self.rejected_count() > 0 && self.clear_rejected(&change.name());
        let is_other = match change {
            Change::Assignment(assignment) => self.put_assignment(assignment),
            Change::AssignmentDeleted(key) => self.remove_assignment(&key).is_some(),
            Change::Profile(profile) => self.put_profile(profile),
            Change::ProfileDeleted(key) => self.remove_profile(&key),
            Change::Rejected(_) => false,
        };
        was_rejected || is_other
    }

    /// How many accepted Assignments there are.
    pub fn assignment_count(&self) -> usize {
        self.assignments.len()
    }

    /// How many accepted Profiles there are.
    pub fn profile_count(&self) -> usize {
        self.profiles.len()
    }

    /// How many keys the indexes hold. A catalog of nothing has none, whatever it held before.
    pub fn index_size(&self) -> usize {
        self.uuids.len()
            + self.serials.len()
            + self.macs.len()
            + self.by_labels.size()
            + self.profiles.index_size()
    }

    /// All accepted Assignments, in no order.
    pub fn assignments(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        self.assignments
            .iter()
            .map(|(assignment, ())| &assignment.0)
    }

    /// All accepted Profiles, in no order.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.all()
    }

    /// One Assignment: its last accepted version.
    pub fn assignment(&self, key: &ObjectKey) -> Option<&Arc<Assignment>> {
        self.assignments
            .get_key(key)
            .map(|assignment| &assignment.0)
    }

    /// One Profile: its last accepted version.
    pub fn profile(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.profiles.get(key)
    }

    /// Whether there is an accepted object of this name.
    pub fn contains(&self, name: &ObjectRef) -> bool {
        match name {
            ObjectRef::Assignment(key) => self.assignment(key).is_some(),
            ObjectRef::Profile(key) => self.profile(key).is_some(),
        }
    }

    /// The names of all objects, accepted or not, each once, in no order.
    pub fn names(&self) -> impl Iterator<Item = ObjectRef> {
        let assignments = self
            .assignments()
            .map(|assignment| ObjectRef::Assignment(assignment.key.clone()));
        let accepted = assignments.chain(
            self.profiles()
                .map(|profile| ObjectRef::Profile(profile.key.clone())),
        );
        accepted.chain(self.without_valid_version().map(|rejected| rejected.name()))
    }

    /// The Profile and the name of the config that is served under this id.
    pub fn config(&self, id: Uuid) -> Option<(&Arc<Profile>, &ConfigName)> {
        self.profiles.config(id)
    }

    /// The Profiles that an Assignment selects, before any subject is looked at: the older first, then by name. What is not accepted is
    /// selected as well, by its labels.
    pub fn profiles_of<'c>(
        &'c self,
        assignment: &'c Assignment,
    ) -> impl Iterator<Item = &'c Arc<Profile>> {
        self.profiles
            .selected(&assignment.key, &assignment.profiles)
    }

    /// The buckets in which everything stands that could match the subject, each in its order.
    pub(crate) fn buckets<'c>(
        &'c self,
        subject: &Subject,
    ) -> impl Iterator<Item = (MatchedBy, &'c Bucket<Assignment>)> {
        let labels = self
            .by_labels
            .buckets(subject)
            .map(|bucket| (MatchedBy::Labels, bucket));
        self.identity_buckets(subject)
            .into_iter()
            .flatten()
            .chain(labels)
    }

    /// The Assignment that nothing can stand before, if the subject's uuid alone tells which that is: the uuid is the strongest identity, and
    /// none has a higher priority. So most machines are found by one look into one index.
    pub(crate) fn certain_winner(&self, subject: &Subject) -> Option<Found<'_>> {
        let first = self.uuids.get(&subject.uuid()?)?.first()?;
        let (highest, _) = self.priorities.last()?;
        let is_first = first.priority >= *highest && first.subjects.labels.unmet(subject).is_none();
        is_first.then_some(Found {
            by: MatchedBy::Uuid,
            assignment: first,
        })
    }

    /// Those of them that its identities lead to.
    fn identity_buckets<'c>(
        &'c self,
        subject: &Subject,
    ) -> [Option<(MatchedBy, &'c Bucket<Assignment>)>; 4] {
        let uuid = subject.uuid();
        let exact = uuid
            .and_then(|uuid| self.uuids.get(&uuid))
            .map(|bucket| (MatchedBy::Uuid, bucket));
        let swapped = uuid
            .map(identity::other_byte_order)
            .filter(|other| Some(*other) != uuid);
        let swapped = swapped
            .and_then(|uuid| self.uuids.get(&uuid))
            .map(|bucket| (MatchedBy::UuidOtherByteOrder, bucket));
        let serial = subject
            .serial()
            .and_then(|serial| self.serials.get(serial))
            .map(|bucket| (MatchedBy::Serial, bucket));
        let mac = subject
            .mac()
            .and_then(|mac| self.macs.get(&mac))
            .map(|bucket| (MatchedBy::Mac, bucket));
        [exact, swapped, serial, mac]
    }

    /// The Assignments that name an identity of the subject, by rank, each once with the strongest.
    pub fn naming<'c>(&'c self, subject: &Subject) -> Vec<Found<'c>> {
        let named = self.identity_buckets(subject).into_iter().flatten();
        let all = named.flat_map(|(by, bucket)| {
            bucket
                .iter()
                .map(move |assignment| Found { by, assignment })
        });
        let mut found: Vec<_> = all
            .filter(|found| found.assignment.subjects.identify(subject) == Some(found.by))
            .collect();
        found.sort_by(Found::rank);
        found
    }

    /// The Assignments that name no identities, by rank.
    pub fn without_identities(&self) -> Vec<Found<'_>> {
        let all = self
            .assignments()
            .chain(self.claimed_assignments())
            .filter(|assignment| !assignment.subjects.names_identities());
        let mut found: Vec<_> = all
            .map(|assignment| Found {
                by: MatchedBy::Labels,
                assignment,
            })
            .collect();
        found.sort_by(Found::rank);
        found
    }

    fn put_assignment(&mut self, assignment: Arc<Assignment>) -> bool {
        match self.assignment(&assignment.key) {
            Some(known) if *known == assignment => return false,
            Some(_) => drop(self.remove_assignment(&assignment.key.clone())),
            None => {}
        }
        self.add_to_indexes(&assignment);
        if let Some(selectors) = &mut self.selectors {
            selectors.put(&assignment);
        }
        self.assignments.insert(ByKey(assignment), ());
        true
    }

    fn remove_assignment(&mut self, key: &ObjectKey) -> Option<Arc<Assignment>> {
        let assignment = self.assignment(key)?.clone();
        self.assignments.remove(key);
        self.remove_from_indexes(&assignment);
        if let Some(selectors) = &mut self.selectors {
            selectors.remove(&assignment);
        }
        Some(assignment)
    }

    /// Enters an Assignment into the indexes.
    fn add_to_indexes(&mut self, assignment: &Arc<Assignment>) {
        let subjects = &assignment.subjects;
        for uuid in &subjects.uuids {
            bucket::add(&mut self.uuids, uuid, assignment);
        }
        for serial in &subjects.serials {
            bucket::add(&mut self.serials, serial, assignment);
        }
        for mac in &subjects.macs {
            bucket::add(&mut self.macs, mac, assignment);
        }
        if !subjects.names_identities() {
            self.by_labels.add(assignment);
        }
        let others = self
            .priorities
            .get(&assignment.priority)
            .copied()
            .unwrap_or(0);
        self.priorities.insert_mut(assignment.priority, others + 1);
    }

    /// Takes an Assignment out of the indexes.
    fn remove_from_indexes(&mut self, assignment: &Arc<Assignment>) {
        let subjects = &assignment.subjects;
        for uuid in &subjects.uuids {
            bucket::remove(&mut self.uuids, uuid, assignment);
        }
        for serial in &subjects.serials {
            bucket::remove(&mut self.serials, serial, assignment);
        }
        for mac in &subjects.macs {
            bucket::remove(&mut self.macs, mac, assignment);
        }
        if !subjects.names_identities() {
            self.by_labels.remove(assignment);
        }
        match self
            .priorities
            .get(&assignment.priority)
            .copied()
            .unwrap_or(0)
        {
            0 | 1 => drop(self.priorities.remove_mut(&assignment.priority)),
            many => self.priorities.insert_mut(assignment.priority, many - 1),
        }
    }

    fn put_profile(&mut self, profile: Arc<Profile>) -> bool {
        let Some(selectors) = &mut self.selectors else {
            return self.profiles.put(profile);
        };
        let known = self.profiles.get(&profile.key).cloned();
        let is_new = self.profiles.put(profile.clone());
        if is_new {
            known
                .into_iter()
                .for_each(|known| selectors.remove_profile(&known));
            selectors.put_profile(&profile);
        }
        is_new
    }

    fn remove_profile(&mut self, key: &ObjectKey) -> bool {
        if let Some(known) = self.profiles.get(key)
            && let Some(selectors) = &mut self.selectors
        {
            selectors.remove_profile(known);
        }
        self.profiles.remove(key)
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}
