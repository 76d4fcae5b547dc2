//! The rules, by id: those about objects, defined here, and those about scripts ([`ipxe::rule`]).

pub mod texts;

pub use ipxe::rule::{Rule, Severity};

ipxe::rules! {
    FILE Error "file" "A file can't be read, or is not YAML or JSON in UTF-8."
    SCHEMA Error "schema" "A field is unknown, or its value has the wrong type or size."
    CONVERSION Error "conversion" "A field has a value that can't be used."
    TEMPLATE Error "template" "A template does not parse, or refers to something that does not exist."
    DUPLICATE_OBJECT Error "duplicate-object" "The same object is defined more than once."
    OBJECT_SIZE Warning "object-size" "A Profile is larger than what a cluster takes by default."
    RENDER Error "render" "A template fails to render for a sample machine, or exceeds the limits."
    CLOUD_CONFIG Warning "cloud-config" "A config for cloud-init is not a YAML map."
    RAW_LABEL Warning "raw-label" "A machine's label reaches a config outside of a filter of its format."
    HOST_FROM_LABEL Warning "host-from-label" "A machine may choose the host of a URL."
    NO_MANIFESTS Error "no-manifests" "The checked files contain no object of shaper."
    UNRENDERED Warning "unrendered" "A kustomization or chart was not rendered before the check."
    CONFLICT Warning "conflict" "Only age or name decides between two Assignments that match the same machine."
    MACHINE_CONFLICT Warning "machine-conflict" "Two Machines claim one identity."
    NO_PROFILE Warning "no-profile" "An Assignment selects no Profile."
    NO_PROFILE_FOR_ARCH Warning "no-profile-for-arch" "An Assignment selects no Profile for some architectures."
    UNUSED_PROFILE Warning "unused-profile" "No Assignment selects a Profile."
    PLACEHOLDER Warning "placeholder" "A selector names a placeholder identity that many boards share."
    NEVER_MATCHES Warning "never-matches" "No machine can meet all label requirements of an Assignment."
    LABEL_KEY Warning "label-key" "A label key looks like a typo of a known key."
    UNKNOWN_ARCHITECTURE Warning "unknown-architecture" "iPXE does not know the architecture."
    SHARED_IDENTITY Warning "shared-identity" "Two Assignments name the same machine."
    LOSES_PROFILE Warning "loses-profile" "A change leaves some machines without a Profile."
    MOVES_MACHINES Warning "moves-machines" "A change gives some machines another Profile."
    INCOMPLETE_CHECK Warning "incomplete-check" "The check ran out of time before it was complete."
}

/// Returns all rules, in the order of the documentation.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(ipxe::rule::RULES).copied()
}

/// Returns the rule with this id.
pub fn named(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}
