//! Keeps one partition's stream open for the life of the process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::Rng;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{debug, info, warn};

use crate::proto::follow_response::Message;
use crate::proto::{FollowRequest, FollowResponse, Hello, PROTOCOL, Part};

use super::incoming::{BatchBuilder, ReceivedBatch};
use super::merged_catalog::{Applied, MergedCatalog, PartitionState, lock};
use super::metrics::PartitionMetrics;

/// The time limit of each step of connecting to a controller: name lookup, TCP connection, TLS
/// handshake, response, first message.
pub(crate) const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// A controller that last heard from its API server longer ago than this is followed only if there
/// is no better one.
const STALE: Duration = Duration::from_mins(10);
/// Larger batches are applied on a blocking thread.
const BLOCKING_BATCH_SIZE: usize = 1000;
/// The first and the longest pause after a round in which no controller was of use. The pause
/// doubles each time and is multiplied by a random factor between 0.5 and 1.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));
/// A restored network is used again within 10 seconds: packets sent before are lost, and one step
/// waits for its time limit.
const _: () = assert!(STEP_TIMEOUT.as_secs() + BACKOFF.1.as_secs() < 10);
/// The longest pause if controllers respond but their streams are unusable: every attempt may cost
/// a snapshot.
const MAX_BACKOFF_INVALID: Duration = Duration::from_mins(1);

/// Follows the controllers of one partition, one at a time.
pub(crate) struct Link {
    merged_catalog: Arc<MergedCatalog>,
    state: Arc<Mutex<PartitionState>>,
    status: Mutex<LinkStatus>,
    /// Notified when the copy on disk is out of date.
    pub(crate) changed: Notify,
    /// Notified once, when the partition is loaded.
    loaded: Notify,
    is_notified: AtomicBool,
    metrics: PartitionMetrics,
}

/// The state of the link, for operators.
#[derive(Clone, Debug)]
pub(crate) struct LinkStatus {
    /// The controller that is followed since `since`; if `None`, none has been since then.
    pub(crate) following: Option<String>,
    pub(crate) since: Instant,
    /// Why the last attempt ended.
    pub(crate) last_error: String,
}

/// Finds and connects to controllers.
pub(crate) trait Dial: Send + Sync {
    /// The address of one controller.
    type Candidate: ToString + Send + Sync;
    /// The stream of messages from a controller.
    type Messages: Stream<Item = Result<FollowResponse, Status>> + Send + Unpin;

    /// Looks up all current addresses.
    fn candidates(&self) -> impl Future<Output = Result<Vec<Self::Candidate>, String>> + Send;

    /// Connects to a controller and starts the stream.
    fn dial(
        &self,
        candidate: &Self::Candidate,
        request: FollowRequest,
    ) -> impl Future<Output = Result<Self::Messages, Ended>> + Send;
}

/// Why a stream ended or did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("{0}")]
    Unreachable(String),
    #[error("{}", .0.message())]
    Refused(Status),
    #[error("the stream ended")]
    Closed,
    #[error("no message for {0:?}")]
    Silent(Duration),
    #[error(
        "it speaks version {0} of the feed and this replica version {PROTOCOL}; run the same major version of shaper at both ends"
    )]
    Protocol(u32),
    #[error("{0}")]
    InvalidStream(String),
    #[error("it last heard from its API server {0:?} ago; trying another controller")]
    Stale(Duration),
    #[error(
        "requesting a snapshot to check whether the objects held by the guard are still missing"
    )]
    Resync,
}

impl Ended {
    /// The value of the `reason` label in metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
            Self::Silent(_) => "silent",
            Self::Protocol(_) => "protocol",
            Self::InvalidStream(_) => "invalid_stream",
            Self::Stale(_) => "stale",
            Self::Resync => "resync",
        }
    }

    fn is_invalid_stream(&self) -> bool {
        matches!(self, Self::Protocol(_) | Self::InvalidStream(_))
    }
}

// === impl Link ===

impl Link {
    pub(crate) fn new(
        merged_catalog: Arc<MergedCatalog>,
        state: PartitionState,
        metrics: PartitionMetrics,
    ) -> Self {
        let status = LinkStatus {
            following: None,
            since: Instant::now(),
            last_error: "not connected yet".to_owned(),
        };
        Self {
            merged_catalog,
            state: Arc::new(Mutex::new(state)),
            status: Mutex::new(status),
            changed: Notify::new(),
            loaded: Notify::new(),
            is_notified: AtomicBool::new(false),
            metrics,
        }
    }

    pub(crate) fn merged_catalog(&self) -> &Arc<MergedCatalog> {
        &self.merged_catalog
    }

    pub(crate) fn state(&self) -> &Mutex<PartitionState> {
        &self.state
    }

