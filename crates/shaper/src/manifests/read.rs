//! From the bytes of one file to objects.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use boot::nearest::{did_you_mean, nearest};
use boot::{Assignment, ObjectKey, Profile};
use crd::{API_VERSION, GROUP, Invalid, VERSION};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::fields;
use super::tree::{Documents, Node, Value};

/// Largest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Most faults that are told of one file.
const MAX_FAULTS: usize = 20;

/// The kinds that are shaper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Profile,
    Assignment,
}

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Profile(Arc<Profile>),
    Assignment(Arc<Assignment>),
}

/// Kind, namespace and name: no two objects share them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
}

/// The line, if it is known, and what is wrong.
pub(super) type Fault = (Option<usize>, String);

/// What a file holds: objects with the line where each starts, and kinds that are not shaper's.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) objects: Vec<(usize, Object)>,
    pub(super) foreign: Vec<String>,
}

/// Reads a file. All of its faults are found, as far as they don't hide each other.
pub(super) fn read(bytes: &[u8], is_json: bool) -> Result<Contents, Vec<Fault>> {
    let text = text(bytes).map_err(|fault| vec![fault])?;
    let mut reading = Reading::default();
    if let Err(fault) = if is_json { reading.json(text) } else { reading.yaml(text, 0) } {
        reading.faults.push(fault);
    }
    reading.end()
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = lines(&bytes[..error.valid_up_to()]) + 1;
        (Some(line), "the file is not UTF-8; save it as UTF-8".to_owned())
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err((None, "the file is empty; remove it, or write its objects".to_owned()));
    }
    Ok(text)
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// A file that is being read.
#[derive(Default)]
struct Reading {
    contents: Contents,
    faults: Vec<Fault>,
}

// === impl Reading ===

impl Reading {
    /// YAML that stands below so many lines of the file.
    fn yaml(&mut self, text: &str, above: usize) -> Result<(), Fault> {
        let mut documents = Documents::of(text, above);
        while let Some(document) = documents.next().map_err(|(line, reason)| (line, reason + helm_hint(text)))? {
            if !document.is_null() {
                self.document(&document);
            }
        }
        Ok(())
    }

    /// One JSON value, or several. Serde knows what is JSON; where its values stand is known by reading them as YAML, which they are.
    fn json(&mut self, text: &str) -> Result<(), Fault> {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let mut start = 0;
        while let Some(value) = stream.next() {
            value.map_err(|error| (Some(error.line()), format!("no valid JSON: {error}")))?;
            let end = stream.byte_offset();
            self.yaml(&text[start..end], lines(&text.as_bytes()[..start]))?;
            start = end;
        }
        Ok(())
    }

    fn document(&mut self, document: &Node<'_>) {
        let is_list = document.get("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
        let items = document.get("items").filter(|_| is_list).map(|items| &items.value);
        match items {
            Some(Value::List(items)) => items.iter().for_each(|item| self.object(item)),
            _ => self.object(document),
        }
    }

    fn object(&mut self, node: &Node<'_>) {
        match kind(node) {
            Ok(Some(kind)) => match convert(kind, node) {
                Ok(object) => self.contents.objects.push((node.line, object)),
                Err(faults) => self.faults.extend(faults),
            },
            Ok(None) => {
                let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::text).unwrap_or("without a name");
                let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
                self.contents.foreign.push(format!("{kind} {name}"));
            }
            Err(fault) => self.faults.push(fault),
        }
    }

    fn end(mut self) -> Result<Contents, Vec<Fault>> {
        let mut seen = HashMap::new();
        for (line, object) in &self.contents.objects {
            let identity = object.identity();
            if let Some(first) = seen.insert(identity.clone(), line) {
                self.faults.push((Some(*line), format!("{identity} is in this file twice, at lines {first} and {line}; remove one")));
            }
        }
        if self.faults.is_empty() {
            return Ok(self.contents);
        }
        self.faults.sort();
        let more = self.faults.len().saturating_sub(MAX_FAULTS);
        self.faults.truncate(MAX_FAULTS);
        if more > 0 {
            self.faults.push((None, format!("there are {more} more errors")));
        }
        Err(self.faults)
    }
}

/// Which of our kinds an object is of; nothing where it is of another API group.
fn kind(node: &Node<'_>) -> Result<Option<Kind>, Fault> {
    let at = |field: &str| Some(node.line_of(&crd::FieldPath::of([field]), None));
    let field = |name: &str| node.get(name).and_then(Node::text).filter(|text| !text.is_empty());
    let (Some(kind), Some(version)) = (field("kind"), field("apiVersion")) else {
        return Err((
            Some(node.line),
            format!("this is no manifest: it needs apiVersion: {API_VERSION} and kind: {}", Kind::NAMES.join(" or ")),
        ));
    };
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let known = Kind::named(kind);
    if group != GROUP {
        let is_meant = known.is_some() || nearest(group, [GROUP]).is_some();
        return if is_meant {
            Err((at("apiVersion"), format!("{kind} is in apiVersion {API_VERSION}, not in {group:?}")))
        } else {
            Ok(None)
        };
    }
    if known.is_none() {
        return Err((
            at("kind"),
            format!("unknown kind {kind}{}; there are {}", did_you_mean(kind, Kind::NAMES), Kind::NAMES.join(" and ")),
        ));
    }
    if version != VERSION {
        return Err((at("apiVersion"), format!("unknown version {version} of {GROUP}; write apiVersion: {API_VERSION}")));
    }
    Ok(known)
}

fn convert(kind: Kind, node: &Node<'_>) -> Result<Object, Vec<Fault>> {
    let json = fields::check(kind, node)?;
    let invalid = |error: Invalid| vec![(Some(node.line_of(&error.field(), error.line_in_field())), error.to_string())];
    match kind {
        Kind::Profile => crd::profile(&typed(json, node)?).map(|profile| Object::Profile(Arc::new(profile))).map_err(invalid),
        Kind::Assignment => {
            crd::assignment(&typed(json, node)?).map(|assignment| Object::Assignment(Arc::new(assignment))).map_err(invalid)
        }
    }
}

/// After the fields were checked, only the spelling of a time can be wrong.
fn typed<T: DeserializeOwned>(json: serde_json::Value, node: &Node<'_>) -> Result<T, Vec<Fault>> {
    serde_json::from_value(json).map_err(|error| {
        let line = node.line_of(&crd::FieldPath::of(["metadata", "creationTimestamp"]), None);
        vec![(Some(line), format!("metadata: {error}"))]
    })
}

/// Jinja has none of these, so that the templates of a Profile are not taken for Helm's.
fn helm_hint(text: &str) -> &'static str {
    const SIGNS: [&str; 10] =
        ["{{ .", "{{.", "{{- .", "{{ if ", "{{- if ", "{{- end", "{{- range ", "{{- with ", "{{ include ", "{{- include "];
    let is_helm = SIGNS.iter().any(|sign| text.contains(sign));
    if is_helm { "; this looks like a Helm template: render it first, with `helm template`" } else { "" }
}

// === impl Kind ===

impl Kind {
    const NAMES: [&str; 2] = ["Profile", "Assignment"];

    fn named(name: &str) -> Option<Self> {
        [Self::Profile, Self::Assignment].into_iter().zip(Self::NAMES).find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }
}

// === impl Object ===

impl Object {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Profile(profile) => Identity { kind: Kind::Profile, key: profile.key.clone() },
            Self::Assignment(assignment) => Identity { kind: Kind::Assignment, key: assignment.key.clone() },
        }
    }
}

// === impl Identity ===

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.key)
    }
}

#[cfg(test)]
mod tests;
