//! The status of a Machine.

use boot::{Machine, ObjectKey};
use crd::MachineStatus;
use jiff::Timestamp;

use crate::condition::{ConditionStatus, ConditionType, UntimedCondition};
use crate::object::ObservedMeta;
use crate::placements::Placement;

use super::{Acceptance, accepted, conditions, readiness};

/// Returns the status of a Machine. `conflicts` are the other Machines that claim one of its
/// identities.
pub(crate) fn of_machine(
    meta: &ObservedMeta,
    known: Option<&Machine>,
    acceptance: Acceptance<'_>,
    placement: &Placement,
    conflicts: &[&ObjectKey],
    now: Timestamp,
) -> MachineStatus {
    let conflicted = match known {
        Some(_) => conflicted(conflicts),
        None => UntimedCondition::new(
            ConditionType::Conflicted,
            ConditionStatus::Unknown,
            "NotAccepted",
            "the Machine is invalid",
        ),
    };
    let accepted = accepted(acceptance);
    let mut conditions_now = readiness(&accepted, &[], "its identities can be presented");
    conditions_now.extend([accepted, conflicted]);
    let name = |key: &Option<ObjectKey>| key.as_ref().map(ToString::to_string);
    MachineStatus {
        observed_generation: Some(meta.generation),
        identities: known.map(identities),
        assignment: name(&placement.assignment),
        profile: name(&placement.profile),
        conditions: conditions(&conditions_now, meta, now),
    }
}

/// Summarizes the identities of a Machine.
fn identities(machine: &Machine) -> String {
    let macs = match (machine.macs.len(), machine.macs.first()) {
        (0, _) | (_, None) => None,
        (1, Some(mac)) => Some(format!("mac {mac}")),
        (count, _) => Some(format!("{count} MAC addresses")),
    };
    let uuid = machine.uuid.map(|uuid| format!("uuid {uuid}"));
    let serial = machine.serial.as_ref();
    let serial = serial.map(|serial| format!("serial {serial}"));
    let parts: Vec<_> = [uuid, serial, macs].into_iter().flatten().collect();
    parts.join(", ")
}

fn conflicted(conflicts: &[&ObjectKey]) -> UntimedCondition {
    if conflicts.is_empty() {
        return UntimedCondition::new(
            ConditionType::Conflicted,
            ConditionStatus::False,
            "NoConflict",
            "no other Machine claims an identity of this one",
        );
    }
    let names: Vec<_> = conflicts.iter().map(ToString::to_string).collect();
    let (kind, claim) = match names.len() {
        1 => ("Machine", "claims"),
        _ => ("Machines", "claim"),
    };
    let more = if conflicts.len() >= MAX_CONFLICTS {
        " (and possibly more)"
    } else {
        ""
    };
    let message = format!(
        "{kind} {}{more} {claim} an identity of this one, and a machine that presents it is the oldest of them; remove the identity from all but one",
        names.join(", ")
    );
    UntimedCondition::new(
        ConditionType::Conflicted,
        ConditionStatus::True,
        "DuplicateIdentity",
        message,
    )
}

/// The number of conflicting Machines from which on there may be others.
const MAX_CONFLICTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(uuid: bool, serial: Option<&str>, macs: &[&str]) -> String {
        let uuid = uuid.then(|| "47c6da67-7477-4970-aa03-84e48ff4f6ad".parse().unwrap());
        let machine = Machine {
            key: ObjectKey::new("", "m"),
            created: None,
            labels: boot::Labels::default(),
            uuid,
            serial: serial.map(Into::into),
            macs: macs.iter().map(|mac| mac.parse().unwrap()).collect(),
            variables: boot::Variables::default(),
        };
        identities(&machine)
    }

    #[test]
    fn identities_are_summarized_in_the_order_in_which_they_decide() {
        let macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
        assert_eq!(
            text(true, Some("7XK29Q2"), &macs),
            "uuid 47c6da67-7477-4970-aa03-84e48ff4f6ad, serial 7XK29Q2, 2 MAC addresses"
        );
        assert_eq!(text(false, None, &macs[..1]), "mac 52:54:00:00:00:01");
    }
}
