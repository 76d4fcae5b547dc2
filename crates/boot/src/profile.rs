//! What to boot.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::arch::BUILDARCH;
use crate::config_name::ConfigName;
use crate::name::ObjectKey;
use crate::sorted::Labels;
use crate::subject::{Subject, normalise};
use crate::template::{TemplateError, Templates};

/// The prefix of a label by which a Profile asks for one of the subject's own labels.
pub const INTRINSIC_PREFIX: &str = "assignment/ipxe-";
/// The prefix of a label by which a Profile asks for one of the operator's labels.
pub const EXTRINSIC_PREFIX: &str = "assignment/extrinsic-";

/// What to boot: a script and the configs that it links to, as templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Namespace and name.
    pub key: ObjectKey,
    /// When it was created, if that is known. What has no time counts as the youngest.
    pub created: Option<Timestamp>,
    /// The labels by which Assignments select it, in their normal spelling.
    pub labels: Labels,
    /// The script and the configs.
    pub templates: Arc<Templates>,
    /// The id under which each config is served. A config without one can't be linked to yet.
    pub ids: BTreeMap<ConfigName, Uuid>,
    wants: Vec<Want>,
}

/// A label of the subject that a Profile is meant for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// Whether the operator sets the label, and not the machine.
    pub extrinsic: bool,
    /// The label's key, without prefix.
    pub key: String,
    /// The label's value, in its normal spelling.
    pub value: String,
}

/// How a Profile suits a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit<'a> {
    /// The subject presents another value.
    Mismatch(&'a Want),
    /// Nothing speaks against it, and so many labels speak for it.
    Suitable(usize),
}

// === impl Profile ===

impl Profile {
    /// Compiles the templates of a Profile, whose configs have no ids yet.
    pub fn compile(
        key: ObjectKey,
        created: Option<Timestamp>,
        labels: &BTreeMap<String, String>,
        script: &str,
        configs: &BTreeMap<ConfigName, String>,
    ) -> Result<Self, TemplateError> {
        Ok(Self::with_templates(
            key,
            created,
            labels,
            Arc::new(Templates::compile(script, configs)?),
        ))
    }

    /// A Profile of templates that are compiled already, whose configs have no ids yet.
    pub fn with_templates(
        key: ObjectKey,
        created: Option<Timestamp>,
        labels: &BTreeMap<String, String>,
        templates: Arc<Templates>,
    ) -> Self {
        let labels = normalise_labels(labels);
        let wants = labels
            .iter()
            .filter_map(|(key, value)| Want::from_label(key, value))
            .collect();
        Self {
            key,
            created,
            labels,
            templates,
            ids: BTreeMap::new(),
            wants,
        }
    }

    /// What can be told of a Profile that is not accepted: no templates.
    pub fn claim(
        key: ObjectKey,
        created: Option<Timestamp>,
        labels: &BTreeMap<String, String>,
    ) -> Self {
        static NONE: LazyLock<Arc<Templates>> = LazyLock::new(|| {
            let nothing = Templates::compile("#!ipxe\n", &BTreeMap::new());
            Arc::new(nothing.expect("a script of one line is a template"))
        });
        Self::with_templates(key, created, labels, NONE.clone())
    }

    /// The same Profile with ids for its configs. Its templates are shared, not compiled again.
    pub fn with_ids(&self, ids: BTreeMap<ConfigName, Uuid>) -> Self {
        Self {
            ids,
            ..self.clone()
        }
    }

    /// The same Profile in one of several clusters.
    pub fn in_partition(&self, partition: &str) -> Self {
        Self {
            key: self.key.clone().in_partition(partition),
            ..self.clone()
        }
    }

    /// Whether the labels contain all of these.
    pub fn is_selected_by(&self, selectors: &Labels) -> bool {
        self.labels.contain(selectors)
    }

    /// Whether the subject is one that the Profile is meant for.
    ///
    /// A label that the subject does not present speaks neither for nor against.
    pub fn fit(&self, subject: &Subject) -> Fit<'_> {
        let mut satisfied = 0;
        for want in &self.wants {
            match want.presented_by(subject) {
                Some(value) if value == want.value => satisfied += 1,
                Some(_) => return Fit::Mismatch(want),
                None => {}
            }
        }
        Fit::Suitable(satisfied)
    }

    /// The labels of a subject that the Profile is meant for.
    pub fn wants(&self) -> &[Want] {
        &self.wants
    }

    /// The first config that has no id.
    pub fn config_without_id(&self) -> Option<&ConfigName> {
        self.templates
            .config_names()
            .find(|name| !self.ids.contains_key(*name))
    }
}

impl Fit<'_> {
    /// Less is better: those that suit, and of those the one that more labels speak for.
    pub(crate) fn sort_key(&self) -> (bool, Reverse<usize>) {
        match self {
            Self::Suitable(satisfied) => (false, Reverse(*satisfied)),
            Self::Mismatch(_) => (true, Reverse(0)),
        }
    }
}

/// Where nothing else tells two Profiles apart: the older comes first, then the name.
impl Profile {
    pub(crate) fn cmp_age(&self, other: &Self) -> Ordering {
        older_first(self.created, other.created).then_with(|| self.key.cmp(&other.key))
    }
}

// === impl Want ===

impl Want {
    fn from_label(key: &str, value: &str) -> Option<Self> {
        let want = |extrinsic, key: &str| Self {
            extrinsic,
            key: key.to_owned(),
            value: normalise(key, value),
        };
        let intrinsic = key
            .strip_prefix(INTRINSIC_PREFIX)
            .map(|key| want(false, key));
        intrinsic.or_else(|| {
            key.strip_prefix(EXTRINSIC_PREFIX)
                .map(|key| want(true, key))
        })
    }

    /// What the subject says to this label.
    pub fn presented_by<'s>(&self, subject: &'s Subject) -> Option<&'s str> {
        if self.extrinsic {
            subject.extrinsic(&self.key)
        } else {
            subject.intrinsic(&self.key)
        }
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Serialize for Want {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Labels with the values of architectures in their normal spelling: aliases count as equal, on both sides of a selector.
pub fn normalise_labels(labels: &BTreeMap<String, String>) -> Labels {
    let spell = |key: &String, value: &String| match key
        .strip_prefix(INTRINSIC_PREFIX)
        .or(key.strip_prefix(EXTRINSIC_PREFIX))
    {
        Some(BUILDARCH) => normalise(BUILDARCH, value),
        _ => value.clone(),
    };
    labels
        .iter()
        .map(|(key, value)| (key.clone(), spell(key, value)))
        .collect()
}

/// What has no time of creation is taken for the youngest.
pub(crate) fn older_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
