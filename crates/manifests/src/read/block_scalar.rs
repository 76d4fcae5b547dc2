//! Recognizes a block scalar (`key: |`) whose text is not indented, which a YAML parser reports as
//! something else, and at a later line.

/// Maximum number of lines between the key and the error that is searched.
const MAX_LINES: usize = 200;

/// The first line of a block scalar's text that is not indented more than its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unindented<'t> {
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The key of the scalar, and the line that has it.
    pub(super) key: &'t str,
    pub(super) key_line: usize,
}

/// Searches for the cause of a syntax error at this line of a text.
pub(super) fn unindented(text: &str, error_line: usize) -> Option<Unindented<'_>> {
    let lines: Vec<&str> = text.lines().take(error_line).collect();
    let first = lines.len().saturating_sub(MAX_LINES);
    let (at, key) = (first..lines.len())
        .rev()
        .find_map(|at| Some((at, block_key(lines[at])?)))?;
    let mut below = (at + 1..lines.len()).filter(|at| !lines[*at].trim().is_empty());
    let line = below.find(|below| indent(lines[*below]) <= indent(lines[at]))?;
    // What looks like YAML is: then the error has another cause.
    (!looks_like_yaml(lines[line])).then_some(Unindented {
        line: line + 1,
        key,
        key_line: at + 1,
    })
}

/// Returns the key of a line that starts a block scalar, as in `ipxe: |-`.
pub(super) fn block_key(line: &str) -> Option<&str> {
    let (key, value) = line.trim_start_matches([' ', '-']).split_once(": ")?;
    let indicators = value.trim().strip_prefix(['|', '>'])?;
    let is_header = indicators
        .bytes()
        .all(|byte| matches!(byte, b'+' | b'-' | b'1'..=b'9'));
    (is_header && !key.contains(char::is_whitespace)).then_some(key)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn looks_like_yaml(line: &str) -> bool {
    let line = line.trim();
    let key = line
        .strip_suffix(':')
        .or(line.split_once(": ").map(|(key, _)| key));
    line.starts_with("- ") || line == "---" || key.is_some_and(|key| !key.contains(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, error_line: usize) -> Option<(usize, &str, usize)> {
        let found = unindented(text, error_line)?;
        Some((found.line, found.key, found.key_line))
    }

    #[test]
    fn text_at_the_column_of_its_key_is_found_at_its_first_line() {
        let text = "spec:\n  ipxe: |\n  #!ipxe\n  kernel http://a/b\n  boot\n";
        assert_eq!(found(text, 4), Some((3, "ipxe", 2)));
        let text = "spec:\n  ipxe: |-\nkernel http://a/b\nboot\n";
        assert_eq!(found(text, 4), Some((3, "ipxe", 2)));
    }

    #[test]
    fn text_whose_later_lines_are_not_indented_is_found() {
        let text = "spec:\n  ipxe: |\n    #!ipxe\n\n  kernel http://a/b\n";
        assert_eq!(found(text, 5), Some((5, "ipxe", 2)));
    }

    #[test]
    fn an_error_in_the_next_key_has_another_cause() {
        let text = "spec:\n  ipxe: |\n    #!ipxe\n  additionalConfig: [\n";
        assert_eq!(found(text, 4), None);
        assert_eq!(found("a:\n- b: |\n   c\n- d: [\n", 4), None);
        assert_eq!(found("a: |\n  b\n", 2), None);
        assert_eq!(found("a: [\n", 1), None);
    }
}
