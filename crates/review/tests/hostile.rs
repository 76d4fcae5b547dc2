//! Feeds hostile texts to the review.

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
    fn no_profile_panics_the_review(ipxe in prop_oneof![text(), any::<String>()], config in text(), label in any::<String>()) {
        let labels = std::collections::BTreeMap::from([("assignment/ipxe-buildarch".to_owned(), label.clone()), (label, "x".to_owned())]);
        let mut profile = crd::Profile::new("p", crd::ProfileSpec { ipxe, additional_config: [("c".to_owned(), config)].into(), ..crd::ProfileSpec::default() });
        profile.metadata.labels = Some(labels);
        for finding in review::profile(&profile).findings {
            prop_assert!(!finding.message.is_empty());
        }
    }
}
