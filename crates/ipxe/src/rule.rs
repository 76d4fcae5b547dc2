//! The rules of the linter, by id.

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

/// Defines a static [`Rule`] for each `NAME Severity "id" "summary"`, and the list `RULES` of all.
#[macro_export]
macro_rules! rules {
    ($($name:ident $severity:ident $id:literal $summary:literal)*) => {
        $(
            #[doc = $summary]
            pub static $name: $crate::rule::Rule = $crate::rule::Rule {
                id: $id,
                severity: $crate::rule::Severity::$severity,
                summary: $summary,
            };
        )*
        /// The rules defined here, in the order of the documentation.
        pub static RULES: &[&$crate::rule::Rule] = &[$(&$name),*];
    };
}

rules! {
    SHEBANG Warning "ipxe-shebang" "A script does not start with #!ipxe."
    TOO_MANY_WORDS Error "ipxe-too-many-words" "A command has more than 255 words, or a line 500 or more."
    MANY_WORDS Warning "ipxe-many-words" "A line has more than 200 words."
    LONG_LINE Warning "ipxe-long-line" "A line is longer than 4,096 bytes."
    NON_ASCII Warning "ipxe-non-ascii" "A command contains characters outside ASCII."
    CONTROL_CHARACTER Warning "ipxe-control-character" "A line contains a control character."
    GLUED_OPERATOR Warning "ipxe-glued-operator" "An operator (||, && or ;) is part of another word."
    GLUED_COMMENT Warning "ipxe-glued-comment" "The # of a comment is part of the word before it."
    URL_FRAGMENT Warning "ipxe-url-fragment" "A URL contains a #."
    EXIT_IN_RETRY Warning "ipxe-exit-in-retry" "The first failure leaves a retry loop."
    NO_INITRD Warning "ipxe-kernel-without-initrd" "A Linux kernel is not told the name of its initrd."
    INITRD_NAME Warning "ipxe-initrd-name" "initrd= names an image that the script does not fetch."
    UNKNOWN_COMMAND Warning "ipxe-unknown-command" "iPXE does not have the command."
    NO_SUCH_LABEL Error "ipxe-no-such-label" "goto leads to a label that the script does not have."
    DUPLICATE_LABEL Warning "ipxe-duplicate-label" "A label is defined twice."
    UNCLOSED_SETTING Warning "ipxe-unclosed-setting" "A word contains ${ without its }."
    SETTING_TYPE Warning "ipxe-setting-type" "iPXE does not have the type of a setting."
    NEVER_EQUAL Warning "ipxe-never-equal" "iseq compares a setting with a value that it never has."
    QUOTES Warning "ipxe-quotes" "An argument starts with a quotation mark."
    BACKSLASH_SPACE Warning "ipxe-backslash-space" "White space follows the backslash that joins two lines."
    ONE_WORD Warning "ipxe-one-word" "A setting of several words is used as a URL with arguments."
    COMMAND_LINE Warning "ipxe-command-line" "Linux cuts the kernel's command line."
    NOCLOUD_SEED Error "ipxe-nocloud-seed" "The seed URL of cloud-init is not a folder."
    NOCLOUD_NET Warning "ipxe-nocloud-net" "Old versions of cloud-init ignore the seed URL."
}
