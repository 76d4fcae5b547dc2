//! Checks what is loaded in the background, and reports what would surprise an operator: warnings
//! of `shaper validate`, and labels that nobody gives.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::api::BootService;
use boot::render::RenderError;
use boot::{Catalog, ObjectKey, Profile};
use manifests::{Batch, Fault, Progress};
use review::{Severity, sample};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::Part;

/// How long to wait between two looks at the catalog.
const INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of objects of a folder that is checked while it is served: reading more would
/// take a core away from machines for too long.
const MAX_OBJECTS: usize = 20_000;
/// Maximum number of warnings that `/readyz?verbose` lists, and that one check logs.
const MAX_LISTED: usize = 50;

/// The warnings of the last check.
#[derive(Default)]
pub(crate) struct Warnings {
    found: Mutex<BTreeSet<String>>,
}

/// What the checks remember between two runs.
struct Checker {
    boot: Arc<BootService>,
    /// The folder that the catalog was loaded from, if any.
    dir: Option<PathBuf>,
    /// The catalog of the last check.
    checked: Option<Arc<Catalog>>,
    /// The Profiles that were checked, with what was found: most stay as they are between two
    /// checks.
    profiles: HashMap<ObjectKey, (Arc<Profile>, Option<RenderError>)>,
    is_too_large: bool,
}

/// Checks the catalog of `boot` whenever it has changed, until `stop`. With a folder, checks its
/// files as `shaper validate` does.
pub(crate) async fn follow(
    warnings: Arc<Warnings>,
    boot: Arc<BootService>,
    dir: Option<PathBuf>,
    stop: CancellationToken,
) {
    let mut checker = Checker {
        boot,
        dir,
        checked: None,
        profiles: HashMap::new(),
        is_too_large: false,
    };
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        let checked = tokio::task::spawn_blocking(move || (checker.check(), checker)).await;
        // A panic in a check is a fault of the check; machines are served all the same.
        let Ok((found, rest)) = checked else { return };
        checker = rest;
        if let Some(found) = found {
            warnings.replace(found);
        }
    }
}

// === impl Warnings ===

impl Warnings {
    /// Replaces the warnings, and logs each new one.
    fn replace(&self, found: BTreeSet<String>) {
        let mut known = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = found.difference(&known).collect();
        for warning in new.iter().take(MAX_LISTED) {
            warn!(%warning, "probable mistake in the manifests");
        }
        if new.len() > MAX_LISTED {
            warn!(
                count = new.len() - MAX_LISTED,
                "more warnings; `shaper validate` lists them all"
            );
        }
        *known = found;
    }
}

impl Part for Warnings {
    fn remarks(&self) -> Vec<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let more = found.len().saturating_sub(MAX_LISTED);
        let listed = found
            .iter()
            .take(MAX_LISTED)
            .map(|warning| format!("warning: {warning}"));
        let rest =
            (more > 0).then(|| format!("{more} more warnings; `shaper validate` lists them all"));
        listed.chain(rest).collect()
    }
}

// === impl Checker ===

impl Checker {
    /// Returns all warnings, or `None` if nothing has changed since the last check.
    fn check(&mut self) -> Option<BTreeSet<String>> {
        let catalog = self.boot.synced()?.clone();
        if self
            .checked
            .as_ref()
            .is_some_and(|checked| Arc::ptr_eq(checked, &catalog))
        {
            return None;
        }
        let mut found = self.missing_labels(&catalog);
        if let Some(dir) = self.dir.clone() {
            found.extend(self.of_folder(&dir, &catalog));
        }
        self.checked = Some(catalog);
        Some(found)
    }

    /// Finds the Profiles that need a label which no machine presents by itself and the operator
    /// does not give.
    fn missing_labels(&mut self, catalog: &Catalog) -> BTreeSet<String> {
        let before = std::mem::take(&mut self.profiles);
        let extrinsic = self.boot.extrinsic();
        for profile in catalog.profiles() {
            let error = match before.get(&profile.key) {
                Some((checked, error)) if Arc::ptr_eq(checked, profile) => error.clone(),
                _ => sample::missing_label(profile, extrinsic),
            };
            self.profiles
                .insert(profile.key.clone(), (profile.clone(), error));
        }
        let missing = || {
            self.profiles
                .iter()
                .filter_map(|(key, (_, error))| match error {
                    Some(error @ RenderError::MissingLabel { label, .. }) => {
                        Some((key, label, error))
                    }
                    _ => None,
                })
        };
        // No machine can present what only the operator gives.
        let of_operator = self
            .profiles
            .iter()
            .filter_map(|(key, (_, error))| match error {
                Some(error @ RenderError::MissingExtrinsic { .. }) => {
                    Some(format!("Profile {key}: {error}"))
                }
                _ => None,
            });
        let mut found: BTreeSet<String> = of_operator.collect();
        let mut unknown: BTreeSet<&str> = missing().map(|(_, label, _)| label.as_str()).collect();
        // The author of an Assignment that requires a label knows machines that present it.
        for assignment in catalog.assignments() {
            if unknown.is_empty() {
                break;
            }
            for requirement in assignment.subjects.labels.requirements() {
                unknown.remove(&*requirement.key);
            }
        }
        found.extend(
            missing()
                .filter(|(_, label, _)| unknown.contains(label.as_str()))
                .map(|(key, _, error)| format!("Profile {key}: {error}")),
        );
        found
    }

