//! Parsed requests.

use std::collections::BTreeMap;
use std::time::Instant;

use http::{HeaderMap, Method, Uri};
use serde_json::Value;

/// A request to the API.
#[derive(Clone, Debug)]
pub struct Call {
    /// The verb.
    pub verb: Verb,
    /// The API group; empty for the core group.
    pub group: String,
    /// The version within the group.
    pub version: String,
    /// The plural of the kind as in paths, such as `assignments`.
    pub plural: String,
    /// The namespace; `None` for a request across all namespaces.
    pub namespace: Option<String>,
    /// The name of the object, for a request about one.
    pub name: Option<String>,
    /// The subresource, such as `status`.
    pub subresource: Option<String>,
    /// The query parameters.
    pub query: BTreeMap<String, String>,
    /// The body if it is JSON, otherwise null.
    pub body: Value,
    /// When the request arrived.
    pub received_at: Instant,
    pub(crate) patch: Patch,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Reads an object.
    Get,
    /// Reads a list of objects.
    List,
    /// Streams changes of objects.
    Watch,
    /// Creates an object (POST).
    Create,
    /// Replaces an object (PUT).
    Update,
    /// Changes an object by merge patch or server-side apply.
    Patch,
    /// Deletes an object.
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patch {
    None,
    Merge,
    Apply,
}

// === impl Call ===

impl Call {
    /// Parses a request. `None` if the server does not support it.
    pub(crate) fn parse(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Self> {
        let segments: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", version, rest),
            ["apis", group, version, rest @ ..] => (*group, version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
                (Some((*namespace).to_owned()), rest)
            }
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        let query: BTreeMap<String, String> = uri.query().map(parse_query).unwrap_or_default();
        let is_watch = query
            .get("watch")
            .is_some_and(|watch| watch == "true" || watch == "1");
        let verb = match (method, name) {
            (&Method::GET, Some(_)) => Verb::Get,
            (&Method::GET, None) if is_watch => Verb::Watch,
            (&Method::GET, None) => Verb::List,
            (&Method::POST, None) => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Update,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) => Verb::Delete,
            _ => return None,
        };
        let patch = match headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
        {
            "application/merge-patch+json" => Patch::Merge,
            "application/apply-patch+yaml" => Patch::Apply,
            _ => Patch::None,
        };
        Some(Self {
            verb,
            group: group.to_owned(),
            version: (*version).to_owned(),
            plural: (*plural).to_owned(),
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            query,
            body: serde_json::from_slice(body).unwrap_or_default(),
            received_at: Instant::now(),
            patch,
        })
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    /// The `apiVersion` of the requested objects.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after
            .get(..2)
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (bytes, rest) = match (first, hex) {
            (b'%', Some(byte)) => ([bytes, vec![byte]].concat(), &after[2..]),
            (b'+', _) => ([bytes, vec![b' ']].concat(), after),
            (byte, _) => ([bytes, vec![*byte]].concat(), after),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &Method, uri: &str) -> Option<Call> {
        Call::parse(method, &uri.parse().unwrap(), &HeaderMap::new(), b"")
    }

    #[test]
    fn a_request_path_determines_verb_kind_and_object() {
        let call = parse(
            &Method::GET,
            "/apis/shaper.amahdha.com/v1alpha1/assignments?watch=true&labelSelector=a%3Db",
        )
        .unwrap();
        assert_eq!(
            (call.verb, call.plural.as_str(), call.namespace),
            (Verb::Watch, "assignments", None)
        );
        assert_eq!(call.query["labelSelector"], "a=b");
        let call = parse(
            &Method::PATCH,
            "/apis/shaper.amahdha.com/v1alpha1/namespaces/a/profiles/p/status",
        )
        .unwrap();
        assert_eq!(
            (call.verb, call.name.as_deref(), call.subresource.as_deref()),
            (Verb::Patch, Some("p"), Some("status"))
        );
        let call = parse(&Method::GET, "/api/v1/namespaces").unwrap();
        assert_eq!(
            (call.verb, call.plural.as_str()),
            (Verb::List, "namespaces")
        );
        assert!(parse(&Method::GET, "/version").is_none());
    }
}
