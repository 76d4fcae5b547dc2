//! A single transfer, as a state machine: acknowledgements and the time go in, packets come out. It
//! does no I/O.
//!
//! ```text
//! request --> offered (OACK) --ACK 0--> sending <--ACK n / DATA n+1..n+w--> over
//!        \--> sending (DATA 1, if the request had no options)
//! ```

mod retransmit_timer;

use std::io;
use std::time::Duration;

use places::Standing;

use crate::content::{Content, Reader, wire_block_number};
use crate::outbox::Outbox;
use crate::packet::{DATA_HEADER, DEFAULT_BLKSIZE, Options, Packet};
use retransmit_timer::RetransmitTimer;

/// Size of IP and UDP headers, to compute how much a spoofed request is amplified.
const IP_UDP_HEADERS: usize = 28;
/// Maximum number of answers before the peer has proved its address: the first and one repetition.
const MAX_ANSWERS: u32 = 2;
/// Unprompted repeats to an unproven peer stop when more than this many times the received bytes
/// would be sent.
const MAX_AMPLIFICATION: usize = 5;
/// A peer that has acknowledged nothing for this long does not use its place. Machines on a good
/// network acknowledge within milliseconds, and repeat themselves within a second or two.
const STALL: Duration = Duration::from_secs(3);
/// A peer slower than this many bytes per second counts as stalled. The slowest
/// firmware takes a block of 512 bytes in some 10 ms.
const SLOW_BYTES: u64 = 4 * 1024;
/// How long a peer may take to prove its address.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);
/// A request this long after the previous one counts as a first request again, even if the peer has
/// not proved its address.
const NEW_REQUEST_AFTER: Duration = Duration::from_secs(5);
/// Repeats on timeout without progress.
const MAX_REPEATS: u32 = 5;
/// Repeats without progress that the peer requested by repeating an acknowledgement.
const MAX_REQUESTED_REPEATS: u32 = 20;
/// A repeated request this soon after progress is a duplicate made by the network.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(2);
/// The longest retransmission timeout that a peer may request, in seconds.
const MAX_TIMEOUT: u8 = 30;

/// Upper bounds for the options that a peer requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransferBounds {
    /// Largest block that needs no IP fragmentation.
    pub(crate) blksize: u16,
    /// Most blocks per acknowledgement.
    pub(crate) windowsize: u16,
}

/// The transfer of a file to one peer.
#[derive(Debug)]
pub(crate) struct Transfer {
    reader: Reader,
    granted: Options,
    blksize: u16,
    windowsize: u16,
    /// The number of the last block, which is shorter than the others.
    last_block: u64,
    acked: u64,
    sent: u64,
    awaits_option_ack: bool,
    proof: Option<Unproven>,
    retransmit_timer: RetransmitTimer,
    started_at: Duration,
    sent_at: Duration,
    progress_at: Duration,
    /// Whether the outstanding packets were sent more than once, which makes their round trip
    /// ambiguous.
    is_repeat: bool,
    repeats: u32,
    requested_repeats: u32,
    retransmits: u64,
}

/// The traffic with a peer that has not proved its address.
#[derive(Clone, Copy, Debug)]
struct Unproven {
    since: Duration,
    answers: u32,
    received: usize,
    sent: usize,
}

/// The reaction to an event. Packets to send are in the outbox's draft.
#[derive(Debug)]
pub(crate) enum Action {
    /// Send nothing.
    Wait,
    /// Send nothing: the packet did not fit the state of the transfer.
    Stray,
    /// Send the draft.
    Send {
        /// The size of each packet but the last, which may be shorter.
        packet_size: usize,
    },
    /// End the transfer.
    Finish(EndReason),
}

/// Why a transfer ended, as far as its own state tells.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// Every block was acknowledged.
    Completed,
    /// The peer never responded.
    Unanswered,
    /// The peer stopped responding.
    TimedOut,
    /// The file can't be read any more.
    Failed(io::Error),
}

// === impl Transfer ===

