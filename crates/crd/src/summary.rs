//! Selectors in a few words, for a column of `kubectl get`.

use std::fmt::Write as _;

use crate::assignment::{LabelRequirement, SubjectSelectors};

/// More than this and labels are only counted; a single identity is cut.
const LONGEST: usize = 60;

impl SubjectSelectors {
    /// Which machines these are, in short, for `status.subject`: one identity as it is written, more of them counted, labels in
    /// the syntax of `kubectl --selector` or counted, and `every machine` where nothing is asked. At most 256 characters.
    pub fn summary(&self) -> String {
        let identities = [
            identities("uuid", "uuids", &self.uuids),
            identities("serial number", "serial numbers", &self.serial_numbers),
            identities("mac", "macs", &self.mac_addresses),
        ];
        let parts: Vec<_> = identities.into_iter().chain([self.labels()]).flatten().collect();
        if parts.is_empty() { "every machine".to_owned() } else { parts.join(", ") }
    }

    fn labels(&self) -> Option<String> {
        let equal = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let all: Vec<_> = equal.chain(self.match_expressions.iter().map(requirement)).collect();
        match (all.len(), printable(&all.join(","))) {
            (0, _) => None,
            (_, text) if text.chars().count() <= LONGEST => Some(text),
            (1, _) => Some("1 label".to_owned()),
            (count, _) => Some(format!("{count} labels")),
        }
    }
}

fn identities(one: &str, several: &str, values: &[String]) -> Option<String> {
    match values {
        [] => None,
        [value] => Some(format!("{one} {}", cut(&printable(value.trim())))),
        values => Some(format!("{} {several}", values.len())),
    }
}

fn requirement(requirement: &LabelRequirement) -> String {
    let LabelRequirement { key, operator, values } = requirement;
    let values = values.join(",");
    match operator.as_str() {
        "Exists" => key.clone(),
        "DoesNotExist" => format!("!{key}"),
        "NotIn" => format!("{key} notin ({values})"),
        _ => format!("{key} in ({values})"),
    }
}

/// A terminal must not obey what somebody wrote into a serial number.
fn printable(text: &str) -> String {
    text.chars().fold(String::new(), |mut printable, char| {
        // Writing to a String never fails.
        let _ = if char.is_control() { write!(printable, "{}", char.escape_default()) } else { write!(printable, "{char}") };
        printable
    })
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(yaml: &str) -> String {
        let selectors: SubjectSelectors = serde_saphyr::from_str(yaml).unwrap();
        selectors.summary()
    }

    #[test]
    fn selectors_are_told_in_a_few_words() {
        assert_eq!(of("{}"), "every machine");
        assert_eq!(of("{uuids: [47c6da67-7477-4970-aa03-84e48ff4f6ad]}"), "uuid 47c6da67-7477-4970-aa03-84e48ff4f6ad");
        assert_eq!(of("{uuids: [a, b, c], serialNumbers: [' 7XK '], macAddresses: [a, b]}"), "3 uuids, serial number 7XK, 2 macs");
        assert_eq!(of("{uuids: [a], matchLabels: {region: us-cal}}"), "uuid a, region=us-cal");
        let expressions = "{matchExpressions: [{key: product, operator: In, values: [R640, R650]}, {key: a, operator: Exists}, \
            {key: b, operator: DoesNotExist}, {key: c, operator: NotIn, values: [x]}]}";
        assert_eq!(of(expressions), "product in (R640,R650),a,!b,c notin (x)");
    }

    #[test]
    fn a_summary_stays_short_and_holds_nothing_that_a_terminal_obeys() {
        let long = "x".repeat(256);
        assert!(of(&format!("{{serialNumbers: [{long}], matchLabels: {{product: {long}}}}}")).ends_with("x…, 1 label"));
        assert_eq!(of("{serialNumbers: [\"a\\e[2Jb\"]}"), "serial number a\\u{1b}[2Jb");
        let worst = format!("{{uuids: [{long}], serialNumbers: [{long}], macAddresses: [{long}], matchLabels: {{a: {long}, b: b}}}}");
        assert!(of(&worst).chars().count() <= 256, "{}", of(&worst));
    }
}
