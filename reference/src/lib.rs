//! The files of the repository that are generated from code.
//!
//! | file | from |
//! |---|---|
//! | `config/crd/*.yaml` | the types of `crd` |
//! | `config/webhook/*.yaml` | `admission::Registration` |
//! | `config/openapi.json` | `api::openapi` |
//! | `crates/feed/src/proto/shaper.feed.v1.rs` | `proto/shaper/feed/v1/feed.proto` |
//! | `docs/reference/flags.md` | the command line of `shaper` |
//! | `docs/reference/resources.md` | the definitions of `crd`, and the conditions of `controller` |
//! | `docs/reference/metrics.md` | what each role registers |
//! | `docs/reference/http.md` | `api::openapi`, and the paths of the admin port |
//! | `docs/reference/admission.md`, `docs/reference/linter.md` | the rules of `review` and their texts |
//!
//! `cargo xtask generate` writes them all; a test fails while a committed file differs.

mod flags;
mod http;
mod markdown;
mod metrics;
mod protocol;
mod resources;
mod rules;

/// Returns every generated file: its path from the root of the repository, and its text.
pub fn files() -> Vec<(String, String)> {
    let definitions = crd::manifests()
        .into_iter()
        .map(|(name, text)| (format!("config/crd/{name}"), text));
    let webhook = admission::Registration::default()
        .manifests()
        .into_iter()
        .map(|(name, text)| (format!("config/webhook/{name}"), text));
    let pages = [
        ("flags", flags::page()),
        ("resources", resources::page()),
        ("metrics", metrics::page()),
        ("http", http::page()),
        ("admission", rules::admission_page()),
        ("linter", rules::linter_page()),
    ];
    definitions
        .chain(webhook)
        .chain([
            ("config/openapi.json".to_owned(), api::openapi().to_owned()),
            (
                "crates/feed/src/proto/shaper.feed.v1.rs".to_owned(),
                protocol::rust(),
            ),
        ])
        .chain(pages.map(|(name, text)| (format!("docs/reference/{name}.md"), text)))
        .collect()
}
