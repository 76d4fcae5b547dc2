//! The usual query, read at once.
//!
//! Nearly all machines ask by the bootstrap script, whose labels come in one order, and nearly all that they say is written as it would be
//! written here. What such a query says is known with half the work: its keys need not be searched for, nor the place of a label.

use crate::arch;
use crate::identity::{self, Mac, UUID_BYTES};
use crate::query::{self, Piece};

use super::turn::{
    BUILDARCH_TURN, MAC_TURN, PRESENTED, SERIAL_TURN, TURNS, UUID_TURN, is_presented,
};
use super::{Label, MAX_VALUE_BYTES, Span, Subject, is_lower_case};

/// A MAC of six octets, with colons.
const MAC_BYTES: usize = 17;

impl Subject {
    /// Takes the labels of [`PRESENTED`] from the start of a query, as long as they come in that order and there is nothing to mend or to refuse.
    /// Says where the rest starts, and which of them is expected there.
    pub(super) fn present_usual(&mut self, query: &str) -> (usize, usize) {
        let mut at = 0;
        for (place, name) in PRESENTED.iter().enumerate() {
            let equals = at + name.len();
            if query.as_bytes().get(equals) != Some(&b'=') {
                continue;
            }
            let key = Span::new(at, equals);
            let head = self.head_at(key);
            if !is_presented(place, head, self.bytes_at(key)) {
                continue;
            }
            let turn = TURNS[place];
            let Some((len, has_escapes)) = self.usual_value(&query[equals + 1..], turn) else {
                return (at, place);
            };
            let sent = Span::new(at, equals + 1 + len);
            if len > 0 {
                let value = self.read(query, key.end + 1, sent.end, has_escapes);
                if turn == SERIAL_TURN {
                    self.serial = Some(value);
                }
                self.labels.push(Label {
                    head,
                    key,
                    value,
                    sent: Some(sent),
                    turn,
                    extrinsic: false,
                });
            }
            at = query.len().min(equals + 1 + len + 1);
        }
        (at, PRESENTED.len())
    }

