//! The filters, tests and functions of templates.
//!
//! Each takes time linear in its input and output. Filters that nest, multiply or compare many
//! values are left out.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs, from_args};
use minijinja::{
    Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters, functions,
};

use super::MAX_OUTPUT_BYTES;
use super::kind::Kind;
use super::quoting;

/// Maximum number of items in a list that a filter or function returns. A slice of a list visits
/// all items before it.
pub(super) const MAX_ITEMS: usize = 1000;
/// Maximum number of characters that `trim` can strip at once; it compares each with each.
const MAX_TRIM_CHARS: usize = 16;

/// The input and output of a filter.
pub(super) enum Signature {
    /// Text or number to text.
    Text,
    /// Text or number to text of about the same length.
    Spelling,
    /// Text or number to number.
    Number,
    /// Text or number to number, or to the argument if it is not a number.
    Parse,
    /// Text to a list of text.
    Texts,
    /// Anything to number.
    Measure,
    /// Anything to text.
    Print,
    /// List of text to text.
    Join,
    /// Anything to one of its items.
    Item,
    /// Anything to a list.
    List,
    /// List or text to the same in reverse.
    Reverse,
    /// Map to its pairs of key and value.
    Pairs,
    /// Anything to itself or to the argument.
    Default,
}

/// All filters, with their signatures.
pub(super) const FILTERS: &[(&str, Signature)] = &[
    ("abs", Signature::Number),
    ("b64encode", Signature::Text),
    ("capitalize", Signature::Spelling),
    ("count", Signature::Measure),
    ("d", Signature::Default),
    ("default", Signature::Default),
    ("first", Signature::Item),
    ("float", Signature::Parse),
    ("format", Signature::Text),
    ("indent", Signature::Text),
    ("int", Signature::Parse),
    ("items", Signature::Pairs),
    ("join", Signature::Join),
    ("last", Signature::Item),
    ("length", Signature::Measure),
    ("lines", Signature::Texts),
    ("list", Signature::List),
    ("lower", Signature::Spelling),
    ("nocloud", Signature::Text),
    ("replace", Signature::Text),
    ("reverse", Signature::Reverse),
    ("round", Signature::Number),
    ("shquote", Signature::Text),
    ("split", Signature::Texts),
    ("string", Signature::Spelling),
    ("title", Signature::Spelling),
    ("tojson", Signature::Print),
    ("toyaml", Signature::Print),
    ("trim", Signature::Spelling),
    ("upper", Signature::Spelling),
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
    /// Returns the kind of the result. An error is the rest of a sentence about the filter.
    pub(super) fn apply(
        &self,
        input: Kind,
        arguments: impl Iterator<Item = Kind>,
    ) -> Result<Kind, &'static str> {
        let mut arguments = arguments.peekable();
        match self {
            Self::Text | Self::Spelling | Self::Number | Self::Parse | Self::Texts
                if !input.is_scalar() =>
            {
                Err("takes text; turn a list into text with |join(' ')")
            }
            Self::Default if arguments.peek().is_none() => Ok(input.or(Kind::Word)),
            Self::Default => Ok(arguments.fold(input, Kind::or)),
            Self::Parse => Ok(arguments.fold(Kind::Number, Kind::or)),
            _ if arguments.any(|argument| !argument.is_scalar()) => {
                Err("takes only text and numbers as arguments")
            }
            Self::Join if !input.item().is_scalar() => {
                Err("takes a list of text or numbers, not a list of lists")
            }
            Self::Text | Self::Print | Self::Join => Ok(Kind::Scalar),
            Self::Spelling if input == Kind::Json => Ok(Kind::Scalar),
            Self::Spelling => Ok(input.or(Kind::Word)),
            Self::Number | Self::Measure => Ok(Kind::Number),
            Self::Texts if input == Kind::Json => Ok(Kind::list_of(Kind::Scalar)),
            Self::Texts => Ok(Kind::list_of(input.or(Kind::Word))),
            Self::Item => Ok(input.item()),
            Self::List if matches!(input, Kind::Any | Kind::Json) => Ok(input),
            Self::List => Ok(Kind::list_of(input.item())),
            Self::Reverse => match input {
                Kind::List(item) => Ok(Kind::View(item)),
                Kind::Json => Ok(Kind::view_of(Kind::Json)),
                text if text.is_scalar() => Ok(text),
                _ => Err(
                    "takes text or a list; copy a slice, a reversed list or a range() with x|list first",
                ),
            },
            Self::Pairs => Ok(Kind::list_of(Kind::list_of(input.item().or(Kind::Word)))),
        }
    }
}

