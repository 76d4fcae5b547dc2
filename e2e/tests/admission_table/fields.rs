//! What the API server refuses by itself.

use serde_json::json;

use super::cases::{Case, assignment, beyond, case, machine, many, profile};

#[expect(clippy::too_many_lines, reason = "it is a table")]
pub(crate) fn of_fields() -> Vec<Case> {
    vec![
        case(
            "spec.ipxe",
            profile(json!({ "ipxe": "" })),
            &[
                "The Profile \"p\" is invalid: spec.ipxe: Invalid value: \"\": spec.ipxe in body should be at least 1 chars long",
            ],
        ),
        beyond(
            "spec.ipxe",
            profile(json!({ "ipxe": "x".repeat(1_048_577) })),
            "spec.ipxe: Too long: may not be more than 1048576 bytes",
        ),
        beyond(
            "spec.additionalConfig",
            profile(json!({ "ipxe": "x", "additionalConfig": many(65, |n| format!("c{n}")) })),
            "spec.additionalConfig: Too many: 65: must have at most 64 items",
        ),
        case(
            "spec.additionalConfig",
            profile(json!({ "ipxe": "x", "additionalConfig": { "user-data": "x" } })),
            &[
                "The Profile \"p\" is invalid: spec.additionalConfig: Invalid value: \"user-data\" is not a valid config name: it must be an identifier (letters, digits and _, not starting with a digit, at most 63 characters), so that {{ NAME }} is a variable",
            ],
        ),
        case(
            "spec.additionalConfig",
            profile(json!({ "ipxe": "x", "additionalConfig": { "subject": "x" } })),
            &[
                "The Profile \"p\" is invalid: spec.additionalConfig: Invalid value: \"subject\" is not a valid config name: it is reserved in templates; choose another",
            ],
        ),
        beyond(
            "spec.additionalConfig.*",
            profile(json!({ "ipxe": "x", "additionalConfig": { "a": "x".repeat(1_048_577) } })),
            "spec.additionalConfig.a: Too long: may not be more than 1048576 bytes",
        ),
        case(
            "spec",
            profile(
                json!({ "ipxe": "x", "additionalConfig": { "ks": "x" }, "configFormats": { "sk": "yaml" } }),
            ),
            &[
                "The Profile \"p\" is invalid: spec: Invalid value: config name \"sk\" in configFormats is not in additionalConfig",
            ],
        ),
        beyond(
            "spec.configFormats",
            profile(
                json!({ "ipxe": "x", "configFormats": many(65, |n| format!("c{n}")).into_iter().map(|(name, _)| (name, json!("yaml"))).collect::<serde_json::Map<_, _>>() }),
            ),
            "spec.configFormats: Too many: 65: must have at most 64 items",
        ),
        beyond(
            "spec.configFormats.*",
            profile(
                json!({ "ipxe": "x", "additionalConfig": { "a": "x" }, "configFormats": { "a": "yml" } }),
            ),
            "spec.configFormats.a: Unsupported value: \"yml\": supported values: \"yaml\", \"json\", \"shell\", \"kickstart\", \"text\"",
        ),
        beyond(
            "spec.subjectSelectors.uuids",
            assignment(
                json!({ "subjectSelectors": { "uuids": vec!["47c6da67-7477-4970-aa03-84e48ff4f6ad"; 4097] } }),
            ),
            "spec.subjectSelectors.uuids: Too many: 4097: must have at most 4096 items",
        ),
        case(
            "spec.subjectSelectors.uuids[]",
            assignment(json!({ "subjectSelectors": { "uuids": ["x"] } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.uuids[0]: Invalid value: \"x\": is not a UUID: write 32 hexadecimal digits, with dashes as in 47c6da67-7477-4970-aa03-84e48ff4f6ad or without any",
            ],
        ),
        beyond(
            "spec.subjectSelectors.uuids[]",
            assignment(
                json!({ "subjectSelectors": { "uuids": ["47c6da67-7477-4970-aa03-84e48ff4f6ad0"] } }),
            ),
            "spec.subjectSelectors.uuids[0]: Too long: may not be more than 36 bytes",
        ),
        beyond(
            "spec.subjectSelectors.serialNumbers",
            assignment(json!({ "subjectSelectors": { "serialNumbers": vec!["x"; 4097] } })),
            "spec.subjectSelectors.serialNumbers: Too many: 4097: must have at most 4096 items",
        ),
        case(
            "spec.subjectSelectors.serialNumbers[]",
            assignment(json!({ "subjectSelectors": { "serialNumbers": [" "] } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.serialNumbers[0]: Invalid value: \" \": is not a serial number: it is blank; remove it, or write what the machine presents as its serial",
            ],
        ),
        beyond(
            "spec.subjectSelectors.serialNumbers[]",
            assignment(json!({ "subjectSelectors": { "serialNumbers": ["x".repeat(257)] } })),
            "spec.subjectSelectors.serialNumbers[0]: Too long: may not be more than 256 bytes",
        ),
        beyond(
            "spec.subjectSelectors.macAddresses",
            assignment(
                json!({ "subjectSelectors": { "macAddresses": vec!["525400123456"; 4097] } }),
            ),
            "spec.subjectSelectors.macAddresses: Too many: 4097: must have at most 4096 items",
        ),
        case(
            "spec.subjectSelectors.macAddresses[]",
            assignment(json!({ "subjectSelectors": { "macAddresses": ["52:54"] } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.macAddresses[0]: Invalid value: \"52:54\": is not a MAC address: write 6 octets (8 or 20 for InfiniBand) in hexadecimal, separated by ':' or '-' or not at all",
            ],
        ),
        beyond(
            "spec.subjectSelectors.macAddresses[]",
            assignment(json!({ "subjectSelectors": { "macAddresses": ["5".repeat(60)] } })),
            "spec.subjectSelectors.macAddresses[0]: Too long: may not be more than 59 bytes",
        ),
        beyond(
            "spec.subjectSelectors.matchLabels",
            assignment(
                json!({ "subjectSelectors": { "matchLabels": many(65, |n| format!("k{n}")) } }),
            ),
            "spec.subjectSelectors.matchLabels: Too many: 65: must have at most 64 items",
        ),
        case(
            "spec.subjectSelectors.matchLabels",
            assignment(json!({ "subjectSelectors": { "matchLabels": { "a/b/c": "x" } } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchLabels: Invalid value: \"a/b/c\" is not a label key: use 1 to 253 bytes, without control characters and with at most one '/'",
            ],
        ),
        case(
            "spec.subjectSelectors.matchLabels.*",
            assignment(json!({ "subjectSelectors": { "matchLabels": { "row": "" } } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchLabels[row]: Invalid value: \"\": machines never present an empty value; operator DoesNotExist selects machines without the label",
            ],
        ),
        beyond(
            "spec.subjectSelectors.matchLabels.*",
            assignment(
                json!({ "subjectSelectors": { "matchLabels": { "row": "x".repeat(1025) } } }),
            ),
            "spec.subjectSelectors.matchLabels.row: Too long: may not be more than 1024 bytes",
        ),
        beyond(
            "spec.subjectSelectors.matchExpressions",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": vec![json!({ "key": "a", "operator": "Exists" }); 65] } }),
            ),
            "spec.subjectSelectors.matchExpressions: Too many: 65: must have at most 64 items",
        ),
        case(
            "spec.subjectSelectors",
            assignment(json!({ "subjectSelectors": { "serialNumbers": [] } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors: Invalid value: lists of identities are there, but all of them are empty; add an identity, or remove the lists so that the labels decide (without labels, every machine matches)",
            ],
        ),
        case(
            "spec.subjectSelectors.matchExpressions[]",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "In" }] } }),
            ),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchExpressions[0]: Invalid value: operators In and NotIn need at least one value",
            ],
        ),
        case(
            "spec.subjectSelectors.matchExpressions[]",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["x"] }] } }),
            ),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchExpressions[0]: Invalid value: operators Exists and DoesNotExist take no values",
            ],
        ),
        case(
            "spec.subjectSelectors.matchExpressions[].key",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a/b/c", "operator": "Exists" }] } }),
            ),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchExpressions[0].key: Invalid value: \"a/b/c\": is not a label key: use 1 to 253 bytes, without control characters and with at most one '/'",
            ],
        ),
        beyond(
            "spec.subjectSelectors.matchExpressions[].key",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "x".repeat(254), "operator": "Exists" }] } }),
            ),
            "spec.subjectSelectors.matchExpressions[0].key: Too long: may not be more than 253 bytes",
        ),
        beyond(
            "spec.subjectSelectors.matchExpressions[].operator",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "in" }] } }),
            ),
            "spec.subjectSelectors.matchExpressions[0].operator: Unsupported value: \"in\": supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\"",
        ),
        beyond(
            "spec.subjectSelectors.matchExpressions[].values",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "In", "values": vec!["x"; 257] }] } }),
            ),
            "spec.subjectSelectors.matchExpressions[0].values: Too many: 257: must have at most 256 items",
        ),
        case(
            "spec.subjectSelectors.matchExpressions[].values[]",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "In", "values": [""] }] } }),
            ),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.matchExpressions[0].values[0]: Invalid value: \"\": machines never present an empty value; operator DoesNotExist selects machines without the label",
            ],
        ),
        beyond(
            "spec.subjectSelectors.matchExpressions[].values[]",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["x".repeat(1025)] }] } }),
            ),
            "spec.subjectSelectors.matchExpressions[0].values[0]: Too long: may not be more than 1024 bytes",
        ),
        beyond(
            "spec.profileSelectors",
            assignment(json!({ "profileSelectors": many(65, |n| format!("k{n}")) })),
            "spec.profileSelectors: Too many: 65: must have at most 64 items",
        ),
        case(
            "spec.profileSelectors",
            assignment(json!({ "profileSelectors": { "a/b/c": "x" } })),
            &[
                "The Assignment \"a\" is invalid: spec.profileSelectors: Invalid value: \"a/b/c\" is not a label key: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit, optionally after a DNS name and one '/'",
            ],
        ),
        case(
            "spec.profileSelectors.*",
            assignment(json!({ "profileSelectors": { "os": "a b" } })),
            &[
                "The Assignment \"a\" is invalid: spec.profileSelectors[os]: Invalid value: \"a b\": is not a label value: use at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
            ],
        ),
        beyond(
            "spec.profileSelectors.*",
            assignment(json!({ "profileSelectors": { "os": "x".repeat(64) } })),
            "spec.profileSelectors.os: Too long: may not be more than 63 bytes",
        ),
        case(
            "spec.priority",
            assignment(json!({ "priority": 1_000_001 })),
            &[
                "The Assignment \"a\" is invalid: spec.priority: Invalid value: 1000001: spec.priority in body should be less than or equal to 1000000",
            ],
        ),
        case(
            "spec.priority",
            assignment(json!({ "priority": -1_000_001 })),
            &[
                "The Assignment \"a\" is invalid: spec.priority: Invalid value: -1000001: spec.priority in body should be greater than or equal to -1000000",
            ],
        ),
        case(
            "spec.uuid",
            machine(json!({ "uuid": "x" })),
            &[
                "The Machine \"m\" is invalid: spec.uuid: Invalid value: \"x\": is not a UUID: write 32 hexadecimal digits, with dashes as in 47c6da67-7477-4970-aa03-84e48ff4f6ad or without any",
            ],
        ),
        beyond(
            "spec.uuid",
            machine(json!({ "uuid": "0".repeat(37) })),
            "spec.uuid: Too long: may not be more than 36 bytes",
        ),
        beyond(
            "spec.serialNumber",
            machine(json!({ "serialNumber": "x".repeat(257) })),
            "spec.serialNumber: Too long: may not be more than 256 bytes",
        ),
        beyond(
            "spec.macAddresses[]",
            machine(json!({ "macAddresses": ["0".repeat(60)] })),
            "spec.macAddresses[0]: Too long: may not be more than 59 bytes",
        ),
        case(
            "spec.serialNumber",
            machine(json!({ "serialNumber": " " })),
            &[
                "The Machine \"m\" is invalid: spec.serialNumber: Invalid value: \" \": is not a serial number: it is blank; remove it, or write what the machine presents as its serial",
            ],
        ),
        beyond(
            "spec.macAddresses",
            machine(
                json!({ "macAddresses": (0..65).map(|n| format!("0200000000{n:02}")).collect::<Vec<_>>() }),
            ),
            "spec.macAddresses: Too many: 65: must have at most 64 items",
        ),
        case(
            "spec.macAddresses[]",
            machine(json!({ "macAddresses": ["nonsense"] })),
            &[
                "The Machine \"m\" is invalid: spec.macAddresses[0]: Invalid value: \"nonsense\": is not a MAC address: write 6 octets (8 or 20 for InfiniBand) in hexadecimal, separated by ':' or '-' or not at all",
            ],
        ),
        case(
            "spec",
            machine(json!({ "macAddresses": [] })),
            &[
                "The Machine \"m\" is invalid: spec: Invalid value: a Machine needs at least one of uuid, serialNumber and macAddresses",
            ],
        ),
        beyond(
            "schema",
            assignment(json!({ "priority": "high" })),
            "spec.priority: Invalid value: \"string\": spec.priority in body must be of type integer: \"string\"",
        ),
        case(
            "conversion",
            assignment(json!({ "subjectSelectors": { "macAddresses": ["nonsense"] } })),
            &[
                "The Assignment \"a\" is invalid: spec.subjectSelectors.macAddresses[0]: Invalid value: \"nonsense\": is not a MAC address: write 6 octets (8 or 20 for InfiniBand) in hexadecimal, separated by ':' or '-' or not at all",
            ],
        ),
    ]
}
