//! A copy on disk of the last valid objects of each file in a folder, so that a process that starts
//! with a broken file still has them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot::{Assignment, Machine, ObjectKey, ObjectRef, Profile};
use prost::Message;

use crate::checksummed_file::{self, CopyError};
use crate::proto::{self, Part};
use crate::wire;

/// Names the format and its version. Files with another first line are ignored.
const MAGIC: &[u8] = b"shaper folder copy 1\n";

/// The copy of one folder.
#[derive(Clone, Debug)]
pub struct FolderCopy {
    path: PathBuf,
    /// The folder that was copied.
    folder: String,
}

/// The objects that a file had when it was last valid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileCopy {
    /// Relative to the folder.
    pub path: PathBuf,
    /// The Profiles in the file.
    pub profiles: Vec<Arc<Profile>>,
    /// The Assignments in the file.
    pub assignments: Vec<Arc<Assignment>>,
    /// The Machines in the file.
    pub machines: Vec<Arc<Machine>>,
    /// Those of its objects that were served from another file instead.
    pub shadowed: Vec<ObjectRef>,
}

/// The first message of a copy.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    folder: String,
    #[prost(uint64, tag = "2")]
    files: u64,
}

#[derive(Clone, PartialEq, Message)]
struct FileMessage {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(message, optional, tag = "2")]
    objects: Option<Part>,
    #[prost(message, repeated, tag = "3")]
    profiles_shadowed: Vec<proto::ObjectKey>,
    #[prost(message, repeated, tag = "4")]
    assignments_shadowed: Vec<proto::ObjectKey>,
    #[prost(message, repeated, tag = "5")]
    machines_shadowed: Vec<proto::ObjectKey>,
}

// === impl FolderCopy ===

impl FolderCopy {
    /// Returns the copy of `folder` in `directory`.
    pub fn new(directory: &Path, folder: &Path) -> Self {
        Self {
            path: directory.join("folder.copy"),
            folder: folder.to_string_lossy().into_owned(),
        }
    }

