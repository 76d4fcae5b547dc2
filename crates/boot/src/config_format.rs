//! Formats of configs. The format decides which values are plain text in a config, and which
//! filter escapes the others.

use std::fmt;
use std::str::FromStr;

use crate::config_name::ConfigName;
use crate::nearest::did_you_mean;

/// A format that a Profile can declare for a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigFormat {
    /// YAML: cloud-init, Butane, netplan, Talos.
    Yaml,
    /// JSON: Ignition.
    Json,
    /// A script for `sh` or a shell like it.
    Shell,
    /// Kickstart, as Anaconda reads it.
    Kickstart,
    /// Text without a syntax.
    Text,
}

/// The text is not the name of a format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}{hint}; known formats: {known}", hint = did_you_mean(.0, names()), known = names().collect::<Vec<_>>().join(", "))]
pub struct UnknownFormat(String);

/// The syntax of a config, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// The Profile declares it, or the first line or the name shows it.
    Known(ConfigFormat),
    /// An iPXE script. Its values are checked like those of `spec.ipxe`.
    Ipxe,
    /// A file with `[sections]`: TOML, units of systemd, INI.
    Sections,
    /// A language whose quotation marks no filter escapes: Python, Perl, PowerShell, XML.
    OtherLanguage,
    /// Nothing shows it. Only values that are plain text in every format are safe.
    Unknown,
}

/// Interpreters of shell scripts.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox"];

fn names() -> impl Iterator<Item = &'static str> {
    ConfigFormat::ALL.into_iter().map(ConfigFormat::name)
}

// === impl ConfigFormat ===

impl ConfigFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [
        Self::Yaml,
        Self::Json,
        Self::Shell,
        Self::Kickstart,
        Self::Text,
    ];

    /// Returns the name that users write.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Shell => "shell",
            Self::Kickstart => "kickstart",
            Self::Text => "text",
        }
    }
}

impl FromStr for ConfigFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| UnknownFormat(text.chars().take(40).collect()))
    }
}

impl fmt::Display for ConfigFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Syntax ===

impl Syntax {
    /// Returns the syntax of a config: the declared one; else what the first line of the template
    /// says; else what the last word of the name says, as in `user_data_yaml` or `setupSh`.
    pub fn of(name: &ConfigName, source: &str, declared: Option<ConfigFormat>) -> Self {
        if let Some(format) = declared {
            return Self::Known(format);
        }
        let start = first_text(source);
        of_first_line(start)
            .or_else(|| of_name(name).map(Self::Known))
            .unwrap_or_else(|| of_first_key(start))
    }

    /// Returns the filter that escapes a value.
    pub fn filter(self) -> &'static str {
        match self {
            Self::Known(ConfigFormat::Yaml) => "toyaml",
            Self::Known(ConfigFormat::Shell | ConfigFormat::Kickstart) => "shquote",
            Self::Known(ConfigFormat::Json | ConfigFormat::Text)
            | Self::Sections
            | Self::Unknown => "tojson",
            Self::Ipxe | Self::OtherLanguage => "urlencode",
        }
    }

    /// Returns where the format reads what that filter writes.
    pub fn filter_place(self) -> &'static str {
        match self {
            Self::Known(ConfigFormat::Shell | ConfigFormat::Kickstart) => {
                "outside of quotation marks and here documents"
            }
            Self::OtherLanguage => "and decode it there",
            _ => "as a whole value, without quotation marks around it",
        }
    }

    /// Returns whether white space divides a value of this syntax into words, or may do so.
    pub(crate) fn divides_words(self) -> bool {
        match self {
            Self::Known(ConfigFormat::Shell | ConfigFormat::Kickstart)
            | Self::Sections
            | Self::OtherLanguage
            | Self::Unknown => true,
            Self::Known(ConfigFormat::Yaml | ConfigFormat::Json | ConfigFormat::Text)
            | Self::Ipxe => false,
        }
    }

    /// Returns whether the output of a filter is one value of this syntax, whatever its input.
    pub(crate) fn is_escaped_by(self, filter: &str) -> bool {
        match self {
            Self::Known(ConfigFormat::Yaml | ConfigFormat::Json) => {
                matches!(filter, "tojson" | "toyaml")
            }
            Self::Known(ConfigFormat::Shell | ConfigFormat::Kickstart) => filter == "shquote",
            Self::Sections => filter == "tojson",
            // The author knows which of them fits.
            Self::Unknown | Self::Known(ConfigFormat::Text) => {
                matches!(filter, "tojson" | "toyaml" | "shquote")
            }
            Self::Ipxe | Self::OtherLanguage => false,
        }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Known(ConfigFormat::Yaml) => "YAML",
            Self::Known(ConfigFormat::Json) => "JSON",
            Self::Known(ConfigFormat::Shell) => "a shell script",
            Self::Known(ConfigFormat::Kickstart) => "kickstart",
            Self::Known(ConfigFormat::Text) => "text",
            Self::Ipxe => "an iPXE script",
            Self::Sections => "a file with sections",
            Self::OtherLanguage => "a language without a filter of its own",
            Self::Unknown => "an unknown format",
        })
    }
}

