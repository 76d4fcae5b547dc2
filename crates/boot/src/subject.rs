//! A machine that boots, known only by the labels that it presents.

mod extrinsic;
mod label_order;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::arch::{self, BUILDARCH};
use crate::bytes;
use crate::identity::{self, Mac, UUID_BYTES};
use crate::query::{self, Pair};

use label_order::{
    BUILDARCH_POSITION, MAC_POSITION, SERIAL_POSITION, UUID_POSITION, head, keys_equal,
};

pub use extrinsic::{ExtrinsicLabels, InvalidExtrinsic};
pub use label_order::PRESENTED;

/// Maximum number of labels in a query.
pub const MAX_LABELS: usize = 64;
/// Maximum length of a label key, in bytes.
pub const MAX_KEY_BYTES: usize = 253;
/// Maximum length of a label value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;

/// Capacity for the labels that the bootstrap script sends, and a few of the operator's.
const TYPICAL_LABELS: usize = 12;

/// Capacity for decoded and normalised text.
const TYPICAL_DECODED_BYTES: usize = 64;

/// The labels that identify a machine.
pub const IDENTITIES: [&str; 3] = ["uuid", "serial", "mac"];

/// A machine that boots: its labels, and its identities.
#[derive(Clone, Default)]
pub struct Subject {
    /// The raw query, followed by decoded and normalised text. A single buffer, because each
    /// request makes a subject of about ten labels.
    text: String,
    /// The labels, each key once, in the order of a query, so that most are appended.
    labels: Vec<Label>,
    uuid: Option<Uuid>,
    serial: Option<Span>,
    mac: Option<Mac>,
    placeholders: SmallVec<[&'static str; 3]>,
}

#[derive(Clone, Copy)]
struct Label {
    /// The first bytes of the key, which distinguish and order nearly all keys.
    head: u64,
    key: Span,
    value: Span,
    /// The raw pair, if it is spelled as [`Subject::to_query`] writes it.
    verbatim: Option<Span>,
    /// The position among the labels of a query; see [`PRESENTED`].
    position: u8,
    extrinsic: bool,
}

/// A byte range of a subject's text.
#[derive(Clone, Copy, PartialEq)]
struct Span {
    start: u32,
    end: u32,
}

/// The query describes no subject. Always the client's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// There are more labels than [`MAX_LABELS`].
    #[error(
        "the query has more than {MAX_LABELS} labels; send only labels that a selector or a template uses"
    )]
    TooManyLabels,
    /// A key is longer than [`MAX_KEY_BYTES`] or contains control characters.
    #[error(
        "label key {0:?}... is longer than {MAX_KEY_BYTES} bytes or contains control characters"
    )]
    Key(String),
    /// A value is longer than [`MAX_VALUE_BYTES`].
    #[error("the value of label {0:?} is longer than {MAX_VALUE_BYTES} bytes")]
    ValueTooLong(String),
    /// An identity has two values.
    #[error(
        "the query contains {0:?} twice with different values; an unescaped '&' in free text can cause this, so send free-text labels last, as ${{NAME:uristring}}"
    )]
    Contradiction(&'static str),
    /// The `uuid` is not a UUID.
    #[error("uuid {0:?} is not a UUID; send iPXE's ${{uuid}}")]
    Uuid(String),
    /// The `mac` is not a MAC address.
    #[error("mac {0:?} is not a MAC address; send iPXE's ${{net0/mac}}")]
    Mac(String),
}

// === impl Subject ===

impl Subject {
    /// Parses the query of a request, as iPXE sends it, and adds the operator's labels.
    ///
    /// An empty value means that the label is absent. If a label that is not an identity occurs
    /// twice, the first value wins: free text comes last, so a later occurrence may be a part of
    /// it.
    pub fn from_query(query: &str, extrinsic: &ExtrinsicLabels) -> Result<Self, InvalidQuery> {
        let text = String::with_capacity(query.len() + extrinsic.bytes() + TYPICAL_DECODED_BYTES);
        let mut subject = Self {
            text,
            labels: Vec::with_capacity(TYPICAL_LABELS),
            ..Self::default()
        };
        subject.text.push_str(query);
        let mut expected = 0;
        for pair in query::raw_pairs(query) {
            subject.add_pair(query, pair, &mut expected)?;
        }
        subject.resolve_identities();
        subject.add_extrinsic(extrinsic);
        Ok(subject)
    }

