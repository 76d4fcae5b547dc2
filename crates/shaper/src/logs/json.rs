//! The JSON log format: one object per line.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use boot::ObjectKey;
use boot::bytes::differing;
use boot::printable::is_printable;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::with_buffer;

/// Formats events as JSON. Hand-written because formatting the log line is a large part of the cost
/// of a request.
pub(super) struct Json;

/// Appends the fields of one event.
struct Fields<'a>(&'a mut String);

/// Escapes what is written to it as the content of a JSON string (RFC 8259, section 7), and all
/// characters that are not printable: logs are read on terminals.
struct Escaped<'a>(&'a mut String);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        with_buffer(|line| {
            begin(line, SystemTime::now(), *event.metadata().level());
            event.record(&mut Fields(line));
            line.push_str("}\n");
            out.write_str(line)
        })
    }
}

/// Starts a line with its time and level.
fn begin(line: &mut String, at: SystemTime, level: Level) {
    line.push_str("{\"timestamp\":\"");
    timestamp(line, at);
    line.push_str("\",\"level\":\"");
    line.push_str(level.as_str());
    line.push('"');
}

/// Appends the line of a request, including the line break.
pub(super) fn request(out: &mut String, line: &api::LogEntry<'_>) {
    /// Appends a field, if its value is present.
    macro_rules! field {
        ($name:literal: plain $value:expr) => {{
            out.push_str(concat!(",\"", $name, "\":\""));
            out.push_str($value);
            out.push('"');
        }};
        ($name:literal: text $value:expr) => {
            if let Some(value) = $value {
                out.push_str(concat!(",\"", $name, "\":\""));
                Escaped(out).push(value);
                out.push('"');
            }
        };
        ($name:literal: object $value:expr) => {
            if let Some(key) = $value {
                out.push_str(concat!(",\"", $name, "\":\""));
                object(out, key);
                out.push('"');
            }
        };
        ($name:literal: number $value:expr) => {{
            out.push_str(concat!(",\"", $name, "\":"));
            out.push_str(itoa::Buffer::new().format($value));
        }};
    }
    begin(out, line.at, line.level);
    field!("message": plain line.message);
    field!("route": plain line.route);
    field!("uuid": text line.uuid);
    field!("mac": text line.mac);
    field!("serial": text line.serial);
    field!("assignment": object line.assignment);
    if let Some(by) = line.by {
        field!("by": plain by.name());
    }
    field!("profile": object line.profile);
    field!("config": text line.config);
    field!("status": number line.status);
    field!("outcome": plain line.outcome);
    field!("reason": text line.reason);
    field!("peer": plain line.peer);
    field!("bytes": number line.bytes as u64);
    field!("took_us": number line.took_us);
    field!("request": plain line.request);
    out.push_str("}\n");
}

/// Appends an object's key. Checks the whole key for characters to escape at once, because it
/// consists of several pieces.
fn object(out: &mut String, key: &ObjectKey) {
    let start = out.len();
    key.write_parts(&mut |piece| out.push_str(piece));
    if must_escape(&out.as_bytes()[start..]) {
        let plain = out.split_off(start);
        Escaped(out).push(&plain);
    }
}

/// Appends a timestamp as in RFC 3339, in UTC with microseconds.
fn timestamp(out: &mut String, now: SystemTime) {
    thread_local! {
        /// The last second that was formatted, and its text.
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            let whole = jiff::Timestamp::try_from(whole).unwrap_or(jiff::Timestamp::MAX);
            (*second, *text) = (
                since.as_secs(),
                whole.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
            );
        }
        out.push_str(text);
    });
    // Adding a million yields exactly seven digits; the first is dropped.
    let mut buffer = itoa::Buffer::new();
    out.push('.');
    out.push_str(&buffer.format(1_000_000 + since.subsec_micros())[1..]);
    out.push('Z');
}

/// The escape letter of each byte that must be escaped, else 0. A byte of a character beyond ASCII
/// has [`BEYOND_ASCII`].
static ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escapes[byte] = b'u';
        byte += 1;
    }
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes[b'\n' as usize] = b'n';
    escapes[0x7f] = b'u';
    let mut byte = 0x80;
    while byte < 0x100 {
        escapes[byte] = BEYOND_ASCII;
        byte += 1;
    }
    escapes
};

