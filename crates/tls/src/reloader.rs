//! Reloads a TLS configuration when the files of its directory change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::material::{FileContents, Validity};
use crate::watch::Watch;
use crate::{Material, MaterialError, Metrics, MutualTls, PeerName, PublicTls};

/// How long the files must be unchanged before they are read: writers replace them one by one.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How often the files are read without a change notification, since not every file system sends
/// them.
const POLL: Duration = Duration::from_secs(15);

/// A TLS configuration ([`MutualTls`] or [`PublicTls`]) that is rebuilt when the files of its
/// directory change.
///
/// While the files are invalid, the last valid configuration stays current.
pub struct Reloader<T> {
    /// What the directory is used for; the `tls` field of logs and label of metrics.
    name: &'static str,
    directory: PathBuf,
    /// A file with the authorities of clients, besides the directory.
    client_ca: Option<PathBuf>,
    build: Build<T>,
    metrics: Metrics,
    current: ArcSwapOption<T>,
    generation: watch::Sender<u64>,
    /// Notified when the files should be read again.
    reload: Notify,
    state: Mutex<State>,
}

type Build<T> = Box<dyn Fn(&Material) -> Result<T, MaterialError> + Send + Sync>;

#[derive(Default)]
struct State {
    /// The files that the current configuration was built from.
    files: Option<FileContents>,
    validity: Option<Validity>,
    /// Why the files on disk can't be used.
    last_error: Option<LastError>,
}

struct LastError {
    reason: &'static str,
    text: String,
}

impl Reloader<MutualTls> {
    /// Loads a configuration for peers with one of the names in `peers`.
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
    /// Loads a configuration for booting machines.
    pub fn public(name: &'static str, directory: &Path, metrics: Metrics) -> Arc<Self> {
        Self::open(name, directory, metrics, PublicTls::new)
    }

    /// Loads a configuration for programs that call shaper, such as the API server. With
    /// `client_ca`, a file of authorities, they must present a certificate of one of them.
    pub fn service(
        name: &'static str,
        directory: &Path,
        client_ca: Option<&Path>,
        metrics: Metrics,
    ) -> Arc<Self> {
        let build = match client_ca {
            Some(_) => PublicTls::service_for_clients,
            None => PublicTls::service,
        };
        Self::open_with_clients(name, directory, client_ca, metrics, build)
    }
}

impl<T: Send + Sync + 'static> Reloader<T> {
    /// Reads the directory. If its files are invalid, [`current`](Self::current) is `None` until
    /// they are fixed, and [`last_error`](Self::last_error) says why.
    pub fn open(
        name: &'static str,
        directory: &Path,
        metrics: Metrics,
        build: impl Fn(&Material) -> Result<T, MaterialError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::open_with_clients(name, directory, None, metrics, build)
    }

    fn open_with_clients(
        name: &'static str,
        directory: &Path,
        client_ca: Option<&Path>,
        metrics: Metrics,
        build: impl Fn(&Material) -> Result<T, MaterialError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let reloader = Self {
            name,
            directory: directory.to_owned(),
            client_ca: client_ca.map(Path::to_owned),
            build: Box::new(build),
            metrics,
            current: ArcSwapOption::empty(),
            generation: watch::Sender::new(0),
            reload: Notify::new(),
            state: Mutex::default(),
        };
        reloader.reload();
        Arc::new(reloader)
    }

    /// The configuration built from the last valid files, or `None` if there were none yet.
    pub fn current(&self) -> Option<Arc<T>> {
        self.current.load_full()
    }

    /// Counts the changes of [`current`](Self::current).
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Why the files on disk can't be used, if so.
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

    /// The metrics that this directory is counted in.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Reads the directory again. Returns whether [`current`](Self::current) changed.
    pub fn reload(&self) -> bool {
        self.reload_at(SystemTime::now())
    }

    /// Does what [`reload`](Self::reload) does, with `now` as the current time.
    pub fn reload_at(&self, now: SystemTime) -> bool {
        let mut state = self.state();
        let made =
            FileContents::read(&self.directory, self.client_ca.as_deref()).and_then(|files| {
                if state.files.as_ref() == Some(&files) {
                    return Ok(None);
                }
                let material = files.check(now)?;
                let made = (self.build)(&material)?;
                Ok(Some((files, material, made)))
            });
        match made {
            Ok(None) => {
                // Unchanged files can still expire, or a clock change can make them invalid or
                // valid.
                if let Some(fault) = state
                    .validity
                    .and_then(|validity| validity.check(now).err())
                {
                    self.record_failure(&mut state, &fault);
                } else if state.last_error.take().is_some() {
                    info!(tls = self.name, directory = %self.directory.display(), "certificate files are valid again");
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
                    debug!(tls = self.name, valid_for_hours, "certificate loaded");
                } else {
                    info!(tls = self.name, valid_for_hours, "certificate reloaded");
                }
                true
            }
            Err(fault) => {
                self.record_failure(&mut state, &fault);
                false
            }
        }
    }

    /// Makes [`follow`](Self::follow) read the directory again at once.
    pub fn reload_soon(&self) {
        self.reload.notify_one();
    }

    /// Reloads when the files change, until `stop` is cancelled.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let of_clients = self.client_ca.as_deref().map(directory_of);
        let mut watch = Watch::new([self.directory.as_path()].into_iter().chain(of_clients));
        loop {
            let reloader = self.clone();
            // Read on a blocking thread: a hanging file system must not stall the tasks that serve.
            // The first reload catches changes made before the watch began.
            if tokio::task::spawn_blocking(move || reloader.reload())
                .await
                .is_err()
            {
                error!(tls = self.name, "reading the certificate files panicked");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.reload.notified() => {}
                () = watch.changed(DEBOUNCE, POLL) => {}
            }
        }
    }

    /// Records an error in the files; logs it unless the last error had the same reason.
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
                warn!(tls = self.name, %directory, reason, "invalid certificate files; the previous certificate stays in use");
            } else {
                error!(tls = self.name, %directory, reason, "invalid certificate files and no previous certificate; handshakes fail until they are fixed");
            }
        }
        state.last_error = Some(last_error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory that contains a file.
fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
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
