//! The order in which holders are considered for displacement.

use std::collections::VecDeque;

use crate::Standing;

/// Maximum number of holders that are compared to find the one to displace.
const SAMPLE: usize = 64;
/// Maximum number of holders that are moved to the proven queue for each newcomer. Each is moved
/// once.
const SORTED_PER_CALL: usize = 256;

/// Holders, the first to be asked first, and some that are gone.
#[derive(Debug)]
pub(crate) struct Queues<H> {
    /// Those that had proved nothing when they were last asked, the oldest first.
    unproven: VecDeque<H>,
    /// Those that have proved themselves since.
    proven: VecDeque<H>,
}

// === impl Queues ===

impl<H> Default for Queues<H> {
    fn default() -> Self {
        Self {
            unproven: VecDeque::new(),
            proven: VecDeque::new(),
        }
    }
}

impl<H: Copy> Queues<H> {
    pub(crate) fn len(&self) -> usize {
        self.unproven.len() + self.proven.len()
    }

    /// Adds a holder that has proved nothing.
    pub(crate) fn push(&mut self, holder: H) {
        self.unproven.push_back(holder);
    }

    /// The oldest holder that has proved nothing.
    pub(crate) fn oldest_unproven(
        &mut self,
        is_held: impl Fn(&H) -> bool,
        standing: &mut impl FnMut(&H) -> Standing,
    ) -> Option<(H, Standing)> {
        for _ in 0..SORTED_PER_CALL {
            let holder = *self.unproven.front()?;
            if is_held(&holder) {
                let standing = standing(&holder);
                if !standing.is_proven() {
                    return Some((holder, standing));
                }
                self.proven.push_back(holder);
            }
            self.unproven.pop_front();
        }
        None
    }

    /// The holder with the lowest standing among the next [`SAMPLE`] that have proved themselves.
    /// The sample begins elsewhere each time, so that all are compared in turn.
    pub(crate) fn sample(
        &mut self,
        is_held: impl Fn(&H) -> bool,
        standing: &mut impl FnMut(&H) -> Standing,
    ) -> Option<(H, Standing)> {
        let mut lowest: Option<(H, Standing)> = None;
        for _ in 0..SAMPLE.min(self.proven.len()) {
            let holder = self.proven.pop_front()?;
            if !is_held(&holder) {
                continue;
            }
            self.proven.push_back(holder);
            let standing = standing(&holder);
            if lowest.is_none_or(|(_, before)| standing.rank() < before.rank()) {
                lowest = Some((holder, standing));
            }
        }
        lowest
    }

    /// Forgets those that are gone, once they are most of what is remembered.
    pub(crate) fn compact(&mut self, held: usize, is_held: impl Fn(&H) -> bool) {
        for queue in [&mut self.unproven, &mut self.proven] {
            if queue.len() > 2 * held + SAMPLE {
                queue.retain(&is_held);
            }
        }
    }
}
