//! Checks the YAML of `#cloud-config`, which cloud-init ignores as a whole if it is broken.

use granit_parser::{Event, Parser};

/// The first line by which cloud-init knows the format (`cloudinit/handlers/cloud_config.py`).
const HEADER: &str = "#cloud-config";

/// What is wrong with a text, and the line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Returns the first fault of a rendered config. A config of another format has none.
pub(super) fn check(text: &str) -> Option<Fault> {
    // cloud-init looks for the header at the start of the first line.
    let start = text.trim_start_matches([' ', '\t', '\r', '\n', '\u{feff}']);
    if start.lines().next().unwrap_or_default().trim_end() != HEADER {
        return None;
    }
    let above = &text[..text.len() - start.len()];
    if above.contains([' ', '\t', '\r', '\n']) {
        return Some(Fault {
            line: above.matches('\n').count() + 1,
            message: format!(
                "cloud-init ignores the whole config: {HEADER} must be at the start of the first line"
            ),
        });
    }
    let fault = |line: usize, what: &str| {
        Some(Fault {
            line,
            message: format!("cloud-init ignores the whole config: {what}"),
        })
    };
    let mut is_first = true;
    let options = granit_parser::options! { emit_comments: false };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let what = format!("it is not valid YAML: {}", error.info());
                return fault(error.marker().line().max(1), &what);
            }
        };
        if matches!(
            event,
            Event::StreamStart | Event::DocumentStart(..) | Event::StreamEnd
        ) {
            continue;
        }
        if is_first && !matches!(event, Event::MappingStart(..) | Event::DocumentEnd) {
            let line = span.start.line().max(1);
            return fault(line, "it is not a YAML map");
        }
        is_first = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_cloud_configs_and_other_formats_have_no_fault() {
        for text in [
            "#cloud-config\nhostname: web\nruncmd:\n- [ls, /]\n",
            "#cloud-config\n",
            "#cloud-config\n{}\n",
            "#!/bin/sh\necho a: b: c\n",
            "{\"ignition\": {}}",
            "a: [",
            "",
        ] {
            assert_eq!(check(text), None, "{text}");
        }
    }

    #[test]
    fn broken_yaml_is_reported_at_its_line() {
        let fault = check("#cloud-config\nhostname: web\nusers:\n  - name: a\n bad: x\n").unwrap();
        assert_eq!(fault.line, 5, "{fault:?}");
        assert!(fault.message.contains("not valid YAML"), "{fault:?}");
    }

    #[test]
    fn a_header_below_the_first_line_is_reported() {
        for (text, line) in [("\n#cloud-config\n", 2), ("  #cloud-config\na: b\n", 1)] {
            let fault = check(text).unwrap();
            assert_eq!(fault.line, line);
            assert!(fault.message.contains("first line"), "{fault:?}");
        }
    }

    #[test]
    fn a_cloud_config_that_is_not_a_map_is_reported() {
        let fault = check("#cloud-config\n- hostname: web\n").unwrap();
        assert_eq!(fault.line, 2);
        assert!(fault.message.contains("not a YAML map"), "{fault:?}");
    }
}
