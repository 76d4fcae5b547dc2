//! A machine that boots, known only by the labels that it presents.

mod extrinsic;
mod label_order;
mod parse;
mod span;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::arch::{self, BUILDARCH};
use crate::identity::{self, Mac};
use crate::machine::Machine;
use crate::query;

use label_order::{head, keys_equal};
use span::Span;

pub use extrinsic::{ExtrinsicLabels, InvalidExtrinsic};
pub use label_order::BOOTSTRAP_LABELS;
pub use parse::InvalidQuery;

/// Maximum number of labels in a query.
pub const MAX_LABELS: usize = 64;
/// Maximum length of a label key, in bytes.
pub const MAX_KEY_BYTES: usize = 253;
/// Maximum length of a label value, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;

/// Capacity for the labels that the bootstrap script sends, and a few of the operator's.
const TYPICAL_LABELS: usize = 12;

/// The labels that identify a machine.
pub const IDENTITIES: [&str; 3] = ["uuid", "serial", "mac"];

/// A machine that boots: its labels, and its identities.
///
/// ```
/// use boot::{ExtrinsicLabels, Subject};
///
/// let operator_labels = ExtrinsicLabels::new([("region", "us-cal")])?;
/// let query = "mac=52-54-00-AB-CD-EF&buildarch=aarch64&serial=None&region=eu";
/// let subject = Subject::from_query(query, &operator_labels)?;
///
/// // Values are normalised, and a query can't override the operator's labels.
/// assert_eq!(subject.label("buildarch"), Some("arm64"));
/// assert_eq!(subject.label("region"), Some("us-cal"));
/// assert_eq!(subject.to_query(), "mac=52:54:00:ab:cd:ef&buildarch=arm64&serial=None");
/// // A vendor's filler text is a label, but not an identity.
/// assert_eq!(subject.placeholders(), ["serial"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    machine: Option<Arc<Machine>>,
    /// Whether a weaker identity of the subject leads to another Machine.
    contradicts: bool,
}

#[derive(Clone, Copy)]
struct Label {
    /// The first bytes of the key, which distinguish and order nearly all keys.
    head: u64,
    key: Span,
    value: Span,
    /// The raw pair, if it is spelled as [`Subject::to_query`] writes it.
    verbatim: Option<Span>,
    /// The position among the labels of a query; see [`BOOTSTRAP_LABELS`].
    position: u8,
    extrinsic: bool,
}

// === impl Subject ===

impl Subject {
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

    /// Returns the Machine that the subject is, if [`Catalog::recognise`] found one.
    ///
    /// [`Catalog::recognise`]: crate::Catalog::recognise
    pub fn machine(&self) -> Option<&Arc<Machine>> {
        self.machine.as_ref()
    }

    /// Returns whether the subject presents identities of two Machines, of which the weaker one is
    /// ignored.
    pub fn presents_two_machines(&self) -> bool {
        self.contradicts
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

    /// Finds a label. Inlined, because most keys and so their heads are constants.
    #[inline]
    fn find(&self, key: &str) -> Option<&Label> {
        let head = head(key);
        // There are few labels: a linear search beats a binary search.
        self.labels.iter().find(|label| {
            label.head == head && keys_equal(self.bytes_at(label.key), key.as_bytes())
        })
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
mod tests;
