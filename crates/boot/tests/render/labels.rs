//! Unsafe and missing labels.

use boot::render::RenderError;

use super::{ID, body, config, script};

#[test]
fn a_label_that_is_unsafe_in_a_script_is_escaped_in_a_url() {
    let url = body("{{ config0 }}", "asset=%24%7Bx%7D%0A%00%7C%7C");
    assert_eq!(
        url,
        format!("http://boot:8080/config/{ID}?asset=%24%7Bx%7D%0A%00%7C%7C")
    );
}

#[test]
fn an_unsafe_value_is_rejected_in_scripts() {
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
    }
}

#[test]
fn a_machine_can_not_choose_the_server_that_a_script_boots_from() {
    let query = "assets=http:%2F%2Fevil.example";
    let script = |text: &str| script(&format!("#!ipxe\nkernel {text}/vmlinuz\n"), query);
    assert_eq!(
        script("{{ subject.assets }}").unwrap_err().to_string(),
        "label \"assets\" of this machine contains ://, so that it could choose the server that the machine boots from, so it can't be used in an iPXE script; write {{ encoded.assets }} in the template instead, or {{ extrinsic.assets }} if it is an operator's label"
    );
    assert_eq!(
        script("{{ encoded.assets }}").unwrap(),
        "#!ipxe\nkernel http:%2F%2Fevil.example/vmlinuz\n"
    );
}

#[test]
fn a_part_of_a_host_is_rejected_at_the_ends_of_a_value() {
    for value in ["//evil.example", "http:", "http:/"] {
        let text = "#!ipxe\nset x {{ subject.a }}{{ subject.b | default('') }}\n";
        let query = format!("a={}", value.replace('/', "%2F"));
        let error = script(text, &query).expect_err(value).to_string();
        assert!(error.contains("contains a part of ://"), "{error}");
    }
    assert!(script("#!ipxe\nset x {{ subject.a }}\n", "a=%2Fdev%2Fsda").is_ok());
}

#[test]
fn a_value_is_one_argument_where_a_command_has_arguments() {
    let query = "asset=a%20init=b";
    for line in [
        "{% if subject.x %}imgfetch{% else %}kernel{% endif %} k h={{ subject.asset }}",
        "{% if subject.off %}# {% endif %}kernel k h={{ subject.asset }}",
        "{% if subject.off -%}\necho no\n{%- else -%}\nkernel k h={{ subject.asset }}\n{%- endif %}",
        "kernel k \\{% if subject.asset %}\n h={{ subject.asset }}{% endif %}",
        "{{ 'kernel k h=' ~ subject.asset }}",
        "{% set command = 'kernel' %}{{ command }} k h={{ subject.asset }}",
        "time kernel k h={{ subject.asset }}",
        "{% for x in range(2) %}h={{ subject.asset }}{{ '\n' }}kernel k {% endfor %}",
        "{% for x in range(2) %}echo a\nkernel k {% endfor %}h={{ subject.asset }}",
        "set args h={{ subject.asset }}\nkernel k ${args}",
        "set args:string h={{ subject.asset }}\nkernel k ${args}",
        "set 209:string h={{ subject.asset }}\nkernel k ${args}",
        "set hostname h={{ subject.asset }}\nkernel k ${12}",
        "set args h={{ subject.asset }}\nkernel k ${${name}}",
        "{{ 'echo a\nkernel k ' }}h={{ subject.asset }}",
        "{% for x in range(2) %}{% if x %}kernel k {% continue %}{% endif %}echo h={{ subject.asset }}\n{% endfor %}",
        "set x/args h={{ subject.asset }}\necho ${args:hexhyp}\nset more ${args}",
        "set {{ subject.none | default('x') }} {{ subject.asset }}",
        "kernel vmlinuz host={{ subject.asset }}",
        "isset ${x} && imgargs vmlinuz {{ subject.asset | upper }}",
        "kernel vmlinuz \\\n  host={{ subject.asset }}",
        "{% set args = subject.asset %}boot vmlinuz {{ args }}",
        "chain x{% if subject.asset %} y={{ subject.asset }}{% endif %}",
        "initrd --name x {{ subject['asset'] | default('x') }}",
    ] {
        let error = script(&format!("#!ipxe\n{line}\n"), query).expect_err(line);
        let error = error.to_string();
        assert!(error.contains("contains white space"), "{line}: {error}");
    }
    for line in [
        "echo boot {{ subject.asset }}",
        "{% if subject.asset %}echo {{ subject.asset }}{% endif %}",
        "{% for x in range(2) %}echo {{ subject.asset }}\n{% endfor %}",
        "# kernel {{ subject.asset }}",
        "item --key x {{ subject.asset }}",
        "set product {{ subject.asset }}",
        "set product {{ subject.asset }}\necho boots ${product} now",
        "kernel vmlinuz host={{ encoded.asset }}",
        "kernel vmlinuz {% if subject.asset == 'a' %}x{% endif %}",
        "kernel vmlinuz && echo {{ subject.asset }}",
        "kernel vmlinuz\necho {{ subject.asset }}",
    ] {
        assert!(
            script(&format!("#!ipxe\n{line}\n"), query).is_ok(),
            "{line}"
        );
    }
    // Linux takes the byte A0 for a space, and reads quotation marks.
    for value in ["x%C3%A0init=b", "%22x", "%27", "a,b", "x:b", "x%C2%A0y"] {
        let text = "#!ipxe\nkernel vmlinuz host={{ subject.asset }}\n";
        let error = script(text, &format!("asset={value}")).expect_err(value);
        assert!(error.to_string().contains("argument"), "{value}: {error}");
    }
    let address = "#!ipxe\nkernel vmlinuz a={{ subject.asset }}\n";
    assert!(script(address, "asset=2001:db8::1").is_ok());
    let spaced = "#!ipxe\nkernel vmlinuz model={{ subject.product | lower | replace(' ', '-') }}\n";
    assert_eq!(
        script(spaced, "product=PowerEdge%20R640").unwrap(),
        "#!ipxe\nkernel vmlinuz model=poweredge-r640\n"
    );
    for value in ["--name", "%20--name%20x"] {
        let error = script(
            "#!ipxe\nmenu {{ subject.asset }}\n",
            &format!("asset={value}"),
        );
        let error = error.expect_err(value).to_string();
        assert!(error.contains("starts with -"), "{error}");
    }
    let trimmed = "#!ipxe\nset x {{ subject.asset | trim }}\nimgtrust --permanent\n";
    assert!(script(trimmed, "asset=x%5C%20").is_err());
    let keys = "#!ipxe\nkernel k{% for k, v in encoded | items %} {{ k }}={{ v }}{% endfor %}\n";
    assert!(script(keys, "x%20init%3D%2Fbin%2Fsh%20y=1").is_err());
}

