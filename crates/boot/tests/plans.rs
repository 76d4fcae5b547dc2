//! Compares rendering by plan with rendering by the engine, including errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use boot::render::{self, RenderError};
use boot::{
    Assignment, ConfigFormat, ConfigName, ExtrinsicLabels, MatchedBy, ObjectKey, Profile,
    Selection, Subject, SubjectSelectors, Templates,
};
use proptest::prelude::*;

/// A statement that does nothing and needs the engine.
const ENGINE: &str = "{% set nothing = 1 %}";

fn name(name: &str) -> ConfigName {
    name.parse().expect("a name")
}

/// A selection whose Profile has no id for `late` yet.
fn selection(script: &str, config: &str, format: Option<ConfigFormat>) -> Selection {
    let labels = BTreeMap::from([
        ("tier".to_owned(), "gold".to_owned()),
        ("empty".to_owned(), String::new()),
    ]);
    let configs = BTreeMap::from([
        (name("config0"), config.to_owned()),
        (name("late"), String::new()),
    ]);
    let formats = format.map(|format| (name("config0"), format)).into_iter();
    let templates = Templates::compile_with_formats(script, &configs, &formats.collect());
    let profile = Profile::with_templates(
        ObjectKey::new("metal", "debian"),
        None,
        &labels,
        Arc::new(templates.expect("it is a template")),
    );
    let ids = BTreeMap::from([(
        name("config0"),
        "47c6da67-7477-4970-aa03-84e48ff4f6ad"
            .parse()
            .expect("a UUID"),
    )]);
    let assignment = Assignment {
        key: ObjectKey::new("metal", "everyone"),
        created: None,
        labels: [("team", "sre")].into_iter().collect(),
        subjects: SubjectSelectors::default(),
        profiles: boot::Labels::default(),
        priority: 0,
        variables: boot::Variables::default(),
    };
    Selection {
        assignment: Arc::new(assignment),
        by: MatchedBy::Labels,
        profile: Arc::new(profile.with_ids(ids)),
    }
}

/// Renders a template as a script, and as a config of each format with and without an Assignment.
fn texts(template: &str, subject: &Arc<Subject>) -> Vec<Result<String, RenderError>> {
    let script = selection(template, "x", None);
    // A script is not rendered while a config of its Profile has no id.
    let ids: BTreeMap<_, _> = ["config0", "late"]
        .map(|config| {
            (
                name(config),
                "47c6da67-7477-4970-aa03-84e48ff4f6ad"
                    .parse()
                    .expect("a UUID"),
            )
        })
        .into();
    let script = Selection {
        profile: Arc::new(script.profile.with_ids(ids)),
        ..script
    };
    let mut texts = vec![script.script(subject, "http://boot:8080")];
    let formats = ConfigFormat::ALL.into_iter().map(Some).chain([None]);
    for format in formats {
        let config = selection("#!ipxe\n", template, format);
        for assignment in [Some(&config.assignment), None] {
            texts.push(render::config(
                &config.profile,
                &name("config0"),
                subject,
                assignment,
                "http://boot:8080",
            ));
        }
    }
    texts
}

fn term() -> impl Strategy<Value = String> {
    let key = || {
        prop::sample::select(vec![
            "uuid", "serial", "product", "asset", "rack", "region", "missing", "empty", "tier",
            "team",
        ])
    };
    let leaf = prop_oneof![
        4 => key().prop_map(|key| format!("subject.{key}")),
        1 => key().prop_map(|key| format!("subject['{key}']")),
        2 => key().prop_map(|key| format!("encoded.{key}")),
        1 => key().prop_map(|key| format!("extrinsic.{key}")),
        2 => prop::sample::select(vec!["profile", "assignment"]).prop_flat_map(move |object| {
            prop_oneof![Just("name".to_owned()), Just("namespace".to_owned()), key().prop_map(|key| format!("labels.{key}"))]
                .prop_map(move |part| format!("{object}.{part}"))
        }),
        2 => prop::sample::select(vec!["config0", "late", "base_url", "'text'", "''", "1", "true", "subject.rack|upper", "profile.labels['tier']"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 6, 2, |inner| {
        let filter = prop::sample::select(vec!["tojson", "toyaml", "shquote", "urlencode"]);
        prop_oneof![
            2 => (inner.clone(), inner.clone())
                .prop_map(|(term, other)| format!("{term} | default({other})")),
            1 => (inner, filter).prop_map(|(term, filter)| format!("({term}) | {filter}")),
        ]
    })
}

fn test() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        term().prop_map(|term| format!("({term})")),
        (
            term(),
            prop::sample::select(vec!["==", "!=", "<", "in"]),
            term()
        )
            .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        term().prop_map(|term| format!("({term}) is defined")),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|test| format!("not ({test})")),
            (
                inner.clone(),
                prop::sample::select(vec!["and", "or"]),
                inner
            )
                .prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
        ]
    })
}

fn template() -> impl Strategy<Value = String> {
    let marks = || prop::sample::select(vec!["", "-"]);
    let leaf = prop_oneof![
        "[ -z\n]{0,12}",
        (marks(), term(), marks())
            .prop_map(|(left, term, right)| format!("{{{{{left} {term} {right}}}}}")),
        Just("{# text #}".to_owned()),
        Just("{% for key in subject %}{{ key }}{% endfor %}".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|parts| parts.concat()),
            (test(), marks(), inner.clone(), inner).prop_map(|(test, mark, yes, no)| {
                format!("{{%{mark} if {test} %}}{yes}{{% else {mark}%}}{no}{{% endif %}}")
            }),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "",
        "R640",
        "Dell%20Inc.",
        "%24%7Bx%7D",
        "a%20||%20b",
        "%0A",
        "caf%FFFFFFC3%FFFFFFA9",
        "#1",
        "a%5C",
        "-rf",
        "a:",
        "http:%2F%2Fx",
        "it's",
        "$",
        "true",
    ]);
    let uuid = prop::sample::select(vec!["", "47c6da67-7477-4970-aa03-84e48ff4f6ad"]);
    (
        uuid,
        prop::collection::vec(
            (
                prop::sample::select(vec!["serial", "product", "asset", "rack", "empty"]),
                value,
            ),
            0..5,
        ),
    )
        .prop_map(|(uuid, labels)| {
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            labels
                .iter()
                .fold(format!("uuid={uuid}"), |query, (key, value)| {
                    format!("{query}&{key}={value}")
                })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn plans_render_the_same_text_as_the_engine(template in template(), query in query()) {
        // A few are not valid templates.
        let configs = ["config0", "late"].map(|config| (name(config), String::new())).into();
        if boot::Templates::compile(&template, &configs).is_err() {
            return Ok(());
        }
        let extrinsic = ExtrinsicLabels::new([("region", "us-cal"), ("team", "a || ${b} #c")]).expect("labels");
        let subject = Arc::new(Subject::from_query(&query, &extrinsic).expect("a query"));
        prop_assert_eq!(texts(&template, &subject), texts(&format!("{template}{ENGINE}"), &subject), "{}", template);
    }
}