    /// Returns the value of a label. The operator's labels override the machine's.
    #[inline]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.find(key).map(|label| self.text_at(label.value))
    }

    /// Returns the value of a label that the machine presented.
    pub fn intrinsic(&self, key: &str) -> Option<&str> {
        self.find(key)
            .filter(|label| !label.extrinsic)
            .map(|label| self.text_at(label.value))
    }

    /// Returns the value of a label that the operator set.
    pub fn extrinsic(&self, key: &str) -> Option<&str> {
        self.find(key)
            .filter(|label| label.extrinsic)
            .map(|label| self.text_at(label.value))
    }

    /// Iterates over all labels, sorted by key.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let mut labels: SmallVec<[_; TYPICAL_LABELS]> = self
            .labels
            .iter()
            .map(|label| (self.text_at(label.key), self.text_at(label.value)))
            .collect();
        labels.sort_unstable();
        labels.into_iter()
    }

    /// Iterates over the keys of all labels, each once and in no particular order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(|label| self.text_at(label.key))
    }

    /// Returns the SMBIOS UUID, unless it is a placeholder.
    pub fn uuid(&self) -> Option<Uuid> {
        self.uuid
    }

    /// Returns the serial number without surrounding spaces, unless it is a placeholder.
    pub fn serial(&self) -> Option<&str> {
        self.serial.map(|serial| self.text_at(serial))
    }

    /// Returns the address of the network card, unless it is a placeholder.
    pub fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// Returns the names of the identities that are only a vendor's filler text. They match no
    /// identity selector.
    pub fn placeholders(&self) -> &[&'static str] {
        &self.placeholders
    }

    /// Returns the machine's own labels as a query string, without `?`. Parsing it gives an equal
    /// subject.
    pub fn to_query(&self) -> String {
        let mut out =
            String::with_capacity(self.text.len() + self.text.len() / 4 + 2 * self.labels.len());
        self.query_into(&mut out);
        out
    }

    /// Appends the query string of [`Subject::to_query`].
    pub(crate) fn query_into(&self, out: &mut String) {
        // Adjacent pairs that were sent in this order and spelling are copied together.
        let mut run: Option<Span> = None;
        let mut is_first = true;
        let mut separate = |out: &mut String| {
            if !std::mem::take(&mut is_first) {
                out.push('&');
            }
        };
        for label in self.labels.iter().filter(|label| !label.extrinsic) {
            match (label.verbatim, run) {
                (Some(next), Some(sent)) if next.start == sent.end + 1 => {
                    run = Some(Span {
                        end: next.end,
                        ..sent
                    });
                }
                (next, sent) => {
                    if let Some(sent) = sent {
                        separate(out);
                        out.push_str(self.text_at(sent));
                    }
                    run = next;
                    if next.is_none() {
                        separate(out);
                        query::append_pair(out, self.text_at(label.key), self.text_at(label.value));
                    }
                }
            }
        }
        if let Some(sent) = run {
            separate(out);
            out.push_str(self.text_at(sent));
        }
    }

    /// Iterates over key, value and whether the operator set the label, in the order of a query.
    fn entries(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.labels.iter().map(|label| {
            (
                self.text_at(label.key),
                self.text_at(label.value),
                label.extrinsic,
            )
        })
    }

    fn text_at(&self, span: Span) -> &str {
        span.slice(&self.text)
    }

    /// Returns the bytes of a span, without checking character boundaries.
    fn bytes_at(&self, span: Span) -> &[u8] {
        &self.text.as_bytes()[span.start as usize..span.end as usize]
    }

    /// Returns the [`head`] of a non-empty key, in a single read if eight bytes follow.
    #[inline]
    fn head_at(&self, key: Span) -> u64 {
        match self.text.as_bytes()[key.start as usize..].first_chunk() {
            Some(chunk) => u64::from_be_bytes(*chunk) & (u64::MAX << (64 - 8 * key.len().min(8))),
            None => head(self.text_at(key)),
        }
    }

    /// Finds a label. Inlined, because most keys and so their heads are constants.
    #[inline]
    fn find(&self, key: &str) -> Option<&Label> {
        let head = head(key);
        // There are few labels: a linear search beats a binary search.
        self.labels.iter().find(|label| {
            label.head == head && keys_equal(self.bytes_at(label.key), key.as_bytes())
        })
    }

    /// Finds the position of a key, or the position to insert it. Most are appended.
    #[inline]
    fn search(&self, position: u8, head: u64, key: &[u8]) -> Result<usize, usize> {
        if self
            .labels
            .last()
            .is_none_or(|last| (last.position, last.head) < (position, head))
        {
            return Err(self.labels.len());
        }
        for (at, label) in self.labels.iter().enumerate().rev() {
            match (label.position, label.head)
                .cmp(&(position, head))
                .then_with(|| self.bytes_at(label.key).cmp(key))
            {
                Ordering::Less => return Err(at + 1),
                Ordering::Equal => return Ok(at),
                Ordering::Greater => {}
            }
        }
        Err(0)
    }

    /// Adds a pair of the query, unless its label exists already. `expected` is the index in
    /// [`PRESENTED`] that follows that of the last pair.
    fn add_pair(
        &mut self,
        query: &str,
        pair: Pair,
        expected: &mut usize,
    ) -> Result<(), InvalidQuery> {
        let key = self.decoded(query, pair.start, pair.equals, pair.key_has_escapes);
        let mut value = self.decoded(query, pair.value, pair.end, pair.value_has_escapes);
        let is_plain = pair.is_canonical && !pair.key_has_escapes;
        if key.len() > MAX_KEY_BYTES || !is_plain && has_control_characters(self.text_at(key)) {
            return Err(InvalidQuery::Key(excerpt(self.text_at(key))));
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(InvalidQuery::ValueTooLong(excerpt(self.text_at(key))));
        }
        if key.len() == 0 {
            return Ok(());
        }
        let (name, head) = (self.bytes_at(key), self.head_at(key));
        let position = label_order::position(head, name, expected);
        if value.len() == 0 {
            return Ok(());
        }
        let index = self.search(position, head, name);
        let raw = self.bytes_at(value);
        // `None` if the value is in its normal spelling.
        let normalised = match position {
            UUID_POSITION => {
                let uuid = identity::parse_uuid_bytes(raw)
                    .ok_or_else(|| InvalidQuery::Uuid(excerpt(self.text_at(value))))?;
                let is_normal = raw.len() == UUID_BYTES && is_lower_case(raw);
                self.uuid.get_or_insert(uuid);
                (!is_normal).then(|| uuid.to_string())
            }
            MAC_POSITION => {
                let mac = Mac::parse(raw)
                    .ok_or_else(|| InvalidQuery::Mac(excerpt(self.text_at(value))))?;
                let is_normal = raw[2] == b':' && is_lower_case(raw);
                self.mac.get_or_insert(mac);
                (!is_normal).then(|| mac.to_string())
            }
            BUILDARCH_POSITION => Some(arch::canonical(self.text_at(value)))
                .filter(|name| name != self.text_at(value))
                .map(Cow::into_owned),
            _ => None,
        };
        let verbatim = (pair.is_canonical && normalised.is_none()).then_some(Span {
            start: pair.start,
            end: pair.end,
        });
        if let Some(normalised) = normalised {
            value = self.append(|text| text.push_str(&normalised));
        }
        match index {
            Ok(at) => match IDENTITIES
                .iter()
                .find(|identity| **identity == self.text_at(key))
            {
                Some(identity) if self.text_at(self.labels[at].value) != self.text_at(value) => {
                    Err(InvalidQuery::Contradiction(identity))
                }
                _ => Ok(()),
            },
            Err(_) if self.labels.len() == MAX_LABELS => Err(InvalidQuery::TooManyLabels),
            Err(at) => {
                if position == SERIAL_POSITION {
                    self.serial = Some(value);
                }
                self.labels.insert(
                    at,
                    Label {
                        head,
                        key,
                        value,
                        verbatim,
                        position,
                        extrinsic: false,
                    },
                );
                Ok(())
            }
        }
    }

    /// Returns the decoded part of the query. The text starts with the raw query, so a part without
    /// escapes needs no copy.
    #[inline]
    fn decoded(&mut self, query: &str, start: u32, end: u32, has_escapes: bool) -> Span {
        let raw = Span { start, end };
        if has_escapes {
            self.append(|text| query::decode_into(text, raw.slice(query)))
        } else {
            raw
        }
    }

    /// Appends to the text and returns the span of the addition.
    fn append(&mut self, write: impl FnOnce(&mut String)) -> Span {
        let start = self.text.len();
        write(&mut self.text);
        Span::new(start, self.text.len())
    }

    /// Trims the serial number, and removes placeholder identities.
    fn resolve_identities(&mut self) {
        if self.uuid.is_some_and(identity::is_placeholder_uuid) {
            self.uuid = None;
            self.placeholders.push("uuid");
        }
        if let Some(serial) = self.serial.take().map(|serial| self.trimmed(serial)) {
            if identity::is_placeholder_text(self.text_at(serial)) {
                self.placeholders.push("serial");
            } else {
                self.serial = Some(serial);
            }
        }
        if self.mac.as_ref().is_some_and(Mac::is_placeholder) {
            self.mac = None;
            self.placeholders.push("mac");
        }
    }

    fn trimmed(&self, span: Span) -> Span {
        if let [first, .., last] = self.bytes_at(span)
            && first.is_ascii_graphic()
            && last.is_ascii_graphic()
        {
            return span;
        }
        let text = self.text_at(span);
        let bytes = |text: &str| u32::try_from(text.len()).expect("it is a part of a span");
        let start = span.start + bytes(text) - bytes(text.trim_start());
        Span {
            start,
            end: start + bytes(text.trim()),
        }
    }

    fn add_extrinsic(&mut self, extrinsic: &ExtrinsicLabels) {
        for (key, value) in extrinsic.iter() {
            let head = head(key);
            let position = label_order::position(head, key.as_bytes(), &mut 0);
            let index = self.search(position, head, key.as_bytes());
            let (key, value) = (
                self.append(|text| text.push_str(key)),
                self.append(|text| text.push_str(value)),
            );
            let label = Label {
                head,
                key,
                value,
                verbatim: None,
                position,
                extrinsic: true,
            };
            match index {
                Ok(at) => self.labels[at] = label,
                Err(at) => self.labels.insert(at, label),
            }
        }
    }
}

