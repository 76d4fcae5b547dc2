//! Detects fields of a newer resource definition.
//!
//! An unknown field may narrow the meaning of the known ones: selectors that are all unknown would
//! look like none, which is a default for every machine. So an object with an unknown field can't
//! be served. Anything that reads objects from an API server must check.

use serde::{Deserialize, Deserializer};
use serde_ignored::Path;

use crate::FieldPath;

/// Deserializes an object. Also returns the path of the first unknown field in its spec.
pub fn deserialize<'de, K: Deserialize<'de>, D: Deserializer<'de>>(
    object: D,
) -> Result<(K, Option<FieldPath>), D::Error> {
    let mut unknown = None;
    let read = serde_ignored::deserialize(object, |path| {
        // Newer API servers have more metadata, and newer controllers another status. Neither
        // changes the meaning of the object.
        if unknown.is_none() && is_in_spec(&path) {
            unknown = Some(field_path(&path));
        }
    })?;
    Ok((read, unknown))
}

fn is_in_spec(path: &Path<'_>) -> bool {
    match path {
        Path::Root => false,
        Path::Map {
            parent: Path::Root,
            key,
        } => key == "spec",
        Path::Map { parent, .. } | Path::Seq { parent, .. } => is_in_spec(parent),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => is_in_spec(parent),
    }
}

fn field_path(path: &Path<'_>) -> FieldPath {
    match path {
        Path::Root => FieldPath::default(),
        Path::Map { parent, key } => field_path(parent).key(key),
        Path::Seq { parent, index } => field_path(parent).index(*index),
        Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => field_path(parent),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Assignment, Profile};

    fn unknown<K: for<'de> Deserialize<'de>>(object: &Value) -> String {
        let (_, unknown) = deserialize::<K, _>(object).expect("all that is known is right");
        unknown.map(|field| field.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_unknown_spec_field_is_reported_at_any_depth() {
        let row = json!({ "key": "row", "operator": "Exists", "values": [] });
        let newer = json!({ "key": "row", "operator": "Exists", "not": true });
        let labels = json!({ "rack": "7", "anything": "goes" });
        for (spec, expected) in [
            (
                json!({ "subjectSelectors": { "assetTags": ["X"] } }),
                "spec.subjectSelectors.assetTags",
            ),
            (
                json!({ "subjectSelectors": { "uuids": [], "assetTags": null } }),
                "spec.subjectSelectors.assetTags",
            ),
            (
                json!({ "subjectSelectors": { "matchExpressions": [row, newer] } }),
                "spec.subjectSelectors.matchExpressions[1].not",
            ),
            (json!({ "suspend": true }), "spec.suspend"),
            (
                json!({ "subjectSelectors": { "matchLabels": labels, "matchExpressions": [row] }, "profileSelectors": labels }),
                "",
            ),
            (json!({}), ""),
        ] {
            assert_eq!(
                unknown::<Assignment>(&json!({ "metadata": { "name": "a" }, "spec": spec })),
                expected,
                "{spec}"
            );
        }
        let spec = json!({ "ipxe": "#!ipxe\n", "additionalConfig": { "any": "x" }, "kernel": {} });
        assert_eq!(
            unknown::<Profile>(&json!({ "metadata": { "name": "p" }, "spec": spec })),
            "spec.kernel"
        );
    }

    #[test]
    fn unknown_fields_in_metadata_and_status_are_ignored() {
        let object = json!({
            "apiVersion": crate::API_VERSION, "kind": "Assignment", "metadata": { "name": "a", "shard": 7 }, "spec": {},
            "status": { "machines": 7 }, "more": {},
        });
        assert_eq!(unknown::<Assignment>(&object), "");
    }
}
