//! The exact bytes of scripts and configs, and the exact messages of errors.

mod braces;
mod configs;
mod errors;
mod includes;
mod labels;
mod output;

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::render::{self, RenderError};
use boot::selector::SubjectSelectors;
use boot::{
    Assignment, ConfigFormat, ConfigName, ExtrinsicLabels, MatchedBy, ObjectKey, Profile,
    Selection, Subject, Templates,
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
        variables: boot::Variables::default(),
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

/// Renders a config with a declared format.
fn config_as(format: ConfigFormat, text: &str, query: &str) -> Result<String, RenderError> {
    let formats = BTreeMap::from([(name("config0"), format)]);
    let configs = configs(&[("config0", text), ("config1", "y")]);
    let templates = Templates::compile_with_formats("#!ipxe\n", &configs, &formats).unwrap();
    let key = ObjectKey::new("metal", "debian");
    let profile = Profile::with_templates(key, None, &BTreeMap::new(), Arc::new(templates));
    let ids = BTreeMap::from([(name("config1"), ID.parse().unwrap())]);
    render::config(
        &Arc::new(profile.with_ids(ids)),
        &name("config0"),
        &subject(query),
        None,
        "http://boot:8080",
    )
}

/// Renders a line of a script, which is text for people.
fn body(text: &str, query: &str) -> String {
    let script = script(&format!("#!ipxe\necho {text}\n"), query).unwrap();
    script
        .strip_prefix("#!ipxe\necho ")
        .unwrap()
        .strip_suffix('\n')
        .unwrap()
        .to_owned()
}
