//! The metadata that the webhook adds, and the writes that it is not asked about, on a real API
//! server.

use anyhow::{Result, ensure};
use e2e::admission::{SOON, Site};
use e2e::cluster::Answer;
use e2e::manifests::{assignment, profile};
use e2e::roles::eventually;

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

#[test]
fn the_author_is_recorded_and_nothing_drifts() -> Result<()> {
    let site = Site::start()?;
    let web = profile("linux", "#!ipxe\nboot\n")
        + "---\n"
        + &assignment("web", &format!("uuids: [{UUID}]"), "linux");
    site.kubectl.apply_server_side("gitops", &web)?;
    let read = |name: &str| site.kubectl.json(["get", name]);
    let first = read("assignment/web")?;
    let metadata = &first["metadata"];
    assert_eq!(metadata["labels"]["shaper.amahdha.com/scope"], "machine");
    assert_eq!(metadata["labels"]["shaper.amahdha.com/identities"], "1");
    assert_eq!(
        metadata["annotations"]["shaper.amahdha.com/author"],
        "admin"
    );
    ensure!(
        metadata["annotations"]
            .get("shaper.amahdha.com/last-editor")
            .is_none(),
        "{metadata}"
    );

    let settled = |name: &str| -> Result<String> {
        // The controller writes the status after a while.
        eventually(SOON, "status", || {
            Ok(read(name)?["status"]["observedGeneration"].as_u64())
        })?;
        Ok(read(name)?["metadata"]["resourceVersion"].to_string())
    };
    let versions = [settled("assignment/web")?, settled("profile/linux")?];
    site.kubectl.apply_server_side("gitops", &web)?;
    assert_eq!(
        [settled("assignment/web")?, settled("profile/linux")?],
        versions,
        "applied again, something was written"
    );
    for side in ["--server-side=true", "--server-side=false"] {
        let mut args = vec!["diff", side, "-f", "-"];
        if side.ends_with("true") {
            args.extend(["--field-manager", "gitops"]);
        }
        let diff = site.kubectl.answer(args, &web)?;
        let lines: Vec<_> = diff
            .stdout
            .lines()
            .filter(|line| line.starts_with(['+', '-']))
            .collect();
        // Without --server-side, kubectl stores its own annotation.
        let ours = lines.iter().any(|line| {
            line.contains("shaper.amahdha.com/scope") || line.contains("shaper.amahdha.com/author")
        });
        ensure!(
            !ours && (diff.success || side.ends_with("false")),
            "{side}: {diff:?}"
        );
    }

    let bob = site
        .cluster
        .user("bob", Some("system:masters"))?
        .in_namespace(&site.namespace);
    let changed = web.replace(&format!("uuids: [{UUID}]"), "matchLabels: {region: x}");
    bob.answer(
        [
            "apply",
            "--server-side",
            "--field-manager",
            "gitops",
            "-f",
            "-",
        ],
        &changed,
    )?
    .into_result()?;
    let metadata = &read("assignment/web")?["metadata"];
    assert_eq!(metadata["labels"]["shaper.amahdha.com/scope"], "group");
    assert_eq!(
        metadata["annotations"]["shaper.amahdha.com/author"],
        "admin"
    );
    assert_eq!(
        metadata["annotations"]["shaper.amahdha.com/last-editor"],
        "bob"
    );
    ensure!(
        read("profile/linux")?["metadata"]["annotations"]
            .get("shaper.amahdha.com/last-editor")
            .is_none()
    );
    let found = site.kubectl.run([
        "get",
        "assignments",
        "-l",
        "shaper.amahdha.com/scope=group",
        "-o",
        "name",
    ])?;
    assert_eq!(found.trim(), "assignment.shaper.amahdha.com/web");
    Ok(())
}

