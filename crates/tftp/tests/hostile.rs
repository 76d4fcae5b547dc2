//! Arbitrary bytes and datagram sequences cause no panic and exceed no limit. The fuzz targets
//! check the same properties for longer.

#[path = "hostile/properties.rs"]
mod properties;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_packet_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        properties::packet(&bytes);
    }

    #[test]
    fn bytes_after_an_opcode_are_a_packet_or_an_error(opcode in 0_u8..9, bytes in "[a-z0-9\\x00]{0,200}") {
        properties::packet(&[&[0, opcode], bytes.as_bytes()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_datagrams_respects_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
        properties::transfers(&bytes);
    }
}
