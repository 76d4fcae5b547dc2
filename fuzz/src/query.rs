//! Queries, as real iPXE and others write them.

use std::collections::BTreeSet;

use boot::subject::{MAX_KEY_BYTES, MAX_LABELS, MAX_VALUE_BYTES};
use boot::{ExtrinsicLabels, Subject, query};

pub(crate) fn query(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    text.split(['&', '=']).for_each(decoded_as_by_others);
    let extrinsic = ExtrinsicLabels::new([("region", "us-cal")]).expect("a label");
    let keys: Vec<_> = query::pairs(text).map(|(key, _)| key).collect();
    let is_each_key_once = keys.iter().collect::<BTreeSet<_>>().len() == keys.len();
    let backwards: Vec<_> = text.split('&').rev().collect();
    let backwards = Subject::from_query(&backwards.join("&"), &extrinsic);
    match Subject::from_query(text, &extrinsic) {
        Ok(subject) => {
            check(&subject);
            let again = Subject::from_query(&subject.to_query(), &extrinsic);
            assert_eq!(
                again.as_ref(),
                Ok(&subject),
                "what was printed reads as another subject"
            );
            assert!(
                !is_each_key_once || backwards.as_ref() == Ok(&subject),
                "the order of labels matters: {backwards:?}"
            );
        }
        Err(error) => {
            super::check_error(&error.to_string());
            assert!(
                !is_each_key_once || backwards.is_err(),
                "the order of labels matters: {error} and {backwards:?}"
            );
        }
    }
}

fn check(subject: &Subject) {
    let labels: Vec<_> = subject.labels().collect();
    assert!(
        labels.len() <= MAX_LABELS + 1 && labels.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "{labels:?}"
    );
    for (key, value) in labels {
        assert!(
            !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.chars().any(char::is_control),
            "{key:?}"
        );
        assert!(
            !value.is_empty() && value.len() <= MAX_VALUE_BYTES,
            "{key:?} has {} bytes",
            value.len()
        );
    }
    assert_eq!(
        subject.label("region"),
        Some("us-cal"),
        "the operator's label was overridden"
    );
    let printed = subject.to_query();
    assert!(
        printed
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~:%=&".contains(&b)),
        "{printed}"
    );
    let is_label = |key: &str, is_identity: bool| !is_identity || subject.intrinsic(key).is_some();
    assert!(
        is_label("uuid", subject.uuid().is_some())
            && is_label("serial", subject.serial().is_some())
    );
    assert!(is_label("mac", subject.mac().is_some()));
    for placeholder in subject.placeholders() {
        let identifies = match *placeholder {
            "uuid" => subject.uuid().is_some(),
            "serial" => subject.serial().is_some(),
            _ => subject.mac().is_some(),
        };
        assert!(!identifies, "the placeholder {placeholder} identifies");
    }
}

/// Checks percent-decoding against another implementation, except for the form that only iPXE
/// writes.
fn decoded_as_by_others(piece: &str) {
    let decoded = query::decode(piece);
    if !piece.to_ascii_lowercase().contains("%ffffff") {
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(piece).collect();
        let expected = String::from_utf8(bytes)
            .unwrap_or_else(|error| error.as_bytes().iter().map(|b| char::from(*b)).collect());
        assert_eq!(decoded, expected);
    }
    let mut encoded = String::new();
    query::encode_into(&mut encoded, &decoded);
    assert_eq!(query::decode(&encoded), decoded);
    let by_others = percent_encoding::percent_decode_str(&encoded)
        .decode_utf8()
        .expect("it was UTF-8");
    assert_eq!(by_others, decoded);
}
