//! Writes status and events, one object at a time and rate-limited.

use std::time::Duration;

use boot::{ObjectKey, ObjectRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

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
pub(crate) const MAX_IN_FLIGHT: usize = 16;

/// Limits the number of writes per second.
pub(crate) struct RateLimiter {
    per_second: f64,
    credit: f64,
    at: Instant,
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

/// Writes one status and records its events.
pub(crate) async fn write_status(
    client: Client,
    instance: String,
    leadership: Leadership,
    write: &StatusPatch,
) -> Written {
    // This is the last chance to notice that the process was paused beyond its leadership. If the
    // write goes out anyway, its resourceVersion makes the server reject it once the successor has
    // written to this object.
    if !leadership.is_valid() {
        return Written::NotLeader;
    }
    let patched = match &write.name {
        ObjectRef::Profile(key) => patch::<crd::Profile>(client.clone(), key, write).await,
        ObjectRef::Assignment(key) => patch::<crd::Assignment>(client.clone(), key, write).await,
    };
    if let Written::Applied { .. } = patched {
        for event in &write.events {
            if leadership.is_valid() {
                record(client.clone(), &instance, write, event).await;
            }
        }
    }
    patched
}

async fn patch<K: crate::object::WatchedResource>(
    client: Client,
    key: &ObjectKey,
    write: &StatusPatch,
) -> Written {
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client, &key.namespace);
    let status = match &write.status {
        index::Status::Profile(status) => json!(status),
        index::Status::Assignment(status) => json!(status),
    };
    let object = json!({
        "apiVersion": crd::API_VERSION,
        "kind": K::kind(&()),
        "metadata": { "name": &*key.name, "namespace": &*key.namespace, "resourceVersion": write.meta.version.to_string() },
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match timeout(
        WRITE_TIMEOUT,
        api.patch_status(&key.name, &parameters, &Patch::Apply(&object)),
    )
    .await
    {
        Ok(Ok(object)) => Written::Applied {
            version: object.metadata.resource_version.unwrap_or_default(),
        },
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

/// Records an event. If this fails, the event is only missing from `kubectl describe`.
async fn record(client: Client, instance: &str, write: &StatusPatch, event: &PendingEvent) {
    let (kind, key) = match &write.name {
        ObjectRef::Profile(key) => ("Profile", key),
        ObjectRef::Assignment(key) => ("Assignment", key),
    };
    let now = Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            name: Some(event_name(&key.name, now)),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        action: Some(
            event
                .kind
                .map_or_else(|| "AssignId".to_owned(), |kind| kind.to_string()),
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
            kind: Some(kind.to_owned()),
            name: Some(key.name.to_string()),
            namespace: Some(key.namespace.to_string()),
            uid: write.meta.uid.map(|uid| uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(crd::GROUP.to_owned() + "/controller"),
        reporting_instance: Some(cut(instance, 128).to_owned()),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client, &key.namespace);
    match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            warn!(object = %key, reason = event.reason, error = chain(&error), "event not recorded");
        }
        Err(_) => {
            debug!(object = %key, reason = event.reason, "event not recorded: the API server did not answer in time");
        }
    }
}

/// Returns a unique event name from the object's name and the time.
fn event_name(object: &str, now: Timestamp) -> String {
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
