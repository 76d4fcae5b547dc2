//! Query strings, as real iPXE writes them.
//!
//! iPXE has two peculiarities (`ipxe:src/core/uri.c`): it sends a byte of 0x80 and above
//! sign-extended, as `%FFFFFFC3`, and it may send `+`, `%` and `=` in a value unescaped. So `+` is
//! a plus sign, and an incomplete escape is literal text.

use std::borrow::Cow;

use crate::identity::hex;

/// The byte offsets of one key-value pair in a query, and what it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) start: u32,
    /// End of the key.
    pub(crate) equals: u32,
    /// Start of the value.
    pub(crate) value: u32,
    pub(crate) end: u32,
    pub(crate) key_has_escapes: bool,
    pub(crate) value_has_escapes: bool,
    /// Whether the pair is spelled just as [`append`] would write it. False for a pair with escaped
    /// bytes beyond ASCII, even if its spelling is the same.
    pub(crate) is_canonical: bool,
}

/// A key or a value: its length in bytes, and what it contains.
struct Component {
    len: usize,
    has_escapes: bool,
    /// See [`Pair::is_canonical`].
    is_canonical: bool,
}

/// Splits a query string at `&` into decoded pairs. A pair without `=` has an empty value.
pub fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    raw_pairs(query).map(|pair| (decode(pair.key(query)), decode(pair.value(query))))
}

/// Splits a query string like [`pairs`], without decoding it. Panics if it is longer than 4 GiB.
pub(crate) fn raw_pairs(query: &str) -> impl Iterator<Item = Pair> {
    let query = query.as_bytes();
    let mut next = 0;
    std::iter::from_fn(move || {
        while next < query.len() {
            let pair = raw_pair(query, next);
            next = pair.end as usize + 1;
            if pair.start < pair.end {
                return Some(pair);
            }
        }
        None
    })
}

/// Parses the pair at `start`.
fn raw_pair(query: &[u8], start: usize) -> Pair {
    let offset = |at: usize| u32::try_from(at).expect("a query is short");
    let key = component(&query[start..], b'=');
    let equals = start + key.len;
    // Without `=`, all of it is the key.
    let (value, after) = match query.get(equals) {
        Some(b'=') => (equals + 1, component(&query[equals + 1..], b'&')),
        _ => (
            equals,
            Component {
                len: 0,
                has_escapes: false,
                is_canonical: true,
            },
        ),
    };
    Pair {
        start: offset(start),
        equals: offset(equals),
        value: offset(value),
        end: offset(value + after.len),
        key_has_escapes: key.has_escapes,
        value_has_escapes: after.has_escapes,
        is_canonical: key.is_canonical && after.is_canonical,
    }
}

/// Parses a key or a value: the start of `text` up to the next `&` or `last`.
fn component(text: &[u8], last: u8) -> Component {
    let mut component = Component {
        len: 0,
        has_escapes: false,
        is_canonical: true,
    };
    while let Some(plain) = text[component.len..]
        .iter()
        .position(|byte| !is_plain(*byte))
    {
        component.len += plain;
        let byte = text[component.len];
        if byte == b'&' || byte == last {
            return component;
        }
        component.len += 1;
        let is_escape = byte == b'%';
        component.has_escapes |= is_escape;
        component.is_canonical &= is_escape && is_canonical_escape(&text[component.len..]);
    }
    component.len = text.len();
    component
}

// === impl Pair ===

impl Pair {
    /// Returns the key, undecoded.
    fn key(self, query: &str) -> &str {
        &query[self.start as usize..self.equals as usize]
    }

    /// Returns the value, undecoded.
    fn value(self, query: &str) -> &str {
        &query[self.value as usize..self.end as usize]
    }
}

/// Returns whether an escape, given without its `%`, is spelled as [`encode_into`] would, and is an
/// ASCII character.
fn is_canonical_escape(tail: &[u8]) -> bool {
    let digit = |at: usize| {
        tail.get(at)
            .filter(|digit| !digit.is_ascii_lowercase())
            .and_then(|digit| hex(*digit))
    };
    let byte = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low);
    byte.is_some_and(|byte| byte.is_ascii() && !is_plain(byte))
}

