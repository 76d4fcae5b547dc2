//! Parses the bytes of one file into objects.

use std::collections::HashMap;
use std::sync::Arc;

use boot::nearest::{did_you_mean, nearest};
use boot::{Assignment, Change, Machine, ObjectKey, ObjectRef, Partial, Profile, Rejected};
use crd::{API_VERSION, FieldPath, GROUP, Invalid, VERSION};
use review::{Reviewed, Rule, Severity, rule};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::fault::Fault;
use super::fields;
use super::finding::{self, Lines};
use super::kind::Kind;
use super::spot::Spot;
use super::tree::{Documents, Meaning, Node, Value, meaning};

mod block_scalar;
mod helm;

pub(super) use helm::hint_for_line;

/// Maximum size of a file.
pub(super) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// Maximum number of faults reported per file.
pub(super) const MAX_FAULTS: usize = 20;
/// Maximum number of errors, and of warnings, that a review reports for each piece of a file.
const MAX_REVIEW_FAULTS: usize = 1_000;
/// Maximum number of invalid Assignments whose readable parts are kept for a folder.
pub(super) const MAX_INVALID: usize = 20_000;
/// Maximum number of foreign objects that are named.
const MAX_FOREIGN: usize = 1_000;

/// An object of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Profile(Arc<Profile>),
    Assignment(Arc<Assignment>),
    Machine(Arc<Machine>),
}

/// The positions in an object that findings of checks across objects refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spots {
    /// The start of the object.
    pub(super) object: Spot,
    pub(super) name: Spot,
    pub(super) labels: Spot,
    pub(super) subject_selectors: Spot,
    pub(super) profile_selectors: Spot,
}

/// The contents of a file: objects, and foreign kinds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Contents {
    pub(super) objects: Vec<(Spots, Object)>,
    /// The foreign objects, up to [`MAX_FOREIGN`].
    pub(super) foreign: Vec<String>,
    pub(super) more_foreign: usize,
    /// Invalid objects, with the labels of a Profile or those that an Assignment selects, so that
    /// follow-up findings about others can be suppressed.
    pub(super) invalid_labels: Vec<(ObjectRef, boot::Labels)>,
    /// The readable parts of these objects.
    pub(super) rejected: Vec<Rejected>,
}

/// A file that is rejected because of a fault.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken {
    pub(super) faults: Vec<Fault>,
    /// The readable parts of its objects, including the valid ones, with the fault of the object
    /// itself, if any.
    pub(super) partials: Vec<(Partial, Option<String>)>,
    /// Invalid Assignments beyond [`Room::invalid`] that hold machines.
    pub(super) beyond: Vec<ObjectRef>,
}

/// How much is kept of a broken file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Maximum number of faults.
    pub(super) faults: usize,
    /// Maximum number of invalid Assignments whose readable parts are kept.
    pub(super) invalid: usize,
}

/// Reads a file. Finds all faults, except those that others hide, and returns the first ones.
pub(super) fn read(bytes: &[u8], is_json: bool, room: Room) -> Result<Contents, Broken> {
    let text = text(bytes).map_err(|fault| Broken {
        faults: vec![fault],
        ..Broken::default()
    })?;
    let mut reading = Reading {
        max_faults: room.faults,
        max_invalid: room.invalid,
        ..Reading::default()
    };
    if let Err(fault) = if is_json {
        reading.json(text)
    } else {
        reading.yaml(text, 0)
    } {
        reading.add_fault(fault);
    }
    reading.end()
}

/// Reads a text with this many lines above it in its file, and returns all errors and warnings
/// about each object.
pub(super) fn review(text: &str, is_json: bool, above: usize) -> (Contents, Vec<Fault>) {
    let mut reading = Reading {
        is_review: true,
        max_faults: MAX_REVIEW_FAULTS,
        ..Reading::default()
    };
    if let Err(fault) = if is_json {
        reading.json(text)
    } else {
        reading.yaml(text, above)
    } {
        reading.add_fault(fault);
    }
    let mut faults = reading.faults;
    faults.extend(reading.more_errors.sentence("errors"));
    faults.extend(reading.more_warnings.sentence("warnings"));
    (reading.contents, faults)
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = lines(&bytes[..error.valid_up_to()]) + 1;
        Fault::file(
            Some(Spot::line(line)),
            "the file is not UTF-8; save it as UTF-8",
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Fault::file(
            None,
            "the file is empty; remove it or add objects",
        ));
    }
    Ok(text)
}

