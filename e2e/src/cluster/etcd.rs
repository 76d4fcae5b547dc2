//! etcd: arguments, revisions and backups.

use super::ports::Ports;
use super::{Cluster, Part, START};
use crate::http;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A copy of etcd's data.
#[derive(Debug)]
pub struct Backup {
    folder: tempfile::TempDir,
}

/// The command line of etcd.
pub(super) fn arguments(folder: &Path, ports: Ports) -> Vec<String> {
    let peer = format!("http://127.0.0.1:{}", ports.peer);
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={}", ports.etcd()),
        format!("--advertise-client-urls={}", ports.etcd()),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data need not survive a power cut.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        "--quota-backend-bytes=8589934592".to_owned(),
    ]
}

// === impl Cluster ===

impl Cluster {
    /// The newest revision, which is the `resourceVersion` of the last write.
    pub fn revision(&self) -> Result<u64> {
        let answer = self.ask_etcd(
            "/v3/kv/range",
            &json!({ "key": "AA==", "count_only": true }),
        )?;
        let revision = answer["header"]["revision"]
            .as_str()
            .and_then(|revision| revision.parse().ok());
        revision.with_context(|| format!("etcd names no revision: {answer}"))
    }

    /// Compacts the whole history. A client that continues from an older revision is answered 410,
    /// unless the API server still has that revision in its watch cache; call [`Cluster::restart`]
    /// to clear it.
    pub fn compact(&self) -> Result<u64> {
        let revision = self.revision()?;
        self.ask_etcd(
            "/v3/kv/compaction",
            &json!({ "revision": revision.to_string(), "physical": true }),
        )?;
        Ok(revision)
    }

    /// Copies the data. etcd is down meanwhile.
    pub fn back_up(&self) -> Result<Backup> {
        let folder = tempfile::tempdir().context("could not make a temporary folder")?;
        self.stop(Part::Etcd);
        copy(&self.folder().join("etcd"), folder.path())?;
        self.run(Part::Etcd)?;
        self.wait_until_ready(START)?;
        Ok(Backup { folder })
    }

    /// Replaces the data by an older copy, as in a disaster recovery: revisions go back and later
    /// writes are lost. Both programs are restarted.
    pub fn restore(&self, backup: &Backup) -> Result<()> {
        self.stop(Part::ApiServer);
        self.stop(Part::Etcd);
        let data = self.folder().join("etcd");
        fs::remove_dir_all(&data)
            .with_context(|| format!("could not remove {}", data.display()))?;
        copy(backup.folder.path(), &data)?;
        self.run(Part::Etcd)?;
        self.run(Part::ApiServer)?;
        self.wait_until_ready(START)
    }

    fn ask_etcd(&self, path: &str, request: &Value) -> Result<Value> {
        let answer = http::send(
            "POST",
            &format!("{}{path}", self.ports.etcd()),
            "application/json",
            &request.to_string(),
        )?;
        ensure!(
            answer.status == 200,
            "etcd answers {} to {path}: {}",
            answer.status,
            answer.body
        );
        serde_json::from_str(&answer.body)
            .with_context(|| format!("etcd's answer to {path} is no JSON: {}", answer.body))
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("could not make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)
                .with_context(|| format!("could not copy to {}", target.display()))?;
        }
    }
    Ok(())
}
