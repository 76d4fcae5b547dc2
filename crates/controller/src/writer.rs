//! Writes status and events, one object at a time and rate-limited.

use std::time::Duration;

use boot::{ObjectKey, ObjectRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, timeout};
use uuid::NonNilUuid;

use crate::index::{self, PendingEvent, StatusPatch};
use crate::lease::Leadership;
use crate::watch::chain;

/// The field manager of status writes.
pub(crate) const MANAGER: &str = "shaper-controller";
/// The maximum length of an event's note in bytes, as the API defines it.
const MAX_NOTE: usize = 1024;
/// The timeout of one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum number of writes in flight.
const MAX_IN_FLIGHT: usize = 16;
/// After this many successful writes, one more may be in flight.
const SUCCESSES_PER_STEP: u32 = 32;

/// Limits the number of writes in flight to what the API server takes: it is halved when the server
/// rejects a write for lack of capacity, and grows slowly while writes succeed. A server may give a
/// client a single seat (API priority and fairness).
pub(crate) struct InFlightLimit {
    limit: usize,
    successes: u32,
}

/// Why a write that succeeds may change nothing.
const NOT_STORED: &str = "it accepts this status and doesn't store it; apply the CRDs of this version of shaper, and look for admission policies that change the status";

/// Limits the number of writes per second.
pub(crate) struct RateLimiter {
    per_second: f64,
    credit: f64,
    at: Instant,
}

/// An event to record.
#[derive(Debug)]
pub(crate) struct RecordedEvent {
    pub(crate) object: ObjectRef,
    pub(crate) event: PendingEvent,
    /// The name of the event.
    pub(crate) name: String,
    /// How often it has occurred. With more than one, the event exists.
    pub(crate) count: u32,
}

/// An event that could not be recorded.
#[derive(Debug)]
pub(crate) struct EventFailure {
    pub(crate) object: ObjectRef,
    pub(crate) error: String,
}

/// The result of a write.
pub(crate) enum Written {
    /// The write succeeded; the object now has this version.
    Applied { version: String },
    /// The object was changed concurrently; the watch will deliver the change.
    Conflict,
    /// The object was deleted.
    NotFound,
    /// This process no longer holds the Lease.
    NotLeader,
    /// The server refused this write for a reason of this object. It is retried less and less
    /// often, and others are written meanwhile.
    Refused(String),
    /// The server can't serve anybody's writes now, for this long.
    Overloaded(Duration),
    /// The server failed, or could not be reached. All writes wait for a moment.
    Failed(String),
}

// === impl RateLimiter ===

impl RateLimiter {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second.max(1)),
            credit: 1.0,
            at: Instant::now(),
        }
    }

    /// Takes a token for one write, or returns the time at which one is available.
    pub(crate) fn next(&mut self, now: Instant) -> Result<(), Instant> {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        // Save up tokens for at most a tenth of a second.
        self.credit = (self.credit + earned).min((self.per_second / 10.0).max(1.0));
        self.at = now;
        if self.credit >= 1.0 {
            self.credit -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.credit) / self.per_second))
    }
}

// === impl InFlightLimit ===

impl InFlightLimit {
    pub(crate) fn get(&self) -> usize {
        self.limit
    }

    pub(crate) fn succeeded(&mut self) {
        self.successes += 1;
        if self.successes >= SUCCESSES_PER_STEP {
            self.successes = 0;
            self.limit = (self.limit + 1).min(MAX_IN_FLIGHT);
        }
    }

    pub(crate) fn rejected(&mut self) {
        self.successes = 0;
        self.limit = (self.limit / 2).max(1);
    }
}

impl Default for InFlightLimit {
    fn default() -> Self {
        Self {
            limit: MAX_IN_FLIGHT,
            successes: 0,
        }
    }
}

/// Writes one status.
pub(crate) async fn write_status(
    client: Client,
    leadership: Leadership,
    write: &StatusPatch,
) -> Written {
    // This is the last chance to notice that the process was paused beyond its leadership. If the
    // write goes out anyway, its resourceVersion makes the server reject it once the successor has
    // written to this object.
    if !leadership.is_valid() {
        return Written::NotLeader;
    }
    match &write.name {
        ObjectRef::Profile(key) => patch::<crd::Profile>(client, key, write).await,
        ObjectRef::Assignment(key) => patch::<crd::Assignment>(client, key, write).await,
        ObjectRef::Machine(key) => patch::<crd::Machine>(client, key, write).await,
    }
}

