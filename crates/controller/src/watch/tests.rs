use std::sync::Arc;

use fake_apiserver::{FakeApiServer, Fault, When};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::*;

#[tokio::test]
async fn a_failing_watch_is_not_alive_because_probes_succeed() {
    let server = FakeApiServer::start()
        .await
        .expect("a free port on the loopback address");
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).expect("a valid kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    let client = Client::try_from(config).expect("a client");
    let (updates, mut incoming) = mpsc::channel(64);
    let source = Source {
        kind: ResourceKind::Assignment,
        namespace: None,
    };
    let following = tokio::spawn(
        SourceWatcher::<crd::Assignment>::new(
            &client,
            ResponseTimeout::default(),
            source,
            0,
            updates,
        )
        .run(Arc::default()),
    );
    while !matches!(incoming.recv().await, Some((_, Update::ListComplete))) {}
    let _cut = server.inject(When::watches(), Fault::CloseConnection);
    let mut failures = 0;
    while failures < 5 {
        match incoming.recv().await {
            Some((_, Update::Failed(_))) => failures += 1,
            Some((_, Update::Alive)) => {
                panic!("a failing watch was reported alive after {failures} failures")
            }
            _ => {}
        }
    }
    following.abort();
}
