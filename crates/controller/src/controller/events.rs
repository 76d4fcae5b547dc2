//! Decides which events are recorded, and logs what became of them.

use boot::ObjectRef;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, warn};
use uuid::NonNilUuid;

use crate::event_limit::Decision;
use crate::index::PendingEvent;
use crate::writer::{EventFailure, RecordedEvent, event_name};

use super::State;

impl State {
    /// Returns the events of a write that are to be recorded.
    pub(super) fn admitted(
        &mut self,
        object: &ObjectRef,
        uid: Option<NonNilUuid>,
        events: &[PendingEvent],
        now: Instant,
    ) -> Vec<RecordedEvent> {
        let mut admitted = Vec::new();
        for event in events {
            let name = event_name(&object.key().name, Timestamp::now());
            let (name, count) =
                match self
                    .event_limit
                    .admit(object, uid, (&event.reason, &event.note), name, now)
                {
                    Decision::Create(name) => (name, 1),
                    Decision::Repeat(name, count) => (name, count),
                    Decision::Skip => {
                        self.metrics.skipped_events.inc();
                        continue;
                    }
                };
            if event.kind.is_none() {
                warn!(%object, reason = event.reason, count, "{}", event.note);
            }
            admitted.push(RecordedEvent {
                object: object.clone(),
                event: event.clone(),
                name,
                count,
            });
        }
        admitted
    }

    /// Records what became of events. Logs the first of several failures.
    pub(super) fn recorded(&mut self, recorded: Result<(), EventFailure>) {
        match recorded {
            Ok(()) => self.is_recording = true,
            Err(EventFailure { object, error }) if std::mem::take(&mut self.is_recording) => {
                warn!(%object, error, "event not recorded; logged again after the next success");
            }
            Err(EventFailure { object, error }) => debug!(%object, error, "event not recorded"),
        }
    }
}

/// The event about an object whose status somebody else keeps changing.
pub(super) fn contested() -> PendingEvent {
    PendingEvent {
        kind: None,
        is_warning: true,
        reason: "StatusContested".to_owned(),
        note: "another client keeps changing this status; it is written again less and less often; find the client in metadata.managedFields, and take its right to change the status"
            .to_owned(),
    }
}
