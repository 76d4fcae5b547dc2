//! Feeds hostile texts to the linter.

use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "kernel",
            "initrd",
            "goto",
            "exit",
            "||",
            "&&",
            ";",
            "#",
            ":a",
            "a",
            "${",
            "}",
            "${x}",
            "${net${i}/mac:hexhyp}",
            "http://h/#",
            "\\",
            "\\ ",
            "\n",
            "\r\n",
            "\n",
            "\t",
            "initrd=",
            "\"",
            "é",
            "\0",
            "iseq",
            "${platform}",
            "uefi",
            "set",
            "--name",
            "{{ subject.x }}",
            "{% if x %}",
        ][..],
    );
    prop::collection::vec((word, any::<bool>()), 0..60).prop_map(|words| {
        words
            .into_iter()
            .map(|(word, space)| format!("{word}{}", if space { " " } else { "" }))
            .collect()
    })
}

proptest! {
    #[test]
    fn a_remark_is_within_the_script(script in prop_oneof![text(), any::<String>()], is_efi in any::<bool>()) {
        let platform = if is_efi { "efi" } else { "pcbios" };
        for remark in ipxe::lint(&script, platform) {
            let line = script.split('\n').nth(remark.line - 1).unwrap_or_default();
            prop_assert!(remark.columns.start >= 1 && remark.columns.end > remark.columns.start, "{remark:?}");
            prop_assert!(remark.columns.end <= line.chars().count() + 2, "{remark:?} {line:?}");
        }
    }
}
