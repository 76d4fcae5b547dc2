//! The committed files of `config/webhook` with cert-manager, which issues the webhook's
//! certificate and tells the API server to trust it. They name a Service at port 443, so this needs
//! root.

use anyhow::{Context, Result, ensure};
use e2e::cert_manager::{CertManager, decoded};
use e2e::certificates::Directory;
use e2e::cluster::{Cluster, NAMESPACE};
use e2e::manifests::{assignment, examples, profile};
use e2e::roles::{FeedCertificates, Role, eventually};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

/// The webhook's address. All of 127.0.0.0/8 is the loopback interface, and nothing else uses this
/// address.
const ADDRESS: &str = "127.83.104.7";

#[test]
fn the_api_server_trusts_the_webhook_by_cert_manager_over_a_change_of_authority() -> Result<()> {
    let cluster = Cluster::start()?;
    let cert_manager = CertManager::start(&cluster)?;
    let system = cluster.admin().in_namespace(NAMESPACE);
    let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
    system.run([
        "apply".as_ref(),
        "-f".as_ref(),
        examples("cert-manager").as_os_str(),
    ])?;
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/webhook");
    system.run(["apply".as_ref(), "-k".as_ref(), config.as_os_str()])?;
    // Without kube-proxy a Service's address leads nowhere: the Service is an alias of the
    // webhook's address.
    system.run([
        "create",
        "service",
        "externalname",
        "shaper-webhook",
        "--external-name",
        ADDRESS,
    ])?;

    let authority = |secret: &str| {
        decoded(
            system.json(["get", "secret", secret])?["data"]["ca.crt"]
                .as_str()
                .context("no ca.crt")?,
        )
    };
    let believed = |kind: &str| -> Result<String> {
        let read = cluster.admin().json(["get", kind, "shaper"])?;
        decoded(
            read["webhooks"][0]["clientConfig"]["caBundle"]
                .as_str()
                .context("no caBundle")?,
        )
    };
    let injected = || {
        eventually(SOON, "the authority is in both configurations", || {
            let authority = authority("shaper-webhook")?;
            let mut there = true;
            for kind in [
                "validatingwebhookconfiguration",
                "mutatingwebhookconfiguration",
            ] {
                there &= believed(kind)?.contains(authority.trim());
            }
            Ok(there.then_some(authority))
        })
        .with_context(|| cert_manager.log())
    };
    let first = injected()?;

    let feed = FeedCertificates::new()?;
    let folder = tempfile::tempdir()?;
    let mut directory = Directory::at(folder.path())?;
    directory.write_secret(&system, "shaper-webhook")?;
    let controller = Role::controller(&cluster, feed.controller.path())?.start_ready()?;
    let webhook = Role::builder("webhook")
        .args([
            "--webhook-listen",
            &format!("{ADDRESS}:443"),
            "--feed",
            &controller.feed_url()?,
        ])
        .args([
            "--webhook-tls-dir".as_ref(),
            folder.path().as_os_str(),
            "--feed-tls-dir".as_ref(),
            feed.webhook.path().as_os_str(),
        ])
        .start_ready()?;
    let refuses = || {
        eventually(SOON, "the webhook is asked and believed", || {
            let answer = kubectl.answer(
                ["apply", "--dry-run=server", "-f", "-"],
                &profile("p", "#!ipxe\n{{ nobody }}\n"),
            )?;
            Ok((!answer.success).then_some(answer.stderr))
        })
    };
    let said = refuses()?;
    ensure!(
        said.starts_with(
            "The Profile \"p\" is invalid: spec.ipxe: line 2 of the text: `nobody` is not defined"
        ),
        "{said}"
    );
    kubectl.apply(&assignment(
        "a",
        "uuids: [47c6da67-7477-4970-aa03-84e48ff4f6ad]",
        "p",
    ))?;
    assert_eq!(
        kubectl.json(["get", "assignment", "a"])?["metadata"]["labels"]["shaper.amahdha.com/scope"],
        "machine"
    );

    // Applying the files again removes nothing that only cert-manager would restore.
    let again = system.run(["apply".as_ref(), "-k".as_ref(), config.as_os_str()])?;
    ensure!(
        again.lines().all(|line| line.ends_with("unchanged")),
        "{again}"
    );
    ensure!(believed("validatingwebhookconfiguration")?.contains(first.trim()));

    // Another authority and a certificate by it. A webhook configuration that trusts both for a
    // while must end up trusting only the new one.
    system.run(["delete", "secret", "shaper-ca"])?;
    eventually(SOON, "there is another authority", || {
        Ok((authority("shaper-ca")? != first).then_some(()))
    })?;
    system.run(["delete", "secret", "shaper-webhook"])?;
    eventually(SOON, "there is another certificate", || {
        Ok((authority("shaper-webhook")? != first).then_some(()))
    })?;
    assert_ne!(injected()?, first);
    refuses()?;
    directory.write_secret(&system, "shaper-webhook")?;
    let secret = system.json(["get", "secret", "shaper-webhook"])?;
    let patch = serde_json::json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": secret["data"]["ca.crt"] }]);
    let patch = patch.to_string();
    eventually(SOON, "it is believed by the new authority alone", || {
        system.run([
            "patch",
            "validatingwebhookconfiguration",
            "shaper",
            "--type=json",
            "-p",
            &patch,
        ])?;
        refuses()?;
        // cainjector may have written once more what it had read before.
        Ok((!believed("validatingwebhookconfiguration")?.contains(first.trim())).then_some(()))
    })?;
    webhook.stop()
}
