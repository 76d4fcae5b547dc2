//! Sample machines for rendering templates.
//!
//! A sample presents every label that a template mentions, so what fails for a sample fails for
//! every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use boot::arch::BUILDARCH;
use boot::profile::{Constraint, Fit};
use boot::render::RenderError;
use boot::template::Uses;
use boot::{
    Assignment, ExtrinsicLabels, Labels, MatchedBy, ObjectKey, Profile, Selection, Subject,
    SubjectSelectors, Templates,
};
use uuid::Uuid;

/// The architectures iPXE is built for, with the firmware of each.
pub const ARCHITECTURES: [(&str, &str); 7] = [
    ("x86_64", "efi"),
    ("x86_64", "pcbios"),
    ("arm64", "efi"),
    ("i386", "pcbios"),
    ("arm32", "efi"),
    ("riscv64", "efi"),
    ("loong64", "efi"),
];

/// The base URL of the server in samples.
pub const BASE_URL: &str = "http://shaper.example";

/// Maximum number of labels added because a template mentions them; a query holds 64.
const MAX_MENTIONED: usize = 40;

/// A machine that a Profile could be selected for.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The architecture, as iPXE names it.
    pub arch: String,
    /// The firmware, as iPXE names it.
    pub platform: String,
    /// The machine.
    pub subject: Arc<Subject>,
}

/// Returns a machine of each architecture that a Profile is meant for.
pub fn of(profile: &Profile) -> Vec<Sample> {
    let wanted = |key: &str| {
        profile
            .constraints()
            .iter()
            .find(|constraint| !constraint.extrinsic && constraint.key == key)
            .map(|constraint| constraint.value.as_str())
    };
    let (arch, platform) = (wanted(BUILDARCH), wanted("platform"));
    let is_wanted = |(a, p): &(&str, &str)| {
        arch.is_none_or(|arch| arch == *a) && platform.is_none_or(|platform| platform == *p)
    };
    let mut machines: Vec<_> = ARCHITECTURES.iter().copied().filter(is_wanted).collect();
    if machines.is_empty() {
        // An unknown architecture is still a valid one.
        machines.push((arch.unwrap_or("x86_64"), platform.unwrap_or("efi")));
    }
    machines
        .into_iter()
        .filter_map(|(arch, platform)| sample(profile, arch, platform))
        .collect()
}

/// Returns the selection for a sample, with made-up config ids.
pub fn selection(profile: &Profile, assignment: Option<Arc<Assignment>>) -> Selection {
    let ids = profile
        .templates
        .config_names()
        .enumerate()
        .map(|(at, name)| (name.clone(), Uuid::from_u128(at as u128 + 1)))
        .collect();
    let assignment = assignment.unwrap_or_else(|| Arc::new(any_assignment(profile)));
    Selection {
        assignment,
        by: MatchedBy::Labels,
        profile: Arc::new(profile.with_ids(ids)),
    }
}

/// Like [`selection`], for comparing Profiles: a config has the same id in all of them.
pub(crate) fn selection_with_shared_ids(
    profile: &Profile,
    assignment: Arc<Assignment>,
    all: &[&Templates],
) -> Selection {
    let names: BTreeSet<_> = all
        .iter()
        .flat_map(|templates| templates.config_names())
        .collect();
    let ids = names
        .into_iter()
        .enumerate()
        .map(|(at, name)| (name.clone(), Uuid::from_u128(at as u128 + 1)))
        .collect();
    Selection {
        assignment,
        by: MatchedBy::Labels,
        profile: Arc::new(profile.with_ids(ids)),
    }
}

