//! The exact bytes of scripts and configs.

use std::sync::Arc;

use super::{ID, body, config, script, selection, subject};

#[test]
fn a_script_always_starts_with_the_shebang_and_white_space() {
    let cases = [
        ("#!ipxe\nshell\n", "#!ipxe\nshell\n"),
        ("#!ipxe\nshell", "#!ipxe\nshell\n"),
        ("# ipxe\nshell\n", "#!ipxe\n# ipxe\nshell\n"),
        ("shell\n", "#!ipxe\nshell\n"),
        ("\u{feff}#!ipxe\nshell\n", "#!ipxe\nshell\n"),
        ("\n\r\n  #!ipxe\nshell\n", "#!ipxe\nshell\n"),
        ("\u{feff}\n\tshell\n", "#!ipxe\nshell\n"),
        ("#!ipxe\r\nshell\r\n", "#!ipxe\r\nshell\r\n"),
        ("#!ipxe\tx\n", "#!ipxe\tx\n"),
        ("#!ipxe", "#!ipxe\n"),
        ("#!ipxe\n", "#!ipxe\n"),
        ("#!ipxe ", "#!ipxe \n"),
        ("#!ipxenot\n", "#!ipxe\n#!ipxenot\n"),
        ("#!ipxe\u{b}x\n", "#!ipxe\n#!ipxe\u{b}x\n"),
        ("#!ipxe\u{a0}x\n", "#!ipxe\n#!ipxe\u{a0}x\n"),
        ("#!gpxe\nshell\n", "#!ipxe\n#!gpxe\nshell\n"),
        ("", "#!ipxe\n"),
        ("\n", "#!ipxe\n"),
        ("{% if subject.asset %}\n{% endif %}#!ipxe\n", "#!ipxe\n"),
        ("#!ipxe\n\n\nshell\n\n", "#!ipxe\n\n\nshell\n\n"),
    ];
    for (template, expected) in cases {
        let script = script(template, "").unwrap();
        assert_eq!(script, expected, "{template:?}");
        assert!(script.starts_with("#!ipxe") && script.as_bytes()[6].is_ascii_whitespace());
    }
}

#[test]
fn a_config_is_its_template_byte_for_byte() {
    for text in [
        "",
        "\n",
        "x",
        "x\n",
        "\u{feff}#cloud-config\r\n",
        "  a\n\n",
        "{\"a\": 1}\n\n\n",
        "<&'\">",
    ] {
        assert_eq!(config(text, "").unwrap(), text);
    }
    assert_eq!(config("{{ '<&>' }}\n", "").unwrap(), "<&>\n");
}

#[test]
fn a_config_variable_is_its_url_with_the_labels_as_query() {
    assert_eq!(
        body("{{ config0 }}", ""),
        format!("http://boot:8080/config/{ID}")
    );
    assert_eq!(
        body(
            "{{ config0 }}",
            "serial=SN%201&rack=r1&region=evil&buildarch=amd64&mac=52-54-00-AB-CD-EF&uuid=47C6DA6774774970AA0384E48FF4F6AD"
        ),
        format!(
            "http://boot:8080/config/{ID}?uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&mac=52:54:00:ab:cd:ef&buildarch=x86_64&rack=r1&serial=SN%201"
        )
    );
    assert_eq!(
        config("{{ config1 }}", "rack=r1").unwrap(),
        format!("http://boot:8080/config/{ID}?rack=r1")
    );
}

#[test]
fn nocloud_turns_a_config_url_into_a_directory_url() {
    assert_eq!(
        body("ds=nocloud;s={{ config0|nocloud }}", "rack=r1"),
        format!("ds=nocloud;s=http://boot:8080/config/{ID}/rack=r1/")
    );
    assert_eq!(
        body("{{ config0|nocloud }}", ""),
        format!("http://boot:8080/config/{ID}/")
    );
}

#[test]
fn variables_have_their_documented_values() {
    let query = "product=PowerEdge%20R640&rack=r1";
    assert_eq!(
        body(
            "{{ subject.product }} {{ subject['rack'] }} {{ subject.region }}",
            query
        ),
        "PowerEdge R640 r1 us-cal"
    );
    assert_eq!(body("{{ encoded.product }}", query), "PowerEdge%20R640");
    assert_eq!(
        body(
            "{{ profile.namespace }}/{{ profile.name }} {{ profile.labels.tier }}",
            query
        ),
        "metal/debian gold"
    );
    assert_eq!(
        body(
            "{{ assignment.namespace }}/{{ assignment.name }} {{ assignment.labels['team'] }}",
            query
        ),
        "metal/everyone sre"
    );
    assert_eq!(body("{{ base_url }}", query), "http://boot:8080");
    assert_eq!(
        body(
            "{% for key in profile.labels %}{{ key }}={{ profile.labels[key] }}{% endfor %}",
            query
        ),
        "tier=gold"
    );
}

