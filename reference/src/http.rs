//! Generates `http.md`: the HTTP endpoints of the server for machines, the admin port and the
//! webhook.

use serde_json::Value;
use shaper::admin::paths::{AdminPath, PATHS};

use crate::markdown::{code, described, head, sentence, table};

pub(crate) fn page() -> String {
    let document: Value = serde_json::from_str(api::openapi()).expect("the document is JSON");
    let mut page = head(
        "HTTP",
        "The paths for machines, which `shaper api` and `shaper standalone` serve, and the admin port, which every server has. \
         The paths for machines are also an OpenAPI document, `config/openapi.json`, served at `/openapi.json`.",
    );
    page += "\n## For machines\n\n";
    page += &described(
        "the OpenAPI document",
        document["info"]["description"].as_str(),
    );
    page += "\n";
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        page += &operation(path, &operations["get"]);
    }
    page += "\n## Admin port\n\n\
             `--admin-listen` names its address. An unknown path answers 404 with the list of paths, another method 405 with `Allow`. \
             Paths marked *local* answer only clients that connect from the machine, or the pod, itself, because what they show may \
             hold secrets, or because they change something.\n\n\
             All paths but `/healthz`, `/readyz` and `/metrics` need a Host that is `localhost`, a loopback address or a name of \
             `--admin-host`, and answer 403 to requests from web pages (`Origin`, `Sec-Fetch-Site`) and through proxies (`Forwarded`, \
             `X-Forwarded-*`, `Via`, `X-Real-IP`). On a Unix socket, any Host will do.\n";
    for path in PATHS {
        page += &admin(path);
    }
    page
}

fn operation(path: &str, operation: &Value) -> String {
    let summary = described(path, operation["summary"].as_str());
    let mut text = format!("\n### `GET {path}`\n\n{summary}\n\n");
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let mut parameters = parameters
        .map(|parameter| {
            let name = parameter["name"].as_str().unwrap_or_default();
            let place = parameter["in"].as_str().unwrap_or_default();
            let what = format!("{path}: parameter {name}");
            let mut meaning = described(&what, parameter["description"].as_str());
            if let Some(values) = parameter["schema"]["enum"].as_array() {
                let values: Vec<_> = values.iter().filter_map(Value::as_str).map(code).collect();
                meaning += &format!(" One of {}.", values.join(", "));
            }
            [code(name), place.to_owned(), meaning]
        })
        .peekable();
    if parameters.peek().is_some() {
        text += &table(["parameter", "in", "meaning"], parameters);
        text += "\n";
    }
    let responses = operation["responses"].as_object().into_iter().flatten();
    let responses = responses.map(|(status, response)| {
        let what = format!("{path}: status {status}");
        let mut meaning = described(&what, response["description"].as_str());
        for (header, value) in response["headers"].as_object().into_iter().flatten() {
            let what = format!("{what}, header {header}");
            let says = described(&what, value["description"].as_str());
            meaning += &format!(" {}: {says}", code(header));
        }
        [status.clone(), meaning]
    });
    text + &table(["status", "meaning"], responses)
}

fn admin(path: &AdminPath) -> String {
    let local = if path.is_local { " *Local.*" } else { "" };
    let statuses = path.statuses.iter().map(|(status, meaning)| {
        let what = format!("{}: status {status}", path.path);
        [status.to_string(), described(&what, Some(meaning))]
    });
    format!(
        "\n### `{} {}`\n\n{}{local}\n\n{}",
        path.methods,
        path.path,
        sentence(&described(path.path, Some(path.summary))),
        table(["status", "meaning"], statuses)
    )
}
