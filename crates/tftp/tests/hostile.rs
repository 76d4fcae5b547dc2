//! Any bytes, and any sequence of datagrams: no panic, no limit exceeded. Fuzzing tries the same for longer.

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
    fn bytes_that_begin_as_packets_are_one_or_an_error(opcode in 0_u8..9, bytes in "[a-z0-9\\x00]{0,200}") {
        properties::packet(&[&[0, opcode], bytes.as_bytes()].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_datagrams_keeps_to_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
        properties::transfers(&bytes);
    }
}
