//! The index of Machines.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use crate::identity::{self, Mac, MatchedBy};
use crate::machine::Machine;
use crate::name::{ObjectKey, ObjectRef};
use crate::rejected::Rejected;
use crate::subject::{ExtrinsicLabels, InvalidQuery, Subject};

use super::Catalog;
use super::bucket::{self, Bucket, Ranked};
use super::by_key::ByKey;
use super::index::Index;

/// Maximum number of other Machines that are named as conflicts of one.
const MAX_CONFLICTS: usize = 8;

/// All Machines by name and by identity. The identities also lead to invalid Machines.
#[derive(Clone)]
pub(super) struct MachineIndex {
    all: Index<ByKey<Machine>, ()>,
    uuids: Index<Uuid, Bucket<Machine>>,
    serials: Index<Arc<str>, Bucket<Machine>>,
    macs: Index<Mac, Bucket<Machine>>,
}

/// The Machine of a subject.
#[derive(Clone, Copy, Debug)]
pub struct MachineMatch<'c> {
    /// The Machine.
    pub machine: &'c Arc<Machine>,
    /// The identity by which it was found.
    pub by: MatchedBy,
    /// Another Machine that a weaker identity of the subject leads to. It is ignored.
    pub other: Option<&'c Arc<Machine>>,
}

impl Ranked for Machine {
    fn rank(&self, other: &Self) -> Ordering {
        self.cmp_age(other)
    }
}

// === impl MachineIndex ===

impl MachineIndex {
    pub(super) fn new() -> Self {
        Self {
            all: Index::new(),
            uuids: Index::new(),
            serials: Index::new(),
            macs: Index::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn index_size(&self) -> usize {
        self.uuids.len() + self.serials.len() + self.macs.len()
    }

    fn get(&self, key: &ObjectKey) -> Option<&Arc<Machine>> {
        self.all.get_key(key).map(|machine| &machine.0)
    }

    fn put(&mut self, machine: Arc<Machine>) -> bool {
        match self.get(&machine.key) {
            Some(known) if *known == machine => return false,
            Some(_) => drop(self.remove(&machine.key)),
            None => {}
        }
        self.add_identities(&machine);
        self.all.insert(ByKey(machine), ());
        true
    }

    fn remove(&mut self, key: &ObjectKey) -> bool {
        let Some(machine) = self.get(key).cloned() else {
            return false;
        };
        self.all.remove(key);
        self.remove_identities(&machine);
        true
    }

    pub(super) fn add_identities(&mut self, machine: &Arc<Machine>) {
        if let Some(uuid) = machine.real_uuid() {
            bucket::add(&mut self.uuids, &uuid, machine);
        }
        if let Some(serial) = machine.real_serial() {
            bucket::add(&mut self.serials, serial, machine);
        }
        for mac in machine.real_macs() {
            bucket::add(&mut self.macs, mac, machine);
        }
    }

    pub(super) fn remove_identities(&mut self, machine: &Arc<Machine>) {
        if let Some(uuid) = machine.real_uuid() {
            bucket::remove(&mut self.uuids, &uuid, machine);
        }
        if let Some(serial) = machine.real_serial() {
            bucket::remove(&mut self.serials, serial, machine);
        }
        for mac in machine.real_macs() {
            bucket::remove(&mut self.macs, mac, machine);
        }
    }

    /// Returns the first Machine that each identity leads to, the strongest identity first.
    fn matches(
        &self,
        uuid: Option<Uuid>,
        serial: Option<&str>,
        mac: Option<Mac>,
    ) -> [Option<(MatchedBy, &Arc<Machine>)>; 4] {
        let by_uuid = |uuid: Uuid| self.uuids.get(&uuid)?.first();
        let swapped = uuid
            .map(identity::other_byte_order)
            .filter(|other| Some(*other) != uuid);
        let by_serial = |serial: &str| self.serials.get(serial)?.first();
        let by_mac = |mac: Mac| self.macs.get(&mac)?.first();
        [
            uuid.and_then(by_uuid).map(|it| (MatchedBy::Uuid, it)),
            swapped
                .and_then(by_uuid)
                .map(|it| (MatchedBy::UuidOtherByteOrder, it)),
            serial.and_then(by_serial).map(|it| (MatchedBy::Serial, it)),
            mac.and_then(by_mac).map(|it| (MatchedBy::Mac, it)),
        ]
    }
}

impl Catalog {
    /// Returns the number of valid Machines.
    pub fn machine_count(&self) -> usize {
        self.machines.len()
    }

    /// Iterates over all valid Machines, in no particular order.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.all.iter().map(|(machine, ())| &machine.0)
    }

    /// Returns the last valid version of a Machine.
    pub fn machine(&self, key: &ObjectKey) -> Option<&Arc<Machine>> {
        self.machines.get(key)
    }

    /// Parses the query of a request, like [`Subject::from_query`], and finds the Machine that the
    /// subject is. Its labels count as the operator's.
    pub fn subject(
        &self,
        query: &str,
        extrinsic: &ExtrinsicLabels,
    ) -> Result<Subject, InvalidQuery> {
        let mut subject = Subject::from_query(query, extrinsic)?;
        self.recognise(&mut subject);
        Ok(subject)
    }

    /// Finds the Machine that a subject is, and adds its labels to the subject's.
    pub fn recognise(&self, subject: &mut Subject) {
        if let Some(found) = self.machine_of(subject) {
            let (machine, contradicts) = (found.machine.clone(), found.other.is_some());
            subject.set_machine(machine, contradicts);
        }
    }

    /// Returns the Machine that has an identity of the subject: by uuid, then serial, then mac. If
    /// several Machines claim that identity, the first by age and name.
    pub fn machine_of(&self, subject: &Subject) -> Option<MachineMatch<'_>> {
        if self.machines.index_size() == 0 {
            return None;
        }
        let matches = self
            .machines
            .matches(subject.uuid(), subject.serial(), subject.mac());
        let mut found = matches.into_iter().flatten();
        let (by, machine) = found.next()?;
        let is_own = |by: MatchedBy| match by {
            MatchedBy::Serial => machine.serial.as_deref() == subject.serial(),
            MatchedBy::Mac => subject.mac().is_some_and(|mac| machine.macs.contains(&mac)),
            _ => true,
        };
        let other = found.find_map(|(by, other)| (!is_own(by)).then_some(other));
        Some(MachineMatch { machine, by, other })
    }

