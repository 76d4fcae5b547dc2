//! Any sequence of datagrams and of time that goes by.

#![no_main]

#[allow(dead_code)]
#[path = "../../crates/tftp/tests/hostile/properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::transfers(bytes));