impl PartialEq for Subject {
    fn eq(&self, other: &Self) -> bool {
        // Everything else follows from the labels, and their order from their keys.
        self.entries().eq(other.entries())
    }
}

impl Eq for Subject {}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.labels()).finish()
    }
}

fn is_lower_case(text: &[u8]) -> bool {
    bytes::all(text, |byte| !byte.is_ascii_uppercase())
}

fn has_control_characters(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().any(|byte| byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    }
}

// === impl Span ===

impl Span {
    /// Creates a span. Panics beyond 4 GiB, which no query reaches.
    fn new(start: usize, end: usize) -> Self {
        let offset = |at: usize| u32::try_from(at).expect("labels are few and short");
        Self {
            start: offset(start),
            end: offset(end),
        }
    }

    #[inline]
    fn slice(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// Serialises to an object of the labels, sorted by key.
impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.labels.len()))?;
        for (key, value) in self.labels() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Normalises a label's value for comparison: architectures, UUIDs and MAC addresses have several
/// spellings.
///
/// A value that is not a UUID or MAC address is returned unchanged.
pub fn normalise(key: &str, value: &str) -> String {
    match key {
        BUILDARCH => arch::canonical(value).into_owned(),
        "uuid" => {
            identity::parse_uuid(value).map_or_else(|| value.to_owned(), |uuid| uuid.to_string())
        }
        "mac" => value
            .parse::<Mac>()
            .map_or_else(|_| value.to_owned(), |mac| mac.to_string()),
        _ => value.to_owned(),
    }
}

