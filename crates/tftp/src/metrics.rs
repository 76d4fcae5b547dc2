//! What the server counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// What the server counts. A clone counts the same.
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
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Each block was acknowledged.
    Completed,
    /// All was sent, but the last acknowledgement never came.
    Unconfirmed,
    /// The peer ended it by an ERROR: firmware does so after it asked for the size.
    Aborted,
    /// The peer began anew.
    Restarted,
    /// The peer fell silent.
    TimedOut,
    /// There was only the request: no second packet proved its address.
    Unanswered,
    /// It made room for others before its peer had proved its address.
    Evicted,
    /// The file could not be read, or was changed.
    Failed,
    /// The server was stopped.
    Stopped,
}

/// Why a datagram got an ERROR or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such file.
    NoSuchFile,
    /// A request to write.
    Write,
    /// Netascii, or mail.
    Mode,
    /// An option's value is none.
    Option,
    /// No packet, or not whole.
    Malformed,
    /// Longer than any request.
    Oversized,
    /// A packet that only a client gets.
    NotForServers,
    /// A packet of no transfer that runs.
    UnknownTransfer,
    /// An acknowledgement that does not fit, most of them late copies.
    Stray,
    /// A sender, or an address of ours, that can't be answered: multicast, broadcast, port 0.
    Address,
    /// Too many transfers.
    TooMany,
    /// Too many from this address.
    TooManyFromPeer,
    /// Too many bytes for unproven peers of this neighbourhood.
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
    /// Registers everything, each at zero.
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
        registry.register("transfers", "Transfers by how they ended", transfers);
        registry.register(
            "refusals",
            "Datagrams that got an ERROR or nothing, by reason",
            refusals,
        );
        registry.register("active", "Transfers that run", metrics.active.clone());
        registry.register(
            "retransmits",
            "Packets that were sent once more",
            metrics.retransmits.clone(),
        );
        registry.register_with_unit(
            "sent",
            "Size of all packets sent",
            Unit::Bytes,
            metrics.sent_bytes.clone(),
        );
        registry.register(
            "send_errors",
            "Packets that the system did not take",
            metrics.send_errors.clone(),
        );
        registry.register("files", "Files that are served", metrics.files.clone());
        registry.register(
            "skipped_files",
            "What below the root can't be served; the log names it",
            metrics.skipped.clone(),
        );
        metrics
    }

    /// What the table holds, and what it does not.
    pub fn set_table(&self, files: usize, skipped: usize) {
        self.files.set(files.try_into().unwrap_or(i64::MAX));
        self.skipped.set(skipped.try_into().unwrap_or(i64::MAX));
    }

    /// How many transfers ended so.
    pub fn outcome_count(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }

    /// How many datagrams were refused so.
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
    /// All of them, in the order of their discriminants.
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

    /// Its name in metrics and logs.
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
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 14] = [
        Self::NoSuchFile,
        Self::Write,
        Self::Mode,
        Self::Option,
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

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoSuchFile => "no_such_file",
            Self::Write => "write",
            Self::Mode => "mode",
            Self::Option => "option",
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

    /// The ERROR that the peer gets, if it gets one: code and text of RFC 1350 and 2347.
    pub(crate) fn error(self) -> Option<(u16, &'static str)> {
        match self {
            Self::NoSuchFile => Some((1, "File not found")),
            Self::Write => Some((2, "This server is read-only")),
            Self::Mode => Some((4, "Only mode octet (binary) is served")),
            Self::Option => Some((8, "An option has a value that its RFC does not allow")),
            Self::Malformed | Self::Oversized => Some((4, "No valid request")),
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
