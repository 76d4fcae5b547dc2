//! Admission on a real API server, as a kubectl user sees it, with and without the webhook.

use anyhow::{Context, Result, ensure};
use e2e::admission::{SOON, Site, warnings};
use e2e::certificates::Authority;
use e2e::cluster::Cluster;
use e2e::manifests::{assignment, profile};
use e2e::roles::{FeedCertificates, Role, WebhookCertificates, eventually};
use std::time::{Duration, Instant};

const UUID: &str = "47c6da67-7477-4970-aa03-84e48ff4f6ad";

/// Profiles that can't be served, and the message for each.
fn wrong_profiles() -> Vec<(String, String)> {
    let invalid = |says: &str| format!("The Profile \"p\" is invalid: {says}");
    let config = |text: &str| {
        profile("p", "#!ipxe\nboot\n") + &format!("  additionalConfig:\n    a: \"{text}\"\n")
    };
    vec![
        (
            profile("p", "#!ipxe\nkernel {{ nobody }}\n"),
            invalid(
                "spec.ipxe: line 2 of the text: `nobody` is not defined (configs of this Profile: none; built-in variables: subject, encoded, \
                 extrinsic, machine, vars, profile, assignment, base_url)",
            ),
        ),
        (
            profile("p", "#!ipxe\n{% if %}\n"),
            invalid("spec.ipxe: line 2 of the text: "),
        ),
        (
            profile("p", "#!ipxe\ngoto nowhere\n"),
            invalid("spec.ipxe: line 2 of the text: "),
        ),
        (
            config("{{ a | nothing }}"),
            invalid("spec.additionalConfig.a: line 1 of the text: "),
        ),
        (
            config(
                "{% for x in range(1000) %}{% for y in range(1000) %}{{ x }}{% endfor %}{% endfor %}",
            ),
            invalid("spec.additionalConfig.a: "),
        ),
    ]
}

#[test]
fn the_webhook_refuses_what_cannot_be_served() -> Result<()> {
    let site = Site::start()?;
    for (manifest, says) in wrong_profiles() {
        let said = site.kubectl.refused(&manifest)?;
        println!("{}", said.trim_end());
        ensure!(
            said.starts_with(&says) && said.trim_end().lines().count() == 1,
            "{said}"
        );
    }
    // The schema refuses it in its own words, and the webhook is not called.
    let said = site.kubectl.refused(&assignment("a", "uuids: [x]", "p"))?;
    ensure!(
        said.starts_with("The Assignment \"a\" is invalid: spec.subjectSelectors.uuids[0]: Invalid value: \"x\": is not a UUID"),
        "{said}"
    );

    site.webhook.signal("KILL")?;
    for (manifest, _) in wrong_profiles().into_iter().rev() {
        site.kubectl.apply(&manifest)?;
    }
    let said = site.kubectl.refused(&assignment("a", "uuids: [x]", "p"))?;
    ensure!(said.contains("is not a UUID"), "{said}");
    // Then the condition reports it.
    eventually(SOON, "the controller does not accept it", || {
        let read = site.kubectl.run(["get", "profile", "p", "-o", "wide"])?;
        Ok(read.contains("False").then_some(()))
    })
}