async fn patch<K: crate::object::WatchedResource>(
    client: Client,
    key: &ObjectKey,
    write: &StatusPatch,
) -> Written {
    let api: Api<PartialObjectMeta<K>> = K::api(client, Some(&key.namespace));
    let status = match &write.status {
        index::Status::Profile(status) => json!(status),
        index::Status::Assignment(status) => json!(status),
        index::Status::Machine(status) => json!(status),
    };
    let mut metadata =
        json!({ "name": &*key.name, "resourceVersion": write.meta.version.to_string() });
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(&*key.namespace);
    }
    let object = json!({
        "apiVersion": crd::API_VERSION,
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match timeout(
        WRITE_TIMEOUT,
        api.patch_status(&key.name, &parameters, &Patch::Apply(&object)),
    )
    .await
    {
        Ok(Ok(object)) => {
            let version = object.metadata.resource_version.unwrap_or_default();
            // The status differs from the one of that version, so it would get a new one.
            if version == write.meta.version.to_string() {
                return Written::Refused(NOT_STORED.to_owned());
            }
            Written::Applied { version }
        }
        Ok(Err(kube::Error::Api(status))) => written_unless(&status),
        Ok(Err(error)) => Written::Failed(chain(&error)),
        Err(_) => Written::Failed("the API server did not answer in time".to_owned()),
    }
}

/// Returns what a failure of the API server means (Kubernetes API conventions, "HTTP status
/// codes").
fn written_unless(status: &Status) -> Written {
    let message = || format!("{} {}", status.code, status.message);
    match status.code {
        404 => Written::NotFound,
        409 => Written::Conflict,
        // A namespace may forbid it, or the role is not bound.
        403 => Written::Refused(format!(
            "{}; if this concerns all objects, bind the role in config/rbac to this identity",
            message()
        )),
        429 => {
            let details = status.details.as_ref();
            let seconds = details.map_or(0, |details| details.retry_after_seconds);
            Written::Overloaded(Duration::from_secs(seconds.clamp(1, 60).into()))
        }
        400..500 => Written::Refused(message()),
        _ => Written::Failed(message()),
    }
}

/// Records events, in this order. Those that can't be recorded are only missing from `kubectl
/// describe`. Returns the last failure.
pub(crate) async fn record_events(
    client: Client,
    instance: String,
    leadership: Leadership,
    uid: Option<NonNilUuid>,
    events: Vec<RecordedEvent>,
) -> Result<(), EventFailure> {
    let mut recorded = Ok(());
    for event in events {
        if !leadership.is_valid() {
            break;
        }
        if let Err(error) = record(client.clone(), &instance, uid, &event).await {
            let object = event.object;
            recorded = Err(EventFailure { object, error });
        }
    }
    recorded
}

async fn record(
    client: Client,
    instance: &str,
    uid: Option<NonNilUuid>,
    recorded: &RecordedEvent,
) -> Result<(), String> {
    let api: Api<Event> = Api::namespaced(client, event_namespace(&recorded.object));
    let now = MicroTime(Timestamp::now());
    let request = async {
        if recorded.count > 1 {
            let series = EventSeries {
                count: i32::try_from(recorded.count).unwrap_or(i32::MAX),
                last_observed_time: now,
            };
            let patch = Patch::Merge(json!({ "series": series }));
            let parameters = PatchParams::default();
            return api.patch(&recorded.name, &parameters, &patch).await;
        }
        let event = event(recorded, instance, uid, now);
        api.create(&PostParams::default(), &event).await
    };
    match timeout(WRITE_TIMEOUT, request).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("the API server did not answer in time".to_owned()),
    }
}

/// Returns the namespace of events about an object. Those about a cluster-scoped object are in
/// `default`, as the API requires.
fn event_namespace(object: &ObjectRef) -> &str {
    match &*object.key().namespace {
        "" => "default",
        namespace => namespace,
    }
}

/// Returns a new event about an object.
fn event(
    recorded: &RecordedEvent,
    instance: &str,
    uid: Option<NonNilUuid>,
    now: MicroTime,
) -> Event {
    let RecordedEvent {
        object,
        event,
        name,
        ..
    } = recorded;
    let key = object.key();
    let namespace = &key.namespace;
    Event {
        metadata: ObjectMeta {
            namespace: Some(event_namespace(object).to_owned()),
            name: Some(name.clone()),
            ..ObjectMeta::default()
        },
        event_time: Some(now),
        action: Some(
            event
                .kind
                .map_or_else(|| "WriteStatus".to_owned(), |kind| kind.to_string()),
        ),
        reason: Some(event.reason.clone()),
        note: Some(cut(&event.note, MAX_NOTE).to_owned()),
        type_: Some(
            if event.is_warning {
                "Warning"
            } else {
                "Normal"
            }
            .to_owned(),
        ),
        regarding: Some(ObjectReference {
            api_version: Some(crd::API_VERSION.to_owned()),
            kind: Some(object.kind().to_owned()),
            name: Some(key.name.to_string()),
            namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
            uid: uid.map(|uid| uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(crd::GROUP.to_owned() + "/controller"),
        reporting_instance: Some(cut(instance, 128).to_owned()),
        ..Event::default()
    }
}

/// Returns a unique event name from the object's name and the time.
pub(crate) fn event_name(object: &str, now: Timestamp) -> String {
    let suffix = format!(".{:x}", now.as_nanosecond());
    format!(
        "{}{suffix}",
        cut(object, 253 - suffix.len()).trim_end_matches(['.', '-'])
    )
}

fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