    /// The path of the copy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the copy; `None` if there is none. Profiles that this version can't compile are left
    /// out.
    pub fn read(&self) -> Result<Option<Vec<FileCopy>>, CopyError> {
        let Some(bytes) = checksummed_file::read(&self.path, MAGIC)? else {
            return Ok(None);
        };
        let mut rest = &bytes[..];
        let header = Header::decode_length_delimited(&mut rest).map_err(|_| CopyError::Corrupt)?;
        if header.folder != self.folder {
            return Err(CopyError::WrongSource(format!(
                "the folder {}",
                header.folder
            )));
        }
        let read_file = |_| {
            let message =
                FileMessage::decode_length_delimited(&mut rest).map_err(|_| CopyError::Corrupt)?;
            FileCopy::from_message(message).ok_or(CopyError::Corrupt)
        };
        (0..header.files)
            .map(read_file)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Replaces the copy atomically: readers see either the old or the new content, even after a
    /// power failure.
    pub fn write(&self, files: &[FileCopy]) -> io::Result<()> {
        checksummed_file::write(&self.path, MAGIC, |writer| {
            writer.message(&Header {
                folder: self.folder.clone(),
                files: files.len() as u64,
            })?;
            files
                .iter()
                .try_for_each(|file| writer.message(&FileMessage::from(file)))
        })
    }
}

// === impl FileCopy ===

impl FileCopy {
    fn from_message(message: FileMessage) -> Option<Self> {
        let objects = message.objects.unwrap_or_default();
        let key = |key: proto::ObjectKey| ObjectKey::new(key.namespace, key.name);
        let shadowed = |keys: Vec<proto::ObjectKey>, kind: fn(ObjectKey) -> ObjectRef| {
            keys.into_iter().map(key).map(kind)
        };
        let shadowed = shadowed(message.profiles_shadowed, ObjectRef::Profile)
            .chain(shadowed(
                message.assignments_shadowed,
                ObjectRef::Assignment,
            ))
            .chain(shadowed(message.machines_shadowed, ObjectRef::Machine))
            .collect();
        Some(Self {
            path: message.path.into(),
            profiles: objects
                .profiles
                .into_iter()
                .filter_map(|profile| {
                    wire::decode_profile(profile, "", |_| None)
                        .ok()
                        .map(Arc::new)
                })
                .collect(),
            assignments: objects
                .assignments
                .into_iter()
                .map(|assignment| wire::decode_assignment(assignment, "").ok().map(Arc::new))
                .collect::<Option<_>>()?,
            machines: objects
                .machines
                .into_iter()
                .map(|machine| wire::decode_machine(machine, "").ok().map(Arc::new))
                .collect::<Option<_>>()?,
            shadowed,
        })
    }
}

impl From<&FileCopy> for FileMessage {
    fn from(file: &FileCopy) -> Self {
        let mut message = Self {
            path: file.path.to_string_lossy().into_owned(),
            ..Self::default()
        };
        for name in &file.shadowed {
            let shadowed = match name {
                ObjectRef::Profile(_) => &mut message.profiles_shadowed,
                ObjectRef::Assignment(_) => &mut message.assignments_shadowed,
                ObjectRef::Machine(_) => &mut message.machines_shadowed,
            };
            shadowed.push(wire::encode_key(name.key()));
        }
        let objects = Part {
            profiles: file
                .profiles
                .iter()
                .map(|profile| wire::encode_profile(profile))
                .collect(),
            assignments: file
                .assignments
                .iter()
                .map(|assignment| wire::encode_assignment(assignment))
                .collect(),
            machines: file
                .machines
                .iter()
                .map(|machine| wire::encode_machine(machine))
                .collect(),
            ..Part::default()
        };
        message.objects = Some(objects);
        message
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    fn files() -> Vec<FileCopy> {
        let key = |name: &str| ObjectKey::new("ns", name);
        let labels = BTreeMap::from([("os".to_owned(), "x".to_owned())]);
        let profile =
            Profile::compile(key("p"), None, &labels, "#!ipxe\n", &BTreeMap::new()).unwrap();
        let assignment = Assignment {
            key: key("a"),
            created: None,
            labels: boot::Labels::default(),
            subjects: boot::SubjectSelectors {
                serials: ["S1".into()].into(),
                ..boot::SubjectSelectors::default()
            },
            profiles: labels.iter().collect(),
            priority: 3,
            variables: boot::Variables::default(),
        };
        let machine = Machine {
            key: ObjectKey::new("", "m"),
            created: None,
            labels: labels.iter().collect(),
            uuid: None,
            serial: Some("S1".into()),
            macs: [boot::Mac::from_octets(&[2, 0, 0, 0, 0, 1]).unwrap()].into(),
            variables: boot::Variables::default(),
        };
        let one = FileCopy {
            path: "x/one.yaml".into(),
            profiles: vec![Arc::new(profile)],
            assignments: vec![Arc::new(assignment.clone())],
            machines: vec![Arc::new(machine.clone())],
            shadowed: vec![
                ObjectRef::Assignment(key("a")),
                ObjectRef::Machine(machine.key),
            ],
        };
        let two = FileCopy {
            path: "two.json".into(),
            assignments: vec![Arc::new(assignment)],
            ..FileCopy::default()
        };
        vec![one, two]
    }

    #[test]
    fn a_copy_restores_the_objects_of_each_file_and_which_are_shadowed() {
        let directory = tempfile::tempdir().unwrap();
        let copy = FolderCopy::new(directory.path(), Path::new("/srv/boot"));
        assert!(copy.read().unwrap().is_none());
        copy.write(&files()).unwrap();
        assert_eq!(copy.read().unwrap().unwrap(), files());
        let other = FolderCopy::new(directory.path(), Path::new("/srv/other"));
        assert!(
            matches!(other.read(), Err(CopyError::WrongSource(folder)) if folder == "the folder /srv/boot")
        );
    }

    #[test]
    fn a_copy_truncated_or_corrupted_at_any_byte_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let copy = FolderCopy::new(directory.path(), Path::new("/srv/boot"));
        copy.write(&files()).unwrap();
        let whole = fs::read(copy.path()).unwrap();
        for at in 0..whole.len() {
            fs::write(copy.path(), &whole[..at]).unwrap();
            assert!(
                matches!(copy.read(), Err(CopyError::Corrupt)),
                "cut to {at}"
            );
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(copy.path(), &damaged).unwrap();
            assert!(
                matches!(
                    copy.read(),
                    Err(CopyError::Corrupt | CopyError::WrongFormat)
                ),
                "damaged at {at}"
            );
        }
    }

    #[test]
    fn a_copy_of_any_length_is_refused_before_it_fills_the_memory() {
        let directory = tempfile::tempdir().unwrap();
        let copy = FolderCopy::new(directory.path(), Path::new("/srv/boot"));
        let file = fs::File::create(copy.path()).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = copy.read().unwrap_err().to_string();
        assert!(error.contains("it is longer than"), "{error}");
    }

    #[test]
    fn a_copy_that_is_a_symlink_or_a_pipe_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let copy = FolderCopy::new(directory.path(), Path::new("/srv/boot"));
        copy.write(&files()).unwrap();
        let aside = directory.path().join("aside");
        fs::rename(copy.path(), &aside).unwrap();
        std::os::unix::fs::symlink(&aside, copy.path()).unwrap();
        assert!(matches!(copy.read(), Err(CopyError::Unreadable(_))));
        fs::remove_file(copy.path()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(copy.path())
            .status();
        assert!(made.unwrap().success());
        assert!(matches!(copy.read(), Err(CopyError::Unreadable(_))));
        // Writing replaces what is there, and does not follow it.
        copy.write(&files()).unwrap();
        assert_eq!(copy.read().unwrap().unwrap(), files());
    }
}
