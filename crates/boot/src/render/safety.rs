//! Which values of a machine are plain text where a template writes them.
//!
//! A machine's own labels are claims of a stranger. The operator's labels are trusted like the
//! operator's templates.

use std::fmt;
use std::net::IpAddr;

use crate::bytes;
use crate::config_format::{ConfigFormat, Syntax};
use crate::config_name::ConfigName;
use crate::subject::Subject;
use crate::template::access;
use crate::template::reach::Reach;

/// Why the name of a label is unsafe.
pub(super) const UNSAFE_KEY: &str = "has a name that is not plain text";
/// Why a value is unsafe everywhere.
const CONTROL_CHARACTERS: &str = "contains control characters";

/// A label that the machine sent can't be used where the template uses it, because it would be read
/// as more than text there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unsafe {
    /// The label's key.
    pub label: String,
    /// What is unsafe about its value.
    pub why: &'static str,
    /// The config, or `None` for the script.
    pub config: Option<(ConfigName, Syntax)>,
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, why, config } = self;
        write!(
            f,
            "label {label:?} of this machine {why}, so it can't be used in "
        )?;
        let (name, syntax) = match config {
            None => {
                return write!(
                    f,
                    "an iPXE script; write {{{{ {} }}}} in the template instead{}",
                    access("encoded", label),
                    if why.contains("://") {
                        format!(
                            ", or {{{{ {} }}}} if it is an operator's label",
                            access("extrinsic", label)
                        )
                    } else {
                        String::new()
                    }
                );
            }
            Some((name, syntax)) => (name, *syntax),
        };
        write!(f, "config {name} ({syntax}); ")?;
        if *why == CONTROL_CHARACTERS || syntax == Syntax::Ipxe {
            return write!(
                f,
                "write {{{{ {} }}}} in the template instead, or fix the label",
                access("encoded", label)
            );
        }
        if syntax == Syntax::Unknown {
            return write!(
                f,
                "name the format in spec.configFormats.{name}, and write the filter of that format in the template: toyaml, tojson or shquote"
            );
        }
        let (label, filter) = (access("subject", label), syntax.filter());
        let place = syntax.filter_place();
        write!(
            f,
            "write {{{{ {label} | {filter} }}}} in the template, {place}"
        )
    }
}

/// Where a template writes a machine's label.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// The script.
    Script,
    /// A config.
    Config(&'a ConfigName, Syntax),
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Returns the place of a template: a config, or the script.
    pub(super) fn of(config: Option<&'a (ConfigName, Syntax)>) -> Self {
        config.map_or(Self::Script, |(name, syntax)| Self::Config(name, *syntax))
    }

    /// Returns why a value is unsafe here, if it reaches the text like this.
    #[inline]
    fn reason(self, value: &str, reach: Reach) -> Option<&'static str> {
        match self {
            Self::Config(_, Syntax::Known(ConfigFormat::Text)) => control_characters(value),
            _ if reach == Reach::Escaped => control_characters(value),
            Self::Script | Self::Config(_, Syntax::Ipxe) => script_reason(value, reach),
            Self::Config(_, syntax) => config_reason(value, syntax, reach),
        }
    }

    /// Checks the value of a label.
    pub(super) fn check(
        self,
        subject: &Subject,
        key: &str,
        value: &str,
        reach: Reach,
    ) -> Result<(), Unsafe> {
        match self.reason(value, reach) {
            Some(why) if subject.extrinsic(key).is_none() => Err(self.rejected(key, why)),
            _ => Ok(()),
        }
    }

    /// Checks the key of a label, which the machine chose as well.
    pub(super) fn check_key(
        self,
        subject: &Subject,
        key: &str,
        reach: Reach,
    ) -> Result<(), Unsafe> {
        self.check(subject, key, key, reach)
            .map_err(|_| self.rejected(key, UNSAFE_KEY))
    }

    fn rejected(self, key: &str, why: &'static str) -> Unsafe {
        Unsafe {
            label: key.to_owned(),
            why,
            config: match self {
                Self::Script => None,
                Self::Config(name, syntax) => Some((name.clone(), syntax)),
            },
        }
    }
}

fn control_characters(value: &str) -> Option<&'static str> {
    let has_some = if value.is_ascii() {
        value.bytes().any(|byte| byte.is_ascii_control())
    } else {
        value.chars().any(char::is_control)
    };
    has_some.then_some(CONTROL_CHARACTERS)
}