#[test]
fn filters_render_as_documented() {
    assert_eq!(
        config("{{ subject|tojson }}", "rack=r1%22").unwrap(),
        r#"{"motd":"a || ${b} #c","rack":"r1\"","region":"us-cal"}"#
    );
    assert_eq!(
        config("{{ ['a', 1, none, true]|tojson }}", "").unwrap(),
        r#"["a",1,null,true]"#
    );
    assert_eq!(
        config("{{ {'a': [1]}|tojson(indent=1) }}", "").unwrap(),
        "{\n \"a\": [\n  1\n ]\n}"
    );
    assert_eq!(
        config("{{ ('é' ~ subject.rack)|b64encode }}", "rack=r1").unwrap(),
        "w6lyMQ=="
    );
    assert_eq!(
        config("{{ subject.rack|urlencode }}", "rack=a/b%20c").unwrap(),
        "a%2Fb%20c"
    );
    assert_eq!(
        config(
            "{{ (subject.mac|split(':'))[3:]|join('-') }}",
            "mac=525400abcdef"
        )
        .unwrap(),
        "ab-cd-ef"
    );
    assert_eq!(
        config(
            "{{ '  xax '|trim }}{{ 'xax'|trim('x') }}{{ 2.567|round(1) }}",
            ""
        )
        .unwrap(),
        "xaxa2.6"
    );
    assert_eq!(
        config("{% set s %}a\nb{% endset %}{{ s|indent(2) }}", "").unwrap(),
        "a\n  b"
    );
    assert_eq!(
        config(
            "{% for n in range(3)|list|reverse %}{{ n }}{% endfor %}",
            ""
        )
        .unwrap(),
        "210"
    );
    assert_eq!(
        config(
            "{% if subject.rack in ['r1', 'r2'] %}yes{% endif %}",
            "rack=r1"
        )
        .unwrap(),
        "yes"
    );
    assert_eq!(
        config("{{ '%s-%03d'|format('a', 7) }}", "").unwrap(),
        "a-007"
    );
}

#[test]
fn indent_skips_the_first_line_and_blank_lines() {
    assert_eq!(
        config("{{ 'a\nb\n\nc\n'|indent(2) }}|", "").unwrap(),
        "a\n  b\n\n  c\n|"
    );
    assert_eq!(
        config(
            "{{ 'a\nb'|indent(1, true) }}{{ 'a\n\nb'|indent(width=1, blank=true) }}",
            ""
        )
        .unwrap(),
        " a\n ba\n \n b"
    );
}

#[test]
fn every_allowed_filter_and_test_is_registered() {
    for filter in boot::template::filters() {
        let input = match filter {
            "abs" | "round" => "1",
            "items" => "{'a': 1}",
            _ => "'1'",
        };
        let filter = if filter == "replace" {
            "replace('a', 'b')"
        } else {
            filter
        };
        let text = format!("{{{{ ({input}|{filter})|tojson }}}}");
        assert!(config(&text, "").is_ok(), "{text}: {:?}", config(&text, ""));
    }
    for test in boot::template::tests() {
        let test = match test {
            "divisibleby" | "eq" | "ne" | "lt" | "le" | "gt" | "ge" => format!("{test}(1)"),
            "in" => "in([1])".to_owned(),
            "startingwith" | "endingwith" => format!("{test}('1')"),
            plain => plain.to_owned(),
        };
        let text =
            format!("{{{{ 1 if (1 is {test}) else 2 }}}}{{{{ 1 if ('1' is string) else 2 }}}}");
        match config(&text, "") {
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().contains("unknown"), "{text}: {error}"),
        }
    }
}

#[test]
fn output_is_limited_to_two_mib() {
    let repeat = |n| {
        format!(
            "{{% set x %}}{}{{% endset %}}{{% for i in range({n}) %}}{}{{% endfor %}}",
            "",
            "x".repeat(2048)
        )
    };
    assert_eq!(config(&repeat(1000), "").unwrap().len(), 1000 * 2048);
    let more = format!("{}{}", repeat(1000), "x".repeat(48 * 1024));
    assert_eq!(config(&more, "").unwrap().len(), 2048 * 1024);
    assert_eq!(
        config(&(more + "x"), "").unwrap_err().to_string(),
        "config0 can't be rendered: the output is longer than 2 MiB"
    );
}

#[test]
fn a_render_keeps_no_reference_to_its_objects() {
    let selection = selection(
        "#!ipxe\n{{ profile.labels.tier }} {{ assignment.labels.team }} {{ subject.uuid }} {{ encoded.uuid }} {{ config0 }}\n",
        &[("config0", "x")],
    );
    let subject = subject(&format!("uuid={ID}"));
    selection.script(&subject, "http://boot:8080").unwrap();
    let counts = (
        Arc::strong_count(&selection.profile),
        Arc::strong_count(&selection.assignment),
        Arc::strong_count(&subject),
    );
    assert_eq!(counts, (1, 1, 1));
}
