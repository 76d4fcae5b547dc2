//! A machine's labels never become commands.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use boot::render::RenderError;
use boot::{ExtrinsicLabels, ObjectKey, Profile, Selection, Subject};

use super::{CONFIG_ID, check_error, template};

/// A script that uses labels in all the ways that authors do.
const SCRIPT: &str = "#!ipxe
echo {{ subject.product | default('p') }}
set who {{ subject.serial | default('s') }} of {{ subject.asset | default('a') }}
kernel http://h/vmlinuz serial={{ subject.serial | default('s') }} product=x{{ subject.product | default('p') }}y config={{ config0 }}
initrd http://h/{{ encoded.hostname | default('h') }}/initrd
{{ encoded.serial | default('s') }}
{% for key in subject %}set l:{{ key }} {{ subject[key] }}
{% endfor %}boot || shell
";
/// The number of lines that the script has for every machine.
const LINES: usize = 7;

static SELECTION: LazyLock<Selection> = LazyLock::new(|| {
    let configs = BTreeMap::from([("config0".parse().expect("a name"), String::new())]);
    let profile = Profile::compile(
        ObjectKey::new("ns", "profile"),
        None,
        &BTreeMap::new(),
        SCRIPT,
        &configs,
    )
    .expect("it compiles");
    let ids = BTreeMap::from([(
        "config0".parse().expect("a name"),
        CONFIG_ID.parse().expect("a UUID"),
    )]);
    template::selection(profile.with_ids(ids))
});

/// Input: a query.
pub(crate) fn script(bytes: &[u8]) {
    let Ok(query) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(subject) = Subject::from_query(query, &ExtrinsicLabels::default()) else {
        return;
    };
    let subject = Arc::new(subject);
    match SELECTION.script(&subject, "http://boot.example") {
        Ok(script) => check(&script, &subject),
        Err(error @ RenderError::Unsafe(_)) => check_error(&error.to_string()),
        Err(other) => panic!("{other}"),
    }
}

/// Checks a script by iPXE's rules (`ipxe:src/image/script.c`, `ipxe:src/core/exec.c`): a trailing
/// backslash continues a line, white space separates words, some words end or join commands, `#` at
/// the start of a word ends the line, and `${` expands anywhere.
fn check(script: &str, subject: &Subject) {
    let lines: Vec<_> = script
        .strip_suffix('\n')
        .expect("it ends with a newline")
        .split('\n')
        .collect();
    assert_eq!(
        lines.len(),
        LINES + subject.labels().len(),
        "a label makes a line: {script}"
    );
    assert!(!script.contains("${"), "a label is expanded: {script}");
    assert_eq!(
        script.matches("://").count(),
        3,
        "a label is a URL: {script}"
    );
    let starts = [
        "#!ipxe",
        "echo ",
        "set who ",
        "kernel http://h/vmlinuz serial=",
        "initrd http://h/",
    ];
    for (at, line) in lines.iter().enumerate() {
        assert!(
            !line.ends_with('\\') && !line.contains('\r'),
            "a label joins or cuts lines: {line:?}"
        );
        assert!(
            starts.get(at).is_none_or(|start| line.starts_with(start)),
            "{line:?}"
        );
        let words = line
            .split(|c: char| c.is_ascii_whitespace() || c == '\u{b}')
            .skip(1);
        let special = words
            .filter(|word| matches!(*word, "||" | "&&" | ";") || word.starts_with('#'))
            .count();
        let own = usize::from(*line == "boot || shell");
        assert_eq!(
            special, own,
            "a label ends, joins or hides a command: {line:?}"
        );
    }
}
