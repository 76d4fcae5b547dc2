//! Watches the objects of one kind, in one namespace or in all.

mod history;
mod response_timeout;

use std::time::Duration;

use boot::ObjectRef;
use futures_util::TryStreamExt;
use kube::api::ListParams;
use kube::core::Status;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use rand::Rng;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::object::{Object, Parsed, ResourceKind, WatchedResource, key};
use history::{History, Probed, Verdict};

pub use response_timeout::ResponseTimeout;

/// A change in the objects of one source.
pub(crate) enum Update {
    /// A list begins.
    ListStarted,
    /// An object in a list.
    Listed(Object),
    /// A list is complete.
    ListComplete,
    /// An object was created or changed.
    Changed(Object),
    /// An object was deleted.
    Deleted(ObjectRef),
    /// The server's history went back; a list follows.
    HistoryReset,
    /// The API server answered, and nothing has changed.
    Alive,
    /// The source can't be watched at the moment.
    Failed(String),
    /// The API server does not let this controller watch an optional source, or does not know it.
    Refused(String),
}

/// The objects of one kind in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) kind: ResourceKind,
    pub(crate) namespace: Option<String>,
}

/// The server ends each watch after this many seconds, so that a dead connection is noticed soon.
const WATCH_SECONDS: u32 = 60;
/// The maximum backoff before a list, which is expensive for the server.
const LONGEST_PAUSE_BEFORE_LISTING: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a watch must run without an error before the server is probed.
const PROBE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long a source must run without an error before its backoff is reset.
const RESET_BACKOFF_AFTER: Duration = Duration::from_mins(2);
/// The pause after an optional source was refused. It doubles with each further time.
const FIRST_REFUSED_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_REFUSED_PAUSE: Duration = Duration::from_mins(4);
/// The timeout of a request that asks about the state of the server.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Watches one source.
pub(crate) struct SourceWatcher<K> {
    client: Client,
    api: Api<Parsed<K>>,
    response_timeout: ResponseTimeout,
    source: Source,
    index: usize,
    updates: mpsc::Sender<(usize, Update)>,
    history: History,
    /// What was seen before the list in progress.
    before: History,
    has_listed: bool,
    /// Whether to ask for streaming lists (`WatchList`). Servers without them are asked for pages.
    streams: bool,
    /// The pause after the next refusal.
    refused_pause: Duration,
    /// When the last pause after a refusal ended.
    resumed: Instant,
}

// === impl Source ===

