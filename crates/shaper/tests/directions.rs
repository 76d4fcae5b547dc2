//! Checks the layering of the workspace: each crate may use only the crates listed for it, and
//! nothing forbidden may be among its dependencies.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// For each crate of the workspace: the workspace crates that it may depend on, directly or not,
/// and the crates that must not be among its dependencies at all.
const LAYERS: &[(&str, &[&str], &[&str])] = &[
    (
        "boot",
        &[],
        &[
            "tokio",
            "hyper",
            "kube",
            "kube-core",
            "k8s-openapi",
            "tonic",
            "reqwest",
        ],
    ),
    ("crd", &["boot"], &["tokio", "hyper", "kube-client"]),
    (
        "ipxe",
        &["boot"],
        &["tokio", "hyper", "kube-core", "k8s-openapi"],
    ),
    (
        "review",
        &["boot", "crd", "ipxe"],
        &["tokio", "hyper", "kube-client"],
    ),
    (
        "admission",
        &["boot", "crd", "ipxe", "review"],
        &["tokio", "hyper", "kube-client", "ring", "openssl"],
    ),
    (
        "files",
        &[],
        &["tokio", "hyper", "http", "kube", "kube-core", "k8s-openapi"],
    ),
    (
        "places",
        &[],
        &["tokio", "hyper", "http", "kube", "kube-core", "k8s-openapi"],
    ),
    (
        "tls",
        &["files"],
        &[
            "kube",
            "kube-core",
            "kube-client",
            "k8s-openapi",
            "hyper",
            "tonic",
            "ring",
            "openssl",
        ],
    ),
    (
        "net",
        &["files", "places", "tls"],
        &[
            "kube",
            "kube-core",
            "kube-client",
            "k8s-openapi",
            "tonic",
            "ring",
            "openssl",
        ],
    ),
    (
        "feed",
        &["boot", "files", "net", "places", "tls"],
        &[
            "kube",
            "kube-core",
            "kube-client",
            "k8s-openapi",
            "ring",
            "openssl",
        ],
    ),
    (
        "api",
        &["boot", "files", "net", "places", "tls"],
        &[
            "kube",
            "kube-core",
            "kube-client",
            "k8s-openapi",
            "ring",
            "openssl",
        ],
    ),
    // It contains no Kubernetes client, only kube's macros and types.
    (
        "webhook",
        &[
            "admission",
            "boot",
            "crd",
            "files",
            "ipxe",
            "net",
            "places",
            "review",
            "tls",
        ],
        &["kube-client", "kube-runtime", "reqwest", "ring", "openssl"],
    ),
    (
        "tftp",
        &["files", "places"],
        &["tokio", "hyper", "http", "kube", "kube-core", "k8s-openapi"],
    ),
    (
        "controller",
        &["boot", "crd", "feed", "files", "net", "places", "tls"],
        &["api", "ring", "openssl"],
    ),
    (
        "manifests",
        &[
            "boot", "crd", "feed", "files", "ipxe", "net", "places", "review", "tls",
        ],
        &["kube-client", "ring", "openssl"],
    ),
    (
        "inspect",
        &[
            "api",
            "boot",
            "crd",
            "feed",
            "files",
            "ipxe",
            "manifests",
            "net",
            "places",
            "review",
            "tls",
        ],
        &["kube-client", "ring", "openssl"],
    ),
    (
        "shaper",
        &[
            "admission",
            "api",
            "boot",
            "controller",
            "crd",
            "feed",
            "files",
            "inspect",
            "ipxe",
            "manifests",
            "net",
            "places",
            "review",
            "tftp",
            "tls",
            "webhook",
        ],
        &["ring", "openssl"],
    ),
    // For tests and measurements only, so no other crate may use it.
    (
        "fake-apiserver",
        &[],
        &["kube", "kube-core", "k8s-openapi", "ring", "openssl"],
    ),
    ("e2e", &[], &["kube", "hyper"]),
    (
        "fuzz",
        &[
            "admission",
            "api",
            "boot",
            "crd",
            "feed",
            "files",
            "ipxe",
            "manifests",
            "net",
            "places",
            "review",
            "tftp",
            "tls",
        ],
        &[],
    ),
    (
        "bench",
        &[
            "admission",
            "boot",
            "crd",
            "e2e",
            "fake-apiserver",
            "feed",
            "files",
            "ipxe",
            "net",
            "places",
            "review",
            "tftp",
            "tls",
        ],
        &[],
    ),
    // Only `cargo xtask generate` runs it, so that nothing else waits for these dependencies.
    (
        "reference",
        &[
            "admission",
            "api",
            "boot",
            "controller",
            "crd",
            "feed",
            "files",
            "inspect",
            "ipxe",
            "manifests",
            "net",
            "places",
            "review",
            "shaper",
            "tftp",
            "tls",
            "webhook",
        ],
        &[],
    ),
    // It is built before everything else: see Cargo.toml.
    ("xtask", &["e2e"], &["kube", "hyper", "rustls"]),
];

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");

fn cargo(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(args)
        .args(["--locked", "--manifest-path", MANIFEST])
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Returns the names of the workspace's crates.
fn members() -> BTreeSet<String> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"]))
            .expect("cargo prints JSON");
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the names of all dependencies of a crate that is resolved alone: features that other
/// crates of the workspace enable don't count.
fn below(name: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--package",
        name,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.filter(|below| below != name).collect()
}

#[test]
fn each_crate_uses_only_the_layers_below_it() {
    let members = members();
    let listed: BTreeSet<_> = LAYERS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(members, listed, "a new crate needs a line in LAYERS");
    for (name, may_use, must_not) in LAYERS {
        let below = below(name);
        let used: Vec<_> = members
            .intersection(&below)
            .filter(|used| !may_use.contains(&used.as_str()))
            .collect();
        assert!(used.is_empty(), "{name} must not use {used:?}");
        let forbidden: Vec<_> = must_not
            .iter()
            .filter(|crate_| below.contains(**crate_))
            .collect();
        assert!(
            forbidden.is_empty(),
            "{name} must not have {forbidden:?} below it"
        );
    }
}