/// Returns a template's source from its first text or expression on: without byte order mark,
/// blank lines and statements of the template, and the texts that are set to variables.
fn first_text(source: &str) -> &str {
    let mut rest = source.trim_start_matches('\u{feff}').trim_start();
    loop {
        let Some(statement) = rest.strip_prefix("{%") else {
            return rest;
        };
        let Some((statement, after)) = statement.split_once("%}") else {
            return rest;
        };
        let statement = statement.trim_start_matches(['-', '+']).trim_start();
        let is_block = statement.starts_with("set ") && !statement.contains('=');
        let text = if is_block {
            let ended = after.split_once("endset");
            ended.and_then(|(_, after)| after.split_once("%}"))
        } else {
            Some(("", after))
        };
        let Some((_, after)) = text else {
            return after;
        };
        rest = after.trim_start();
    }
}

/// Returns whether the command line of an interpreter runs a shell.
pub(crate) fn is_shell(interpreter: &str) -> bool {
    interpreter
        .split([' ', '\t', '/'])
        .any(|word| SHELLS.contains(&word))
}

fn of_first_line(start: &str) -> Option<Syntax> {
    let line = start.lines().next().unwrap_or_default().trim_end();
    let known = |format| Some(Syntax::Known(format));
    if let Some(interpreter) = line.strip_prefix("#!") {
        if interpreter == "ipxe" || interpreter.starts_with("ipxe ") {
            return Some(Syntax::Ipxe);
        }
        return Some(if is_shell(interpreter) {
            Syntax::Known(ConfigFormat::Shell)
        } else {
            Syntax::OtherLanguage
        });
    }
    match line {
        _ if line.starts_with("#cloud-config") => known(ConfigFormat::Yaml),
        // cloud-init renders the rest, which has a first line of its own.
        "## template: jinja" => {
            let rest = start.split_once('\n').map_or("", |(_, rest)| rest);
            of_first_line(rest).or_else(|| known(ConfigFormat::Yaml))
        }
        // Parts of several formats (RFC 2045).
        _ if ["Content-Type:", "MIME-Version:"].iter().any(|header| {
            line.get(..header.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(header))
        }) =>
        {
            Some(Syntax::Unknown)
        }
        "#cloud-boothook" => known(ConfigFormat::Shell),
        "---" => known(ConfigFormat::Yaml),
        _ if line.starts_with("%YAML") => known(ConfigFormat::Yaml),
        _ if line.starts_with("#version=") || line.starts_with('%') => {
            known(ConfigFormat::Kickstart)
        }
        // PowerShell and batch files (cloudbase-init), XML.
        _ if ["#ps1", "rem cmd", "@echo", "<"]
            .iter()
            .any(|it| line.starts_with(it)) =>
        {
            Some(Syntax::OtherLanguage)
        }
        _ if line.starts_with('{') && !line.starts_with("{{") => known(ConfigFormat::Json),
        "[" => known(ConfigFormat::Json),
        _ if ["[{", "[\"", "[["].iter().any(|it| line.starts_with(it)) => known(ConfigFormat::Json),
        _ if is_section(line) => Some(Syntax::Sections),
        _ => None,
    }
}

/// Returns whether a line begins a section, as `[Unit]` does.
fn is_section(line: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|name| {
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_. ".contains(&b))
        })
}

/// A config's name has no dot; its last word takes the place of an extension.
fn of_name(name: &ConfigName) -> Option<ConfigFormat> {
    let last = name.as_str().rsplit('_').next().unwrap_or_default();
    let hump = last
        .rfind(|c: char| c.is_ascii_uppercase())
        .map_or(last, |at| &last[at..]);
    match hump.to_ascii_lowercase().as_str() {
        "yaml" | "yml" | "bu" | "butane" => Some(ConfigFormat::Yaml),
        "json" | "ign" | "ignition" => Some(ConfigFormat::Json),
        "sh" | "bash" => Some(ConfigFormat::Shell),
        "ks" | "kickstart" => Some(ConfigFormat::Kickstart),
        "txt" | "text" => Some(ConfigFormat::Text),
        _ => None,
    }
}

