//! The bytes that a transfer sends.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// A file is read by as much at once: a block alone is not worth a system call.
const READ_AHEAD: usize = 32 * 1024;

/// What there is to send under a name. A clone is the same bytes.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Text(Arc<[u8]>),
    /// A file that is open.
    File(Arc<OpenFile>),
}

/// A file, and what it was when it was opened.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    stamp: Stamp,
}

/// By what a file is taken for unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// Reads a content here and there, and mostly onward.
#[derive(Debug)]
pub(crate) struct Reader {
    content: Content,
    ahead: Vec<u8>,
    ahead_at: u64,
}

// === impl Content ===

impl Content {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::File(file) => file.stamp.size,
        }
    }
}

// === impl OpenFile ===

impl OpenFile {
    /// Takes an open file as it is now.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let stamp = Stamp::of(&file.metadata()?);
        Ok(Self { file, stamp })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Reads, and fails where the file is no longer what it was: a mix of two files must boot nowhere.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        if Stamp::of(&self.file.metadata()?) != self.stamp {
            return Err(io::Error::other("the file was changed while it was sent"));
        }
        Ok(())
    }
}

// === impl Stamp ===

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.size(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

// === impl Reader ===

impl Reader {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, ahead: Vec::new(), ahead_at: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }

    /// Appends so many bytes from there; fewer only where the content ends.
    pub(crate) fn read(&mut self, offset: u64, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let size = self.size();
        let count = usize::try_from(size.saturating_sub(offset)).map_or(count, |left| left.min(count));
        match &self.content {
            Content::Text(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                out.extend(&bytes[start..start + count]);
            }
            Content::File(file) => {
                let is_ahead = offset >= self.ahead_at && offset + count as u64 <= self.ahead_at + self.ahead.len() as u64;
                if !is_ahead {
                    let left = usize::try_from(size - offset.min(size)).unwrap_or(usize::MAX);
                    self.ahead.resize(READ_AHEAD.max(count).min(left), 0);
                    self.ahead_at = offset;
                    let read = file.read(&mut self.ahead, offset);
                    read.inspect_err(|_| self.ahead.clear())?;
                }
                let start = usize::try_from(offset - self.ahead_at).expect("what was read ahead holds the offset");
                out.extend(&self.ahead[start..start + count]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn reader_of(bytes: &[u8]) -> (tempfile::NamedTempFile, Reader) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let open = OpenFile::new(File::open(file.path()).unwrap()).unwrap();
        (file, Reader::new(Content::File(Arc::new(open))))
    }

    #[test]
    fn a_file_is_read_onward_backward_and_over_its_end() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
        let (_file, mut reader) = reader_of(&bytes);
        for offset in [0, 1432, 40_000, 39_000, 99_990, 0, 100_000] {
            let mut out = Vec::new();
            reader.read(offset, 1432, &mut out).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!(out, bytes[start..(start + 1432).min(bytes.len())], "{offset}");
        }
    }

    #[test]
    fn a_file_that_changes_under_a_transfer_is_an_error_and_never_a_mix() {
        let (mut file, mut reader) = reader_of(&[1; 200_000]);
        reader.read(0, 1432, &mut Vec::new()).unwrap();
        file.write_all(&[2; 10]).unwrap();
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
        file.as_file().set_len(10).unwrap();
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
        // ... and it stays one.
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
    }
}
