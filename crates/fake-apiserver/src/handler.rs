//! Handles requests.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::apply::{Conflict, merge};
use crate::call::{Call, Patch, Verb};
use crate::fault::Fault;
use crate::response::{ApiError, Body, json_response};
use crate::store::{Key, Store, is_cluster_scoped};
use crate::{ServerState, listing, watch};

/// Handles a request. `None` closes the connection.
pub(crate) async fn handle(
    shared: Arc<ServerState>,
    request: Request<Incoming>,
) -> Option<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    if head.uri.path() == "/version" {
        return Some(json_response(
            200,
            &json!({ "major": "1", "minor": "37", "gitVersion": "v1.37.0" }),
        ));
    }
    if let ["apis", group, version] = *segments(head.uri.path()) {
        let is_terminating = shared.state().settings.is_terminating;
        return Some(json_response(
            200,
            &resources(&format!("{group}/{version}"), is_terminating),
        ));
    }
    let Some(call) = Call::parse(&head.method, &head.uri, &head.headers, &body) else {
        return Some(
            ApiError::new(
                404,
                "NotFound",
                format!("this server does not support {} {}", head.method, head.uri),
            )
            .to_response(None),
        );
    };
    let fault = {
        let mut state = shared.state();
        state.calls.push(call.clone());
        if call.namespace.is_some() && is_cluster_scoped(&call.plural) {
            return Some(not_found(&call).to_response(None));
        }
        // A watch triggers this fault in its stream, which it can then cut off.
        let applies = |fault: Fault| {
            fault.affects_responses()
                && !(call.verb == Verb::Watch && fault == Fault::CloseConnection)
        };
        state.faults.trigger(&call, applies)
    };
    match fault.map(|(_, fault)| fault) {
        Some(Fault::Status(code, retry_after)) => {
            let reason = StatusCode::from_u16(code)
                .ok()
                .and_then(|code| code.canonical_reason())
                .unwrap_or("Unknown");
            return Some(
                ApiError::new(code, "", format!("injected fault: {reason}"))
                    .to_response(retry_after),
            );
        }
        Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CloseConnection) => return None,
        _ => {}
    }
    let is_discarded = matches!(fault, Some((_, Fault::Discard)));
    let response = match call.verb {
        Verb::Watch => watch::open(&shared, call),
        Verb::List => listing::list(&shared, &call).map(|list| json_response(200, &list)),
        verb if verb == Verb::Get || is_discarded => {
            let state = shared.state();
            let found = state
                .store
                .get(&call.plural, &key(&call))
                .ok_or_else(|| not_found(&call));
            found.map(|object| json_response(200, &object))
        }
        _ => write(&shared, &call).map(|(code, object)| json_response(code, &object)),
    };
    Some(response.unwrap_or_else(|error| error.to_response(None)))
}

fn segments(path: &str) -> Vec<&str> {
    path.trim_matches('/').split('/').collect()
}

/// The custom resources of a group, as discovery shows them.
fn resources(group_version: &str, is_terminating: bool) -> Value {
    let verbs: &[&str] = if is_terminating {
        &["delete", "get", "list", "watch"]
    } else {
        &[
            "create", "delete", "get", "list", "patch", "update", "watch",
        ]
    };
    let resource = |plural: &str, kind: &str| json!({ "name": plural, "singularName": "", "kind": kind, "namespaced": !is_cluster_scoped(plural), "verbs": verbs });
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": [
            resource("profiles", "Profile"),
            resource("assignments", "Assignment"),
            resource("machines", "Machine"),
        ],
    })
}

fn write(shared: &ServerState, call: &Call) -> Result<(u16, Value), ApiError> {
    let mut state = shared.state();
    let store = &mut state.store;
    let written = match call.verb {
        Verb::Create => create(store, call).map(|object| (201, object)),
        Verb::Update => update(store, call).map(|object| (200, object)),
        Verb::Patch if call.patch == Patch::Merge => {
            merge_patch(store, call).map(|object| (200, object))
        }
        Verb::Patch if call.patch == Patch::Apply => apply_patch(store, call),
        Verb::Delete => {
            let (namespace, name) = key(call);
            let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
            if store.delete(&call.plural, &namespace, &name) {
                Ok((200, status))
            } else {
                Err(not_found(call))
            }
        }
        _ => Err(ApiError::new(
            415,
            "UnsupportedMediaType",
            "this server supports only merge patches and server-side apply",
        )),
    };
    drop(state);
    shared.notify_watches();
    written
}

