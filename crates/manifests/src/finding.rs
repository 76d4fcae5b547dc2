//! Locates the findings about an object in its file.

use review::Finding;

use super::fault::Fault;
use super::spot::Spot;
use super::tree::Node;

/// The lines of a text that starts further down in its file, split on first use.
pub(super) struct Lines<'t> {
    text: &'t str,
    above: usize,
    starts: std::cell::OnceCell<Vec<usize>>,
}

/// Creates a fault from a finding about the object that this node is.
pub(super) fn fault(finding: Finding, node: &Node<'_>, lines: &Lines<'_>) -> Fault {
    let placed = finding.message_with_line();
    let Finding {
        rule,
        object,
        field,
        line,
        columns,
        message,
        help,
        is_key,
    } = finding;
    let mut reason = message;
    let mut spot = if is_key {
        node.key_spot_of(&field)
    } else {
        node.spot_of(&field)
    };
    if let Some(inner) = line {
        match node.line_in(&field, inner) {
            Some((at, text)) => {
                // The file's line differs from the text's line by its indentation.
                let indent = lines
                    .get(at)
                    .chars()
                    .count()
                    .saturating_sub(text.chars().count());
                let columns =
                    columns.map_or(0..0, |columns| indent + columns.start..indent + columns.end);
                spot = Spot::new(at, columns);
            }
            None => reason = placed,
        }
    }
    Fault {
        spot: Some(spot),
        rule,
        object: Some(Box::new(object)),
        field,
        reason,
        help,
    }
}

// === impl Lines ===

impl<'t> Lines<'t> {
    pub(super) fn of(text: &'t str, above: usize) -> Self {
        Self {
            text,
            above,
            starts: std::cell::OnceCell::new(),
        }
    }

    /// Returns a line of the file without its end. In YAML a lone carriage return ends a line, too.
    fn get(&self, line: usize) -> &'t str {
        let starts = self.starts.get_or_init(|| {
            let bytes = self.text.as_bytes();
            let ends = |at: &usize| {
                bytes[*at] == b'\n' || bytes[*at] == b'\r' && bytes.get(at + 1) != Some(&b'\n')
            };
            let after = (0..bytes.len()).filter(ends).map(|at| at + 1);
            std::iter::once(0).chain(after).collect()
        });
        let start = line
            .checked_sub(self.above + 1)
            .and_then(|at| starts.get(at).copied());
        start
            .and_then(|start| self.text[start..].split(['\n', '\r']).next())
            .unwrap_or_default()
    }
}
