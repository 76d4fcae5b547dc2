//! The text log format, for people at a terminal: one line per event.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::SystemTime;

use boot::printable::is_printable;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events as text, with colours if the writer supports them.
pub(super) struct Text;

impl<S, N> FormatEvent<S, N> for Text
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
        let mut fields = Fields::default();
        event.record(&mut fields);
        let has_colours = out.has_ansi_escapes();
        begin(
            &mut out,
            SystemTime::now(),
            *event.metadata().level(),
            has_colours,
        )?;
        let line = match fields.field("message") {
            Some("tftp") => fields.transfer(),
            _ => fields.event(),
        };
        writeln!(out, "{line}")
    }
}

/// Starts a line with its time and level.
fn begin(out: &mut impl Write, at: SystemTime, level: Level, has_colours: bool) -> fmt::Result {
    let (name, colour) = match level {
        Level::ERROR => ("ERROR", "31"),
        Level::WARN => (" WARN", "33"),
        Level::INFO => (" INFO", "32"),
        _ => ("DEBUG", "2"),
    };
    let time = time_of_day(at);
    if has_colours {
        write!(out, "{time} \x1b[{colour}m{name}\x1b[0m ")
    } else {
        write!(out, "{time} {name} ")
    }
}

/// Appends the line of a request, including the line break: `200 ipxe uuid=47c6... serial=SN1
/// assignment=default/web-1 by=uuid profile=default/linux bytes=412 peer=192.0.2.7 took_us=85
/// request=1234-a`
pub(super) fn request(out: &mut String, entry: &api::LogEntry<'_>, has_colours: bool) {
    // Writing to a String can't fail.
    let _ = begin(out, entry.at, entry.level, has_colours).and_then(|()| write_request(out, entry));
}

fn write_request(out: &mut String, entry: &api::LogEntry<'_>) -> fmt::Result {
    write!(out, "{} {}", entry.status, entry.route)?;
    let assignment = entry.assignment.map(ToString::to_string);
    let by = entry.by.map(|by| by.to_string());
    let profile = entry.profile.map(ToString::to_string);
    let fields = [
        ("uuid", entry.uuid),
        ("serial", entry.serial),
        ("mac", entry.mac),
        ("assignment", assignment.as_deref()),
        ("by", by.as_deref()),
        ("profile", profile.as_deref()),
        ("config", entry.config),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            write!(out, " {name}={}", quote(value))?;
        }
    }
    let (bytes, peer, took_us) = (entry.bytes, entry.peer, entry.took_us);
    let request = entry.request;
    write!(
        out,
        " bytes={bytes} peer={peer} took_us={took_us} request={request}"
    )?;
    match entry.reason {
        Some(reason) => writeln!(out, ": {}", escape_control(reason)),
        None => writeln!(out),
    }
}

/// Quotes and escapes a value that would otherwise not be one word.
fn quote(value: &str) -> Cow<'_, str> {
    let is_word = |c: char| !c.is_whitespace() && is_printable(c) && c != '"';
    if !value.is_empty() && value.chars().all(is_word) {
        value.into()
    } else {
        format!("{value:?}").into()
    }
}

/// Escapes characters that are not printable, so that a machine can't add log lines, move the
/// cursor or make a line read differently.
fn escape_control(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        text.into()
    } else {
        text.escape_debug().to_string().into()
    }
}

