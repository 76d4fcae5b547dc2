//! An HTTP server for the files that a script boots: kernel and initrd.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Serves the files of one folder by name, on a free port of the loopback address.
#[derive(Debug)]
pub struct Files {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    root: PathBuf,
    stopping: AtomicBool,
    requests: Mutex<Vec<String>>,
}

// === impl Files ===

impl Files {
    /// Starts a server for `root`.
    pub fn serve(root: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .context("no free port on 127.0.0.1 for the file server")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            root: root.to_owned(),
            stopping: AtomicBool::new(false),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client may disconnect at any time.
                std::thread::spawn(move || shared.answer_all(stream));
            }
        });
        Ok(Self { address, state })
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address under which a machine on QEMU's user network reaches this server.
    pub fn url_for_user_network(&self) -> String {
        format!("http://10.0.2.2:{}", self.port())
    }

    /// The paths requested so far.
    pub fn requests(&self) -> Vec<String> {
        self.state
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

// === impl State ===

impl State {
    fn answer_all(&self, stream: TcpStream) -> Option<()> {
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut writer = stream;
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request).ok()? == 0 {
                return None;
            }
            let mut header = String::new();
            while reader.read_line(&mut header).ok()? > 2 {
                header.clear();
            }
            self.answer(&request, &mut writer)?;
        }
    }

    fn answer(&self, request: &str, writer: &mut TcpStream) -> Option<()> {
        let path = request.split(' ').nth(1)?;
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(path.to_owned());
        let name = path.trim_start_matches('/').split('?').next()?;
        // One level only: a name can't lead out of the folder.
        let file = (!name.is_empty() && !name.contains('/') && !name.starts_with('.'))
            .then(|| File::open(self.root.join(name)).ok())
            .flatten();
        if let Some(mut file) = file {
            let length = file.metadata().ok()?.len();
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
            )
            .ok()?;
            std::io::copy(&mut file, writer).ok()?;
        } else {
            writer
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .ok()?;
        }
        Some(())
    }
}
