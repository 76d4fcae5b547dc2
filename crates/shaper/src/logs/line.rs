//! The log as a person reads it on a terminal: who asked, what they got and why, one line each.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats events for people. Colours only where the writer has them.
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = *event.metadata().level();
        let (name, colour) = match level {
            Level::ERROR => ("ERROR", "31"),
            Level::WARN => (" WARN", "33"),
            Level::INFO => (" INFO", "32"),
            _ => ("DEBUG", "2"),
        };
        write!(out, "{} ", time_of_day())?;
        if out.has_ansi_escapes() {
            write!(out, "\x1b[{colour}m{name}\x1b[0m ")?;
        } else {
            write!(out, "{name} ")?;
        }
        let line = match fields.field("message") {
            _ if fields.0.contains_key("route") => fields.request(),
            Some("tftp") => fields.transfer(),
            _ => fields.other(),
        };
        writeln!(out, "{line}")
    }
}

/// Hours, minutes and seconds of UTC: a terminal shows the present, the JSON log has the date.
fn time_of_day() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // What a machine says of itself must not write lines of its own, nor move the cursor.
        let is_plain = value.chars().all(|c| !c.is_control());
        self.0.insert(field.name(), if is_plain { value.to_owned() } else { value.escape_debug().to_string() });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Fields {
    fn field(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `200 ipxe uuid 47c6... gets default/linux by default/web-1 (uuid), 412 bytes to 192.0.2.7 in 85 us`
    fn request(&self) -> String {
        let mut line = format!("{} {}", self.field("status").unwrap_or_default(), self.field("route").unwrap_or_default());
        let mut push = |before: &str, value: Option<&str>, after: &str| {
            if let Some(value) = value {
                line.push_str(before);
                line.push_str(value);
                line.push_str(after);
            }
        };
        match ["uuid", "serial", "mac"].iter().find_map(|name| Some((name, self.field(name)?))) {
            Some((name, value)) => push(&format!(" {name} "), Some(value), ""),
            None => push(" from ", self.field("peer"), ""),
        }
        push(" gets ", self.field("profile"), "");
        push(" config ", self.field("config"), "");
        push(" by ", self.field("assignment"), "");
        push(" (", self.field("by"), ")");
        match self.field("reason") {
            Some(reason) => push(": ", Some(reason), ""),
            None => {
                push(", ", self.field("bytes"), " bytes");
                push(" to ", self.field("peer"), "");
                push(" in ", self.field("took_us"), " us");
            }
        }
        push(" [", self.field("request"), "]");
        line
    }

    /// `tftp ipxe.efi to 192.0.2.7:2070 completed, 1043456 bytes in 850 ms, blksize 1432`
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

    fn other(&self) -> String {
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
        Fields(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()).transfer()
    }

    #[test]
    fn a_transfer_is_a_sentence() {
        let fields = [
            ("file", "ipxe.efi"),
            ("peer", "192.0.2.7:2070"),
            ("outcome", "completed"),
            ("bytes", "1043456"),
            ("took_ms", "850"),
            ("blksize", "1432"),
            ("retransmits", "0"),
        ];
        assert_eq!(line(&fields), "tftp ipxe.efi to 192.0.2.7:2070 completed, 1043456 bytes in 850 ms, blksize 1432");
        let fields = [("file", "x"), ("peer", "192.0.2.7:2070"), ("outcome", "no_such_file"), ("detail", "File not found")];
        assert_eq!(line(&fields), "tftp x to 192.0.2.7:2070 no_such_file: File not found");
    }
}
