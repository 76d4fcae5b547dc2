//! The options of RFC 2348 (blksize), RFC 2349 (timeout, tsize) and RFC 7440 (windowsize).

use super::{Fields, Malformed};

/// The options of a request or of its acknowledgement (OACK).
///
/// Other options are ignored, as RFC 2347 requires. So are values that mean nothing; one that is
/// too large counts as the largest. A server may answer any option with a smaller value or not at
/// all, and real clients ask for `blksize` 65536 or `windowsize` 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes per block, 8 to 65,464.
    pub blksize: Option<u16>,
    /// Seconds until a packet is sent again, 1 to 255.
    pub timeout: Option<u8>,
    /// Size of the file in bytes; a client sends anything to ask for it.
    pub tsize: Option<u64>,
    /// Blocks per acknowledgement, 1 to 65,535.
    pub windowsize: Option<u16>,
}

// === impl Options ===

impl Options {
    /// Decodes names and values up to the end or padding. The first occurrence of an option counts.
    pub(super) fn parse(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mut options = Self::default();
        while !fields.0.is_empty() {
            let name = fields.next()?;
            if name.is_empty() {
                break;
            }
            // A name at the very end, without a value, asks for nothing.
            if fields.0.is_empty() {
                break;
            }
            options.read(name, fields.next()?);
        }
        Ok(options)
    }

    /// Whether there are no options.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Appends the encoded options to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut write = |name: &str, value: Option<u64>| {
            if let Some(value) = value {
                out.extend(format!("{name}\0{value}\0").bytes());
            }
        };
        write("blksize", self.blksize.map(u64::from));
        write("timeout", self.timeout.map(u64::from));
        write("tsize", self.tsize);
        write("windowsize", self.windowsize.map(u64::from));
    }

    fn read(&mut self, name: &[u8], value: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("blksize") {
            self.blksize = self.blksize.or(number(value, 8, 65_464));
        } else if is("timeout") {
            // Not clamped: a client that asks for more does not repeat its packets earlier.
            let timeout = number(value, 1, u64::MAX);
            self.timeout = self
                .timeout
                .or(timeout.and_then(|timeout: u64| timeout.try_into().ok()));
        } else if is("tsize") {
            self.tsize = self.tsize.or(number(value, 0, u64::MAX)).or(Some(0));
        } else if is("windowsize") {
            self.windowsize = self.windowsize.or(number(value, 1, 65_535));
        }
    }
}

/// Parses decimal digits. A number beyond `most` is `most`; one below `least`, or anything else, is
/// none.
fn number<N: TryFrom<u64>>(text: &[u8], least: u64, most: u64) -> Option<N> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = text.iter().fold(0_u64, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    let value = Some(value.min(most)).filter(|value| *value >= least)?;
    N::try_from(value).ok()
}