pub(super) fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// The state of reading a file.
#[derive(Default)]
struct Reading {
    contents: Contents,
    faults: Vec<Fault>,
    /// Maximum number of errors, and of warnings, in `faults`.
    max_faults: usize,
    errors: usize,
    more_errors: Omitted,
    more_warnings: Omitted,
    partials: Vec<(Partial, Option<String>)>,
    max_invalid: usize,
    beyond: Vec<ObjectRef>,
    /// Whether to collect warnings, in addition to errors.
    is_review: bool,
}

/// Faults that are counted only.
#[derive(Default)]
struct Omitted {
    count: usize,
    /// The rule of the first.
    rule: Option<&'static Rule>,
}

// === impl Omitted ===

impl Omitted {
    fn add(&mut self, rule: &'static Rule) {
        self.count += 1;
        self.rule.get_or_insert(rule);
    }

    /// Returns a fault that says how many there are.
    fn sentence(&self, noun: &str) -> Option<Fault> {
        let rule = self.rule?;
        Some(Fault::new(
            rule,
            None,
            format!("{} more {noun} that are not listed", self.count),
        ))
    }
}

// === impl Reading ===

impl Reading {
    /// Reads YAML with this many lines above it in the file.
    fn yaml(&mut self, text: &str, above: usize) -> Result<(), Fault> {
        let mut documents = Documents::of(text, above);
        let lines = Lines::of(text, above);
        let hinted = |fault: Fault| {
            let line = fault.line().unwrap_or_default().saturating_sub(above);
            match block_scalar::unindented(text, line) {
                Some(found) => Fault::file(
                    Some(Spot::line(above + found.line)),
                    format!(
                        "this line belongs to the text of `{}` from line {}, and is not indented more than that key; indent it",
                        found.key,
                        above + found.key_line
                    ),
                ),
                None => Fault {
                    reason: fault.reason + helm::hint_for_file(text),
                    ..fault
                },
            }
        };
        while let Some(document) = documents.next().map_err(hinted)? {
            if !document.is_null() {
                self.document(&document, &lines);
            }
        }
        Ok(())
    }

    /// Reads one or several JSON values. Serde decides what is valid JSON; positions come from
    /// reading it as YAML, a superset of JSON.
    fn json(&mut self, text: &str) -> Result<(), Fault> {
        let mut stream = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
        let (mut start, mut above) = (0, 0);
        while let Some(value) = stream.next() {
            value.map_err(|error| {
                let spot = Spot::new(error.line(), error.column()..error.column() + 1);
                Fault::file(Some(spot), format!("not valid JSON: {error}"))
            })?;
            let end = stream.byte_offset();
            self.yaml(&text[start..end], above)?;
            above += lines(&text.as_bytes()[start..end]);
            start = end;
        }
        Ok(())
    }

    fn document(&mut self, document: &Node<'_>, lines: &Lines<'_>) {
        let is_list = document
            .get("kind")
            .and_then(Node::text)
            .is_some_and(|kind| kind.ends_with("List"));
        let items = document
            .get("items")
            .filter(|_| is_list)
            .map(|items| &items.value);
        match items {
            Some(Value::List(items)) => items.iter().for_each(|item| self.object(item, lines)),
            _ => self.object(document, lines),
        }
    }

