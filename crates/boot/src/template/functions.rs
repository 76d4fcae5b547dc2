//! The filters, tests and functions that a template has.
//!
//! Each is linear in its input and its output. What nests, multiplies or compares many values is not here.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, filters, functions, tests};

use super::MAX_OUTPUT_BYTES;
use super::kind::Kind;

/// What a filter takes and gives.
pub(super) enum Signature {
    /// A text or number, to a text.
    Text,
    /// A text or number, to a number.
    Number,
    /// A text, to a list of texts.
    Texts,
    /// Anything, to a number.
    Measure,
    /// Anything, to a text.
    Print,
    /// Anything, to one of its items.
    Item,
    /// Anything, to the same.
    Same,
    /// A map, to its pairs of key and value.
    Pairs,
    /// Anything, to itself or to the argument.
    Default,
}

/// All filters, with what they take and give.
pub(super) const FILTERS: &[(&str, Signature)] = &[
    ("abs", Signature::Number),
    ("b64encode", Signature::Text),
    ("capitalize", Signature::Text),
    ("count", Signature::Measure),
    ("d", Signature::Default),
    ("default", Signature::Default),
    ("first", Signature::Item),
    ("float", Signature::Number),
    ("format", Signature::Text),
    ("indent", Signature::Text),
    ("int", Signature::Number),
    ("items", Signature::Pairs),
    ("join", Signature::Print),
    ("last", Signature::Item),
    ("length", Signature::Measure),
    ("lines", Signature::Texts),
    ("list", Signature::Same),
    ("lower", Signature::Text),
    ("nocloud", Signature::Text),
    ("replace", Signature::Text),
    ("reverse", Signature::Same),
    ("round", Signature::Number),
    ("split", Signature::Texts),
    ("string", Signature::Text),
    ("title", Signature::Text),
    ("tojson", Signature::Print),
    ("trim", Signature::Text),
    ("upper", Signature::Text),
    ("urlencode", Signature::Text),
];

/// All tests, as in `is defined`.
pub(super) const TESTS: &[&str] = &[
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "ge",
    "gt",
    "in",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
];

impl Signature {
    /// The kind of the result. An error says what the filter can't take.
    pub(super) fn apply(&self, input: Kind, arguments: impl Iterator<Item = Kind>) -> Result<Kind, &'static str> {
        let mut arguments = arguments.peekable();
        match self {
            Self::Text | Self::Number | Self::Texts if !input.is_scalar() => Err("takes a text; a list becomes one by |join(' ')"),
            Self::Default => Ok(arguments.fold(input, Kind::or)),
            _ if arguments.any(|argument| !argument.is_scalar()) => Err("takes only texts and numbers as arguments"),
            Self::Text | Self::Print => Ok(Kind::Scalar),
            Self::Number | Self::Measure => Ok(Kind::Number),
            Self::Texts => Ok(Kind::list_of(Kind::Scalar)),
            Self::Item => Ok(input.item()),
            Self::Same => Ok(if input.is_scalar() { Kind::list_of(Kind::Scalar).or(input) } else { input }),
            Self::Pairs => Ok(Kind::list_of(Kind::list_of(input.item().or(Kind::Scalar)))),
        }
    }
}

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("b64encode", b64encode);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("count", filters::length);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("format", filters::format);
    environment.add_filter("indent", filters::indent);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", filters::items);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lines", filters::lines);
    environment.add_filter("list", filters::list);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("nocloud", nocloud);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("reverse", filters::reverse);
    environment.add_filter("round", filters::round);
    environment.add_filter("split", filters::split);
    environment.add_filter("string", filters::string);
    environment.add_filter("title", filters::title);
    environment.add_filter("tojson", tojson);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("urlencode", urlencode);

    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("even", tests::is_even);
    environment.add_test("false", tests::is_false);
    environment.add_test("ge", tests::is_ge);
    environment.add_test("gt", tests::is_gt);
    environment.add_test("in", tests::is_in);
    environment.add_test("le", tests::is_le);
    environment.add_test("lt", tests::is_lt);
    environment.add_test("mapping", tests::is_mapping);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("sequence", tests::is_sequence);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("true", tests::is_true);
    environment.add_test("undefined", tests::is_undefined);

    environment.add_function("range", functions::range);
}

/// Base64 as `data:;base64,` URLs and cloud-init's `encoding: b64` take it (RFC 4648, section 4).
fn b64encode(text: &str) -> String {
    BASE64_STANDARD.encode(text)
}

/// Every byte but the unreserved of RFC 3986 as `%XX`.
fn urlencode(value: &Value) -> String {
    let mut out = String::new();
    crate::query::encode_into(&mut out, &value.to_string());
    out
}

/// The URL of a config as the seed of cloud-init's `NoCloud`: a folder, to whose name `user-data` and `meta-data` are appended.
fn nocloud(url: &str) -> String {
    format!("{}/", url.replacen('?', "/", 1))
}

/// JSON that ends at the size that any output may have, where minijinja's own would go on.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    if value.kind() == ValueKind::Invalid {
        return Err(Error::new(ErrorKind::BadSerialization, "the value holds an error"));
    }
    let mut out = Capped(Vec::new());
    let written = match indent {
        None => serde_json::to_writer(&mut out, value),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
            serde::Serialize::serialize(value, &mut serde_json::Serializer::with_formatter(&mut out, formatter))
        }
    };
    written.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    String::from_utf8(out.0).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

struct Capped(Vec<u8>);

impl std::io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(std::io::Error::other("the JSON is longer than 1 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
