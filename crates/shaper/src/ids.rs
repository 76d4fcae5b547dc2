//! Keeps the ids of configs in the state directory.
//!
//! An id is random, assigned once, and kept while its Profile has a config of that name. It is
//! served only once it is on disk: a URL that a machine was given must work after a restart. The
//! ids of a deleted Profile are kept for a while: it may return soon, for example when another
//! branch is checked out, and a machine that is installing must find its configs again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use boot::{ConfigName, ObjectKey, Profile};
use files::{Symlinks, read_regular};
use serde::{Deserialize, Serialize};
use tracing::warn;
use uuid::Uuid;

use crate::state_dir::StateDir;

/// The ids of all configs of all Profiles.
pub struct ConfigIds {
    path: PathBuf,
    ids: Ids,
    /// When the Profiles that were deleted, but whose ids are still kept, were deleted.
    deleted: DeletionTimes,
    /// The contents of the file on disk, if known.
    saved: Option<(Ids, DeletionTimes)>,
}

/// Ids by `namespace/name` of the Profile, then by name of the config.
type Ids = BTreeMap<String, BTreeMap<String, Uuid>>;

/// Deletion times in seconds since 1970, by `namespace/name` of the Profile.
type DeletionTimes = BTreeMap<String, u64>;

/// How long the ids of a deleted Profile are kept.
const RETENTION: Duration = Duration::from_hours(1);
/// The longest file that is read: room for more than a million ids.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    profiles: Ids,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    gone: DeletionTimes,
}

impl ConfigIds {
    /// Reads the ids in the state directory.
    pub(crate) fn open(state: &StateDir) -> anyhow::Result<Self> {
        let path = state.path().join("config-ids.json");
        let (ids, deleted) = read(&path)?;
        Ok(Self {
            path,
            saved: Some((ids.clone(), deleted.clone())),
            ids,
            deleted,
        })
    }

    /// Assigns ids to the configs of a Profile that have none, and removes the ids of configs that
    /// it no longer has.
    pub fn assign(&mut self, profile: &Profile) {
        let key = profile.key.to_string();
        self.deleted.remove(&key);
        let known = self.ids.entry(key).or_default();
        known.retain(|name, _| profile.templates.config_named(name).is_some());
        for name in profile.templates.config_names() {
            known.entry(name.to_string()).or_insert_with(Uuid::new_v4);
        }
    }

    /// Marks a Profile as deleted. Its ids expire unless it returns.
    pub fn forget(&mut self, profile: &ObjectKey) {
        let key = profile.to_string();
        if self.ids.contains_key(&key) {
            self.deleted.entry(key).or_insert_with(unix_seconds);
        }
    }

    /// Marks all Profiles except these as deleted.
    pub fn keep_only(&mut self, profiles: &BTreeSet<String>) {
        let now = unix_seconds();
        for profile in self
            .ids
            .keys()
            .filter(|profile| !profiles.contains(*profile))
        {
            self.deleted.entry(profile.clone()).or_insert(now);
        }
    }

    /// Removes the ids of Profiles that were deleted long enough ago.
    fn sweep(&mut self, now: u64) {
        // A time in the future was written before the clock was set back; it counts as now.
        self.deleted
            .values_mut()
            .for_each(|since| *since = now.min(*since));
        let has_expired = |since: &u64| now - since > RETENTION.as_secs();
        self.ids
            .retain(|profile, _| !self.deleted.get(profile).is_some_and(has_expired));
        self.deleted
            .retain(|profile, since| !has_expired(since) && self.ids.contains_key(profile));
    }

    /// Writes the changes.
    pub fn save(&mut self) -> anyhow::Result<()> {
        self.ids.retain(|_, configs| !configs.is_empty());
        self.sweep(unix_seconds());
        if !self.is_unsaved() {
            return Ok(());
        }
        write(&self.path, &self.ids, &self.deleted)
            .with_context(|| format!("can't write {}", self.path.display()))?;
        self.saved = Some((self.ids.clone(), self.deleted.clone()));
        Ok(())
    }

    /// Whether there are unwritten changes.
    pub fn is_unsaved(&self) -> bool {
        self.saved
            .as_ref()
            .is_none_or(|(ids, deleted)| *ids != self.ids || *deleted != self.deleted)
    }

    /// Returns the ids of a Profile's configs that are on disk.
    pub fn saved_ids(&self, profile: &Profile) -> BTreeMap<ConfigName, Uuid> {
        let known = self
            .saved
            .as_ref()
            .and_then(|(ids, _)| ids.get(&profile.key.to_string()));
        let id = |name: &ConfigName| Some((name.clone(), *known?.get(name.as_str())?));
        profile.templates.config_names().filter_map(id).collect()
    }

    /// Returns all ids on disk of a rejected Profile, whose templates are unknown.
    pub fn saved_ids_of_rejected(&self, profile: &ObjectKey) -> BTreeMap<ConfigName, Uuid> {
        let known = self
            .saved
            .as_ref()
            .and_then(|(ids, _)| ids.get(&profile.to_string()));
        known
            .into_iter()
            .flatten()
            .filter_map(|(name, id)| Some((name.parse().ok()?, *id)))
            .collect()
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn read(path: &Path) -> anyhow::Result<(Ids, DeletionTimes)> {
    let shown = path.display();
    let text = match read_regular(path, Symlinks::Refuse, MAX_BYTES) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Default::default()),
        Err(error) => return Err(error).with_context(|| format!("can't read {shown}")),
    };
    let parsed: OnDisk = serde_json::from_slice(&text)
        .with_context(|| format!("{shown} is damaged; restore it, or remove it to give all configs new ids (machines that are installing now must boot again)"))?;
    if parsed.version != 1 {
        bail!(
            "{shown} was written by a newer shaper (version {}); run that version, or remove the file",
            parsed.version
        );
    }
    let mut ids = parsed.profiles;
    remove_duplicates(&mut ids, path);
    Ok((ids, parsed.gone))
}

