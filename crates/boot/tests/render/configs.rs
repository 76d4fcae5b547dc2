//! A machine's labels in configs.

use boot::ConfigFormat::{self, Json, Kickstart, Shell, Text, Yaml};
use boot::render::RenderError;

use super::{body, config, config_as};

/// What strangers put into a label, percent-encoded.
const HOSTILE: [&str; 12] = [
    "x%0aruncmd: [[sh,-c,reboot]]",
    "x\"}},{\"path\":\"/root/.ssh/authorized_keys\"",
    "x\"; reboot; echo \"",
    "x'; reboot; echo '",
    "$(reboot)",
    "`reboot`",
    "a: b",
    "- a",
    "a #b",
    "a, b",
    "x%0d%0a%25post",
    "\\",
];

#[test]
fn a_hostile_value_never_reaches_a_config_raw() {
    for format in [Yaml, Json, Shell, Kickstart] {
        for value in HOSTILE {
            for text in [
                "a {{ subject.asset }}",
                "\"{{ subject['asset'] }}\"",
                "{{ subject.asset | upper }}",
                "{{ subject.none | default(subject.asset) }}",
                "{% set x = subject.asset %}{{ x }}",
                "{% set x %}{{ subject.asset }}{% endset %}{{ x }}",
                "{% for key in subject %}{{ subject[key] }}{% endfor %}",
                "{% for key, value in subject | items %}{{ value }}{% endfor %}",
                "{{ 'x' if false else subject.asset }}",
            ] {
                let text = config_as(format, text, &format!("asset={value}"));
                assert!(
                    matches!(text, Err(RenderError::Unsafe(_))),
                    "{format}: {value}: {text:?}"
                );
            }
        }
    }
}

#[test]
fn the_error_names_the_label_and_the_filter() {
    let message = |format, query| {
        config_as(format, "{{ subject.asset }}", query)
            .unwrap_err()
            .to_string()
    };
    for (format, expected) in [
        (
            Yaml,
            "is not plain text in YAML, so it can't be used in config config0 (YAML); write {{ subject.asset | toyaml }} in the template, as a whole value, without quotation marks around it",
        ),
        (
            Json,
            "is not plain text in JSON, so it can't be used in config config0 (JSON); write {{ subject.asset | tojson }} in the template, as a whole value, without quotation marks around it",
        ),
        (
            Shell,
            "is not a plain word for a shell, so it can't be used in config config0 (a shell script); write {{ subject.asset | shquote }} in the template, outside of quotation marks and here documents",
        ),
        (
            Kickstart,
            "is not a plain word in kickstart, so it can't be used in config config0 (kickstart); write {{ subject.asset | shquote }} in the template, outside of quotation marks and here documents",
        ),
    ] {
        assert_eq!(
            message(format, "asset=\"x"),
            format!("label \"asset\" of this machine {expected}")
        );
    }
    assert_eq!(
        config("{{ subject['a-b'] }}", "a-b=\"x")
            .unwrap_err()
            .to_string(),
        "label \"a-b\" of this machine is not plain text in every format, so it can't be used in config config0 (an unknown format); name the format in spec.configFormats.config0, and write the filter of that format in the template: toyaml, tojson or shquote"
    );
    assert_eq!(
        message(Text, "asset=a%0Ab"),
        "label \"asset\" of this machine contains control characters, so it can't be used in config config0 (text); write {{ encoded.asset }} in the template instead, or fix the label"
    );
}

#[test]
fn the_first_line_decides_where_no_format_is_declared() {
    for (text, filter) in [
        ("#cloud-config\nhostname: {{ subject.asset }}\n", "toyaml"),
        ("{\"hostname\": \"{{ subject.asset }}\"}", "tojson"),
        ("#!/bin/sh\nhostname \"{{ subject.asset }}\"\n", "shquote"),
        (
            "#version=RHEL9\nnetwork --hostname={{ subject.asset }}\n",
            "shquote",
        ),
    ] {
        let error = config(text, "asset='").unwrap_err().to_string();
        assert!(error.contains(&format!("| {filter} }}}}")), "{error}");
        assert!(config(text, "asset=web-1").is_ok(), "{text}");
    }
    let chained = "#!ipxe\necho {{ subject.asset }}\n";
    let error = config(chained, "asset=${x}").unwrap_err().to_string();
    assert!(error.contains("which iPXE would expand"), "{error}");
    assert!(config(chained, "asset='").is_ok());
}

