//! Formats a diff for a pull request.

use std::fmt::Write;

use review::Diff;

use super::{text, words};

pub(super) fn write(diff: &Diff) -> String {
    if diff.is_empty() {
        return "**No machine boots anything else.**\n".to_owned();
    }
    let mut out = format!(
        "**{}.**\n\n| machines | before | after | differs |\n|---|---|---|---|\n",
        text::total(diff)
    );
    for group in diff.groups() {
        let (old, new) = words::profiles(group);
        let row = [
            words::machines(group),
            code(&old),
            code(&new),
            words::changed_parts(group),
        ]
        .map(|cell| cell.replace('|', "\\|"));
        put(&mut out, format_args!("| {} |\n", row.join(" | ")));
    }
    out += "\n<details><summary>Assignments and example machines</summary>\n\n";
    for group in diff.groups() {
        let (old, new) = words::profiles(group);
        put(
            &mut out,
            format_args!(
                "- {}: {} to {}\n",
                words::machines(group),
                code(&old),
                code(&new)
            ),
        );
        put(
            &mut out,
            format_args!("  - Assignment {}\n", words::assignments(group)),
        );
        for example in words::examples(group) {
            put(&mut out, format_args!("  - {}\n", code(&example)));
        }
    }
    out += "\n</details>\n";
    if diff.unexplored() > 0 {
        put(
            &mut out,
            format_args!(
                "\nIncomplete: {} combinations of labels were not tried.\n",
                diff.unexplored()
            ),
        );
    }
    out
}

/// Formats text as a Markdown code span. It must not contain a backtick.
fn code(text: &str) -> String {
    format!("`{}`", text.replace('`', "'"))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a String never fails");
}