impl Source {
    /// Returns whether an object belongs to this source.
    pub(crate) fn has(&self, name: &ObjectRef) -> bool {
        ResourceKind::of(name) == self.kind
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| *namespace == *name.key().namespace)
    }

    /// Returns whether the controller works without this source if the API server refuses it.
    pub(crate) fn is_optional(&self) -> bool {
        self.kind == ResourceKind::Machine
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in {namespace}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

// === impl SourceWatcher ===

impl<K: WatchedResource> SourceWatcher<K> {
    pub(crate) fn new(
        client: &Client,
        response_timeout: ResponseTimeout,
        source: Source,
        index: usize,
        updates: mpsc::Sender<(usize, Update)>,
    ) -> Self {
        let client = response_timeout.client(client.clone());
        let api = K::api(client.clone(), source.namespace.as_deref());
        let (history, before) = (History::default(), History::default());
        Self {
            client,
            api,
            response_timeout,
            source,
            index,
            updates,
            history,
            before,
            has_listed: false,
            streams: true,
            refused_pause: FIRST_REFUSED_PAUSE,
            resumed: Instant::now(),
        }
    }

    /// Watches until the receiver is dropped. `relist` requests a list.
    pub(crate) async fn run(mut self, relist: std::sync::Arc<Notify>) {
        loop {
            tokio::select! {
                again = self.follow_if_permitted() => if !again { return },
                () = relist.notified() => info!(source = %self.source, "listing again"),
            }
        }
    }

    /// Follows the source, unless it is optional and refused. Returns false if the receiver was
    /// dropped.
    async fn follow_if_permitted(&mut self) -> bool {
        if self.source.is_optional() && !self.is_permitted().await {
            return !self.updates.is_closed();
        }
        self.follow().await
    }

    /// Asks whether an optional source can be listed, and waits for a while if it can't. Any other
    /// failure is left to the list that follows.
    async fn is_permitted(&mut self) -> bool {
        let limit = ListParams::default().limit(1);
        let asked = timeout(QUESTION_TIMEOUT, self.api.list_metadata(&limit)).await;
        match asked {
            Ok(Err(kube::Error::Api(status))) if is_refusal(status.code) => {
                self.refused(&status).await;
                false
            }
            _ => true,
        }
    }

    /// Reports that an optional source is refused, and waits before the next attempt.
    async fn refused(&mut self, status: &Status) {
        let message = if status.code == 403 {
            format!(
                "{}; a ClusterRole of this identity needs the rule {{apiGroups: [{}], resources: [{}], verbs: [get, list, watch]}}, as in config/rbac/controller.yaml",
                status.message,
                crd::GROUP,
                K::KIND.plural()
            )
        } else {
            describe_status(status)
        };
        if self.resumed.elapsed() > RESET_BACKOFF_AFTER {
            self.refused_pause = FIRST_REFUSED_PAUSE;
        }
        let pause = self.refused_pause;
        self.refused_pause = (pause * 2).min(LONGEST_REFUSED_PAUSE);
        if self.send(Update::Refused(message)).await {
            sleep(jittered(pause)).await;
        }
        self.resumed = Instant::now();
    }

    /// Lists and watches until another list is needed. Returns false if the receiver was dropped.
    async fn follow(&mut self) -> bool {
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let config = if self.streams {
            config.streaming_lists()
        } else {
            config
        };
        let mut events = std::pin::pin!(watcher::watcher(self.api.clone(), config));
        let mut pause = Backoff::new();
        let mut is_listed = false;
        let mut probe_at = Instant::now() + jittered(self.response_timeout.probe);
        loop {
            let until = if is_listed {
                probe_at
            } else {
                Instant::now() + self.response_timeout.listing()
            };
            let Ok(event) = timeout_at(until, events.try_next()).await else {
                if !is_listed {
                    return self
                        .send(Update::Failed("the list stalled; listing again".to_owned()))
                        .await;
                }
                match self.probe().await {
                    Some(Verdict::Continues) => {
                        probe_at = Instant::now() + jittered(self.response_timeout.probe);
                    }
                    Some(Verdict::Reset | Verdict::Stalled) => return true,
                    Some(Verdict::Pending) | None => {
                        probe_at = Instant::now() + jittered(LONGEST_PAUSE);
                    }
                }
                continue;
            };
            let update = match event {
                Ok(Some(Event::Init)) => {
                    is_listed = false;
                    let seen = std::mem::take(&mut self.history);
                    // An interrupted list says nothing about what was seen before it.
                    if self.has_listed && self.before.version() == 0 {
                        self.before = seen;
                    }
                    Update::ListStarted
                }
                Ok(Some(Event::InitApply(object))) => {
                    let Some(object) = self.read(object) else {
                        continue;
                    };
                    Update::Listed(object)
                }
                Ok(Some(Event::InitDone)) if self.has_listed && self.is_stale_listing().await => {
                    return true;
                }
                Ok(Some(Event::InitDone)) => {
                    (is_listed, self.has_listed) = (true, true);
                    Update::ListComplete
                }
                Ok(Some(Event::Apply(object))) => {
                    let Some(object) = self.read(object) else {
                        continue;
                    };
                    Update::Changed(object)
                }
                Ok(Some(Event::Delete(object))) => {
                    let Some(key) = key::<K>(kube::Resource::meta(&object)) else {
                        continue;
                    };
                    let version = kube::Resource::meta(&object)
                        .resource_version
                        .as_deref()
                        .unwrap_or_default();
                    self.history.see(&key, &version.into(), true);
                    Update::Deleted(K::name_of(key))
                }
                Ok(None) => return true,
                Err(error) => {
                    if let Some(status) = status(&error)
                        && self.source.is_optional()
                        && is_refusal(status.code)
                    {
                        self.refused(status).await;
                        return !self.updates.is_closed();
                    }
                    if !self.send(Update::Failed(describe(&error))).await {
                        return false;
                    }
                    // This happens at the start, or when another or an older server answers.
                    if self.streams && is_request_rejected(&error) {
                        info!(source = %self.source, "the API server does not support streaming lists; listing in pages");
                        self.streams = false;
                        return true;
                    }
                    sleep(pause.after(&error)).await;
                    if !requires_relist(&error) {
                        // A watch that recovers without any changes sends nothing, so probe once it
                        // has run without an error for a moment.
                        probe_at = Instant::now() + PROBE_AFTER_ERROR;
                    }
                    continue;
                }
            };
            if !self.send(update).await {
                return false;
            }
        }
    }

    fn read(&mut self, object: Parsed<K>) -> Option<Object> {
        let object = Object::read(object)?;
        self.history
            .see(object.name.key(), &object.meta.version, false);
        Some(object)
    }

    async fn send(&self, update: Update) -> bool {
        self.updates.send((self.index, update)).await.is_ok()
    }

    /// Asks whether the server's history continues from what was seen. A watch from a future
    /// version stays silent until that version exists, and so does a watch whose connection died
    /// silently. Returns `None` if the server does not answer.
    async fn probe(&mut self) -> Option<Verdict> {
        let found = self.ask(&self.history).await?;
        let verdict = self.history.assess(found);
        match verdict {
            Verdict::Reset => self.reset_history(self.history.version()).await,
            // If the receiver was dropped, the next update notices.
            Verdict::Stalled => drop(
                self.send(Update::Failed(
                    "the watch misses changes; listing again".to_owned(),
                ))
                .await,
            ),
            Verdict::Continues => drop(self.send(Update::Alive).await),
            Verdict::Pending => {}
        }
        Some(verdict)
    }

    /// Returns whether a list is older than what was seen before it, in which case earlier versions
    /// say nothing.
    async fn is_stale_listing(&mut self) -> bool {
        let before = std::mem::take(&mut self.before);
        let is_past = self.ask(&before).await.is_some_and(|found| found.is_reset);
        if is_past {
            self.reset_history(before.version()).await;
        }
        is_past
    }

    async fn reset_history(&mut self, seen: u64) {
        warn!(source = %self.source, seen, "the API server's history went back, as after a restore from backup; listing again");
        (self.history, self.before) = (History::default(), History::default());
        self.has_listed = false;
        self.send(Update::HistoryReset).await;
    }

    /// Compares the server's state with a history. Returns `None` if the server does not answer.
    async fn ask(&self, history: &History) -> Option<Probed> {
        let limit = ListParams::default().limit(1);
        let list = self.answered(self.api.list_metadata(&limit)).await?;
        let mut found = Probed {
            is_reset: history.is_beyond(list.metadata.resource_version.as_deref()),
            ..Probed::default()
        };
        for seen in history.newest() {
            if found.is_reset {
                break;
            }
            let api: Api<Parsed<K>> = K::api(self.client.clone(), Some(&seen.key.namespace));
            let now = self.answered(api.get_metadata_opt(&seen.key.name)).await?;
            found.record(
                seen,
                now.as_ref()
                    .and_then(|object| object.metadata.resource_version.as_deref()),
            );
        }
        Some(found)
    }

    async fn answered<T>(&self, asked: impl Future<Output = kube::Result<T>>) -> Option<T> {
        match timeout(QUESTION_TIMEOUT, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                debug!(source = %self.source, %error, "probe failed");
                None
            }
            Err(_) => None,
        }
    }
}

