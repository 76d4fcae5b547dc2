//! The bytes that a transfer sends.

mod reader;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reader::Sheets;
pub(crate) use reader::{Reader, low_bits};

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
    /// What transfers send of it just now.
    sheets: Mutex<Sheets>,
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
        Ok(Self {
            file,
            stamp,
            whole: Mutex::default(),
            sheets: Mutex::default(),
        })
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
        if SHARED_LEFT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(size)
            })
            .is_err()
        {
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
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
