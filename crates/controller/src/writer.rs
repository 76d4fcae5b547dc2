//! Writes status and events, one object at a time and rate-limited.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use boot::{ObjectKey, ObjectRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PartialObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rand::Rng;
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::index::{PendingEvent, Status, StatusPatch};
use crate::lease::Leadership;
use crate::watch::chain;

/// The field manager of status writes.
pub(crate) const MANAGER: &str = "shaper-controller";
/// The maximum length of an event's note in bytes, as the API defines it.
const MAX_NOTE: usize = 1024;
/// The timeout of one write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// How old a problem that depends on other objects must be before it is reported. `kubectl apply`
/// of a directory applies its files in some order, so such a problem may be over in a moment.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// The maximum number of writes in flight.
pub(crate) const MAX_IN_FLIGHT: usize = 16;

/// The objects whose status may have to be written, in the order of writing.
#[derive(Default)]
pub(crate) struct WriteQueue {
    /// Profiles go first: machines wait for the ids of their configs.
    profiles: VecDeque<ObjectKey>,
    assignments: VecDeque<ObjectKey>,
    waiting: HashSet<ObjectRef>,
    /// Failed writes, by the time of the next attempt.
    later: BTreeMap<Instant, Vec<ObjectRef>>,
    failures: HashMap<ObjectRef, u32>,
    in_flight: BTreeSet<ObjectRef>,
    /// Objects that changed again while they were in flight.
    changed_in_flight: BTreeSet<ObjectRef>,
    /// Objects with a problem that may be over in a moment, with the time at which to report it.
    settling: HashMap<ObjectRef, Instant>,
}

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
    /// The write failed and will be retried.
    Failed(String),
}

// === impl WriteQueue ===

impl WriteQueue {
    pub(crate) fn push(&mut self, name: ObjectRef) {
        if self.in_flight.contains(&name) {
            self.changed_in_flight.insert(name);
        } else if self.waiting.insert(name.clone()) {
            match name {
                ObjectRef::Profile(key) => self.profiles.push_back(key),
                ObjectRef::Assignment(key) => self.assignments.push_back(key),
            }
        }
    }

    /// Returns the next object to check. It is in flight until [`done`](Self::done) is called.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ObjectRef> {
        while let Some(entry) = self.later.first_entry().filter(|entry| *entry.key() <= now) {
            for name in entry.remove() {
                self.push(name);
            }
        }
        let profile = self.profiles.pop_front().map(ObjectRef::Profile);
        let name = profile.or_else(|| self.assignments.pop_front().map(ObjectRef::Assignment))?;
        self.waiting.remove(&name);
        self.in_flight.insert(name.clone());
        Some(name)
    }

    pub(crate) fn done(&mut self, name: &ObjectRef) {
        self.in_flight.remove(name);
        self.failures.remove(name);
        self.settling.remove(name);
        if self.changed_in_flight.remove(name) {
            self.push(name.clone());
        }
    }

    /// Returns whether the object's problem has lasted long enough to be reported. If not, the
    /// object is put back for a moment. Once true, it stays true until [`done`](Self::done) is
    /// called.
    pub(crate) fn may_write_now(&mut self, name: &ObjectRef, is_bad: bool, now: Instant) -> bool {
        if !is_bad {
            self.settling.remove(name);
            return true;
        }
        let due = *self
            .settling
            .entry(name.clone())
            .or_insert(now + SETTLE_TIME);
        if now >= due {
            return true;
        }
        self.in_flight.remove(name);
        self.later.entry(due).or_default().push(name.clone());
        false
    }

    /// Puts an object back for a later attempt, with exponential backoff.
    pub(crate) fn failed(&mut self, name: &ObjectRef, now: Instant) {
        self.in_flight.remove(name);
        self.changed_in_flight.remove(name);
        let failures = self.failures.entry(name.clone()).or_default();
        *failures = (*failures + 1).min(9);
        let pause = Duration::from_millis(500) * 2_u32.pow(*failures - 1);
        self.later
            .entry(now + pause.mul_f64(rand::rng().random_range(0.75..1.25)))
            .or_default()
            .push(name.clone());
    }

    /// Returns when the next object that was put back is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.keys().next().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.later.values().map(Vec::len).sum::<usize>()
    }

    /// Forgets everything except what is in flight.
    pub(crate) fn clear(&mut self) {
        let in_flight = std::mem::take(&mut self.in_flight);
        *self = Self {
            in_flight,
            ..Self::default()
        };
    }
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
        Status::Profile(status) => json!(status),
        Status::Assignment(status) => json!(status),
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
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Written::Conflict,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Written::NotFound,
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Written::Failed(format!(
            "{}; bind the role in config/rbac to this identity",
            status.message
        )),
        Ok(Err(error)) => Written::Failed(chain(&error)),
        Err(_) => Written::Failed("the API server did not answer in time".to_owned()),
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
