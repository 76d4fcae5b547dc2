//! `/config/{uuid}`: the configs that scripts link to.
//!
//! | path | response |
//! |---|---|
//! | `/config/ID?LABELS` | the config, rendered for the machine with these labels |
//! | `/config/ID/LABELS/user-data` | the same, for clients that only take a directory, such as cloud-init's `NoCloud` |
//! | `/config/ID/LABELS/meta-data` | the config `meta_data` of the same Profile, or a default made from the labels |
//! | `/config/ID/LABELS/vendor-data`, `network-config` | the config `vendor_data` or `network_config` of the same Profile, or an empty text |
//!
//! `LABELS/` is optional in each.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use boot::printable::is_printable;
use boot::{Catalog, ConfigName, ExtrinsicLabels, Profile, Subject, render};
use uuid::Uuid;

use crate::answer::{Answer, Choice, Outcome, Route};
use crate::base_url::BaseUrl;

const ROUTE: Route = Route::Config;

/// The parsed path below `/config/`.
struct ConfigPath<'a> {
    id: Uuid,
    labels: &'a str,
    file: Option<&'a str>,
}

pub(crate) fn answer<'c>(
    extrinsic: &ExtrinsicLabels,
    catalog: Option<&'c Arc<Catalog>>,
    path: &str,
    query: &str,
    base_url: &BaseUrl,
) -> Answer<'c> {
    let Some(catalog) = catalog else {
        return Answer::not_synced(ROUTE);
    };
    let Some(path) = ConfigPath::parse(path, query) else {
        let reason = "unknown path; use /config/{uuid} with the id from the script's link, optionally followed by /user-data, /meta-data, /vendor-data or /network-config";
        return Answer::failure(ROUTE, Outcome::NoConfig, reason.to_owned());
    };
    let subject = match catalog.subject(path.labels, extrinsic) {
        Ok(subject) => Arc::new(subject),
        Err(error) => return Answer::bad_query(ROUTE, path.labels, &error),
    };
    let (profile, name) = match catalog.config(path.id) {
        Ok(config) => config,
        Err(error) => return Answer::no_config(ROUTE, &error).with_subject(subject),
    };
    if let Some(rejected) = catalog.rejected_profile(profile) {
        let reason = format!(
            "{} is invalid, so this machine waits until it is fixed: {}",
            rejected.name(),
            rejected.fault
        );
        return Answer {
            choice: choice(profile, Some(name)),
            ..Answer::failure(ROUTE, Outcome::NotAccepted, reason)
        }
        .with_subject(subject);
    }
    let name = match path.file.unwrap_or("user-data") {
        "user-data" => name,
        file => match (nocloud_config(profile, file), file) {
            (Some(name), _) => name,
            (None, "meta-data") => return meta_data(profile, subject),
            // Both files are optional. If they are missing, cloud-init retries for ten seconds at
            // each boot, so answer with an empty file instead of 404.
            (None, _) => {
                return Answer {
                    choice: choice(profile, None),
                    ..Answer::text(ROUTE, String::new())
                }
                .with_subject(subject);
            }
        },
    };
    let uses_assignment = profile
        .templates
        .config_uses(name.as_str())
        .is_some_and(|uses| uses.assignment);
    let selected = uses_assignment
        .then(|| catalog.select_ref(&subject).ok())
        .flatten()
        // Ignore an Assignment that meanwhile gives the machine another Profile.
        .filter(|selected| selected.profile.key == profile.key);
    let assignment = selected.map(|selected| selected.assignment);
    let answer = match render::config(profile, name, &subject, assignment, base_url.as_str()) {
        Ok(text) => Answer::text(ROUTE, text),
        Err(error) => Answer::not_rendered(ROUTE, &error, profile),
    };
    let choice = Choice {
        assignment: selected.map(|selected| (Cow::Borrowed(selected.assignment), selected.by)),
        ..choice(profile, Some(name))
    };
    Answer { choice, ..answer }.with_subject(subject)
}

fn choice<'c>(profile: &'c Arc<Profile>, config: Option<&'c ConfigName>) -> Choice<'c> {
    Choice {
        assignment: None,
        profile: Some(Cow::Borrowed(profile)),
        config: config.map(Cow::Borrowed),
    }
}

/// Returns the config for one of `NoCloud`'s files: `meta-data` is the config `meta_data` or
/// `metaData`.
fn nocloud_config<'p>(profile: &'p Profile, file: &str) -> Option<&'p ConfigName> {
    let (first, second) = file.split_once('-')?;
    let mut camel = String::from(first);
    for (at, letter) in second.char_indices() {
        camel.push(if at == 0 {
            letter.to_ascii_uppercase()
        } else {
            letter
        });
    }
    profile
        .templates
        .config_named(&format!("{first}_{second}"))
        .or_else(|| profile.templates.config_named(&camel))
}

/// Builds the default `meta-data` of a Profile that has no such config. `NoCloud` requires one: its
/// instance-id tells a first boot from later ones.
fn meta_data(profile: &Arc<Profile>, subject: Arc<Subject>) -> Answer<'_> {
    let instance = ["uuid", "serial", "mac"]
        .iter()
        .find_map(|identity| subject.label(identity))
        .unwrap_or(&profile.key.name);
    let mut text = format!("instance-id: {}\n", quoted(instance));
    if let Some(hostname) = subject.label("hostname") {
        writeln!(text, "local-hostname: {}", quoted(hostname)).expect("a String takes all text");
    }
    Answer {
        choice: choice(profile, None),
        ..Answer::text(ROUTE, text)
    }
    .with_subject(subject)
}

/// Quotes a text for YAML and JSON. Escapes everything that is not printable: YAML forbids some of
/// it (YAML 1.2.2, 5.1), and the file is shown on terminals.
fn quoted(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        if is_printable(c) {
            quoted.push(c);
        } else {
            // All of these characters are in the basic plane.
            write!(quoted, "\\u{:04x}", u32::from(c)).expect("a String takes all text");
        }
    }
    quoted
}

impl<'a> ConfigPath<'a> {
    /// Parses a path without empty segments.
    fn parse(path: &'a str, query: &'a str) -> Option<Self> {
        let mut segments = path.strip_prefix("/config/")?.split('/');
        let id = boot::identity::parse_uuid(segments.next()?)?;
        let rest: Vec<_> = segments.collect();
        let (labels, file) = match rest[..] {
            [] => (None, None),
            [labels] if labels.contains('=') => (Some(labels), None),
            [file] => (None, Some(file)),
            [labels, file] if labels.contains('=') => (Some(labels), Some(file)),
            _ => return None,
        };
        let is_known = matches!(
            file,
            None | Some("user-data" | "meta-data" | "vendor-data" | "network-config")
        );
        is_known.then(|| Self {
            id,
            labels: labels.unwrap_or(query),
            file,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_printable_and_reads_back_the_same() {
        let hostile = "a\"b\\\n\u{1b}\u{7f}\u{9b}\u{202e}\u{2028}ä";
        let quoted = quoted(hostile);
        assert!(quoted.chars().all(is_printable), "{quoted:?}");
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), hostile);
        assert!(
            quoted.ends_with("\\u007f\\u009b\\u202e\\u2028ä\""),
            "{quoted}"
        );
    }
}
