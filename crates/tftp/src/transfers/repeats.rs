//! Recognizes machines that fetch the same file again and again.
//!
//! A DHCP server that does not tell iPXE from the firmware hands iPXE the file that started it: the
//! machine loads iPXE, which loads iPXE, and every transfer is a success.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The time within which transfers count as repeated: a boot loop takes about 19 s per round.
const WINDOW: Duration = Duration::from_mins(1);
/// The number of transfers of one file to one machine within the window that is a loop.
const MANY: usize = 3;
/// Maximum number of transfers remembered. More than this within the window is a rack that boots.
const MAX_REMEMBERED: usize = 512;

/// The completed transfers of the last minute.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    completed: VecDeque<(Duration, IpAddr, Arc<str>)>,
}

// === impl Repeats ===

impl Repeats {
    /// Records a completed transfer. Returns whether it makes a loop: this many transfers of the
    /// file to the machine within a minute. A loop that goes on is reported once a minute.
    pub(super) fn completed(&mut self, peer: IpAddr, file: &Arc<str>, now: Duration) -> bool {
        let is_old = |(at, ..): &(Duration, IpAddr, Arc<str>)| now.saturating_sub(*at) >= WINDOW;
        while self.completed.front().is_some_and(is_old) || self.completed.len() >= MAX_REMEMBERED {
            self.completed.pop_front();
        }
        self.completed.push_back((now, peer, file.clone()));
        let is_same =
            |(_, other, name): &(Duration, IpAddr, Arc<str>)| *other == peer && name == file;
        let is_loop = self.completed.iter().filter(|entry| is_same(entry)).count() >= MANY;
        if is_loop {
            self.completed.retain(|entry| !is_same(entry));
        }
        is_loop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn completed(repeats: &mut Repeats, peer: IpAddr, file: &str, second: u64) -> bool {
        repeats.completed(peer, &file.into(), Duration::from_secs(second))
    }

    #[test]
    fn the_third_transfer_of_a_file_within_a_minute_is_a_loop() {
        let mut repeats = Repeats::default();
        assert!(!completed(&mut repeats, ONE, "ipxe.efi", 0));
        assert!(!completed(&mut repeats, OTHER, "ipxe.efi", 10));
        assert!(!completed(&mut repeats, ONE, "ipxe.efi", 19));
        assert!(!completed(&mut repeats, ONE, "undionly.kpxe", 30));
        assert!(completed(&mut repeats, ONE, "ipxe.efi", 38));
        // It goes on, and is reported again after three more rounds.
        assert!(!completed(&mut repeats, ONE, "ipxe.efi", 57));
        assert!(!completed(&mut repeats, ONE, "ipxe.efi", 76));
        assert!(completed(&mut repeats, ONE, "ipxe.efi", 95));
    }

    #[test]
    fn boots_more_than_a_minute_apart_are_no_loop() {
        let mut repeats = Repeats::default();
        for boot in 0..10 {
            assert!(!completed(&mut repeats, ONE, "ipxe.efi", boot * 61));
        }
    }

    #[test]
    fn a_flood_of_transfers_is_remembered_within_bounds() {
        let mut repeats = Repeats::default();
        for file in 0..10_000 {
            completed(&mut repeats, ONE, &file.to_string(), 1);
        }
        assert_eq!(repeats.completed.len(), MAX_REMEMBERED);
    }
}
