//! Strings of JSON (RFC 8259, section 7).

use super::Lexer;

/// Whether the text is inside of a string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum Json {
    #[default]
    Outside,
    Inside,
    /// Inside, after a backslash.
    Escape,
}

// === impl Json ===

impl Lexer for Json {
    fn read(&mut self, c: char) {
        *self = match (*self, c) {
            (Self::Outside, '"') | (Self::Escape, _) => Self::Inside,
            (Self::Outside, _) | (Self::Inside, '"') => Self::Outside,
            (Self::Inside, '\\') => Self::Escape,
            (Self::Inside, _) => Self::Inside,
        };
    }

    fn reads_quotes(&self) -> bool {
        *self == Self::Outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_a_quotation_mark_without_backslash() {
        for (text, reads) in [
            ("", true),
            ("{\"a\": ", true),
            ("{\"a\": \"", false),
            (r#"{"a": "\\", "b": "#, true),
            (r#"{"a": "\", "b": "#, false),
        ] {
            let mut json = Json::default();
            text.chars().for_each(|c| json.read(c));
            assert_eq!(json.reads_quotes(), reads, "{text}");
        }
    }
}
