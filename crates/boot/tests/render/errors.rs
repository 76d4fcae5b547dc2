//! Templates that do not compile or render, and their messages.

use std::sync::Arc;

use boot::Templates;
use boot::render::{self, RenderError};

use super::{ID, config, configs, name, script, selection, subject};

fn compile_error(text: &str) -> String {
    Templates::compile(text, &configs(&[("config0", ""), ("ignitionFile", "")]))
        .expect_err("it is rejected")
        .to_string()
}

#[test]
fn an_unknown_name_is_reported_with_its_line_and_the_nearest_known_name() {
    assert_eq!(
        compile_error("#!ipxe\n\nkernel {{ ignitonFile }}\n"),
        "spec.ipxe, line 3: `ignitonFile` is not defined (did you mean `ignitionFile`?) (configs of this Profile: config0, ignitionFile; built-in variables: subject, encoded, extrinsic, machine, vars, profile, assignment, base_url)"
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
    let errors = Templates::compile("", &configs(&[("config0", "\n\n{{ x")])).unwrap_err();
    let error = errors.first();
    assert_eq!(
        (error.field.as_str(), error.line),
        ("spec.additionalConfig.config0", Some(3))
    );
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
