//! Texts with braces that belong to other programs.

use boot::Templates;
use boot::template::MAX_SOURCE_BYTES;

use super::{config, configs, script};

#[test]
fn a_brace_and_a_number_sign_are_text() {
    for text in [
        "#!/bin/bash\n[ \"${#disks[@]}\" -gt 1 ] && create_raid\nhost=\"${HOSTNAME#}\"\n",
        "if [ ${#missing[@]} -ne 0 ]; then\n  echo x\nfi\n# server {\n#}\nexit 0\n",
        "{# not a comment #}\n{#- nor this -#}\n{#}\n",
        "{##}\u{0}\u{0}{#",
    ] {
        assert_eq!(config(text, "").unwrap(), text);
        let line = "{{ subject.asset }}\n";
        let rendered = config(&format!("{text}{line}"), "asset=a1").unwrap();
        assert_eq!(rendered, format!("{text}a1\n"));
    }
    let lines = "echo ${#a} {# b #}\nset c {#d\n";
    let rendered = script(&format!("#!ipxe\n{lines}"), "").unwrap();
    assert_eq!(rendered, format!("#!ipxe\n{lines}"));
}

#[test]
fn raw_text_is_served_unchanged() {
    for text in [
        "docker inspect -f '{{.State.Running}}' web\n",
        "summary: {{ $labels.instance }} is down\n",
        "{{- range .Items }}{% x %}{# y #}${{ github.sha }}\n",
    ] {
        let rendered = config(&format!("a\n{{% raw %}}{text}{{% endraw %}}"), "").unwrap();
        assert_eq!(rendered, format!("a\n{text}"));
    }
}

#[test]
fn the_template_of_another_tool_is_an_error_that_names_raw() {
    for (line, tool) in [
        ("hostname: metal-{{ trunc 4 .MachineID }}", "a Go template"),
        (
            "summary: node {{ $labels.instance }} is down",
            "a Go template",
        ),
        (
            "runcmd: [docker inspect -f \"{{.State}}\" web]",
            "a Go template",
        ),
        ("run: docker ps --format '{{json .}}'", "a Go template"),
        ("name: {{ include \"chart.name\" . }}", "a Go template"),
        ("{{- range .Values.hosts }}", "a Go template"),
        ("{{ end }}", "a Go template"),
        ("local: {{ v1.local_hostname }}", "cloud-init"),
        ("local: {{ ds.meta_data.hostname }}", "cloud-init"),
        ("sha: ${{ github.sha }}", "GitHub Actions"),
        ("name: {{ inventory_hostname }}", "Ansible"),
        ("name: {{ ansible_facts['nodename'] }}", "Ansible"),
        ("{{#if name}}x{{/if}}", "Handlebars"),
    ] {
        let text = format!("#cloud-config\n\n{line}\nmore: text\n\n");
        let error = Templates::compile("", &configs(&[("a", &text)])).expect_err(line);
        let error = error.first();
        assert_eq!(error.line, Some(3), "{line}: {error}");
        assert!(error.reason.contains(tool), "{line}: {error}");
        assert!(error.reason.contains("{% raw %}{{"), "{line}: {error}");
        assert!(!error.reason.contains("built-in variables"), "{error}");
    }
}

#[test]
fn a_name_that_no_template_has_may_belong_to_another_tool() {
    let error = |script: &str, config: &str| {
        let error = Templates::compile(script, &configs(&[("a", config)])).unwrap_err();
        error.first().reason.clone()
    };
    assert!(error("", "x: {{ something }}").contains("{% raw %}"));
    assert!(error("", "x: {{ subject.uuid | to_nice_yaml }}").contains("{% raw %}"));
    // A spelling mistake.
    assert!(!error("", "x: {{ subjekt.uuid }}").contains("{% raw %}"));
    assert!(!error("echo {{ something }}", "").contains("{% raw %}"));
}

#[test]
fn the_first_error_of_every_template_is_told() {
    let texts = [
        ("c", "ok\n"),
        ("b", "\n{{ x y }}\n{{ again }}"),
        ("a", "{{.State}}"),
    ];
    let errors = Templates::compile("#!ipxe\n{{ nobody }}\n", &configs(&texts)).unwrap_err();
    let places: Vec<_> = errors
        .iter()
        .map(|error| (error.field.as_str(), error.line))
        .collect();
    assert_eq!(
        places,
        [
            ("spec.ipxe", Some(2)),
            ("spec.additionalConfig.a", Some(1)),
            ("spec.additionalConfig.b", Some(2)),
        ]
    );
    let message = errors.to_string();
    for error in &errors {
        assert!(message.contains(&error.to_string()), "{message}");
    }
}