    /// Finds what `shaper validate` would tell of the folder and does not stop it from being
    /// served.
    fn of_folder(&mut self, dir: &Path, catalog: &Catalog) -> BTreeSet<String> {
        let objects = catalog.assignment_count() + catalog.profile_count();
        if objects > MAX_OBJECTS {
            if !std::mem::replace(&mut self.is_too_large, true) {
                info!(
                    objects,
                    "too many objects to look for warnings while serving; run `shaper validate`"
                );
            }
            return BTreeSet::new();
        }
        // One thread, so that machines have the other cores.
        let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() else {
            return BTreeSet::new();
        };
        let batch = pool.install(|| {
            let mut batch = Batch::read(&[dir.to_owned()], &Progress::silent());
            batch.survey(&Progress::silent());
            batch
        });
        // The loader reports what keeps a file from being served.
        let is_served = |fault: &Fault| {
            fault.rule.severity == Severity::Warning || fault.rule.id.starts_with("ipxe-")
        };
        let faults = batch.faults.iter().filter(|(_, fault)| is_served(fault));
        faults
            .map(|(source, fault)| {
                let file = &batch.sources[*source].name;
                let place = fault
                    .line()
                    .map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
                let help = fault
                    .help
                    .as_ref()
                    .map_or_else(String::new, |help| format!("; {help}"));
                format!("{place}: {}{help}", fault.sentence())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot::{Change, ExtrinsicLabels, SharedCatalog};

    fn checker(script: &str, extrinsic: &[(&str, &str)]) -> Checker {
        let profile = Profile::compile(
            ObjectKey::new("default", "p"),
            None,
            &std::collections::BTreeMap::new(),
            script,
            &std::collections::BTreeMap::new(),
        )
        .expect("the template is valid");
        let mut catalog = Catalog::new();
        catalog.apply(Change::Profile(Arc::new(profile)));
        let boot = BootService::new(
            Arc::new(SharedCatalog::new(catalog)),
            ExtrinsicLabels::new(extrinsic.iter().copied()).expect("the labels are valid"),
            None,
        );
        boot.set_synced();
        Checker {
            boot: Arc::new(boot),
            dir: None,
            checked: None,
            profiles: HashMap::new(),
            is_too_large: false,
        }
    }

    const SCRIPT: &str = "#!ipxe\nkernel {{ subject.assets }}/vmlinuz\nboot\n";

    #[test]
    fn a_label_that_nobody_gives_is_reported_once() {
        let mut checker = checker(SCRIPT, &[]);
        let found = checker.check().expect("a first check finds something");
        assert_eq!(found.len(), 1, "{found:?}");
        let warning = found.first().unwrap();
        assert!(warning.contains("--label assets=VALUE"), "{warning}");
        assert_eq!(checker.check(), None, "nothing has changed");
    }

    #[test]
    fn an_operators_label_that_this_server_lacks_is_reported() {
        let script = "#!ipxe\nkernel {{ extrinsic.assets }}/vmlinuz\nboot\n";
        let found = checker(script, &[]).check().expect("a first check");
        assert!(
            found
                .first()
                .is_some_and(|it| it.contains("--label assets=VALUE")),
            "{found:?}"
        );
        let found = checker(script, &[("assets", "http://192.0.2.1")]).check();
        assert_eq!(found, Some(BTreeSet::new()));
    }

    #[test]
    fn a_label_that_the_operator_gives_is_not_reported() {
        let found = checker(SCRIPT, &[("assets", "http://192.0.2.1")]).check();
        assert_eq!(found, Some(BTreeSet::new()));
    }

    #[test]
    fn a_label_that_the_bootstrap_script_sends_is_not_reported() {
        let found = checker(
            "#!ipxe\necho {{ subject.serial }} {{ subject.hostname }}\n",
            &[],
        )
        .check();
        assert_eq!(found, Some(BTreeSet::new()));
    }
}
