//! Each role may do what it needs and nothing else, as the API server decides it.

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, Kubectl, NAMESPACE};
use e2e::manifests::{assignment, profile};

const CUSTOM: [&str; 2] = [
    "profiles.shaper.amahdha.com",
    "assignments.shaper.amahdha.com",
];

/// Fails unless the API server forbids the request.
fn forbidden(who: &Kubectl, args: &[&str], stdin: &str) -> Result<()> {
    let answer = who.answer(args, stdin)?;
    ensure!(
        !answer.success && answer.stderr.contains("is forbidden"),
        "kubectl {}: {answer:?}",
        args.join(" ")
    );
    Ok(())
}

const LEASE: &str = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: shaper-controller}\nspec: {holderIdentity: a}\n";

const EVENT: &str = "apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {name: p.1}\neventTime: '2026-01-01T00:00:00.000000Z'\n\
    reportingController: shaper.amahdha.com/controller\nreportingInstance: a\ntype: Normal\nreason: Accepted\naction: Accept\n\
    note: it can be served\nregarding: {apiVersion: shaper.amahdha.com/v1alpha1, kind: Profile, name: p, namespace: default}\n";

#[test]
fn the_controller_reads_every_profile_and_assignment_and_writes_only_their_status() -> Result<()> {
    let cluster = Cluster::start()?;
    let controller = cluster.controller()?;
    let proxy = controller.proxy()?;
    let elsewhere = cluster.namespace()?;
    for namespace in ["default", &elsewhere] {
        let admin = cluster.admin().in_namespace(namespace);
        admin.apply(&profile("p", "#!ipxe\n"))?;
        admin.apply(&assignment("a", "", "p"))?;
    }
    for (resource, name) in [("profiles", "p"), ("assignments", "a")] {
        let listed = controller.run(["get", resource, "--all-namespaces", "-o", "name"])?;
        assert_eq!(listed.lines().count(), 2, "{listed}");
        let kind = format!("/apis/shaper.amahdha.com/v1alpha1/{resource}");
        let watched =
            controller.run(["get", "--raw", &format!("{kind}?watch=1&timeoutSeconds=1")])?;
        assert_eq!(watched.matches("\"ADDED\"").count(), 2, "{watched}");

        let object =
            format!("/apis/shaper.amahdha.com/v1alpha1/namespaces/{elsewhere}/{resource}/{name}");
        let patch = |path: &str, json: &str| {
            proxy.send("PATCH", path, "application/merge-patch+json", json)
        };
        let answer = patch(
            &format!("{object}/status"),
            r#"{"status": {"observedGeneration": 1}}"#,
        )?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(
            controller
                .in_namespace(&elsewhere)
                .json(["get", resource, name])?["status"]["observedGeneration"],
            1
        );
        let answer = patch(&object, r#"{"metadata": {"labels": {"a": "b"}}}"#)?;
        assert_eq!(answer.status, 403, "{}", answer.body);
        forbidden(&controller, &["delete", resource, name], "")?;
        forbidden(&controller, &["delete", resource, "--all"], "")?;
    }
    forbidden(
        &controller,
        &["create", "-f", "-"],
        &profile("q", "#!ipxe\n"),
    )?;
    forbidden(
        &controller,
        &["create", "-f", "-"],
        &assignment("b", "", "q"),
    )
}

#[test]
fn the_controller_holds_its_lease_and_no_other() -> Result<()> {
    let cluster = Cluster::shared()?;
    let controller = cluster.controller()?;
    let own = controller.in_namespace(NAMESPACE);
    own.answer(["create", "-f", "-"], LEASE)?.into_result()?;
    let mut lease = own.json(["get", "lease", "shaper-controller"])?;
    lease["spec"]["holderIdentity"] = "b".into();
    own.answer(["replace", "-f", "-"], &lease.to_string())?
        .into_result()?;
    // Another writer was faster: the version that was read is too old.
    let conflict = own.answer(["replace", "-f", "-"], &lease.to_string())?;
    ensure!(
        !conflict.success && conflict.stderr.contains("the object has been modified"),
        "{conflict:?}"
    );

    forbidden(&own, &["get", "leases"], "")?;
    forbidden(&own, &["get", "lease", "another"], "")?;
    forbidden(&own, &["delete", "lease", "shaper-controller"], "")?;
    forbidden(&controller, &["create", "-f", "-"], LEASE)?;
    forbidden(&controller, &["get", "lease", "shaper-controller"], "")
}

#[test]
fn the_controller_creates_events_counts_them_and_reads_none() -> Result<()> {
    let cluster = Cluster::shared()?;
    let controller = cluster.controller()?;
    controller
        .answer(["create", "-f", "-"], EVENT)?
        .into_result()?;
    // Repeated events are counted in one object.
    let event = "/apis/events.k8s.io/v1/namespaces/default/events/p.1";
    let answer = controller.proxy()?.send(
        "PATCH",
        event,
        "application/merge-patch+json",
        r#"{"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}}"#,
    )?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let seen = cluster.kubectl(["get", "events", "-o", "wide"])?;
    assert!(
        seen.contains("profile/p") && seen.contains("it can be served"),
        "{seen}"
    );
    forbidden(&controller, &["get", "events"], "")?;
    forbidden(&controller, &["get", "events.events.k8s.io"], "")?;
    forbidden(&controller, &["delete", "events.events.k8s.io", "p.1"], "")
}

#[test]
fn the_controller_has_no_other_permission() -> Result<()> {
    let cluster = Cluster::shared()?;
    let controller = cluster.controller()?;
    for resource in [
        "secrets",
        "configmaps",
        "pods",
        "nodes",
        "namespaces",
        "serviceaccounts",
        "customresourcedefinitions",
        "clusterroles",
    ] {
        forbidden(&controller, &["get", resource, "--all-namespaces"], "")?;
    }
    forbidden(
        &controller,
        &[
            "create",
            "token",
            "shaper-controller",
            "--namespace",
            NAMESPACE,
        ],
        "",
    )?;
    forbidden(&controller, &["create", "configmap", "x"], "")?;

    // Everything that it is granted beyond any account: asking about its permissions, and
    // discovery.
    let account = cluster.user(
        "system:serviceaccount:default:another",
        Some("system:serviceaccounts"),
    )?;
    let granted = |namespace: &str| -> Result<Vec<String>> {
        let list = |who: &Kubectl| {
            who.in_namespace(namespace)
                .run(["auth", "can-i", "--list", "--no-headers"])
        };
        let (every_account, own) = (list(&account)?, list(&controller)?);
        let one_space = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let every_account: Vec<_> = every_account.lines().map(one_space).collect();
        let mut lines: Vec<_> = own
            .lines()
            .map(one_space)
            .filter(|line| !every_account.contains(line))
            .collect();
        lines.sort();
        Ok(lines)
    };
    let everywhere = [
        "assignments.shaper.amahdha.com [] [] [get list watch]",
        "assignments.shaper.amahdha.com/status [] [] [patch]",
        "events.events.k8s.io [] [] [create patch]",
        "machines.shaper.amahdha.com [] [] [get list watch]",
        "machines.shaper.amahdha.com/status [] [] [patch]",
        "profiles.shaper.amahdha.com [] [] [get list watch]",
        "profiles.shaper.amahdha.com/status [] [] [patch]",
    ];
    let at_home = [
        "leases.coordination.k8s.io [] [] [create]",
        "leases.coordination.k8s.io [] [shaper-controller] [get update]",
    ];
    assert_eq!(granted("default")?, everywhere);
    let mut all = [everywhere.as_slice(), &at_home].concat();
    all.sort_unstable();
    assert_eq!(granted(NAMESPACE)?, all);
    Ok(())
}

#[test]
fn other_accounts_have_no_permission() -> Result<()> {
    let cluster = Cluster::shared()?;
    let stranger = cluster.user("stranger", None)?;
    for resource in CUSTOM {
        for verb in ["get", "list", "watch", "create", "patch", "delete"] {
            assert!(!stranger.can(verb, resource)?, "{verb} {resource}");
        }
        forbidden(&stranger, &["get", resource], "")?;
    }
    Ok(())
}

#[test]
fn only_the_role_for_assignments_is_not_aggregated_and_no_role_for_users_writes_status()
-> Result<()> {
    const PROFILES: &str = "profiles.shaper.amahdha.com";
    const ASSIGNMENTS: &str = "assignments.shaper.amahdha.com";
    let cluster = Cluster::shared()?;
    let namespace = cluster.namespace()?;
    // A controller manager would add them to view, edit and admin. There is none here.
    for (role, targets) in [
        ("shaper-view", &["view", "edit", "admin"][..]),
        ("shaper-edit", &["edit", "admin"]),
        // An Assignment in one namespace can take the machines of all.
        ("shaper-assign", &[]),
    ] {
        let object = cluster.admin().json(["get", "clusterrole", role])?;
        let labels = &object["metadata"]["labels"];
        for target in ["view", "edit", "admin"] {
            let label = &labels[format!("rbac.authorization.k8s.io/aggregate-to-{target}")];
            ensure!(
                (label == "true") == targets.contains(&target),
                "{role}: {labels}"
            );
        }
        let namespaced = cluster.admin().in_namespace(&namespace);
        let (of_role, user) = (format!("--clusterrole={role}"), format!("--user={role}"));
        namespaced.run(["create", "rolebinding", role, &of_role, &user])?;
    }
    for (user, verb, resource, subresource, expected) in [
        ("shaper-view", "get", PROFILES, "", "yes"),
        ("shaper-view", "get", ASSIGNMENTS, "", "yes"),
        ("shaper-view", "patch", PROFILES, "", "no"),
        ("shaper-edit", "delete", PROFILES, "", "yes"),
        ("shaper-edit", "create", ASSIGNMENTS, "", "no"),
        ("shaper-edit", "patch", ASSIGNMENTS, "", "no"),
        ("shaper-edit", "deletecollection", ASSIGNMENTS, "", "no"),
        ("shaper-edit", "patch", PROFILES, "status", "no"),
        ("shaper-assign", "create", ASSIGNMENTS, "", "yes"),
        ("shaper-assign", "patch", ASSIGNMENTS, "", "yes"),
        ("shaper-assign", "patch", PROFILES, "", "no"),
        ("shaper-assign", "patch", ASSIGNMENTS, "status", "no"),
    ] {
        let user_is = cluster.user(user, None)?.in_namespace(&namespace);
        let subresource = format!("--subresource={subresource}");
        let said = user_is.answer(["auth", "can-i", verb, resource, &subresource], "")?;
        ensure!(
            said.stdout.trim() == expected,
            "{user} {verb} {resource} {subresource}: {said:?}"
        );
    }
    Ok(())
}
