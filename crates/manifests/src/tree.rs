//! Parses YAML and JSON into a tree with line numbers.
//!
//! Serde loses the positions of values, and an operator needs the line. So this module reads the
//! events of the parser that serde-saphyr is built on. The same parser reads JSON, a subset of
//! YAML.

use std::borrow::Cow;
use std::collections::HashMap;

use crd::{FieldPath, PathSegment};
use granit_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::fault::Fault;
use super::spot::Spot;

/// Maximum nesting depth of maps and lists.
const MAX_DEPTH: usize = 64;
/// Maximum number of values in a document. An Assignment has about 20, so 100,000 of them fit four
/// times over.
const MAX_NODES: usize = 8_000_000;
/// Maximum number of values that a file may repeat by aliases, which defuses YAML bombs.
const MAX_REPEATED: usize = 100_000;
/// Maximum number of bytes of text that a file may repeat by aliases.
const MAX_REPEATED_BYTES: usize = 16 * 1024 * 1024;

/// A value and its start.
#[derive(Clone, Debug)]
pub(super) struct Node<'t> {
    pub(super) spot: Spot,
    pub(super) value: Value<'t>,
}

#[derive(Clone, Debug)]
pub(super) enum Value<'t> {
    /// An unquoted scalar, which may be a number, a boolean or null.
    Plain(Cow<'t, str>),
    /// A string. Each line of a literal block is a line of the file.
    Text {
        text: Cow<'t, str>,
        is_literal: bool,
    },
    List(Vec<Node<'t>>),
    Map(Vec<Entry<'t>>),
}

/// An entry of a map, with the position of its key.
#[derive(Clone, Debug)]
pub(super) struct Entry<'t> {
    pub(super) key: Cow<'t, str>,
    pub(super) spot: Spot,
    pub(super) node: Node<'t>,
}

/// Iterates over the documents of a stream.
pub(super) struct Documents<'t> {
    parser: Parser<'t, granit_parser::StrInput<'t>>,
    above: usize,
    anchors: HashMap<usize, Anchored<'t>>,
    nodes: usize,
    repeated: Size,
}

/// A value that aliases may repeat.
struct Anchored<'t> {
    node: Node<'t>,
    size: Size,
}

/// The size of a value with all that is in it.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    /// Of all texts.
    bytes: usize,
}

// === impl Documents ===

impl<'t> Documents<'t> {
    /// Starts reading a text with this many lines above it in its file.
    pub(super) fn of(text: &'t str, above: usize) -> Self {
        let options = granit_parser::options! { emit_comments: false };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            above,
            anchors: HashMap::new(),
            nodes: 0,
            repeated: Size::default(),
        }
    }

    /// Returns the next document, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Node<'t>>, Fault> {
        loop {
            match self.event()? {
                None | Some((Event::StreamEnd, _)) => return Ok(None),
                Some((Event::DocumentStart(..), _)) => {
                    self.anchors.clear();
                    self.nodes = 0;
                    return self.node(0).map(Some);
                }
                Some(_) => {}
            }
        }
    }

    fn event(&mut self) -> Result<Option<(Event<'t>, Span)>, Fault> {
        let above = self.above;
        let invalid = |error: granit_parser::ScanError| {
            let (line, column) = (
                above + error.marker().line().max(1),
                error.marker().col() + 1,
            );
            Fault::file(
                Some(Spot::new(line, column..column + 1)),
                format!("not valid YAML: {}", error.info()),
            )
        };
        self.parser.next_event().transpose().map_err(invalid)
    }

    fn node(&mut self, depth: usize) -> Result<Node<'t>, Fault> {
        let (event, span) = self
            .event()?
            .ok_or_else(|| Fault::file(None, "not valid YAML: the file ends too early"))?;
        self.node_of(event, span, depth)
    }

    fn node_of(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node<'t>, Fault> {
        let spot = spot_of(&span, self.above);
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Fault::file(
                Some(spot),
                format!("more than {MAX_NODES} values in one document; split it"),
            ));
        }
        if depth > MAX_DEPTH {
            return Err(Fault::file(
                Some(spot),
                format!("maps and lists are nested more than {MAX_DEPTH} deep"),
            ));
        }
        let before = self.nodes;
        let (anchor, value) = match event {
            Event::Alias(id) => return self.repeat(id, spot),
            Event::Scalar(text, style, anchor, tag) => {
                (anchor, scalar(text, style, tag.as_deref(), spot)?)
            }
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "seq", spot)?;
                (anchor, self.list(depth)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), "map", spot)?;
                (anchor, self.map(depth)?)
            }
            _ => {
                return Err(Fault::file(
                    Some(spot),
                    "not valid YAML: a value is missing",
                ));
            }
        };
        let node = Node { spot, value };
        if anchor != 0 {
            let size = Size {
                nodes: self.nodes - before + 1,
                bytes: node.text_bytes(),
            };
            self.spend(size, spot)?;
            let node = node.clone();
            self.anchors.insert(anchor, Anchored { node, size });
        }
        Ok(node)
    }

    /// Returns the value of an alias, at the position of the alias.
    fn repeat(&mut self, anchor: usize, spot: Spot) -> Result<Node<'t>, Fault> {
        let Some(size) = self.anchors.get(&anchor).map(|anchored| anchored.size) else {
            return Err(Fault::file(
                Some(spot),
                "this alias refers to a value that contains it",
            ));
        };
        self.spend(size, spot)?;
        self.nodes += size.nodes;
        Ok(Node {
            spot,
            value: self.anchors[&anchor].node.value.clone(),
        })
    }

    fn spend(&mut self, size: Size, spot: Spot) -> Result<(), Fault> {
        self.repeated.nodes += size.nodes;
        self.repeated.bytes += size.bytes;
        let too_much = if self.repeated.nodes > MAX_REPEATED {
            format!("{MAX_REPEATED} values")
        } else if self.repeated.bytes > MAX_REPEATED_BYTES {
            format!("{MAX_REPEATED_BYTES} bytes (16 MiB)")
        } else {
            return Ok(());
        };
        Err(Fault::file(
            Some(spot),
            format!("aliases repeat more than {too_much}; write them out in several files"),
        ))
    }

    fn list(&mut self, depth: usize) -> Result<Value<'t>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.event()? {
                Some((Event::SequenceEnd, _)) | None => return Ok(Value::List(items)),
                Some((event, span)) => items.push(self.node_of(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value<'t>, Fault> {
        let mut entries: Vec<Entry<'t>> = Vec::new();
        let mut seen = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = match self.event()? {
                Some((Event::MappingEnd, _)) | None => break,
                Some(event) => event,
            };
            let key = self.node_of(event, span, depth + 1)?;
            let spot = key.spot;
            let node = self.node(depth + 1)?;
            let key = match key.value {
                Value::Plain(text) if text == "<<" => {
                    merged.push(node);
                    continue;
                }
                Value::Plain(text) | Value::Text { text, .. } => text,
                Value::List(_) | Value::Map(_) => {
                    return Err(Fault::file(Some(spot), "the key of a map must be text"));
                }
            };
            if let Some(first) = seen.insert(key.clone(), spot.line) {
                let reason = format!(
                    "{key:?} is in this map twice, at lines {first} and {}; remove one",
                    spot.line
                );
                return Err(Fault::file(Some(spot), reason));
            }
            entries.push(Entry { key, spot, node });
        }
        for node in merged {
            merge(node, &mut entries, &mut seen)?;
        }
        Ok(Value::Map(entries))
    }
}

