//! Configs that include others.

use boot::render;
use boot::template::{LabelUse, MAX_SOURCE_BYTES};
use boot::{TemplateErrors, Templates};

use super::{configs, name, selection, subject};

/// Renders the config `a`.
fn rendered(texts: &[(&str, &str)], query: &str) -> Result<String, String> {
    let selection = selection("#!ipxe\n", texts);
    render::config(
        &selection.profile,
        &name("a"),
        &subject(query),
        Some(&selection.assignment),
        "http://boot:8080",
    )
    .map_err(|error| error.to_string())
}

fn errors(script: &str, texts: &[(&str, &str)]) -> TemplateErrors {
    Templates::compile(script, &configs(texts)).expect_err("it is rejected")
}

#[test]
fn an_include_is_the_text_of_the_other_config() {
    for (a, b, text) in [
        (
            "x\n{% include \"b\" %}\ny\n",
            "b {{ subject.asset }}\n",
            "x\nb 1\ny\n",
        ),
        ("{% include 'b' %}{% include 'b' %}", "b", "bb"),
        ("x \n {%- include \"b\" -%}\n y", " b ", "x b y"),
        ("{%include \"b\"\n\n%}\ny", "b\n\n", "b\n\ny"),
        (
            "{% raw %}{% include \"b\" %}{% endraw %}",
            "b",
            "{% include \"b\" %}",
        ),
        (
            "{% if subject.asset %}{% include \"b\" %}{% endif %}",
            "{% raw %}{{{% endraw %}",
            "{{",
        ),
        (
            "{% for n in [1, 2] %}{% include \"b\" %}{% endfor %}",
            "b\n",
            "bb",
        ),
        (
            "{% include \"b\" %}\n",
            "{% set x = 1 %}\n#cloud-config\n",
            "#cloud-config\n",
        ),
        ("include {{ 'include' }}", "b", "include include"),
    ] {
        assert_eq!(
            rendered(&[("a", a), ("b", b)], "asset=1").as_deref(),
            Ok(text),
            "{a}"
        );
    }
    let texts = [
        ("a", "1{% include 'b' %}"),
        ("b", "2{% include 'c' %}"),
        ("c", "3\n"),
    ];
    assert_eq!(rendered(&texts, "").as_deref(), Ok("123"));
    let selection = selection(
        "#!ipxe\n{% include \"menu\" %}\n",
        &[("menu", "echo {{ base_url }}\n")],
    );
    assert_eq!(
        selection.script(&subject(""), "http://boot").as_deref(),
        Ok("#!ipxe\necho http://boot\n")
    );
}

#[test]
fn variables_of_an_included_text_end_with_it() {
    let texts = [
        ("a", "{% set x = 'a' %}{% include 'b' %} {{ x }}"),
        ("b", "{% set x = 'b' %}{{ x }}"),
    ];
    assert_eq!(rendered(&texts, "").as_deref(), Ok("b a"));
}

#[test]
fn what_an_included_text_uses_counts_as_used() {
    let texts = [
        ("a_yaml", "x: 1\n\n{% include 'b_sh' %}\n"),
        (
            "b_sh",
            "\n\nb: {{ subject.asset }} {{ c }} {{ extrinsic.d }} {{ assignment.name }}\n",
        ),
        ("c", "{% include 'a_yaml' %}"),
    ];
    let templates = Templates::compile("#!ipxe\n{% include 'c' %}", &configs(&texts)).unwrap();
    let own = templates.config_uses("b_sh").unwrap();
    for uses in [
        templates.config_uses("a_yaml").unwrap(),
        templates.config_uses("c").unwrap(),
        templates.script_uses(),
    ] {
        assert_eq!(
            (
                &uses.labels,
                &uses.extrinsic,
                &uses.configs,
                uses.assignment
            ),
            (&own.labels, &own.extrinsic, &own.configs, true)
        );
    }
    // At the line that includes it.
    assert_eq!(
        templates.config_uses("a_yaml").unwrap().raw,
        [LabelUse {
            label: Some("asset".to_owned()),
            line: 3
        }]
    );
    assert_eq!(own.raw[0].line, 3);
}

#[test]
fn values_are_checked_for_the_format_of_the_config_that_includes() {
    let text = "x: {{ subject.product }}\n";
    let query = "product=PowerEdge%20R640";
    let yaml = [("a", "#cloud-config\n{% include 'b' %}\n"), ("b", text)];
    assert_eq!(
        rendered(&yaml, query).as_deref(),
        Ok("#cloud-config\nx: PowerEdge R640\n")
    );
    let shell = [("a", "#!/bin/sh\n{% include 'b' %}\n"), ("b", text)];
    let error = rendered(&shell, query).unwrap_err();
    assert!(error.contains("is not a plain word for a shell"), "{error}");
    // The place of a value depends on the text around the include.
    let quoted = "{{ subject.product | shquote }}";
    let inside = [
        ("a", "#!/bin/sh\necho '{% include 'b' %}'\n"),
        ("b", quoted),
    ];
    assert!(rendered(&inside, query).is_err());
    let outside = [("a", "#!/bin/sh\necho {% include 'b' %}\n"), ("b", quoted)];
    assert_eq!(
        rendered(&outside, query).as_deref(),
        Ok("#!/bin/sh\necho 'PowerEdge R640'\n")
    );
}

