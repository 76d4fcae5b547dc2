//! Notices objects whose status somebody else keeps changing.

use std::collections::HashMap;
use std::time::Duration;

use boot::ObjectRef;
use tokio::time::Instant;

use crate::condition::Digest;

/// How often the same status of an object is written again at once.
const MAX_AT_ONCE: u32 = 4;
/// The pause after that. It doubles with each further time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// How often the pause doubles: to half a minute.
const MAX_DOUBLINGS: u32 = 4;
/// A status that was written longer ago is not compared.
const FORGET_AFTER: Duration = Duration::from_mins(10);
/// With more objects than this, those that may be forgotten are.
const MAX_OBJECTS: usize = 16_384;

/// What was last written to each object.
#[derive(Debug, Default)]
pub(crate) struct Rewrites {
    objects: HashMap<ObjectRef, LastWrite>,
}

#[derive(Debug)]
struct LastWrite {
    digest: Digest,
    /// How often the same was written again.
    repeats: u32,
    at: Instant,
}

// === impl Rewrites ===

impl Rewrites {
    /// Records that a status was written. If the same one is written again and again, returns how
    /// long to leave the object alone.
    pub(crate) fn written(
        &mut self,
        name: &ObjectRef,
        digest: Digest,
        now: Instant,
    ) -> Option<Duration> {
        if self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(name) {
            self.objects
                .retain(|_, last| now.saturating_duration_since(last.at) < FORGET_AFTER);
            if self.objects.len() >= MAX_OBJECTS {
                return None;
            }
        }
        let repeats = match self.objects.get(name) {
            Some(last)
                if last.digest == digest
                    && now.saturating_duration_since(last.at) < FORGET_AFTER =>
            {
                last.repeats + 1
            }
            _ => 0,
        };
        let last = LastWrite {
            digest,
            repeats,
            at: now,
        };
        self.objects.insert(name.clone(), last);
        let doublings = repeats.checked_sub(MAX_AT_ONCE)?.min(MAX_DOUBLINGS);
        Some(FIRST_PAUSE * 2_u32.pow(doublings))
    }
}

#[cfg(test)]
mod tests {
    use boot::ObjectKey;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_status_that_is_changed_again_and_again_is_written_less_often() {
        let mut rewrites = Rewrites::default();
        let name = ObjectRef::Profile(ObjectKey::new("n", "p"));
        let now = Instant::now();
        let pauses: Vec<_> = (0..12)
            .map(|_| {
                let pause = rewrites.written(&name, Digest(1), now);
                pause.map_or(0, |pause| pause.as_secs())
            })
            .collect();
        assert_eq!(pauses, [0, 0, 0, 0, 2, 4, 8, 16, 32, 32, 32, 32]);
        assert_eq!(rewrites.written(&name, Digest(2), now), None);
        assert_eq!(rewrites.written(&name, Digest(1), now), None);
        let later = now + FORGET_AFTER;
        assert_eq!(rewrites.written(&name, Digest(1), later), None);
    }
}
