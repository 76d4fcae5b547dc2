//! A room may use only the rooms below it: the directions between crates, checked against what cargo resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Each crate of the workspace, the crates of the workspace that it may use, and what must not be below it at all.
const ROOMS: &[(&str, &[&str], &[&str])] = &[
    ("boot", &[], &["tokio", "hyper", "kube", "kube-core", "k8s-openapi", "tonic", "reqwest"]),
    ("crd", &["boot"], &["tokio", "hyper", "kube-client"]),
    ("tls", &[], &["kube", "kube-core", "kube-client", "k8s-openapi", "hyper", "tonic", "ring", "openssl"]),
    ("feed", &["boot", "tls"], &["kube", "kube-core", "kube-client", "k8s-openapi", "ring", "openssl"]),
    ("api", &["boot", "tls"], &["kube", "kube-core", "kube-client", "k8s-openapi", "ring", "openssl"]),
    ("tftp", &[], &["tokio", "hyper", "http", "kube", "kube-core", "k8s-openapi"]),
    ("controller", &["boot", "crd", "feed", "tls"], &["api", "ring", "openssl"]),
    ("shaper", &["api", "boot", "controller", "crd", "feed", "tftp", "tls"], &["ring", "openssl"]),
    // Only ever a dev-dependency, which is why nobody below may use it.
    ("fake-apiserver", &[], &["kube", "kube-core", "k8s-openapi", "ring", "openssl"]),
    ("e2e", &[], &["kube", "hyper"]),
    ("xtask", &["api", "boot", "crd", "e2e", "tftp"], &[]),
];

struct Graph {
    names: BTreeMap<String, String>,
    uses: BTreeMap<String, Vec<String>>,
    members: Vec<String>,
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let is_normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        Self {
            names: list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect(),
            uses: list(&metadata["resolve"]["nodes"])
                .iter()
                .map(|node| {
                    let deps = list(&node["deps"]).iter().filter(|dep| is_normal(dep)).map(|dep| text(&dep["pkg"])).collect();
                    (text(&node["id"]), deps)
                })
                .collect(),
            members: list(&metadata["workspace_members"]).iter().map(text).collect(),
        }
    }

    fn member(&self, name: &str) -> &str {
        self.members.iter().find(|id| self.names[*id] == name).unwrap_or_else(|| panic!("there is no crate {name}"))
    }

    /// The names of all crates below one, and of those that it uses itself.
    fn below(&self, id: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            for used in &self.uses[id] {
                if seen.insert(used.as_str()) {
                    next.push(used);
                }
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

#[test]
fn each_crate_uses_only_those_below_it() {
    let graph = Graph::read();
    let members: BTreeSet<_> = graph.members.iter().map(|id| graph.names[id].as_str()).collect();
    let rooms: BTreeSet<_> = ROOMS.iter().map(|(name, ..)| *name).collect();
    assert_eq!(members, rooms, "a new crate needs a line in ROOMS");
    for (name, may_use, must_not) in ROOMS {
        let below = graph.below(graph.member(name));
        let used: Vec<_> = members.intersection(&below).filter(|used| !may_use.contains(used)).collect();
        assert!(used.is_empty(), "{name} must not use {used:?}");
        let forbidden: Vec<_> = must_not.iter().filter(|crate_| below.contains(**crate_)).collect();
        assert!(forbidden.is_empty(), "{name} must not have {forbidden:?} below it");
    }
}
