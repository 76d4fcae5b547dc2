//! Metrics of the TFTP server.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// Metrics of the TFTP server. Clones share their values.
#[derive(Clone, Default)]
pub struct Metrics {
    outcomes: [Counter; Outcome::ALL.len()],
    refusals: [Counter; Refusal::ALL.len()],
    pub(crate) active: Gauge,
    pub(crate) retransmits: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) send_errors: Counter,
    files: Gauge,
    skipped: Gauge,
    scan_incomplete: Gauge,
    read_stalled: Gauge,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer acknowledged every block.
    Completed,
    /// Everything was sent, but the last acknowledgement never arrived.
    Unconfirmed,
    /// The peer sent an ERROR. Firmware does so after it has asked for the size.
    Aborted,
    /// The peer sent a new request.
    Restarted,
    /// The peer stopped responding.
    TimedOut,
    /// The peer sent nothing but the request, so it never proved its address.
    Unanswered,
    /// The transfer made room for others before its peer had proved its address.
    Evicted,
    /// The file could not be read or changed.
    Failed,
    /// The server was stopped.
    Stopped,
}

/// Why a datagram was answered with an ERROR or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The file does not exist.
    NoSuchFile,
    /// A request to write.
    Write,
    /// The mode is neither octet nor netascii, or the file is not text.
    Mode,
    /// Not a complete TFTP packet.
    Malformed,
    /// Longer than any request.
    Oversized,
    /// A packet that only servers send.
    NotForServers,
    /// Not part of a running transfer.
    UnknownTransfer,
    /// An acknowledgement of no outstanding block; most are late duplicates.
    Stray,
    /// The sender or our address can't be answered: multicast, broadcast, or port 0.
    Address,
    /// Too many concurrent transfers.
    TooMany,
    /// Too many concurrent transfers to this address.
    TooManyFromPeer,
    /// The budget of the peer's network prefix is used up.
    PrefixBudget,
    /// The server is stopping.
    Stopping,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefusalLabels {
    reason: &'static str,
}

// === impl Metrics ===

impl Metrics {
    /// Registers all metrics, initially zero.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("tftp");
        let transfers = Family::<OutcomeLabels, Counter>::default();
        let refusals = Family::<RefusalLabels, Counter>::default();
        let metrics = Self {
            outcomes: Outcome::ALL.map(|outcome| {
                transfers.get_or_create_owned(&OutcomeLabels {
                    outcome: outcome.name(),
                })
            }),
            refusals: Refusal::ALL.map(|refusal| {
                refusals.get_or_create_owned(&RefusalLabels {
                    reason: refusal.name(),
                })
            }),
            ..Self::default()
        };
        registry.register("transfers", "Finished transfers, by outcome", transfers);
        registry.register(
            "refusals",
            "Datagrams answered with an ERROR or not at all, by reason",
            refusals,
        );
        registry.register("active", "Running transfers", metrics.active.clone());
        registry.register(
            "retransmits",
            "Packets sent again",
            metrics.retransmits.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Size of the packets sent",
            Unit::Bytes,
            metrics.sent_bytes.clone(),
        );
        registry.register(
            "send_errors",
            "Packets that the operating system did not accept",
            metrics.send_errors.clone(),
        );
        registry.register("files", "Files served", metrics.files.clone());
        registry.register(
            "skipped_files",
            "Files and directories below the root that can't be served; the log names them",
            metrics.skipped.clone(),
        );
        registry.register(
            "scan_incomplete",
            "1 while the root exceeds a limit, so that not all of it is read",
            metrics.scan_incomplete.clone(),
        );
        registry.register(
            "read_stalled",
            "1 while a read of the root does not return, so that the root is not followed",
            metrics.read_stalled.clone(),
        );
        metrics
    }

    /// Sets the number of files served and of paths skipped.
    pub fn set_table(&self, files: usize, skipped: usize) {
        self.files.set(files.try_into().unwrap_or(i64::MAX));
        self.skipped.set(skipped.try_into().unwrap_or(i64::MAX));
    }

    /// Sets whether the last scan of the root ended at a limit.
    pub fn set_scan_incomplete(&self, is_incomplete: bool) {
        self.scan_incomplete.set(i64::from(is_incomplete));
    }

    /// The gauge that is 1 while a read of the root does not return.
    pub fn read_stalled(&self) -> Gauge {
        self.read_stalled.clone()
    }

    /// The number of transfers with this outcome.
    pub fn outcome_count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }

    /// The number of datagrams refused for this reason.
    pub fn refusal_count(&self, refusal: Refusal) -> u64 {
        self.refusals[refusal as usize].get()
    }

    pub(crate) fn record_outcome(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }

    pub(crate) fn record_refusal(&self, refusal: Refusal) {
        self.refusals[refusal as usize].inc();
    }
}

// === impl Outcome ===

impl Outcome {
    /// All outcomes, in the order of their discriminants.
    pub const ALL: [Self; 9] = [
        Self::Completed,
        Self::Unconfirmed,
        Self::Aborted,
        Self::Restarted,
        Self::TimedOut,
        Self::Unanswered,
        Self::Evicted,
        Self::Failed,
        Self::Stopped,
    ];

    /// The outcome's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Unconfirmed => "unconfirmed",
            Self::Aborted => "aborted",
            Self::Restarted => "restarted",
            Self::TimedOut => "timed_out",
            Self::Unanswered => "unanswered",
            Self::Evicted => "evicted",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

// === impl Refusal ===

impl Refusal {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 13] = [
        Self::NoSuchFile,
        Self::Write,
        Self::Mode,
        Self::Malformed,
        Self::Oversized,
        Self::NotForServers,
        Self::UnknownTransfer,
        Self::Stray,
        Self::Address,
        Self::TooMany,
        Self::TooManyFromPeer,
        Self::PrefixBudget,
        Self::Stopping,
    ];

    /// The reason's name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSuchFile => "no_such_file",
            Self::Write => "write",
            Self::Mode => "mode",
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::NotForServers => "not_for_servers",
            Self::UnknownTransfer => "unknown_transfer",
            Self::Stray => "stray",
            Self::Address => "address",
            Self::TooMany => "too_many",
            Self::TooManyFromPeer => "too_many_from_peer",
            Self::PrefixBudget => "prefix_budget",
            Self::Stopping => "stopping",
        }
    }

    /// The ERROR to answer with, if any: a code of RFC 1350 or RFC 2347 and a text.
    pub(crate) fn error(self) -> Option<(u16, &'static str)> {
        match self {
            Self::NoSuchFile => Some((1, "File not found")),
            Self::Write => Some((2, "This server is read-only")),
            Self::Mode => Some((4, "Ask for this file in mode octet (binary)")),
            Self::Malformed | Self::Oversized => Some((4, "Malformed request")),
            Self::NotForServers
            | Self::UnknownTransfer
            | Self::Stray
            | Self::Address
            | Self::TooMany
            | Self::TooManyFromPeer
            | Self::PrefixBudget
            | Self::Stopping => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_and_refusal_counts_under_its_own_name() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for outcome in Outcome::ALL {
            metrics.record_outcome(outcome);
            assert_eq!(metrics.outcome_count(outcome), 1);
        }
        for refusal in Refusal::ALL {
            metrics.record_refusal(refusal);
            assert_eq!(metrics.refusal_count(refusal), 1);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(
            text.matches("} 1\n").count(),
            Outcome::ALL.len() + Refusal::ALL.len(),
            "{text}"
        );
    }
}