/// Returns why a value is not plain text in a config of this syntax, wherever in it a template
/// writes the value: bare, in quotation marks of either kind, in a list, in a comment.
///
/// Plain text are words of letters, digits and `_ . : / @ + -`. In YAML and JSON, `=` and one space
/// between words are plain as well. A word does not start with `-`, which would be an option or a list
/// item, nor end with `:`, which would be a key. For a value that the template takes apart, see
/// [`altered_reason`].
fn config_reason(value: &str, syntax: Syntax, reach: Reach) -> Option<&'static str> {
    let divides_words = syntax.divides_words();
    // Fast path: nearly all values.
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    if bytes::all(value.as_bytes(), is_usual) && !value.starts_with('.') {
        return None;
    }
    let is_plain = if divides_words {
        is_plain_word(value, |c| {
            // A `/` could end a pattern of sed.
            let may_be_path =
                syntax != Syntax::Known(ConfigFormat::Shell) || value.starts_with("/dev/");
            c.is_ascii_alphanumeric() || "_.:@+-".contains(c) || c == '/' && may_be_path
        })
    } else {
        value
            .split(' ')
            .all(|word| is_plain_word(word, |c| c.is_alphanumeric() || "_.:/@+-=".contains(c)))
    };
    if is_plain {
        return altered_reason(value, reach, divides_words);
    }
    Some(control_characters(value).unwrap_or(match syntax {
        Syntax::Known(ConfigFormat::Yaml) => "is not plain text in YAML",
        Syntax::Known(ConfigFormat::Json) => "is not plain text in JSON",
        Syntax::Known(ConfigFormat::Shell) => "is not a plain word for a shell",
        Syntax::Known(ConfigFormat::Kickstart) => "is not a plain word in kickstart",
        _ => "is not plain text in every format",
    }))
}

fn is_plain_word(word: &str, is_plain: impl Fn(char) -> bool) -> bool {
    word.starts_with(|c: char| c.is_alphanumeric() || "_/+".contains(c))
        && !word.ends_with([':', '-'])
        && !word.contains("//")
        && word.chars().all(is_plain)
}

/// Returns why a part of the value may not be plain text, if the template cuts it anywhere and
/// inserts text between the parts.
///
/// Plain text are letters, digits and `_ .`, with `-` between two of them; a UUID, a MAC and an IP
/// address also have `:`, which otherwise could make the start of a URL or a key. `may_be_option`
/// says that a word which starts with `-` means something.
fn altered_reason(value: &str, reach: Reach, may_be_option: bool) -> Option<&'static str> {
    if reach < Reach::Altered {
        return None;
    }
    let is_address = is_address(value);
    let is_plain = |c: char| {
        let is_letter = if reach == Reach::AlteredWord {
            c.is_ascii_alphanumeric()
        } else {
            c.is_alphanumeric()
        };
        is_letter || "_. ".contains(c) || c == ':' && is_address
    };
    let is_after_dash = |c: char| {
        if may_be_option && !is_address {
            c.is_numeric()
        } else {
            c.is_alphanumeric()
        }
    };
    let mut parts = value.split('-').peekable();
    let mut are_plain = true;
    while let Some(part) = parts.next() {
        are_plain &= part.chars().all(is_plain);
        if let Some(next) = parts.peek() {
            are_plain &= part.ends_with(char::is_alphanumeric) && next.starts_with(is_after_dash);
        }
    }
    if !are_plain {
        return Some(
            "is changed by the template, and contains more than letters, digits, spaces, _ . and single -",
        );
    }
    (reach == Reach::AlteredWord && value.contains(' ')).then_some(DIVIDED)
}

/// Whether a value is an IP address, or has the form of a UUID or a MAC.
fn is_address(value: &str) -> bool {
    let is_hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    value.parse::<IpAddr>().is_ok()
        || value.split(':').all(is_hex)
        || value
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Why a value is unsafe in the arguments of a command.
const DIVIDED: &str = "contains white space, which would make it more than one argument";

/// Returns why a value is not a word in the arguments of a command. Linux splits its command line
/// at every byte that is white space in Latin-1, and reads quotation marks (`linux:lib/cmdline.c`).
fn word_reason(value: &str) -> Option<&'static str> {
    let is_address = is_address(value);
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || b"_./@+-".contains(&byte) || byte == b':' && is_address
    };
    if bytes::all(value.as_bytes(), is_plain) {
        None
    } else if value.contains(char::is_whitespace) {
        Some(DIVIDED)
    } else {
        Some(
            "contains more than ASCII letters, digits and _ . / @ + - in the arguments of a command",
        )
    }
}

/// Marks the bytes that are plain text to iPXE in any context, except `/`, which may begin a host.
/// Values are short, so a table is faster than comparisons.
static IS_SAFE: [bool; 256] = {
    let mut is_safe = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let at = byte as usize;
        is_safe[at] =
            byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'.' | b':' | b'-' | b'_');
        byte += 1;
    }
    is_safe
};

