//! Checks that the committed configurations are what the code generates.

use std::path::Path;

use admission::Registration;

#[test]
fn config_webhook_matches_the_generated_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/webhook");
    let manifests = Registration::default().manifests();
    for (name, text) in &manifests {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "config/webhook/{name} is out of date; run `cargo xtask generate`"
        );
    }
    // The NetworkPolicy and the kustomization are written by hand.
    let written_by_hand = 2;
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, manifests.len() + written_by_hand);
}

#[test]
fn a_given_authority_is_written_and_not_injected() {
    let with = Registration {
        authority: Some("PEM".to_owned()),
        url: Some("https://w:8443/".to_owned()),
        ..Registration::default()
    };
    let [(_, mutating), (_, validating)] = with.manifests();
    assert!(
        mutating.contains("url: https://w:8443/mutate\n") && mutating.contains("caBundle: UEVN\n"),
        "{mutating}"
    );
    assert!(
        !validating.contains("cert-manager") && !validating.contains("service:"),
        "{validating}"
    );
}
