//! Recognizes a Helm template that was not rendered: the manifest itself, not a text of a Profile.

use super::block_scalar;

/// The start of actions of a chart's template. Jinja has none of these forms.
const SIGNS: [&str; 10] = [
    "{{ .",
    "{{.",
    "{{- .",
    "{{ if ",
    "{{- if ",
    "{{- end",
    "{{- range ",
    "{{- with ",
    "{{ include ",
    "{{- include ",
];
const HINT: &str = "; this looks like a Helm template; render it first with `helm template`";

/// Returns the hint for a text that is not YAML, if a line of it is a template. The text of a block
/// scalar, such as a config, may be a template of any tool.
pub(in super::super) fn hint_for_file(text: &str) -> &'static str {
    let mut block = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if block.is_some_and(|key| indent > key || line.trim().is_empty()) {
            continue;
        }
        block = block_scalar::block_key(line).map(|_| indent);
        if is_template(line) {
            return HINT;
        }
    }
    ""
}

/// Returns the hint for a value on this line, counted from 1, that a field can't have.
pub(in super::super) fn hint_for_line(text: &str, line: usize) -> &'static str {
    let line = line.checked_sub(1).and_then(|at| text.lines().nth(at));
    if line.is_some_and(is_template) {
        HINT
    } else {
        ""
    }
}

fn is_template(line: &str) -> bool {
    SIGNS.iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_the_manifest_is_told_from_one_in_a_text() {
        for text in [
            "metadata:\n  name: {{ .Values.name }}\n",
            "{{- if .Values.on }}\nkind: Profile\n{{- end }}\n",
            "spec:\n  ipxe: |\n    boot\n  additionalConfig: {{ .Values.configs }}\n",
        ] {
            assert_eq!(hint_for_file(text), HINT, "{text}");
        }
        for text in [
            "spec:\n  additionalConfig:\n    c: |\n      docker inspect -f '{{.State}}' x\n\n      {{ .A }}\n",
            "spec:\n  ipxe: \"{{ subject.uuid }}\"\n",
        ] {
            assert_eq!(hint_for_file(text), "", "{text}");
        }
        let text = "a: b\nname: \"{{ .Values.name }}\"\n";
        assert_eq!((hint_for_line(text, 1), hint_for_line(text, 2)), ("", HINT));
        assert_eq!((hint_for_line(text, 0), hint_for_line(text, 9)), ("", ""));
    }
}