impl Transfer {
    /// A transfer of `content` to a peer whose request had `request` bytes. Call
    /// [`answer`](Self::answer) to send the first packet.
    pub(crate) fn new(
        content: Content,
        asked: &Options,
        bounds: TransferBounds,
        request: usize,
        now: Duration,
    ) -> Self {
        let size = content.size();
        let granted = Options {
            blksize: asked.blksize.map(|blksize| blksize.min(bounds.blksize)),
            timeout: asked.timeout.filter(|timeout| *timeout <= MAX_TIMEOUT),
            // Leave out a size of 0: curl treats it as an error, and iPXE ignores it.
            tsize: asked.tsize.filter(|_| size > 0).map(|_| size),
            windowsize: asked
                .windowsize
                .map(|windowsize| windowsize.min(bounds.windowsize)),
        };
        let blksize = granted.blksize.unwrap_or(DEFAULT_BLKSIZE);
        let reader = Reader::new(content, blksize);
        Self {
            last_block: reader.last(),
            reader,
            granted,
            blksize,
            windowsize: granted.windowsize.unwrap_or(1),
            acked: 0,
            sent: 0,
            awaits_option_ack: !granted.is_empty(),
            proof: Some(Unproven {
                since: now,
                answers: 0,
                received: request + IP_UDP_HEADERS,
                sent: 0,
            }),
            retransmit_timer: RetransmitTimer::new(granted.timeout),
            started_at: now,
            sent_at: now,
            progress_at: now,
            is_repeat: false,
            repeats: 0,
            requested_repeats: 0,
            retransmits: 0,
        }
    }

    /// Sends the first answer, or repeats it for a repeated request. `allow` decides whether that
    /// many more bytes may go to an unproven peer.
    pub(crate) fn answer(
        &mut self,
        now: Duration,
        allow: impl FnOnce(usize) -> bool,
        out: &mut Outbox,
    ) -> Action {
        let Some(proof) = self.proof.filter(|proof| proof.answers < MAX_ANSWERS) else {
            return Action::Stray;
        };
        self.is_repeat = proof.answers > 0;
        let action = self.send(now, out);
        if let Action::Send { .. } = action {
            let bytes = out.draft_len() + IP_UDP_HEADERS;
            if !allow(bytes) {
                out.discard_draft();
                return Action::Wait;
            }
            self.retransmits += u64::from(self.is_repeat);
            self.proof = Some(Unproven {
                answers: proof.answers + 1,
                sent: proof.sent + bytes,
                ..proof
            });
        }
        action
    }

    /// Whether a repeated request is a duplicate, made by the network, of the request that started
    /// this transfer.
    pub(crate) fn is_duplicate_request(&self, now: Duration) -> bool {
        self.is_proven() && now < self.progress_at + DUPLICATE_WINDOW
    }

    /// Whether a repeated request asks for the first answer again.
    pub(crate) fn repeats_first_answer(&self, now: Duration) -> bool {
        self.proof
            .is_some_and(|proof| now < proof.since + NEW_REQUEST_AFTER)
    }

    /// Handles an acknowledgement.
    pub(crate) fn on_ack(&mut self, block: u16, now: Duration, out: &mut Outbox) -> Action {
        if self.awaits_option_ack {
            if block != 0 {
                return Action::Stray;
            }
            self.awaits_option_ack = false;
            self.on_progress(now);
            return self.send_next(now, out);
        }
        let ahead = u64::from(block.wrapping_sub(wire_block_number(self.acked)));
        match ahead {
            0 => self.on_repeated_ack(now, out),
            // Acknowledges a block that was never sent, or was acknowledged long ago.
            _ if ahead > self.sent - self.acked => Action::Stray,
            _ => {
                self.acked += ahead;
                self.on_progress(now);
                if self.acked == self.last_block {
                    Action::Finish(EndReason::Completed)
                } else {
                    self.send_next(now, out)
                }
            }
        }
    }

    /// Handles the passage of time. `allow` is that of [`answer`](Self::answer).
    pub(crate) fn on_clock(
        &mut self,
        now: Duration,
        allow: impl FnOnce(usize) -> bool,
        out: &mut Outbox,
    ) -> Action {
        let is_due = now >= self.sent_at + self.retransmit_timer.timeout(self.repeats);
        if let Some(proof) = self.proof {
            if now >= proof.since + PROOF_TIMEOUT {
                return Action::Finish(EndReason::Unanswered);
            }
            let next = proof
                .sent
                .checked_div(proof.answers as usize)
                .unwrap_or_default();
            if !is_due || proof.sent + next > proof.received * MAX_AMPLIFICATION {
                return Action::Wait;
            }
            self.repeats += 1;
            return match self.answer(now, allow, out) {
                Action::Stray => Action::Wait,
                action => action,
            };
        }
        if !is_due {
            return Action::Wait;
        }
        if self.repeats == MAX_REPEATS {
            return Action::Finish(EndReason::TimedOut);
        }
        self.repeats += 1;
        self.send_again(now, out)
    }

