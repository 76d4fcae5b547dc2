//! The bytes that a transfer sends.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A file is read by as much at once: a block alone is not worth a system call, and what is read long ahead falls out of the cache.
const READ_AHEAD: usize = 16 * 1024;
/// Boot programs are hardly larger. Up to this size a file is read once for all transfers that run.
const MAX_SHARED: u64 = 4 * 1024 * 1024;
/// Memory for files that transfers share, all together.
const SHARED_BYTES: usize = 64 * 1024 * 1024;

/// What is left of it.
static SHARED_LEFT: AtomicUsize = AtomicUsize::new(SHARED_BYTES);

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
    /// All of it, while a transfer runs that uses it.
    whole: Mutex<Weak<Whole>>,
}

/// A file in memory.
#[derive(Debug)]
struct Whole(Vec<u8>);

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
    whole: Option<Arc<Whole>>,
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
        Ok(Self { file, stamp, whole: Mutex::default() })
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The whole file in memory, if it is small and there is room.
    fn whole(&self) -> io::Result<Option<Arc<Whole>>> {
        if self.stamp.size > MAX_SHARED {
            return Ok(None);
        }
        let mut shared = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = shared.upgrade() {
            return Ok(Some(whole));
        }
        let size = usize::try_from(self.stamp.size).expect("a small file fits into memory");
        if SHARED_LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size)).is_err() {
            return Ok(None);
        }
        let mut whole = Whole(vec![0; size]);
        self.read(&mut whole.0, 0)?;
        let whole = Arc::new(whole);
        *shared = Arc::downgrade(&whole);
        Ok(Some(whole))
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

// === impl Whole ===

impl Drop for Whole {
    fn drop(&mut self) {
        SHARED_LEFT.fetch_add(self.0.len(), Ordering::Relaxed);
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
        Self { content, whole: None, ahead: Vec::new(), ahead_at: 0 }
    }

    pub(crate) fn size(&self) -> u64 {
        self.content.size()
    }

    /// Appends so many bytes from there; fewer only where the content ends.
    pub(crate) fn read(&mut self, offset: u64, count: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let size = self.size();
        let count = usize::try_from(size.saturating_sub(offset)).map_or(count, |left| left.min(count));
        let file = match &self.content {
            Content::Text(bytes) => {
                out.extend(&bytes[position(offset, bytes.len())..][..count]);
                return Ok(());
            }
            Content::File(file) => file,
        };
        if self.whole.is_none() && self.ahead.is_empty() {
            self.whole = file.whole()?;
        }
        if let Some(whole) = &self.whole {
            out.extend(&whole.0[position(offset, whole.0.len())..][..count]);
            return Ok(());
        }
        let is_ahead = offset >= self.ahead_at && offset + count as u64 <= self.ahead_at + self.ahead.len() as u64;
        if !is_ahead {
            let left = usize::try_from(size - offset.min(size)).unwrap_or(usize::MAX);
            self.ahead.resize(READ_AHEAD.max(count).min(left), 0);
            self.ahead_at = offset;
            let read = file.read(&mut self.ahead, offset);
            read.inspect_err(|_| self.ahead.clear())?;
        }
        out.extend(&self.ahead[position(offset - self.ahead_at, self.ahead.len())..][..count]);
        Ok(())
    }
}

/// An offset in memory; beyond its end, the end.
fn position(offset: u64, length: usize) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The memory for small files is one for all, also for all tests.
    static MEMORY: Mutex<()> = Mutex::new(());

    fn reader_of(bytes: &[u8]) -> (tempfile::NamedTempFile, Reader) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let open = OpenFile::new(File::open(file.path()).unwrap()).unwrap();
        (file, Reader::new(Content::File(Arc::new(open))))
    }

    #[test]
    fn a_file_is_read_onward_backward_and_over_its_end() {
        let bytes: Vec<u8> = (0..=250).cycle().take(100_000).collect();
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
        let (mut file, mut reader) = reader_of(&vec![1; 5_000_000]);
        reader.read(0, 1432, &mut Vec::new()).unwrap();
        file.write_all(&[2; 10]).unwrap();
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
        file.as_file().set_len(10).unwrap();
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
        // ... and it stays one.
        assert!(reader.read(150_000, 1432, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_small_file_is_in_memory_once_for_all_that_read_it_and_only_while_they_do() {
        let _memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut file, mut first) = reader_of(&vec![1; 100_000]);
        let mut second = Reader::new(first.content.clone());
        first.read(0, 512, &mut Vec::new()).unwrap();
        second.read(512, 512, &mut Vec::new()).unwrap();
        let (one, other) = (first.whole.as_ref().unwrap(), second.whole.as_ref().unwrap());
        assert!(Arc::ptr_eq(one, other));
        // What has begun goes on with what it began with.
        file.write_all(&[2; 10]).unwrap();
        let mut out = Vec::new();
        first.read(99_999, 512, &mut out).unwrap();
        assert_eq!(out, [1]);
        let Content::File(open) = &first.content else { panic!() };
        let open = open.clone();
        drop((first, second));
        assert!(open.whole.lock().unwrap().upgrade().is_none());
    }

    #[test]
    fn where_memory_for_small_files_is_used_up_they_are_read_piece_by_piece() {
        let _memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        let size = 3_000_000;
        let mut readers: Vec<_> = (0..SHARED_BYTES / size + 3).map(|_| reader_of(&vec![3; size])).collect();
        for (_, reader) in &mut readers {
            let mut out = Vec::new();
            reader.read(size as u64 - 5, 512, &mut out).unwrap();
            assert_eq!(out, [3; 5]);
        }
        assert!(readers.iter().any(|(_, reader)| reader.whole.is_none()));
    }
}
