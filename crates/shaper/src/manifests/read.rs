//! From the bytes of one file to objects.

use std::sync::Arc;

use boot::nearest::did_you_mean;
use boot::{Assignment, ObjectKey, Profile};
use crd::{FieldPath, GROUP, VERSION};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Budget, Options};

use super::fields;
use super::lines::line_of;

/// Largest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

const KINDS: [&str; 2] = ["Profile", "Assignment"];

/// One object of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Profile(Arc<Profile>),
    Assignment(Arc<Assignment>),
}

/// Kind, namespace and name: no two objects share them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Identity {
    pub(super) is_profile: bool,
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

impl Object {
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Profile(profile) => Identity { is_profile: true, key: profile.key.clone() },
            Self::Assignment(assignment) => Identity { is_profile: false, key: assignment.key.clone() },
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", if self.is_profile { KINDS[0] } else { KINDS[1] }, self.key)
    }
}

/// Reads a file. All of its faults are found, as far as they don't hide each other.
pub(super) fn read(bytes: &[u8], is_json: bool) -> Result<Contents, Vec<Fault>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        vec![(Some(line), "the file is not UTF-8; save it as UTF-8".to_owned())]
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let documents = if is_json { json(text) } else { yaml(text) }.map_err(|fault| vec![fault])?;
    let mut contents = Contents::default();
    let mut faults = Vec::new();
    for (line, document) in documents {
        for item in items(document) {
            match object(text, line, item) {
                Ok(Read::Object(object)) => contents.objects.push((line, object)),
                Ok(Read::Foreign(name)) => contents.foreign.push(name),
                Ok(Read::Nothing) => {}
                Err(fault) => faults.push(fault),
            }
        }
    }
    twice(&contents.objects, &mut faults);
    if faults.is_empty() { Ok(contents) } else { Err(faults) }
}

enum Read {
    Object(Object),
    Foreign(String),
    Nothing,
}

fn twice(objects: &[(usize, Object)], faults: &mut Vec<Fault>) {
    let mut seen = std::collections::BTreeMap::new();
    for (line, object) in objects {
        if let Some(first) = seen.insert(object.identity(), line) {
            faults.push((Some(*line), format!("{} is in this file twice, at lines {first} and {line}; remove one", object.identity())));
        }
    }
}

/// Documents with the line at which each starts.
fn yaml(text: &str) -> Result<Vec<(usize, Value)>, Fault> {
    let mut options = Options::default();
    // Sized for a file of 64 MiB; what an alias repeats is bounded as it is by default.
    let bytes = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX);
    let mut budget = Budget::default();
    (budget.max_events, budget.max_nodes, budget.max_total_scalar_bytes) = (bytes, bytes, bytes);
    options.budget = Some(budget);
    let mut documents = Vec::new();
    for (line, part) in parts(text) {
        // Each document is parsed by itself: an error then has the right place, and a bomb in one is not multiplied by the others.
        let value: Option<Value> = serde_saphyr::from_str_with_options(part, options.clone()).map_err(|error| {
            let at = error.location().map_or(1, |location| usize::try_from(location.line()).unwrap_or(1));
            (Some(line + at.max(1) - 1), format!("no valid YAML: {}{}", first_line(&error.to_string()), helm_hint(part)))
        })?;
        documents.extend(value.map(|value| (line, value)));
    }
    Ok(documents)
}

/// A stream split at its `---` lines: the line at which each part starts, and its text.
fn parts(text: &str) -> Vec<(usize, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut first) = (0, 1);
    let (mut offset, mut line) = (0, 1);
    for raw in text.split_inclusive('\n') {
        let is_separator = raw.starts_with("---") && raw[3..].chars().next().is_none_or(char::is_whitespace);
        if is_separator {
            parts.push((first, &text[start..offset]));
            (start, first) = (offset, line);
        }
        offset += raw.len();
        line += 1;
    }
    parts.push((first, &text[start..]));
    parts.retain(|(_, part)| part.lines().any(|line| !(line.trim().is_empty() || line.starts_with('#') || line.trim() == "---")));
    parts
}

fn json(text: &str) -> Result<Vec<(usize, Value)>, Fault> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    loop {
        let line = text[..stream.byte_offset()].matches('\n').count() + 1;
        match stream.next() {
            None => return Ok(documents),
            Some(Ok(value)) => documents.push((line, value)),
            Some(Err(error)) => return Err((Some(error.line()), format!("no valid JSON: {error}"))),
        }
    }
}

/// The items of a `kind: List`, as kubectl writes it, or the document itself.
fn items(document: Value) -> Vec<Value> {
    match document {
        Value::Object(mut object) if object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) => {
            match object.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn object(text: &str, start: usize, value: Value) -> Result<Read, Fault> {
    let at_path = |path: &FieldPath, reason: String| (Some(line_of(text, start, path)), reason);
    let at = |field: &str, reason: String| at_path(&FieldPath::of([field]), reason);
    if value.is_null() {
        return Ok(Read::Nothing);
    }
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let (Some(kind), Some(version)) = (field("kind"), field("apiVersion")) else {
        return Err(at("kind", format!("no manifest: it needs apiVersion ({GROUP}/{VERSION}) and kind ({})", KINDS.join(" or "))));
    };
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    if group != GROUP {
        let is_ours = KINDS.contains(&kind) || boot::nearest::nearest(group, [GROUP]).is_some();
        if is_ours {
            return Err(at("apiVersion", format!("{kind} of {group:?} is not shaper's; write apiVersion: {GROUP}/{VERSION}")));
        }
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        return Ok(Read::Foreign(format!("{kind} {name}")));
    }
    if !KINDS.contains(&kind) {
        return Err(at("kind", format!("unknown kind {kind}{}; there are {}", did_you_mean(kind, KINDS), KINDS.join(" and "))));
    }
    if version != VERSION {
        return Err(at("apiVersion", format!("unknown version {version} of {GROUP}; this shaper knows {VERSION}")));
    }
    if let Some((path, reason)) = fields::unknown(kind, &value) {
        return Err(at_path(&path, reason));
    }
    let invalid = |error: crd::Invalid| {
        let (line, reason) = at_path(&error.field(), error.to_string());
        // Of a template, the line in its block scalar, which starts on the line after its field.
        (line.map(|line| line + error.line_in_field().unwrap_or(0)), reason)
    };
    if kind == "Profile" {
        let profile: crd::Profile = typed(value).map_err(|reason| at("spec", reason))?;
        return crd::profile(&profile).map(|profile| Read::Object(Object::Profile(Arc::new(profile)))).map_err(invalid);
    }
    let assignment: crd::Assignment = typed(value).map_err(|reason| at("spec", reason))?;
    crd::assignment(&assignment).map(|assignment| Read::Object(Object::Assignment(Arc::new(assignment)))).map_err(invalid)
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn helm_hint(text: &str) -> &'static str {
    if text.contains("{{ .") || text.contains("{{- ") || text.contains("{{.") {
        "; this looks like a Helm template: render it first with `helm template`"
    } else {
        ""
    }
}