#[test]
fn a_value_through_the_filter_of_the_format_is_served_as_it_is() {
    for (format, filter, expected) in [
        (Yaml, "toyaml", r#""it's \"a: b\"""#),
        (Yaml, "tojson", r#""it's \"a: b\"""#),
        (Json, "tojson", r#""it's \"a: b\"""#),
        (Shell, "shquote", r#"'it'\''s "a: b"'"#),
        (Kickstart, "shquote", r#"'it'\''s "a: b"'"#),
        (Text, "trim", "it's \"a: b\""),
    ] {
        let text = format!("{{{{ subject.asset | {filter} }}}}");
        assert_eq!(
            config_as(format, &text, "asset=it's%20\"a: b\"").unwrap(),
            expected,
            "{format}"
        );
    }
}

#[test]
fn control_characters_are_rejected_even_through_a_filter() {
    for (format, filter) in [
        (Yaml, "toyaml"),
        (Json, "tojson"),
        (Shell, "shquote"),
        (Text, "trim"),
    ] {
        for value in ["a%0Ab", "%1B[2J", "a%7F", "a%C2%85"] {
            let text = format!("{{{{ subject.asset | {filter} }}}}");
            let error = config_as(format, &text, &format!("asset={value}")).unwrap_err();
            assert!(
                error.to_string().contains("contains control characters"),
                "{error}"
            );
        }
    }
    assert_eq!(
        config_as(Yaml, "{{ encoded.asset }}", "asset=a%0Ab").unwrap(),
        "a%0Ab"
    );
}

#[test]
fn a_value_that_a_template_takes_apart_is_checked_in_configs() {
    for text in [
        "#cloud-config\nhostname: {{ subject.a[2:] }}\n",
        "#!/bin/sh\nhostname {{ subject.a | replace('b', '') }}\n",
    ] {
        assert!(config(text, "a=ab-1.d").is_ok(), "{text}");
        for value in ["b:x", "ab@c", "ab--c", "ab.-c"] {
            let error = config(text, &format!("a={value}")).unwrap_err();
            assert!(
                error.to_string().contains("is changed by the template"),
                "{text} {value}: {error}"
            );
        }
    }
}

#[test]
fn only_labels_that_reach_the_text_are_checked() {
    for text in [
        "{% if subject.asset == 'x' %}{{ subject.asset }}{% else %}none{% endif %}",
        "{{ 'none' if subject.asset else '' }}",
        "{% if subject.rack %}{{ subject.asset }}{% endif %}none",
        "{{ subject.region | default('none') | replace('us-cal', 'none') }}",
    ] {
        assert_eq!(config_as(Yaml, text, "asset=\"").unwrap(), "none", "{text}");
    }
}

#[test]
fn a_filter_whose_quotation_marks_the_format_does_not_read_escapes_nothing() {
    for (format, text, value) in [
        (Yaml, "- echo {{ subject.asset | toyaml }}\n", "$(reboot)"),
        (
            Yaml,
            "- |\n  echo {{ subject.asset | toyaml }}\n",
            "`reboot`",
        ),
        (Yaml, "- >-\n\n  {{ subject.asset | tojson }}\n", "$x"),
        (
            Yaml,
            "- echo\n  {{ subject.asset | toyaml }}\n",
            "$(reboot)",
        ),
        (
            Yaml,
            "- [a,\n  'b: {{ subject.asset | toyaml }}']\n",
            "', reboot, '",
        ),
        (
            Yaml,
            "- {{ \"'\" }}{{ subject.asset | toyaml }}{{ \"'\" }}\n",
            "', b: '",
        ),
        (
            Shell,
            "echo {{ subject.asset | shquote | tojson }}\n",
            "$(reboot)",
        ),
        (
            Shell,
            "echo \"${a:-\"b\"} {{ subject.asset | shquote }}\"\n",
            "$(reboot)",
        ),
        (Yaml, "- 'a: {{ subject.asset | toyaml }}'\n", "', b: '"),
        (
            Shell,
            "echo \"{{ subject.asset | shquote }}\"\n",
            "$(reboot)",
        ),
        (
            Shell,
            "cat <<EOF\n{{ subject.asset | shquote }}\nEOF\n",
            "$(reboot)",
        ),
        (
            Shell,
            "sh -c 'echo {{ subject.asset | shquote }}'\n",
            "; reboot;",
        ),
        (
            Shell,
            "echo `echo {{ subject.asset | shquote }}`\n",
            "`reboot`",
        ),
        (
            Kickstart,
            "network --hostname=\"{{ subject.asset | shquote }}\"\n",
            "\" --a=\"",
        ),
        (Json, "{\"a\": \"{{ subject.asset | tojson }}\"}", ", "),
    ] {
        assert!(config_as(format, text, "asset=web-1").is_ok(), "{text}");
        let mut query = String::new();
        boot::query::append(&mut query, "asset", value);
        let error = config_as(format, text, &query).unwrap_err().to_string();
        let place = if matches!(format, Shell | Kickstart) {
            "outside of quotation marks and here documents"
        } else {
            "as a whole value, without quotation marks around it"
        };
        assert!(error.ends_with(place), "{text}: {error}");
    }
}

#[test]
fn the_operators_labels_are_trusted_in_configs() {
    for format in ConfigFormat::ALL {
        for variable in ["subject", "extrinsic"] {
            let text = format!("{{{{ {variable}.motd }}}}");
            assert_eq!(
                config_as(format, &text, "motd=evil%0A").unwrap(),
                "a || ${b} #c"
            );
        }
    }
}

#[test]
fn an_unsafe_label_key_is_rejected_in_configs() {
    let text = "{% for key in subject %}{{ key }} {% endfor %}";
    assert!(config_as(Yaml, text, "rack=1").is_ok());
    let error = config_as(Yaml, text, "a:%20b=1").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("has a name that is not plain text"),
        "{error}"
    );
    let quoted = "{% for key in subject %}- {{ key | toyaml }}\n{% endfor %}";
    assert!(
        config_as(Yaml, quoted, "a:%20b=1")
            .unwrap()
            .contains("\"a: b\"")
    );
}

#[test]
fn links_and_encoded_values_are_not_read_as_keys_or_options() {
    assert!(
        config_as(Yaml, "- {{ config1 }}", "asset=a:")
            .unwrap()
            .ends_with("?asset=a%3A")
    );
    for (value, expected) in [
        ("-rf", "%2Drf"),
        ("~", "%7E"),
        ("a:", "a%3A"),
        ("a:b", "a:b"),
    ] {
        let query = format!("asset={value}");
        assert_eq!(
            config_as(Yaml, "{{ encoded.asset }}", &query).unwrap(),
            expected
        );
        assert_eq!(
            config_as(Yaml, "{{ subject.asset | urlencode }}", &query).unwrap(),
            expected
        );
        assert_eq!(body("{{ encoded.asset }}", &query), expected);
    }
}

#[test]
fn no_template_can_name_the_variable_without_checks() {
    let name = "subject_whose_values_reach_the_text_only_through_a_filter_that_escapes_them";
    assert!(name.parse::<boot::ConfigName>().is_err());
    for text in [
        format!("{{{{ {name}.asset }}}}"),
        format!("{{% set {name} = 1 %}}"),
        format!("{{% for {name} in subject %}}{{{{ {name} }}}}{{% endfor %}}"),
    ] {
        let compiled = boot::Templates::compile(&text, &std::collections::BTreeMap::new());
        assert!(compiled.is_err(), "{text}");
    }
}
