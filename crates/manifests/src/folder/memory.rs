//! Keeps the contents of a folder over restarts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boot::{Change, ObjectRef};
use feed::FileCopy;

use super::super::read::{Contents, Object, Spots};
use super::{Folder, Held};

impl Folder {
    /// Restores what the files contained before a restart, before the first scan. Apply these
    /// changes together with those of that scan: no reader may see one without the other.
    pub fn restore(&mut self, files: Vec<FileCopy>) -> Vec<Change> {
        for FileCopy {
            path,
            profiles,
            assignments,
            machines,
            shadowed,
        } in files
        {
            let path = self.dir.join(path);
            let objects = profiles
                .into_iter()
                .map(Object::Profile)
                .chain(machines.into_iter().map(Object::Machine))
                .chain(assignments.into_iter().map(Object::Assignment));
            let objects: Vec<_> = objects.map(|object| (Spots::default(), object)).collect();
            for (_, object) in objects
                .iter()
                .filter(|(_, object)| !shadowed.contains(&object.name()))
            {
                self.served
                    .entry(object.name())
                    .or_insert_with(|| (path.clone(), object.clone()));
            }
            self.files.insert(
                path,
                Held {
                    good: Contents {
                        objects,
                        ..Contents::default()
                    },
                    ..Held::default()
                },
            );
        }
        self.served
            .values()
            .map(|(_, object)| object.change())
            .collect()
    }

    /// Returns the state to keep over a restart: the last good objects of each file, and those that
    /// the guard keeps.
    pub fn remember(&self) -> Vec<FileCopy> {
        let mut copies = BTreeMap::new();
        for (path, held) in &self.files {
            for (_, object) in &held.good.objects {
                let name = object.name();
                let is_passed_over = self.served.get(&name).is_some_and(|(of, _)| of != path);
                let copy = self.add(&mut copies, path, object);
                if is_passed_over {
                    copy.shadowed.push(name);
                }
            }
        }
        let kept: Vec<&ObjectRef> = self
            .guard
            .holding()
            .into_iter()
            .flat_map(|hold| &hold.lost)
            .collect();
        for (path, object) in kept.into_iter().filter_map(|name| self.served.get(name)) {
            self.add(&mut copies, path, object);
        }
        copies.into_values().collect()
    }

    fn add<'c>(
        &self,
        copies: &'c mut BTreeMap<PathBuf, FileCopy>,
        path: &Path,
        object: &Object,
    ) -> &'c mut FileCopy {
        let below = path.strip_prefix(&self.dir).unwrap_or(path);
        let new = || FileCopy {
            path: below.to_owned(),
            ..FileCopy::default()
        };
        let copy = copies.entry(path.to_owned()).or_insert_with(new);
        match object {
            Object::Profile(profile) => copy.profiles.push(profile.clone()),
            Object::Assignment(assignment) => copy.assignments.push(assignment.clone()),
            Object::Machine(machine) => copy.machines.push(machine.clone()),
        }
        copy
    }
}