/// Resolves `<<: *alias`: adds the entries of another map, except those that exist already.
fn merge<'t>(
    node: Node<'t>,
    entries: &mut Vec<Entry<'t>>,
    seen: &mut HashMap<Cow<'t, str>, u32>,
) -> Result<(), Fault> {
    match node.value {
        Value::Map(others) => {
            for other in others {
                if !seen.contains_key(&other.key) {
                    seen.insert(other.key.clone(), other.spot.line);
                    entries.push(other);
                }
            }
            Ok(())
        }
        Value::List(maps) => maps
            .into_iter()
            .try_for_each(|map| merge(map, entries, seen)),
        _ => Err(Fault::file(
            Some(node.spot),
            "the value of << must be a map or a list of maps",
        )),
    }
}

fn scalar<'t>(
    text: Cow<'t, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    spot: Spot,
) -> Result<Value<'t>, Fault> {
    match tag.map(|tag| tag.core_suffix()) {
        None if style == ScalarStyle::Plain => Ok(Value::Plain(text)),
        Some(Some("int" | "float" | "bool" | "null")) => Ok(Value::Plain(text)),
        None | Some(Some("str")) => Ok(Value::Text {
            text,
            is_literal: style == ScalarStyle::Literal,
        }),
        Some(_) => Err(unknown_tag(tag, spot)),
    }
}

fn check_tag(tag: Option<&Tag>, allowed: &str, spot: Spot) -> Result<(), Fault> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(allowed) => Err(unknown_tag(Some(tag), spot)),
        _ => Ok(()),
    }
}

fn unknown_tag(tag: Option<&Tag>, spot: Spot) -> Fault {
    let tag = tag.map(Tag::original).unwrap_or_default();
    Fault::file(Some(spot), format!("unknown tag {tag}; remove it"))
}

/// Returns the position of a parsed value or key.
fn spot_of(span: &Span, above: usize) -> Spot {
    let (start, end) = (span.start, span.end);
    let column = start.col() + 1;
    let end = if start.line() == end.line() && end.col() + 1 > column {
        end.col() + 1
    } else {
        0
    };
    Spot::new(
        above + start.line(),
        if end == 0 { 0..0 } else { column..end },
    )
}

// === impl Node ===

impl<'t> Node<'t> {
    /// Returns the number of bytes of all texts in this value.
    fn text_bytes(&self) -> usize {
        match &self.value {
            Value::Plain(text) | Value::Text { text, .. } => text.len(),
            Value::List(items) => items.iter().map(Self::text_bytes).sum(),
            Value::Map(entries) => {
                let bytes = |entry: &Entry<'_>| entry.key.len() + entry.node.text_bytes();
                entries.iter().map(bytes).sum()
            }
        }
    }