#[test]
fn questionable_objects_are_written_with_a_warning() -> Result<()> {
    let site = Site::start()?;
    let ns = &site.namespace;
    let none: [&str; 0] = [];
    let linux = "#!ipxe\nboot\n";
    assert_eq!(
        site.warned(&profile("linux", linux))?,
        [format!(
            "Profile linux: metadata.labels: no Assignment in namespace {ns} selects this Profile, so no machine boots it (add an Assignment whose \
             profileSelectors are among its labels, or remove this Profile)"
        )]
    );
    assert_eq!(
        site.warned(&assignment("web", &format!("uuids: [{UUID}]"), "linus"))?,
        [format!(
            "Assignment web: spec.profileSelectors: no Profile in namespace {ns} has the labels profile=linus: its machines boot nothing (did you mean \
             profile=linux?)"
        )]
    );
    assert_eq!(
        site.warned(&assignment("web", &format!("uuids: [{UUID}]"), "linux"))?,
        none
    );
    site.knows("1 Assignments, 1 Profiles")?;

    // Creation times are in seconds.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(
        site.warned(&assignment("web-2", &format!("uuids: [{UUID}]"), "linux"))?,
        [format!(
            "Assignment web-2: spec.subjectSelectors: Assignment {ns}/web matches uuid {UUID} too, and ranks first only because it is older (give one of them a \
             higher priority, or remove what both match from one)"
        )]
    );
    assert_eq!(
        site.warned(
            &(assignment("web-2", &format!("uuids: [{UUID}]"), "linux") + "  priority: 5\n")
        )?,
        [format!(
            "Assignment web-2: spec.subjectSelectors: Assignment {ns}/web names uuid {UUID} too; this one ranks first, because its priority 5 is higher than 0 \
             (name the machine in only one of them, or give the intended one the higher priority)"
        )]
    );
    assert_eq!(
        site.warned(&assignment("typo", "matchLabels: {serail: x}", "linux"))?,
        [
            "Assignment typo: spec.subjectSelectors.matchLabels.serail: no machine presents \"serail\" by itself (did you mean `serial`?) (if serail is a label that \
          you set with --label, this is fine)"
        ]
    );
    assert_eq!(
        site.warned(&assignment(
            "filler",
            "serialNumbers: [To be filled by O.E.M.]",
            "linux"
        ))?,
        [
            "Assignment filler: spec.subjectSelectors.serialNumbers[0]: \"To be filled by O.E.M.\" is a placeholder that vendors leave on boards, so it matches no machine \
          (use another identity of the machine, such as its MAC address)"
        ]
    );
    site.kubectl
        .run(["delete", "assignment", "typo", "filler", "web-2"])?;
    site.knows("1 Assignments, 1 Profiles")?;

    let one = format!(
        "one machine (uuid not shown) would boot nothing instead of Profile {ns}/linux (if this is not intended, undo it before they boot; `shaper diff` lists all of them)"
    );
    let relabel = profile("linux", linux).replace("{profile: linux}", "{profile: other}");
    let said = site.warned(&relabel)?;
    ensure!(
        said.contains(&format!("Profile linux: metadata.labels: {one}")),
        "{said:?}"
    );
    assert_eq!(site.warned(&profile("linux", linux))?, none);
    site.knows("1 Assignments, 1 Profiles")?;
    eventually(SOON, "the feed has brought the label back", || {
        let answer = site
            .kubectl
            .answer(["delete", "profile", "linux", "--dry-run=server"], "")?;
        Ok((warnings(answer)? == [format!("Profile linux: {one}")]).then_some(()))
    })?;
    assert_eq!(
        warnings(site.kubectl.answer(["delete", "profile", "linux"], "")?)?,
        [format!("Profile linux: {one}")]
    );
    assert_eq!(
        warnings(site.kubectl.answer(["delete", "assignment", "web"], "")?)?,
        none
    );
    Ok(())
}

#[test]
fn an_invalid_object_can_be_annotated_and_deleted() -> Result<()> {
    let site = Site::start()?;
    site.kubectl
        .run(["delete", "validatingwebhookconfiguration", "shaper"])?;
    let wrong = profile("p", "#!ipxe\n{{ nobody }}\n");
    eventually(SOON, "it is written", || {
        Ok(site
            .kubectl
            .answer(["apply", "-f", "-"], &wrong)?
            .success
            .then_some(()))
    })?;
    site.kubectl.apply(
        &site
            .webhook
            .webhook_configuration(&site.certificates.authority)?,
    )?;
    site.asks_again()?;
    let said = warnings(
        site.kubectl
            .answer(["annotate", "profile", "p", "note=x"], "")?,
    )?;
    ensure!(
        said.len() == 1 && said[0].contains("`nobody` is not defined"),
        "{said:?}"
    );
    let patch = r#"{"spec": {"additionalConfig": {"a": "b"}}}"#;
    let refused = site
        .kubectl
        .answer(["patch", "profile", "p", "--type=merge", "-p", patch], "")?;
    ensure!(
        !refused.success && refused.stderr.contains("nobody"),
        "{refused:?}"
    );
    site.kubectl.run(["delete", "profile", "p"])?;
    Ok(())
}

