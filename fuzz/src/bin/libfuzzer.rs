//! The entry point for libFuzzer: runs the target that `SHAPER_FUZZ_TARGET` names. `cargo xtask
//! fuzz` builds and runs it.

#![no_main]
#![allow(
    missing_docs,
    reason = "the macro makes a function that libFuzzer calls from C"
)]

use std::sync::LazyLock;

static TARGET: LazyLock<&fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("SHAPER_FUZZ_TARGET").expect("SHAPER_FUZZ_TARGET names a target");
    fuzz::TARGETS
        .iter()
        .find(|target| target.name == name)
        .expect("SHAPER_FUZZ_TARGET names one of fuzz::TARGETS")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