    /// Returns the value of a map's entry.
    pub(super) fn get(&self, key: &str) -> Option<&Node<'t>> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// Returns the text, quoted or not.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Text { text, .. } => Some(text),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Whether the value is null or empty.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Plain(text) if meaning(text) == Meaning::Null)
    }

    /// Returns the position of a field: of its value if that is a text on one line, otherwise of
    /// its key. For a missing field, the position of its closest existing parent.
    pub(super) fn spot_of(&self, field: &FieldPath) -> Spot {
        self.follow(field).0
    }

    /// Returns the position of a field's key.
    pub(super) fn key_spot_of(&self, field: &FieldPath) -> Spot {
        self.follow(field).1
    }

    /// Returns the file's line for a line of a field's text, and that line of the text, if the file
    /// contains the text line by line.
    pub(super) fn line_in(&self, field: &FieldPath, inner: usize) -> Option<(usize, &str)> {
        let (_, key, node) = self.follow(field);
        match &node?.value {
            Value::Text {
                text,
                is_literal: true,
            } => Some((
                key.line as usize + inner,
                text.split('\n').nth(inner - 1).unwrap_or_default(),
            )),
            _ => None,
        }
    }

    /// Returns the position of the value or key, that of the key, and the value if it exists.
    fn follow(&self, field: &FieldPath) -> (Spot, Spot, Option<&Node<'t>>) {
        let (mut node, mut key) = (self, self.spot);
        for segment in field.segments() {
            let next = match segment {
                PathSegment::Key(key) => node.entry(key).map(|entry| (&entry.node, entry.spot)),
                PathSegment::Index(index) => node.item(*index).map(|item| (item, item.spot)),
            };
            let Some((below, at)) = next else {
                return (key, key, None);
            };
            (node, key) = (below, at);
        }
        (node.spot_or(key), key, Some(node))
    }

    /// Returns the position of the value if it is a text on one line, otherwise the given position
    /// of its key.
    pub(super) fn spot_or(&self, key: Spot) -> Spot {
        match &self.value {
            Value::Plain(text) if text.is_empty() => key,
            Value::Plain(_)
            | Value::Text {
                is_literal: false, ..
            } if self.spot.end > 0 => self.spot,
            _ => key,
        }
    }

    /// Returns the value as JSON, unquoted scalars by their meaning to kubectl. An error is the rest
    /// of a sentence about the value.
    pub(super) fn to_json(&self) -> Result<serde_json::Value, String> {
        Ok(match &self.value {
            Value::Text { text, .. } => text.as_ref().into(),
            Value::Plain(text) => match meaning(text) {
                Meaning::Null => serde_json::Value::Null,
                Meaning::Boolean(value) => value.into(),
                Meaning::Integer(number) => number.into(),
                Meaning::Number => {
                    let number = text.replace('_', "").parse().ok();
                    let number = number.and_then(serde_json::Number::from_f64);
                    let number = number.ok_or_else(|| format!(": {text} is not a number of JSON"));
                    serde_json::Value::Number(number?)
                }
                Meaning::Text => text.as_ref().into(),
            },
            Value::List(items) => {
                let items = items.iter().map(Node::to_json);
                items.collect::<Result<_, _>>()?
            }
            Value::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|entry| Ok((entry.key.to_string(), entry.node.to_json()?)));
                serde_json::Value::Object(entries.collect::<Result<_, String>>()?)
            }
        })
    }

    fn entry(&self, key: &str) -> Option<&Entry<'t>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    fn item(&self, index: usize) -> Option<&Node<'t>> {
        match &self.value {
            Value::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// The meaning of an unquoted scalar to kubectl: booleans as in YAML 1.1, numbers as in YAML 1.2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Meaning {
    Null,
    Boolean(bool),
    Integer(i64),
    /// A number that no field of shaper can have.
    Number,
    Text,
}

/// Returns the meaning of an unquoted scalar.
pub(super) fn meaning(text: &str) -> Meaning {
    let Some(first) = text.bytes().next() else {
        return Meaning::Null;
    };
    match text {
        "~" | "null" | "Null" | "NULL" => return Meaning::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Meaning::Boolean(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Meaning::Boolean(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | "-.Inf" | "-.INF" | ".nan" | ".NaN"
        | ".NAN" => return Meaning::Number,
        _ => {}
    }
    // Words that Rust parses as numbers, such as `infinity`, start with a letter.
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.'))
        || text.bytes().skip(1).any(|b| b == b'n' || b == b'N')
    {
        return Meaning::Text;
    }
    let plain = text.replace('_', "");
    if let Ok(integer) = plain.parse() {
        return Meaning::Integer(integer);
    }
    let in_base = |prefix, base| {
        plain
            .strip_prefix(prefix)
            .map(|digits| i64::from_str_radix(digits, base))
    };
    match in_base("0x", 16)
        .or_else(|| in_base("0o", 8))
        .or_else(|| in_base("0b", 2))
    {
        Some(Ok(integer)) => Meaning::Integer(integer),
        _ if plain.parse::<f64>().is_ok() => Meaning::Number,
        _ => Meaning::Text,
    }
}