fn create(store: &mut Store, call: &Call) -> Result<Value, ApiError> {
    let mut object = call.body.clone();
    let metadata = &mut object["metadata"];
    if let (Some(prefix), None) = (metadata["generateName"].as_str(), metadata["name"].as_str()) {
        metadata["name"] = format!("{prefix}{}", &Uuid::new_v4().simple().to_string()[..5]).into();
    }
    let name = metadata["name"]
        .as_str()
        .ok_or_else(|| ApiError::new(422, "Invalid", "name or generateName is required"))?;
    let key = (call.namespace.clone().unwrap_or_default(), name.to_owned());
    if store.get(&call.plural, &key).is_some() {
        return Err(ApiError::new(
            409,
            "AlreadyExists",
            format!("{} \"{}\" already exists", call.plural, key.1),
        ));
    }
    Ok((*store.write(&call.plural, &key, None, object)).clone())
}

fn update(store: &mut Store, call: &Call) -> Result<Value, ApiError> {
    let key = key(call);
    let old = store
        .get(&call.plural, &key)
        .ok_or_else(|| not_found(call))?;
    check_version(call, &old, &call.body)?;
    let object = call.body.clone();
    let stored = match call.subresource {
        Some(_) => store.write_status(&call.plural, &key, &old, object.get("status").cloned()),
        None => store.write(&call.plural, &key, Some(&old), object),
    };
    Ok((*stored).clone())
}

fn merge_patch(store: &mut Store, call: &Call) -> Result<Value, ApiError> {
    let key = key(call);
    let old = store
        .get(&call.plural, &key)
        .ok_or_else(|| not_found(call))?;
    check_version(call, &old, &call.body)?;
    let mut object = (*old).clone();
    merge(&mut object, &call.body);
    let stored = match call.subresource {
        Some(_) => store.write_status(&call.plural, &key, &old, object.get("status").cloned()),
        None => store.write(&call.plural, &key, Some(&old), object),
    };
    Ok((*stored).clone())
}

fn apply_patch(store: &mut Store, call: &Call) -> Result<(u16, Value), ApiError> {
    let manager = call
        .parameter("fieldManager")
        .ok_or_else(|| ApiError::new(422, "Invalid", "fieldManager is required for apply patch"))?;
    let (key, old) = (key(call), store.get(&call.plural, &key(call)));
    if let Some(old) = &old {
        check_version(call, old, &call.body)?;
    }
    let force = call.is_set("force");
    let applied_key = (
        format!(
            "{}/{}",
            call.plural,
            call.subresource.as_deref().unwrap_or_default()
        ),
        key.clone(),
    );
    let mut applied = store.applied.get(&applied_key).cloned().unwrap_or_default();
    let conflict = |conflict: Conflict| {
        let Conflict { manager, field } = conflict;
        ApiError::new(
            409,
            "Conflict",
            format!("Apply failed with 1 conflict: conflict with \"{manager}\": {field}"),
        )
    };
    let (code, stored) = match (&call.subresource, old) {
        (Some(_), None) => return Err(not_found(call)),
        (Some(_), Some(old)) => {
            let mut object = (*old).clone();
            applied
                .apply(
                    manager,
                    &json!({ "status": call.body["status"] }),
                    force,
                    &mut object,
                )
                .map_err(conflict)?;
            (
                200,
                store.write_status(
                    &call.plural,
                    &key,
                    &old,
                    object
                        .get("status")
                        .filter(|status| !status.is_null())
                        .cloned(),
                ),
            )
        }
        (None, old) => {
            let base = || json!({ "apiVersion": call.api_version(), "kind": call.body["kind"], "metadata": {} });
            let mut object = old.as_ref().map_or_else(base, |old| (**old).clone());
            let mut wanted = call.body.clone();
            for name in ["name", "namespace", "resourceVersion", "uid"] {
                wanted["metadata"]
                    .as_object_mut()
                    .map(|metadata| metadata.remove(name));
            }
            applied
                .apply(manager, &wanted, force, &mut object)
                .map_err(conflict)?;
            (
                if old.is_some() { 200 } else { 201 },
                store.write(&call.plural, &key, old.as_ref(), object),
            )
        }
    };
    store.applied.insert(applied_key, applied);
    Ok((code, (*stored).clone()))
}

/// Rejects a write that is based on an outdated object.
fn check_version(call: &Call, old: &Value, new: &Value) -> Result<(), ApiError> {
    let version = &new["metadata"]["resourceVersion"];
    let is_current =
        version.is_null() || version == "" || *version == old["metadata"]["resourceVersion"];
    let (plural, name) = (&call.plural, call.name.as_deref().unwrap_or_default());
    let message = || {
        format!(
            "Operation cannot be fulfilled on {plural} \"{name}\": the object has been modified; please apply your changes to the latest version and try again"
        )
    };
    if is_current {
        Ok(())
    } else {
        Err(ApiError::new(409, "Conflict", message()))
    }
}

fn not_found(call: &Call) -> ApiError {
    ApiError::new(
        404,
        "NotFound",
        format!(
            "{} \"{}\" not found",
            call.plural,
            call.name.as_deref().unwrap_or_default()
        ),
    )
}

fn key(call: &Call) -> Key {
    (
        call.namespace.clone().unwrap_or_default(),
        call.name.clone().unwrap_or_default(),
    )
}
