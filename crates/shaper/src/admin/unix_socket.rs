//! A Unix socket as the admin port.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use net::Connection;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::access::Client;
use super::{Admin, serve_stream};

/// Connections that are served at once. Only the user that shaper runs as, and root, can connect.
const MAX_CONNECTIONS: usize = 128;
/// Connections that the kernel may hold before they are accepted.
const BACKLOG: i32 = 128;
/// How long to wait after a failed `accept`.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long to wait for another process that opens a socket in the same directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// A Unix socket that listens. Its file is removed on drop.
#[derive(Debug)]
pub(super) struct UnixSocket {
    socket: Socket,
    path: PathBuf,
    /// Device and inode of its file, so that only this file is removed.
    file: (u64, u64),
}

// === impl UnixSocket ===

impl UnixSocket {
    /// Listens on a socket that only this user may connect to (mode 0600).
    ///
    /// A socket that a process has left behind is replaced. One that a process listens on is an
    /// error, and so is any other file.
    pub(super) fn bind(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.context("--admin-listen: write unix:/DIRECTORY/NAME")?;
        // Two processes that start at once must not each take the other's socket for a stale one.
        let _lock = lock(directory)
            .with_context(|| format!("can't listen on --admin-listen unix:{shown}; {} must be a directory that shaper can read and write", directory.display()))?;
        remove_stale(path)?;
        Self::open(path).with_context(|| {
            format!(
                "can't listen on --admin-listen unix:{shown}; is the directory writable for shaper?"
            )
        })
    }

    fn open(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Nobody can connect before `listen`, so nobody connects with the mode of before.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            file: file_id(&fs::symlink_metadata(path)?),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until `stop`, then closes all connections.
    pub(super) async fn serve(self, admin: Arc<Admin>, stop: CancellationToken) -> io::Result<()> {
        let listener = OwnedFd::from(self.socket.try_clone()?);
        let listener = UnixListener::from_std(listener.into())?;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            while tasks.try_join_next().is_some() {}
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "accept failed on the admin socket");
                    sleep(BACK_OFF).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                debug!("admin connection refused: too many are open");
                continue;
            };
            let admin = admin.clone();
            tasks.spawn(async move {
                // A Unix socket has no address, and no other server counts its connections.
                let connection = Connection::uncounted((Ipv4Addr::LOCALHOST, 0).into());
                serve_stream(admin, stream, Client::UnixSocket, connection).await;
                drop(place);
            });
        }
        Ok(())
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // Another process may have put its own file there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| file_id(&found) == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Locks a directory until the file is dropped.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if started.elapsed() > LOCK_TIMEOUT => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process keeps the directory locked",
                ));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Removes a socket that no process listens on. Any other file is an error.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("can't look at --admin-listen unix:{shown}"))?,
    };
    if !found.file_type().is_socket() {
        bail!(
            "--admin-listen unix:{shown} is a file that is not a socket; remove it or choose another path"
        );
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("can't remove the stale socket {shown}"))
        }
        Err(error) => Err(error).with_context(|| {
            format!("can't tell whether a process listens on --admin-listen unix:{shown}; choose another path")
        }),
        Ok(_) => bail!(
            "--admin-listen unix:{shown} is in use: another process listens on it; choose another path"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path) -> String {
        format!("{:#}", UnixSocket::bind(path).unwrap_err())
    }

    #[test]
    fn a_stale_socket_is_replaced_and_one_in_use_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin");
        let first = UnixSocket::bind(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(message(&path).contains("is in use"));
        assert!(path.exists());
        drop(first);
        assert!(!path.exists(), "it is removed at the end");

        // What a killed process leaves behind.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(UnixSocket::bind(&path).unwrap());
    }

    #[test]
    fn other_files_are_never_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin");
        fs::write(&path, "mine").unwrap();
        assert!(message(&path).contains("not a socket"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(message(&link).contains("not a socket"));
        assert!(message(directory.path()).contains("not a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert!(link.is_symlink());
        fs::remove_file(&path).unwrap();

        // Another process replaces the socket while this one runs.
        let socket = UnixSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "theirs").unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let said = message(Path::new("/nonexistent/admin"));
        assert!(said.contains("/nonexistent must be a directory"), "{said}");
    }
}
