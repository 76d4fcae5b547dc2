//! The processors that threads stay on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// More threads than this win nothing: one alone moves more than machines that boot by TFTP can take.
const MOST: usize = 8;

/// Those that this process may use, or as many of them as are worth a thread.
pub(super) fn usable() -> Vec<usize> {
    let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).take(MOST).collect()
}

/// Keeps this thread there.
pub(super) fn stay_on(cpu: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}
