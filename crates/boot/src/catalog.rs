//! The index of all Profiles, Assignments and Machines, which answers lookups.
//!
//! A [`Catalog`] is a persistent value: a clone is cheap and shares everything, and a change to a
//! clone copies only the few nodes that it touches. A writer prepares a new catalog, of one change
//! or of 100,000, while readers use the old one; [`SharedCatalog`] then swaps them atomically. A
//! reader never waits and never sees half a change.
//!
//! | question | index |
//! |---|---|
//! | which Assignments list this identity? | one hash map for each of uuid, serial and mac |
//! | which Assignments require these labels? | `LabelIndex`, a tuple space search |
//! | which Profiles have this label? | a hash map of (partition, namespace, key, value) |
//! | which config has this id? | a hash map of ids, and a set of those that several configs have |
//! | which Machine has this identity? | one hash map for each of uuid, serial and mac |
//! | which Assignments select this Profile? | [`SelectorIndex`], only if enabled |

mod bucket;
mod by_key;
mod config_ids;
mod conflicts;
pub mod guard;
mod index;
mod labels;
mod machines;
mod profiles;
mod rejected;
pub mod selector_index;
mod shared;

use std::cmp::Ordering;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::assignment::Assignment;
use crate::config_name::ConfigName;
use crate::identity::{self, Mac, MatchedBy};
use crate::machine::Machine;
use crate::name::{ObjectKey, ObjectRef};
use crate::profile::Profile;
use crate::rejected::Rejected;
use crate::subject::Subject;

use bucket::{Bucket, Ranked};
use by_key::ByKey;
pub use config_ids::{DuplicateId, NoConfig};
use index::Index;
use labels::LabelIndex;
use machines::MachineIndex;
pub use machines::MachineMatch;
use profiles::ProfileIndex;
use rejected::RejectedIndex;
use selector_index::SelectorIndex;
pub use shared::SharedCatalog;

/// The index of all Profiles, Assignments and Machines.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Arc;
///
/// use boot::{
///     Assignment, Catalog, Change, ExtrinsicLabels, Labels, ObjectKey, Profile, Subject,
///     SubjectSelectors,
/// };
///
/// let profile = Profile::compile(
///     ObjectKey::new("default", "debian"),
///     None,
///     &BTreeMap::from([("os".to_owned(), "debian".to_owned())]),
///     "#!ipxe\necho {{ subject.serial }} boots {{ profile.name }}\n",
///     &BTreeMap::new(),
/// )?;
/// // Without subject selectors, an Assignment is a default for all machines.
/// let default = Assignment {
///     key: ObjectKey::new("default", "all-machines"),
///     created: None,
///     labels: Labels::default(),
///     subjects: SubjectSelectors::default(),
///     profiles: [("os", "debian")].into_iter().collect(),
///     priority: 0,
///     variables: boot::Variables::default(),
/// };
/// let mut catalog = Catalog::new();
/// catalog.apply(Change::Profile(Arc::new(profile)));
/// catalog.apply(Change::Assignment(Arc::new(default)));
///
/// let subject = Arc::new(Subject::from_query("serial=SN1", &ExtrinsicLabels::default())?);
/// let selection = catalog.select(&subject)?;
/// let script = selection.script(&subject, "http://boot.example")?;
/// assert_eq!(script, "#!ipxe\necho SN1 boots debian\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Catalog {
    assignments: Index<ByKey<Assignment>, ()>,
    uuids: Index<Uuid, Bucket<Assignment>>,
    serials: Index<Arc<str>, Bucket<Assignment>>,
    macs: Index<Mac, Bucket<Assignment>>,
    by_labels: LabelIndex,
    profiles: ProfileIndex,
    machines: MachineIndex,
    selectors: Option<SelectorIndex>,
    rejected: RejectedIndex,
    /// The number of indexed Assignments of each priority.
    priorities: RedBlackTreeMapSync<i32, usize>,
}

/// One change to a catalog.
#[derive(Clone, Debug)]
pub enum Change {
    /// An Assignment was created or changed.
    Assignment(Arc<Assignment>),
    /// An Assignment was deleted.
    AssignmentDeleted(ObjectKey),
    /// A Profile was created or changed.
    Profile(Arc<Profile>),
    /// A Profile was deleted.
    ProfileDeleted(ObjectKey),
    /// A Machine was created or changed.
    Machine(Arc<Machine>),
    /// A Machine was deleted.
    MachineDeleted(ObjectKey),
    /// An object exists and is invalid. The catalog keeps its last valid version. If it has none,
    /// or if that version belonged to an earlier object of the same name, the object is indexed by
    /// the part of it that could be read, and its machines wait.
    Rejected(Arc<Rejected>),
}

/// An Assignment that an index found for a subject.
#[derive(Clone, Copy, Debug)]
pub struct Found<'c> {
    /// The index that found it.
    pub by: MatchedBy,
    /// The Assignment. Its label requirements may not hold.
    pub assignment: &'c Arc<Assignment>,
}

/// The buckets of Assignments that identities lead to. Few Machines have more than two cards.
type IdentityBuckets<'c> = SmallVec<[(MatchedBy, &'c Bucket<Assignment>); 8]>;