/// Returns why iPXE would not read this value as plain text (`ipxe:src/core/exec.c`). iPXE splits a
/// line at white space, then looks for words that end or join commands, then repeatedly expands
/// `${...}`.
fn script_reason(value: &str, reach: Reach) -> Option<&'static str> {
    // Fast path: nearly all values.
    if reach <= Reach::Word
        && bytes::all(value.as_bytes(), |byte| IS_SAFE[usize::from(byte)])
        && !value.starts_with(['-', ' '])
        && !value.ends_with([':', ' '])
        && (reach == Reach::Raw || word_reason(value).is_none())
    {
        return None;
    }
    if value.chars().any(char::is_control) {
        return Some("contains control characters");
    }
    let whole = value;
    // A template may trim it.
    let value = value.trim();
    if value.contains("://") {
        return Some(
            "contains ://, so that it could choose the server that the machine boots from",
        );
    }
    if value.starts_with("//") || value.ends_with(':') || value.ends_with(":/") {
        return Some(
            "contains a part of ://, so that it could choose the server that the machine boots from",
        );
    }
    if value.starts_with('-') && value[1..].starts_with(|c: char| c == '-' || c.is_alphabetic()) {
        return Some("starts with -, which iPXE would read as an option");
    }
    // A trailing `$` or a leading `{` could form `${` with adjacent text.
    if value.contains("${") || value.ends_with('$') || value.starts_with('{') {
        return Some("contains ${ or a part of it, which iPXE would expand");
    }
    // Inside a value, an operator must be a whole word ("Smith & Co" is fine); at its ends, it may
    // be part of one.
    let may_be_operator =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b"|&;".contains(&b));
    let (first, last) = (
        value.split(char::is_whitespace).next(),
        value.rsplit(char::is_whitespace).next(),
    );
    if value
        .split_whitespace()
        .any(|word| matches!(word, "||" | "&&" | ";"))
        || [first, last].into_iter().flatten().any(may_be_operator)
    {
        return Some("contains a word that iPXE would read as the end of a command (||, && or ;)");
    }
    if value.split_whitespace().any(|word| word.starts_with('#')) {
        return Some(
            "contains a word that starts with #, after which iPXE ignores the rest of the line",
        );
    }
    if value.ends_with('\\') {
        return Some("ends with \\, which would join the next line");
    }
    match reach {
        Reach::Word => word_reason(whole),
        _ => altered_reason(whole, reach, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: Syntax = Syntax::Known(ConfigFormat::Yaml);
    const SHELL: Syntax = Syntax::Known(ConfigFormat::Shell);

    #[test]
    fn what_machines_usually_present_is_plain_text_in_yaml() {
        for value in [
            "web-1",
            "web-1.lab.example",
            "PowerEdge R640",
            "Dell Inc.",
            "52:54:00:12:34:56",
            "47c6da67-7477-4970-aa03-84e48ff4f6ad",
            "2001:db8::1",
            "/dev/sda",
            "a=b",
            "Lager Süd 4",
            "a + b",
        ] {
            assert_eq!(config_reason(value, YAML, Reach::Raw), None, "{value}");
        }
    }

    #[test]
    fn what_a_format_could_read_as_more_than_text_is_not_plain() {
        for value in [
            "a: b",
            "a:",
            "-",
            "- a",
            "a - b",
            "-rf",
            "---",
            "a #b",
            "#",
            "a  b",
            " a",
            "a ",
            "[a]",
            "{a}",
            "a, b",
            "'",
            "\"",
            "\\",
            "`",
            "$x",
            "a;b",
            "a|b",
            "a&b",
            "a>b",
            "!x",
            "*x",
            "%x",
            "?x",
            "~",
            "@x",
            "...",
            "=",
            "http://evil.example",
            "//x",
            "a\u{2028}b",
            "a\u{feff}",
        ] {
            for syntax in [YAML, SHELL, Syntax::Unknown] {
                assert!(
                    config_reason(value, syntax, Reach::Raw).is_some(),
                    "{value}"
                );
            }
        }
        for value in ["a b", "a=b", "ü"] {
            for syntax in [SHELL, Syntax::Unknown] {
                assert!(
                    config_reason(value, syntax, Reach::Word).is_some(),
                    "{value}"
                );
            }
        }
    }

    #[test]
    fn a_value_with_control_characters_says_so() {
        for syntax in [
            YAML,
            SHELL,
            Syntax::Unknown,
            Syntax::Known(ConfigFormat::Text),
        ] {
            let name = "config0".parse().unwrap();
            for value in ["a\nb", "\u{1b}[2J", "a\u{85}", "\u{7f}"] {
                let place = Place::Config(&name, syntax);
                for reach in [Reach::Escaped, Reach::Raw, Reach::AlteredWord] {
                    assert_eq!(place.reason(value, reach), Some(CONTROL_CHARACTERS));
                }
            }
        }
    }
}