/// Returns the error of a machine that runs the bootstrap script and presents nothing else, if a
/// template of the Profile needs a label that such a machine lacks.
pub fn missing_label(profile: &Profile, extrinsic: &ExtrinsicLabels) -> Option<RenderError> {
    let selection = selection(profile, None);
    let samples = of(profile).into_iter();
    let machines = samples
        .filter_map(|sample| {
            let labels = presented(profile, &sample.arch, &sample.platform);
            Subject::from_query(&query(&labels), extrinsic).ok()
        })
        .map(Arc::new);
    // A machine that the Profile is not for does not get it.
    let machines = machines.filter(|machine| matches!(profile.fit(machine), Fit::Suitable(_)));
    for machine in machines {
        let script = selection.script(&machine, BASE_URL).err();
        let configs = profile.templates.config_names().filter_map(|name| {
            let assignment = Some(&selection.assignment);
            boot::render::config(&selection.profile, name, &machine, assignment, BASE_URL).err()
        });
        let missing = script.into_iter().chain(configs).find(|error| {
            matches!(
                error,
                RenderError::MissingLabel { .. } | RenderError::MissingExtrinsic { .. }
            )
        });
        if missing.is_some() {
            return missing;
        }
    }
    None
}

fn any_assignment(profile: &Profile) -> Assignment {
    Assignment {
        key: ObjectKey::new(profile.key.namespace.clone(), "sample"),
        created: None,
        labels: Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    }
}

/// Returns what a sample presents by itself: the labels of the bootstrap script, and those that the
/// Profile wants.
fn presented<'p>(
    profile: &'p Profile,
    arch: &'p str,
    platform: &'p str,
) -> BTreeMap<&'p str, &'p str> {
    let known = [
        ("uuid", "47c6da67-7477-4970-aa03-84e48ff4f6ad"),
        ("mac", "52:54:00:00:00:01"),
        (BUILDARCH, arch),
        ("platform", platform),
        ("serial", "SAMPLE-1"),
        ("hostname", "sample"),
        ("manufacturer", "Sample"),
        ("product", "Sample-1"),
        ("asset", "sample"),
    ];
    let mut own: BTreeMap<&str, &str> = known.into();
    own.extend(
        profile
            .constraints()
            .iter()
            .filter(|constraint| !constraint.extrinsic)
            .map(|constraint| (constraint.key.as_str(), constraint.value.as_str())),
    );
    own
}

fn query(labels: &BTreeMap<&str, &str>) -> String {
    let mut query = String::new();
    labels
        .iter()
        .for_each(|(key, value)| boot::query::append(&mut query, key, value));
    query
}

/// Iterates over what each template of a Profile refers to.
fn configs_and_script(profile: &Profile) -> impl Iterator<Item = &Uses> {
    let templates = &profile.templates;
    templates
        .config_names()
        .filter_map(|name| templates.config_uses(name.as_str()))
        .chain([templates.script_uses()])
}

fn sample(profile: &Profile, arch: &str, platform: &str) -> Option<Sample> {
    let own = presented(profile, arch, platform);
    let mentioned: BTreeSet<&str> = configs_and_script(profile)
        .flat_map(|uses| uses.labels.iter())
        .map(String::as_str)
        .collect();
    let mut extrinsic: BTreeMap<&str, &str> = profile
        .constraints()
        .iter()
        .filter(|constraint| constraint.extrinsic)
        .map(|Constraint { key, value, .. }| (key.as_str(), value.as_str()))
        .collect();
    let of_operator = configs_and_script(profile).flat_map(|uses| uses.extrinsic.iter());
    for key in of_operator.take(MAX_MENTIONED) {
        extrinsic.entry(key).or_insert("sample");
    }
    for key in mentioned
        .into_iter()
        .filter(|key| !own.contains_key(key))
        .take(MAX_MENTIONED)
    {
        extrinsic.entry(key).or_insert("sample");
    }
    // A machine can present keys that an operator can't set.
    extrinsic.retain(|key, value| ExtrinsicLabels::new([(*key, *value)]).is_ok());
    let extrinsic = ExtrinsicLabels::new(extrinsic).ok()?;
    let subject = Subject::from_query(&query(&own), &extrinsic).ok()?;
    Some(Sample {
        arch: arch.to_owned(),
        platform: platform.to_owned(),
        subject: Arc::new(subject),
    })
}
