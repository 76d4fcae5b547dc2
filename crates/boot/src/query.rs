//! The query string of a request, as real iPXE writes it.
//!
//! Two habits of iPXE are met here (`ipxe:src/core/uri.c`): a byte of 0x80 and above is sent sign-extended, as in
//! `%FFFFFFC3`, and `+`, `%`, `=` inside a value may be sent raw. So `+` is a plus and an unfinished escape is text.

use std::borrow::Cow;

use crate::identity::hex;

/// One pair of a query, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair<'q> {
    pub(crate) key: &'q str,
    pub(crate) value: &'q str,
    /// Whether there is a `%` in it.
    pub(crate) has_escapes: bool,
}

/// Splits a query string at `&` into decoded pairs. A pair without `=` has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    raw_pairs(query).map(|pair| (decode(pair.key), decode(pair.value)))
}

/// The same pairs, as they were sent. The text is looked through once.
pub(crate) fn raw_pairs(query: &str) -> impl Iterator<Item = Pair<'_>> {
    let mut marks = memchr::memchr3_iter(b'&', b'=', b'%', query.as_bytes());
    let mut start = 0;
    let one = move || {
        let (mut equals, mut has_escapes) = (None, false);
        while start <= query.len() {
            let mark = marks.next();
            match mark.map(|at| (at, query.as_bytes()[at])) {
                Some((at, b'=')) => equals = equals.or(Some(at)),
                Some((_, b'%')) => has_escapes = true,
                end => {
                    let end = end.map_or(query.len(), |(at, _)| at);
                    let (from, equals) = (start, equals.take());
                    start = end + 1;
                    if from < end {
                        let at = equals.unwrap_or(end);
                        return Some(Pair { key: &query[from..at], value: query.get(at + 1..end).unwrap_or_default(), has_escapes });
                    }
                }
            }
        }
        None
    };
    std::iter::from_fn(one)
}

/// Decodes percent-escapes. Bytes that are no UTF-8 are read as ISO 8859-1, the charset in which old firmware writes its strings.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    decode_into(&mut out, text);
    Cow::Owned(out)
}

/// Appends `text` to `out`, its percent-escapes decoded.
pub(crate) fn decode_into(out: &mut String, text: &str) {
    let start = out.len();
    let mut rest = text;
    while let Some(at) = rest.as_bytes().iter().position(|byte| *byte == b'%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match escape(rest.as_bytes()) {
            None => out.push('%'),
            Some((byte, tail)) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[rest.len() - tail.len()..];
            }
            // What the bytes mean together is known at the end.
            Some(_) => {
                out.truncate(start);
                return out.push_str(&text_of(bytes(text)));
            }
        }
    }
    out.push_str(rest);
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = if first == b'%' { escape(tail).unwrap_or((b'%', tail)) } else { (first, tail) };
        bytes.push(byte);
        rest = tail;
    }
    bytes
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().iter().map(|b| char::from(*b)).collect())
}

/// The bytes that need no escape.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':');
        byte += 1;
    }
    plain
};

/// Appends `text` to `out` with every byte escaped that is not unreserved (RFC 3986, section 2.3), but `:`, which iPXE sends raw in a MAC.
pub fn encode_into(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = text;
    // What is plain is copied at once: nearly all of nearly every value.
    while let Some(end) = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]) {
        out.push_str(&rest[..end]);
        let special = rest[end..].chars().next().expect("it is not at its end");
        for byte in special.encode_utf8(&mut [0; 4]).bytes() {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        rest = &rest[end + special.len_utf8()..];
    }
    out.push_str(rest);
}

/// Appends one more pair to a query string, without `?`.
pub fn append(query: &mut String, key: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    encode_into(query, key);
    query.push('=');
    encode_into(query, value);
}

/// One escape, without its `%`: its byte and what follows.
fn escape(tail: &[u8]) -> Option<(u8, &[u8])> {
    let pair = |at: usize| Some(hex(*tail.get(at)?)? << 4 | hex(*tail.get(at + 1)?)?);
    let byte = pair(0)?;
    // printf("%02X", (signed char) 0xc3) prints FFFFFFC3; iPXE of 2019 decodes what `:uristring` made, as one byte and text, and
    // encodes it once more: FFFFFFFFFFFFC3.
    let extension = |bytes: usize| {
        let is_extended = (0..bytes).all(|at| pair(2 * at) == Some(0xff));
        pair(2 * bytes).filter(|byte| is_extended && *byte >= 0x80).map(|byte| (byte, &tail[2 * bytes + 2..]))
    };
    if byte == 0xff
        && let Some(extended) = extension(6).or_else(|| extension(3))
    {
        return Some(extended);
    }
    Some((byte, &tail[2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_extended_escape_is_one_byte() {
        assert_eq!(decode("caf%FFFFFFC3%FFFFFFA9"), "café");
        assert_eq!(decode("Lager%20S%FFFFFFFFFFFFC3%FFFFFFFFFFFFBCd%204"), "Lager Süd 4");
        assert_eq!(decode("%FFFFFF41"), "\u{ff}FFFF41");
    }

    #[test]
    fn bytes_that_are_no_utf8_are_read_as_latin_1() {
        assert_eq!(decode("caf%E9"), "café");
        assert_eq!(decode("%FFFFFFE9"), "é");
    }

    #[test]
    fn an_unfinished_escape_is_text() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("5%2"), "5%2");
        assert_eq!(decode("x%zz%20y"), "x%zz y");
    }

    #[test]
    fn a_plus_is_a_plus() {
        assert_eq!(decode("a+b%2B"), "a+b+");
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["SN 12&3=x#y%20+z", "${x}", "é\u{0}\n", ""] {
            let mut encoded = String::new();
            encode_into(&mut encoded, text);
            assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && !b"&=#+${}".contains(&b)), "{encoded}");
            assert_eq!(decode(&encoded), text);
        }
    }

    #[test]
    fn pairs_are_those_that_splitting_gives() {
        for query in ["", "&", "=", "a", "a=", "=a", "a=b=c&", "&&a=1&&b==&%3d=%26&=", "é=ü&x", "a%&=%&b=1"] {
            let simply = query.split('&').filter(|pair| !pair.is_empty());
            let simply: Vec<_> = simply.map(|pair| (pair.split_once('=').unwrap_or((pair, "")), pair.contains('%'))).collect();
            let ours: Vec<_> = raw_pairs(query).map(|pair| ((pair.key, pair.value), pair.has_escapes)).collect();
            assert_eq!(ours, simply, "{query:?}");
        }
    }

    #[test]
    fn pairs_are_split_before_they_are_decoded() {
        let all: Vec<_> = pairs("a=1%262&&b&=x").collect();
        assert_eq!(all, [("a".into(), "1&2".into()), ("b".into(), "".into()), ("".into(), "x".into())]);
    }
}
