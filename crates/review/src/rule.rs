//! The rules, by id.

pub mod texts;

use serde::Serialize;

/// The severity of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object can't be served, or no machine can do what it says.
    Error,
    /// The object is allowed, but is probably not what the author meant.
    Warning,
}

/// A rule. The documentation gives its reason and source.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// The id: lower-case words joined by dashes. Stable.
    pub id: &'static str,
    /// The severity.
    pub severity: Severity,
    /// The finding, as a sentence.
    pub summary: &'static str,
}

macro_rules! rules {
    ($($name:ident $severity:ident $id:literal $summary:literal)*) => {
        $(#[doc = $summary] pub static $name: Rule = Rule { id: $id, severity: Severity::$severity, summary: $summary };)*
        /// All rules, in the order of the documentation.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    FILE Error "file" "A file can't be read, or is not YAML or JSON in UTF-8."
    SCHEMA Error "schema" "A field is unknown, or its value has the wrong type or size."
    CONVERSION Error "conversion" "A field has a value that can't be used."
    TEMPLATE Error "template" "A template does not parse, or refers to something that does not exist."
    DUPLICATE_OBJECT Error "duplicate-object" "The same object is defined more than once."
    RENDER Error "render" "A template fails to render for a sample machine, or exceeds the limits."
    NO_MANIFESTS Error "no-manifests" "The checked files contain no Profile or Assignment."
    UNRENDERED Warning "unrendered" "A kustomization or chart was not rendered before the check."
    CONFLICT Warning "conflict" "Only age or name decides between two Assignments that match the same machine."
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
    SHEBANG Warning "ipxe-shebang" "A script starts with #!ipxe."
    TOO_MANY_WORDS Error "ipxe-too-many-words" "A command has at most 255 words, a line fewer than 500."
    MANY_WORDS Warning "ipxe-many-words" "A line has at most 200 words."
    LONG_LINE Warning "ipxe-long-line" "A line has at most 4,096 bytes."
    NON_ASCII Warning "ipxe-non-ascii" "A command is written in printable ASCII."
    CONTROL_CHARACTER Warning "ipxe-control-character" "A line holds no control characters."
    GLUED_OPERATOR Warning "ipxe-glued-operator" "||, && and ; are words of their own."
    GLUED_COMMENT Warning "ipxe-glued-comment" "The # of a comment starts a word."
    URL_FRAGMENT Warning "ipxe-url-fragment" "A URL has no #."
    EXIT_IN_RETRY Warning "ipxe-exit-in-retry" "A retry loop is not left at the first failure."
    NO_INITRD Warning "ipxe-kernel-without-initrd" "A Linux kernel that gets an initrd is told its name with initrd=."
    INITRD_NAME Warning "ipxe-initrd-name" "initrd= names an image that was fetched."
    UNKNOWN_COMMAND Warning "ipxe-unknown-command" "A command is one that iPXE has."
    NO_SUCH_LABEL Error "ipxe-no-such-label" "goto leads to a label of the same script."
    DUPLICATE_LABEL Warning "ipxe-duplicate-label" "A label is there once."
    UNCLOSED_SETTING Warning "ipxe-unclosed-setting" "${ and } stand in one word."
    SETTING_TYPE Warning "ipxe-setting-type" "${setting:type} has a type that iPXE knows."
    NEVER_EQUAL Warning "ipxe-never-equal" "iseq compares a setting with a value that it can have."
    QUOTES Warning "ipxe-quotes" "A command does not count on quotation marks."
    BACKSLASH_SPACE Warning "ipxe-backslash-space" "A backslash that joins lines is the last character."
    ONE_WORD Warning "ipxe-one-word" "A setting of several words is not used as a URL with arguments."
}

/// Returns the rule with this id.
pub fn named(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id == id)
}
