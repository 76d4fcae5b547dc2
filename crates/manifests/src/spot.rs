//! Positions in a file.

/// A position in a file: a line, and a range of characters in it, all counted from 1. If the
/// characters are unknown, both are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The line.
    pub line: u32,
    /// The first character.
    pub start: u32,
    /// The character after the last.
    pub end: u32,
}

// === impl Spot ===

impl Spot {
    /// Creates a position of some characters of a line.
    pub fn new(line: usize, columns: std::ops::Range<usize>) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            line: number(line),
            start: number(columns.start),
            end: number(columns.end),
        }
    }

    /// Creates a position of a whole line.
    pub fn line(line: usize) -> Self {
        Self::new(line, 0..0)
    }
}