/// A text whose first line, apart from comments, is `key:` or `key: value` is YAML.
fn of_first_key(start: &str) -> Syntax {
    let first = start
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .unwrap_or_default();
    let is_key = |key: &str| {
        !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match first.split_once(':') {
        Some((key, rest)) if is_key(key) && (rest.is_empty() || rest.starts_with(' ')) => {
            Syntax::Known(ConfigFormat::Yaml)
        }
        _ => Syntax::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, source: &str) -> Syntax {
        Syntax::of(&name.parse().expect("a name"), source, None)
    }

    #[test]
    fn the_first_line_shows_the_format() {
        use ConfigFormat::{Json, Kickstart, Shell, Yaml};
        for (source, format) in [
            ("#cloud-config\nhostname: x\n", Yaml),
            ("\u{feff}\n#cloud-config\n", Yaml),
            ("{% set x = 1 %}\n{% raw %}\n#cloud-config\n", Yaml),
            ("## template: jinja\n#cloud-config\n", Yaml),
            (
                "{%- set x %}\n#!/bin/sh\n{% endset -%}\n#cloud-config\n",
                Yaml,
            ),
            (
                "{% set x %}{% if y %}a{% endif %}{% endset %}{% if z %}{\n{% endif %}",
                Json,
            ),
            ("---\nversion: 2\n", Yaml),
            ("# netplan\nnetwork:\n  version: 2\n", Yaml),
            ("variant: flatcar\n", Yaml),
            ("{\"ignition\": {}}", Json),
            ("{\n", Json),
            ("[\n", Json),
            ("[{\"a\": 1}]", Json),
            ("#!/bin/sh\n", Shell),
            ("#!/usr/bin/env bash\n", Shell),
            ("#!/bin/bash -eu\n", Shell),
            ("#cloud-boothook\n#!/bin/sh\n", Shell),
            ("#version=RHEL9\n", Kickstart),
            ("%pre\n", Kickstart),
        ] {
            assert_eq!(of("config0", source), Syntax::Known(format), "{source:?}");
        }
        assert_eq!(of("config0", "#!ipxe\nboot\n"), Syntax::Ipxe);
        for source in [
            "#!/usr/bin/python3\n",
            "#!/usr/bin/env perl\n",
            "#ps1_sysnative\n",
            "<?xml version=\"1.0\"?>\n",
        ] {
            assert_eq!(of("ks", source), Syntax::OtherLanguage, "{source:?}");
        }
        assert_eq!(of("unit", "[Unit]\nDescription=x\n"), Syntax::Sections);
        for source in ["", "d-i netcfg/get_hostname string x\n", "{{ subject.x }}"] {
            assert_eq!(of("config0", source), Syntax::Unknown, "{source:?}");
        }
    }

    #[test]
    fn the_last_word_of_the_name_shows_the_format_where_the_first_line_does_not() {
        use ConfigFormat::{Json, Kickstart, Shell, Text, Yaml};
        for (name, format) in [
            ("user_data_yaml", Yaml),
            ("userYml", Yaml),
            ("ignition", Json),
            ("hostJson", Json),
            ("setup_sh", Shell),
            ("ks", Kickstart),
            ("motd_txt", Text),
        ] {
            assert_eq!(of(name, "lang en_US\n"), Syntax::Known(format), "{name}");
        }
        assert_eq!(of("userData", "lang en_US\n"), Syntax::Unknown);
        assert_eq!(of("ks", "#!/bin/sh\n"), Syntax::Known(Shell));
    }

    #[test]
    fn a_declared_format_precedes_all_others() {
        let name = "ks".parse().expect("a name");
        for format in ConfigFormat::ALL {
            assert_eq!(
                Syntax::of(&name, "#!/bin/sh\n", Some(format)),
                Syntax::Known(format)
            );
        }
    }

    #[test]
    fn an_unknown_format_gets_a_hint() {
        assert_eq!(
            "yml".parse::<ConfigFormat>().unwrap_err().to_string(),
            "unknown format \"yml\" (did you mean `yaml`?); known formats: yaml, json, shell, kickstart, text"
        );
        for format in ConfigFormat::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
    }
}
