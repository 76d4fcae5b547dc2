//! The copy of a partition on disk, from which a replica starts while no controller is reachable.
//!
//! A [checksummed file](crate::checksummed_file) of a header and parts as in the feed. A file that
//! is damaged, or belongs to another partition or version, is logged and ignored.

#[cfg(test)]
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boot::{Catalog, ObjectRef, Partial};
use prost::Message;

use crate::checksummed_file::{self, CopyError, Writer};
use crate::inventory::Inventory;
use crate::proto::{Commit, Part, Position};
use crate::wire;

use super::incoming::{BatchBuilder, ReceivedBatch};

/// Names the format and its version. Files with another first line are ignored.
const MAGIC: &[u8] = b"shaper feed copy 1\n";
/// How many objects a part has at most.
const PART_OBJECTS: usize = 256;

/// The copy of one partition.
#[derive(Clone, Debug)]
pub(crate) struct DiskCopy {
    path: PathBuf,
    partition: Box<str>,
}

/// The first message of a copy.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    partition: String,
    #[prost(message, optional, tag = "2")]
    position: Option<Position>,
    /// When the content was last confirmed: seconds since 1970 by this machine's clock.
    #[prost(uint64, tag = "3")]
    confirmed_at: u64,
}

/// The content of a copy.
pub(crate) struct Restored {
    pub(crate) batch: ReceivedBatch,
    pub(crate) position: Option<Position>,
    pub(crate) age: Duration,
}

impl DiskCopy {
    /// Returns the copy of `partition` in `directory`.
    pub(crate) fn new(directory: &Path, partition: &str) -> Self {
        let name = if partition.is_empty() {
            "feed.copy".to_owned()
        } else {
            format!("feed-{partition}.copy")
        };
        Self {
            path: directory.join(name),
            partition: partition.into(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the copy; `None` if there is none.
    pub(crate) fn read(&self) -> Result<Option<Restored>, CopyError> {
        let Some(bytes) = checksummed_file::read(&self.path, MAGIC)? else {
            return Ok(None);
        };
        let mut rest = &bytes[..];
        let header = Header::decode_length_delimited(&mut rest).map_err(|_| CopyError::Corrupt)?;
        if header.partition != *self.partition {
            return Err(CopyError::WrongSource(format!(
                "partition {:?}",
                header.partition
            )));
        }
        let (mut incoming, nothing) = (BatchBuilder::default(), Catalog::new());
        loop {
            let part = Part::decode_length_delimited(&mut rest).map_err(|_| CopyError::Corrupt)?;
            if let Some(batch) = incoming
                .add(part, &self.partition, &nothing)
                .map_err(|_| CopyError::Corrupt)?
            {
                let confirmed_at = UNIX_EPOCH + Duration::from_secs(header.confirmed_at);
                // If the clock was set back, the copy looks newer than it is; its age is then zero.
                let age = SystemTime::now()
                    .duration_since(confirmed_at)
                    .unwrap_or_default();
                return Ok(Some(Restored {
                    batch,
                    position: header.position,
                    age,
                }));
            }
        }
    }

    /// Replaces the copy atomically: readers see either the old or the new content, even after a
    /// power failure.
    pub(crate) fn write(
        &self,
        catalog: &Catalog,
        position: Option<Position>,
        age: Duration,
    ) -> io::Result<()> {
        checksummed_file::write(&self.path, MAGIC, |writer| {
            self.fill(writer, catalog, position, age)
        })
    }

    /// Writes the copy to an open file.
    #[cfg(test)]
    pub(super) fn write_to(
        &self,
        file: &File,
        catalog: &Catalog,
        position: Option<Position>,
        age: Duration,
    ) -> io::Result<()> {
        checksummed_file::write_to(file, MAGIC, |writer| {
            self.fill(writer, catalog, position, age)
        })
    }

    fn fill(
        &self,
        writer: &mut Writer<impl Write>,
        catalog: &Catalog,
        position: Option<Position>,
        age: Duration,
    ) -> io::Result<()> {
        let confirmed_at = (SystemTime::now() - age)
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        writer.message(&Header {
            partition: self.partition.to_string(),
            position,
            confirmed_at,
        })?;
        let mut inventory = Inventory::default();
        let mut part = Part {
            snapshot: true,
            ..Part::default()
        };
        for profile in catalog
            .profiles()
            .filter(|profile| *profile.key.partition == *self.partition)
        {
            inventory
                .accepted
                .add(&ObjectRef::Profile(profile.key.clone()));
            part.profiles.push(wire::encode_profile(profile));
            part_if_full(writer, &mut part)?;
        }
        for machine in catalog
            .machines()
            .filter(|machine| *machine.key.partition == *self.partition)
        {
            let name = ObjectRef::Machine(machine.key.clone());
            inventory.accepted.add(&name);
            part.machines.push(wire::encode_machine(machine));
            part_if_full(writer, &mut part)?;
        }
        for assignment in catalog
            .assignments()
            .filter(|assignment| *assignment.key.partition == *self.partition)
        {
            inventory
                .accepted
                .add(&ObjectRef::Assignment(assignment.key.clone()));
            part.assignments.push(wire::encode_assignment(assignment));
            part_if_full(writer, &mut part)?;
        }
        for rejected in catalog.all_rejected() {
            let name = rejected.name();
            if *name.key().partition == *self.partition {
                inventory.rejected.add(&name);
                let message = wire::encode_rejected(rejected);
                match rejected.partial {
                    Partial::Machine(_) => part.machines_rejected.push(message),
                    _ => part.rejected.push(message),
                }
            }
        }
        part.commit = Some(Commit {
            position,
            inventory: Some(inventory.into()),
            heard_millis_ago: 0,
        });
        writer.message(&part)
    }
}

fn part_if_full(writer: &mut Writer<impl Write>, part: &mut Part) -> io::Result<()> {
    if part.profiles.len() + part.machines.len() + part.assignments.len() < PART_OBJECTS {
        return Ok(());
    }
    writer.message(part)?;
    *part = Part {
        snapshot: true,
        ..Part::default()
    };
    Ok(())
}
