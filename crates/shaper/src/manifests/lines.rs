//! On which line of a document a field stands.

use crd::{FieldPath, Step};

/// The line of the field at `path`, counted from 1 in the whole file, for a document that starts at line `start`. Where a step of the path
/// can't be found, the line of the step before it.
pub(super) fn line_of(text: &str, start: usize, path: &FieldPath) -> usize {
    let lines: Vec<&str> = text.lines().skip(start - 1).collect();
    let end = lines.iter().skip(1).position(|line| *line == "---" || line.starts_with("--- ")).map_or(lines.len(), |at| at + 1);
    let mut at = 0;
    for step in path.steps() {
        let found = match step {
            Step::Key(key) => (at..end).find(|line| names(lines[*line], key)),
            Step::Index(index) => nth_item(&lines[..end], at, *index),
        };
        let Some(found) = found else { break };
        at = found;
    }
    start + at
}

/// Whether a line of YAML or JSON holds this key.
fn names(line: &str, key: &str) -> bool {
    let mut rest = line;
    while let Some(at) = rest.find(key) {
        let before = rest[..at].trim_end_matches(['"', '\'']).chars().next_back();
        let after = rest[at + key.len()..].trim_start_matches(['"', '\'']).trim_start();
        if before.is_none_or(|c| c.is_whitespace() || "{,-[".contains(c)) && after.starts_with(':') {
            return true;
        }
        rest = &rest[at + key.len()..];
    }
    false
}

/// The line of the item with this index in a block sequence below line `at`.
fn nth_item(lines: &[&str], at: usize, index: usize) -> Option<usize> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let first = lines.iter().enumerate().skip(at + 1).find(|(_, line)| line.trim_start().starts_with('-'))?.0;
    let depth = indent(lines[first]);
    let items = lines.iter().enumerate().skip(first);
    let items = items.take_while(|(_, line)| {
        line.trim().is_empty() || indent(line) > depth || (indent(line) == depth && line.trim_start().starts_with('-'))
    });
    items.filter(|(_, line)| indent(line) == depth && line.trim_start().starts_with('-')).nth(index).map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_in_its_own_document() {
        let text = "kind: A\nspec:\n  x: 1\n---\nkind: B\nspec:\n  uuids:\n  - a\n  - b\n  x: 2\n";
        let field = |name| FieldPath::of(["spec", name]);
        assert_eq!(line_of(text, 1, &field("x")), 3);
        assert_eq!(line_of(text, 5, &field("x")), 10);
        assert_eq!(line_of(text, 5, &field("uuids").index(1)), 9);
        assert_eq!(line_of(text, 5, &field("absent")), 6);
    }
}
