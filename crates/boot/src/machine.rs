//! Machines: inventory entries that name a subject and give it labels and variables.

use std::cmp::Ordering;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use crate::identity::{Mac, is_placeholder_text, is_placeholder_uuid};
use crate::name::ObjectKey;
use crate::profile::older_first;
use crate::sorted::{Labels, Sorted};
use crate::variables::Variables;

/// The label of a subject that holds the name of its Machine.
pub const MACHINE_LABEL: &str = "machine";

/// An inventory entry. A subject that presents any of its identities is this Machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The Machine's name; its namespace is empty.
    pub key: ObjectKey,
    /// The creation time, if known. A Machine without one counts as the youngest.
    pub created: Option<Timestamp>,
    /// Labels that count as the operator's labels of the subject, with normalised values.
    pub labels: Labels,
    /// The SMBIOS UUID.
    pub uuid: Option<Uuid>,
    /// The SMBIOS serial number, without surrounding spaces.
    pub serial: Option<Arc<str>>,
    /// The addresses of all its network cards.
    pub macs: Sorted<Mac>,
    /// Values for templates, which override those of Assignment and Profile.
    pub variables: Variables,
}

/// Machines that claim one identity are ranked by age, the older first, then by name.
impl Machine {
    pub(crate) fn cmp_age(&self, other: &Self) -> Ordering {
        older_first(self.created, other.created).then_with(|| self.key.cmp(&other.key))
    }

    /// Returns the UUID, unless it is a placeholder that many boards share.
    pub fn real_uuid(&self) -> Option<Uuid> {
        self.uuid.filter(|uuid| !is_placeholder_uuid(*uuid))
    }

    /// Returns the serial number, unless it is a placeholder.
    pub fn real_serial(&self) -> Option<&Arc<str>> {
        self.serial
            .as_ref()
            .filter(|serial| !is_placeholder_text(serial))
    }

    /// Iterates over the MAC addresses that are not placeholders.
    pub fn real_macs(&self) -> impl Iterator<Item = &Mac> {
        self.macs.iter().filter(|mac| !mac.is_placeholder())
    }

    /// Returns whether the Machine has an identity that a subject can present.
    pub fn has_identity(&self) -> bool {
        self.real_uuid().is_some()
            || self.real_serial().is_some()
            || self.real_macs().next().is_some()
    }
}