    /// Creates the subject that a Machine is when it boots, as far as its identities tell.
    pub fn subject_of(&self, machine: &Arc<Machine>, extrinsic: &ExtrinsicLabels) -> Subject {
        let mut subject = Subject::from_query("", extrinsic).unwrap_or_default();
        subject.set_machine(machine.clone(), false);
        subject
    }

    /// Iterates over other valid Machines that claim an identity of this one, by name; at most 8.
    pub fn conflicting_machines(&self, of: &Machine) -> Vec<&Arc<Machine>> {
        let uuids = of.real_uuid().into_iter();
        let uuids = uuids.flat_map(|uuid| {
            let other = Some(identity::other_byte_order(uuid)).filter(|other| *other != uuid);
            [Some(uuid), other]
        });
        let mut keys = BTreeSet::new();
        let mut found: Vec<_> = uuids
            .flatten()
            .filter_map(|uuid| self.machines.uuids.get(&uuid))
            .chain(
                of.real_serial()
                    .and_then(|serial| self.machines.serials.get(&**serial)),
            )
            .chain(of.real_macs().filter_map(|mac| self.machines.macs.get(mac)))
            .flat_map(|bucket| bucket.iter().take(MAX_CONFLICTS + 1))
            .filter(|other| other.key != of.key && self.machine(&other.key).is_some())
            .filter(|other| keys.insert(&other.key))
            .collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.truncate(MAX_CONFLICTS);
        found
    }

    /// Returns what is wrong with a Machine that an index found, if it has no valid version.
    pub(crate) fn rejected_machine(&self, machine: &Machine) -> Option<&Arc<Rejected>> {
        if self.rejected_count() == 0 || self.machine(&machine.key).is_some() {
            return None;
        }
        self.rejected(&ObjectRef::Machine(machine.key.clone()))
    }

    pub(super) fn put_machine(&mut self, machine: Arc<Machine>) -> bool {
        self.machines.put(machine)
    }

    pub(super) fn remove_machine(&mut self, key: &ObjectKey) -> bool {
        self.machines.remove(key)
    }
}