    /// The length of the value that a text starts with, and whether it holds escapes, if it is written as it would be written here.
    fn usual_value(&mut self, text: &str, turn: u8) -> Option<(usize, bool)> {
        let ends = |at: usize| matches!(text.as_bytes().get(at), None | Some(b'&'));
        if ends(0) {
            return Some((0, false));
        }
        match turn {
            UUID_TURN => {
                let said = text
                    .as_bytes()
                    .get(..UUID_BYTES)
                    .filter(|said| is_lower_case(said) && ends(UUID_BYTES))?;
                self.uuid = Some(identity::parse_uuid_bytes(said)?);
                Some((UUID_BYTES, false))
            }
            MAC_TURN => {
                let said = text
                    .as_bytes()
                    .get(..MAC_BYTES)
                    .filter(|said| said[2] == b':' && is_lower_case(said) && ends(MAC_BYTES))?;
                self.mac = Some(Mac::parse(said)?);
                Some((MAC_BYTES, false))
            }
            _ => {
                let Piece {
                    len,
                    has_escapes,
                    is_canonical,
                } = query::piece(text.as_bytes(), b'&');
                let is_normal = turn != BUILDARCH_TURN
                    || !has_escapes && arch::canonical(&text[..len]) == text[..len];
                (is_canonical && is_normal && len <= MAX_VALUE_BYTES).then_some((len, has_escapes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ExtrinsicLabels, InvalidQuery};
    use super::*;

    /// Pair by pair, none of which is usual.
    fn simply(query: &str) -> Result<Subject, InvalidQuery> {
        let mut subject = Subject {
            text: query.to_owned(),
            ..Subject::default()
        };
        let mut expected = 0;
        for pair in query::raw_pairs(query, 0) {
            subject.present(query, pair, &mut expected)?;
        }
        subject.identify();
        Ok(subject)
    }

    fn same(query: &str) -> Result<(), TestCaseError> {
        let (subject, simply) = (
            Subject::from_query(query, &ExtrinsicLabels::default()),
            simply(query),
        );
        match (subject, simply) {
            (Ok(subject), Ok(simply)) => {
                let all = |subject: &Subject| {
                    let labels: Vec<_> = subject
                        .in_turn()
                        .map(|(key, value, _)| (key.to_owned(), value.to_owned()))
                        .collect();
                    let places: Vec<_> = subject
                        .labels
                        .iter()
                        .map(|label| {
                            (
                                label.head,
                                label.turn,
                                label.sent.map(|sent| sent.of(query).to_owned()),
                            )
                        })
                        .collect();
                    (
                        labels,
                        places,
                        subject.uuid,
                        subject.serial().map(str::to_owned),
                        subject.mac,
                        subject.placeholders.clone(),
                    )
                };
                prop_assert_eq!(all(&subject), all(&simply), "{}", query);
            }
            (subject, simply) => prop_assert_eq!(subject, simply, "{}", query),
        }
        Ok(())
    }

    const UUIDS: [&str; 7] = [
        "",
        "47c6da67-7477-4970-aa03-84e48ff4f6ad",
        "47C6DA67-7477-4970-AA03-84E48FF4F6AD",
        "47c6da6774774970aa0384e48ff4f6ad",
        "47c6da67-7477-4970-aa03-84e48ff4%66ad",
        "00000000-0000-0000-0000-000000000000",
        "47c6da67-7477-4970-aa03-84e48ff4f6adx",
    ];
    const MACS: [&str; 7] = [
        "",
        "52:54:00:ab:cd:ef",
        "52-54-00-ab-cd-ef",
        "52:54:00:AB:cd:ef",
        "52%3A54%3A00%3Aab%3Acd%3Aef",
        "52:54:00:ab:cd:ef:01:02",
        "525400abcdef",
    ];

    fn value() -> impl Strategy<Value = String> {
        let known = [
            &UUIDS[..],
            &MACS,
            &[
                "x86_64", "amd64", "x86%5F64", "aarch64", "efi", "None", " None", "0000",
            ],
        ]
        .concat();
        prop_oneof![
            2 => prop::sample::select(known).prop_map(str::to_owned),
            3 => "[A-Z0-9]{0,12}",
            3 => "([a-z.]|%20|%25|%C3%A9|%2f|%4|%|=|\\+|é| |\"){0,6}",
            1 => Just("v".repeat(MAX_VALUE_BYTES)),
            1 => Just("v".repeat(MAX_VALUE_BYTES + 1)),
            1 => Just("%20".repeat(MAX_VALUE_BYTES)),
        ]
    }

    /// What the bootstrap script sends, and what else might be there.
    fn pair() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            9 => prop::sample::select(PRESENTED.to_vec()),
            1 => prop::sample::select(vec!["rack", "uuid2", "buildarc", "buildarches", "manufacture", "m%61c", "", "é"]),
        ];
        (
            key,
            prop::sample::select(vec!["=", "=", "=", "=", "", "=="]),
            value(),
        )
            .prop_map(|(key, equals, value)| format!("{key}{equals}{value}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn it_says_what_it_says_pair_by_pair(pairs in prop::collection::vec((pair(), "&{1,2}"), 0..12), is_cut in any::<bool>()) {
            let query: String = pairs.iter().flat_map(|(pair, end)| [pair.as_str(), end]).collect();
            same(if is_cut { query.trim_end_matches('&') } else { &query })?;
        }

        #[test]
        fn so_it_does_where_the_order_is_usual(
            uuid in prop::sample::select(&UUIDS[..]),
            mac in prop::sample::select(&MACS[..]),
            others in prop::collection::vec(value(), PRESENTED.len() - 2),
            left_out in prop::collection::vec(0..8_u8, PRESENTED.len()),
        ) {
            let values = [uuid, mac].into_iter().chain(others.iter().map(String::as_str));
            let pairs = PRESENTED.iter().zip(values).zip(left_out).filter(|(_, dice)| *dice > 0).map(|((key, value), _)| format!("{key}={value}"));
            same(&pairs.collect::<Vec<_>>().join("&"))?;
        }
    }

    #[test]
    fn what_the_bootstrap_script_sends_is_usual_to_its_end() {
        let query = "uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&mac=52:54:00:ab:cd:ef&buildarch=x86_64&platform=efi&serial=SN%2012%263&hostname=&manufacturer=Dell%20Inc.&product=PowerEdge%20R640&asset=";
        for end in 0..=query.len() {
            same(&query[..end]).unwrap();
        }
        let mut subject = Subject {
            text: query.to_owned(),
            ..Subject::default()
        };
        assert_eq!(subject.present_usual(query), (query.len(), PRESENTED.len()));
    }
}