    pub(crate) fn metrics(&self) -> &PartitionMetrics {
        &self.metrics
    }

    pub(crate) fn status(&self) -> LinkStatus {
        lock(&self.status).clone()
    }

    /// Waits until there is a complete snapshot or a copy of one.
    pub(crate) async fn loaded(&self) {
        let notified = self.loaded.notified();
        if !lock(&self.state).is_loaded() {
            notified.await;
        }
    }

    /// Follows any available controller until `stop`.
    pub(crate) async fn run(&self, dial: impl Dial, stop: CancellationToken) {
        let _ = stop.run_until_cancelled(self.reconnect_loop(&dial)).await;
    }

    async fn reconnect_loop(&self, dial: &impl Dial) -> std::convert::Infallible {
        let mut next: usize = rand::rng().random_range(0..1024);
        let mut pause = BACKOFF.0;
        loop {
            let candidates = match dial.candidates().await {
                Ok(candidates) => candidates,
                Err(error) => {
                    self.disconnected("-", &Ended::Unreachable(error));
                    Vec::new()
                }
            };
            let mut max_pause = BACKOFF.1;
            let mut made_progress = false;
            let mut stale = false;
            // The second pass accepts stale controllers.
            'round: for accept_stale in [false, true] {
                if accept_stale && !stale {
                    break;
                }
                for _ in 0..candidates.len() {
                    let candidate = &candidates[next % candidates.len()];
                    let needs_fresh = !accept_stale && candidates.len() > 1;
                    let (ended, was_useful) = self.follow_one(dial, candidate, needs_fresh).await;
                    stale |= matches!(ended, Ended::Stale(_));
                    let is_invalid_stream = ended.is_invalid_stream();
                    if is_invalid_stream {
                        max_pause = MAX_BACKOFF_INVALID;
                    }
                    if !matches!(ended, Ended::Resync) {
                        next = next.wrapping_add(1);
                    }
                    if was_useful {
                        made_progress = !is_invalid_stream;
                        break 'round;
                    }
                }
            }
            if made_progress {
                pause = BACKOFF.0;
            }
            let spread = rand::rng().random_range(0.5..=1.0);
            sleep(pause.min(max_pause).mul_f64(spread)).await;
            pause = (pause * 2).min(max_pause);
        }
    }

    /// Follows one controller until the stream ends. Returns whether the stream made progress.
    async fn follow_one<D: Dial>(
        &self,
        dial: &D,
        candidate: &D::Candidate,
        needs_fresh: bool,
    ) -> (Ended, bool) {
        let name = candidate.to_string();
        let request = FollowRequest {
            protocol: PROTOCOL,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            after: lock(&self.state).position(),
        };
        let mut made_progress = false;
        let ended = match dial.dial(candidate, request).await {
            Ok(messages) => match self
                .follow(&name, messages, needs_fresh, &mut made_progress)
                .await
            {
                Ok(never) => match never {},
                Err(ended) => ended,
            },
            Err(ended) => ended,
        };
        if ended.is_invalid_stream() {
            // Our state does not fit this controller's changes.
            lock(&self.state).request_snapshot();
        }
        self.disconnected(&name, &ended);
        (ended, made_progress)
    }

    async fn follow(
        &self,
        name: &str,
        mut messages: impl Stream<Item = Result<FollowResponse, Status>> + Unpin,
        needs_fresh: bool,
        made_progress: &mut bool,
    ) -> Result<std::convert::Infallible, Ended> {
        let first = timeout(STEP_TIMEOUT, messages.next())
            .await
            .map_err(|_| Ended::Silent(STEP_TIMEOUT))?;
        let Some(Message::Hello(hello)) = message(first)? else {
            return Err(invalid_stream("its first message is not a hello"));
        };
        let silence = check_hello(&hello, needs_fresh)?;
        let mut incoming = BatchBuilder::default();
        loop {
            let next = tokio::select! {
                next = timeout(silence, messages.next()) => next.map_err(|_| Ended::Silent(silence))?,
                () = self.until_next_recheck() => {
                    lock(&self.state).request_snapshot();
                    return Err(Ended::Resync);
                }
            };
            match message(next)? {
                Some(Message::Part(part)) => {
                    if let Some(batch) = self.add(&mut incoming, part)? {
                        self.apply(batch).await?;
                        *made_progress = true;
                        self.connected(name, &hello);
                    }
                }
                Some(Message::Heartbeat(heartbeat)) => {
                    let position = lock(&self.state).position();
                    if heartbeat.position != position {
                        return Err(invalid_stream("a change was lost"));
                    }
                    lock(&self.state)
                        .mark_confirmed(Duration::from_millis(heartbeat.heard_millis_ago));
                    *made_progress = true;
                    self.connected(name, &hello);
                }
                Some(Message::Hello(_)) => return Err(invalid_stream("it sent a second hello")),
                // A message of a newer minor version, which we ignore.
                None => {}
            }
        }
    }

    fn add(&self, incoming: &mut BatchBuilder, part: Part) -> Result<Option<ReceivedBatch>, Ended> {
        let held = self.merged_catalog.shared().load();
        let partition = lock(&self.state).name().to_owned();
        incoming
            .add(part, &partition, &held)
            .map_err(|malformed| Ended::InvalidStream(malformed.to_string()))
    }

    async fn apply(&self, batch: ReceivedBatch) -> Result<(), Ended> {
        let started = Instant::now();
        let snapshot = batch.snapshot;
        let objects = batch.changes.len();
        let apply = {
            let (merged_catalog, state) = (self.merged_catalog.clone(), self.state.clone());
            move || merged_catalog.apply(&mut lock(&state), batch)
        };
        let applied = if objects > BLOCKING_BATCH_SIZE {
            tokio::task::spawn_blocking(apply)
                .await
                .map_err(|_| invalid_stream("applying the batch failed"))?
        } else {
            apply()
        };
        let Applied { changes, held } =
            applied.map_err(|mismatch| Ended::InvalidStream(mismatch.to_string()))?;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let partition = lock(&self.state).name().to_owned();
        if snapshot {
            info!(
                partition,
                objects, changes, held, took_ms, "snapshot applied"
            );
        } else {
            debug!(partition, changes, took_ms, "delta applied");
        }
        self.metrics.applied(snapshot, changes);
        self.notify_loaded();
        if changes > 0 || snapshot {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Signals that the catalog may be served.
    pub(crate) fn notify_loaded(&self) {
        if !self.is_notified.swap(true, Ordering::AcqRel) {
            self.loaded.notify_waiters();
        }
    }

    /// Waits until the guard needs another snapshot. Never resolves if it holds nothing.
    async fn until_next_recheck(&self) {
        let next = {
            let state = lock(&self.state);
            // Without a position, a snapshot has already been requested.
            let hold = state.position().and_then(|_| state.guard().holding());
            hold.zip(state.guard().relist_interval())
                .map(|(hold, every)| Instant::from_std(hold.since + every * hold.listings))
        };
        match next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    fn connected(&self, name: &str, hello: &Hello) {
        let mut status = lock(&self.status);
        if status.following.as_deref() == Some(name) {
            return;
        }
        let (partition, position) = {
            let state = lock(&self.state);
            (
                state.name().to_owned(),
                state.position().unwrap_or_default(),
            )
        };
        info!(
            partition,
            controller = name,
            software = hello.software,
            revision = position.revision,
            "following a controller"
        );
        *status = LinkStatus {
            following: Some(name.to_owned()),
            since: Instant::now(),
            last_error: String::new(),
        };
        self.metrics.connected.set(1);
    }

    fn disconnected(&self, name: &str, ended: &Ended) {
        let partition = lock(&self.state).name().to_owned();
        let mut status = lock(&self.status);
        let last_error = format!("{name}: {ended}");
        let was_following = status.following.take().is_some();
        if was_following {
            status.since = Instant::now();
        }
        let is_new_error = was_following || status.last_error != last_error;
        match ended {
            Ended::Resync | Ended::Stale(_) => {
                info!(partition, controller = name, reason = %ended, "leaving the controller");
            }
            _ if is_new_error => {
                warn!(partition, controller = name, reason = %ended, "no feed from this controller; the known objects stay in use");
            }
            _ => {
                debug!(partition, controller = name, reason = %ended, "still no feed from this controller");
            }
        }
        status.last_error = last_error;
        self.metrics.connected.set(0);
        self.metrics.ended(ended.reason());
    }
}

/// Checks the first message. Returns how long the stream may be silent.
fn check_hello(hello: &Hello, needs_fresh: bool) -> Result<Duration, Ended> {
    if hello.protocol != PROTOCOL {
        return Err(Ended::Protocol(hello.protocol));
    }
    let heard_ago = Duration::from_millis(hello.heard_millis_ago);
    if needs_fresh && heard_ago > STALE {
        return Err(Ended::Stale(Duration::from_secs(heard_ago.as_secs())));
    }
    let heartbeat = Duration::from_millis(hello.heartbeat_millis.into());
    Ok(heartbeat.clamp(Duration::from_millis(100), Duration::from_mins(1)) * 3)
}

fn message(next: Option<Result<FollowResponse, Status>>) -> Result<Option<Message>, Ended> {
    match next {
        None => Err(Ended::Closed),
        Some(Err(status)) => Err(Ended::Refused(status)),
        Some(Ok(response)) => Ok(response.message),
    }
}

fn invalid_stream(text: &str) -> Ended {
    Ended::InvalidStream(text.to_owned())
}
