//! What is made of a directory, kept current.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::material::{FileContents, Validity};
use crate::watch::Watch;
use crate::{Material, MaterialError, Metrics, MutualTls, PeerName, PublicTls, handshake_reason};

/// How long the files must be quiet before they are read: a writer writes one after the other.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// They are read so often in any case: not every file system tells of changes.
const POLL: Duration = Duration::from_secs(15);

/// What is made of a directory ([`MutualTls`], [`PublicTls`]), made anew when the files change.
///
/// While they can't be used, the last that could stays current.
pub struct Reloader<T> {
    /// What the directory is used for, as logs and metrics call it.
    name: &'static str,
    directory: PathBuf,
    build: Build<T>,
    metrics: Metrics,
    current: ArcSwapOption<T>,
    generation: watch::Sender<u64>,
    state: Mutex<State>,
}

type Build<T> = Box<dyn Fn(&Material) -> Result<T, MaterialError> + Send + Sync>;

#[derive(Default)]
struct State {
    /// The files that are in use.
    files: Option<FileContents>,
    validity: Option<Validity>,
    /// What is wrong with those that are there now.
    last_error: Option<LastError>,
}

struct LastError {
    reason: &'static str,
    text: String,
}

impl Reloader<MutualTls> {
    /// For peers with one of these names.
    pub fn mutual(
        name: &'static str,
        directory: &Path,
        peers: Vec<PeerName>,
        metrics: Metrics,
    ) -> Arc<Self> {
        Self::open(name, directory, metrics, move |material| {
            MutualTls::new(material, &peers)
        })
    }
}

impl Reloader<PublicTls> {
    /// For machines that boot.
    pub fn public(name: &'static str, directory: &Path, metrics: Metrics) -> Arc<Self> {
        Self::open(name, directory, metrics, PublicTls::new)
    }

    /// For programs that call, such as an API server.
    pub fn service(name: &'static str, directory: &Path, metrics: Metrics) -> Arc<Self> {
        Self::open(name, directory, metrics, PublicTls::service)
    }

    /// Shakes hands with a caller, within a time. Counts what fails, by [`handshake_reason`].
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        limit: Duration,
    ) -> io::Result<TlsStream<S>> {
        let shaken = match self.current() {
            None => Err(io::Error::other("there is no usable certificate")),
            Some(current) => {
                match timeout(limit, TlsAcceptor::from(current.server()).accept(stream)).await {
                    Ok(shaken) => shaken,
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        shaken.inspect_err(|error| {
            self.metrics
                .handshake_failed(self.name, handshake_reason(error))
        })
    }
}

impl<T: Send + Sync + 'static> Reloader<T> {
    /// Reads the directory. Where it can't be used yet, there is no [`current`](Self::current) until it can, and
    /// [`last_error`](Self::last_error) says why.
    pub fn open(
        name: &'static str,
        directory: &Path,
        metrics: Metrics,
        build: impl Fn(&Material) -> Result<T, MaterialError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let live = Self {
            name,
            directory: directory.to_owned(),
            build: Box::new(build),
            metrics,
            current: ArcSwapOption::empty(),
            generation: watch::Sender::new(0),
            state: Mutex::default(),
        };
        live.reload();
        Arc::new(live)
    }

    /// What the last usable files made. None where there were none yet: then there is nothing to shake hands with.
    pub fn current(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    /// Counts up whenever something else becomes [`current`](Self::current).
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// What is wrong with the files that are there now.
    pub fn last_error(&self) -> Option<String> {
        self.state()
            .last_error
            .as_ref()
            .map(|last_error| last_error.text.clone())
    }

    /// What the directory is used for.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The metrics that it counts in.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads the directory again. True when it made something else current.
    pub fn reload(&self) -> bool {
        self.reload_at(SystemTime::now())
    }

    /// [`reload`](Self::reload) with a clock that says this.
    pub fn reload_at(&self, now: SystemTime) -> bool {
        let mut state = self.state();
        let made = FileContents::read(&self.directory).and_then(|files| {
            if state.files.as_ref() == Some(&files) {
                return Ok(None);
            }
            let material = files.check(now)?;
            let made = (self.build)(&material)?;
            Ok(Some((files, material, made)))
        });
        match made {
            Ok(None) => {
                // Time goes on, and a clock may jump either way.
                if let Some(fault) = state
                    .validity
                    .and_then(|validity| validity.check(now).err())
                {
                    self.record_failure(&mut state, &fault);
                } else if state.last_error.take().is_some() {
                    info!(tls = self.name, directory = %self.directory.display(), "the certificate files can be used again");
                    self.metrics.recovered(self.name);
                }
                false
            }
            Ok(Some((files, material, made))) => {
                let is_first = state.files.is_none();
                *state = State {
                    files: Some(files),
                    validity: Some(material.validity()),
                    last_error: None,
                };
                self.current.store(Some(Arc::new(made)));
                self.metrics.loaded(self.name, material.not_after());
                self.generation.send_modify(|generation| *generation += 1);
                let valid_for_hours = material
                    .not_after()
                    .duration_since(now)
                    .map_or(0, |left| left.as_secs() / 3600);
                if is_first {
                    debug!(tls = self.name, valid_for_hours, "certificate read");
                } else {
                    info!(
                        tls = self.name,
                        valid_for_hours, "new certificate files are in use"
                    );
                }
                true
            }
            Err(fault) => {
                self.record_failure(&mut state, &fault);
                false
            }
        }
    }

    /// Reloads whenever the files change, until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut watch = Watch::new(&self.directory);
        loop {
            let live = self.clone();
            // A file system that hangs must not hold up the tasks that serve. The first time is for what changed before the watch began.
            if tokio::task::spawn_blocking(move || live.reload())
                .await
                .is_err()
            {
                error!(
                    tls = self.name,
                    "reading the certificate files failed in a way that it should not"
                );
            }
            if stop
                .run_until_cancelled(watch.changed(DEBOUNCE, POLL))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    /// Says once what is wrong, and again when something else is.
    fn record_failure(&self, state: &mut State, fault: &MaterialError) {
        let last_error = LastError {
            reason: fault.reason(),
            text: fault.to_string(),
        };
        if state
            .last_error
            .as_ref()
            .is_none_or(|before| before.reason != last_error.reason)
        {
            let (directory, reason) = (self.directory.display(), &last_error.text);
            self.metrics.failed(self.name, fault.reason());
            if state.files.is_some() {
                warn!(tls = self.name, %directory, reason, "the certificate files can't be used; those before stay in use");
            } else {
                error!(tls = self.name, %directory, reason, "the certificate files can't be used, and there are none from before");
            }
        }
        state.last_error = Some(last_error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Reloader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader")
            .field("name", &self.name)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}
