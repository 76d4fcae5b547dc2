//! All rules, by name.

use serde::Serialize;

/// How bad it is when a rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It can't work: the object is not served, or no machine can do what it says.
    Error,
    /// It is allowed, and probably not what was meant.
    Warning,
}

/// One rule. The docs give its reason and its source.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name: lower-case words with dashes, which never changes.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it asks for, in a sentence.
    pub summary: &'static str,
}

macro_rules! rules {
    ($($name:ident $severity:ident $id:literal $summary:literal)*) => {
        $(#[doc = $summary] pub static $name: Rule = Rule { id: $id, severity: Severity::$severity, summary: $summary };)*
        /// Every rule there is, in the order of the docs.
        pub static ALL: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    FILE Error "file" "A file is readable, is UTF-8 and holds YAML or JSON."
    SCHEMA Error "schema" "Each field is known and holds a value of its type and size."
    CONVERSION Error "conversion" "Each field holds what it can mean."
    TEMPLATE Error "template" "A template parses and names only what exists."
    DUPLICATE_OBJECT Error "duplicate-object" "An object is there once."
    RENDER Error "render" "A template renders for a machine of each architecture, within what one answer may cost."
    NO_MANIFESTS Error "no-manifests" "What is checked holds Profiles or Assignments."
    UNRENDERED Warning "unrendered" "What makes manifests is rendered before it is checked."
    CONFLICT Warning "conflict" "Not only age or name decides between two Assignments for one machine."
    NO_PROFILE Warning "no-profile" "An Assignment finds a Profile."
    NO_PROFILE_FOR_ARCH Warning "no-profile-for-arch" "An Assignment finds a Profile for each architecture."
    UNUSED_PROFILE Warning "unused-profile" "A Profile is selected by an Assignment."
    PLACEHOLDER Warning "placeholder" "A selector names no identity that many boards share."
    NEVER_MATCHES Warning "never-matches" "The label requirements of an Assignment can hold all at once."
    LABEL_KEY Warning "label-key" "A label key is not a mistyped one that is known."
    UNKNOWN_ARCHITECTURE Warning "unknown-architecture" "An architecture is one that iPXE knows."
    SHARED_IDENTITY Warning "shared-identity" "A machine is named by one Assignment."
    LOSES_PROFILE Warning "loses-profile" "A change takes no machine its Profile."
    MOVES_MACHINES Warning "moves-machines" "A change gives no machine another Profile than it has."
    INCOMPLETE_CHECK Warning "incomplete-check" "All can be tried in the time that an answer has."
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

/// The rule of this name.
pub fn named(id: &str) -> Option<&'static Rule> {
    ALL.iter().copied().find(|rule| rule.id == id)
}