/// Marks bytes that may belong to a character that must be escaped.
const BEYOND_ASCII: u8 = 1;

/// Whether any byte must be escaped, or may belong to a character that must. Checks eight bytes at
/// a time.
fn must_escape(text: &[u8]) -> bool {
    let all = |byte: u8| u64::from_ne_bytes([byte; 8]);
    // Sets the highest bit of each byte that must be escaped.
    let special = |eight: [u8; 8]| {
        let eight = u64::from_ne_bytes(eight);
        // The addition can't carry into the next byte.
        let is_printed = (eight & all(0x7f)) + all(0x80 - 0x20);
        let plain =
            differing(eight, b'"') & differing(eight, b'\\') & differing(eight, 0x7f) & is_printed;
        (!plain | eight) & all(0x80)
    };
    match text.last_chunk() {
        // The last chunk may overlap the one before.
        Some(last) => {
            text.as_chunks()
                .0
                .iter()
                .fold(special(*last), |found, eight| found | special(*eight))
                != 0
        }
        None => text.iter().any(|byte| ESCAPES[usize::from(*byte)] != 0),
    }
}

// === impl Fields ===

impl Fields<'_> {
    /// Appends a field name. Names are identifiers, including raw ones such as `r#type`, and may
    /// contain dots.
    fn key(&mut self, field: &Field) {
        self.0.push_str(",\"");
        let name = field.name();
        self.0.push_str(name.strip_prefix("r#").unwrap_or(name));
        self.0.push_str("\":");
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.key(field);
        // Writing to a String can't fail.
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.key(field);
        self.0.push('"');
        Escaped(self.0).push(value);
        self.0.push('"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.key(field);
        self.0.push('"');
        // A value whose Debug fails is logged as far as it was formatted.
        let _ = write!(Escaped(self.0), "{value:?}");
        self.0.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.plain(field, "null");
        }
    }
}

// === impl Escaped ===