    fn object(&mut self, node: &Node<'_>, lines: &Lines<'_>) {
        match kind(node) {
            Ok(Some(kind)) if self.is_review => match reviewed(kind, node, lines) {
                Ok((object, faults)) => {
                    match object {
                        Some(object) => self.contents.objects.push((spots(node), object)),
                        None => self.refuse(kind, node, &faults),
                    }
                    self.add_faults(faults);
                }
                Err(faults) => {
                    self.refuse(kind, node, &faults);
                    self.add_faults(faults);
                }
            },
            Ok(Some(kind)) => match convert(kind, node) {
                Ok(object) => self.contents.objects.push((spots(node), object)),
                Err(faults) => {
                    let sentence = faults.first().map(Fault::sentence);
                    match partial(kind, node) {
                        Some(Partial::Assignment(_)) if self.partials.len() >= self.max_invalid => {
                            self.beyond.push(name(kind, node));
                        }
                        // It holds no machines.
                        Some(Partial::Unreadable { .. })
                            if self.partials.len() >= self.max_invalid => {}
                        Some(partial) => self.partials.push((partial, sentence)),
                        None => {}
                    }
                    self.add_faults(faults);
                }
            },
            Ok(None) => {
                let name = node
                    .get("metadata")
                    .and_then(|metadata| metadata.get("name"))
                    .and_then(Node::text)
                    .unwrap_or("without a name");
                let kind = node.get("kind").and_then(Node::text).unwrap_or_default();
                if self.contents.foreign.len() < MAX_FOREIGN {
                    self.contents.foreign.push(format!("{kind} {name}"));
                } else {
                    self.contents.more_foreign += 1;
                }
            }
            Err(fault) => self.add_fault(fault),
        }
    }

    fn add_faults(&mut self, faults: Vec<Fault>) {
        faults.into_iter().for_each(|fault| self.add_fault(fault));
    }

    /// Keeps a fault, or counts it if there are enough of its severity.
    fn add_fault(&mut self, fault: Fault) {
        let is_error = fault.rule.severity == Severity::Error;
        let (known, more) = if is_error {
            (self.errors, &mut self.more_errors)
        } else {
            (self.faults.len() - self.errors, &mut self.more_warnings)
        };
        if known >= self.max_faults {
            return more.add(fault.rule);
        }
        self.errors += usize::from(is_error);
        self.faults.push(fault);
    }

    fn refuse(&mut self, kind: Kind, node: &Node<'_>, faults: &[Fault]) {
        self.contents
            .invalid_labels
            .push((name(kind, node), labels(kind, node)));
        let fault = faults
            .iter()
            .find(|fault| fault.rule.severity == Severity::Error)
            .map(Fault::sentence)
            .unwrap_or_default();
        self.contents
            .rejected
            .extend(partial(kind, node).map(|partial| Rejected {
                partial,
                fault: fault.into(),
            }));
    }

    fn end(mut self) -> Result<Contents, Broken> {
        let mut seen = HashMap::new();
        let mut duplicates = Vec::new();
        for (spots, object) in &self.contents.objects {
            let (identity, line) = (object.name(), spots.object.line);
            if let Some(first) = seen.insert(identity.clone(), line) {
                let reason = format!(
                    "{identity} is in this file twice, at lines {first} and {line}; remove one"
                );
                duplicates.push(Fault::new(
                    &rule::DUPLICATE_OBJECT,
                    Some(spots.object),
                    reason,
                ));
            }
        }
        self.add_faults(duplicates);
        if self.faults.is_empty() {
            return Ok(self.contents);
        }
        self.faults
            .sort_by_cached_key(|fault| (fault.line(), fault.sentence()));
        if self.more_errors.count > 0 {
            let more = self.more_errors.count;
            self.faults
                .push(Fault::file(None, format!("{more} more errors")));
        }
        let mut partials = self.partials;
        partials.extend(
            self.contents
                .objects
                .iter()
                .map(|(_, object)| (object.partial(), None)),
        );
        Err(Broken {
            faults: self.faults,
            partials,
            beyond: self.beyond,
        })
    }
}