impl Ranked for Assignment {
    fn rank(&self, other: &Self) -> Ordering {
        self.cmp_rank(other)
    }
}

// === impl Change ===

impl Change {
    /// Returns the object that the change is about.
    pub fn name(&self) -> ObjectRef {
        match self {
            Self::Assignment(assignment) => ObjectRef::Assignment(assignment.key.clone()),
            Self::AssignmentDeleted(key) => ObjectRef::Assignment(key.clone()),
            Self::Profile(profile) => ObjectRef::Profile(profile.key.clone()),
            Self::ProfileDeleted(key) => ObjectRef::Profile(key.clone()),
            Self::Machine(machine) => ObjectRef::Machine(machine.key.clone()),
            Self::MachineDeleted(key) => ObjectRef::Machine(key.clone()),
            Self::Rejected(rejected) => rejected.name(),
        }
    }
}

impl ObjectRef {
    /// Returns the change that deletes the object.
    pub fn deletion(self) -> Change {
        match self {
            Self::Assignment(key) => Change::AssignmentDeleted(key),
            Self::Profile(key) => Change::ProfileDeleted(key),
            Self::Machine(key) => Change::MachineDeleted(key),
        }
    }
}

// === impl Catalog ===

impl Catalog {
    /// Creates an empty catalog.
    pub fn new() -> Self {
        Self {
            assignments: Index::new(),
            uuids: Index::new(),
            serials: Index::new(),
            macs: Index::new(),
            by_labels: LabelIndex::new(),
            profiles: ProfileIndex::new(),
            machines: MachineIndex::new(),
            selectors: None,
            rejected: RejectedIndex::new(),
            priorities: RedBlackTreeMapSync::new_sync(),
        }
    }

    /// Creates an empty catalog that also indexes which Assignments select a Profile. Its clones do
    /// so too.
    pub fn with_selector_index() -> Self {
        Self {
            selectors: Some(SelectorIndex::new()),
            ..Self::new()
        }
    }

    /// Returns the index of which Assignments select a Profile, if this catalog has one.
    pub fn selectors(&self) -> Option<&SelectorIndex> {
        self.selectors.as_ref()
    }

    /// Applies a change. Returns whether the catalog changed.
    pub fn apply(&mut self, change: Change) -> bool {
        let change = match change {
            Change::Rejected(rejected) => return self.put_rejected(rejected),
            change => change,
        };
        // All other changes replace or delete a rejected object.
        let was_rejected = self.rejected_count() > 0 && self.clear_rejected(&change.name());
        let is_other = match change {
            Change::Assignment(assignment) => self.put_assignment(assignment),
            Change::AssignmentDeleted(key) => self.remove_assignment(&key).is_some(),
            Change::Profile(profile) => self.put_profile(profile),
            Change::ProfileDeleted(key) => self.remove_profile(&key),
            Change::Machine(machine) => self.put_machine(machine),
            Change::MachineDeleted(key) => self.remove_machine(&key),
            Change::Rejected(_) => false,
        };
        was_rejected || is_other
    }

    /// Returns the number of valid Assignments.
    pub fn assignment_count(&self) -> usize {
        self.assignments.len()
    }

    /// Returns the number of valid Profiles.
    pub fn profile_count(&self) -> usize {
        self.profiles.len()
    }

    /// Returns the number of keys in the indexes. It is 0 whenever the catalog is empty.
    pub fn index_size(&self) -> usize {
        self.uuids.len()
            + self.serials.len()
            + self.macs.len()
            + self.by_labels.size()
            + self.profiles.index_size()
            + self.machines.index_size()
    }

    /// Iterates over all valid Assignments, in no particular order.
    pub fn assignments(&self) -> impl Iterator<Item = &Arc<Assignment>> {
        self.assignments
            .iter()
            .map(|(assignment, ())| &assignment.0)
    }

    /// Iterates over all valid Profiles, in no particular order.
    pub fn profiles(&self) -> impl Iterator<Item = &Arc<Profile>> {
        self.profiles.all()
    }

    /// Returns the last valid version of an Assignment.
    pub fn assignment(&self, key: &ObjectKey) -> Option<&Arc<Assignment>> {
        self.assignments
            .get_key(key)
            .map(|assignment| &assignment.0)
    }

    /// Returns the last valid version of a Profile.
    pub fn profile(&self, key: &ObjectKey) -> Option<&Arc<Profile>> {
        self.profiles.get(key)
    }

    /// Returns whether the object has a valid version.
    pub fn contains(&self, name: &ObjectRef) -> bool {
        match name {
            ObjectRef::Assignment(key) => self.assignment(key).is_some(),
            ObjectRef::Profile(key) => self.profile(key).is_some(),
            ObjectRef::Machine(key) => self.machine(key).is_some(),
        }
    }

