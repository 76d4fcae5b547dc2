//! Generates machines such as a site has, and their boot requests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use boot::{Assignment, Change, ConfigName, ObjectKey, Profile, SubjectSelectors};
use uuid::Uuid;

const NAMESPACE: &str = "machines";

/// Returns one Assignment for each of this many machines, and the Profiles of two systems on two
/// architectures.
pub(super) fn all(assignments: u32) -> Vec<Change> {
    let profiles = ["linux", "next"]
        .into_iter()
        .flat_map(|system| ["x86_64", "arm64"].map(|arch| profile(system, arch)));
    profiles
        .chain((0..assignments).map(|number| assignment(number, "linux")))
        .collect()
}

/// Returns the Assignment of a machine, by its UUID and the address of its network card.
pub(super) fn assignment(number: u32, system: &str) -> Change {
    let mac = boot::Mac::from_octets(&mac(number)).expect("six octets");
    Change::Assignment(Arc::new(Assignment {
        key: ObjectKey::new(
            NAMESPACE,
            format!("rack-{:04}-machine-{number:06}", number / 40),
        ),
        created: jiff::Timestamp::new(1_700_000_000 + i64::from(number), 0).ok(),
        labels: [
            ("app.kubernetes.io/managed-by", "inventory"),
            ("shaper.amahdha.com/scope", "machine"),
        ]
        .into_iter()
        .collect(),
        subjects: SubjectSelectors {
            uuids: boot::Sorted::from([uuid(number)]),
            macs: boot::Sorted::from([mac]),
            ..SubjectSelectors::default()
        },
        profiles: [("os", system)].into_iter().collect(),
        priority: 0,
        variables: boot::Variables::default(),
    }))
}

/// Writes the request of the machine with this number, as the bootstrap script makes iPXE write it.
pub(super) fn target(out: &mut String, number: u32) {
    let mac = boot::Mac::from_octets(&mac(number)).expect("six octets");
    let arch = if number.is_multiple_of(4) {
        "arm64"
    } else {
        "x86_64"
    };
    let uuid = uuid(number);
    write!(
        out,
        "/ipxe?uuid={uuid}&mac={mac}&buildarch={arch}&platform=efi&serial=SN{number:010}&hostname=&manufacturer=Dell%20Inc.&product=PowerEdge%20R640&asset="
    )
    .expect("a String takes all text");
}

fn profile(system: &str, arch: &str) -> Change {
    let script = "#!ipxe
set base http://files.lab/{{ profile.labels.os }}/{{ subject.buildarch }}
kernel ${base}/vmlinuz initrd=initrd.img ip=dhcp console=tty0 console=ttyS0,115200n8 ignition.firstboot ignition.platform.id=metal ignition.config.url={{ ignition }} hostname={{ subject.hostname | default(subject.serial) }}
initrd ${base}/initrd.img
boot
";
    let ignition = r#"{"ignition":{"version":"3.4.0"},"storage":{"files":[{"path":"/etc/hostname","contents":{"source":"data:,{{ subject.serial }}"}}]}}"#;
    let name: ConfigName = "ignition".parse().expect("it is an identifier");
    let labels = [("os", system), (boot::profile::INTRINSIC_PREFIX, arch)];
    let labels = labels.map(|(key, value)| {
        (
            if key == "os" {
                key.to_owned()
            } else {
                format!("{key}buildarch")
            },
            value.to_owned(),
        )
    });
    let key = ObjectKey::new(NAMESPACE, format!("{system}-{}", arch.replace('_', "-")));
    let profile = Profile::compile(
        key,
        None,
        &BTreeMap::from(labels),
        script,
        &BTreeMap::from([(name.clone(), ignition.to_owned())]),
    );
    Change::Profile(Arc::new(
        profile
            .expect("it is a template")
            .with_ids(BTreeMap::from([(name, Uuid::new_v4())])),
    ))
}

fn mac(number: u32) -> [u8; 6] {
    let [a, b, c, d] = number.to_be_bytes();
    [0x52, 0x54, a, b, c, d]
}

/// Returns a UUID as random as those of real boards, but reproducible (splitmix64).
fn uuid(number: u32) -> Uuid {
    let mix = |seed: u64| {
        let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    Uuid::from_u64_pair(
        mix(u64::from(number) * 2 + 1),
        mix(u64::from(number) * 2 + 2),
    )
}
