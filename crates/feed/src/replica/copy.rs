//! The copy of a partition on disk, by which a replica starts where no controller is.
//!
//! A line that names format and version, the SHA-256 of the rest, then messages, each after its length: a header, then parts as on the
//! feed. A file that is not whole, not of this partition or not of this version is named in the log and ignored.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use boot::Catalog;
use prost::Message;

use crate::inventory::Inventory;
use crate::proto::{Commit, Part, Position};
use crate::wire;

use super::incoming::{Arrived, Incoming};

/// Changes with the format; a version that is not this one is ignored.
const MAGIC: &[u8] = b"shaper feed copy 1\n";
/// Longer than a million objects.
const MAX_BYTES: u64 = 4 * 1024 * 1024 * 1024;
/// Objects of a part.
const PART_OBJECTS: usize = 256;

/// Where a partition's copy is.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    path: PathBuf,
    partition: Box<str>,
}

/// What a copy says of itself.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    partition: String,
    #[prost(message, optional, tag = "2")]
    position: Option<Position>,
    /// Seconds since 1970, by this machine's clock, at which what follows was true.
    #[prost(uint64, tag = "3")]
    true_at: u64,
}

/// What a copy holds.
pub(crate) struct Restored {
    pub(crate) batch: Arrived,
    pub(crate) position: Option<Position>,
    pub(crate) age: Duration,
}

/// Why a copy is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it was not written by a shaper of this version")]
    Foreign,
    #[error("it is of partition {0:?}")]
    Other(String),
    #[error("it is cut short or damaged")]
    Damaged,
}

impl Copy {
    /// In this directory.
    pub(crate) fn new(directory: &Path, partition: &str) -> Self {
        let name = if partition.is_empty() { "feed.copy".to_owned() } else { format!("feed-{partition}.copy") };
        Self { path: directory.join(name), partition: partition.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// None where there is none.
    pub(crate) fn read(&self) -> Result<Option<Restored>, Unusable> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(MAX_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or(if MAGIC.starts_with(&bytes) { Unusable::Damaged } else { Unusable::Foreign })?;
        let (sum, mut rest) = rest.split_at_checked(SHA256_OUTPUT_LEN).ok_or(Unusable::Damaged)?;
        if digest(&SHA256, rest).as_ref() != sum {
            return Err(Unusable::Damaged);
        }
        let header = Header::decode_length_delimited(&mut rest).map_err(|_| Unusable::Damaged)?;
        if header.partition != *self.partition {
            return Err(Unusable::Other(header.partition));
        }
        let (mut incoming, nothing) = (Incoming::default(), Catalog::new());
        loop {
            let part = Part::decode_length_delimited(&mut rest).map_err(|_| Unusable::Damaged)?;
            if let Some(batch) = incoming.add(part, &self.partition, &nothing).map_err(|_| Unusable::Damaged)? {
                let true_at = UNIX_EPOCH + Duration::from_secs(header.true_at);
                // A clock that was set back makes the copy look new; it is not older than the file system says in any case.
                let age = SystemTime::now().duration_since(true_at).unwrap_or_default();
                return Ok(Some(Restored { batch, position: header.position, age }));
            }
        }
    }

    /// Replaces the copy. A reader sees the old one or the new one, whole, also after a power cut.
    pub(crate) fn write(&self, catalog: &Catalog, position: Option<Position>, age: Duration) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(".feed-copy").permissions(fs::Permissions::from_mode(0o600)).tempfile_in(directory)?;
        self.write_to(file.as_file(), catalog, position, age)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(directory)?.sync_all()
    }

    /// Writes what a copy is.
    pub(super) fn write_to(&self, file: &File, catalog: &Catalog, position: Option<Position>, age: Duration) -> io::Result<()> {
        let mut writer = Summing { inner: BufWriter::with_capacity(256 * 1024, file), sum: Context::new(&SHA256) };
        writer.inner.write_all(MAGIC)?;
        writer.inner.write_all(&[0; SHA256_OUTPUT_LEN])?;
        let true_at = (SystemTime::now() - age).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        writer.message(&Header { partition: self.partition.to_string(), position, true_at })?;
        let mut inventory = Inventory::default();
        let mut part = Part { snapshot: true, ..Part::default() };
        for profile in catalog.profiles().filter(|profile| profile.key.partition == self.partition) {
            inventory.add(&boot::Name::Profile(profile.key.clone()));
            part.profiles.push(wire::from_profile(profile));
            writer.part_if_full(&mut part)?;
        }
        for assignment in catalog.assignments().filter(|assignment| assignment.key.partition == self.partition) {
            inventory.add(&boot::Name::Assignment(assignment.key.clone()));
            part.assignments.push(wire::from_assignment(assignment));
            writer.part_if_full(&mut part)?;
        }
        for unaccepted in catalog.all_unaccepted() {
            let name = unaccepted.name();
            if name.key().partition == self.partition {
                inventory.add_unaccepted(&name);
                part.unaccepted.push(wire::from_unaccepted(unaccepted));
            }
        }
        part.commit = Some(Commit { position, inventory: Some(inventory.into()), heard_millis_ago: 0 });
        writer.message(&part)?;
        let Summing { mut inner, sum } = writer;
        inner.flush()?;
        inner.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        inner.write_all(sum.finish().as_ref())?;
        inner.flush()
    }
}

struct Summing<W> {
    inner: W,
    sum: Context,
}

impl<W: Write> Summing<W> {
    fn message(&mut self, message: &impl Message) -> io::Result<()> {
        let bytes = message.encode_length_delimited_to_vec();
        self.sum.update(&bytes);
        self.inner.write_all(&bytes)
    }

    fn part_if_full(&mut self, part: &mut Part) -> io::Result<()> {
        if part.profiles.len() + part.assignments.len() < PART_OBJECTS {
            return Ok(());
        }
        self.message(part)?;
        *part = Part { snapshot: true, ..Part::default() };
        Ok(())
    }
}