#[test]
fn a_dry_run_gets_the_same_answers_and_leaves_nothing() -> Result<()> {
    let site = Site::start()?;
    let refused = site.dry(&profile("p", "#!ipxe\n{{ nobody }}\n"))?;
    ensure!(
        !refused.success && refused.stderr.contains("`nobody` is not defined"),
        "{refused:?}"
    );
    let dry = site.dry(&assignment("a", "", "linux"))?;
    ensure!(
        dry.success && dry.stderr.contains("its machines boot nothing"),
        "{dry:?}"
    );
    // A dry run leaves nothing that others could find.
    site.dry(&profile("linux", "#!ipxe\n"))?.into_result()?;
    let said = site.warned(&assignment("a", "", "linux"))?;
    ensure!(
        said.iter()
            .any(|warning| warning.contains("its machines boot nothing")),
        "{said:?}"
    );
    assert_eq!(site.kubectl.run(["get", "profiles", "-o", "name"])?, "");

    // The committed files, except for their name, which is taken in this cluster.
    for file in ["mutating.yaml", "validating.yaml", "network-policy.yaml"] {
        let text = std::fs::read_to_string(format!(
            "{}/../config/webhook/{file}",
            env!("CARGO_MANIFEST_DIR")
        ))?;
        let text = text
            .replace("  name: shaper\n", "  name: shaper-files\n")
            .replace(
                "  name: shaper-webhook\n  namespace: shaper-system\n",
                "  name: shaper-files\n",
            );
        let said = site.dry(&text)?;
        ensure!(
            said.success && said.stderr.is_empty() && said.stdout.contains("shaper-files created"),
            "{said:?}"
        );
    }
    Ok(())
}

