//! The content of a transfer: bytes in memory or an open file.

mod reader;

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reader::ChunkCache;
pub(crate) use reader::{Reader, wire_block_number};

/// Largest file that is read into memory once for all running transfers. Boot programs are rarely
/// larger.
const MAX_SHARED_FILE: u64 = 4 * 1024 * 1024;
/// Longest text that is converted to netascii.
const MAX_TEXT: u64 = 64 * 1024;
/// Memory for files that transfers share, in total.
const SHARED_BYTES: usize = 64 * 1024 * 1024;

/// The unused part of [`SHARED_BYTES`].
static SHARED_BYTES_LEFT: AtomicUsize = AtomicUsize::new(SHARED_BYTES);

/// The bytes to send under a name. Clones share them.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// An open file.
    File(Arc<OpenFile>),
}

/// An open file and its fingerprint when it was opened.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    fingerprint: Fingerprint,
    /// The whole file, while a transfer that uses it runs.
    shared_file: Mutex<Weak<SharedFile>>,
    /// The file as netascii, while a transfer that uses it runs.
    netascii: Mutex<Netascii>,
    /// The chunks that transfers are sending.
    chunk_cache: Mutex<ChunkCache>,
}

/// A file's content in memory.
#[derive(Debug)]
struct SharedFile(Vec<u8>);

/// What is known of a file's text in netascii.
#[derive(Debug, Default)]
enum Netascii {
    #[default]
    Unknown,
    NoText,
    Text(Weak<[u8]>),
}

/// Identifies one version of a file: if it is unchanged, so is the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

// === impl Content ===

impl Content {
    /// The length in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.fingerprint.size,
        }
    }
}

impl Content {
    /// Converts text to netascii (RFC 1350, RFC 764): LF becomes CR LF, CR becomes CR NUL. `None`
    /// if this is not text, or too long for one.
    ///
    /// A boot program that was converted would be broken, so anything with a NUL is not text.
    pub(crate) fn to_netascii(&self) -> io::Result<Option<Self>> {
        if self.size() > MAX_TEXT {
            return Ok(None);
        }
        match self {
            Self::Bytes(bytes) => Ok(netascii(bytes).map(Self::Bytes)),
            Self::File(file) => Ok(file.to_netascii()?.map(Self::Bytes)),
        }
    }
}

fn netascii(bytes: &[u8]) -> Option<Arc<[u8]>> {
    if bytes.contains(&0) {
        return None;
    }
    let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    let mut last = 0;
    for &byte in bytes {
        match byte {
            b'\n' if last == b'\r' => {
                // Already CR LF: the CR was written as such.
                text.pop();
                text.push(b'\n');
            }
            b'\n' => text.extend(b"\r\n"),
            b'\r' => text.extend(b"\r\0"),
            _ => text.push(byte),
        }
        last = byte;
    }
    Some(text.into())
}

// === impl OpenFile ===

impl OpenFile {
    /// Returns the file as netascii. Transfers that run at the same time share the text: anybody can
    /// ask for one, at no cost.
    fn to_netascii(&self) -> io::Result<Option<Arc<[u8]>>> {
        let mut known = self.netascii.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Netascii::NoText => return Ok(None),
            Netascii::Text(text) if let Some(text) = text.upgrade() => return Ok(Some(text)),
            _ => {}
        }
        let size = usize::try_from(self.fingerprint.size).expect("a text fits into memory");
        let mut bytes = vec![0; size];
        self.read(&mut bytes, 0)?;
        let text = netascii(&bytes);
        *known = text.as_ref().map_or(Netascii::NoText, |text| {
            Netascii::Text(Arc::downgrade(text))
        });
        Ok(text)
    }

    /// Wraps a file as it is now.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let fingerprint = Fingerprint::of(&file.metadata()?);
        Ok(Self {
            file,
            fingerprint,
            shared_file: Mutex::default(),
            netascii: Mutex::default(),
            chunk_cache: Mutex::default(),
        })
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the whole file in memory, if it is small and memory is left.
    fn shared_file(&self) -> io::Result<Option<Arc<SharedFile>>> {
        if self.fingerprint.size > MAX_SHARED_FILE {
            return Ok(None);
        }
        let mut shared = self
            .shared_file
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(shared_file) = shared.upgrade() {
            return Ok(Some(shared_file));
        }
        let size = usize::try_from(self.fingerprint.size).expect("a small file fits into memory");
        if SHARED_BYTES_LEFT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(size)
            })
            .is_err()
        {
            return Ok(None);
        }
        let mut shared_file = SharedFile(vec![0; size]);
        self.read(&mut shared_file.0, 0)?;
        let shared_file = Arc::new(shared_file);
        *shared = Arc::downgrade(&shared_file);
        Ok(Some(shared_file))
    }

    /// Fills `buffer` from `offset`; fails if the file has changed, since a machine must never boot
    /// a mix of two versions.
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)?;
        if Fingerprint::of(&self.file.metadata()?) != self.fingerprint {
            return Err(io::Error::other("the file changed during the transfer"));
        }
        Ok(())
    }
}

// === impl SharedFile ===

impl Drop for SharedFile {
    fn drop(&mut self) {
        SHARED_BYTES_LEFT.fetch_add(self.0.len(), Ordering::Relaxed);
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netascii_marks_line_ends_and_a_program_is_not_text() {
        let convert = |bytes: &[u8]| match Content::Bytes(bytes.into()).to_netascii().unwrap() {
            Some(Content::Bytes(bytes)) => Some(bytes.to_vec()),
            _ => None,
        };
        assert_eq!(convert(b"a\nb\r\nc\rd").unwrap(), b"a\r\nb\r\nc\r\0d");
        assert_eq!(convert(b"MZ\0\n"), None);
        assert_eq!(convert(&vec![b'a'; 300 * 1024]), None);
    }
}
