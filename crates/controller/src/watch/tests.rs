use std::sync::Arc;

use fake_apiserver::{FakeApiServer, Fault, When};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::*;

#[tokio::test]
async fn a_watch_that_fails_each_time_is_not_said_to_go_on_because_other_questions_are_answered() {
    let server = FakeApiServer::start()
        .await
        .expect("a port of the loopback address is free");
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).expect("it is one");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("it can be used");
    let client = Client::try_from(config).expect("it makes a client");
    let (updates, mut incoming) = mpsc::channel(64);
    let source = Source {
        is_profiles: false,
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
    let mut troubles = 0;
    while troubles < 5 {
        match incoming.recv().await {
            Some((_, Update::Failed(_))) => troubles += 1,
            Some((_, Update::Alive)) => {
                panic!("after {troubles} failures in a row, nothing is followed")
            }
            _ => {}
        }
    }
    following.abort();
}