    /// Iterates over the names of all objects, valid or not, each once and in no particular order.
    pub fn names(&self) -> impl Iterator<Item = ObjectRef> {
        let assignments = self
            .assignments()
            .map(|assignment| ObjectRef::Assignment(assignment.key.clone()));
        let profiles = self
            .profiles()
            .map(|profile| ObjectRef::Profile(profile.key.clone()));
        let machines = self
            .machines()
            .map(|machine| ObjectRef::Machine(machine.key.clone()));
        let accepted = assignments.chain(profiles).chain(machines);
        accepted.chain(self.without_valid_version().map(|rejected| rejected.name()))
    }

    /// Returns the Profile and the name of the config that has this id. An error if several configs
    /// have it: nobody can tell which of them a link was made for.
    pub fn config(&self, id: Uuid) -> Result<(&Arc<Profile>, &ConfigName), NoConfig> {
        self.profiles.config(id)
    }

    /// Iterates over the Profiles that an Assignment selects for any subject, older first, then by
    /// name. Invalid Profiles are selected by their labels, too.
    pub fn profiles_of<'c>(
        &'c self,
        assignment: &'c Assignment,
    ) -> impl Iterator<Item = &'c Arc<Profile>> {
        self.profiles
            .selected(&assignment.key, &assignment.profiles)
    }

    /// Iterates over the buckets that hold every Assignment that could match the subject. Each
    /// bucket is sorted by rank.
    pub(crate) fn buckets<'c>(
        &'c self,
        subject: &Subject,
    ) -> impl Iterator<Item = (MatchedBy, &'c Bucket<Assignment>)> {
        let labels = self
            .by_labels
            .buckets(subject)
            .map(|bucket| (MatchedBy::Labels, bucket));
        self.identity_buckets(subject).into_iter().chain(labels)
    }

    /// Returns the winning Assignment if the subject's uuid alone decides: the uuid is the
    /// strongest identity, and no Assignment has a higher priority. Most machines are found by this
    /// single lookup.
    pub(crate) fn certain_winner(&self, subject: &Subject) -> Option<Found<'_>> {
        let uuid = match subject.machine().and_then(|machine| machine.real_uuid()) {
            Some(uuid) if subject.uuid().is_some_and(|own| own != uuid) => return None,
            uuid => uuid.or(subject.uuid())?,
        };
        let first = self.uuids.get(&uuid)?.first()?;
        let (highest, _) = self.priorities.last()?;
        let is_first = first.priority >= *highest && first.subjects.labels.unmet(subject).is_none();
        is_first.then_some(Found {
            by: MatchedBy::Uuid,
            assignment: first,
        })
    }

    /// Returns the buckets that the identities of the subject and its Machine lead to.
    fn identity_buckets<'c>(&'c self, subject: &Subject) -> IdentityBuckets<'c> {
        let mut found = IdentityBuckets::new();
        let mut add_uuid = |uuid: Uuid| {
            let other = identity::other_byte_order(uuid);
            found.extend(self.uuids.get(&uuid).map(|it| (MatchedBy::Uuid, it)));
            if other != uuid {
                let bucket = self.uuids.get(&other);
                found.extend(bucket.map(|it| (MatchedBy::UuidOtherByteOrder, it)));
            }
        };
        let machine = subject.machine();
        let (uuid, serial, mac) = (subject.uuid(), subject.serial(), subject.mac());
        uuid.into_iter().for_each(&mut add_uuid);
        if let Some(machine) = machine {
            let uuid = machine.real_uuid().filter(|it| Some(*it) != uuid);
            uuid.into_iter().for_each(&mut add_uuid);
        }
        let mut add_serial = |serial: &str| {
            found.extend(self.serials.get(serial).map(|it| (MatchedBy::Serial, it)));
        };
        serial.into_iter().for_each(&mut add_serial);
        if let Some(machine) = machine {
            let serial = machine.real_serial().map(|it| &**it);
            serial
                .filter(|it| Some(*it) != subject.serial())
                .into_iter()
                .for_each(&mut add_serial);
        }
        let mut add_mac = |mac: &Mac| {
            found.extend(self.macs.get(mac).map(|it| (MatchedBy::Mac, it)));
        };
        mac.iter().for_each(&mut add_mac);
        if let Some(machine) = machine {
            let macs = machine.real_macs().filter(|it| Some(**it) != mac);
            macs.for_each(&mut add_mac);
        }
        found
    }

    /// Returns the Assignments that list an identity of the subject, by rank. Each occurs once,
    /// with the strongest identity that matches.
    pub fn by_identity<'c>(&'c self, subject: &Subject) -> Vec<Found<'c>> {
        let named = self.identity_buckets(subject).into_iter();
        let all = named.flat_map(|(by, bucket)| {
            bucket
                .iter()
                .map(move |assignment| Found { by, assignment })
        });
        let mut found: Vec<_> = all
            .filter(|found| found.assignment.subjects.identify(subject) == Some(found.by))
            .collect();
        found.sort_by(Found::rank);
        found.dedup_by(|a, b| Arc::ptr_eq(a.assignment, b.assignment));
        found
    }

    /// Returns the Assignments that list no identities, by rank.
    pub fn without_identities(&self) -> Vec<Found<'_>> {
        let all = self
            .assignments()
            .chain(self.partial_assignments())
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

    /// Adds an Assignment to the indexes.
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

    /// Removes an Assignment from the indexes.
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
