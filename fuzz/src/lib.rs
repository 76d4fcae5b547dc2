//! Fuzz targets: what must hold for any bytes that strangers send or authors write.
//!
//! Each [`Target`] takes arbitrary bytes and panics if a promise is broken. `cargo xtask fuzz`
//! searches for such bytes, guided by coverage. `tests/corpus.rs` runs the corpora and random
//! mutations of them with every test run. A target's corpus, `corpus/NAME/`, holds inputs that
//! reach different code and every input that once broke a promise.

#![forbid(unsafe_code)]

mod answer;
mod certificates;
mod config;
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

/// A promise about arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name, which is also that of the corpus.
    pub name: &'static str,
    /// Panics if the promise is broken.
    pub run: fn(&[u8]),
}

/// All targets.
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
        name: "config",
        run: config::config,
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

/// The id of the config that all targets serve. No error text may contain it.
const CONFIG_ID: &str = "c0ff1900-5ec2-4e75-8a11-0f0e0d0c0b0a";

/// Checks that an error text is of reasonable length and doesn't contain a config's id.
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

/// Like [`check_error`], for a client that sent the id itself: its own words may come back.
fn check_error_to(client: &[u8], text: &str) {
    let said = String::from_utf8_lossy(client).replace(&format!("/config/{CONFIG_ID}"), "");
    if !said.contains(CONFIG_ID) {
        check_error(text);
    }
}
