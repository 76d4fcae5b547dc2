//! Formats text for a terminal, with colour if it supports it.

use std::io::{self, IsTerminal, Write};

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
pub fn print(text: &str) -> io::Result<()> {
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
            } else if c.is_control() {
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
