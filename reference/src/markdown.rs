//! Formats Markdown pages.

/// Returns the head of a page: its title, its source, and its subject.
pub(crate) fn head(title: &str, about: &str) -> String {
    format!(
        "# {title}\n\n<!-- Written by `cargo xtask generate`; change the code and run it again. -->\n\n{about}\n"
    )
}

/// Returns a table. The first cell of a row names its subject, and no cell may be empty.
pub(crate) fn table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&columns.map(str::to_owned)) + &line(&columns.map(|_| "---".to_owned()));
    for row in rows {
        text += &line(&row.map(|cell| escaped(&cell)));
    }
    text
}

/// Escapes bars and removes line breaks, which would end a cell.
fn escaped(cell: &str) -> String {
    cell.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

/// Formats text as code, even if it contains backticks.
pub(crate) fn code(text: &str) -> String {
    let touches = text.starts_with('`') || text.ends_with('`');
    match (text.contains('`'), touches) {
        (true, true) => format!("`` {text} ``"),
        (true, false) => format!("``{text}``"),
        (false, _) => format!("`{text}`"),
    }
}

/// Formats a sentence: capital letter first, full stop last.
pub(crate) fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    let text = first.unwrap_or_default() + chars.as_str();
    if text.is_empty() || text.ends_with(['.', '?', '!']) {
        text
    } else {
        text + "."
    }
}

/// Returns the description of an item that the reference lists. Every item must have one.
///
/// # Panics
///
/// Panics if it is missing: tests and `cargo xtask generate` fail until the code has one.
pub(crate) fn described(what: &str, description: Option<&str>) -> String {
    let text = description.map(str::trim).unwrap_or_default();
    assert!(
        !text.is_empty(),
        "{what} has no description: add one in the code"
    );
    sentence(text)
}
