//! The `CustomResourceDefinition`s as files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::assignment::Assignment;
use crate::profile::Profile;

/// The definitions of Profile and Assignment, in this order.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Profile::crd(), Assignment::crd()].map(|definition| {
        let mut json =
            serde_json::to_value(definition).expect("a definition is made of maps with text keys");
        unwrap_descriptions(&mut json);
        serde_json::from_value(json).expect("only texts have changed")
    })
}

/// Joins the lines of each paragraph in descriptions, so that `kubectl explain` does not show the
/// line breaks of the source code.
fn unwrap_descriptions(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => {
                        let paragraphs: Vec<_> = text
                            .split("\n\n")
                            .map(|paragraph| paragraph.replace('\n', " "))
                            .collect();
                        *text = paragraphs.join("\n\n");
                    }
                    value => unwrap_descriptions(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(unwrap_descriptions),
        _ => {}
    }
}

/// The files in `config/crd` as pairs of name and content.
pub fn manifests() -> [(String, String); 2] {
    definitions().map(|definition| {
        let yaml = serde_saphyr::to_string(&definition).expect("a definition is made of maps with text keys");
        let head = "# Written by `cargo xtask generate` from crates/crd; kubectl apply --server-side -f takes it.\n";
        (format!("{}.yaml", definition.spec.names.plural), format!("{head}{yaml}"))
    })
}