#[test]
fn a_message_about_many_templates_is_bounded() {
    let names: Vec<_> = (0..64).map(|n| format!("config_{n}")).collect();
    let text = format!("{{{{ .{} }}}}", "x".repeat(1000));
    let texts: Vec<_> = names.iter().map(|name| (name.as_str(), &*text)).collect();
    let errors = Templates::compile("", &configs(&texts)).unwrap_err();
    let message = errors.to_string();
    assert_eq!(errors.iter().count(), 64);
    assert!(message.len() < 5000, "{} bytes", message.len());
    assert!(message.ends_with("more templates have errors"), "{message}");
}

#[test]
fn statements_at_the_start_leave_no_blank_line() {
    for (text, rendered) in [
        (
            "{% set a = 'b' %}\n#cloud-config\nx: {{ a }}\n",
            "#cloud-config\nx: b\n",
        ),
        (
            "{% raw %}\n#!/bin/sh\necho {{\n{% endraw %}",
            "#!/bin/sh\necho {{\n",
        ),
        ("{% set a = 1 %}\n\n  {%- set b = 2 %}\n  \n  x\n", "  x\n"),
        (
            "{% set a %}\nb\n{% endset %}\n#!/bin/sh{{ a }}",
            "#!/bin/sh\nb\n",
        ),
        (
            "{% if subject.uuid %}\n#cloud-config\n{% else %}\n#!/bin/sh\n{% endif %}",
            "#!/bin/sh\n",
        ),
        ("{% if subject.uuid %}\nx\n{% endif %}\n", ""),
        // The author wrote these lines.
        ("\n\nx\n", "\n\nx\n"),
        ("\n{% set a = 1 %}x\n", "\nx\n"),
        (" \n{{ 'x' }}\n", " \nx\n"),
        ("x\n{% set a = 1 %}\n\ny\n", "x\n\n\ny\n"),
    ] {
        assert_eq!(config(text, "").unwrap(), rendered, "{text}");
    }
}

#[test]
fn a_config_has_a_megabyte_at_most() {
    let text = "0123456789abcde\n".repeat(MAX_SOURCE_BYTES / 16);
    assert_eq!(text.len(), 1024 * 1024);
    assert_eq!(config(&text, "").unwrap(), text);
    // With the engine.
    let set = "{% set a = 1 %}";
    let rest = &text[..MAX_SOURCE_BYTES - set.len()];
    let text = format!("{set}{rest}");
    assert_eq!(config(&text, "").unwrap(), rest);
    let error = Templates::compile("", &configs(&[("a", &(text + "x"))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.additionalConfig.a: the template has 1048577 bytes; the limit is 1048576"
    );
}

#[test]
fn an_error_far_below_has_its_line() {
    let text = "\n".repeat(100_000) + "{{ x y }}\n";
    let error = Templates::compile("", &configs(&[("a", &text)])).unwrap_err();
    assert_eq!(error.first().line, Some(100_001));
}

#[test]
fn an_attribute_that_no_machine_could_have_is_rejected_at_load() {
    for (expression, says) in [
        (
            "profile.nmae",
            "`profile` has no attribute `nmae` (did you mean `name`?)",
        ),
        ("profile['nmae']", "(did you mean `name`?)"),
        ("profile.label.role", "(did you mean `labels`?)"),
        (
            "assignment.annotations.ip",
            "for a label, write {{ assignment.labels.KEY }}",
        ),
        (
            "assignment.role | default('x')",
            "for a label, write {{ assignment.labels.KEY }}",
        ),
        (
            "base_url.host",
            "`base_url` is a URL, and has no attribute `host`",
        ),
        (
            "config1.path",
            "`config1` is the URL of a config, and has no attribute `path`",
        ),
        ("profile.name.first", "`profile.name` is text"),
        ("subject.asset.tag", "write {{ subject['asset.tag'] }}"),
        ("extrinsic['a'].b", "write {{ extrinsic['a.b'] }}"),
        ("profile.labels.a.b", "write {{ profile.labels['a.b'] }}"),
    ] {
        for text in [
            format!("\n{{{{ {expression} }}}}"),
            format!("\n{{% if {expression} %}}x{{% endif %}}"),
        ] {
            let error = Templates::compile(&text, &configs(&[("config1", "")])).unwrap_err();
            let error = error.first();
            assert_eq!(error.line, Some(2), "{error}");
            assert!(error.reason.contains(says), "{error}");
        }
    }
    let text = "{% for x in [1] %}\n{{ loop.indx }}{% endfor %}";
    let error = Templates::compile(text, &configs(&[])).unwrap_err();
    assert!(
        error.to_string().contains("did you mean `index`?"),
        "{error}"
    );
}
