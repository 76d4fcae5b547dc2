//! Byte ranges of a subject's text.

/// A byte range of a subject's text.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Creates a span. Panics beyond 4 GiB, which no query reaches.
    pub(super) fn new(start: usize, end: usize) -> Self {
        let offset = |at: usize| u32::try_from(at).expect("labels are few and short");
        Self {
            start: offset(start),
            end: offset(end),
        }
    }

    #[inline]
    pub(super) fn slice(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    pub(super) const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}
