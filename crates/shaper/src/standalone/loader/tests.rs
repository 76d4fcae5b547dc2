use std::fs;

use boot::catalog::guard::Limits;
use files::Activity;
use manifests::Follow;

use super::*;
use crate::logs::capture;
use crate::standalone::last_good::UnsavedGauge;
use crate::state_dir::StateDir;

#[test]
fn a_small_folder_that_loses_all_profiles_is_a_warning() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = &mut Registry::default();
    let confirmations = Confirmations::new(Follow::new(dir.path(), Activity::default()).waker());
    let state_dir = StateDir::open(state.path()).unwrap();
    let mut loader = Loader::new(
        Folder::new(dir.path(), Limits::default()),
        LastGoodCopy::new(state.path(), dir.path(), UnsavedGauge::register(registry)),
        ConfigIds::open(&state_dir).unwrap(),
        Arc::new(SharedCatalog::new(Catalog::new())),
        LoadMetrics::register(registry),
        Arc::default(),
        Arc::new(confirmations),
    );
    let head = "apiVersion: shaper.amahdha.com/v1alpha1\nkind:";
    let profile = dir.path().join("profile.yaml");
    let text = format!("{head} Profile\nmetadata: {{name: p}}\nspec: {{ipxe: \"#!ipxe\\n\"}}\n");
    fs::write(&profile, text).unwrap();
    let text = format!("{head} Assignment\nmetadata: {{name: a}}\nspec: {{}}\n");
    fs::write(dir.path().join("assignment.yaml"), text).unwrap();
    let log = capture(|| drop(loader.load()));
    assert!(!log.contains("WARN"), "{log}");
    fs::remove_file(profile).unwrap();
    let log = capture(|| drop(loader.load()));
    let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = warnings[..] else {
        panic!("not one warning: {log}")
    };
    assert!(
        warning.contains("lost all objects of this kind")
            && warning.contains("\"kind\":\"Profile\""),
        "{warning}"
    );
}