/// Returns the kind of an object; `None` if it belongs to another API group.
fn kind(node: &Node<'_>) -> Result<Option<Kind>, Fault> {
    let at = |field: &str| Some(node.spot_of(&crd::FieldPath::new([field])));
    let field = |name: &str| {
        node.get(name)
            .and_then(Node::text)
            .filter(|text| !text.is_empty())
    };
    let (Some(kind), Some(version)) = (field("kind"), field("apiVersion")) else {
        let reason = format!(
            "this is not a manifest: it needs apiVersion: {API_VERSION} and kind: {}",
            Kind::NAMES.join(" or ")
        );
        return Err(Fault::file(
            Some(Spot::line(node.spot.line as usize)),
            reason,
        ));
    };
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let known = Kind::named(kind);
    if group != GROUP {
        let is_meant = known.is_some() || nearest(group, [GROUP]).is_some();
        return if is_meant {
            Err(Fault::file(
                at("apiVersion"),
                format!("{kind} belongs to apiVersion {API_VERSION}, not to {group:?}"),
            ))
        } else {
            Ok(None)
        };
    }
    if known.is_none() {
        let reason = format!(
            "unknown kind {kind}{}; known kinds: {}",
            did_you_mean(kind, Kind::NAMES),
            Kind::NAMES.join(" and ")
        );
        return Err(Fault::file(at("kind"), reason));
    }
    if version != VERSION {
        return Err(Fault::file(
            at("apiVersion"),
            format!("unknown version {version} of {GROUP}; write apiVersion: {API_VERSION}"),
        ));
    }
    Ok(known)
}

fn convert(kind: Kind, node: &Node<'_>) -> Result<Object, Vec<Fault>> {
    let json = fields::check(kind, node)?;
    let fault = |field: &FieldPath, line: Option<usize>, sentence: String| {
        let line = line.and_then(|inner| node.line_in(field, inner));
        let spot = line.map_or_else(|| node.spot_of(field), |(line, _)| Spot::line(line));
        Fault::new(&rule::CONVERSION, Some(spot), sentence)
    };
    let invalid = |error: Invalid| match &error {
        Invalid::Field { field, .. } => vec![fault(field, None, error.to_string())],
        Invalid::Templates(errors) => errors
            .iter()
            .map(|error| fault(&crd::template_field(error), error.line, error.to_string()))
            .collect(),
    };
    match kind {
        Kind::Profile => crd::convert_profile(&typed(json, node)?)
            .map(|profile| Object::Profile(Arc::new(profile)))
            .map_err(invalid),
        Kind::Assignment => crd::convert_assignment(&typed(json, node)?)
            .map(|assignment| Object::Assignment(Arc::new(assignment)))
            .map_err(invalid),
        Kind::Machine => crd::convert_machine(&typed(json, node)?)
            .map(|machine| Object::Machine(Arc::new(machine)))
            .map_err(invalid),
    }
}

/// Returns the object, if it is valid, and all findings about it.
fn reviewed(
    kind: Kind,
    node: &Node<'_>,
    lines: &Lines<'_>,
) -> Result<(Option<Object>, Vec<Fault>), Vec<Fault>> {
    let named = |faults: Vec<Fault>| {
        faults
            .into_iter()
            .map(|fault| Fault {
                object: Some(Box::new(name(kind, node))),
                ..fault
            })
            .collect::<Vec<_>>()
    };
    let json = fields::check(kind, node).map_err(named)?;
    let (object, findings) = match kind {
        Kind::Profile => {
            let Reviewed { object, findings } = review::profile(&typed(json, node).map_err(named)?);
            (object.map(Object::Profile), findings)
        }
        Kind::Assignment => {
            let Reviewed { object, findings } =
                review::assignment(&typed(json, node).map_err(named)?);
            (object.map(Object::Assignment), findings)
        }
        Kind::Machine => {
            let Reviewed { object, findings } = review::machine(&typed(json, node).map_err(named)?);
            (object.map(Object::Machine), findings)
        }
    };
    Ok((
        object,
        findings
            .into_iter()
            .map(|finding| finding::fault(finding, node, lines))
            .collect(),
    ))
}

/// Returns the name of an object, as far as it has one.
fn name(kind: Kind, node: &Node<'_>) -> ObjectRef {
    let text = |field: &str| {
        node.get("metadata")
            .and_then(|metadata| metadata.get(field))
            .and_then(Node::text)
    };
    let key = |namespace: &str| ObjectKey::new(namespace, text("name").unwrap_or_default());
    let namespace = text("namespace").unwrap_or(crd::DEFAULT_NAMESPACE);
    match kind {
        Kind::Profile => ObjectRef::Profile(key(namespace)),
        Kind::Assignment => ObjectRef::Assignment(key(namespace)),
        Kind::Machine => ObjectRef::Machine(key("")),
    }
}

