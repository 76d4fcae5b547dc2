//! Tests of parsing and writing subjects.

use proptest::prelude::*;

use crate::query;

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
    let error = parse("uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&serial=1&serial=2").unwrap_err();
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
        let position = |key: &str| BOOTSTRAP_LABELS.iter().position(|known| *known == key).map_or(3.5, |at| at as f32);
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