/// Registers replacements for minijinja's filters and functions that are not metered well enough.
///
/// `check` admits only [`FILTERS`] and [`TESTS`].
pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("b64encode", b64encode);
    environment.add_filter("format", format);
    environment.add_filter("abs", |value: &Value| filters::abs(defined(value)?.clone()));
    environment.add_filter("indent", indent);
    environment.add_filter("join", join);
    environment.add_filter("lines", |value: &Value| {
        bounded(filters::lines(defined(value)?)?)
    });
    environment.add_filter("list", |state: &State<'_, '_>, value: Value| {
        bounded(filters::list(state, defined(&value)?.clone())?)
    });
    environment.add_filter("nocloud", nocloud);
    environment.add_filter("round", round);
    environment.add_filter(
        "split",
        |value: &Value, by: Option<Arc<str>>, most: Option<i64>| {
            bounded(filters::split(defined(value)?, by, most)?)
        },
    );
    environment.add_filter("shquote", shquote);
    environment.add_filter("tojson", tojson);
    environment.add_filter("toyaml", toyaml);
    environment.add_filter("trim", trim);
    environment.add_filter("urlencode", urlencode);
    environment.add_function(
        "range",
        |low: isize, high: Option<isize>, step: Option<isize>| {
            bounded(functions::range(low, high, step)?)
        },
    );
}

/// Prints a value. Booleans are spelled as in JSON, YAML and shell scripts, rather than as in Python.
/// A variable can be a list or a map, which has no obvious text.
pub(super) fn print(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => Err(Error::new(
            ErrorKind::InvalidOperation,
            "a list or map can't be printed; write x|join(' '), x|tojson or x|toyaml",
        )),
        ValueKind::Bool => {
            let text = if value.is_true() { "true" } else { "false" };
            out.write_str(text).map_err(Error::from)
        }
        _ => escape_formatter(out, state, value),
    }
}

/// Returns the value unless it is undefined. A filter that turned an undefined value into text
/// would hide that it is missing.
fn defined(value: &Value) -> Result<&Value, Error> {
    if value.is_undefined() {
        Err(ErrorKind::UndefinedError.into())
    } else {
        Ok(value)
    }
}

/// Returns the text of a defined value.
fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    let (text,) = from_args(std::slice::from_ref(defined(value)?))?;
    Ok(text)
}

/// Returns the list unless it is too long.
fn bounded(list: Value) -> Result<Value, Error> {
    match list.len() {
        Some(items) if items > MAX_ITEMS => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a list has {items} items; the limit is {MAX_ITEMS}"),
        )),
        _ => Ok(list),
    }
}

/// Limits the output. minijinja's `format` checks widths before it writes, but not the lengths of
/// the arguments.
fn format(
    state: &mut State<'_, '_>,
    text: &Value,
    arguments: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let named = |names: &Value| {
        names
            .as_object()?
            .try_iter()?
            .filter_map(|name| names.get_item(&name).ok())
            .map(|v| length(&v))
            .max()
    };
    arguments
        .iter()
        .try_for_each(|argument| defined(argument).map(drop))?;
    let longest = arguments
        .iter()
        .map(|argument| length(argument).max(named(argument).unwrap_or(0)))
        .max()
        .unwrap_or(0);
    let placeholders = text
        .as_str()
        .map_or(0, |text| text.bytes().filter(|b| b"%{".contains(b)).count());
    if placeholders.saturating_mul(longest) > MAX_OUTPUT_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "the formatted text could be longer than 2 MiB",
        ));
    }
    filters::format(state, text, arguments)
}

