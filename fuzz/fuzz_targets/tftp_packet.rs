//! Any bytes as a packet.

#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tftp/tests/hostile/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::packet(bytes));