/// Removes ids that several configs have, as after the file was edited, so that each gets a new
/// one. Nobody can tell which config the id was made for.
fn remove_duplicates(ids: &mut Ids, path: &Path) {
    let mut counts = BTreeMap::<Uuid, usize>::new();
    for id in ids.values().flat_map(BTreeMap::values) {
        *counts.entry(*id).or_default() += 1;
    }
    for (profile, configs) in ids {
        configs.retain(|config, id| {
            let is_own = counts[id] == 1;
            if !is_own {
                warn!(file = %path.display(), profile, config, "another config has the same id; both get new ones");
            }
            is_own
        });
    }
}

/// Writes the file atomically: a reader sees either the old or the new one, even after a power
/// failure.
fn write(path: &Path, ids: &Ids, deleted: &DeletionTimes) -> anyhow::Result<()> {
    let directory = path.parent().context("the file is in a directory")?;
    let mut file = tempfile::Builder::new()
        .prefix(".config-ids")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    serde_json::to_writer_pretty(
        &mut file,
        &OnDisk {
            version: 1,
            profiles: ids.clone(),
            gone: deleted.clone(),
        },
    )?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(configs: &[&str]) -> Profile {
        let configs = configs
            .iter()
            .map(|name| (name.parse().unwrap(), String::new()))
            .collect();
        Profile::compile(
            ObjectKey::new("default", "p"),
            None,
            &BTreeMap::new(),
            "#!ipxe\n",
            &configs,
        )
        .unwrap()
    }

    #[test]
    fn an_id_is_served_once_it_is_on_disk_and_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.assign(&profile(&["a", "b"]));
        assert!(ids.saved_ids(&profile(&["a", "b"])).is_empty());
        ids.save().unwrap();
        let before = ids.saved_ids(&profile(&["a", "b"]));
        assert_eq!(before.len(), 2);
        drop(ids);
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.assign(&profile(&["a", "b"]));
        assert_eq!(ids.saved_ids(&profile(&["a", "b"])), before);
    }

    #[test]
    fn a_config_name_that_is_removed_and_returns_gets_a_new_id() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.assign(&profile(&["a", "b"]));
        ids.save().unwrap();
        let before = ids.saved_ids(&profile(&["a", "b"]));
        ids.assign(&profile(&["a"]));
        ids.assign(&profile(&["a", "b"]));
        ids.save().unwrap();
        let after = ids.saved_ids(&profile(&["a", "b"]));
        let (a, b) = (
            "a".parse::<ConfigName>().unwrap(),
            "b".parse::<ConfigName>().unwrap(),
        );
        assert_eq!(before[&a], after[&a]);
        assert_ne!(before[&b], after[&b]);
    }

    #[test]
    fn a_deleted_profile_keeps_its_ids_for_a_while_even_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.assign(&profile(&["a"]));
        ids.save().unwrap();
        let before = ids.saved_ids(&profile(&["a"]));
        ids.forget(&profile(&[]).key);
        ids.save().unwrap();
        drop(ids);
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.keep_only(&BTreeSet::new());
        assert_eq!(ids.saved_ids_of_rejected(&profile(&[]).key), before);
        ids.assign(&profile(&["a"]));
        ids.save().unwrap();
        assert_eq!(
            (ids.saved_ids(&profile(&["a"])), ids.deleted.len()),
            (before.clone(), 0)
        );
        ids.forget(&profile(&[]).key);
        ids.sweep(unix_seconds() + RETENTION.as_secs());
        assert_eq!(ids.ids.len(), 1);
        ids.sweep(unix_seconds() + RETENTION.as_secs() + 60);
        assert!(ids.ids.is_empty() && ids.deleted.is_empty());
    }

    #[test]
    fn an_id_that_two_configs_have_on_disk_is_replaced_in_both() {
        let directory = tempfile::tempdir().unwrap();
        let (id, own) = (Uuid::new_v4(), Uuid::new_v4());
        let file = serde_json::json!({ "version": 1, "profiles": {
            "default/p": { "a": id, "b": own }, "other/p": { "a": id },
        } });
        fs::write(directory.path().join("config-ids.json"), file.to_string()).unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let mut ids = ConfigIds::open(&state).unwrap();
        ids.assign(&profile(&["a", "b"]));
        ids.save().unwrap();
        let after = ids.saved_ids(&profile(&["a", "b"]));
        assert_eq!((after.len(), after["b"]), (2, own));
        assert_ne!(after["a"], id);
    }

    #[test]
    fn a_damaged_file_is_reported_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config-ids.json");
        fs::write(&path, "{").unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let error = format!("{:#}", ConfigIds::open(&state).err().unwrap());
        assert!(error.contains("config-ids.json is damaged"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{");
    }

    #[test]
    fn a_file_of_any_length_is_refused_before_it_fills_the_memory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config-ids.json");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let error = format!("{:#}", ConfigIds::open(&state).err().unwrap());
        assert!(
            error.contains("config-ids.json: it is longer than"),
            "{error}"
        );
    }

    #[test]
    fn ids_behind_a_symlink_are_not_read() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let theirs = outside.path().join("theirs.json");
        fs::write(&theirs, r#"{"version": 1, "profiles": {}}"#).unwrap();
        let path = directory.path().join("config-ids.json");
        std::os::unix::fs::symlink(theirs, path).unwrap();
        let state = StateDir::open(directory.path()).unwrap();
        let error = format!("{:#}", ConfigIds::open(&state).err().unwrap());
        assert!(
            error.contains("config-ids.json: it is a symlink"),
            "{error}"
        );
    }
}
