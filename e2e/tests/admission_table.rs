//! Each row of the tables of `docs/reference/admission.md`, on a real API server with kubectl: what
//! is said, exactly, while the webhook is there and while it is not. A row without a case fails,
//! and so does a case without a row.

use anyhow::{Context, Result, ensure};
use e2e::admission::{SOON, Site};
use e2e::cluster::{Answer, Kubectl};
use e2e::roles::eventually;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

#[path = "admission_table/cases.rs"]
mod cases;
#[path = "admission_table/fields.rs"]
mod fields;
#[path = "admission_table/rows.rs"]
mod rows;
#[path = "admission_table/rules.rs"]
mod rules;

use cases::Ask;
use rows::{Row, Teller};

/// Rules that no request of a cluster can trigger; tests of the crate `admission` cover them.
const NOT_FROM_A_CLUSTER: [&str; 3] = [
    "does not match the schema: ...",
    "\"nonsense\" is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56",
    "templates from here on were not checked: out of time",
];

#[test]
fn kubectl_prints_what_the_admission_reference_quotes() -> Result<()> {
    let rows: BTreeMap<String, Row> = rows::read()?
        .into_iter()
        .filter(|(_, row)| row.teller != Teller::Nobody)
        .collect();
    let cases = cases::all();
    let tested: BTreeSet<&str> = cases.iter().map(|case| case.row).collect();
    let documented: BTreeSet<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(
        tested, documented,
        "rows that have a case, and rows that there are"
    );

    let site = Site::start()?;
    let definition = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/crd/machines.yaml");
    site.kubectl.run([
        "apply".as_ref(),
        "--server-side".as_ref(),
        "-f".as_ref(),
        definition.as_os_str(),
    ])?;
    site.kubectl.run([
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/machines.shaper.amahdha.com",
    ])?;
    let (here, away): (Vec<_>, Vec<_>) = cases::world()
        .into_iter()
        .partition(|object| object["kind"] == "Profile");
    site.kubectl.apply(&list(&here))?;
    site.kubectl.apply(&list(&away))?;
    let assignments = away.iter().filter(|it| it["kind"] == "Assignment");
    site.knows(&format!(
        "{} Assignments, {} Profiles",
        assignments.count(),
        here.len()
    ))?;
    // The controllers look for a new definition after a growing pause.
    eventually(2 * SOON, "the Machine is known", || {
        let known = site
            .webhook
            .metric("shaper_catalog_objects{kind=\"Machine\"}")?;
        Ok((known > 0.5).then_some(()))
    })?;
    // Creation times are in seconds, and admitted objects are remembered for five.
    std::thread::sleep(Duration::from_secs(6));

    let mut said: BTreeMap<&str, String> = BTreeMap::new();
    for case in &cases {
        let row = &rows[case.row];
        let found = || {
            site.webhook
                .metric(&format!(
                    "shaper_webhook_findings_total{{rule=\"{}\"}}",
                    case.row
                ))
                .unwrap_or(0.0)
        };
        let before = found();
        let answer = ask(&site.kubectl, &case.ask)?;
        let lines = told(&answer, &site.namespace);
        assert_eq!(lines, case.says, "{}: {:?}", case.row, case.ask);
        assert_eq!(answer.success, !row.is_refused, "{}", case.row);
        if row.teller == Teller::Webhook {
            ensure!(
                found() > before,
                "{}: another rule says {lines:?}",
                case.row
            );
        }
        *said.entry(case.row).or_default() += &lines.join("\n");
    }
    for (name, row) in &rows {
        for quote in row
            .quotes
            .iter()
            .filter(|quote| !NOT_FROM_A_CLUSTER.contains(&quote.as_str()))
        {
            ensure!(
                rows::is_said(quote, &said[name.as_str()]),
                "{name}: the row has {quote:?}, and kubectl prints {}",
                said[name.as_str()]
            );
        }
    }

    site.webhook.signal("KILL")?;
    for case in &cases {
        let answer = ask(&site.kubectl, &case.ask)?;
        let lines = told(&answer, &site.namespace);
        if rows[case.row].teller == Teller::Server {
            assert_eq!(
                (answer.success, &lines),
                (false, &case.says),
                "{}, while the webhook is away",
                case.row
            );
        } else {
            ensure!(
                answer.success && lines.is_empty(),
                "{}, while the webhook is away: {answer:?}",
                case.row
            );
        }
    }
    // Without the webhook, what would be refused is written, and the condition reports it.
    let wrong = cases
        .iter()
        .find(|case| case.row == "template")
        .context("there is a case")?;
    if let Ask::Create(object) = &wrong.ask {
        site.kubectl
            .answer(["create", "-f", "-"], &object.to_string())?
            .into_result()?;
    }
    eventually(SOON, "the controller does not accept it", || {
        let read = site.kubectl.json(["get", "profile", "p"])?;
        let conditions = read["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let accepted = conditions
            .into_iter()
            .find(|condition| condition["type"] == "Accepted");
        Ok(accepted.filter(|condition| {
            condition["status"] == "False"
                && condition["message"]
                    .as_str()
                    .is_some_and(|says| says.contains("`nobody` is not defined"))
        }))
    })?;
    Ok(())
}

fn list(objects: &[Value]) -> String {
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

/// Sends the request without writing anything.
fn ask(kubectl: &Kubectl, ask: &Ask) -> Result<Answer> {
    match ask {
        // Unlike `apply`, `create` stores no copy of the object, which would be too large.
        Ask::Create(object) => kubectl.answer(
            ["create", "--dry-run=server", "-f", "-"],
            &object.to_string(),
        ),
        Ask::Run(args) => kubectl.answer(args.split(' ').chain(["--dry-run=server"]), ""),
    }
}

/// kubectl's messages by line, with the namespace replaced by `n`.
fn told(answer: &Answer, namespace: &str) -> Vec<String> {
    answer
        .stderr
        .lines()
        .map(|line| line.replace(namespace, "n"))
        .collect()
}
