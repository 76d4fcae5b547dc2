//! A stream that percent-encodes invalid characters in the request target.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Percent-encodes the characters of each request line that RFC 3986 allows nowhere in a URI, such
/// as `%22` for `"`.
///
/// iPXE since 2021 sends `"` unencoded (see the table of characters in its `core/uri.c`). Without
/// this, a machine whose product name contains one would always get hyper's bare 400. Only request
/// lines are changed. A body would be mistaken for lines, so the connection must be closed after a
/// request that has one.
pub struct TargetEncoder<S> {
    stream: S,
    section: Section,
    is_line_empty: bool,
    /// Encoded bytes that did not fit into the read buffer.
    encoded: Vec<u8>,
    taken: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    RequestLine,
    Headers,
}

impl<S> TargetEncoder<S> {
    /// Wraps a stream of requests.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            section: Section::RequestLine,
            is_line_empty: true,
            encoded: Vec::new(),
            taken: 0,
        }
    }

    /// Advances the parser by one byte. Returns whether the byte must be encoded.
    fn advance(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' => {
                self.section = match (self.section, self.is_line_empty) {
                    (Section::RequestLine, false) => Section::Headers,
                    (Section::Headers, true) => Section::RequestLine,
                    (section, _) => section,
                };
                self.is_line_empty = true;
                false
            }
            b'\r' => false,
            _ => {
                self.is_line_empty = false;
                self.section == Section::RequestLine && must_encode(byte)
            }
        }
    }

    /// Returns the index of the first byte that must be encoded, and advances the parser past it,
    /// or to the end of `bytes`.
    fn find_raw(&mut self, bytes: &[u8]) -> Option<usize> {
        // Nearly every read returns exactly one request, after which the next line is a request
        // line again.
        let is_start = self.section == Section::RequestLine && self.is_line_empty;
        if is_start && is_one_clean_request(bytes) {
            return None;
        }
        let mut at = 0;
        // Search line by line, not byte by byte: nearly all requests need no encoding.
        while at < bytes.len() {
            let is_first_line = self.section == Section::RequestLine;
            let rest = &bytes[at..];
            let line = memchr::memchr(b'\n', rest);
            let text = &rest[..line.unwrap_or(rest.len())];
            let end = if is_first_line && any_must_encode(text) {
                text.iter().position(|byte| must_encode(*byte))
            } else {
                line
            };
            self.is_line_empty &= rest[..end.unwrap_or(rest.len())]
                .iter()
                .all(|byte| *byte == b'\r');
            at += end?;
            if self.advance(bytes[at]) {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    fn take_encoded(&mut self, buf: &mut ReadBuf<'_>) {
        let left = &self.encoded[self.taken..];
        let count = left.len().min(buf.remaining());
        buf.put_slice(&left[..count]);
        self.taken += count;
        if self.taken == self.encoded.len() {
            self.encoded = Vec::new();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TargetEncoder<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.encoded.is_empty() {
            let start = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let end = buf.filled().len();
            let Some(first) = this
                .find_raw(&buf.filled()[start..])
                .map(|first| start + first)
            else {
                return Poll::Ready(Ok(()));
            };
            this.encoded = encode(buf.filled()[first]).to_vec();
            for at in first + 1..end {
                let byte = buf.filled()[at];
                if this.advance(byte) {
                    this.encoded.extend(encode(byte));
                } else {
                    this.encoded.push(byte);
                }
            }
            buf.set_filled(first);
        }
        this.take_encoded(buf);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TargetEncoder<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether RFC 3986 allows the byte nowhere in a URI, although it can occur in a request line.
fn must_encode(byte: u8) -> bool {
    // `<` and `>` differ in one bit, and so do `\\` and `^`.
    matches!(byte & !2, b'<' | b'\\') | matches!(byte, b'"' | b'`' | b'{'..=b'}')
}

/// Whether the bytes are exactly one request head without a byte that must be encoded.
fn is_one_clean_request(bytes: &[u8]) -> bool {
    let Some(first_end) = memchr::memchr(b'\n', bytes) else {
        return false;
    };
    let (first, mut rest) = bytes.split_at(first_end + 1);
    // An empty line, as `advance` defines it, ends the head.
    let is_empty = |line: &[u8]| matches!(line.first(), None | Some(b'\r' | b'\n'));
    while !is_empty(rest) {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return false;
        };
        rest = &rest[end + 1..];
    }
    rest == b"\r\n" && !is_empty(first) && !any_must_encode(first)
}

fn any_must_encode(text: &[u8]) -> bool {
    !boot::bytes::all(text, |byte| !must_encode(byte))
}

/// Percent-encodes a byte (RFC 3986, section 2.1).
fn encode(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [
        b'%',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    async fn read(sent: &str, at_once: usize) -> String {
        let (mut client, server) = duplex(at_once);
        let sent = sent.to_owned();
        let writer = tokio::spawn(async move { client.write_all(sent.as_bytes()).await });
        let mut text = String::new();
        TargetEncoder::new(server)
            .read_to_string(&mut text)
            .await
            .unwrap();
        writer.await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn invalid_characters_are_encoded_in_request_lines_only() {
        let sent = "\r\nGET /ipxe?product=a\"b<c>{d}|^`\\&x=%22 HTTP/1.1\r\nX: \"<>\"\r\n\r\nGET /\"? HTTP/1.1\r\n\r\n";
        let seen = "\r\nGET /ipxe?product=a%22b%3Cc%3E%7Bd%7D%7C%5E%60%5C&x=%22 HTTP/1.1\r\nX: \"<>\"\r\n\r\nGET /%22? HTTP/1.1\r\n\r\n";
        for at_once in [1, 2, 3, 7, 20, 1000] {
            assert_eq!(read(sent, at_once).await, seen, "{at_once} bytes at once");
        }
    }

    #[tokio::test]
    async fn reading_in_any_pieces_gives_the_same_bytes() {
        let lines = [
            "GET /?a=\"b HTTP/1.1",
            "GET /?a=b HTTP/1.1",
            "X: \"y\"",
            "",
            "\r",
        ];
        for one in lines {
            for two in lines {
                for three in lines {
                    for end in ["\r\n", "\n"] {
                        let sent = format!(
                            "GET / HTTP/1.1{end}{one}{end}{two}\r\n{three}{end}\r\nGET /> HTTP/1.1\r\n\r\n"
                        );
                        let simply = read(&sent, 1).await;
                        for end in 1..sent.len() {
                            // Split the input between two reads at every position.
                            let (first, rest) = sent.split_at(end);
                            let mut text = String::new();
                            TargetEncoder::new(first.as_bytes().chain(rest.as_bytes()))
                                .read_to_string(&mut text)
                                .await
                                .unwrap();
                            assert_eq!(text, simply, "{first:?} {rest:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn exactly_these_bytes_must_be_encoded() {
        let outside: Vec<u8> = (0..=255).filter(|byte| must_encode(*byte)).collect();
        assert_eq!(outside, b"\"<>\\^`{|}");
    }

    #[tokio::test]
    async fn encoded_bytes_that_do_not_fit_are_returned_by_later_reads() {
        let (mut client, server) = duplex(100);
        client.write_all(b"\"\"\"").await.unwrap();
        drop(client);
        let mut server = TargetEncoder::new(server);
        let mut seen = Vec::new();
        let mut two = [0; 2];
        loop {
            match server.read(&mut two).await.unwrap() {
                0 => break,
                count => seen.extend_from_slice(&two[..count]),
            }
        }
        assert_eq!(seen, b"%22%22%22");
    }
}
