//! Generates objects such as a site may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::{Assignment, Change, ObjectKey, Profile, SubjectSelectors};
use uuid::Uuid;

/// Returns the UUID of a machine.
pub(crate) fn uuid(number: u32) -> Uuid {
    Uuid::from_u128(0x47c6_da67_7477_4970_aa03_0000_0000_0000 | u128::from(number))
}

/// Returns one Assignment for each of this many machines, and a few Profiles.
pub(crate) fn all(assignments: u32) -> Vec<Change> {
    let profiles = [profile("linux"), profile("changed"), profile("after")];
    profiles
        .into_iter()
        .chain((0..assignments).map(assignment))
        .collect()
}

/// Returns the Assignment of a machine.
pub(crate) fn assignment(number: u32) -> Change {
    leading_to(number, "linux")
}

/// Returns the Assignment of a machine, changed to select another Profile.
pub(crate) fn changed(number: u32) -> Change {
    leading_to(number, "changed")
}

/// Returns the final Assignment of the first machine, which marks the end of all changes.
pub(crate) fn marker(profile: &str) -> Change {
    leading_to(0, profile)
}

fn leading_to(number: u32, profile: &str) -> Change {
    let mac = boot::Mac::from_octets(&[&[0x52, 0x54], &number.to_be_bytes()[..]].concat())
        .expect("six octets");
    let labels = [
        ("app.kubernetes.io/managed-by", "inventory"),
        ("shaper.amahdha.com/scope", "machine"),
    ];
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new(
            "machines",
            format!("rack-{:04}-machine-{number:06}", number / 40),
        ),
        created: jiff::Timestamp::new(1_700_000_000 + i64::from(number), 0).ok(),
        labels: labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        subjects: SubjectSelectors {
            uuids: boot::Sorted::from([uuid(number)]),
            serials: boot::Sorted::from([format!("SN{number:010}").into()]),
            macs: boot::Sorted::from([mac]),
            ..SubjectSelectors::default()
        },
        profiles: [("os".to_owned(), profile.to_owned())]
            .into_iter()
            .collect(),
        priority: 0,
        variables: boot::Variables::default(),
    }))
}

fn profile(name: &str) -> Change {
    let labels = BTreeMap::from([("os".to_owned(), name.to_owned())]);
    let script = format!(
        "#!ipxe\necho {name}\nkernel http://files.lab/vmlinuz uuid={{{{ subject.uuid }}}}\nboot\n"
    );
    let profile = Profile::compile(
        ObjectKey::new("machines", name),
        None,
        &labels,
        &script,
        &BTreeMap::new(),
    );
    Change::Profile(Arc::new(profile.expect("it is a template")))
}
