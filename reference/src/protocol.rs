//! The Rust code of the feed's protocol, generated without protoc.

use std::path::Path;

/// Generates messages, client and server from `proto/`.
pub(crate) fn rust() -> String {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto");
    let files = protox::compile(["shaper/feed/v1/feed.proto"], [&proto])
        .unwrap_or_else(|error| panic!("the protocol does not compile: {error}"));
    let out = tempfile::tempdir().expect("a temporary directory can be made");
    tonic_prost_build::configure()
        .btree_map(".")
        .out_dir(out.path())
        .compile_fds(files)
        .expect("the code can be generated");
    std::fs::read_to_string(out.path().join("shaper.feed.v1.rs")).expect("the code was generated")
}
