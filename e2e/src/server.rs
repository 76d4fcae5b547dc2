//! A running `shaper standalone`, started as an operator would.

use crate::http::{self, Response};
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The timeout of a start until `/readyz` succeeds.
pub(crate) const START: Duration = Duration::from_secs(20);

/// A builder of `shaper standalone`.
#[derive(Debug, Clone)]
pub struct Builder {
    folder: PathBuf,
    state: Option<PathBuf>,
    http_listen: String,
    args: Vec<OsString>,
    netns: Option<String>,
    open_files: Option<usize>,
}

/// A running server. It is stopped on drop.
#[derive(Debug)]
pub struct Server {
    process: Process,
    log: Log,
    netns: Option<String>,
    http: SocketAddr,
    admin: SocketAddr,
    _state: Option<tempfile::TempDir>,
}

/// The lines of a log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

/// What [`use_binary`] was told.
static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Makes this process start another binary than cargo's build of the profile e2e. `SHAPER_BIN`
/// still comes first.
pub fn use_binary(path: PathBuf) {
    BINARY.get_or_init(|| path);
}

/// The binary to start: `SHAPER_BIN`, then that of [`use_binary`], then cargo's build of the
/// profile e2e.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHAPER_BIN") {
        return Ok(PathBuf::from(path));
    }
    if let Some(path) = BINARY.get() {
        return Ok(path.clone());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = target.join("e2e/shaper");
    ensure!(
        path.is_file(),
        "{} is not there: run `cargo build --profile e2e -p shaper`, or name another binary in SHAPER_BIN",
        path.display()
    );
    Ok(path)
}

// === impl Builder ===

impl Builder {
    /// Keeps state in this folder instead of a temporary one.
    pub fn state(mut self, folder: &Path) -> Self {
        self.state = Some(folder.to_owned());
        self
    }

    /// Adds an operator's label.
    pub fn label(self, key: &str, value: &str) -> Self {
        self.args(["--label", &format!("{key}={value}")])
    }

    /// Adds arguments.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the address for machines; the default is a free loopback port.
    pub fn http_listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.http_listen);
        self
    }

    /// Runs the server in a network namespace.
    pub fn netns(mut self, netns: &str) -> Self {
        self.netns = Some(netns.to_owned());
        self
    }

    /// Limits the number of open files.
    pub fn open_files(mut self, most: usize) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Result<Server> {
        let (state, state_folder) = if let Some(folder) = self.state {
            (None, folder)
        } else {
            let folder = tempfile::tempdir().context("could not make a temporary folder")?;
            let path = folder.path().to_owned();
            (Some(folder), path)
        };
        let binary = binary()?;
        let limited = self
            .open_files
            .map(|most| format!("--nofile={most}:{most}"));
        let program = limited
            .as_ref()
            .map_or(binary.as_os_str(), |_| "prlimit".as_ref());
        let mut process = Process::start("shaper", program, self.netns.as_deref(), |command| {
            if let Some(limit) = &limited {
                command.arg(limit).arg(&binary);
            }
            // The developer's environment must not decide a test.
            for (key, _) in
                std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("SHAPER_"))
            {
                command.env_remove(key);
            }
            command
                .arg("standalone")
                .arg(&self.folder)
                .args(["--http-listen", &self.http_listen])
                .args(["--admin-listen", "127.0.0.1:0", "--log-format", "json"])
                .arg("--state-dir")
                .arg(&state_folder)
                .args(&self.args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        })?;
        let stderr = process
            .child()
            .stderr
            .take()
            .context("shaper has no standard error")?;
        let log = Log::default();
        log.read(stderr);

        let line = log.wait_for(START, says_listening).with_context(|| {
            format!(
                "shaper did not say that it listens; its log:\n{}",
                log.text()
            )
        })?;
        let address = |key: &str| -> Result<SocketAddr> {
            field(&line, key)
                .and_then(|text| text.parse().ok())
                .with_context(|| format!("no {key} in {line}"))
        };
        Ok(Server {
            http: address("http_listen")?,
            admin: address("admin_listen")?,
            process,
            log,
            netns: self.netns,
            _state: state,
        })
    }

    /// Starts the server and waits until `/readyz` succeeds.
    pub fn start_ready(self) -> Result<Server> {
        let server = self.start()?;
        server.wait_until_ready(START)?;
        Ok(server)
    }
}

// === impl Server ===