/// Returns hours, minutes and seconds in UTC. A terminal shows the present; the JSON log has the
/// date.
fn time_of_day(at: SystemTime) -> String {
    let seconds = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
        % 86_400;
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0
            .insert(field.name(), escape_control(value).into_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Fields {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Formats a TFTP transfer: `tftp ipxe.efi to 192.0.2.7:2070 completed, 1043456 bytes in 850
    /// ms, blksize 1432`
    fn transfer(&self) -> String {
        let mut line = "tftp".to_owned();
        let mut push = |before: &str, value: Option<&str>, after: &str| {
            if let Some(value) = value.filter(|value| *value != "0") {
                line.push_str(before);
                line.push_str(value);
                line.push_str(after);
            }
        };
        push(" ", self.field("file"), "");
        push(" to ", self.field("peer"), "");
        push(" ", self.field("outcome"), "");
        push(", ", self.field("bytes"), " bytes");
        push(" in ", self.field("took_ms"), " ms");
        for option in ["blksize", "windowsize", "timeout"] {
            push(&format!(", {option} "), self.field(option), "");
        }
        push(", ", self.field("retransmits"), " retransmits");
        push(": ", self.field("detail"), "");
        line
    }

    fn event(&self) -> String {
        let mut line = self.field("message").unwrap_or_default().to_owned();
        for (name, value) in self.0.iter().filter(|(name, _)| **name != "message") {
            let _ = write!(line, " {name}={value}");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(fields: &[(&'static str, &str)]) -> String {
        Fields(
            fields
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        )
        .transfer()
    }

    #[test]
    fn a_request_shows_every_identity_and_object_as_a_field_on_one_line() {
        let (assignment, profile) = (
            boot::ObjectKey::new("default", "web-1"),
            boot::ObjectKey::new("default", "linux"),
        );
        let mut entry = api::LogEntry {
            at: SystemTime::now(),
            level: Level::INFO,
            message: "served",
            route: "ipxe",
            uuid: Some("47c6da67-7477-4970-aa03-84e48ff4f6ad"),
            mac: Some("52:54:00:12:34:56"),
            serial: Some("SN\n1"),
            assignment: Some(&assignment),
            by: Some(boot::MatchedBy::Serial),
            profile: Some(&profile),
            config: None,
            status: 200,
            outcome: "ok",
            reason: None,
            peer: "192.0.2.7",
            bytes: 412,
            took_us: 85,
            request: "1234-a",
        };
        let text = |entry: &api::LogEntry<'_>, has_colours| {
            let mut text = String::new();
            request(&mut text, entry, has_colours);
            text.split_once("INFO").unwrap().1.to_owned()
        };
        let fields = " 200 ipxe uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad serial=\"SN\\n1\" mac=52:54:00:12:34:56 \
                      assignment=default/web-1 by=serial profile=default/linux bytes=412 peer=192.0.2.7 took_us=85 request=1234-a\n";
        assert_eq!(text(&entry, false), fields);
        assert_eq!(text(&entry, true), format!("\x1b[0m{fields}"));
        (entry.uuid, entry.serial, entry.mac) = (None, Some("SN 1"), None);
        (entry.assignment, entry.by, entry.profile) = (None, None, None);
        (entry.status, entry.reason) = (404, Some("no\x1b[2J\u{9b}\u{202e}"));
        entry.serial = Some("SN\u{202e}1\u{7f}");
        assert_eq!(
            text(&entry, false),
            " 404 ipxe serial=\"SN\\u{202e}1\\u{7f}\" bytes=412 peer=192.0.2.7 took_us=85 request=1234-a: no\\u{1b}[2J\\u{9b}\\u{202e}\n"
        );
    }

    #[test]
    fn a_transfer_is_one_readable_line() {
        let fields = [
            ("file", "ipxe.efi"),
            ("peer", "192.0.2.7:2070"),
            ("outcome", "completed"),
            ("bytes", "1043456"),
            ("took_ms", "850"),
            ("blksize", "1432"),
            ("retransmits", "0"),
        ];
        assert_eq!(
            line(&fields),
            "tftp ipxe.efi to 192.0.2.7:2070 completed, 1043456 bytes in 850 ms, blksize 1432"
        );
        let fields = [
            ("file", "x"),
            ("peer", "192.0.2.7:2070"),
            ("outcome", "no_such_file"),
            ("detail", "File not found"),
        ];
        assert_eq!(
            line(&fields),
            "tftp x to 192.0.2.7:2070 no_such_file: File not found"
        );
    }
}
