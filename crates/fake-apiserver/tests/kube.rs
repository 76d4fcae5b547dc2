//! The Kubernetes client that shaper uses works with this server and sees its faults as real ones.

use std::time::Duration;

use anyhow::{Context, Result};
use crd::{Assignment, Machine, Profile};
use fake_apiserver::{FakeApiServer, Fault, Verb, When};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::time::timeout;

const TIMEOUT: Duration = Duration::from_secs(20);

async fn client(server: &FakeApiServer) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(
        Kubeconfig::from_yaml(&server.kubeconfig())?,
        &KubeConfigOptions::default(),
    )
    .await?;
    Ok(Client::try_from(config)?)
}

async fn assignments(server: &FakeApiServer) -> Result<Api<Assignment>> {
    Ok(Api::all(client(server).await?))
}

fn assignment(name: &str) -> Value {
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": { "name": name }, "spec": { "priority": 1 } })
}

fn profile(name: &str) -> Value {
    json!({ "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Profile", "metadata": { "name": name }, "spec": { "ipxe": "#!ipxe" } })
}

/// Describes a watcher event.
fn describe(event: &watcher::Event<Assignment>) -> String {
    match event {
        watcher::Event::Init => "init".to_owned(),
        watcher::Event::InitDone => "done".to_owned(),
        watcher::Event::InitApply(object) => format!(
            "init {}",
            object.metadata.name.as_deref().unwrap_or_default()
        ),
        watcher::Event::Apply(object) => format!(
            "apply {}",
            object.metadata.name.as_deref().unwrap_or_default()
        ),
        watcher::Event::Delete(object) => format!(
            "delete {}",
            object.metadata.name.as_deref().unwrap_or_default()
        ),
    }
}

struct TestWatcher(
    std::pin::Pin<
        Box<dyn futures_util::Stream<Item = watcher::Result<watcher::Event<Assignment>>> + Send>,
    >,
);

impl TestWatcher {
    async fn start(server: &FakeApiServer, config: watcher::Config) -> Result<Self> {
        let stream = watcher(assignments(server).await?, config);
        Ok(Self(Box::pin(stream.backoff(ShortBackoff))))
    }

    /// The next event; errors are skipped.
    async fn next(&mut self) -> Result<String> {
        timeout(TIMEOUT, async {
            loop {
                if let Ok(event) = self.0.next().await.context("the watcher ended")? {
                    return Ok(describe(&event));
                }
            }
        })
        .await
        .context("nothing came")?
    }

    async fn next_events(&mut self, count: usize) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.next().await?);
        }
        Ok(all)
    }
}

/// A constant short backoff.
struct ShortBackoff;

impl Iterator for ShortBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
}

impl Backoff for ShortBackoff {
    fn reset(&mut self) {}
}

