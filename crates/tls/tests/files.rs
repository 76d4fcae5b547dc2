//! Loading valid and invalid certificate directories, and reloading them when they change.

#[path = "certificates/authority.rs"]
mod authority;

use std::fs;
use std::time::{Duration, SystemTime};

use authority::{Age, Authority, Secret};
use prometheus_client::registry::Registry;
use tls::{Material, Metrics, Reloader};
use tokio_util::sync::CancellationToken;

const VERSION_1: &str = include_str!("certificates/version-1.crt");

fn directory(secret: &Secret) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    secret.project(directory.path());
    directory
}

fn cut(text: &str) -> String {
    text[..text.len() / 2].to_owned()
}

/// Every kind of invalid directory, with the expected `reason` label.
fn unusable_secrets() -> Vec<(&'static str, Secret)> {
    let authority = Authority::new("ca");
    let good = authority.issue("shaper-api");
    let other = authority.issue("shaper-api");
    let with_chain = |chain: String| Secret {
        chain,
        ..good.clone()
    };
    let with_key = |key: String| Secret {
        key,
        ..good.clone()
    };
    vec![
        ("expired", authority.issue_aged("shaper-api", Age::Expired)),
        (
            "not_yet_valid",
            authority.issue_aged("shaper-api", Age::NotYet),
        ),
        ("key_mismatch", with_key(other.key.clone())),
        ("key_mismatch", with_chain(other.chain.clone())),
        ("bad_certificate", with_chain(VERSION_1.to_owned())),
        ("not_pem", with_chain(String::new())),
        ("not_pem", with_key(String::new())),
        ("not_pem", with_chain(cut(&good.chain))),
        ("not_pem", with_key(cut(&good.key))),
        (
            "not_pem",
            with_chain(good.chain.clone() + &cut(&authority.pem())),
        ),
        (
            "not_pem",
            Secret {
                authorities: cut(&good.authorities),
                ..good.clone()
            },
        ),
        (
            "not_pem",
            Secret {
                authorities: String::new(),
                ..good.clone()
            },
        ),
        ("not_pem", with_chain(good.key.clone())),
        ("not_pem", with_key(good.chain.clone())),
        (
            "bad_certificate",
            Secret {
                authorities: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
                    .into(),
                ..good.clone()
            },
        ),
        (
            "bad_certificate",
            with_chain("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        ),
        (
            "bad_key",
            with_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into()),
        ),
        ("too_large", with_chain(good.chain.repeat(1000))),
    ]
}

fn mutual(
    directory: &tempfile::TempDir,
    registry: &mut Registry,
) -> std::sync::Arc<Reloader<tls::MutualTls>> {
    Reloader::mutual(
        "feed",
        directory.path(),
        vec!["shaper-api".parse().unwrap()],
        Metrics::register(registry),
    )
}

fn metrics(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[test]
fn invalid_files_keep_the_last_valid_configuration_and_are_reported_once() {
    let good = Authority::new("ca").issue("shaper-api");
    for (reason, secret) in unusable_secrets() {
        let directory = directory(&good);
        let mut registry = Registry::default();
        let live = mutual(&directory, &mut registry);
        let before = live.current().expect("the files are valid");
        secret.project(directory.path());
        for _ in 0..3 {
            assert!(!live.reload(), "{reason}");
        }
        let problem = live.last_error().expect(reason);
        assert!(
            !problem.is_empty() && !problem.contains("PRIVATE"),
            "{problem}"
        );
        assert!(
            std::sync::Arc::ptr_eq(&before, &live.current().unwrap()),
            "{reason}"
        );
        let counted = format!("tls_reload_failures_total{{tls=\"feed\",reason=\"{reason}\"}} 1\n");
        assert!(
            metrics(&registry).contains(&counted),
            "{reason}: {problem}\n{}",
            metrics(&registry)
        );
        assert!(metrics(&registry).contains("tls_files_invalid{tls=\"feed\"} 1\n"));

        good.project(directory.path());
        assert!(!live.reload(), "the files are already in use");
        assert_eq!(live.last_error(), None);
        assert!(metrics(&registry).contains("tls_files_invalid{tls=\"feed\"} 0\n"));
    }
}

#[test]
fn no_configuration_is_loaded_from_files_that_are_invalid_at_the_start() {
    for (reason, secret) in unusable_secrets() {
        let directory = directory(&secret);
        let live = mutual(&directory, &mut Registry::default());
        assert!(
            live.current().is_none() && live.last_error().is_some(),
            "{reason}"
        );
        Authority::new("ca")
            .issue("shaper-api")
            .project(directory.path());
        assert!(
            live.reload() && live.current().is_some() && live.last_error().is_none(),
            "{reason}"
        );
    }
}

#[test]
fn an_error_names_the_missing_file() {
    for file in ["tls.crt", "tls.key"] {
        let directory = directory(&Authority::new("ca").issue("shaper-api"));
        fs::remove_file(directory.path().join(file)).unwrap();
        assert!(
            Material::read(directory.path())
                .unwrap_err()
                .to_string()
                .contains(file)
        );
    }
}

#[test]
fn only_mutual_tls_needs_a_ca_file() {
    let directory = directory(&Authority::new("ca").issue("boot.lab"));
    fs::remove_file(directory.path().join("ca.crt")).unwrap();
    let problem = mutual(&directory, &mut Registry::default())
        .last_error()
        .unwrap();
    assert!(problem.contains("ca.crt"), "{problem}");
    assert!(
        Reloader::public("https", directory.path(), Metrics::default())
            .current()
            .is_some()
    );
}

#[test]
fn the_expiry_of_the_certificate_is_a_metric() {
    let directory = directory(&Authority::new("ca").issue("shaper-api"));
    let mut registry = Registry::default();
    let _live = mutual(&directory, &mut registry);
    // 4096-01-01, rcgen's default expiry.
    assert!(
        metrics(&registry).contains("cert_not_after_timestamp_seconds{tls=\"feed\"} 67090118400\n"),
        "{}",
        metrics(&registry)
    );
}

#[test]
fn a_clock_outside_the_validity_period_is_reported_until_it_returns() {
    const DAY: Duration = Duration::from_hours(24);
    // 2026-01-01 and 2026-07-01.
    let [begins, ends] = [1_767_225_600, 1_782_864_000]
        .map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    let directory = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    let live = mutual(&directory, &mut registry);
    Authority::new("ca")
        .issue_aged("shaper-api", Age::HalfYear)
        .project(directory.path());
    assert!(live.reload_at(begins + DAY));
    for (now, reason) in [(begins - DAY, "not_yet_valid"), (ends + DAY, "expired")] {
        assert!(
            !live.reload_at(now) && live.last_error().is_some(),
            "{reason}"
        );
        let counted = format!("tls_reload_failures_total{{tls=\"feed\",reason=\"{reason}\"}} 1\n");
        assert!(
            metrics(&registry).contains(&counted),
            "{}",
            metrics(&registry)
        );
        assert!(
            metrics(&registry).contains("tls_files_invalid{tls=\"feed\"} 1\n"),
            "{reason}"
        );
        assert!(
            live.current().is_some(),
            "the certificate stays in use: the clock may be wrong"
        );
        assert!(!live.reload_at(ends - DAY), "the files are already in use");
        assert_eq!(live.last_error(), None, "{reason}");
        assert!(
            metrics(&registry).contains("tls_files_invalid{tls=\"feed\"} 0\n"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn replacing_the_symlink_next_to_the_files_triggers_a_reload() {
    let authority = Authority::new("ca");
    let directory = directory(&authority.issue("shaper-api"));
    let live = mutual(&directory, &mut Registry::default());
    let mut generations = live.generations();
    generations.mark_unchanged();
    let stop = CancellationToken::new();
    let following = tokio::spawn(live.clone().follow(stop.clone()));
    for _ in 0..3 {
        authority.issue("shaper-api").project(directory.path());
        tokio::time::timeout(Duration::from_mins(1), generations.changed())
            .await
            .expect("the change is noticed")
            .unwrap();
    }
    stop.cancel();
    following.await.unwrap();
}
