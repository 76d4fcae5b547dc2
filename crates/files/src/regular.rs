//! Opens regular files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// What to do with a symlink at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Open the file that it leads to.
    Follow,
    /// Fail.
    Refuse,
}

/// Opens a regular file to read it. Fails for everything else, instead of waiting for the other end
/// of a FIFO or reading a device.
///
/// Reads don't block either where the kernel has a choice: `/proc/kmsg` claims to be a regular
/// file.
pub fn open_regular(path: &Path, symlinks: Symlinks) -> io::Result<File> {
    let mut flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    if symlinks == Symlinks::Refuse {
        flags |= OFlag::O_NOFOLLOW;
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    regular(opened, symlinks)
}

/// Reads a regular file of at most `limit` bytes. A longer one is not read, and is an error. Opens it
/// as [`open_regular`] does.
pub fn read_regular(path: &Path, symlinks: Symlinks, limit: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path, symlinks)?;
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_long(limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // It may grow while it is read.
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if read as u64 > limit {
        return Err(too_long(limit));
    }
    Ok(bytes)
}

/// Opens a regular file to write it, without changing it, and creates it if it does not exist.
/// Fails for symlinks and everything else.
pub fn create_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags.bits())
        .open(path);
    regular(opened, Symlinks::Refuse)
}

fn regular(opened: io::Result<File>, symlinks: Symlinks) -> io::Result<File> {
    let file = opened.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) if symlinks == Symlinks::Refuse => {
            io::Error::other("it is a symlink, which is not followed here")
        }
        // A socket, or a FIFO without a reader.
        Some(Errno::ENXIO) => not_regular(),
        _ => error,
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(not_regular())
    }
}

fn too_long(limit: u64) -> io::Error {
    io::Error::other(format!("it is longer than {limit} bytes"))
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nothing_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "x").unwrap();
        symlink("file", path("link")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        symlink("fifo", path("link-to-fifo")).unwrap();
        symlink("/dev/zero", path("device")).unwrap();
        let _socket = UnixListener::bind(path("socket")).unwrap();
        let open = |name: &str, symlinks| {
            open_regular(&path(name), symlinks)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(open("file", Symlinks::Refuse), Ok(()));
        assert_eq!(open("link", Symlinks::Follow), Ok(()));
        assert_eq!(
            open("link", Symlinks::Refuse),
            Err("it is a symlink, which is not followed here".to_owned())
        );
        for name in ["fifo", "link-to-fifo", "device", "socket", "."] {
            assert_eq!(
                open(name, Symlinks::Follow),
                Err("it is not a regular file".to_owned()),
                "{name}"
            );
        }
        let missing = open_regular(&path("missing"), Symlinks::Refuse).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
    #[test]
    fn a_file_over_the_limit_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "12345").unwrap();
        let read = |path: &Path, limit| {
            read_regular(path, Symlinks::Refuse, limit).map_err(|error| error.to_string())
        };
        assert_eq!(read(&path, 5), Ok(b"12345".to_vec()));
        let error = Err("it is longer than 4 bytes".to_owned());
        assert_eq!(read(&path, 4), error);
        // A sparse file, which would fill the memory.
        let sparse = File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        assert_eq!(read(&dir.path().join("sparse"), 4), error);
        // Files of the kernel have no length.
        assert!(read(Path::new("/proc/self/status"), 4096).is_ok_and(|text| text.len() > 4));
        assert_eq!(read(Path::new("/proc/self/status"), 4), error);
    }
}
