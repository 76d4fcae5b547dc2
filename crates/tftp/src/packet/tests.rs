use super::*;
use proptest::prelude::*;

fn request(bytes: &[u8]) -> Result<Request<'_>, Malformed> {
    match Packet::parse(bytes)? {
        Packet::Read(request) => Ok(request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_from_ipxe_is_parsed() {
    let asked = request(b"\0\x01ipxe.efi\0octet\0blksize\x001432\0tsize\x000\0").unwrap();
    assert_eq!(asked.file, b"ipxe.efi");
    assert_eq!(asked.mode, Mode::Octet);
    assert_eq!(
        asked.options,
        Options {
            blksize: Some(1432),
            tsize: Some(0),
            ..Options::default()
        }
    );
}

#[test]
fn modes_and_options_ignore_case_and_unknown_options_are_skipped() {
    let asked =
        request(b"\0\x01a\0OcTeT\0BLKSIZE\x001468\0rollover\x000\0multicast\0\0WindowSize\x004\0")
            .unwrap();
    assert_eq!(asked.mode, Mode::Octet);
    assert_eq!(
        asked.options,
        Options {
            blksize: Some(1468),
            windowsize: Some(4),
            ..Options::default()
        }
    );
    assert_eq!(
        request(b"\0\x01a\0netascii\0").unwrap().mode,
        Mode::Netascii
    );
    assert_eq!(request(b"\0\x01a\0mail\0").unwrap().mode, Mode::Other);
}

#[test]
fn padding_after_the_name_and_at_the_end_is_ignored() {
    let asked = request(b"\0\x01boot.efi\0\0\0\0octet\0tsize\x000\0\0\0\0\0").unwrap();
    assert_eq!(asked.file, b"boot.efi");
    assert_eq!(asked.options.tsize, Some(0));
}

#[test]
fn an_option_value_outside_its_range_is_an_error() {
    for (option, values) in [
        (
            "blksize",
            &[
                "0",
                "7",
                "65465",
                "18446744073709551616",
                "-1",
                "+9",
                "",
                "1 432",
                "0x200",
            ][..],
        ),
        ("timeout", &["0", "256", "18446744073709551616", "x"]),
        ("tsize", &["18446744073709551616", "-1", ""]),
        ("windowsize", &["0", "65536", "18446744073709551616"]),
    ] {
        for value in values {
            let bytes = [
                b"\0\x01a\0octet\0",
                option.as_bytes(),
                b"\0",
                value.as_bytes(),
                b"\0",
            ]
            .concat();
            let error = request(&bytes).unwrap_err();
            assert!(
                matches!(error, Malformed::Option(InvalidOption(name)) if name == option),
                "{option}={value:?}: {error:?}"
            );
        }
    }
}

#[test]
fn a_truncated_request_is_malformed_or_has_fewer_options() {
    let whole = b"\0\x01ipxe.efi\0octet\0blksize\x001432\0tsize\x000\0";
    for end in 0..whole.len() {
        match request(&whole[..end]) {
            Ok(asked) => assert!(asked.options.tsize.is_none(), "{end}"),
            Err(error) => assert!(
                matches!(error, Malformed::Short | Malformed::Request),
                "{end}: {error:?}"
            ),
        }
    }
}

#[test]
fn short_and_unknown_packets_are_malformed() {
    for bytes in [
        &b""[..],
        b"\0",
        b"\0\x03",
        b"\0\x03\0",
        b"\0\x04\0",
        b"\0\x05\0",
    ] {
        assert_eq!(Packet::parse(bytes), Err(Malformed::Short), "{bytes:?}");
    }
    for bytes in [b"\0\0..", b"\0\x07..", b"\xff\xff.."] {
        assert_eq!(Packet::parse(bytes), Err(Malformed::Opcode), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn a_parsed_packet_survives_a_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(packet) = Packet::parse(&bytes) {
            let mut written = Vec::new();
            packet.write(&mut written);
            prop_assert_eq!(Packet::parse(&written).unwrap(), packet);
        }
    }

    #[test]
    fn a_request_survives_a_round_trip(
        file in proptest::collection::vec(1_u8.., 0..300),
        blksize in proptest::option::of(8_u16..=65_464),
        timeout in proptest::option::of(1_u8..),
        tsize in proptest::option::of(any::<u64>()),
        windowsize in proptest::option::of(1_u16..),
    ) {
        let packet = Packet::Read(Request { file: &file, mode: Mode::Octet, options: Options { blksize, timeout, tsize, windowsize } });
        let mut written = Vec::new();
        packet.write(&mut written);
        prop_assert_eq!(Packet::parse(&written).unwrap(), packet);
    }
}
