//! Lists, whole or in pages.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::ServerState;
use crate::call::Call;
use crate::fault::Fault;
use crate::response::ApiError;
use crate::store::Snapshot;

/// The namespace, name and labels of the objects that a client asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectSelector {
    namespace: Option<String>,
    name: Option<String>,
    labels: Vec<LabelRequirement>,
}

#[derive(Clone, Debug)]
enum LabelRequirement {
    Equal(String, String),
    NotEqual(String, String),
    Has(String),
    HasNot(String),
}

/// Returns a list or one page of it.
pub(crate) fn list(shared: &ServerState, call: &Call) -> Result<Value, ApiError> {
    let mut state = shared.state();
    let selector = ObjectSelector::from_call(call)?;
    let max = match state
        .faults
        .trigger(call, |fault| matches!(fault, Fault::TruncateList(_)))
    {
        Some((_, Fault::TruncateList(count))) => count,
        _ => usize::MAX,
    };
    let (revision, from, list) = match call.parameter("continue") {
        Some(token) => {
            let expired = || {
                ApiError::new(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result.",
                )
            };
            let (revision, from) = token.split_once('-').ok_or_else(expired)?;
            let (revision, from) = (
                revision.parse().map_err(|_| expired())?,
                from.parse::<usize>().map_err(|_| expired())?,
            );
            (
                revision,
                from,
                state
                    .store
                    .snapshot_at(&call.plural, revision)
                    .ok_or_else(expired)?,
            )
        }
        None => (
            state.store.revision(),
            0,
            Snapshot::new(select(state.store.all(&call.plural), &selector, max)),
        ),
    };
    // A real server ignores the limit if the client accepts any revision.
    let limit = call
        .parameter("limit")
        .and_then(|limit| limit.parse::<usize>().ok())
        .filter(|_| call.parameter("resourceVersion") != Some("0"));
    let end = limit
        .filter(|limit| *limit > 0)
        .map_or(list.len(), |limit| list.len().min(from + limit));
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if end < list.len() {
        metadata["continue"] = format!("{revision}-{end}").into();
        metadata["remainingItemCount"] = (list.len() - end).into();
        if from == 0 {
            state.store.keep_snapshot(&call.plural, list.clone());
        }
    }
    drop(state);
    let items: Vec<&Value> = list
        .get(from..end)
        .unwrap_or_default()
        .iter()
        .map(|object| &**object)
        .collect();
    Ok(
        json!({ "kind": format!("{}List", kind_of(&call.plural)), "apiVersion": call.api_version(), "metadata": metadata, "items": items }),
    )
}

/// Returns at most `max` of the selected objects.
pub(crate) fn select<'a>(
    objects: impl Iterator<Item = &'a Arc<Value>>,
    selector: &ObjectSelector,
    max: usize,
) -> Vec<Arc<Value>> {
    objects
        .filter(|object| selector.matches(object))
        .take(max)
        .cloned()
        .collect()
}

/// Derives the name of a kind from its plural, for responses without objects.
pub(crate) fn kind_of(plural: &str) -> String {
    match plural {
        "configmaps" => "ConfigMap".to_owned(),
        _ => {
            let singular = plural.strip_suffix('s').unwrap_or(plural);
            singular
                .chars()
                .take(1)
                .flat_map(char::to_uppercase)
                .chain(singular.chars().skip(1))
                .collect()
        }
    }
}

// === impl ObjectSelector ===

impl ObjectSelector {
    pub(crate) fn from_call(call: &Call) -> Result<Self, ApiError> {
        let unknown = |selector: &str| {
            ApiError::new(
                400,
                "BadRequest",
                format!("this server does not support the selector {selector}"),
            )
        };
        let mut selector = Self {
            namespace: call.namespace.clone(),
            ..Self::default()
        };
        for term in call
            .parameter("fieldSelector")
            .into_iter()
            .flat_map(|terms| terms.split(','))
        {
            match term.split_once('=') {
                Some(("metadata.name", name)) => {
                    selector.name = Some(name.trim_start_matches('=').to_owned());
                }
                Some(("metadata.namespace", name)) => {
                    selector.namespace = Some(name.trim_start_matches('=').to_owned());
                }
                _ => return Err(unknown(term)),
            }
        }
        for term in call
            .parameter("labelSelector")
            .into_iter()
            .flat_map(|terms| terms.split(','))
        {
            if term.contains([' ', '(', ')']) {
                return Err(unknown(term));
            }
            let (key, value) = term.split_once('=').map_or((term, None), |(key, value)| {
                (key, Some(value.trim_start_matches('=').to_owned()))
            });
            selector.labels.push(
                match (value, key.strip_suffix('!'), key.strip_prefix('!')) {
                    (Some(value), Some(key), _) => {
                        LabelRequirement::NotEqual(key.to_owned(), value)
                    }
                    (Some(value), None, _) => LabelRequirement::Equal(key.to_owned(), value),
                    (None, _, Some(key)) => LabelRequirement::HasNot(key.to_owned()),
                    (None, _, None) => LabelRequirement::Has(key.to_owned()),
                },
            );
        }
        Ok(selector)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let is = |name: &str, expected: &Option<String>| {
            expected
                .as_ref()
                .is_none_or(|expected| metadata[name] == **expected)
        };
        let label = |key: &String| metadata["labels"][key].as_str();
        is("namespace", &self.namespace)
            && is("name", &self.name)
            && self.labels.iter().all(|term| match term {
                LabelRequirement::Equal(key, value) => label(key) == Some(value),
                LabelRequirement::NotEqual(key, value) => label(key) != Some(value),
                LabelRequirement::Has(key) => label(key).is_some(),
                LabelRequirement::HasNot(key) => label(key).is_none(),
            })
    }
}
