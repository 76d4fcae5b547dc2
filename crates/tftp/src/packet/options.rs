//! The options of RFC 2348 (blksize), RFC 2349 (timeout, tsize) and RFC 7440 (windowsize).

use std::ops::RangeInclusive;

use super::{Fields, Malformed};

/// The options of a request or of its acknowledgement (OACK).
///
/// Other options are ignored, as RFC 2347 requires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes per block, 8 to 65,464.
    pub blksize: Option<u16>,
    /// Seconds until a packet is sent again, 1 to 255.
    pub timeout: Option<u8>,
    /// Size of the file in bytes; a client sends any number to ask for it.
    pub tsize: Option<u64>,
    /// Blocks per acknowledgement, 1 to 65,535.
    pub windowsize: Option<u16>,
}

/// An option's value is outside the range of its RFC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value of option {0}")]
pub struct InvalidOption(pub(super) &'static str);

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
            options.read(name, fields.next()?)?;
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

    fn read(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidOption> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("blksize") {
            self.blksize = self.blksize.or(Some(number("blksize", value, 8..=65_464)?));
        } else if is("timeout") {
            self.timeout = self.timeout.or(Some(number("timeout", value, 1..=255)?));
        } else if is("tsize") {
            self.tsize = self.tsize.or(Some(number("tsize", value, 0..=u64::MAX)?));
        } else if is("windowsize") {
            self.windowsize = self
                .windowsize
                .or(Some(number("windowsize", value, 1..=65_535)?));
        }
        Ok(())
    }
}

fn number<N: TryFrom<u64>>(
    name: &'static str,
    text: &[u8],
    allowed: RangeInclusive<u64>,
) -> Result<N, InvalidOption> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value = digits
        .and_then(|digits| digits.parse().ok())
        .filter(|value| allowed.contains(value));
    value
        .and_then(|value| N::try_from(value).ok())
        .ok_or(InvalidOption(name))
}
