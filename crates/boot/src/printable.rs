//! Characters that are safe to show.

/// Whether a character does nothing but show its glyph. Returns false for control characters (C0,
/// DEL and C1), which move a terminal's cursor or end a log line, and for those that change the
/// direction or the lines of a text, which make it look like another, and for the byte order mark
/// and the noncharacters next to it, which YAML does not print.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_and_bidirectional_controls_are_not_printable() {
        for c in ['\0', '\n', '\u{1b}', '\u{7f}', '\u{80}', '\u{9b}', '\u{9f}'] {
            assert!(!is_printable(c), "{c:?}");
        }
        let bidi = [
            '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}', '\u{200e}', '\u{200f}', '\u{61c}',
        ];
        for c in bidi
            .into_iter()
            .chain(['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'])
        {
            assert!(!is_printable(c), "{c:?}");
        }
        for c in [
            ' ',
            'a',
            '~',
            '\u{a0}',
            'ä',
            '中',
            '\u{200b}',
            '\u{202f}',
            '\u{1f600}',
        ] {
            assert!(is_printable(c), "{c:?}");
        }
    }
}