#[test]
fn objects_created_without_a_webhook_are_labelled_by_the_next_write() -> Result<()> {
    let site = Site::start()?;
    let configuration = site
        .webhook
        .webhook_configuration(&site.certificates.authority)?;
    site.kubectl.run([
        "delete",
        "validatingwebhookconfiguration,mutatingwebhookconfiguration",
        "shaper",
    ])?;
    let web = assignment("web", &format!("uuids: [{UUID}]"), "linux");
    let read = || site.kubectl.json(["get", "assignment", "web"]);
    // The API server uses the change after a moment.
    eventually(SOON, "it is written as it is", || {
        site.kubectl
            .answer(["delete", "assignment", "web", "--ignore-not-found"], "")?;
        site.kubectl.apply_server_side("gitops", &web)?;
        Ok(read()?["metadata"]["labels"].is_null().then_some(()))
    })?;
    site.kubectl.apply(&configuration)?;
    site.asks_again()?;

    let diff = || {
        site.kubectl.answer(
            [
                "diff",
                "--server-side",
                "--field-manager",
                "gitops",
                "-f",
                "-",
            ],
            &web,
        )
    };
    let added = |diff: &Answer| -> Vec<String> {
        let lines = diff.stdout.lines().filter(|line| {
            line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---")
        });
        lines.map(|line| line.replace(' ', "")).collect()
    };
    // Each of the two webhooks is called again from its own moment on.
    let said = eventually(SOON, "the labels are about to be added", || {
        Ok(Some(diff()?).filter(|diff| !diff.success))
    })?;
    assert_eq!(
        added(&said),
        [
            "+labels:",
            "+shaper.amahdha.com/identities:\"1\"",
            "+shaper.amahdha.com/scope:machine"
        ],
        "{said:?}"
    );
    site.kubectl.apply_server_side("gitops", &web)?;
    assert_eq!(
        read()?["metadata"]["labels"]["shaper.amahdha.com/scope"],
        "machine"
    );
    ensure!(
        read()?["metadata"]["annotations"].is_null(),
        "nobody knows who made it: {}",
        read()?
    );
    let said = diff()?;
    ensure!(said.success && said.stdout.is_empty(), "{said:?}");
    site.kubectl
        .apply_server_side("gitops", &web.replace("linux", "other"))?;
    let annotations = read()?["metadata"]["annotations"].clone();
    assert_eq!(
        annotations,
        serde_json::json!({ "shaper.amahdha.com/last-editor": "admin" })
    );
    Ok(())
}

#[test]
fn the_controllers_status_writes_are_not_reviewed() -> Result<()> {
    let site = Site::start()?;
    // The number of reviews that one of the two has answered, whatever the verdict.
    let asked = |webhook: &str, operation: &str| -> Result<u64> {
        let metrics = site.webhook.admin("/metrics")?.body;
        let (webhook, operation) = (
            format!("{{webhook=\"{webhook}\""),
            format!("operation=\"{operation}\""),
        );
        let is_meant = |line: &&str| {
            line.starts_with("shaper_webhook_reviews_total")
                && line.contains(&webhook)
                && line.contains(&operation)
        };
        Ok(metrics
            .lines()
            .filter(is_meant)
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    };
    let reviews = |operation: &str| {
        Ok::<_, anyhow::Error>([asked("validate", operation)?, asked("mutate", operation)?])
    };
    let written_status = |name: &str| {
        eventually(SOON, "the controller writes its status", || {
            let read = site.kubectl.json(["get", name])?;
            Ok(
                (read["status"]["observedGeneration"] == read["metadata"]["generation"])
                    .then_some(()),
            )
        })
    };
    let patch_status = || {
        site.kubectl.run([
            "patch",
            "profile/linux",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status":{"additionalConfig":{}}}"#,
        ])
    };
    let objects = profile("linux", "#!ipxe\nboot\n")
        + "---\n"
        + &assignment("web", &format!("uuids: [{UUID}]"), "linux");
    let [validated, mutated] = reviews("CREATE")?;
    site.kubectl.apply(&objects)?;
    assert_eq!(reviews("CREATE")?, [validated + 2, mutated + 2]);
    written_status("profile/linux")?;
    written_status("assignment/web")?;
    patch_status()?;
    assert_eq!(reviews("UPDATE")?, [0, 0], "the rules name no status");

    // A rule that covers status: the match condition exempts the controller's writes of it, and
    // only those.
    let wider = site
        .webhook
        .webhook_configuration(&site.certificates.authority)?;
    ensure!(wider.matches("    - assignments\n").count() == 2, "{wider}");
    site.kubectl.apply(&wider.replace(
        "    - assignments\n",
        "    - assignments\n    - assignments/status\n    - profiles/status\n",
    ))?;
    eventually(SOON, "the status of others is asked about", || {
        patch_status()?;
        Ok(reviews("UPDATE")?
            .iter()
            .all(|asked| *asked > 0)
            .then_some(()))
    })?;
    let [validated, mutated] = reviews("UPDATE")?;
    let changed = objects
        .replace("boot\n", "echo changed\n    boot\n")
        .replace("uuids: [", "serialNumbers: [x], uuids: [");
    site.kubectl.apply(&changed)?;
    written_status("profile/linux")?;
    written_status("assignment/web")?;
    assert_eq!(
        reviews("UPDATE")?,
        [validated + 2, mutated + 2],
        "of two objects the spec was changed, and no status is asked about"
    );
    Ok(())
}
