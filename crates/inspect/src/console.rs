//! Formats text for a terminal, with colour if it supports it.

use std::io::{self, IsTerminal, Write};

use boot::printable::is_printable;

/// The codes of [`Style`], and the one that ends them.
const STYLES: [&str; 7] = ["0", "1", "2", "1;31", "1;32", "1;33", "1;34"];

/// Whether text is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    is_coloured: bool,
}

// === impl Style ===

impl Style {
    /// Returns the style for standard output: coloured on a terminal, unless `NO_COLOR` is set
    /// (<https://no-color.org>).
    pub fn of_stdout() -> Self {
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            is_coloured: io::stdout().is_terminal() && !is_refused && !is_dumb,
        }
    }

    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { is_coloured: false }
    }

    /// Paints text as an error.
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// Paints text as a warning.
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// Paints text as a success.
    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    /// Makes text bold.
    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// Makes text faint.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// Paints a mark in front of a line.
    pub fn mark(self, text: &str) -> String {
        self.paint("1;34", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes to standard output. A closed pipe, as with `| head`, is not an error.
///
/// Nothing in the text controls the terminal, but for the colours of [`Style`].
pub fn print(text: &str) -> io::Result<()> {
    write(&without_controls(text))
}

/// Writes JSON to standard output, with characters that are not printable escaped.
pub fn print_json(json: &str) -> io::Result<()> {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_printable(c) || c == '\n' {
            escaped.push(c);
        } else {
            // Outside of strings there are none, and all are in the basic plane.
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
    write(&escaped)
}

/// Writes a rendered text to standard output: byte for byte to a file or a pipe, without control
/// characters to a terminal.
pub fn print_rendered(text: &str) -> io::Result<()> {
    if io::stdout().is_terminal() {
        print(text)
    } else {
        write(text)
    }
}

/// Writes a line to standard error, after the program's name.
pub fn note(text: impl std::fmt::Display) {
    eprintln!("shaper: {}", without_controls(&text.to_string()));
}

/// Replaces characters that are not printable, except line breaks, tabs and the colours of
/// [`Style`].
fn without_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let colour = colour_len(rest);
        if colour > 0 {
            out.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        let is_kept = is_printable(c) || matches!(c, '\n' | '\t');
        out.push(if is_kept { c } else { '\u{fffd}' });
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Returns the length of the colour code at the start of a text, or 0.
fn colour_len(text: &str) -> usize {
    let code = text.strip_prefix("\x1b[").and_then(|rest| {
        let code = rest.split_once('m')?.0;
        STYLES.contains(&code).then_some(code)
    });
    code.map_or(0, |code| "\x1b[m".len() + code.len())
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Escapes text from a file or a machine so that it can't control the terminal.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if !is_printable(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Formats a count: `1 error`, `2 errors`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_of_the_style_reach_the_terminal() {
        let painted = Style { is_coloured: true }.error("error");
        assert_eq!(without_controls(&painted), painted);
        for (text, shown) in [
            ("a\n\tb", "a\n\tb"),
            ("\x1b[2J", "\u{fffd}[2J"),
            ("\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
            ("\u{9b}2J\x7f\u{202e}", "\u{fffd}2J\u{fffd}\u{fffd}"),
            ("\x1b[", "\u{fffd}["),
            ("\x1b[5mblink", "\u{fffd}[5mblink"),
        ] {
            assert_eq!(without_controls(text), shown, "{text:?}");
        }
    }
}
