//! The stream that encodes raw characters in a request's target, against a model that sees all
//! bytes at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use api::TargetEncoder;
use tokio::io::{AsyncRead, ReadBuf};

/// Yields at most `most` bytes at a time.
struct Pieces<'a> {
    bytes: &'a [u8],
    most: usize,
}

/// Input: the first two bytes set the sizes of reads.
pub(crate) fn raw_target(bytes: &[u8]) {
    let [most, room, bytes @ ..] = bytes else {
        return;
    };
    let expected = by_lines(bytes);
    assert_eq!(
        read(bytes, usize::from(*most).max(1), usize::from(*room).max(1)),
        expected
    );
    assert_eq!(read(bytes, 100_000, 8192), expected);
}

fn read(bytes: &[u8], most: usize, room: usize) -> Vec<u8> {
    let mut stream = TargetEncoder::new(Pieces { bytes, most });
    let mut context = Context::from_waker(Waker::noop());
    let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
    loop {
        let mut taken = ReadBuf::new(&mut buffer);
        match Pin::new(&mut stream).poll_read(&mut context, &mut taken) {
            Poll::Ready(Ok(())) if taken.filled().is_empty() => return all,
            Poll::Ready(Ok(())) => all.extend_from_slice(taken.filled()),
            other => panic!("{other:?}"),
        }
    }
}

/// Models the rule by lines: the first non-empty line is a request line, and an empty line may be
/// followed by another request.
fn by_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut is_first_line = true;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        for byte in line {
            if is_first_line && b"\"<>\\^`{|}".contains(byte) {
                out.extend(format!("%{byte:02X}").bytes());
            } else {
                out.push(*byte);
            }
        }
        let is_empty = line.iter().all(|byte| b"\r\n".contains(byte));
        is_first_line = is_empty;
    }
    out
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self
            .bytes
            .split_at(self.bytes.len().min(self.most).min(buf.remaining()));
        buf.put_slice(now);
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}
