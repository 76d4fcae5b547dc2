use super::*;
use std::fs::File;
use std::sync::Arc;

use crate::content::OpenFile;
use crate::outbox::Route;

const BOUNDS: TransferBounds = TransferBounds {
    blksize: 1468,
    windowsize: 64,
};
const REQUEST: usize = 45;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn text(length: usize) -> Content {
    Content::Bytes(pattern(length).into())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

fn asked(blksize: u16, windowsize: u16) -> Options {
    Options {
        blksize: Some(blksize),
        windowsize: Some(windowsize),
        tsize: Some(0),
        timeout: None,
    }
}

/// A running transfer: the options were acknowledged at 1 ms, and the first window is sent.
fn under_way(length: usize, blksize: u16, windowsize: u16) -> Transfer {
    let mut transfer = Transfer::new(
        text(length),
        &asked(blksize, windowsize),
        BOUNDS,
        REQUEST,
        at(0),
    );
    let mut out = Outbox::default();
    assert!(matches!(
        transfer.answer(at(0), |_| true, &mut out),
        Action::Send { .. }
    ));
    assert!(matches!(
        transfer.on_ack(0, at(1), &mut out),
        Action::Send { .. }
    ));
    transfer
}

/// Takes the packets to send out of the outbox.
fn packets(action: &Action, out: &mut Outbox) -> Vec<Vec<u8>> {
    let Action::Send { packet_size } = action else {
        return Vec::new();
    };
    let peer = (std::net::Ipv4Addr::LOCALHOST, 2_000).into();
    out.commit(
        Route {
            socket: 0,
            peer,
            local: std::net::Ipv4Addr::LOCALHOST.into(),
        },
        *packet_size,
    );
    let packets = out.packets().map(|(_, packet)| packet.to_vec()).collect();
    out.clear();
    packets
}

/// The numbers of the blocks to send.
fn blocks(action: &Action, out: &mut Outbox) -> Vec<u16> {
    let number = |packet: &Vec<u8>| match Packet::parse(packet) {
        Ok(Packet::Data { block, .. }) => block,
        other => panic!("{other:?}"),
    };
    packets(action, out).iter().map(number).collect()
}

fn ack(transfer: &mut Transfer, block: u16, now: Duration) -> (Action, Vec<u16>) {
    let mut out = Outbox::default();
    let action = transfer.on_ack(block, now, &mut out);
    let blocks = blocks(&action, &mut out);
    (action, blocks)
}

/// Fetches the whole content like a well-behaved client; returns the number of blocks.
fn fetch(content: Content, options: &Options, mut keep: impl FnMut(&[u8])) -> u64 {
    let mut transfer = Transfer::new(content, options, BOUNDS, REQUEST, at(0));
    let (mut out, mut count, mut block) = (Outbox::default(), 0_u64, 0_u16);
    let mut action = transfer.answer(at(0), |_| true, &mut out);
    loop {
        assert!(
            matches!(action, Action::Send { .. }),
            "{action:?} after {count} blocks"
        );
        for packet in packets(&action, &mut out) {
            match Packet::parse(&packet) {
                Ok(Packet::OptionAck(_)) => {}
                Ok(Packet::Data {
                    block: number,
                    bytes,
                }) => {
                    block = block.wrapping_add(1);
                    assert_eq!(number, block);
                    count += 1;
                    keep(bytes);
                }
                other => panic!("{other:?}"),
            }
        }
        action = transfer.on_ack(block, at(count), &mut out);
        if matches!(action, Action::Finish(EndReason::Completed)) {
            return count;
        }
    }
}

#[test]
fn content_of_any_length_arrives_complete() {
    for length in [0, 1, 511, 512, 513, 1024, 5_000] {
        for options in [
            Options::default(),
            asked(512, 1),
            asked(512, 4),
            asked(1468, 3),
            asked(8, 64),
        ] {
            let mut bytes: Vec<u8> = Vec::new();
            let count = fetch(text(length), &options, |block| bytes.extend(block));
            assert_eq!(bytes, pattern(length), "{length} {options:?}");
            assert_eq!(
                count,
                (length / usize::from(options.blksize.unwrap_or(512)) + 1) as u64
            );
        }
    }
}

#[test]
fn block_numbers_wrap_beyond_32_mib() {
    let file = tempfile::tempfile().unwrap();
    let size = 65_536 * 512 * 3 + 7;
    file.set_len(size).unwrap();
    let mut received = 0;
    let count = fetch(sparse(file), &asked(512, 16), |block| {
        received += block.len() as u64;
    });
    assert_eq!((received, count), (size, 65_536 * 3 + 1));
}

#[test]
fn block_numbers_wrap_repeatedly_beyond_4_gib() {
    let file = tempfile::tempfile().unwrap();
    let size = (4 << 30) + 5;
    file.set_len(size).unwrap();
    let mut transfer = Transfer::new(sparse(file), &asked(512, 64), BOUNDS, REQUEST, at(0));
    let mut out = Outbox::default();
    transfer.answer(at(0), |_| true, &mut out);
    out.clear();
    // Skip to the last blocks; the test above covers the others.
    transfer.on_ack(0, at(0), &mut out);
    let last = size / 512 + 1;
    assert_eq!(last, 8_388_609);
    transfer.acked = last - 70;
    transfer.sent = last - 6;
    let (_, sent) = ack(&mut transfer, wire_block_number(last - 6), at(1));
    assert_eq!(
        sent,
        (last - 5..=last).map(wire_block_number).collect::<Vec<_>>()
    );
    assert!(sent.contains(&0), "{sent:?}");
    let (action, _) = ack(&mut transfer, wire_block_number(last), at(2));
    assert!(matches!(action, Action::Finish(EndReason::Completed)));
    assert_eq!(transfer.delivered(), size);
}

fn sparse(file: File) -> Content {
    Content::File(Arc::new(OpenFile::new(file).unwrap()))
}

#[test]
fn options_are_granted_within_bounds_or_left_out() {
    let all = Options {
        blksize: Some(65_464),
        timeout: Some(7),
        tsize: Some(0),
        windowsize: Some(65_535),
    };
    let mut out = Outbox::default();
    let action =
        Transfer::new(text(1000), &all, BOUNDS, REQUEST, at(0)).answer(at(0), |_| true, &mut out);
    let granted = Options {
        blksize: Some(1468),
        timeout: Some(7),
        tsize: Some(1000),
        windowsize: Some(64),
    };
    assert_eq!(
        Packet::parse(&packets(&action, &mut out)[0]),
        Ok(Packet::OptionAck(granted))
    );
    // A timeout of minutes would keep the transfer for an hour.
    let slow = Options {
        timeout: Some(255),
        ..Options::default()
    };
    let action =
        Transfer::new(text(1000), &slow, BOUNDS, REQUEST, at(0)).answer(at(0), |_| true, &mut out);
    assert_eq!(blocks(&action, &mut out), [1]);
}

#[test]
fn acknowledgements_of_future_and_past_blocks_are_strays() {
    let mut transfer = under_way(100_000, 512, 4);
    for block in [5, 6, 1_000, 65_535] {
        assert!(
            matches!(ack(&mut transfer, block, at(2)).0, Action::Stray),
            "{block}"
        );
    }
    assert_eq!(ack(&mut transfer, 4, at(2)).1, [5, 6, 7, 8]);
    for block in [0, 1, 3, 9, 32_768] {
        assert!(
            matches!(ack(&mut transfer, block, at(3)).0, Action::Stray),
            "{block}"
        );
    }
}

#[test]
fn data_acknowledgements_before_the_options_are_strays() {
    let mut transfer = Transfer::new(text(5_000), &asked(512, 1), BOUNDS, REQUEST, at(0));
    transfer.answer(at(0), |_| true, &mut Outbox::default());
    assert!(matches!(ack(&mut transfer, 1, at(1)).0, Action::Stray));
    assert!(!transfer.is_proven());
    assert_eq!(ack(&mut transfer, 0, at(1)).1, [1]);
    assert!(transfer.is_proven());
}

#[test]
fn a_window_is_resent_from_its_first_missing_block() {
    let mut transfer = under_way(100_000, 512, 8);
    assert_eq!(ack(&mut transfer, 3, at(2)).1, [4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn duplicate_acknowledgements_cause_no_duplicate_blocks() {
    let mut transfer = under_way(100_000, 512, 1);
    assert_eq!(ack(&mut transfer, 1, at(2)).1, [2]);
    assert!(matches!(ack(&mut transfer, 1, at(3)).0, Action::Stray));
    // Later, block 2 can't be in flight any more, so the acknowledgement reports its loss.
    assert_eq!(ack(&mut transfer, 1, at(300)).1, [2]);
    assert!(matches!(ack(&mut transfer, 1, at(301)).0, Action::Stray));
    assert_eq!(transfer.retransmits(), 1);
}

#[test]
fn a_silent_peer_is_given_up_after_five_repeats() {
    let mut transfer = under_way(100_000, 512, 2);
    let (mut repeats, mut now) = (0, at(1));
    let end = loop {
        now += at(50);
        let mut out = Outbox::default();
        match transfer.on_clock(now, |_| true, &mut out) {
            Action::Finish(end) => break end,
            action @ Action::Send { .. } => {
                assert_eq!(blocks(&action, &mut out), [1, 2]);
                repeats += 1;
            }
            _ => {}
        }
        assert!(now < at(60_000));
    };
    assert!(matches!(end, EndReason::TimedOut));
    assert_eq!(repeats, 5);
}

#[test]
fn a_peer_that_keeps_asking_for_the_same_block_is_given_up() {
    let mut transfer = under_way(100_000, 512, 1);
    let mut now = at(1);
    let repeats = (0..).take_while(|_| {
        now += at(201);
        !matches!(
            ack(&mut transfer, 0, now).0,
            Action::Finish(EndReason::TimedOut)
        )
    });
    assert_eq!(repeats.count(), 20);
}

/// Counts the packets and bytes sent to a peer that never proves its address, after this many
/// requests.
fn unproven(options: &Options, requests: u32) -> (u32, usize) {
    let mut transfer = Transfer::new(text(100_000), options, BOUNDS, REQUEST, at(0));
    let (mut packets, mut bytes, mut now) = (0, 0, at(0));
    for request in 0.. {
        let mut out = Outbox::default();
        let action = if request < requests {
            transfer.on_request_again(REQUEST);
            transfer.answer(now, |_| true, &mut out)
        } else {
            transfer.on_clock(now, |_| true, &mut out)
        };
        match action {
            Action::Finish(EndReason::Unanswered) => return (packets, bytes),
            Action::Send { .. } => {
                packets += 1;
                bytes += out.draft_len() + IP_UDP_HEADERS;
            }
            _ => {}
        }
        now += at(50);
    }
    unreachable!()
}

#[test]
fn an_unproven_peer_gets_at_most_two_option_acknowledgements() {
    let (packets, bytes) = unproven(&asked(1468, 16), 1);
    assert_eq!(packets, 2);
    assert!(
        bytes <= (REQUEST + IP_UDP_HEADERS) * MAX_AMPLIFICATION,
        "{bytes}"
    );
    assert_eq!(unproven(&asked(1468, 16), 1_000).0, 2);
}

#[test]
fn without_options_the_first_block_is_repeated_only_on_request() {
    assert_eq!(unproven(&Options::default(), 1).0, 1);
    assert_eq!(unproven(&Options::default(), 2).0, 2);
    assert_eq!(unproven(&Options::default(), 1_000).0, 2);
}

#[test]
fn another_request_does_not_reset_the_budget_of_an_unproven_peer() {
    let mut previous = Transfer::new(text(5_000), &asked(512, 1), BOUNDS, REQUEST, at(0));
    for _ in 0..4 {
        previous.answer(at(0), |_| true, &mut Outbox::default());
    }
    let mut next = Transfer::new(text(5_000), &asked(1024, 1), BOUNDS, REQUEST, at(1));
    next.inherit_budget(&previous, at(1));
    assert!(matches!(
        next.answer(at(1), |_| true, &mut Outbox::default()),
        Action::Stray
    ));
    // A request seconds later counts as a new one.
    let mut later = Transfer::new(text(5_000), &asked(1024, 1), BOUNDS, REQUEST, at(6_000));
    later.inherit_budget(&previous, at(6_000));
    assert!(matches!(
        later.answer(at(6_000), |_| true, &mut Outbox::default()),
        Action::Send { .. }
    ));
}

#[test]
fn a_packet_beyond_the_budget_is_not_sent() {
    let mut transfer = Transfer::new(text(5_000), &Options::default(), BOUNDS, REQUEST, at(0));
    let mut out = Outbox::default();
    assert!(matches!(
        transfer.answer(at(0), |bytes| bytes < 544, &mut out),
        Action::Wait
    ));
    assert_eq!(out.draft_len(), 0);
    assert!(matches!(
        transfer.answer(at(1), |bytes| bytes == 544, &mut out),
        Action::Send { packet_size: 516 }
    ));
}

#[test]
fn changing_a_file_ends_its_transfers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(20_000_000).unwrap();
    let open = OpenFile::new(File::open(file.path()).unwrap()).unwrap();
    let mut transfer = Transfer::new(
        Content::File(Arc::new(open)),
        &asked(1024, 64),
        BOUNDS,
        REQUEST,
        at(0),
    );
    let mut out = Outbox::default();
    transfer.answer(at(0), |_| true, &mut out);
    assert!(matches!(
        transfer.on_ack(0, at(1), &mut out),
        Action::Send { .. }
    ));
    file.as_file().set_len(100).unwrap();
    out.clear();
    assert!(matches!(
        transfer.on_ack(64, at(2), &mut out),
        Action::Finish(EndReason::Failed(_))
    ));
    assert_eq!(out.draft_len(), 0);
}