impl Escaped<'_> {
    fn push(&mut self, text: &str) {
        // Nearly all texts need no escaping.
        if !must_escape(text.as_bytes()) {
            return self.0.push_str(text);
        }
        let mut rest = text;
        while let Some(at) = rest
            .bytes()
            .position(|byte| ESCAPES[usize::from(byte)] != 0)
        {
            let (before, from) = rest.split_at(at);
            self.0.push_str(before);
            let Some(c) = from.chars().next() else { return };
            match ESCAPES[usize::from(from.as_bytes()[0])] {
                BEYOND_ASCII if is_printable(c) => self.0.push(c),
                // All of these characters are in the basic plane.
                BEYOND_ASCII | b'u' => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                letter => {
                    self.0.push('\\');
                    self.0.push(char::from(letter));
                }
            }
            rest = &from[c.len_utf8()..];
        }
        self.0.push_str(rest);
    }
}

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn logged(log: impl FnOnce()) -> Value {
        let text = crate::logs::capture(log);
        assert_eq!(text.matches('\n').count(), 1, "{text:?} is one line");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"))
    }

    #[test]
    fn a_byte_to_escape_is_found_at_any_position() {
        for byte in 0..=255_u8 {
            for len in 1..20 {
                for at in 0..len {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    assert_eq!(
                        must_escape(&text),
                        matches!(byte, ..0x20 | b'"' | b'\\' | 0x7f..),
                        "{byte} at {at} of {len}"
                    );
                }
            }
        }
        assert!(!must_escape(b""));
    }

    #[test]
    fn any_field_value_survives_the_json_round_trip() {
        for hostile in [
            "",
            "plain",
            "\"",
            "\\",
            "a\"b\\c\nd\te\r\u{0}\u{1f}\u{7f}\u{9b}\u{202e}",
            "é\u{2028}\u{1f600}",
            "${x}</script>",
        ] {
            let line = logged(
                || tracing::info!(text = hostile, shown = %hostile, debug = ?hostile, "test"),
            );
            assert_eq!(line["text"], *hostile);
            assert_eq!(line["shown"], *hostile);
            assert_eq!(line["debug"], *format!("{hostile:?}"));
            assert_eq!(
                (&line["message"], &line["level"]),
                (&"test".into(), &"INFO".into())
            );
        }
    }

    #[test]
    fn characters_that_control_a_terminal_are_escaped() {
        let hostile = "\u{7f}\u{9b}2J\u{202e}x\u{2066}\u{61c}ä";
        let text = crate::logs::capture(|| tracing::info!(hostile, "test"));
        assert!(
            text.contains("\\u007f\\u009b2J\\u202ex\\u2066\\u061cä"),
            "{text}"
        );
    }

    /// An entry whose texts are all `hostile`.
    fn line<'a>(hostile: &'a str, key: &'a boot::ObjectKey) -> api::LogEntry<'a> {
        api::LogEntry {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_449_600_000_042),
            level: Level::WARN,
            message: "refused",
            route: "ipxe",
            uuid: Some(hostile),
            mac: Some(hostile),
            serial: Some(hostile),
            assignment: Some(key),
            by: Some(boot::MatchedBy::UuidOtherByteOrder),
            profile: Some(key),
            config: Some(hostile),
            status: 404,
            outcome: "no_profile",
            reason: Some(hostile),
            peer: "192.0.2.7",
            bytes: 412,
            took_us: 0,
            request: "1234-a",
        }
    }

    #[test]
    fn a_request_is_one_json_object_on_one_line_for_any_labels() {
        for hostile in ["plain", "a\"b\\c\nd\u{0}\u{1f}\u{7f}", "é\u{2028}\u{1f600}"] {
            let mut text = String::new();
            let key = boot::ObjectKey::new("ns", hostile).in_partition("east");
            request(&mut text, &line(hostile, &key));
            assert_eq!(text.matches('\n').count(), 1, "{text:?} is one line");
            let Value::Object(mut fields) = serde_json::from_str(&text).unwrap() else {
                panic!("{text} is no object")
            };
            assert!(
                fields
                    .remove("timestamp")
                    .is_some_and(|time| time == "2026-11-23T16:00:00.000042Z")
            );
            let expected = serde_json::json!({
                "level": "WARN", "message": "refused", "route": "ipxe", "uuid": hostile, "mac": hostile, "serial": hostile,
                "assignment": format!("east:ns/{hostile}"), "profile": format!("east:ns/{hostile}"), "by": "uuid (other byte order)", "config": hostile, "status": 404,
                "outcome": "no_profile", "reason": hostile, "peer": "192.0.2.7", "bytes": 412, "took_us": 0, "request": "1234-a"
            });
            assert_eq!(Value::Object(fields), expected);
        }
    }

    #[test]
    fn numbers_are_json_numbers_and_none_fields_are_omitted() {
        let line = logged(|| {
            let (none, some) = (None::<&str>, Some("x"));
            tracing::warn!(
                none,
                some,
                count = 3_u64,
                less = -3,
                yes = true,
                half = 0.5,
                endless = f64::INFINITY,
                r#type = "t",
                "numbers"
            );
        });
        assert_eq!(line["count"], 3);
        assert_eq!(line["less"], -3);
        assert_eq!(
            (&line["yes"], &line["half"], &line["endless"]),
            (&true.into(), &0.5.into(), &Value::Null)
        );
        assert_eq!(
            (line.get("none"), &line["some"], &line["type"]),
            (None, &"x".into(), &"t".into())
        );
    }

    #[test]
    fn an_error_is_logged_as_its_message() {
        let error = std::io::Error::other("no \"room\"");
        let line = logged(|| tracing::error!(error = &error as &dyn std::error::Error, "failed"));
        assert_eq!(line["error"], "no \"room\"");
    }

    #[test]
    fn timestamps_follow_rfc_3339() {
        let write = |since| {
            let mut text = String::new();
            timestamp(&mut text, SystemTime::UNIX_EPOCH + since);
            text
        };
        assert_eq!(
            write(Duration::from_micros(1_795_449_600_000_042)),
            "2026-11-23T16:00:00.000042Z"
        );
        assert_eq!(
            write(Duration::from_nanos(999_999_999)),
            "1970-01-01T00:00:00.999999Z"
        );
        assert_eq!(write(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    }
}