/// Indents each line except the first and blank ones.
fn indent(
    value: &Value,
    width: Option<usize>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, Error> {
    let width = width
        .map_or_else(|| options.get("width"), |width| Ok(Some(width)))?
        .unwrap_or(4);
    let first = first
        .map_or_else(|| options.get("first"), |first| Ok(Some(first)))?
        .unwrap_or(false);
    let blank = blank
        .map_or_else(|| options.get("blank"), |blank| Ok(Some(blank)))?
        .unwrap_or(false);
    options.assert_all_used()?;
    let text = text(value)?;
    let lines = text.split_inclusive('\n').count();
    if lines.saturating_mul(width).saturating_add(text.len()) > MAX_OUTPUT_BYTES {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "the indented text could be longer than 2 MiB",
        ));
    }
    let margin = " ".repeat(width);
    let mut out = String::with_capacity(text.len() + lines * width);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if (index > 0 || first) && (blank || !line.trim().is_empty()) {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Limits the output. minijinja's `join` checks its size only if there is a separator.
fn join(value: &Value, by: Option<&str>) -> Result<String, Error> {
    let by = by.unwrap_or_default();
    let mut out = String::new();
    for (index, item) in defined(value)?.try_iter()?.checked().enumerate() {
        if index > 0 {
            out.push_str(by);
        }
        let item = item?;
        let item = text(&item)?;
        if out.len() + item.len() + by.len() > MAX_OUTPUT_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "the joined text is longer than 2 MiB",
            ));
        }
        out.push_str(&item);
    }
    Ok(out)
}

/// Limits the digits. minijinja's `round` computes any number of digits at no charge.
fn round(
    value: Value,
    digits: Option<i32>,
    method: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    defined(&value)?;
    let digits = digits
        .map_or_else(|| options.get("precision"), |digits| Ok(Some(digits)))?
        .unwrap_or(0);
    filters::round(value, Some(digits.clamp(-15, 15)), method, options)
}

/// Strips white space, or the given characters, from both ends.
fn trim(text: Cow<'_, str>, characters: Option<&str>) -> Result<String, Error> {
    let Some(characters) = characters else {
        return Ok(text.trim().to_owned());
    };
    if characters.len() > MAX_TRIM_CHARS {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("trim takes at most {MAX_TRIM_CHARS} characters"),
        ));
    }
    Ok(text.trim_matches(|c| characters.contains(c)).to_owned())
}

/// Encodes as base64 for `data:;base64,` URLs and cloud-init's `encoding: b64` (RFC 4648, section
/// 4).
fn b64encode(value: &Value) -> Result<String, Error> {
    Ok(BASE64_STANDARD.encode(text(value)?.as_bytes()))
}

/// Escapes every byte as `%XX`, except the unreserved ones of RFC 3986 and `:`. The result is a
/// part of a URL that ends no word, no text in quotation marks and no line in any format.
fn urlencode(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    crate::query::encode_word_into(&mut out, &defined(value)?.to_string());
    Ok(out)
}

/// Turns a config's URL into a seed URL for cloud-init's `NoCloud`: a directory, to which
/// cloud-init appends `user-data` and `meta-data`.
fn nocloud(url: &Value) -> Result<String, Error> {
    Ok(format!("{}/", text(url)?.replacen('?', "/", 1)))
}

/// Limits the output. minijinja's `tojson` has no limit.
fn tojson(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    reject_errors(value)?;
    quoting::json(value, indent).map_err(not_written)
}

fn toyaml(value: &Value) -> Result<String, Error> {
    reject_errors(value)?;
    quoting::yaml(value).map_err(not_written)
}

fn not_written(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, error.to_string())
}

fn shquote(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    quoting::shell_into(&text(value)?, &mut out);
    Ok(out)
}

/// Returns the error that a value holds, or that an item of it holds: a label that is unsafe in a
/// script would be written as `null`.
fn reject_errors(value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => defined(value).map(drop),
        // The error is only accessible by iteration.
        ValueKind::Invalid => Value::from(vec![value.clone()])
            .try_iter()?
            .checked()
            .try_for_each(|item| item.map(drop)),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .checked()
            .try_for_each(|item| reject_errors(&item?)),
        ValueKind::Map => value.try_iter().into_iter().flatten().try_for_each(|key| {
            reject_errors(&key)?;
            reject_errors(&value.get_item(&key)?)
        }),
        _ => Ok(()),
    }
}
