//! The log as machines read it: one JSON object a line, its fields beside time, level and message.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events as JSON, straight into the line: what a request costs is to a good part what its line costs.
pub(super) struct Json;

/// Writes the fields of one event.
struct Fields<'a, 'w> {
    out: &'a mut Writer<'w>,
    written: fmt::Result,
}

/// Escapes what is written to it, as the inside of a JSON string (RFC 8259, section 7).
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        out.write_str("{\"timestamp\":\"")?;
        timestamp(&mut out, SystemTime::now())?;
        out.write_str("\",\"level\":\"")?;
        out.write_str(event.metadata().level().as_str())?;
        out.write_char('"')?;
        let mut fields = Fields { out: &mut out, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        out.write_str("}\n")
    }
}

/// RFC 3339 in UTC, to the microsecond.
fn timestamp(out: &mut impl Write, now: SystemTime) -> fmt::Result {
    thread_local! {
        /// A second, and how it is written.
        static LAST: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
            let whole = jiff::Timestamp::try_from(whole).unwrap_or(jiff::Timestamp::MAX);
            (*second, *text) = (since.as_secs(), whole.strftime("%Y-%m-%dT%H:%M:%S").to_string());
        }
        out.write_str(text)
    })?;
    let mut digits = *b".000000Z";
    let mut micros = since.subsec_micros();
    for digit in digits[1..7].iter_mut().rev() {
        *digit += u8::try_from(micros % 10).expect("a digit");
        micros /= 10;
    }
    out.write_str(std::str::from_utf8(&digits).expect("digits are ASCII"))
}

// === impl Fields ===

impl Fields<'_, '_> {
    fn field(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.written.is_ok() {
            self.written = self.key(field.name()).and_then(|()| write(self.out));
        }
    }

    /// Names of fields are identifiers, also such as `r#type`, perhaps with dots.
    fn key(&mut self, name: &str) -> fmt::Result {
        self.out.write_str(",\"")?;
        self.out.write_str(name.strip_prefix("r#").unwrap_or(name))?;
        self.out.write_str("\":")
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |out| {
            out.write_char('"')?;
            Escaped(out).write_str(value)?;
            out.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |out| {
            out.write_char('"')?;
            write!(Escaped(out), "{value:?}")?;
            out.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |out| write!(out, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |out| write!(out, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no infinity.
        self.field(field, |out| if value.is_finite() { write!(out, "{value}") } else { out.write_str("null") });
    }
}

// === impl Escaped ===

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'"' => self.0.write_str("\\\"")?,
                b'\\' => self.0.write_str("\\\\")?,
                b'\n' => self.0.write_str("\\n")?,
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Value {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).event_format(Json).finish();
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?} is one line");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} is no JSON: {error}"))
    }

    #[test]
    fn whatever_a_field_holds_comes_out_of_the_json_again() {
        for hostile in ["", "plain", "\"", "\\", "a\"b\\c\nd\te\r\u{0}\u{1f}\u{7f}", "é\u{2028}\u{1f600}", "${x}</script>"] {
            let line = logged(|| tracing::info!(text = hostile, shown = %hostile, debug = ?hostile, "said"));
            assert_eq!(line["text"], *hostile);
            assert_eq!(line["shown"], *hostile);
            assert_eq!(line["debug"], *format!("{hostile:?}"));
            assert_eq!((&line["message"], &line["level"]), (&"said".into(), &"INFO".into()));
        }
    }

    #[test]
    fn numbers_are_numbers_and_what_is_none_is_not_there() {
        let line = logged(|| {
            let (none, some) = (None::<&str>, Some("x"));
            tracing::warn!(none, some, count = 3_u64, less = -3, yes = true, half = 0.5, endless = f64::INFINITY, r#type = "t", "numbers");
        });
        assert_eq!(line["count"], 3);
        assert_eq!(line["less"], -3);
        assert_eq!((&line["yes"], &line["half"], &line["endless"]), (&true.into(), &0.5.into(), &Value::Null));
        assert_eq!((line.get("none"), &line["some"], &line["type"]), (None, &"x".into(), &"t".into()));
    }

    #[test]
    fn an_error_is_its_sentence() {
        let error = std::io::Error::other("no \"room\"");
        let line = logged(|| tracing::error!(error = &error as &dyn std::error::Error, "failed"));
        assert_eq!(line["error"], "no \"room\"");
    }

    #[test]
    fn the_time_is_rfc_3339() {
        let write = |since| {
            let mut text = String::new();
            timestamp(&mut text, SystemTime::UNIX_EPOCH + since).unwrap();
            text
        };
        assert_eq!(write(Duration::from_micros(1_795_449_600_000_042)), "2026-11-23T16:00:00.000042Z");
        assert_eq!(write(Duration::from_nanos(999_999_999)), "1970-01-01T00:00:00.999999Z");
        assert_eq!(write(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    }
}