fn excerpt(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Subject, InvalidQuery> {
        Subject::from_query(query, &ExtrinsicLabels::default())
    }

    #[test]
    fn labels_are_normalised() {
        let subject = parse(
            "uuid=47C6DA6774774970AA0384E48FF4F6AD&mac=52-54-00-AB-CD-EF&buildarch=aarch64&asset=",
        )
        .unwrap();
        assert_eq!(
            subject.label("uuid"),
            Some("47c6da67-7477-4970-aa03-84e48ff4f6ad")
        );
        assert_eq!(subject.label("mac"), Some("52:54:00:ab:cd:ef"));
        assert_eq!(subject.label("buildarch"), Some("arm64"));
        assert_eq!(subject.label("asset"), None);
    }

    #[test]
    fn only_two_different_values_of_an_identity_are_rejected() {
        let error =
            parse("uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&serial=1&serial=2").unwrap_err();
        assert_eq!(error, InvalidQuery::Contradiction("serial"));
        assert!(parse("mac=52:54:00:ab:cd:ef&mac=525400ABCDEF").is_ok());
    }

    #[test]
    fn the_first_value_of_a_repeated_label_wins() {
        assert_eq!(
            parse("buildarch=x86_64&asset=a&buildarch=arm64")
                .unwrap()
                .label("buildarch"),
            Some("x86_64")
        );
    }

    #[test]
    fn limits_are_exact_to_the_byte() {
        let labels = |n: usize| {
            (0..n)
                .map(|i| format!("k{i}=v"))
                .collect::<Vec<_>>()
                .join("&")
        };
        assert!(parse(&labels(64)).is_ok());
        assert_eq!(parse(&labels(65)), Err(InvalidQuery::TooManyLabels));
        assert!(parse(&format!("k={}", "v".repeat(1024))).is_ok());
        assert_eq!(
            parse(&format!("k={}", "v".repeat(1025))),
            Err(InvalidQuery::ValueTooLong("k".into()))
        );
        assert!(parse(&format!("{}=v", "k".repeat(253))).is_ok());
        assert!(matches!(
            parse(&format!("{}=v", "k".repeat(254))),
            Err(InvalidQuery::Key(_))
        ));
        assert!(matches!(parse("k%00=v"), Err(InvalidQuery::Key(_))));
    }

    #[test]
    fn malformed_identities_are_rejected() {
        assert_eq!(parse("uuid=x"), Err(InvalidQuery::Uuid("x".into())));
        assert_eq!(parse("mac=x"), Err(InvalidQuery::Mac("x".into())));
        assert!(parse("uuid=&mac=").is_ok());
    }

    #[test]
    fn placeholders_are_labels_but_not_identities() {
        let subject =
            parse("uuid=00000000-0000-0000-0000-000000000000&serial=None&mac=52:54:00:ab:cd:ef")
                .unwrap();
        assert_eq!((subject.uuid(), subject.serial()), (None, None));
        assert_eq!(subject.placeholders(), ["uuid", "serial"]);
        assert_eq!(subject.label("serial"), Some("None"));
        assert!(subject.mac().is_some());
    }

    #[test]
    fn a_query_never_overrides_the_operators_labels() {
        let extrinsic = ExtrinsicLabels::new([("region", "us-cal")]).unwrap();
        let subject = Subject::from_query("region=evil&serial=a", &extrinsic).unwrap();
        assert_eq!(subject.label("region"), Some("us-cal"));
        assert_eq!(subject.intrinsic("region"), None);
        assert_eq!(subject.extrinsic("region"), Some("us-cal"));
        assert_eq!(subject.to_query(), "serial=a");
    }

    #[test]
    fn extrinsic_labels_can_not_be_identities() {
        assert_eq!(
            ExtrinsicLabels::new([("uuid", "x")]).unwrap_err(),
            InvalidExtrinsic::Identity("uuid".into())
        );
        assert_eq!(
            ExtrinsicLabels::new([("a b", "x")]).unwrap_err(),
            InvalidExtrinsic::Key("a b".into())
        );
        assert_eq!(
            ExtrinsicLabels::new([("a", "x\n")]).unwrap_err(),
            InvalidExtrinsic::Value("a".into())
        );
        assert_eq!(
            ExtrinsicLabels::new([("a", "x"), ("a", "y")]).unwrap_err(),
            InvalidExtrinsic::Duplicate("a".into())
        );
    }

    #[test]
    fn a_subject_round_trips_through_its_query_with_free_text_last() {
        let query = "serial=SN%2012%263%3Dx%23y%2520%2Bz&rack=r1&product=R%20640&platform=efi&buildarch=x86_64&mac=52:54:00:ab:cd:ef&uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad";
        let subject = parse(query).unwrap();
        assert_eq!(
            subject.to_query(),
            "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&mac=52:54:00:ab:cd:ef&buildarch=x86_64&platform=efi&rack=r1&serial=SN%2012%263%3Dx%23y%2520%2Bz&product=R%20640"
        );
        assert_eq!(parse(&subject.to_query()).unwrap(), subject);
    }

    #[test]
    fn the_written_query_does_not_depend_on_how_it_was_sent() {
        for spelling in ["a%20b", "a b", "a%20%62", "%61 b"] {
            for mac in [
                "52:54:00:ab:cd:ef",
                "52%3A54:00:ab:cd:ef",
                "52-54-00-AB-CD-EF",
            ] {
                let subject = parse(&format!(
                    "x=&asset={spelling}&k={spelling}&mac={mac}&x%79=~&k=2&hostname=%C3%A9"
                ))
                .unwrap();
                assert_eq!(
                    subject.to_query(),
                    "mac=52:54:00:ab:cd:ef&k=a%20b&xy=~&hostname=%C3%A9&asset=a%20b",
                    "{spelling} {mac}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_query_is_written_in_label_order(
            pairs in prop::collection::vec((prop::sample::select(vec!["platform", "serial", "hostname", "product", "asset", "a", "rack"]),
                "([a-z$'.]|%20|%C3%A9|=| )?[0-9]{0,3}", "&{1,2}"), 0..9),
        ) {
            let query: String = pairs.iter().map(|(key, value, end)| format!("{key}={value}{end}")).collect();
            let subject = parse(&query);
            prop_assume!(subject.is_ok(), "not with two serial numbers");
            let mut expected: Vec<(&str, String)> = Vec::new();
            for (key, value, _) in &pairs {
                if !value.is_empty() && expected.iter().all(|(known, _)| known != key) {
                    expected.push((key, query::decode(value).into_owned()));
                }
            }
            let position = |key: &str| PRESENTED.iter().position(|known| *known == key).map_or(3.5, |at| at as f32);
            expected.sort_by(|(a, _), (b, _)| position(a).total_cmp(&position(b)).then(a.cmp(b)));
            let mut written = String::new();
            expected.iter().for_each(|(key, value)| query::append(&mut written, key, value));
            prop_assert_eq!(subject.unwrap().to_query(), written);
        }
    }

    #[test]
    fn queries_recorded_from_ipxe_parse_to_their_machine() {
        // Serial `SN 12&3=x#y%20+z`, asset `Lager Süd 4`, sent by the bootstrap script, byte for
        // byte.
        let head = "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&mac=";
        let tail = "&hostname=&manufacturer=Dell%20Inc.&product=PowerEdge%20R640&asset=Lager%20S";
        let of_2019 = format!(
            "{head}52%3A54%3A00%3A12%3A34%3A56&buildarch=x86_64&platform=pcbios&serial=SN%2012&3=x%23y%2520+z{tail}%FFFFFFFFFFFFC3%FFFFFFFFFFFFBCd%204"
        );
        let of_2025 = format!(
            "{head}52:54:00:12:34:56&buildarch=x86_64&platform=efi&serial=SN%2012%263%3Dx%23y%2520+z{tail}%FFFFFFC3%FFFFFFBCd%204"
        );
        for (query, serial) in [(of_2019, "SN 12"), (of_2025, "SN 12&3=x#y%20+z")] {
            let subject = parse(&query).unwrap();
            assert_eq!(subject.serial(), Some(serial));
            assert_eq!(subject.label("mac"), Some("52:54:00:12:34:56"));
            assert_eq!(subject.label("product"), Some("PowerEdge R640"));
            assert_eq!(subject.label("asset"), Some("Lager Süd 4"));
            assert_eq!(subject.label("hostname"), None);
        }
    }
}
