use std::collections::BTreeMap;

use boot::{Catalog, Change, ExtrinsicLabels, ObjectKey, Profile, SharedCatalog};
use http_body_util::BodyExt;

use super::*;

/// A replica that serves one Profile and one Assignment of each of two clusters.
fn admin() -> Admin {
    Admin::new(state(), Access::default())
}

fn state() -> AdminState {
    let mut catalog = Catalog::new();
    for partition in ["east", "west"] {
        let key = ObjectKey::new("default", "p").in_partition(partition);
        let configs = BTreeMap::from([("c".parse().unwrap(), "{{ subject.serial }}".to_owned())]);
        let profile = Profile::compile(
            key.clone(),
            None,
            &BTreeMap::new(),
            "#!ipxe\necho {{ c }}\n",
            &configs,
        )
        .unwrap();
        let ids = BTreeMap::from([(
            "c".parse().unwrap(),
            uuid::Uuid::from_u128(0x1234_5678 << 96),
        )]);
        catalog.apply(Change::Profile(Arc::new(profile.with_ids(ids))));
        catalog.apply(Change::Assignment(Arc::new(boot::Assignment {
            key,
            created: None,
            labels: boot::Labels::default(),
            subjects: boot::SubjectSelectors::default(),
            profiles: boot::Labels::default(),
            priority: 0,
            variables: boot::Variables::default(),
        })));
    }
    let boot = Arc::new(BootService::new(
        Arc::new(SharedCatalog::new(catalog)),
        ExtrinsicLabels::default(),
        None,
    ));
    boot.set_synced();
    AdminState {
        registry: Registry::default(),
        boot: Some(boot),
        parts: Vec::new(),
        not_ready: CancellationToken::new(),
    }
}

fn client(is_local: bool) -> Client {
    if is_local {
        Client::Loopback
    } else {
        Client::Remote
    }
}

async fn get(path: &str, is_local: bool) -> (u16, String) {
    let request = Request::get(path)
        .header("host", "localhost:9090")
        .body(())
        .unwrap();
    let reply = admin().answer(&request, client(is_local));
    let status = reply.status().as_u16();
    (
        status,
        String::from_utf8(
            reply
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .to_vec(),
        )
        .unwrap(),
    )
}

#[tokio::test]
async fn scripts_configs_and_the_list_are_for_loopback_only() {
    for path in [
        "/explain/script?serial=S1",
        "/explain/config/c?serial=S1",
        "/catalog",
    ] {
        assert_eq!(get(path, false).await.0, 403, "{path}");
        assert_eq!(get(path, true).await.0, 200, "{path}");
    }
    assert_eq!(get("/explain?serial=S1", false).await.0, 200);
    assert_eq!(get("/explain/config/c?serial=S1", true).await.1, "S1");
    assert!(
        get("/explain/script?serial=S1", true)
            .await
            .1
            .contains("/config/12345678-")
    );
}

#[tokio::test]
async fn the_list_has_no_ids_and_can_be_limited_to_one_partition() {
    let (_, all) = get("/catalog", true).await;
    assert!(!all.contains("12345678"), "{all}");
    let list: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(
        list["metadata"]["partitions"],
        serde_json::json!(["east", "west"])
    );
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    let (_, one) = get("/catalog?partition=west", true).await;
    let list: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_rendering_error_names_its_cause() {
    let (status, text) = get("/explain/config/c?mac=52:54:00:00:00:01", true).await;
    assert!(
        status == 422 && text.contains("needs the label \"serial\""),
        "{text}"
    );
    let (status, text) = get("/explain/config/nothing?serial=S1", true).await;
    assert!(
        status == 404 && text.contains("has no config \"nothing\""),
        "{text}"
    );
}

#[test]
fn every_documented_path_answers_with_documented_statuses_only() {
    for path in paths::PATHS {
        let url = path.path.replace("NAME", "c").replace("...", "");
        for is_local in [true, false] {
            let request = Request::builder()
                .method(if path.methods == "POST" {
                    Method::POST
                } else {
                    Method::GET
                })
                .uri(&url)
                .header("host", "localhost")
                .header("x-shaper-request", "1")
                .body(())
                .unwrap();
            let reply = admin().answer(&request, client(is_local));
            let status = reply.status().as_u16();
            assert!(
                path.statuses
                    .iter()
                    .any(|(documented, _)| *documented == status),
                "{}: {status}",
                path.path
            );
            assert_eq!(status == 403, path.is_local && !is_local, "{}", path.path);
        }
        let request = Request::delete(&url).body(()).unwrap();
        let reply = admin().answer(&request, Client::Loopback);
        assert_eq!(reply.headers()[http::header::ALLOW], path.methods);
    }
}

#[test]
fn a_page_and_a_stranger_s_host_reach_only_probes_and_metrics() {
    for path in paths::PATHS {
        let url = path.path.replace("NAME", "c").replace("...", "");
        let is_open = ["/healthz", "/readyz", "/metrics"].contains(&path.path);
        for (host, origin) in [
            ("evil.example", None),
            ("localhost", Some("https://evil.example")),
        ] {
            let mut request = Request::builder().uri(&url).header("host", host);
            if path.methods == "POST" {
                request = request.method(Method::POST).header("x-shaper-request", "1");
            }
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let reply = admin().answer(&request.body(()).unwrap(), Client::Loopback);
            assert_eq!(reply.status() == StatusCode::FORBIDDEN, !is_open, "{url}");
        }
    }
}

#[test]
fn the_guard_is_not_confirmed_without_the_header() {
    let request = Request::post("/guard/confirm").header("host", "localhost");
    let reply = admin().answer(&request.body(()).unwrap(), Client::Loopback);
    assert_eq!(reply.status(), StatusCode::FORBIDDEN);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    // Far less than an answer, so that it can't be written without a reader.
    let (server, mut client) = tokio::io::duplex(64);
    let serving = tokio::spawn(serve_stream(
        Arc::new(admin()),
        server,
        Client::Loopback,
        Connection::uncounted(([127, 0, 0, 1], 1).into()),
    ));
    let request = b"GET /explain?serial=S1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    client.write_all(request).await.unwrap();
    tokio::time::timeout(2 * WRITE_TIMEOUT, serving)
        .await
        .expect("the connection ends")
        .unwrap();
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert!(read.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_list_holds_its_place_until_it_is_read() {
    let admin = admin();
    let ask = || {
        let request = Request::get("/catalog").header("host", "localhost");
        admin.answer(&request.body(()).unwrap(), Client::Loopback)
    };
    let mut open: Vec<_> = (0..4).map(|_| ask()).collect();
    let refused = ask();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "5");
    let read = open.pop().unwrap().into_body().collect().await;
    let list: serde_json::Value = serde_json::from_slice(&read.unwrap().to_bytes()).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 4);
    assert_eq!(ask().status(), StatusCode::OK);
}