    /// Records a repeated request, before the peer has sent anything else.
    pub(crate) fn on_request_again(&mut self, request: usize) {
        if let Some(proof) = &mut self.proof {
            proof.received += request + IP_UDP_HEADERS;
        }
    }

    /// Whether the peer has proved that it receives what is sent to its address.
    pub(crate) fn is_proven(&self) -> bool {
        self.proof.is_none()
    }

    /// What the peer does with its place among all transfers.
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        if self.proof.is_some() {
            // A machine acknowledges within milliseconds, and a forged address never does.
            return Standing::Overdue;
        }
        let waits = now.saturating_sub(self.progress_at);
        let age = now.saturating_sub(self.started_at);
        let rate = self.delivered() / age.as_secs().max(1);
        if waits >= STALL {
            Standing::Waiting(waits)
        } else if age >= STALL && rate < SLOW_BYTES {
            Standing::Waiting(age)
        } else {
            Standing::Progressing(rate)
        }
    }

    /// Takes over what an unproven peer was already sent, so that it gains nothing by requesting
    /// something else.
    pub(crate) fn inherit_budget(&mut self, previous: &Self, now: Duration) {
        if let (Some(own), Some(before)) = (
            &mut self.proof,
            previous
                .proof
                .filter(|proof| now < proof.since + NEW_REQUEST_AFTER),
        ) {
            *own = Unproven {
                received: own.received + before.received,
                ..before
            };
        }
    }

    /// Acknowledged bytes of the file.
    pub(crate) fn delivered(&self) -> u64 {
        (self.acked * u64::from(self.blksize)).min(self.reader.size())
    }

    /// Whether only the last acknowledgement is missing.
    pub(crate) fn is_all_sent(&self) -> bool {
        self.sent == self.last_block
    }

    /// Packets sent more than once.
    pub(crate) fn retransmits(&self) -> u64 {
        self.retransmits
    }

    /// The negotiated options.
    pub(crate) fn granted(&self) -> &Options {
        &self.granted
    }

    fn on_progress(&mut self, now: Duration) {
        if !self.is_repeat {
            self.retransmit_timer
                .observe(now.saturating_sub(self.sent_at));
        }
        self.proof = None;
        self.is_repeat = false;
        self.repeats = 0;
        self.requested_repeats = 0;
        self.progress_at = now;
    }

    /// Handles an acknowledgement that was received before: the peer lacks the blocks that follow.
    ///
    /// It is ignored if those blocks were sent just now. Otherwise each duplicate acknowledgement
    /// would cause a duplicate block, and that another acknowledgement, until the end of the
    /// transfer (the Sorcerer's Apprentice bug, RFC 1123, 4.2.3.1).
    fn on_repeated_ack(&mut self, now: Duration, out: &mut Outbox) -> Action {
        let is_none = self.acked == 0 && self.granted.is_empty();
        if is_none || now < self.sent_at + self.retransmit_timer.resend_guard() {
            return Action::Stray;
        }
        self.progress_at = now;
        self.requested_repeats += 1;
        if self.requested_repeats > MAX_REQUESTED_REPEATS {
            return Action::Finish(EndReason::TimedOut);
        }
        self.send_again(now, out)
    }

    fn send_next(&mut self, now: Duration, out: &mut Outbox) -> Action {
        self.sent = (self.acked + u64::from(self.windowsize)).min(self.last_block);
        self.send(now, out)
    }

    fn send_again(&mut self, now: Duration, out: &mut Outbox) -> Action {
        self.is_repeat = true;
        self.retransmits += (self.sent - self.acked).max(1);
        self.send(now, out)
    }

    /// Appends all outstanding packets to the draft.
    fn send(&mut self, now: Duration, out: &mut Outbox) -> Action {
        self.sent_at = now;
        if self.awaits_option_ack {
            out.push_packet(|bytes| Packet::OptionAck(self.granted).write(bytes));
            return Action::Send {
                packet_size: out.draft_len(),
            };
        }
        let packet_size = DATA_HEADER + usize::from(self.blksize);
        self.sent = self.sent.max(1);
        let mut block = self.acked + 1;
        while block <= self.sent {
            match self.reader.packets(block, self.sent) {
                Ok((chunk, range)) => {
                    block += range.len().div_ceil(packet_size) as u64;
                    out.push_shared(chunk, range);
                }
                Err(error) => {
                    out.discard_draft();
                    return Action::Finish(EndReason::Failed(error));
                }
            }
        }
        Action::Send { packet_size }
    }
}

#[cfg(test)]
mod tests;
