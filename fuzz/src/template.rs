//! Arbitrary templates, within the budget of one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::template::MAX_OUTPUT_BYTES;
use boot::{
    Assignment, ConfigFormat, ConfigName, ExtrinsicLabels, MatchedBy, ObjectKey, Profile,
    Selection, Subject, SubjectSelectors, TemplateErrors, Templates, render,
};

use super::{CONFIG_ID, check_error};

/// Input: a script, a config and a query, separated by lines of `---`. The number of the query's
/// bytes chooses the format that is declared for the config, or none.
pub(crate) fn template(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let mut parts = text.splitn(3, "\n---\n");
    let (script, config, query) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let name: ConfigName = "config0".parse().expect("a name");
    let labels = BTreeMap::from([("tier".to_owned(), "gold".to_owned())]);
    let configs = BTreeMap::from([(name.clone(), config.to_owned())]);
    let format = ConfigFormat::ALL.get(query.len() % (ConfigFormat::ALL.len() + 1));
    let formats: BTreeMap<_, _> = format
        .map(|format| (name.clone(), *format))
        .into_iter()
        .collect();
    let compile = |script: &str, configs: &BTreeMap<ConfigName, String>| {
        let templates = Templates::compile_with_formats(script, configs, &formats)?;
        let key = ObjectKey::new("ns", "profile");
        Ok(Profile::with_templates(
            key,
            None,
            &labels,
            Arc::new(templates),
        ))
    };
    let profile = match compile(script, &configs) {
        Ok(profile) => profile.with_ids(BTreeMap::from([(
            name.clone(),
            CONFIG_ID.parse().expect("a UUID"),
        )])),
        // The error may quote the author's own text.
        Err(error) => {
            let errors: TemplateErrors = error;
            for error in &errors {
                let bytes = error.reason.len();
                assert!((1..=4096).contains(&bytes), "{bytes} bytes");
            }
            let bytes = errors.to_string().len();
            return assert!(bytes <= 2 * 4096, "{bytes} bytes");
        }
    };
    let extrinsic = ExtrinsicLabels::new([("region", "us-cal")]).expect("a label");
    let subject = Subject::from_query(query, &extrinsic)
        .or_else(|_| Subject::from_query("serial=S1&product=R+640", &extrinsic));
    let subject = Arc::new(subject.expect("a query"));
    // A statement that does nothing needs the engine.
    let by_engine = [script, config].map(|text| format!("{text}{{% set nothing = 1 %}}"));
    let configs = BTreeMap::from([(name.clone(), by_engine[1].clone())]);
    // It may be too long now. An included text ends with the added statement, not with its last
    // newline, which an include drops.
    if !text.contains("include")
        && let Ok(engine) = compile(&by_engine[0], &configs)
    {
        compare(&profile, engine.with_ids(profile.ids.clone()), &subject);
    }
    let selection = selection(profile);
    let assignment = || Some(selection.assignment.clone());

    let script = || selection.script(&subject, "http://boot.example");
    let rendered = script();
    assert_eq!(rendered, script(), "the same is rendered otherwise");
    match rendered {
        Ok(script) => {
            assert!(
                script.len() <= MAX_OUTPUT_BYTES + 16,
                "{} bytes",
                script.len()
            );
            let rest = script
                .strip_prefix("#!ipxe")
                .expect("the first line is #!ipxe");
            assert!(
                rest.starts_with([' ', '\t', '\r', '\n']) && script.ends_with('\n'),
                "{script:.100}"
            );
        }
        Err(error) => check_error(&error.to_string()),
    }
    for assignment in [assignment(), None] {
        match render::config(
            &selection.profile,
            &name,
            &subject,
            assignment.as_ref(),
            "http://boot.example",
        ) {
            Ok(text) => assert!(text.len() <= MAX_OUTPUT_BYTES, "{} bytes", text.len()),
            Err(error) => check_error(&error.to_string()),
        }
    }
}

/// Asserts that what is rendered in steps is what the engine renders.
fn compare(profile: &Profile, engine: Profile, subject: &Arc<Subject>) {
    let (engine, steps) = (selection(engine), selection(profile.clone()));
    let base_url = "http://boot.example";
    assert_eq!(
        steps.script(subject, base_url),
        engine.script(subject, base_url)
    );
    for name in profile.ids.keys() {
        let text = |selection: &Selection| {
            render::config(
                &selection.profile,
                name,
                subject,
                Some(&selection.assignment),
                base_url,
            )
        };
        assert_eq!(text(&steps), text(&engine));
    }
}

/// A default Assignment of this Profile.
pub(super) fn selection(profile: Profile) -> Selection {
    let assignment = Assignment {
        key: ObjectKey::new("ns", "everybody"),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    };
    Selection {
        assignment: Arc::new(assignment),
        by: MatchedBy::Labels,
        profile: Arc::new(profile),
    }
}