/// The pause after errors.
struct Backoff {
    next: Duration,
    last: Option<Instant>,
}

impl Backoff {
    fn new() -> Self {
        Self {
            next: FIRST_PAUSE,
            last: None,
        }
    }

    fn after(&mut self, error: &watcher::Error) -> Duration {
        let now = Instant::now();
        if self
            .last
            .is_none_or(|last| now.duration_since(last) > RESET_BACKOFF_AFTER)
        {
            self.next = FIRST_PAUSE;
        }
        self.last = Some(now);
        let longest = if requires_relist(error) {
            LONGEST_PAUSE_BEFORE_LISTING
        } else {
            LONGEST_PAUSE
        };
        let pause = self.next.min(longest);
        self.next = (self.next * 2).min(LONGEST_PAUSE_BEFORE_LISTING);
        jittered(pause)
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}

/// Returns whether the server answered with an error, as opposed to not answering, so that the next
/// request is a list.
fn requires_relist(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(_))
        | watcher::Error::WatchStartFailed(kube::Error::Api(_)) => true,
        watcher::Error::WatchError(status) => status.code == 410,
        _ => false,
    }
}

/// Returns whether the server rejected the request itself.
fn is_request_rejected(error: &watcher::Error) -> bool {
    let is_list = matches!(error, watcher::Error::InitialListFailed(_));
    status(error).is_some_and(|status| !is_list && matches!(status.code, 400 | 422))
}

/// Returns whether this status of a list or watch means that the controller may not follow the
/// resource, or that the resource does not exist.
fn is_refusal(code: u16) -> bool {
    matches!(code, 403 | 404)
}

/// Returns the answer of the server, if it answered with an error.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// Describes an error and, for the usual causes, what to do.
fn describe(error: &watcher::Error) -> String {
    status(error).map_or_else(|| chain(error), describe_status)
}

fn describe_status(status: &Status) -> String {
    match status.code {
        403 => format!(
            "{}; bind the role in config/rbac to this identity",
            status.message
        ),
        404 => "the API server does not know the resource; apply config/crd first".to_owned(),
        401 => "the API server rejects these credentials".to_owned(),
        410 => "the API server no longer has the changes since the last one seen; listing again"
            .to_owned(),
        code => format!("{code} {}: {}", status.reason, status.message),
    }
}

/// Formats an error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