#[test]
fn twenty_objects_applied_at_once_are_checked_against_each_other() -> Result<()> {
    let site = Site::start()?;
    let machine = |n: usize| {
        assignment(
            &format!("m-{n}"),
            &format!("serialNumbers: [SN-{n}]"),
            "linux",
        )
    };
    let all: Vec<_> = (0..20)
        .map(machine)
        .chain([profile("linux", "#!ipxe\nboot\n")])
        .collect();
    // Assignments first: each warns that its Profile is missing. The Profile first: only the
    // Profile gets a warning.
    let said = site.warned(&all.join("---\n"))?;
    assert_eq!(
        said.iter()
            .filter(|warning| warning.contains("its machines boot nothing"))
            .count(),
        20,
        "{said:?}"
    );
    site.kubectl
        .run(["delete", "profile,assignment", "--all"])?;
    site.knows("0 Assignments, 0 Profiles")?;
    let said = site.warned(&all.iter().rev().cloned().collect::<Vec<_>>().join("---\n"))?;
    ensure!(
        said.len() == 1 && said[0].contains("selects this Profile"),
        "{said:?}"
    );

    // And all at the same time, by twenty clients.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let (site, manifest) = (
                &site,
                assignment(&format!("m-{n}"), "serialNumbers: [SN-same]", "linux"),
            );
            scope.spawn(move || site.kubectl.answer(["apply", "-f", "-"], &manifest))
        };
        let all: Vec<_> = (20..40).map(ask).collect();
        all.into_iter()
            .map(|one| one.join().expect("it does not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    ensure!(answers.iter().all(|answer| answer.success), "{answers:?}");
    let told = answers
        .iter()
        .filter(|answer| answer.stderr.contains("SN-same"))
        .count();
    ensure!(told >= 10, "only {told} of 20 were told of each other");
    Ok(())
}

#[test]
fn the_cluster_works_while_the_webhook_is_slow_broken_or_away() -> Result<()> {
    let mut site = Site::start()?;
    let right = |name: &str| profile(name, "#!ipxe\nboot\n");
    let start = Instant::now();
    site.webhook.signal("STOP")?;
    site.kubectl.apply(&right("slow"))?;
    println!(
        "written {} ms after kubectl began, while the webhook stood still",
        start.elapsed().as_millis()
    );
    site.webhook.signal("CONT")?;
    site.asks_again()?;

    // A certificate of another authority is not trusted, and objects are written unchecked; then a
    // trusted one is put in place while everything runs.
    let stranger = Authority::new("stranger")?;
    site.certificates.directory.write(
        &stranger.issue(&WebhookCertificates::leaf())?,
        &stranger.pem(),
    )?;
    site.webhook = Role::webhook(
        [&site.controller],
        site.feed.webhook.path(),
        site.certificates.directory.path(),
    )?
    .start_ready()?;
    site.kubectl.apply(
        &site
            .webhook
            .webhook_configuration(&site.certificates.authority)?,
    )?;
    eventually(SOON, "nobody believes it", || {
        Ok(site.dry(&profile("probe", "{{"))?.success.then_some(()))
    })?;
    site.kubectl.apply(&right("wrong-certificate"))?;
    let renewed = |site: &Site| {
        site.certificates
            .authority
            .issue(&WebhookCertificates::leaf())
    };
    let (leaf, pem) = (renewed(&site)?, site.certificates.authority.pem());
    site.certificates.directory.write(&leaf, &pem)?;
    site.asks_again()?;

    // An unusable certificate changes nothing but the log; the next good one is used.
    site.certificates
        .directory
        .write_files(&[("tls.crt", "half"), ("tls.key", "x")])?;
    eventually(SOON, "it says so", || {
        Ok(site
            .webhook
            .admin("/readyz?verbose")?
            .body
            .contains("can't use the certificate files")
            .then_some(()))
    })?;
    site.asks_again()?;
    let leaf = renewed(&site)?;
    site.certificates.directory.write(&leaf, &pem)?;
    eventually(SOON, "it is well again", || {
        Ok((!site
            .webhook
            .admin("/readyz?verbose")?
            .body
            .contains("can't use the certificate files"))
        .then_some(()))
    })?;
    site.asks_again()?;

    site.webhook.signal("KILL")?;
    site.kubectl.apply(&right("killed"))?;
    site.kubectl.run(["delete", "profile", "killed"])?;
    Ok(())
}

#[test]
fn a_webhook_without_a_catalog_checks_single_objects_and_says_so() -> Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
    let (feed, certificates) = (FeedCertificates::new()?, WebhookCertificates::new()?);
    let builder = Role::webhook([], feed.webhook.path(), certificates.directory.path())?
        .args(["--feed", "https://127.0.0.1:9"]);
    let webhook = builder.start()?;
    ensure!(
        webhook.admin("/readyz")?.status == 503,
        "it is not ready at once: others may know more"
    );
    kubectl.apply(&webhook.webhook_configuration(&certificates.authority)?)?;
    let refused = || {
        Ok((!kubectl
            .answer(
                ["apply", "--dry-run=server", "-f", "-"],
                &profile("p", "{{"),
            )?
            .success)
            .then_some(()))
    };
    eventually(SOON, "the webhook refuses", refused)?;
    let said = warnings(kubectl.answer(["apply", "-f", "-"], &profile("p", "#!ipxe\nboot\n"))?)?;
    assert_eq!(
        said,
        [
            "other objects are not known yet, so conflicts, missing Profiles and machines that would lose their Profile were not checked (if this persists, check \
             the controllers of shaper; `shaper validate` and `shaper diff` check them too)"
        ]
    );
    webhook.wait_until_ready(SOON)?;
    webhook.stop()
}