/// Returns the readable part of an invalid object.
fn partial(kind: Kind, node: &Node<'_>) -> Option<Partial> {
    let object = loose(node);
    match kind {
        Kind::Profile => crd::partial_profile(&object),
        Kind::Assignment => crd::partial_assignment(&object),
        Kind::Machine => crd::partial_machine(&object),
    }
}

/// Converts a value without its schema: what looks like a number may be a serial number.
fn loose(node: &Node<'_>) -> serde_json::Value {
    match &node.value {
        Value::Plain(text) if meaning(text) == Meaning::Null => serde_json::Value::Null,
        Value::Plain(text) | Value::Text { text, .. } => text.as_ref().into(),
        Value::List(items) => items.iter().map(loose).collect(),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.to_string(), loose(&entry.node)))
            .collect(),
    }
}

/// Returns the labels of a Profile, or those that an Assignment selects, as far as they can be
/// read.
fn labels(kind: Kind, node: &Node<'_>) -> boot::Labels {
    let map = match kind {
        Kind::Profile => node
            .get("metadata")
            .and_then(|metadata| metadata.get("labels")),
        Kind::Assignment => node
            .get("spec")
            .and_then(|spec| spec.get("profileSelectors")),
        Kind::Machine => None,
    };
    let Some(Value::Map(entries)) = map.map(|map| &map.value) else {
        return boot::Labels::default();
    };
    let labels = entries
        .iter()
        .filter_map(|entry| Some((entry.key.to_string(), entry.node.text()?.to_owned())))
        .collect();
    boot::profile::normalise_labels(&labels)
}

fn spots(node: &Node<'_>) -> Spots {
    let at = |path: &[&str]| node.spot_of(&crd::FieldPath::new(path.iter().copied()));
    Spots {
        object: Spot::line(node.spot.line as usize),
        name: at(&["metadata", "name"]),
        labels: at(&["metadata", "labels"]),
        subject_selectors: at(&["spec", "subjectSelectors"]),
        profile_selectors: at(&["spec", "profileSelectors"]),
    }
}

/// Deserializes an object. After the check of its fields, only the format of a time can be wrong.
fn typed<T: DeserializeOwned>(json: serde_json::Value, node: &Node<'_>) -> Result<T, Vec<Fault>> {
    serde_json::from_value(json).map_err(|error| {
        let spot = node.spot_of(&crd::FieldPath::new(["metadata", "creationTimestamp"]));
        vec![Fault::new(
            &rule::CONVERSION,
            Some(spot),
            format!("metadata: {error}"),
        )]
    })
}

// === impl Object ===

impl Object {
    pub(super) fn name(&self) -> ObjectRef {
        match self {
            Self::Profile(profile) => ObjectRef::Profile(profile.key.clone()),
            Self::Assignment(assignment) => ObjectRef::Assignment(assignment.key.clone()),
            Self::Machine(machine) => ObjectRef::Machine(machine.key.clone()),
        }
    }

    /// Returns the creation time, if the file states it.
    pub(super) fn created(&self) -> Option<jiff::Timestamp> {
        match self {
            Self::Profile(profile) => profile.created,
            Self::Assignment(assignment) => assignment.created,
            Self::Machine(machine) => machine.created,
        }
    }

    /// Returns the stand-in for a valid object that can't be used because others in its file are
    /// invalid.
    fn partial(&self) -> Partial {
        match self {
            Self::Profile(profile) => {
                let labels = profile
                    .labels
                    .iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                Partial::Profile(Arc::new(Profile::partial(
                    profile.key.clone(),
                    profile.created,
                    &labels,
                )))
            }
            Self::Assignment(assignment) => Partial::Assignment(assignment.clone()),
            Self::Machine(machine) => Partial::Machine(machine.clone()),
        }
    }

    pub(super) fn change(&self) -> Change {
        match self {
            Self::Profile(profile) => Change::Profile(profile.clone()),
            Self::Assignment(assignment) => Change::Assignment(assignment.clone()),
            Self::Machine(machine) => Change::Machine(machine.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