#[tokio::test]
async fn pages_of_a_list_do_not_show_later_changes() -> Result<()> {
    let server = FakeApiServer::start().await?;
    for number in 0..25 {
        server.put(assignment(&format!("a{number:02}")));
    }
    let api = assignments(&server).await?;
    let first = api.list(&ListParams::default().limit(10)).await?;
    assert_eq!(
        (first.items.len(), first.metadata.remaining_item_count),
        (10, Some(15))
    );
    server.delete("assignments", "default", "a15");
    let next = |list: &kube::core::ObjectList<Assignment>| {
        ListParams::default()
            .limit(10)
            .continue_token(list.metadata.continue_.as_deref().unwrap_or_default())
    };
    let second = api.list(&next(&first)).await?;
    assert_eq!(second.items.len(), 10);
    assert!(
        second
            .items
            .iter()
            .any(|object| object.metadata.name.as_deref() == Some("a15"))
    );
    let third = api.list(&next(&second)).await?;
    assert_eq!(
        (third.items.len(), third.metadata.continue_.as_deref()),
        (5, None)
    );

    server.compact();
    let expired = api
        .list(&next(&first))
        .await
        .err()
        .context("a page of a forgotten list was given")?;
    assert!(
        matches!(&expired, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"),
        "{expired:?}"
    );
    assert_eq!(server.count(Verb::List, "assignments"), 4);
    Ok(())
}

#[tokio::test]
async fn a_watcher_lists_and_then_watches() -> Result<()> {
    for config in [
        watcher::Config::default().page_size(2),
        watcher::Config::default().streaming_lists(),
    ] {
        let server = FakeApiServer::start().await?;
        for name in ["a", "b", "c"] {
            server.put(assignment(name));
        }
        let mut watcher_events = TestWatcher::start(&server, config).await?;
        assert_eq!(
            watcher_events.next_events(5).await?,
            ["init", "init a", "init b", "init c", "done"]
        );
        server.put(assignment("d"));
        let mut changed = assignment("a");
        changed["spec"]["priority"] = 2.into();
        server.put(changed);
        server.put(assignment("b"));
        server.delete("assignments", "default", "c");
        // `b` was unchanged, so there is no event for it.
        assert_eq!(
            watcher_events.next_events(3).await?,
            ["apply d", "apply a", "delete c"]
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_watch_lists_answers_422() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.set_watch_list(false);
    let watch = assignments(&server)
        .await?
        .watch(&WatchParams::default().initial_events(), "")
        .await;
    let Err(kube::Error::Api(status)) = watch.map(drop) else {
        anyhow::bail!("the watch was granted")
    };
    assert_eq!(status.code, 422);
    Ok(())
}

#[tokio::test]
async fn an_idle_watch_gets_bookmarks() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.set_bookmark_interval(Duration::from_millis(50));
    server.put(profile("elsewhere"));
    let watch = assignments(&server)
        .await?
        .watch(&WatchParams::default(), "0")
        .await?;
    let event = timeout(TIMEOUT, watch.boxed().try_next())
        .await??
        .context("the watch ended")?;
    assert!(
        matches!(&event, WatchEvent::Bookmark(bookmark) if bookmark.metadata.resource_version == "1"),
        "{event:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_watcher_behind_a_compaction_relists() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.put(assignment("a"));
    let mut watcher_events = TestWatcher::start(&server, watcher::Config::default()).await?;
    assert_eq!(
        watcher_events.next_events(3).await?,
        ["init", "init a", "done"]
    );
    let cut = server.inject(When::watches(), Fault::CloseConnection);
    server.put(assignment("b"));
    server.compact();
    cut.end();
    assert_eq!(
        watcher_events.next_events(4).await?,
        ["init", "init a", "init b", "done"]
    );
    Ok(())
}

#[tokio::test]
async fn a_watcher_relists_after_every_410() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let gone = server.inject(When::watches(), Fault::Gone);
    let mut watcher_events = TestWatcher::start(&server, watcher::Config::default()).await?;
    assert_eq!(
        watcher_events.next_events(6).await?,
        ["init", "done", "init", "done", "init", "done"]
    );
    assert!(server.count(Verb::List, "assignments") >= 3);
    gone.end();
    server.put(assignment("a"));
    while watcher_events.next().await? != "apply a" {}
    Ok(())
}

#[tokio::test]
async fn a_relist_can_be_truncated_once() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.put(assignment("a"));
    let mut watcher_events = TestWatcher::start(&server, watcher::Config::default()).await?;
    assert_eq!(
        watcher_events.next_events(3).await?,
        ["init", "init a", "done"]
    );
    let _empty = server.inject(
        When::lists().of("assignments").times(1),
        Fault::TruncateList(0),
    );
    let _gone = server.inject(When::watches().times(1), Fault::Gone);
    assert_eq!(watcher_events.next_events(2).await?, ["init", "done"]);
    let _gone = server.inject(When::watches().times(1), Fault::Gone);
    assert_eq!(
        watcher_events.next_events(3).await?,
        ["init", "init a", "done"]
    );
    Ok(())
}

#[tokio::test]
async fn a_stalled_watch_sends_nothing_until_the_fault_ends() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.set_bookmark_interval(Duration::from_millis(10));
    let mut watch = assignments(&server)
        .await?
        .watch(&WatchParams::default().timeout(1), "0")
        .await?
        .boxed();
    timeout(TIMEOUT, watch.try_next())
        .await??
        .context("no bookmark came")?;
    let stall = server.inject(When::watches(), Fault::StallWatch);
    server.put(assignment("a"));
    // Longer than the watch's timeout. Events that were already on their way may still arrive.
    let silence = async {
        while watch
            .try_next()
            .await?
            .is_some_and(|event| matches!(event, WatchEvent::Bookmark(_)))
        {}
        anyhow::Ok(())
    };
    assert!(timeout(Duration::from_millis(1500), silence).await.is_err());
    stall.end();
    loop {
        let event = timeout(TIMEOUT, watch.try_next())
            .await??
            .context("the watch ended")?;
        if let WatchEvent::Added(object) = event {
            assert_eq!(object.metadata.name.as_deref(), Some("a"));
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_429_fault_sends_retry_after_and_ends_after_its_count() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.put(profile("p"));
    let _storm = server.inject(When::verbs([Verb::Get]), Fault::Status(429, Some(1)));
    let request = || {
        http::Request::get(format!(
            "{}/apis/shaper.amahdha.com/v1alpha1/namespaces/default/profiles/p",
            server.url()
        ))
    };
    // kube retries by itself, so look at the raw response.
    let answer = raw_response(&server, &request().body(())?).await?;
    assert!(
        answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: 1\r\n"),
        "{answer}"
    );

    let server = FakeApiServer::start().await?;
    server.put(profile("p"));
    let _storm = server.inject(
        When::verbs([Verb::Get]).times(2),
        Fault::Status(429, Some(1)),
    );
    let api: Api<Profile> = Api::default_namespaced(client(&server).await?);
    api.get("p").await?;
    assert_eq!(server.count(Verb::Get, "profiles"), 3);
    Ok(())
}

/// The raw response to a GET request.
async fn raw_response(server: &FakeApiServer, request: &http::Request<()>) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream =
        tokio::net::TcpStream::connect(server.url().trim_start_matches("http://")).await?;
    stream
        .write_all(
            format!(
                "GET {} HTTP/1.1\r\nHost: fake\r\nConnection: close\r\n\r\n",
                request.uri().path()
            )
            .as_bytes(),
        )
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn responses_can_be_delayed_or_withheld_and_connections_closed() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.put(profile("p"));
    let api: Api<Profile> = Api::default_namespaced(client(&server).await?);
    let slow = server.inject(When::any(), Fault::Delay(Duration::from_millis(200)));
    assert!(
        timeout(Duration::from_millis(50), api.get("p"))
            .await
            .is_err()
    );
    timeout(TIMEOUT, api.get("p")).await??;
    slow.end();
    let hang = server.inject(When::any(), Fault::Hang);
    assert!(
        timeout(Duration::from_millis(200), api.get("p"))
            .await
            .is_err()
    );
    hang.end();
    let cut = server.inject(When::any(), Fault::CloseConnection);
    assert!(timeout(TIMEOUT, api.get("p")).await?.is_err());
    cut.end();
    timeout(TIMEOUT, api.get("p")).await??;
    Ok(())
}

#[tokio::test]
async fn an_invalid_event_is_a_watch_error() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let _garbage = server.inject(When::watches().times(1), Fault::InvalidEvent);
    let mut watch = assignments(&server)
        .await?
        .watch(&WatchParams::default(), "0")
        .await?
        .boxed();
    assert!(timeout(TIMEOUT, watch.try_next()).await?.is_err());
    Ok(())
}