#[test]
fn a_loop_of_includes_is_named_at_each_of_its_configs() {
    let texts = [
        ("a", "\n{% include 'b' %}"),
        ("b", "{% include 'c' %}"),
        ("c", "\n\n{% include 'a' %}"),
        ("d", "{% include 'a' %}"),
        ("e", "{% include 'e' %}"),
    ];
    let errors = errors("#!ipxe\n{% include 'd' %}", &texts);
    let found: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        ("a", 2, "a -> b -> c -> a"),
        ("b", 1, "b -> c -> a -> b"),
        ("c", 3, "c -> a -> b -> c"),
        ("e", 1, "e -> e"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (error, (config, line, chain)) in found.iter().zip(expected) {
        let start = format!(
            "spec.additionalConfig.{config}, line {line}: configs include each other in a loop: {chain};"
        );
        assert!(error.starts_with(&start), "{error}");
    }
}

#[test]
fn an_include_names_a_config_by_a_constant() {
    for (include, says) in [
        (
            "{% include 'users' %}",
            "which is not a config of this Profile (did you mean `user`?)",
        ),
        (
            "{% include base_url %}",
            "takes the name of a config in quotation marks",
        ),
        (
            "{% include ['user'] %}",
            "takes the name of a config in quotation marks",
        ),
        (
            "{% include 'user' ignore missing %}",
            "takes the name of a config in quotation marks",
        ),
        (
            "{% include 'us\\x65r' %}",
            "takes the name of a config in quotation marks",
        ),
        (
            "{% include",
            "takes the name of a config in quotation marks",
        ),
        (
            "{% import 'user' as user %}",
            "write {% include \"NAME\" %}",
        ),
    ] {
        let errors = errors("", &[("a", &format!("\n{include}\n")), ("user", "x")]);
        let error = errors.first();
        assert_eq!(
            (error.field.as_str(), error.line),
            ("spec.additionalConfig.a", Some(2))
        );
        assert!(error.reason.contains(says), "{include}: {error}");
    }
}

#[test]
fn an_error_is_told_for_the_config_that_has_it() {
    let texts = [
        ("a", "{% include 'b' %}"),
        ("b", "\n\n{{ x y }}"),
        ("c", "{% include 'b' %}\n{{ profile.nmae }}"),
        ("d", "{% endwith %}{% with %}"),
    ];
    let errors = errors("{% include 'a' %}{% include 'd' %}", &texts);
    let places: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error.field.trim_start_matches("spec.additionalConfig."),
                error.line,
            )
        })
        .collect();
    assert_eq!(places, [("b", Some(3)), ("c", Some(2)), ("d", Some(1))]);
}

#[test]
fn a_variable_with_two_kinds_is_an_error_of_the_config_that_includes() {
    // Alone, `x` is a number or absent.
    let texts = [
        ("a", "{% set x = [1] %}\n\n{% include 'b' %}"),
        (
            "b",
            "\n{% if subject.asset %}{% set x = 1 %}{% endif %}{{ x }}",
        ),
    ];
    let errors = errors("", &texts);
    let error = errors.first();
    assert_eq!(
        (error.field.as_str(), error.line),
        ("spec.additionalConfig.a", Some(3))
    );
    assert!(
        error.reason.starts_with("in the included config b: "),
        "{error}"
    );
}

#[test]
fn an_error_of_one_answer_is_at_the_line_of_the_include() {
    let texts = [
        (
            "a",
            "{% set x = 1 %}\n\n{% include 'b' %}\n{{ subject.asset }}",
        ),
        ("b", "\n\n{{ subject.product }}\n\n"),
    ];
    let error = rendered(&texts, "asset=1").unwrap_err();
    assert!(
        error.starts_with("line 3 of a, which includes b, needs the label \"product\""),
        "{error}"
    );
    let error = rendered(&texts, "product=1").unwrap_err();
    assert!(
        error.starts_with("line 4 of a needs the label \"asset\""),
        "{error}"
    );
}

#[test]
fn the_work_of_includes_is_bounded() {
    let chain: Vec<_> = (0..12)
        .map(|n| (format!("c{n}"), format!("{{% include 'c{}' %}}", n + 1)))
        .chain([("c12".to_owned(), String::new())])
        .collect();
    let deep: Vec<_> = chain
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    let error = errors("", &deep).to_string();
    assert!(
        error.contains("include each other more than 8 deep"),
        "{error}"
    );

    // 16^6 includes of nothing.
    let tree: Vec<_> = (0..6)
        .map(|n| {
            (
                format!("c{n}"),
                format!("{{% include 'c{}' %}}", n + 1).repeat(16),
            )
        })
        .chain([("c6".to_owned(), String::new())])
        .collect();
    let wide: Vec<_> = tree.iter().map(|(name, text)| (&**name, &**text)).collect();
    let error = errors("", &wide).to_string();
    assert!(
        error.contains("more than 1048576 bytes with what it includes"),
        "{error}"
    );

    let large = "x".repeat(MAX_SOURCE_BYTES - 100);
    let names: Vec<_> = (0..8).map(|n| format!("c{n}")).collect();
    let mut many: Vec<_> = names
        .iter()
        .map(|name| (&**name, "{% include 'large' %}"))
        .collect();
    many.push(("large", &large));
    let error = errors("", &many).to_string();
    assert!(
        error.contains("include more than 4194304 bytes in all"),
        "{error}"
    );
    many.drain(..5);
    assert!(Templates::compile("", &configs(&many)).is_ok());
}