impl Server {
    /// Builds `shaper standalone FOLDER` on free ports.
    pub fn standalone(folder: &Path) -> Builder {
        Builder {
            folder: folder.to_owned(),
            state: None,
            http_listen: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            netns: None,
            open_files: None,
        }
    }

    /// A URL of the port for machines, as seen from this computer.
    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.http)
    }

    /// The address for machines.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// The HTTPS address for machines.
    pub fn https_address(&self) -> Result<SocketAddr> {
        let line = self
            .log
            .wait_for(START, says_listening)
            .context("it listens")?;
        field(&line, "https_listen")
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no https_listen in {line}"))
    }

    /// A URL of the admin port, as seen from this computer.
    pub fn admin_url(&self, target: &str) -> String {
        format!("http://{}{target}", self.admin)
    }

    /// The address of the admin port.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The value of a metric; `name` includes the labels as `/metrics` writes them.
    pub fn metric(&self, name: &str) -> Result<u64> {
        http::metric(&self.admin_url("/metrics"), name)
    }

    /// A URL of the port for machines, as seen from QEMU's user network.
    pub fn url_for_user_network(&self, target: &str) -> String {
        format!("http://10.0.2.2:{}{target}", self.http.port())
    }

    /// Fetches a URL of this server from inside its network namespace.
    pub fn get(&self, url: &str) -> Result<Response> {
        match &self.netns {
            None => http::get(url),
            Some(netns) => crate::network::get(netns, url),
        }
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let answer = self.get(&self.admin_url("/readyz"));
            match answer {
                Ok(response) if response.status == 200 => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                Ok(response) => bail!(
                    "/readyz still answers {}: {}",
                    response.status,
                    response.body.trim()
                ),
                Err(error) => {
                    return Err(error.context(format!("/readyz; the log:\n{}", self.log.text())));
                }
            }
        }
    }

    /// The log so far.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a signal, named as for `kill`.
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Stops the server with SIGTERM, as a service manager does.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(Duration::from_secs(15))?;
        ensure!(
            status.success(),
            "shaper ended with {status}; its log:\n{}",
            self.log.text()
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM first, so that it drains as in production; it is killed in any case.
        let _ = self.process.terminate(Duration::from_secs(5));
    }
}

// === impl Log ===

impl Log {
    /// All lines so far.
    pub fn text(&self) -> String {
        self.shared.lines().all.join("\n")
    }

    /// Waits for a line that fulfils a condition. `None` on a timeout or when the server has ended.
    pub fn wait_for(&self, timeout: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let find = |lines: &Lines| lines.all.iter().find(|line| wanted(line)).cloned();
        let (lines, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lines(), timeout, |lines| {
                find(lines).is_none() && !lines.ended
            })
            .unwrap_or_else(PoisonError::into_inner);
        find(&lines)
    }

    /// Waits for a line that contains `part`. A log line is read a moment after its effects are
    /// seen.
    pub fn must_say(&self, part: &str) -> Result<()> {
        let said = self.wait_for(START, |line| line.contains(part));
        ensure!(
            said.is_some(),
            "no line says {part:?}; the log:\n{}",
            self.text()
        );
        Ok(())
    }

    /// Prints past and future lines on standard output, prefixed with a name.
    pub fn print_as(&self, name: &str) {
        let (shared, name) = (Arc::clone(&self.shared), name.to_owned());
        std::thread::spawn(move || {
            let mut shown = 0;
            loop {
                let lines = shared.changed.wait_while(shared.lines(), |lines| {
                    lines.all.len() == shown && !lines.ended
                });
                let lines = lines.unwrap_or_else(PoisonError::into_inner);
                for line in &lines.all[shown..] {
                    println!("{name} | {line}");
                }
                shown = lines.all.len();
                if lines.ended {
                    return;
                }
            }
        });
    }

    /// Reads lines in a thread until the input ends.
    pub fn read(&self, from: impl Read + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared.lines().all.push(line);
                shared.changed.notify_all();
            }
            shared.lines().ended = true;
            shared.changed.notify_all();
        });
    }
}

// === impl Shared ===

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a JSON log line reports that the server listens.
pub(crate) fn says_listening(line: &str) -> bool {
    field(line, "message").is_some_and(|message| message == "listening")
}

/// A field of a JSON log line, at the top level or below `fields`.
pub(crate) fn field(line: &str, key: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let value = line
        .get("fields")
        .and_then(|fields| fields.get(key))
        .or_else(|| line.get(key))?;
    Some(
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    )
}
