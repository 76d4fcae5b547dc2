//! What must hold for whatever strangers send and authors write.
//!
//! Each [`Target`] takes any bytes and panics where a promise is broken. `cargo xtask fuzz` searches for such bytes, led by coverage;
//! `tests/corpus.rs` tries what was found before, and some random bytes, with every run of the tests. A target's corpus is
//! `corpus/NAME/`: inputs that reach different code, and each that once broke a promise.

#![forbid(unsafe_code)]

mod answer;
mod certificates;
mod feed;
mod http;
mod identity;
mod labels;
mod manifests;
mod query;
mod raw_target;
mod reviews;
mod script;
mod selection;
mod template;
#[path = "../../crates/tftp/tests/hostile/properties.rs"]
mod tftp;

/// A promise about some bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Panics where the promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "answer",
        run: answer::answer,
    },
    Target {
        name: "certificates",
        run: certificates::certificates,
    },
    Target {
        name: "feed",
        run: feed::feed,
    },
    Target {
        name: "http",
        run: http::http,
    },
    Target {
        name: "identity",
        run: identity::identity,
    },
    Target {
        name: "labels",
        run: labels::labels,
    },
    Target {
        name: "manifests",
        run: manifests::manifests,
    },
    Target {
        name: "query",
        run: query::query,
    },
    Target {
        name: "raw_target",
        run: raw_target::raw_target,
    },
    Target {
        name: "reviews",
        run: reviews::reviews,
    },
    Target {
        name: "script",
        run: script::script,
    },
    Target {
        name: "selection",
        run: selection::selection,
    },
    Target {
        name: "template",
        run: template::template,
    },
    Target {
        name: "tftp_packet",
        run: tftp::packet,
    },
    Target {
        name: "tftp_transfers",
        run: tftp::transfers,
    },
];

/// The id of the config that all targets serve. No error text may hold it.
const CONFIG_ID: &str = "c0ff1900-5ec2-4e75-8a11-0f0e0d0c0b0a";

/// An error text is a sentence for a person: not endless, and without the id of a config.
fn check_error(text: &str) {
    assert!(
        !text.is_empty() && text.len() <= 4096,
        "an error of {} bytes: {text:.200}",
        text.len()
    );
    assert!(
        !text.contains(CONFIG_ID),
        "an error holds a config's id: {text}"
    );
}

/// The same to a client that knows the id: what it says where no id belongs may come back.
fn check_error_to(client: &[u8], text: &str) {
    let said = String::from_utf8_lossy(client).replace(&format!("/config/{CONFIG_ID}"), "");
    if !said.contains(CONFIG_ID) {
        check_error(text);
    }
}
