//! A content as the packets that it travels in.

use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, Weak};

use ahash::AHashMap;

use super::{Content, OpenFile, Whole};
use crate::packet::{DATA_HEADER, write_data_header};

/// About so many bytes of packets are made at once: a block alone is not worth a system call, and what is made long ahead falls out of the
/// cache.
const SHEET: usize = 32 * 1024;

/// DATA packets, one after the other, all but the content's last of the same size.
pub(crate) type Sheet = Arc<Vec<u8>>;

/// Gives the packets of a content, mostly onward. Machines of a rack fetch the same file with the same options at about the same time, so
/// packets are made once for all that are near each other.
#[derive(Debug)]
pub(crate) struct Reader {
    content: Content,
    blksize: u16,
    /// All of the file, if it is small: so that a transfer goes on with what it began with.
    whole: Option<Arc<Whole>>,
    has_begun: bool,
    /// The last one that was used, and its number.
    sheet: Option<(u64, Sheet)>,
}

/// The sheets of a file that somebody holds, by block size and number.
#[derive(Debug, Default)]
pub(super) struct Sheets {
    held: AHashMap<(u16, u64), Weak<Vec<u8>>>,
    /// From how many on those that nobody holds are dropped.
    sweep_at: usize,
}

// === impl Reader ===

impl Reader {
    /// Of this content, in blocks of so many bytes (not 0).
    pub(crate) fn new(content: Content, blksize: u16) -> Self {
        Self {
            content,
            blksize,
            whole: None,
            has_begun: false,
            sheet: None,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }

    /// The number of the last block, which is shorter than the others. Blocks are counted from 1.
    pub(crate) fn last(&self) -> u64 {
        self.size() / u64::from(self.blksize) + 1
    }

    /// The packet of this block and of those behind it, up to `last`, as far as they are in one piece.
    pub(crate) fn packets(&mut self, block: u64, last: u64) -> io::Result<(Sheet, Range<usize>)> {
        let per_sheet = self.per_sheet();
        let number = (block - 1) / per_sheet;
        let sheet = match &self.sheet {
            Some((held, sheet)) if *held == number => sheet.clone(),
            _ => {
                let sheet = self.sheet(number)?;
                self.sheet = Some((number, sheet.clone()));
                sheet
            }
        };
        let first = number * per_sheet + 1;
        let packet = DATA_HEADER + usize::from(self.blksize);
        let start = position(block - first, sheet.len()) * packet;
        let end = (position(last + 1 - first, sheet.len()) * packet).min(sheet.len());
        Ok((sheet, start..end))
    }

    fn per_sheet(&self) -> u64 {
        (SHEET / (DATA_HEADER + usize::from(self.blksize))).max(1) as u64
    }

    /// From another transfer, if one is there; else a new one.
    fn sheet(&mut self, number: u64) -> io::Result<Sheet> {
        let file = match &self.content {
            Content::Text(bytes) => {
                return self.lay_out(number, |offset, buffer| {
                    copy(bytes, offset, buffer);
                    Ok(())
                });
            }
            Content::File(file) => file.clone(),
        };
        if !self.has_begun {
            self.whole = file.whole()?;
            self.has_begun = true;
        }
        if let Some(sheet) = file.sheets().get(self.blksize, number) {
            return Ok(sheet);
        }
        let sheet = self.lay_out(number, |offset, buffer| {
            let Some(whole) = &self.whole else {
                return file.read(buffer, offset);
            };
            copy(&whole.0, offset, buffer);
            Ok(())
        })?;
        file.sheets().put(self.blksize, number, &sheet);
        Ok(sheet)
    }

    /// Writes the packets of a sheet. `read` fills a buffer from an offset of the content on.
    fn lay_out(
        &self,
        number: u64,
        read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Sheet> {
        let blksize = usize::from(self.blksize);
        let first = number * self.per_sheet() + 1;
        let blocks = usize::try_from(self.per_sheet().min(self.last() + 1 - first))
            .expect("a sheet fits into memory");
        let offset = (first - 1) * u64::from(self.blksize);
        let length = usize::try_from(self.size() - offset)
            .map_or(blocks * blksize, |left| left.min(blocks * blksize));
        let mut bytes = vec![0; blocks * DATA_HEADER + length];
        // All of it to the end, and then block by block to its place, which never reaches into what is still to be moved.
        read(offset, &mut bytes[blocks * DATA_HEADER..])?;
        let mut header = Vec::with_capacity(DATA_HEADER);
        for (block, index) in (first..).zip(0..blocks) {
            let from = blocks * DATA_HEADER + index * blksize;
            let to = index * (DATA_HEADER + blksize);
            header.clear();
            write_data_header(low_bits(block), &mut header);
            bytes.copy_within(
                from..(from + blksize).min(blocks * DATA_HEADER + length),
                to + DATA_HEADER,
            );
            bytes[to..to + DATA_HEADER].copy_from_slice(&header);
        }
        Ok(Arc::new(bytes))
    }
}

// === impl Sheets ===

impl Sheets {
    fn get(&self, blksize: u16, number: u64) -> Option<Sheet> {
        self.held.get(&(blksize, number))?.upgrade()
    }

    fn put(&mut self, blksize: u16, number: u64, sheet: &Sheet) {
        if self.held.len() >= self.sweep_at {
            self.held.retain(|_, sheet| sheet.strong_count() > 0);
            self.sweep_at = 2 * self.held.len() + 64;
        }
        self.held.insert((blksize, number), Arc::downgrade(sheet));
    }
}

// === impl OpenFile ===

impl OpenFile {
    fn sheets(&self) -> std::sync::MutexGuard<'_, Sheets> {
        self.sheets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Block numbers are counted round: 65,535 is followed by 0.
pub(crate) fn low_bits(block: u64) -> u16 {
    (block & 0xffff) as u16
}

fn copy(from: &[u8], offset: u64, buffer: &mut [u8]) {
    let start = position(offset, from.len());
    buffer.copy_from_slice(&from[start..start + buffer.len()]);
}

/// An offset in memory; beyond its end, the end.
fn position(offset: u64, length: usize) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
mod tests;
