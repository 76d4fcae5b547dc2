//! Checks that an API server can hold an object.

use std::io;

use boot::ObjectRef;
use crd::FieldPath;
use serde::Serialize;

use crate::finding::Finding;
use crate::rule;

/// The largest object that etcd takes by default, in bytes (`--max-request-bytes`). Kubernetes
/// stores custom resources as JSON.
const MAX_BYTES: usize = 1536 * 1024;
/// With less text than this, an object can't be too large: JSON escapes a byte with six.
const SMALL_BYTES: usize = MAX_BYTES / 8;

/// Counts what is written.
#[derive(Default)]
struct Counter(usize);

/// Reports a Profile that is too large for a cluster.
pub(super) fn check(name: &ObjectRef, profile: &crd::Profile, findings: &mut Vec<Finding>) {
    let texts = profile.spec.additional_config.values();
    let text_bytes = profile.spec.ipxe.len() + texts.map(String::len).sum::<usize>();
    if text_bytes < SMALL_BYTES {
        return;
    }
    let bytes = json_bytes(profile);
    if bytes <= MAX_BYTES {
        return;
    }
    let tenths = bytes * 10 / (1024 * 1024);
    let message = format!(
        "the Profile has {}.{} MiB as JSON; by default, etcd takes 1.5 MiB for an object, and an API server 3 MiB for a request",
        tenths / 10,
        tenths % 10
    );
    findings.push(
        Finding::new(&rule::OBJECT_SIZE, name, FieldPath::new(["spec"]), message).help(
            "divide it into several Profiles, or let the system fetch large files from elsewhere",
        ),
    );
}

fn json_bytes(object: &impl Serialize) -> usize {
    let mut counter = Counter::default();
    // A resource has no keys that JSON can't have.
    serde_json::to_writer(&mut counter, object).map_or(0, |()| counter.0)
}

// === impl Counter ===

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(configs: usize, bytes: usize) -> Vec<Finding> {
        let text = "\n".repeat(bytes);
        let configs: serde_json::Map<_, _> = (0..configs)
            .map(|at| (format!("c{at}"), text.clone().into()))
            .collect();
        let profile = serde_json::json!({
            "apiVersion": crd::API_VERSION,
            "kind": "Profile",
            "metadata": { "name": "p", "namespace": "n" },
            "spec": { "ipxe": "#!ipxe\n", "additionalConfig": configs },
        });
        let profile = serde_json::from_value(profile).expect("a Profile");
        crate::profile(&profile).findings
    }

    #[test]
    fn a_profile_that_etcd_does_not_take_is_reported() {
        // A newline is two bytes of JSON.
        let found = findings(8, 110 * 1024);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].rule.id, "object-size");
        assert!(
            found[0].message.starts_with("the Profile has 1.7 MiB"),
            "{found:?}"
        );
        assert_eq!(findings(8, 90 * 1024), []);
    }
}
