//! The cluster harness: what other tests rely on when they break a cluster.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, Part};
use std::time::Duration;

const READY: Duration = Duration::from_mins(2);

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
}

fn has(cluster: &Cluster, name: &str) -> Result<bool> {
    Ok(!cluster
        .kubectl(["get", "configmap", name, "--ignore-not-found"])?
        .is_empty())
}

#[test]
fn writes_survive_a_restart_of_either_program() -> Result<()> {
    let cluster = Cluster::bare()?;
    cluster.admin().apply(&config_map("kept"))?;
    let server = cluster.server();
    for part in [Part::ApiServer, Part::Etcd] {
        cluster.kill(part);
        let answer = cluster
            .admin()
            .answer(["get", "configmap", "kept", "--request-timeout=2s"], "")?;
        ensure!(
            !answer.success,
            "{part:?} is dead, and the API server still answers"
        );
        cluster.run(part)?;
        cluster.wait_until_ready(READY)?;
        assert!(has(&cluster, "kept")?);
    }
    cluster.restart(Part::ApiServer)?;
    assert!(has(&cluster, "kept")?);
    assert_eq!(cluster.server(), server);
    Ok(())
}

#[test]
fn a_paused_process_answers_nothing_until_resumed() -> Result<()> {
    let cluster = Cluster::bare()?;
    for part in [Part::ApiServer, Part::Etcd] {
        cluster.pause(part)?;
        // A write, since some reads need no etcd.
        let answer = cluster
            .admin()
            .answer(["create", "configmap", "late", "--request-timeout=2s"], "")?;
        ensure!(
            !answer.success,
            "{part:?} stands still, and the API server still answers"
        );
        cluster.resume(part)?;
        cluster.wait_until_ready(READY)?;
    }
    cluster.admin().apply(&config_map("later"))?;
    assert!(has(&cluster, "later")?);
    Ok(())
}

#[test]
fn a_client_behind_a_compaction_gets_410() -> Result<()> {
    let cluster = Cluster::bare()?;
    cluster.admin().apply(&config_map("first"))?;
    let old = cluster.json_version("first")?;
    cluster.admin().apply(&config_map("second"))?;
    let compacted = cluster.compact()?;
    assert!(compacted >= cluster.json_version("second")?);
    cluster.restart(Part::ApiServer)?;
    let watch = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion={old}"
    );
    let answer = cluster.admin().answer(["get", "--raw", &watch], "")?;
    assert!(answer.stdout.contains("\"code\":410"), "{answer:?}");
    Ok(())
}

#[test]
fn a_restored_etcd_has_the_revision_of_its_backup() -> Result<()> {
    let cluster = Cluster::bare()?;
    cluster.admin().apply(&config_map("before"))?;
    let backup = cluster.back_up()?;
    cluster.admin().apply(&config_map("after"))?;
    let newest = cluster.json_version("after")?;
    assert!(has(&cluster, "before")? && has(&cluster, "after")?);

    cluster.restore(&backup)?;
    assert!(has(&cluster, "before")? && !has(&cluster, "after")?);
    cluster.admin().apply(&config_map("again"))?;
    // The API server's own bookkeeping may have written a few revisions, but fewer than before.
    assert!(cluster.json_version("before")? < newest);
    Ok(())
}

#[test]
fn two_clusters_run_at_once_and_share_nothing() -> Result<()> {
    let (one, other) = (Cluster::bare()?, Cluster::bare()?);
    assert_ne!(one.server(), other.server());
    one.admin().apply(&config_map("mine"))?;
    assert!(has(&one, "mine")? && !has(&other, "mine")?);
    // A user of one cluster is unknown to the other.
    let stranger = one.user("somebody", Some("system:masters"))?;
    let server = format!("--server={}", other.server());
    let refusal = stranger.answer([server.as_str(), "get", "namespaces"], "")?;
    ensure!(
        !refusal.success && refusal.stderr.contains("certificate"),
        "{refusal:?}"
    );
    Ok(())
}

#[test]
fn a_stopped_cluster_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::bare()?;
    let folder = cluster.folder().to_owned();
    let pids: Vec<_> = [Part::ApiServer, Part::Etcd]
        .into_iter()
        .filter_map(|part| cluster.pid(part))
        .collect();
    assert_eq!(pids.len(), 2);
    drop(cluster);
    assert!(!folder.exists());
    assert!(
        pids.iter()
            .all(|pid| !std::path::Path::new("/proc").join(pid.to_string()).exists())
    );
    Ok(())
}

trait Version {
    fn json_version(&self, config_map: &str) -> Result<u64>;
}

impl Version for Cluster {
    fn json_version(&self, config_map: &str) -> Result<u64> {
        Ok(self
            .kubectl([
                "get",
                "configmap",
                config_map,
                "-o",
                "jsonpath={.metadata.resourceVersion}",
            ])?
            .parse()?)
    }
}
