//! Profiles: what to boot.

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
use crate::template::{TemplateErrors, Templates};
use crate::variables::{Variables, VariablesSchema};

/// Prefix of a Profile's label that constrains a label which the machine presents.
pub const INTRINSIC_PREFIX: &str = "assignment/ipxe-";
/// Prefix of a Profile's label that constrains a label which the operator set.
pub const EXTRINSIC_PREFIX: &str = "assignment/extrinsic-";

/// What to boot: a script and the configs that it links to, as templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The Profile's namespace and name.
    pub key: ObjectKey,
    /// The creation time, if known. A Profile without one counts as the youngest.
    pub created: Option<Timestamp>,
    /// The labels by which Assignments select the Profile, with normalised values.
    pub labels: Labels,
    /// The script and the configs.
    pub templates: Arc<Templates>,
    /// Default values for templates.
    pub variables: Variables,
    /// The schema of the merged variables, if the Profile has one.
    pub variables_schema: Option<Arc<VariablesSchema>>,
    /// The id under which each config is served. A config without an id can't be linked to yet.
    pub ids: BTreeMap<ConfigName, Uuid>,
    constraints: Vec<Constraint>,
}

/// A value that a Profile requires of a subject's label, if the subject has that label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    /// Whether the operator sets the label, rather than the machine.
    pub extrinsic: bool,
    /// The label's key, without the prefix.
    pub key: String,
    /// The required value, normalised.
    pub value: String,
}

/// How well a Profile fits a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit<'a> {
    /// The subject has another value for this label.
    Mismatch(&'a Constraint),
    /// Nothing contradicts the Profile, and this number of labels match.
    Suitable(usize),
}

// === impl Profile ===

impl Profile {
    /// Compiles a Profile's templates. The configs have no ids yet.
    pub fn compile(
        key: ObjectKey,
        created: Option<Timestamp>,
        labels: &BTreeMap<String, String>,
        script: &str,
        configs: &BTreeMap<ConfigName, String>,
    ) -> Result<Self, TemplateErrors> {
        Ok(Self::with_templates(
            key,
            created,
            labels,
            Arc::new(Templates::compile(script, configs)?),
        ))
    }

    /// Creates a Profile of compiled templates. The configs have no ids yet.
    pub fn with_templates(
        key: ObjectKey,
        created: Option<Timestamp>,
        labels: &BTreeMap<String, String>,
        templates: Arc<Templates>,
    ) -> Self {
        let labels = normalise_labels(labels);
        let constraints = labels
            .iter()
            .filter_map(|(key, value)| Constraint::from_label(key, value))
            .collect();
        Self {
            key,
            created,
            labels,
            templates,
            variables: Variables::default(),
            variables_schema: None,
            ids: BTreeMap::new(),
            constraints,
        }
    }

    /// Creates a stand-in for an invalid Profile, without configs.
    pub fn partial(
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

    /// Returns the Profile with ids for its configs. The compiled templates are shared.
    pub fn with_ids(&self, ids: BTreeMap<ConfigName, Uuid>) -> Self {
        Self {
            ids,
            ..self.clone()
        }
    }

    /// Returns the Profile with variables, and a schema that all variables of a machine must
    /// satisfy.
    pub fn with_variables(
        self,
        variables: Variables,
        variables_schema: Option<Arc<VariablesSchema>>,
    ) -> Self {
        Self {
            variables,
            variables_schema,
            ..self
        }
    }

    /// Returns the Profile in a partition.
    pub fn in_partition(&self, partition: &str) -> Self {
        Self {
            key: self.key.clone().in_partition(partition),
            ..self.clone()
        }
    }

    /// Returns whether the Profile has all these labels.
    pub fn is_selected_by(&self, selectors: &Labels) -> bool {
        self.labels.contains_all(selectors)
    }

    /// Returns how well the Profile fits the subject.
    ///
    /// A label that the subject does not have counts neither for nor against.
    pub fn fit(&self, subject: &Subject) -> Fit<'_> {
        let mut satisfied = 0;
        for constraint in &self.constraints {
            match constraint.value_in(subject) {
                Some(value) if value == constraint.value => satisfied += 1,
                Some(_) => return Fit::Mismatch(constraint),
                None => {}
            }
        }
        Fit::Suitable(satisfied)
    }

    /// Returns the constraints on a subject's labels.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Returns the first config that has no id.
    pub fn config_without_id(&self) -> Option<&ConfigName> {
        self.templates
            .config_names()
            .find(|name| !self.ids.contains_key(*name))
    }
}

impl Fit<'_> {
    /// A sort key: fitting Profiles first, and of these the one with most matching labels.
    pub(crate) fn sort_key(&self) -> (bool, Reverse<usize>) {
        match self {
            Self::Suitable(satisfied) => (false, Reverse(*satisfied)),
            Self::Mismatch(_) => (true, Reverse(0)),
        }
    }
}

/// Orders Profiles that fit equally well: the older first, then by name.
impl Profile {
    pub(crate) fn cmp_age(&self, other: &Self) -> Ordering {
        older_first(self.created, other.created).then_with(|| self.key.cmp(&other.key))
    }
}

// === impl Constraint ===

impl Constraint {
    fn from_label(key: &str, value: &str) -> Option<Self> {
        let constraint = |extrinsic, key: &str| Self {
            extrinsic,
            key: key.to_owned(),
            value: normalise(key, value),
        };
        let intrinsic = key
            .strip_prefix(INTRINSIC_PREFIX)
            .map(|key| constraint(false, key));
        intrinsic.or_else(|| {
            key.strip_prefix(EXTRINSIC_PREFIX)
                .map(|key| constraint(true, key))
        })
    }

    /// Returns the subject's value of this label.
    pub fn value_in<'s>(&self, subject: &'s Subject) -> Option<&'s str> {
        if self.extrinsic {
            subject.extrinsic(&self.key)
        } else {
            subject.intrinsic(&self.key)
        }
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Serialize for Constraint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Normalises the values of architecture labels, so that aliases are equal on both sides of a
/// selector.
pub fn normalise_labels(labels: &BTreeMap<String, String>) -> Labels {
    let normalised_value = |key: &String, value: &String| match key
        .strip_prefix(INTRINSIC_PREFIX)
        .or(key.strip_prefix(EXTRINSIC_PREFIX))
    {
        Some(BUILDARCH) => normalise(BUILDARCH, value),
        _ => value.clone(),
    };
    labels
        .iter()
        .map(|(key, value)| (key.clone(), normalised_value(key, value)))
        .collect()
}

/// Compares creation times. An object without one counts as the youngest.
pub(crate) fn older_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
