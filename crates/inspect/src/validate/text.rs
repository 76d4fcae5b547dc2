//! Formats findings for people: what is wrong, where, the line itself, and what to do.

use std::fmt::Write;

use review::Severity;

use crate::console::{Style, count, harmless};
use manifests::{Fault, Source};

use super::Report;

/// Maximum number of findings shown: readers need no more, and the other formats list all.
const MAX_SHOWN: usize = 500;
/// Maximum width of the part of a long line that is shown.
const WINDOW: usize = 140;

pub(super) fn write(report: &Report<'_>, style: Style) -> String {
    let mut out = String::new();
    for (source, fault) in report.faults().take(MAX_SHOWN) {
        one(&mut out, report, source, fault, style);
    }
    let more = report.faults().len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        put(
            &mut out,
            format_args!("... and {more} more; use -o json to list all\n\n"),
        );
    }
    let catalog = &report.batch.catalog;
    let (assignments, profiles) = (catalog.assignment_count(), catalog.profile_count());
    let seen = format!(
        "{}, {} and {} checked",
        count(report.batch.sources.len(), "file"),
        count(assignments, "Assignment"),
        count(profiles, "Profile")
    );
    let found: Vec<_> = [(report.errors(), "error"), (report.warnings(), "warning")]
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| count(n, what))
        .collect();
    let found = match (found.is_empty(), report.errors()) {
        (true, _) => style.good("no problems"),
        (false, 0) => style.warning(&found.join(", ")),
        (false, _) => style.error(&found.join(", ")),
    };
    put(&mut out, format_args!("{found}; {seen}\n"));
    out
}

fn one(out: &mut String, report: &Report<'_>, source: &Source, fault: &Fault, style: Style) {
    let severity = match report.severity(fault) {
        Severity::Error => style.error(&format!("error[{}]", fault.rule.id)),
        Severity::Warning => style.warning(&format!("warning[{}]", fault.rule.id)),
    };
    put(
        out,
        format_args!(
            "{severity}: {}\n",
            style.strong(&harmless(&fault.sentence()))
        ),
    );
    let width = fault.spot.map_or(1, |spot| spot.line.to_string().len());
    let (arrow, bar) = (style.mark("-->"), style.mark("|"));
    let pad = " ".repeat(width);
    let Some(spot) = fault.spot else {
        put(
            out,
            format_args!("{pad}{arrow} {}\n", harmless(&source.name)),
        );
        return help(out, &pad, fault, style);
    };
    let line = source
        .line(spot.line)
        .map(|line| line.strip_suffix('\r').unwrap_or(line));
    let indent = line.map_or(0, |line| {
        line.chars().take_while(|c| c.is_whitespace()).count()
    });
    let length = line.map_or(0, |line| line.trim_end().chars().count());
    let (start, end) = match (spot.start, spot.end) {
        (start, end) if start > 0 && end > start => (start as usize, end as usize),
        _ => (indent + 1, length.max(indent + 1) + 1),
    };
    put(
        out,
        format_args!(
            "{pad}{arrow} {}:{}:{start}\n",
            harmless(&source.name),
            spot.line
        ),
    );
    if let Some(line) = line {
        let (shown, start, end) = window(line, start, end);
        let carets = " ".repeat(start - 1) + &"^".repeat((end - start).max(1));
        put(out, format_args!("{pad} {bar}\n"));
        put(
            out,
            format_args!("{} {bar} {shown}\n", style.mark(&spot.line.to_string())),
        );
        let carets = if report.severity(fault) == Severity::Error {
            style.error(&carets)
        } else {
            style.warning(&carets)
        };
        put(out, format_args!("{pad} {bar} {carets}\n"));
    }
    help(out, &pad, fault, style);
}

fn help(out: &mut String, pad: &str, fault: &Fault, style: Style) {
    if let Some(help) = &fault.help {
        put(
            out,
            format_args!("{pad} {} help: {}\n", style.mark("="), harmless(help)),
        );
    }
    out.push('\n');
}

/// Returns the part of a line around the marked text, and the position of that text in it.
fn window(line: &str, start: usize, end: usize) -> (String, usize, usize) {
    let chars: Vec<char> = line.chars().collect();
    let end = end.min(chars.len() + 1).max(start + 1);
    if chars.len() <= WINDOW {
        return (harmless(line), start, end);
    }
    let first = start
        .saturating_sub(WINDOW / 3)
        .min(chars.len().saturating_sub(WINDOW / 2));
    let last = (first + WINDOW).min(chars.len());
    let shown: String = chars[first..last].iter().collect();
    let (before, after) = (
        if first > 0 { "..." } else { "" },
        if last < chars.len() { "..." } else { "" },
    );
    let shift = |at: usize| at - first + before.len();
    let end = end.min(last + 1);
    (
        harmless(&format!("{before}{shown}{after}")),
        shift(start),
        shift(end).max(shift(start) + 1),
    )
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a String never fails");
}