#[test]
fn a_value_that_the_template_takes_apart_must_be_plain_in_parts() {
    for (text, query) in [
        (
            "#!ipxe\nchain {{ subject.asset | urlencode | replace('%2F', '/') }}\n",
            "asset=http%3A%2F%2Fevil.example%2Fx",
        ),
        (
            "#!ipxe\n{% set n | replace('x', '') | lower %}{{ subject.asset }}{% endset %}echo {{ n }}\n",
            "asset=x%7C%7C",
        ),
    ] {
        assert!(script(text, query).is_err(), "{text}");
    }
    let changes = [
        "[4:]",
        " | replace('x', '')",
        " | trim('x')",
        " | list | join",
        " | split('x') | join",
        " | reverse",
    ];
    for change in changes {
        let expression = format!("{{{{ subject.asset{change} }}}}");
        let text = format!("#!ipxe\necho {expression}\n");
        // As a whole, each is plain text.
        for value in [
            "xxxx||",
            "a|x| b",
            "SN##b",
            "$xx{b}",
            "http:x//y",
            "a;;b",
            "a--b",
        ] {
            let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let error = match script(&text, &format!("asset={encoded}")) {
                Err(error) => error.to_string(),
                Ok(script) => panic!("{change} {value}: {script}"),
            };
            assert!(
                error.contains("is changed by the template"),
                "{change} {value}: {error}"
            );
        }
    }
    for (expression, query, expected) in [
        (
            "{{ subject.mac | replace(':', '-') }}",
            "mac=52:54:00:12:34:56",
            "52-54-00-12-34-56",
        ),
        ("{{ subject.asset[:3] }}", "asset=web-1.lab", "web"),
        (
            "{{ subject.asset | upper }}",
            "asset=Smith%20%26%20Co",
            "SMITH & CO",
        ),
    ] {
        assert_eq!(body(expression, query), expected);
    }
}

#[test]
fn extrinsic_labels_are_the_operators_alone() {
    assert_eq!(body("{{ extrinsic.motd }}", ""), "a || ${b} #c");
    assert_eq!(
        body("{{ extrinsic.region }}", "region=evil&rack=r1"),
        "us-cal"
    );
    assert_eq!(body("{{ extrinsic | list | length }}", "rack=r1"), "2");
    assert_eq!(
        body(
            "{{ extrinsic.rack | default('none') }}{% if extrinsic.rack %}x{% endif %}",
            "rack=r1"
        ),
        "none"
    );
    let missing = |template: &str| RenderError::MissingExtrinsic {
        template: template.into(),
        line: 2,
        label: "rack".into(),
    };
    let text = "#!ipxe\n{{ extrinsic.rack }}\n";
    assert_eq!(script(text, "rack=r1").unwrap_err(), missing("spec.ipxe"));
    assert_eq!(config(text, "rack=r1").unwrap_err(), missing("config0"));
    assert_eq!(
        script("{{ extrinsic['a-b'] }}", "a-b=1")
            .unwrap_err()
            .to_string(),
        "line 1 of spec.ipxe needs the operator's label \"a-b\", which this server does not have; start shaper with --label a-b=VALUE, or write {{ extrinsic['a-b'] | default('...') }}"
    );
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
                .contains("has a name that is not plain text")
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
        "subject.rack|toyaml",
        "subject.rack|shquote",
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
