//! Escapes values as JSON, as YAML, and as a word of a shell or of kickstart.
//!
//! The output is one value of the format wherever a value may be, on one line, and always quoted. A
//! bare word would hide that the template adds its own quotation marks, until a value breaks out of
//! them.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};

use super::MAX_OUTPUT_BYTES;

/// A filter that escapes one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// `tojson`
    Json,
    /// `toyaml`
    Yaml,
    /// `shquote`
    Shell,
}

// === impl Quoting ===

impl Quoting {
    /// The names of the filters.
    pub(super) const FILTERS: [&str; 3] = ["tojson", "toyaml", "shquote"];

    /// Returns the quoting of a filter, if it is one.
    pub(crate) fn of_filter(name: &str) -> Option<Self> {
        match name {
            "tojson" => Some(Self::Json),
            "toyaml" => Some(Self::Yaml),
            "shquote" => Some(Self::Shell),
            _ => None,
        }
    }

    /// Appends the escaped text. Fails if it would exceed the limit of an answer.
    pub(crate) fn write(self, text: &str, out: &mut String) -> serde_json::Result<()> {
        match self {
            Self::Json => out.push_str(&json(text, None)?),
            Self::Yaml => out.push_str(&yaml(text)?),
            Self::Shell => shell_into(text, out),
        }
        Ok(())
    }
}

/// Writes JSON, indented if a width is given.
pub(super) fn json(value: impl Serialize, indent: Option<usize>) -> serde_json::Result<String> {
    match indent {
        None => written(value, serde_json::ser::CompactFormatter),
        Some(width) => {
            let indent = " ".repeat(width.min(16));
            written(value, PrettyFormatter::with_indent(indent.as_bytes()))
        }
    }
}

/// Writes a flow value of YAML 1.1 and 1.2, which is JSON as well.
pub(super) fn yaml(value: impl Serialize) -> serde_json::Result<String> {
    written(value, YamlFormatter)
}

/// Appends a single-quoted word, inside which no shell expands anything (POSIX, XCU 2.2.2).
/// Anaconda splits the lines of a kickstart file by the same rules, with Python's `shlex`. The
/// quotation marks end and begin again within `{{`, `{%` and `{#`, since cloud-init renders a script
/// that starts with `## template: jinja` once more.
pub(super) fn shell_into(text: &str, out: &mut String) {
    out.push('\'');
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '{']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        if before.ends_with('\'') {
            out.push_str(r"\''");
        } else if after.starts_with(['{', '%', '#']) {
            out.push_str("''");
        }
        rest = after;
    }
    out.push_str(rest);
    out.push('\'');
}

fn written(value: impl Serialize, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut out = LimitedBuffer(Vec::new());
    value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
    let text = String::from_utf8(out.0).expect("serde_json writes UTF-8");
    Ok(escape_braces(escape_unprintable(text)))
}

/// Escapes the `{` of `{{`, `{%` and `{#` inside of texts: cloud-init renders a config that starts
/// with `## template: jinja` once more.
fn escape_braces(text: String) -> String {
    if !["{{", "{%", "{#"].iter().any(|start| text.contains(start)) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let (mut is_in_text, mut is_escape) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_in_text && c == '{' && matches!(chars.peek(), Some('{' | '%' | '#')) {
            escaped.push_str("\\u007b");
            continue;
        }
        if c == '"' && !is_escape {
            is_in_text = !is_in_text;
        }
        is_escape = is_in_text && c == '\\' && !is_escape;
        escaped.push(c);
    }
    escaped
}

/// Escapes what YAML does not print (YAML 1.2, section 5.1) or reads as a line break (YAML 1.1,
/// section 5.4). In JSON, such characters are only inside of texts.
fn escape_unprintable(text: String) -> String {
    let is_unprintable = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    if !text.contains(is_unprintable) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unprintable(c) {
            write!(escaped, "\\u{:04x}", u32::from(c)).expect("a String takes all text");
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Limits the output of `serde_json`, which has no limit.
struct LimitedBuffer(Vec<u8>);

impl io::Write for LimitedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(io::Error::other("the text is longer than 2 MiB"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes JSON that YAML reads as the same value: with a space after `:` and `,`, and with numbers
/// that YAML 1.1 takes for numbers.
struct YamlFormatter;

impl Formatter for YamlFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let text = serde_json::to_string(&value)?;
        let Some((digits, exponent)) = text.split_once('e') else {
            return writer.write_all(text.as_bytes());
        };
        let fraction = if digits.contains('.') { "" } else { ".0" };
        let sign = if exponent.starts_with(['-', '+']) {
            ""
        } else {
            "+"
        };
        write!(writer, "{digits}{fraction}e{sign}{exponent}")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_shell_is_always_in_quotation_marks() {
        for (text, expected) in [
            ("", "''"),
            ("web-1", "'web-1'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot); `x`", "'$(reboot); `x`'"),
            ("${a} {{ b }}{% {# {'", r"'${a} {''{ b }}{''% {''# {'\'''"),
        ] {
            let mut out = String::new();
            shell_into(text, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn yaml_has_no_line_breaks_and_no_characters_that_it_does_not_print() {
        let text = "a\nb\u{85}c\u{2028}d\u{feff}e\u{7f}f\"g";
        assert_eq!(
            yaml(text).unwrap(),
            r#""a\nb\u0085c\u2028d\ufeffe\u007ff\"g""#
        );
        assert_eq!(
            serde_json::from_str::<String>(&yaml(text).unwrap()).unwrap(),
            text
        );
        assert_eq!(yaml(text).unwrap(), json(text, None).unwrap());
        let value = serde_json::json!({ "a": [1, true, null, 1e16, 2.5, 1.5e-9], "b": {} });
        assert_eq!(
            yaml(&value).unwrap(),
            r#"{"a": [1, true, null, 1.0e+16, 2.5, 1.5e-9], "b": {}}"#
        );
    }

    #[test]
    fn a_text_can_not_begin_an_expression_of_another_template() {
        let text = "\\\"{{ a }}{% b %}{# c #}{{{ d { e";
        for written in [json(text, None), json(text, Some(2)), yaml(text)] {
            let written = written.unwrap();
            for start in ["{{", "{%", "{#"] {
                assert!(!written.contains(start), "{written}");
            }
            assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
        let nested = serde_json::json!({ "a": { "b\"{{": 1 } });
        assert_eq!(json(&nested, None).unwrap(), r#"{"a":{"b\"\u007b{":1}}"#);
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error() {
        let long = "x".repeat(MAX_OUTPUT_BYTES);
        assert!(json(&long, None).is_err() && yaml(&long).is_err());
    }
}
