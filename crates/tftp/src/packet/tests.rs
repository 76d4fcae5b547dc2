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
fn an_option_value_that_is_too_large_is_clamped_and_one_that_means_nothing_is_ignored() {
    let parse = |option: &str, value: &str| {
        let bytes = format!("\0\x01a\0octet\0{option}\0{value}\0");
        request(bytes.as_bytes()).unwrap().options
    };
    for value in ["0", "7", "-1", "+9", "", "1 432", "0x200"] {
        assert_eq!(parse("blksize", value).blksize, None, "{value:?}");
    }
    for value in ["65464", "65465", "65536", "18446744073709551616"] {
        assert_eq!(parse("blksize", value).blksize, Some(65_464), "{value}");
    }
    for value in ["0", "256", "18446744073709551616", "x", ""] {
        assert_eq!(parse("timeout", value).timeout, None, "{value:?}");
    }
    for value in ["0", "-1", "", "x"] {
        assert_eq!(parse("tsize", value).tsize, Some(0), "{value:?}");
    }
    for value in ["0", "", "-1"] {
        assert_eq!(parse("windowsize", value).windowsize, None, "{value:?}");
    }
    assert_eq!(parse("windowsize", "65536").windowsize, Some(65_535));
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