#[test]
fn the_webhook_measures_a_thousand_admissions() -> Result<()> {
    let site = Site::start()?;
    site.kubectl.apply(&profile("linux", "#!ipxe\nboot\n"))?;
    let proxy = site.kubectl.proxy()?;
    let path = format!(
        "/apis/shaper.amahdha.com/v1alpha1/namespaces/{}/assignments",
        site.namespace
    );
    let before = cpu_millis(site.webhook.pid())?;
    let mut took = Vec::new();
    for n in 0..1_000 {
        let object = serde_json::json!({
            "apiVersion": "shaper.amahdha.com/v1alpha1", "kind": "Assignment", "metadata": { "name": format!("m-{n}") },
            "spec": { "subjectSelectors": { "serialNumbers": [format!("SN-{n}")] }, "profileSelectors": { "profile": "linux" } },
        });
        let start = Instant::now();
        let answer = proxy.send("POST", &path, "application/json", &object.to_string())?;
        took.push(start.elapsed());
        ensure!(answer.status == 201, "{}", answer.body);
    }
    let spent = cpu_millis(site.webhook.pid())? - before;
    took.sort_unstable();
    println!(
        "1,000 Assignments created through kubectl proxy, each mutated and validated: p50 {:?}, p99 {:?}; {spent} ms of the webhook's CPU",
        took[500], took[990]
    );
    for hook in ["validate", "mutate"] {
        let count = site.webhook.metric(&format!(
            "shaper_webhook_review_duration_seconds_count{{webhook=\"{hook}\"}}"
        ))?;
        let sum = site.webhook.metric(&format!(
            "shaper_webhook_review_duration_seconds_sum{{webhook=\"{hook}\"}}"
        ))?;
        println!(
            "{hook}: {count} reviews, {:.0} microseconds each inside of the webhook",
            sum / count * 1e6
        );
        ensure!(count >= 1_000.0, "{hook}: {count}");
    }
    Ok(())
}

/// The CPU time that a process has used, in milliseconds (`proc(5)`; a tick is 10 ms).
fn cpu_millis(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .context("a name stands in parentheses")?
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10)
}

#[test]
fn a_webhook_with_a_client_ca_answers_the_api_server_and_nobody_else() -> Result<()> {
    let site = Site::start()?;
    let address = site.webhook.address("webhook_listen")?;
    let review = site.certificates.authority.pem();
    let ca = tempfile::NamedTempFile::new()?;
    std::fs::write(ca.path(), review)?;
    let stranger = std::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--max-time",
            "10",
            "--data",
            "{}",
            "--cacert",
        ])
        .arg(ca.path())
        .arg(format!("https://{address}/validate"))
        .output()?;
    ensure!(
        !stranger.status.success() && stranger.stdout.is_empty(),
        "{stranger:?}"
    );
    // The API server is answered, and what it admitted is remembered until the feed delivers it.
    let both = profile("linux", "#!ipxe\nboot\n") + "---\n" + &assignment("a", "", "linux");
    let said = site.warned(&both)?;
    ensure!(
        said.len() == 1 && said[0].contains("selects this Profile"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn a_webhook_without_a_client_ca_remembers_nothing_and_names_no_other_machine() -> Result<()> {
    let site = Site::start_for_anybody()?;
    let both = profile("linux", "#!ipxe\nboot\n")
        + "---\n"
        + &assignment("a", &format!("uuids: [{UUID}]"), "linux");
    site.warned(&both)?;
    site.knows("1 Assignments, 1 Profiles")?;
    // The feed has delivered both.
    let said = warnings(
        site.kubectl
            .answer(["delete", "profile", "linux", "--dry-run=server"], "")?,
    )?;
    ensure!(
        said.len() == 1 && said[0].contains("one machine (uuid not shown)"),
        "{said:?}"
    );
    Ok(())
}
