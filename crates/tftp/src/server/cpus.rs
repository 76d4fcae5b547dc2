//! The processors that threads stay on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::utsname::uname;
use nix::unistd::{Pid, gettid};
use tracing::debug;

/// More threads than this win nothing: one alone moves more than machines that boot by TFTP can take.
const MOST: usize = 8;
/// The release from which on Linux heeds `SO_INCOMING_CPU` among sockets that share a port (its commit b261eda84ec1).
const HEEDED_FROM: (u32, u32) = (6, 2);

/// A thread that stays on a processor.
pub(super) struct Pinned {
    thread: Pid,
    before: CpuSet,
}

/// Those that this process may use.
pub(super) fn usable() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else {
        return Vec::new();
    };
    (0..CpuSet::count())
        .filter(|cpu| allowed.is_set(*cpu) == Ok(true))
        .collect()
}

/// An entry for each thread that is worth it where these processors may be used: the processor that it stays on, if it stays on one.
pub(super) fn places(usable: &[usize]) -> Vec<Option<usize>> {
    places_by(usable, release())
}

/// To stay is only harm where packets come in on more processors than there are threads, or by a kernel that does not ask who is where.
fn places_by(usable: &[usize], release: Option<(u32, u32)>) -> Vec<Option<usize>> {
    let stays = usable.len() <= MOST && release.is_some_and(|release| release >= HEEDED_FROM);
    usable
        .iter()
        .take(MOST)
        .map(|cpu| stays.then_some(*cpu))
        .collect()
}

/// The kernel's, as far as it tells what it can.
fn release() -> Option<(u32, u32)> {
    parse_release(uname().ok()?.release().to_str()?)
}

fn parse_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Keeps this thread there.
pub(super) fn stay_on(cpu: usize) -> io::Result<Pinned> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(this, &only)?;
    Ok(Pinned {
        thread: gettid(),
        before,
    })
}

// === impl Pinned ===

impl Pinned {
    /// Lets the thread, which still runs, go where there is room for it.
    pub(super) fn release(&self) {
        if let Err(error) = sched_setaffinity(self.thread, &self.before) {
            debug!(%error, "a thread stays on its processor");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stay_on_processors_where_there_is_one_for_each_and_the_kernel_heeds_it() {
        let (few, many): (Vec<_>, Vec<_>) = ((3..11).collect(), (3..12).collect());
        let stay: Vec<_> = few.iter().copied().map(Some).collect();
        assert_eq!(places_by(&few, Some((6, 2))), stay);
        assert_eq!(places_by(&few, Some((7, 0))), stay);
        assert_eq!(places_by(&few, Some((6, 1))), [None; 8]);
        assert_eq!(places_by(&few, Some((5, 15))), [None; 8]);
        assert_eq!(places_by(&few, None), [None; 8]);
        assert_eq!(places_by(&many, Some((6, 2))), [None; 8]);
        assert_eq!(places_by(&[], Some((6, 2))), []);
    }

    #[test]
    fn a_release_is_known_by_its_first_two_numbers() {
        assert_eq!(parse_release("6.1.0-28-amd64"), Some((6, 1)));
        assert_eq!(parse_release("6.18.44"), Some((6, 18)));
        assert_eq!(parse_release("5.14-rc1"), Some((5, 14)));
        for text in ["", "6", "six.two", "6."] {
            assert_eq!(parse_release(text), None, "{text:?}");
        }
    }
}
