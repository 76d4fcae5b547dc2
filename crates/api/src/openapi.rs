//! The `OpenAPI` document of the HTTP server.

use std::sync::OnceLock;

use serde_json::{Value, json};

use boot::subject::{MAX_LABELS, MAX_VALUE_BYTES};

/// The `OpenAPI` 3.1 document, as served at `/openapi.json` and committed as `config/openapi.json`.
pub fn openapi() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| format!("{:#}\n", document()))
}

fn document() -> Value {
    let script = "An iPXE script: it starts with `#!ipxe`.";
    let labels = json!({
        "name": "labels", "in": "query", "required": false, "style": "form", "explode": true,
        "description": format!("What the machine presents: uuid, mac, serial, buildarch, platform, manufacturer, product, asset, hostname and others; at most {MAX_LABELS}, values of at most {MAX_VALUE_BYTES} bytes. An empty value is an absent label."),
        "schema": {"type": "object", "additionalProperties": {"type": "string", "maxLength": MAX_VALUE_BYTES}},
    });
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "format": "uuid"}, "description": "The id from the link in the script."});
    let path = |name: &str, description: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}, "description": description});
    let file = json!({"name": "file", "in": "path", "required": true, "schema": {"type": "string", "enum": ["user-data", "meta-data", "vendor-data", "network-config"]}, "description": "The file that cloud-init asks for."});
    let in_path = path("labels", "The labels in the form of a query: k=v&k=v.");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "shaper",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a machine fetches while it boots. GET and HEAD only; everything else is 405. Empty segments of a path don't count: `//boot.ipxe` and `/ipxe/` are `/boot.ipxe` and `/ipxe`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/boot.ipxe": {"get": operation("bootstrap", "The first script of every machine: requests /ipxe with the machine's labels until it gets a script.", script, &json!([]), &[400])},
            "/autoexec.ipxe": {"get": operation("autoexec", "The same, under the name that iPXE requests by itself, at any depth.", script, &json!([]), &[400])},
            "/ipxe": {"get": operation("script", "The script of the Profile that an Assignment selects for the machine.", script, &json!([labels]), &[400, 404, 414, 500, 503])},
            "/config/{id}": {"get": operation("config", "One config of a Profile, rendered for the machine.", "The rendered config.", &json!([id, labels]), &[400, 404, 414, 500, 503])},
            "/config/{id}/{file}": {"get": operation("nocloud", "The files of cloud-init's NoCloud.", "The file.", &json!([id, file, labels]), &[400, 404, 500, 503])},
            "/config/{id}/{labels}/{file}": {"get": operation("nocloudFor", "The files of cloud-init's NoCloud, where no query can be sent.", "The file.", &json!([id, in_path, file]), &[400, 404, 500, 503])},
            "/openapi.json": {"get": operation("openapi", "This document.", "This document.", &json!([]), &[])},
        },
    })
}

fn operation(id: &str, summary: &str, body: &str, parameters: &Value, failures: &[u16]) -> Value {
    let text = json!({"text/plain": {"schema": {"type": "string"}}});
    let json = json!({"application/json": {"schema": {"type": "object"}}});
    let content = if id == "openapi" { &json } else { &text };
    let mut responses = serde_json::Map::new();
    responses.insert(
        "200".into(),
        json!({"description": body, "content": content}),
    );
    for status in failures.iter().chain(&[431]) {
        let mut response = json!({"description": meaning(*status), "content": text});
        if *status == 503 {
            response["headers"] = json!({"Retry-After": {"schema": {"type": "integer", "minimum": 2, "maximum": 10}, "description": "Seconds; iPXE waits and retries by itself."}});
        }
        responses.insert(status.to_string(), response);
    }
    json!({"operationId": id, "summary": summary, "parameters": parameters, "responses": responses})
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => {
            "The query or the Host header is invalid, or a template needs a label that the machine does not present."
        }
        404 => "No Assignment or Profile matches this machine, or no config has this id.",
        414 => "Path and query are too long.",
        431 => "The headers are too long.",
        500 => "A template failed.",
        _ => {
            "Not loaded yet, an object of this machine is invalid, its config's id is not unique, or too many requests."
        }
    }
}
