//! What memory is taken from is set when it is built, by a file that is easily lost.

#![cfg(all(feature = "jemalloc", target_arch = "x86_64"))]

use std::process::Command;

#[test]
fn memory_is_asked_for_in_large_pages() {
    // It says all that it was told, and where, before anything else.
    let shaper = Command::new(env!("CARGO_BIN_EXE_shaper"))
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "confirm_conf:true")
        .output();
    let said = String::from_utf8(shaper.expect("it starts").stderr).expect("it is ASCII");
    for value in ["thp:always", "narenas:2"] {
        let line = format!("<jemalloc>: -- Set conf value: {value}");
        assert!(
            said.lines().any(|other| other == line),
            "{line} is not in what it says, so .cargo/config.toml did not reach its build:\n{said}"
        );
    }
}