#[tokio::test]
async fn a_lease_update_needs_the_latest_resource_version() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let api: Api<Lease> = Api::namespaced(client(&server).await?, "shaper-system");
    let lease: Lease = serde_json::from_value(
        json!({ "metadata": { "name": "shaper-controller" }, "spec": { "holderIdentity": "a" } }),
    )?;
    let created = api.create(&PostParams::default(), &lease).await?;
    let again = api
        .create(&PostParams::default(), &lease)
        .await
        .err()
        .context("it was made twice")?;
    assert!(
        matches!(&again, kube::Error::Api(status) if status.code == 409 && status.reason == "AlreadyExists"),
        "{again:?}"
    );

    let mut mine = created.clone();
    mine.spec.as_mut().context("it has a spec")?.holder_identity = Some("b".to_owned());
    let replaced = api
        .replace("shaper-controller", &PostParams::default(), &mine)
        .await?;
    assert_ne!(
        replaced.metadata.resource_version,
        created.metadata.resource_version
    );
    let late = api
        .replace("shaper-controller", &PostParams::default(), &mine)
        .await
        .err()
        .context("an old one was written")?;
    assert!(
        matches!(&late, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"),
        "{late:?}"
    );
    assert!(api.get_opt("another").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn applying_the_same_status_again_changes_nothing() -> Result<()> {
    let server = FakeApiServer::start().await?;
    server.put(profile("p"));
    let api: Api<Profile> = Api::default_namespaced(client(&server).await?);
    let condition = json!({ "type": "Accepted", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let id = "445a4753-3d59-4429-8cea-7db9febdecad";
    let apply = |ids: Value| {
        let patch = json!({
            "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Profile", "metadata": { "name": "p" }, "spec": { "ipxe": "never" },
            "status": { "observedGeneration": 1, "additionalConfig": ids, "conditions": [condition] },
        });
        let (api, params) = (api.clone(), PatchParams::apply("shaper-controller").force());
        async move { api.patch_status("p", &params, &Patch::Apply(patch)).await }
    };
    let first = apply(json!({ "a": id, "b": id })).await?;
    assert_eq!(first.spec.ipxe, "#!ipxe");
    let same = apply(json!({ "a": id, "b": id })).await?;
    assert_eq!(
        same.metadata.resource_version,
        first.metadata.resource_version
    );
    let fewer = apply(json!({ "b": id })).await?;
    assert_ne!(
        fewer.metadata.resource_version,
        first.metadata.resource_version
    );
    let status = fewer.status.context("it has a status")?;
    assert_eq!(status.additional_config.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(status.conditions.len(), 1);

    let merged = api
        .patch_status(
            "p",
            &PatchParams::default(),
            &Patch::Merge(json!({ "status": { "observedGeneration": null } })),
        )
        .await?;
    assert_eq!(
        merged
            .status
            .context("it has a status")?
            .observed_generation,
        None
    );
    assert_eq!(merged.metadata.generation, Some(1));
    assert_eq!(server.count(Verb::Patch, "profiles"), 4);
    Ok(())
}

#[tokio::test]
async fn events_get_generated_names() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let api: Api<k8s_openapi::api::events::v1::Event> =
        Api::default_namespaced(client(&server).await?);
    let event = serde_json::from_value(
        json!({ "metadata": { "generateName": "p." }, "eventTime": null, "reason": "Accepted" }),
    )?;
    api.create(&PostParams::default(), &event).await?;
    api.create(&PostParams::default(), &event).await?;
    assert_eq!(server.objects("events").len(), 2);
    assert_eq!(
        server
            .calls()
            .iter()
            .filter(|call| call.verb == Verb::Create)
            .count(),
        2
    );
    Ok(())
}

#[tokio::test]
async fn a_label_selector_watch_sees_objects_enter_and_leave() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let params = WatchParams::default().labels("serve=true");
    let mut watch = assignments(&server)
        .await?
        .watch(&params, "0")
        .await?
        .boxed();
    let mut labelled = assignment("a");
    server.put(labelled.clone());
    labelled["metadata"]["labels"] = json!({ "serve": "true" });
    server.put(labelled);
    server.put(assignment("a"));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match timeout(TIMEOUT, watch.try_next())
            .await??
            .context("the watch ended")?
        {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
            event => anyhow::bail!("{event:?}"),
        }
    }
    assert_eq!(seen, ["added", "deleted"]);
    Ok(())
}

#[tokio::test]
async fn a_machine_is_in_no_namespace() -> Result<()> {
    let server = FakeApiServer::start().await?;
    let stored = server.put(json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Machine",
        "metadata": { "name": "m" }, "spec": { "serialNumber": "s" },
    }));
    assert_eq!(stored["metadata"].get("namespace"), None);
    let client = client(&server).await?;
    let machines: Api<Machine> = Api::all(client.clone());
    let patch = json!({
        "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Machine",
        "metadata": { "name": "m" }, "status": { "identities": "serial s" },
    });
    let parameters = PatchParams::apply("test").force();
    machines
        .patch_status("m", &parameters, &Patch::Apply(&patch))
        .await?;
    let listed = machines.list(&ListParams::default()).await?.items;
    let [machine] = &*listed else {
        anyhow::bail!("one Machine is expected: {listed:?}");
    };
    assert_eq!(machine.metadata.namespace, None);
    let identities = machine
        .status
        .as_ref()
        .and_then(|it| it.identities.as_deref());
    assert_eq!(identities, Some("serial s"));
    let path = "/apis/shaper.amahdha.com/v1alpha1/namespaces/default/machines";
    let request = http::Request::get(path).body(Vec::new())?;
    let error = client.request::<Value>(request).await.unwrap_err();
    assert!(
        matches!(&error, kube::Error::Api(status) if status.code == 404),
        "{error}"
    );
    Ok(())
}
