//! The exact bytes of scripts and configs, and the exact messages of errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::render::{self, RenderError};
use boot::selector::SubjectSelectors;
use boot::{
    Assignment, ConfigName, ExtrinsicLabels, MatchedBy, ObjectKey, Profile, Selection, Subject,
    Templates,
};

const ID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

fn name(name: &str) -> ConfigName {
    name.parse().unwrap()
}

fn configs(configs: &[(&str, &str)]) -> BTreeMap<ConfigName, String> {
    configs
        .iter()
        .map(|(key, text)| (name(key), (*text).to_owned()))
        .collect()
}

fn subject(query: &str) -> Arc<Subject> {
    let extrinsic = ExtrinsicLabels::new([("region", "us-cal"), ("motd", "a || ${b} #c")]).unwrap();
    Arc::new(Subject::from_query(query, &extrinsic).unwrap())
}

fn selection(script: &str, texts: &[(&str, &str)]) -> Selection {
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let mut profile = Profile::compile(
        ObjectKey::new("metal", "debian"),
        None,
        &labels,
        script,
        &configs(texts),
    )
    .expect("it compiles");
    profile.ids = texts
        .iter()
        .map(|(key, _)| (name(key), ID.parse().unwrap()))
        .collect();
    let assignment = Assignment {
        key: ObjectKey::new("metal", "everyone"),
        created: None,
        labels: [("team".to_owned(), "sre".to_owned())]
            .into_iter()
            .collect(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority: 0,
    };
    Selection {
        assignment: Arc::new(assignment),
        by: MatchedBy::Labels,
        profile: Arc::new(profile),
    }
}

fn script(text: &str, query: &str) -> Result<String, RenderError> {
    selection(text, &[("config0", "x")]).script(&subject(query), "http://boot:8080")
}

fn config(text: &str, query: &str) -> Result<String, RenderError> {
    let selection = selection("#!ipxe\n", &[("config0", text), ("config1", "y")]);
    let assignment = Some(&selection.assignment);
    render::config(
        &selection.profile,
        &name("config0"),
        &subject(query),
        assignment,
        "http://boot:8080",
    )
}

/// Renders a script and strips its first line.
fn body(text: &str, query: &str) -> String {
    let script = script(&format!("#!ipxe\n{text}\n"), query).unwrap();
    script
        .strip_prefix("#!ipxe\n")
        .unwrap()
        .strip_suffix('\n')
        .unwrap()
        .to_owned()
}

fn compile_error(text: &str) -> String {
    Templates::compile(text, &configs(&[("config0", ""), ("ignitionFile", "")]))
        .expect_err("it is rejected")
        .to_string()
}

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
fn a_label_that_is_unsafe_in_a_script_is_escaped_in_a_url() {
    let url = body("{{ config0 }}", "asset=%24%7Bx%7D%0A%00%7C%7C");
    assert_eq!(
        url,
        format!("http://boot:8080/config/{ID}?asset=%24%7Bx%7D%0A%00%7C%7C")
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
fn an_unsafe_value_is_rejected_in_scripts_and_allowed_in_configs() {
    let cases = [
        ("a%0Ab", "contains control characters"),
        ("a%0D", "contains control characters"),
        ("a%00b", "contains control characters"),
        ("%1B%5B2J", "contains control characters"),
        (
            "%24%7Bnet0%2Fmac%7D",
            "contains ${ or a part of it, which iPXE would expand",
        ),
        (
            "x%24",
            "contains ${ or a part of it, which iPXE would expand",
        ),
        (
            "%7Bx",
            "contains ${ or a part of it, which iPXE would expand",
        ),
        (
            "a%20%7C%7C%20shell",
            "contains a word that iPXE would read as the end of a command (||, && or ;)",
        ),
        (
            "%3B",
            "contains a word that iPXE would read as the end of a command (||, && or ;)",
        ),
        (
            "a%20%26%26%20b",
            "contains a word that iPXE would read as the end of a command (||, && or ;)",
        ),
        (
            "%23a",
            "contains a word that starts with #, after which iPXE ignores the rest of the line",
        ),
        ("a%5C", "ends with \\, which would join the next line"),
    ];
    for (value, why) in cases {
        let query = format!("asset={value}");
        let error = script("#!ipxe\necho {{ subject.asset }}\n", &query).unwrap_err();
        assert!(
            matches!(error, RenderError::Unsafe(_)),
            "{value}: {error:?}"
        );
        assert_eq!(
            error.to_string(),
            format!(
                "label \"asset\" of this machine {why}, so it can't be used in an iPXE script; write {{{{ encoded.asset }}}} in the template instead"
            )
        );
        assert_eq!(body("{{ encoded.asset }}", &query), value);
        assert_eq!(
            config("{{ subject.asset }}", &query).unwrap(),
            *subject(&query).label("asset").unwrap()
        );
    }
}

#[test]
fn an_unsafe_value_is_rejected_on_every_path_into_a_script() {
    let expressions = [
        "{{ subject['asset'] }}",
        "{{ subject.asset|upper }}",
        "{{ 'a' ~ subject.asset }}",
        "{{ subject|tojson }}",
        "{{ [subject.asset]|join }}",
        "{{ [subject.asset, 1]|tojson }}",
        "{{ subject|items|tojson }}",
        "{% set x = subject.asset %}{{ x }}",
        "{% set x %}{{ subject.asset }}{% endset %}{{ x }}",
        "{% with x = subject.asset %}{{ x }}{% endwith %}",
        "{% for key in subject %}{{ subject[key] }}{% endfor %}",
        "{% for key, value in subject|items %}{{ value }}{% endfor %}",
        "{% for c in subject.asset %}{{ c }}{% endfor %}",
        "{{ subject.asset[0:4] }}",
        "{{ subject.asset|default('x') }}",
        "{{ subject.none|default(subject.asset) }}",
        "{{ subject.asset or 'x' }}",
        "{{ '%s'|format(subject.asset) }}",
        "{{ 'a'|replace('a', subject.asset) }}",
        "{{ {'a': subject.asset}|tojson }}",
        "{{ {'a': subject.asset}.a }}",
    ];
    for expression in expressions {
        let template = format!("#!ipxe\necho {expression}\n");
        match script(&template, "asset=%24%7Bx%7D") {
            Err(error) => assert!(
                matches!(error, RenderError::Unsafe(_)),
                "{expression}: {error}"
            ),
            // Extracting its characters one by one must not circumvent the check.
            Ok(script) => panic!("{expression}: {script}"),
        }
    }
}

#[test]
fn an_unsafe_label_key_is_rejected_in_scripts() {
    for expression in [
        "{% for key in subject %}{{ key }} {% endfor %}",
        "{{ subject|join(' ') }}",
        "{{ subject|tojson }}",
        "{{ encoded|join(' ') }}",
        "{{ subject|list|join(' ') }}",
    ] {
        let error =
            script(&format!("#!ipxe\necho {expression}\n"), "%24%7Bx%7D=1").expect_err(expression);
        assert!(
            error
                .to_string()
                .contains("has a name that iPXE would not read as plain text")
                || error.to_string().contains("refused"),
            "{expression}: {error}"
        );
        assert!(
            script(&format!("#!ipxe\necho {expression}\n"), "rack=1&region=x").is_ok()
                || expression.contains("subject"),
            "{expression}"
        );
    }
}

#[test]
fn the_operators_own_labels_are_trusted_in_scripts() {
    assert_eq!(body("{{ subject.motd }}", ""), "a || ${b} #c");
    assert_eq!(body("{{ subject.motd }}", "motd=evil%0A"), "a || ${b} #c");
}

#[test]
fn an_absent_label_is_false_and_fails_to_render() {
    let template = "{% if subject.asset %}has {{ subject.asset }}{% else %}none{% endif %}";
    assert_eq!(
        (body(template, ""), body(template, "asset=7")),
        ("none".to_owned(), "has 7".to_owned())
    );
    assert_eq!(body("{{ subject.asset|default('unset') }}", ""), "unset");
    assert_eq!(
        script(
            "#!ipxe\n\necho {{ subject.rack }} {{ subject.region }}\n",
            ""
        )
        .unwrap_err(),
        RenderError::MissingLabel {
            template: "spec.ipxe".into(),
            line: 3,
            label: "rack".into()
        }
    );
    assert_eq!(
        config("\n{{ subject.rack ~ 'x' }}", "")
            .unwrap_err()
            .to_string(),
        "line 2 of config0 needs the label \"rack\", which this machine does not present; make the machine send it, or write {{ subject.rack | default('...') }}; if it is an operator's label, start shaper with --label rack=VALUE"
    );
}

#[test]
fn the_error_names_the_label_that_is_missing() {
    let template = "{% if subject.asset %}{{ subject.asset }}{% endif %}{{ subject.rack }}";
    assert!(
        config(template, "")
            .unwrap_err()
            .to_string()
            .contains("needs the label \"rack\"")
    );
    let object = |text| config(text, "rack=1").unwrap_err().to_string();
    let message = object("{% if subject.asset %}{% endif %}\n{{ profile.labels.rack }}");
    assert_eq!(
        message,
        "config0, line 2, can't be rendered: profile has no label \"rack\""
    );
    assert!(object("{{ assignment.labels['a/b'] }}").contains("assignment has no label \"a/b\""));
    assert_eq!(
        config(
            "{% for key in profile.labels %}{{ key }}={{ profile.labels[key] }}{% endfor %}",
            ""
        )
        .unwrap(),
        "tier=gold"
    );
}

#[test]
fn no_filter_renders_a_missing_label() {
    let mut hidden = Vec::new();
    for expression in [
        "subject.rack|urlencode",
        "subject.rack|tojson",
        "[subject.rack]|tojson",
        "{'a': subject.rack}|tojson",
        "[subject.rack]|join",
        "subject.rack|b64encode",
        "subject.rack|nocloud",
        "subject.rack|split|join",
        "subject.rack|lines|join",
        "subject.rack|list|join",
        "'%s'|format(subject.rack)",
        "subject.rack|upper",
        "subject.rack|trim",
        "subject.rack|replace('a', 'b')",
        "subject.rack ~ ''",
        "subject.rack|int",
        "subject.rack|length",
        "subject.rack|string",
        "subject.rack|title",
        "subject.rack|indent",
        "subject.rack|first",
        "subject.rack|last",
        "subject.rack|reverse",
        "subject.rack|join",
        "subject.rack|round",
        "subject.rack|abs",
        "subject.rack|float",
        "subject.rack|capitalize",
        "encoded.rack|urlencode",
        "subject.rack|items|length",
    ] {
        match config(&format!("{{{{ {expression} }}}}"), "") {
            Err(RenderError::MissingLabel { label, .. }) if label == "rack" => {}
            other => hidden.push(format!("{expression}: {other:?}")),
        }
    }
    assert_eq!(hidden, [""; 0]);
    assert_eq!(
        config("{{ subject.rack|default('none')|urlencode }}", "").unwrap(),
        "none"
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
fn command_separators_are_rejected_only_where_ipxe_could_see_one() {
    for harmless in ["Smith & Co", "a | b", "R&D", "x;y", "a;", "||a"] {
        let query = format!("product={}", harmless.replace('&', "%26"));
        assert_eq!(
            body("echo {{ subject.product }}", &query),
            format!("echo {harmless}")
        );
    }
    for harmful in [
        "a || b", "a && b", "a ; b", "&", "a &", "; a", "|", "a |", "| a",
    ] {
        let query = format!("product={}", harmful.replace('&', "%26"));
        assert!(
            script("#!ipxe\necho {{ subject.product }}\n", &query).is_err(),
            "{harmful}"
        );
    }
}

#[test]
fn an_unknown_name_is_reported_with_its_line_and_the_nearest_known_name() {
    assert_eq!(
        compile_error("#!ipxe\n\nkernel {{ ignitonFile }}\n"),
        "spec.ipxe, line 3: `ignitonFile` is not defined (did you mean `ignitionFile`?) (configs of this Profile: config0, ignitionFile; built-in variables: subject, encoded, profile, assignment, base_url)"
    );
    assert_eq!(
        compile_error("#!ipxe\n{{ config0|uper }}\n"),
        "spec.ipxe, line 2: unknown filter `uper` (did you mean `upper`?)"
    );
    assert_eq!(
        compile_error("{% if config0 is definde %}{% endif %}"),
        "spec.ipxe, line 1: unknown test `definde` (did you mean `defined`?)"
    );
    assert_eq!(compile_error("{% set x = 1 %}\n{{ y }}").lines().count(), 1);
    assert!(
        compile_error("\n{{ config0.upper() }}")
            .starts_with("spec.ipxe, line 2: values have no methods; write x|upper")
    );
    assert!(compile_error("{{ now() }}").starts_with("spec.ipxe, line 1: unknown function `now`"));
    assert!(compile_error("#!ipxe\n{% if %}").starts_with("spec.ipxe, line 2: "));
    let error = Templates::compile("", &configs(&[("config0", "\n\n{{ x")])).unwrap_err();
    assert_eq!(
        (error.field.as_str(), error.line),
        ("spec.additionalConfig.config0", Some(3))
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
fn a_range_that_is_too_long_is_rejected_at_load() {
    for range in [
        "range(1000000000)",
        "range(10**9)",
        "range(1, 1002)",
        "range(0, -2000, -1)",
        "range(-5000, 5000, 9)",
        "range(2 * 501)",
    ] {
        let reason = compile_error(&format!("\n{{% for i in {range} %}}x{{% endfor %}}"));
        assert!(
            reason.starts_with("spec.ipxe, line 2: this range() has ")
                && reason.contains("the limit is 1000"),
            "{reason}"
        );
    }
    for range in [
        "range(1000)",
        "range(1, 1001)",
        "range(0, -2000, -2)",
        "range(5, 1)",
        "range(-1)",
        "range(9000 - 8000)",
    ] {
        assert!(
            config(&format!("{{{{ {range}|length }}}}"), "").is_ok(),
            "{range}"
        );
    }
    let unknown = "{% for i in range(subject.asset|int) %}x{% endfor %}";
    assert_eq!(config(unknown, "asset=3").unwrap(), "xxx");
    assert!(config(unknown, "asset=100000").is_err());
}

#[test]
fn errors_never_contain_config_ids() {
    for text in [
        "{{ subject[config0] }}",
        "{{ profile.labels[config0] }}",
        "{{ config0 | int }}",
        "{{ config0|float + 1 }}",
    ] {
        let error = script(text, "").unwrap_err().to_string();
        assert!(!error.contains(ID), "{text}: {error}");
    }
}

#[test]
fn a_script_fails_to_render_while_a_config_has_no_id() {
    let mut half = selection(
        "#!ipxe\nshell\n",
        &[("config0", "{{ config1 }}"), ("config1", "")],
    );
    Arc::make_mut(&mut half.profile).ids.remove("config1");
    assert_eq!(
        half.script(&subject(""), "http://boot"),
        Err(RenderError::NotReady(name("config1")))
    );
    let text = render::config(
        &half.profile,
        &name("config0"),
        &subject(""),
        None,
        "http://boot",
    );
    assert_eq!(text, Err(RenderError::NotReady(name("config1"))));
}

#[test]
fn a_config_rendered_without_its_assignment_can_not_read_it() {
    let selection = selection("", &[("config0", "{{ assignment.name }}")]);
    let text = render::config(
        &selection.profile,
        &name("config0"),
        &subject(""),
        None,
        "http://boot",
    );
    assert!(matches!(text, Err(RenderError::Failed { .. })), "{text:?}");
}

#[test]
fn output_is_limited_to_one_mib() {
    let repeat = |n| {
        format!(
            "{{% set x %}}{}{{% endset %}}{{% for i in range({n}) %}}{}{{% endfor %}}",
            "",
            "x".repeat(1024)
        )
    };
    assert_eq!(config(&repeat(1000), "").unwrap().len(), 1000 * 1024);
    let more = format!("{}{}", repeat(1000), "x".repeat(24 * 1024));
    assert_eq!(config(&more, "").unwrap().len(), 1024 * 1024);
    assert_eq!(
        config(&(more + "x"), "").unwrap_err().to_string(),
        "config0 can't be rendered: the output is longer than 1 MiB"
    );
}

#[test]
fn an_endless_template_runs_out_of_fuel() {
    let endless = "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}{% endfor %}{% endfor %}{% endfor %}";
    let reason = "can't be rendered: it exceeds the work limit of one answer; use smaller loops and less text";
    assert_eq!(
        config(&format!("\n{endless}"), "").unwrap_err().to_string(),
        format!("config0, line 2, {reason}")
    );
    assert_eq!(
        script(endless, "").unwrap_err().to_string(),
        format!("spec.ipxe, line 1, {reason}")
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
