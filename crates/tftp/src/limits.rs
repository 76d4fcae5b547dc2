//! Limits on what peers can use: in total, per address, and per network prefix.

use std::net::IpAddr;
use std::time::Duration;

use ahash::AHashMap;
use places::Source;

/// Most prefixes that are tracked. Peers of further prefixes share one budget.
const MAX_PREFIXES: usize = 65_536;
/// The time for which an idle prefix accumulates budget, in seconds.
const BURST_SECONDS: f64 = 2.0;

/// Limits on what peers can use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Concurrent transfers.
    pub transfers: usize,
    /// Concurrent transfers to one address. Machines behind a NAT share an address.
    pub transfers_per_peer: usize,
    /// The largest packet, IP header included, that reaches every machine without fragmentation.
    pub mtu: u16,
    /// The largest window, in blocks.
    pub windowsize: u16,
    /// Bytes per second sent to each /24 (IPv4) or /56 (IPv6) while peers have not proved their
    /// address.
    pub unproven_bytes: u32,
    /// How long transfers may continue after the server is told to stop.
    pub drain: Duration,
}

/// A token bucket of bytes for each network prefix.
#[derive(Debug)]
pub(crate) struct PrefixBudgets {
    rate: f64,
    buckets: AHashMap<u128, Bucket>,
    overflow: Bucket,
    last_sweep: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    bytes: f64,
    refilled_at: Duration,
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            transfers: 4_096,
            transfers_per_peer: 1_024,
            mtu: 1_500,
            windowsize: 64,
            unproven_bytes: 128 * 1024,
            drain: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// The largest block that reaches `peer` in one packet.
    pub(crate) fn blksize(&self, peer: IpAddr) -> u16 {
        // The header is 8 bytes for UDP, 4 for TFTP, and 20 or 40 for IP.
        let headers = if peer.is_ipv4() { 32 } else { 52 };
        self.mtu.saturating_sub(headers).max(8)
    }
}

// === impl PrefixBudgets ===

impl PrefixBudgets {
    pub(crate) fn new(bytes_per_second: u32) -> Self {
        let rate = f64::from(bytes_per_second);
        let full = Bucket {
            bytes: rate * BURST_SECONDS,
            refilled_at: Duration::ZERO,
        };
        Self {
            rate,
            buckets: AHashMap::new(),
            overflow: full,
            last_sweep: Duration::ZERO,
        }
    }

    /// Charges `bytes` to the prefix of `peer`. Returns whether its budget sufficed.
    pub(crate) fn charge(&mut self, peer: IpAddr, bytes: usize, now: Duration) -> bool {
        let (rate, full) = (self.rate, self.rate * BURST_SECONDS);
        let prefix = Source::from(peer).prefix();
        if self.buckets.len() >= MAX_PREFIXES && !self.buckets.contains_key(&prefix) {
            self.sweep(now);
        }
        let bucket = if self.buckets.len() < MAX_PREFIXES || self.buckets.contains_key(&prefix) {
            self.buckets.entry(prefix).or_insert(Bucket {
                bytes: full,
                refilled_at: now,
            })
        } else {
            &mut self.overflow
        };
        bucket.bytes =
            full.min(bucket.bytes + rate * now.saturating_sub(bucket.refilled_at).as_secs_f64());
        bucket.refilled_at = now;
        let bytes = bytes as f64;
        let is_enough = bucket.bytes >= bytes;
        if is_enough {
            bucket.bytes -= bytes;
        }
        is_enough
    }

    /// Forgets prefixes whose budget is full again. Runs at most once a second.
    fn sweep(&mut self, now: Duration) {
        if now < self.last_sweep + Duration::from_secs(1) {
            return;
        }
        self.last_sweep = now;
        let (rate, full) = (self.rate, self.rate * BURST_SECONDS);
        self.buckets.retain(|_, bucket| {
            bucket.bytes + rate * now.saturating_sub(bucket.refilled_at).as_secs_f64() < full
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_of_a_prefix_share_a_budget_and_prefixes_do_not() {
        let mut prefixes = PrefixBudgets::new(100);
        let now = Duration::ZERO;
        assert!(prefixes.charge(ip("192.0.2.1"), 150, now));
        assert!(!prefixes.charge(ip("192.0.2.200"), 51, now));
        assert!(prefixes.charge(ip("192.0.2.200"), 50, now));
        assert!(prefixes.charge(ip("192.0.3.1"), 200, now));
        assert!(prefixes.charge(ip("2001:db8::1"), 200, now));
        assert!(
            !prefixes.charge(ip("2001:db8:0:00ff::1"), 1, now),
            "the same /56"
        );
        assert!(
            prefixes.charge(ip("2001:db8:0:0100::1"), 200, now),
            "another /56"
        );
        assert!(!prefixes.charge(ip("192.0.2.1"), 101, now + Duration::from_secs(1)));
        assert!(prefixes.charge(ip("192.0.2.1"), 100, now + Duration::from_secs(1)));
    }

    #[test]
    fn a_flood_from_many_prefixes_uses_bounded_memory_and_one_shared_budget() {
        let mut prefixes = PrefixBudgets::new(100);
        let mut allowed = 0;
        for net in 0..200_000_u32 {
            let peer = IpAddr::from((0x0a00_0000 + (net << 8)).to_be_bytes());
            allowed += usize::from(prefixes.charge(peer, 200, Duration::ZERO));
        }
        assert_eq!(prefixes.buckets.len(), MAX_PREFIXES);
        assert_eq!(allowed, MAX_PREFIXES + 1);
        // Later, idle prefixes are forgotten and there is room again.
        assert!(prefixes.charge(ip("192.0.2.1"), 200, Duration::from_secs(10)));
        assert_eq!(prefixes.buckets.len(), 1);
    }

    #[test]
    fn a_block_fits_the_mtu_with_its_headers() {
        let limits = Limits::default();
        assert_eq!(limits.blksize(ip("192.0.2.1")), 1_468);
        assert_eq!(limits.blksize(ip("2001:db8::1")), 1_448);
        assert_eq!(
            Limits {
                mtu: 9_000,
                ..limits
            }
            .blksize(ip("192.0.2.1")),
            8_968
        );
    }
}
