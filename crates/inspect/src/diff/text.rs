//! Formats a diff for people.

use std::collections::BTreeSet;
use std::fmt::Write;

use review::Diff;
use review::diff::Group;

use crate::console::{Style, count};

use super::words;

pub(super) fn write(diff: &Diff, style: Style) -> String {
    let mut out = String::new();
    if diff.is_empty() {
        return style.good("no machine boots anything else") + "\n";
    }
    for group in diff.groups() {
        let (old, new) = words::profiles(group);
        let boots = if old == new {
            format!("boots {new}, changed")
        } else {
            format!("{} -> {}", style.error(&old), style.good(&new))
        };
        put(
            &mut out,
            format_args!("{}: {boots}\n", style.strong(&words::machines(group))),
        );
        put(
            &mut out,
            format_args!("  differs     {}\n", words::changed_parts(group)),
        );
        put(
            &mut out,
            format_args!("  Assignment  {}\n", words::assignments(group)),
        );
        for (at, example) in words::examples(group).iter().enumerate() {
            let head = if at == 0 { "such as" } else { "" };
            put(
                &mut out,
                format_args!("  {head:10}  {}\n", style.faint(example)),
            );
        }
        out.push('\n');
    }
    if diff.unexplored() > 0 {
        let warning = style.warning("incomplete");
        let many = count(diff.unexplored(), "combination");
        put(
            &mut out,
            format_args!(
                "{warning}: {many} of labels were not tried; machines that present them may boot something else\n\n"
            ),
        );
    }
    put(&mut out, format_args!("{}\n", total(diff)));
    out
}

/// Summarizes all groups in a sentence.
pub(super) fn total(diff: &Diff) -> String {
    let names = |group: &Group| -> Vec<String> {
        group
            .uuids
            .iter()
            .chain(&group.serial_numbers)
            .chain(&group.mac_addresses)
            .cloned()
            .collect()
    };
    let named: BTreeSet<String> = diff.groups().iter().flat_map(names).collect();
    let sorts: usize = diff
        .groups()
        .iter()
        .map(|group| group.by_labels + group.by_identity_pairs)
        .sum();
    let named = match named.len() {
        0 => None,
        1 => Some("1 identity that a selector names".to_owned()),
        n => Some(format!("{n} identities that selectors name")),
    };
    let sorts = (sorts > 0).then(|| format!("{} by labels", count(sorts, "sort") + " of machines"));
    let machines: Vec<_> = named.into_iter().chain(sorts).collect();
    format!(
        "{} of change, for {}",
        count(diff.groups().len(), "kind"),
        machines.join(" and ")
    )
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text)
        .expect("writing to a String never fails");
}
