//! Checksummed files of length-delimited messages, which are read as a whole or rejected.
//!
//! A file is a line that names format and version, the SHA-256 of the rest, then the messages, each
//! preceded by its length.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use files::{Symlinks, read_regular};
use prost::Message;

/// The longest file that is written or read: room for several million objects.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// An error from reading a copy on disk.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system returned an error.
    #[error("can't be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file starts with another format or version.
    #[error("not written by this version of shaper")]
    WrongFormat,
    /// The copy belongs to another partition or folder.
    #[error("belongs to {0}")]
    WrongSource(String),
    /// The checksum does not match, or a message is malformed.
    #[error("truncated or corrupt")]
    Corrupt,
}

/// Writes messages to a file and computes their checksum.
pub(crate) struct Writer<W> {
    inner: W,
    checksum: Context,
    /// Bytes that may still be written.
    room: u64,
}

/// Reads and verifies a file. Returns its messages, still encoded, or `None` if the file does not
/// exist.
pub(crate) fn read(path: &Path, magic: &[u8]) -> Result<Option<Vec<u8>>, CopyError> {
    let mut bytes = match read_regular(path, Symlinks::Refuse, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let rest = bytes
        .strip_prefix(magic)
        .ok_or(if magic.starts_with(&bytes) {
            CopyError::Corrupt
        } else {
            CopyError::WrongFormat
        })?;
    let (checksum, rest) = rest
        .split_at_checked(SHA256_OUTPUT_LEN)
        .ok_or(CopyError::Corrupt)?;
    if digest(&SHA256, rest).as_ref() != checksum {
        return Err(CopyError::Corrupt);
    }
    let head = bytes.len() - rest.len();
    bytes.drain(..head);
    Ok(Some(bytes))
}

/// Replaces a file atomically: readers see either the old or the new content, even after a power
/// failure.
pub(crate) fn write(
    path: &Path,
    magic: &[u8],
    fill: impl FnOnce(&mut Writer<BufWriter<&File>>) -> io::Result<()>,
) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .prefix(".copy")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    write_to(file.as_file(), magic, fill)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}

/// Writes header, checksum and messages to an open file.
pub(crate) fn write_to(
    file: &File,
    magic: &[u8],
    fill: impl FnOnce(&mut Writer<BufWriter<&File>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut writer = Writer {
        inner: BufWriter::with_capacity(256 * 1024, file),
        checksum: Context::new(&SHA256),
        room: MAX_BYTES - (magic.len() + SHA256_OUTPUT_LEN) as u64,
    };
    writer.inner.write_all(magic)?;
    writer.inner.write_all(&[0; SHA256_OUTPUT_LEN])?;
    fill(&mut writer)?;
    let Writer {
        mut inner,
        checksum,
        ..
    } = writer;
    inner.flush()?;
    inner.seek(SeekFrom::Start(magic.len() as u64))?;
    inner.write_all(checksum.finish().as_ref())?;
    inner.flush()
}

impl<W: Write> Writer<W> {
    pub(crate) fn message(&mut self, message: &impl Message) -> io::Result<()> {
        let bytes = message.encode_length_delimited_to_vec();
        // A file that could not be read again is of no use.
        self.room = self.room.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::other(format!("it would be longer than {MAX_BYTES} bytes"))
        })?;
        self.checksum.update(&bytes);
        self.inner.write_all(&bytes)
    }
}
