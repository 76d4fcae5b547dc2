//! Formats an explanation for people. It is read from the JSON, so that a replica's answer looks
//! the same as a local one.

use std::fmt::Write;

use serde_json::Value;

use crate::console::{Style, harmless};

/// Maximum number of Assignments shown. The others did not matter, and -o json lists them.
const MAX_SHOWN: usize = 40;

pub(super) fn write(explanation: &Value, style: Style) -> String {
    let mut out = String::new();
    let outcome = &explanation["outcome"];
    let answer = match outcome["answer"].as_str() {
        Some("boots") => {
            let boots = style.good(&format!("boots Profile {}", key(&outcome["profile"])));
            format!("{boots} by Assignment {}", key(&outcome["assignment"]))
        }
        Some("noProfile") => {
            let reason = word(&outcome["reason"]);
            format!(
                "{}: Assignment {} wins, but {reason}",
                style.error("boots nothing"),
                key(&outcome["assignment"])
            )
        }
        _ => format!(
            "{}: {}",
            style.error("boots nothing"),
            word(&outcome["reason"])
        ),
    };
    put(&mut out, format_args!("{answer}\n"));
    if outcome["conflict"] == true {
        let warning = style.warning("conflict");
        put(
            &mut out,
            format_args!(
                "{warning}: only age or name decides between this Assignment and another; set a priority\n"
            ),
        );
    }
    put(
        &mut out,
        format_args!("\n{}\n", style.strong("The machine")),
    );
    let labels: Vec<_> = explanation["subject"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (harmless(key), word(value)))
        .collect();
    let width = labels
        .iter()
        .map(|(key, _)| key.chars().count())
        .max()
        .unwrap_or(0);
    let placeholders: Vec<_> = explanation["placeholders"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (key, value) in &labels {
        let note = if placeholders.contains(&key.as_str()) {
            style.warning("  a placeholder of the vendor, which matches no selector")
        } else {
            String::new()
        };
        put(&mut out, format_args!("  {key:width$}  {value}{note}\n"));
    }
    if labels.is_empty() {
        out += "  presents no labels\n";
    }
    candidates(&mut out, explanation, style);
    profiles(&mut out, explanation, style);
    out
}

fn candidates(out: &mut String, explanation: &Value, style: Style) {
    let all = explanation["candidates"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return;
    }
    put(
        out,
        format_args!("\n{}\n", style.strong("Assignments, in order")),
    );
    let shown = &all[..all.len().min(MAX_SHOWN)];
    let width = shown
        .iter()
        .map(|one| key(&one["assignment"]).chars().count())
        .max()
        .unwrap_or(0);
    for one in shown {
        row(
            out,
            &one["verdict"],
            &key(&one["assignment"]),
            width,
            &word(&one["reason"]),
            style,
        );
    }
    let more = all.len() - shown.len()
        + usize::try_from(explanation["omitted"].as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
    if more > 0 {
        put(out, format_args!("  ... and {more} more\n"));
    }
}

fn profiles(out: &mut String, explanation: &Value, style: Style) {
    let all = explanation["profiles"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    if all.is_empty() {
        return;
    }
    let winner = key(&explanation["outcome"]["assignment"]);
    put(
        out,
        format_args!(
            "\n{}\n",
            style.strong(&format!("Profiles that {winner} selects"))
        ),
    );
    let width = all
        .iter()
        .map(|one| key(&one["profile"]).chars().count())
        .max()
        .unwrap_or(0);
    for one in all {
        row(
            out,
            &one["verdict"],
            &key(&one["profile"]),
            width,
            &word(&one["reason"]),
            style,
        );
    }
}

fn row(out: &mut String, verdict: &Value, name: &str, width: usize, reason: &str, style: Style) {
    let verdict = match verdict.as_str() {
        Some("won") => style.good("won     "),
        Some("lost") => style.warning("lost    "),
        _ => style.faint("no match"),
    };
    put(out, format_args!("  {verdict}  {name:width$}  {reason}\n"));
}

fn word(value: &Value) -> String {
    harmless(value.as_str().unwrap_or_default())
}

fn key(value: &Value) -> String {
    let part = |name: &str| word(&value[name]);
    match part("partition") {
        partition if partition.is_empty() => format!("{}/{}", part("namespace"), part("name")),
        partition => format!("{partition}:{}/{}", part("namespace"), part("name")),
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a String never fails");
}
