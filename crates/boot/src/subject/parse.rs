//! Parses a query into a subject.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::arch;
use crate::bytes;
use crate::identity::{self, Mac, UUID_BYTES};
use crate::machine::{MACHINE_LABEL, Machine};
use crate::query::{self, Pair};

use super::label_order::{
    self, BUILDARCH_POSITION, MAC_POSITION, SERIAL_POSITION, UUID_POSITION, head,
};
use super::span::Span;
use super::{
    ExtrinsicLabels, IDENTITIES, Label, MAX_KEY_BYTES, MAX_LABELS, MAX_VALUE_BYTES, Subject,
    TYPICAL_LABELS, excerpt,
};

/// Capacity for decoded and normalised text.
const TYPICAL_DECODED_BYTES: usize = 64;

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

    /// Returns the [`head`] of a non-empty key, in a single read if eight bytes follow.
    #[inline]
    fn head_at(&self, key: Span) -> u64 {
        match self.text.as_bytes()[key.start as usize..].first_chunk() {
            Some(chunk) => u64::from_be_bytes(*chunk) & (u64::MAX << (64 - 8 * key.len().min(8))),
            None => head(self.text_at(key)),
        }
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
    /// [`BOOTSTRAP_LABELS`] that follows that of the last pair.
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
            self.add_operator_label(key, value);
        }
    }

    /// Makes the subject a Machine. The Machine's labels override those of the query, and the
    /// labels of the server override both.
    pub(crate) fn set_machine(&mut self, machine: Arc<Machine>, contradicts: bool) {
        let labels = machine.labels.iter();
        let bytes: usize = labels
            .clone()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        let name = (MACHINE_LABEL, &*machine.key.name);
        self.text.reserve(bytes + name.0.len() + name.1.len());
        // The name comes first, so that no label of the Machine can claim another.
        for (key, value) in std::iter::once(name).chain(labels) {
            if self.extrinsic(key).is_none() {
                self.add_operator_label(key, value);
            }
        }
        (self.machine, self.contradicts) = (Some(machine), contradicts);
    }

    /// Adds a label of the operator, in place of one of the query.
    fn add_operator_label(&mut self, key: &str, value: &str) {
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