/// Decodes percent-escapes. Bytes that are not UTF-8 are read as ISO 8859-1, the charset of strings
/// in old firmware.
pub fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    decode_into(&mut out, text);
    Cow::Owned(out)
}

/// Decodes the percent-escapes of `text` and appends the result to `out`.
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
            // The bytes can only be decoded together.
            Some(_) => {
                out.truncate(start);
                return out.push_str(&to_text(to_bytes(text)));
            }
        }
    }
    out.push_str(rest);
}

fn to_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = if first == b'%' {
            escape(tail).unwrap_or((b'%', tail))
        } else {
            (first, tail)
        };
        bytes.push(byte);
        rest = tail;
    }
    bytes
}

fn to_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|b| char::from(*b)).collect())
}

/// Marks the bytes that need no escape: the unreserved ones (RFC 3986, section 2.3), and `:`, which
/// iPXE sends unescaped in a MAC address.
static IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        is_plain[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    is_plain
};

fn is_plain(byte: u8) -> bool {
    IS_PLAIN[usize::from(byte)]
}

/// Appends `text` to `out`, escaping every byte that needs it.
pub fn encode_into(out: &mut String, text: &str) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut rest = text;
    // Copy runs of plain bytes: nearly all of nearly every value.
    while let Some(end) = rest.bytes().position(|byte| !is_plain(byte)) {
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

/// Like [`encode_into`], and escapes what YAML or a shell reads at the ends of a word: `-` and `~`
/// at its start, `:` at its end.
pub(crate) fn encode_word_into(out: &mut String, text: &str) {
    let start = out.len();
    encode_into(out, text);
    escape_colon_at_end(out, start);
    let escaped = match out.as_bytes().get(start) {
        Some(b'-') => "%2D",
        Some(b'~') => "%7E",
        _ => return,
    };
    out.replace_range(start..=start, escaped);
}

/// Escapes a `:` at the end of a text that begins at `start`: YAML would read the text as a key.
pub(crate) fn escape_colon_at_end(out: &mut String, start: usize) {
    if out[start..].ends_with(':') {
        out.pop();
        out.push_str("%3A");
    }
}

/// Appends a pair to a query string, without `?`.
pub fn append(query: &mut String, key: &str, value: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    append_pair(query, key, value);
}

/// Appends a pair without a separator.
pub(crate) fn append_pair(out: &mut String, key: &str, value: &str) {
    encode_into(out, key);
    out.push('=');
    encode_into(out, value);
}

/// Parses an escape, given without its `%`. Returns its byte and the rest of the text.
fn escape(tail: &[u8]) -> Option<(u8, &[u8])> {
    let byte_at = |at: usize| Some(hex(*tail.get(at)?)? << 4 | hex(*tail.get(at + 1)?)?);
    let byte = byte_at(0)?;
    // printf("%02X", (signed char) 0xc3) prints FFFFFFC3. iPXE of 2019 decodes the output of
    // `:uristring` as one byte and text, and encodes it again: FFFFFFFFFFFFC3.
    let extension = |bytes: usize| {
        let is_extended = (0..bytes).all(|at| byte_at(2 * at) == Some(0xff));
        byte_at(2 * bytes)
            .filter(|byte| is_extended && *byte >= 0x80)
            .map(|byte| (byte, &tail[2 * bytes + 2..]))
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
    use proptest::prelude::*;

    use super::*;

    /// Splits pairs with the standard library.
    fn split(query: &str) -> Vec<(&str, &str)> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect()
    }

    proptest! {
        #[test]
        fn long_queries_are_split_as_the_standard_library_splits(query in "([a-z]{0,12}|[&=%]{1,3}|%[0-9A-F]{2}|[ -~]|é){0,24}") {
            let ours: Vec<_> = raw_pairs(&query).map(|pair| (pair.key(&query), pair.value(&query))).collect();
            prop_assert_eq!(&ours, &split(&query));
            for (pair, (key, value)) in raw_pairs(&query).zip(ours) {
                prop_assert_eq!((pair.key_has_escapes, pair.value_has_escapes), (key.contains('%'), value.contains('%')));
            }
        }
    }

    #[test]
    fn a_sign_extended_escape_is_one_byte() {
        assert_eq!(decode("caf%FFFFFFC3%FFFFFFA9"), "café");
        assert_eq!(
            decode("Lager%20S%FFFFFFFFFFFFC3%FFFFFFFFFFFFBCd%204"),
            "Lager Süd 4"
        );
        assert_eq!(decode("%FFFFFF41"), "\u{ff}FFFF41");
    }

    #[test]
    fn invalid_utf8_is_read_as_latin_1() {
        assert_eq!(decode("caf%E9"), "café");
        assert_eq!(decode("%FFFFFFE9"), "é");
    }

    #[test]
    fn an_incomplete_escape_is_literal_text() {
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("5%2"), "5%2");
        assert_eq!(decode("x%zz%20y"), "x%zz y");
    }

    #[test]
    fn a_plus_is_a_plus() {
        assert_eq!(decode("a+b%2B"), "a+b+");
    }

    #[test]
    fn encoding_then_decoding_returns_the_input() {
        for text in ["SN 12&3=x#y%20+z", "${x}", "é\u{0}\n", ""] {
            let mut encoded = String::new();
            encode_into(&mut encoded, text);
            assert!(
                encoded
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"&=#+${}".contains(&b)),
                "{encoded}"
            );
            assert_eq!(decode(&encoded), text);
        }
    }

    #[test]
    fn pairs_match_a_plain_split() {
        for query in [
            "",
            "&",
            "=",
            "a",
            "a=",
            "=a",
            "a=b=c&",
            "&&a=1&&b==&%3d=%26&=",
            "é=ü&x",
            "a%&=%&b=1",
        ] {
            let expected = split(query);
            let ours: Vec<_> = raw_pairs(query)
                .map(|pair| (pair.key(query), pair.value(query)))
                .collect();
            assert_eq!(ours, expected, "{query:?}");
            let escapes: Vec<_> = raw_pairs(query)
                .map(|pair| (pair.key_has_escapes, pair.value_has_escapes))
                .collect();
            assert_eq!(
                escapes,
                expected
                    .iter()
                    .map(|(key, value)| (key.contains('%'), value.contains('%')))
                    .collect::<Vec<_>>(),
                "{query:?}"
            );
        }
    }

    #[test]
    fn canonical_pairs_are_those_that_append_writes() {
        let pieces = [
            "a", "~:.-_9", "%20", "%25", "%2f", "%2F", "%41", "%3A", "%C3%A9", "%E9", "%00", "%",
            "%4", "%zz", "=", "+", "/", " ", "é",
        ];
        let texts = pieces
            .iter()
            .flat_map(|one| pieces.iter().map(move |two| format!("{one}{two}")));
        for query in texts.flat_map(|text| [format!("a={text}"), format!("{text}=a")]) {
            let Some(pair) = raw_pairs(&query).next() else {
                continue;
            };
            let mut written = String::new();
            append(
                &mut written,
                &decode(pair.key(&query)),
                &decode(pair.value(&query)),
            );
            // A pair with bytes beyond ASCII may be canonical and not be marked so.
            assert!(
                pair.is_canonical == (written == query)
                    || query.contains("%C3%A9") && written == query,
                "{query} is written {written}"
            );
        }
    }

    #[test]
    fn pairs_are_split_before_they_are_decoded() {
        let all: Vec<_> = pairs("a=1%262&&b&=x").collect();
        assert_eq!(
            all,
            [
                ("a".into(), "1&2".into()),
                ("b".into(), "".into()),
                ("".into(), "x".into())
            ]
        );
    }
}
