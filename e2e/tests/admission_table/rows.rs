//! The tables of `docs/reference/admission.md`.

use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// A row: who says it, and what.
#[derive(Debug)]
pub(crate) struct Row {
    /// Whether it is refused; if not, it is a warning.
    pub(crate) is_refused: bool,
    pub(crate) teller: Teller,
    /// What is quoted as said. `...` stands for anything.
    pub(crate) quotes: Vec<String>,
}

/// Who says it to somebody with kubectl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Teller {
    /// The API server itself, by schema or CEL.
    Server,
    Webhook,
    /// Only `shaper validate`.
    Nobody,
}

/// All rows, by the name in the first column.
pub(crate) fn read() -> Result<BTreeMap<String, Row>> {
    let path = format!(
        "{}/../docs/reference/admission.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let (_, tables) = text
        .split_once("## What the API server refuses by itself")
        .context("there is a first table")?;
    let (fields, rules) = tables
        .split_once("## What the webhook tells")
        .context("there is a second table")?;
    let rules = rules.split("\n## ").next().unwrap_or_default();
    let fields = cells(fields).map(|cells| {
        (
            cells[0].clone(),
            row(
                true,
                &cells[1],
                &format!("{}; {}", cells[2], bounds(&cells[2])),
            ),
        )
    });
    let rules = cells(rules).map(|cells| {
        (
            cells[0].clone(),
            row(
                cells[2] == "refused",
                if cells[2] == "validate only" {
                    ""
                } else {
                    &cells[3]
                },
                &cells[4],
            ),
        )
    });
    Ok(fields.chain(rules).collect())
}

fn cells(table: &str) -> impl Iterator<Item = Vec<String>> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|line| {
        let line = line.replace("\\|", "\u{0}");
        let cells = line
            .trim_end_matches(" |")
            .split(" | ")
            .map(|cell| cell.replace('\u{0}', "|"));
        cells
            .enumerate()
            .map(|(at, cell)| {
                if at == 0 {
                    cell.trim_end_matches('`').to_owned()
                } else {
                    cell
                }
            })
            .collect()
    })
}

fn row(is_refused: bool, place: &str, says: &str) -> Row {
    let teller = match place {
        "" => Teller::Nobody,
        place if place.starts_with("schema") || place.starts_with("CEL") => Teller::Server,
        _ => Teller::Webhook,
    };
    Row {
        is_refused,
        teller,
        quotes: spans(says),
    }
}

/// The numbers of a text outside of its code, as code: a server that refuses says which bound is
/// exceeded.
fn bounds(says: &str) -> String {
    let outside: Vec<&str> = says.split('`').step_by(2).collect();
    let words = outside.concat().replace(',', "");
    let numbers = words
        .split(|c: char| !c.is_ascii_digit() && c != '-')
        .filter(|word| word.parse::<i64>().is_ok());
    numbers
        .map(|number| format!("`{number}`"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// What stands in a text as code, between as many backticks.
fn spans(text: &str) -> Vec<String> {
    let (mut spans, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].chars().take_while(|c| *c == '`').count();
        let fence = "`".repeat(ticks);
        let Some((span, after)) = rest[start + ticks..].split_once(&fence) else {
            break;
        };
        spans.push(span.to_owned());
        rest = after;
    }
    spans
}

/// Whether all parts of a quote are said, in their order.
pub(crate) fn is_said(quote: &str, said: &str) -> bool {
    let mut rest = said;
    quote.split("...").all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}
