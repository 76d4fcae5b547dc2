//! Watches.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use crate::ServerState;
use crate::call::Call;
use crate::fault::Fault;
use crate::listing::{ObjectSelector, kind_of, select};
use crate::response::{ApiError, Body, connection_closed};

/// A client that watches one kind.
struct Watch {
    shared: Arc<ServerState>,
    changed: Receiver<u64>,
    call: Call,
    selector: ObjectSelector,
    /// The revision up to which changes have been sent.
    revision: u64,
    unsent: VecDeque<Bytes>,
    end: StreamEnd,
    deadline: Option<Instant>,
    next_bookmark: Instant,
    stalled_by: Option<u64>,
}

/// How the stream ends after everything is sent.
#[derive(Clone, Copy, PartialEq)]
enum StreamEnd {
    Open,
    Complete,
    Broken,
}

/// Starts a watch, whose body is streamed while the client reads it.
pub(crate) fn open(shared: &Arc<ServerState>, call: Call) -> Result<Response<Body>, ApiError> {
    let watch = Watch::start(shared.clone(), call)?;
    let frames = stream::unfold(watch, |mut watch| async move {
        let item = watch.next().await?;
        Some((item.map(Frame::data), watch))
    });
    let body = StreamBody::new(frames.boxed()).boxed_unsync();
    let response = Response::builder()
        .status(200)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    Ok(response.expect("status and header are valid"))
}

// === impl Watch ===

impl Watch {
    fn start(shared: Arc<ServerState>, call: Call) -> Result<Self, ApiError> {
        let selector = ObjectSelector::from_call(&call)?;
        let mut state = shared.state();
        let requested = call
            .parameter("resourceVersion")
            .filter(|version| *version != "0")
            .map(str::parse::<u64>)
            .transpose();
        let requested = requested
            .map_err(|_| ApiError::new(400, "BadRequest", "resourceVersion is not a number"))?;
        let sends_initial_events = call.is_set("sendInitialEvents");
        if sends_initial_events && !state.settings.supports_watch_list {
            let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return Err(ApiError::new(422, "Invalid", message));
        }
        let mut unsent = VecDeque::new();
        let now = state.store.revision();
        if sends_initial_events || requested.is_none() {
            let max = match state
                .faults
                .trigger(&call, |fault| matches!(fault, Fault::TruncateList(_)))
            {
                Some((_, Fault::TruncateList(count))) => count,
                _ => usize::MAX,
            };
            unsent.extend(
                select(state.store.all(&call.plural), &selector, max)
                    .iter()
                    .map(|object| line("ADDED", object)),
            );
        }
        if sends_initial_events {
            unsent.push_back(bookmark(&call, now, true));
        }
        let seconds = call
            .parameter("timeoutSeconds")
            .and_then(|seconds| seconds.parse().ok());
        let (changed, bookmark_interval) =
            (shared.changed.subscribe(), state.settings.bookmark_interval);
        drop(state);
        Ok(Self {
            changed,
            selector,
            revision: if sends_initial_events {
                now
            } else {
                requested.unwrap_or(now)
            },
            unsent,
            end: StreamEnd::Open,
            deadline: seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            next_bookmark: Instant::now() + bookmark_interval,
            stalled_by: None,
            call,
            shared,
        })
    }

    /// Returns the next chunk of the body.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            self.changed.mark_unchanged();
            let is_stalled = self.poll_changes();
            if !is_stalled {
                if let Some(bytes) = self.unsent.pop_front() {
                    return Some(Ok(bytes));
                }
                match self.end {
                    StreamEnd::Open => {}
                    StreamEnd::Complete => return None,
                    StreamEnd::Broken => return Some(Err(connection_closed())),
                }
            }
            self.wait(is_stalled).await;
        }
    }

    /// Queues what has changed. Returns whether the watch is stalled.
    fn poll_changes(&mut self) -> bool {
        let shared = self.shared.clone();
        let mut state = shared.state();
        if self.stalled_by.is_some_and(|id| state.faults.is_active(id)) {
            return true;
        }
        self.stalled_by = None;
        if self.end != StreamEnd::Open {
            return false;
        }
        match state.faults.trigger(&self.call, Fault::affects_streams) {
            Some((id, Fault::StallWatch)) => {
                self.stalled_by = Some(id);
                return true;
            }
            Some((_, Fault::CloseConnection)) => {
                self.unsent
                    .push_back(Bytes::from_static(b"{\"type\":\"MODI"));
                self.end = StreamEnd::Broken;
            }
            Some((_, Fault::InvalidEvent)) => {
                self.unsent.push_back(Bytes::from_static(
                    b"{\"type\":\"MODIFIED\",\"object\":7}\n",
                ));
                self.end = StreamEnd::Complete;
            }
            Some((_, Fault::Gone)) => self.queue_gone(),
            _ if self.revision < state.store.compacted() => self.queue_gone(),
            _ => {
                let changes = state.store.since(&self.call.plural, self.revision);
                self.revision = self.revision.max(state.store.revision());
                if !changes.is_empty() {
                    self.next_bookmark = Instant::now() + state.settings.bookmark_interval;
                }
                let matches = |object: &Arc<Value>| self.selector.matches(object);
                self.unsent.extend(changes.iter().filter_map(|change| {
                    // For a selector, an object that starts to match is added, and one that stops
                    // matching is deleted.
                    let was = change.old.as_ref().is_some_and(matches);
                    let is = change.event_type != "DELETED" && matches(&change.object);
                    match (was, is) {
                        (false, true) => Some(line("ADDED", &change.object)),
                        (true, true) => Some(line("MODIFIED", &change.object)),
                        (true, false) => Some(line("DELETED", &change.object)),
                        (false, false) => None,
                    }
                }));
                if self.next_bookmark <= Instant::now() {
                    self.next_bookmark = Instant::now() + state.settings.bookmark_interval;
                    if self.call.is_set("allowWatchBookmarks") {
                        self.unsent
                            .push_back(bookmark(&self.call, self.revision, false));
                    }
                }
            }
        }
        if self
            .deadline
            .is_some_and(|deadline| deadline <= Instant::now())
            && self.end == StreamEnd::Open
        {
            self.end = StreamEnd::Complete;
        }
        false
    }

    fn queue_gone(&mut self) {
        let status = ApiError::new(
            410,
            "Expired",
            format!("too old resource version: {}", self.revision),
        )
        .status();
        self.unsent.push_back(line("ERROR", &status));
        self.end = StreamEnd::Complete;
    }

    /// Waits for something to send. A stalled watch does not notice that its timeout has passed.
    async fn wait(&mut self, is_stalled: bool) {
        let wake = self.deadline.map_or(self.next_bookmark, |deadline| {
            deadline.min(self.next_bookmark)
        });
        tokio::select! {
            // `shared` owns the sender, so it is never closed.
            _ = self.changed.changed() => {}
            () = sleep_until(wake), if !is_stalled => {}
        }
    }
}

fn line(event_type: &str, object: &Value) -> Bytes {
    Bytes::from(format!(
        "{}\n",
        json!({ "type": event_type, "object": object })
    ))
}

fn bookmark(call: &Call, revision: u64, is_initial_events_end: bool) -> Bytes {
    let mut metadata =
        json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if is_initial_events_end {
        metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
    }
    line(
        "BOOKMARK",
        &json!({ "kind": kind_of(&call.plural), "apiVersion": call.api_version(), "metadata": metadata }),
    )
}
