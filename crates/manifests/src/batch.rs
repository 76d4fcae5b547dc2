//! Reads many manifests once, in parallel, and collects all findings: for commands that exit
//! afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use boot::{Catalog, ObjectRef, Rejected};
use files::{Activity, Listing, Symlinks, Unread, open_regular};
use rayon::prelude::*;
use review::{Finding, Severity, Survey, rule};

use super::fault::Fault;
use super::read::{self, Contents, MAX_FILE_BYTES, Object, Spots};
use super::walk::{self, walk};

mod progress;

pub use progress::Progress;

/// Approximate size of the pieces into which a file of many documents is split, so that several
/// threads can read it.
const PIECE_BYTES: usize = 256 * 1024;

/// The text of a manifest file.
pub struct Source {
    /// The path as given, or `<stdin>`.
    pub name: String,
    /// The contents. Empty if the file can't be read.
    pub text: String,
}

/// The result of reading.
pub struct Batch {
    /// The texts, sorted by name within a directory.
    pub sources: Vec<Source>,
    /// All valid objects, each once.
    pub catalog: Catalog,
    /// All faults, each with the index of its source, sorted by source and position.
    pub faults: Vec<(usize, Fault)>,
    places: HashMap<ObjectRef, (usize, Spots)>,
    invalid_labels: Vec<(ObjectRef, boot::Labels)>,
    /// The readable parts of invalid objects.
    pub rejected: Vec<Rejected>,
}

/// A part of a source: whole documents, and the number of lines above them.
struct Piece<'s> {
    source: usize,
    text: &'s str,
    is_json: bool,
    above: usize,
}

// === impl Source ===

impl Source {
    /// Returns a line, counted from 1.
    pub fn line(&self, number: u32) -> Option<&str> {
        self.text.lines().nth(number.checked_sub(1)? as usize)
    }

    fn is_json(&self) -> bool {
        Path::new(&self.name)
            .extension()
            .is_some_and(|extension| extension == "json")
    }
}

// === impl Batch ===

impl Batch {
    /// Reads directories, files and, for `-`, standard input. What can't be read becomes a fault.
    pub fn read(paths: &[PathBuf], progress: &Progress) -> Self {
        let mut files = Vec::new();
        let mut unreadable = Vec::new();
        for path in paths {
            if path.is_dir() {
                let found = walk(path, walk::LIMITS, &Activity::default());
                unreadable.extend(reasons(path, &found));
                files.extend(found.files.into_keys().map(|path| (path, Origin::Found)));
            } else {
                files.push((path.clone(), Origin::Named));
            }
        }
        progress.expect("reading", files.len());
        let opened: Vec<(Source, Option<Fault>)> = files
            .par_iter()
            .map(|(path, origin)| progress.count(|| open(path, *origin)))
            .collect();
        let (mut sources, mut faults) = (Vec::new(), Vec::new());
        for (source, fault) in opened {
            faults.extend(fault.map(|fault| (sources.len(), fault)));
            sources.push(source);
        }
        for (path, reason) in unreadable {
            faults.push((sources.len(), Fault::file(None, reason)));
            sources.push(Source {
                name: path.display().to_string(),
                text: String::new(),
            });
        }
        let mut batch = Self {
            sources,
            catalog: Catalog::new(),
            faults,
            places: HashMap::new(),
            invalid_labels: Vec::new(),
            rejected: Vec::new(),
        };
        batch.read_sources(paths, progress);
        batch
    }

    /// Reads texts from other origins.
    pub fn of(sources: Vec<Source>) -> Self {
        let mut batch = Self {
            sources,
            catalog: Catalog::new(),
            faults: Vec::new(),
            places: HashMap::new(),
            invalid_labels: Vec::new(),
            rejected: Vec::new(),
        };
        batch.read_sources(&[], &Progress::silent());
        batch
    }

    /// Adds the findings of checks across objects.
    pub fn survey(&mut self, progress: &Progress) {
        let survey = Survey::of(&self.catalog);
        let assignments: Vec<_> = self.catalog.assignments().collect();
        let profiles: Vec<_> = self.catalog.profiles().collect();
        let machines: Vec<_> = self.catalog.machines().collect();
        progress.expect(
            "comparing",
            assignments.len() + profiles.len() + machines.len(),
        );
        let of_assignments = assignments
            .par_iter()
            .flat_map_iter(|assignment| progress.count(|| survey.assignment(assignment)));
        let mut findings: Vec<Finding> = of_assignments.collect();
        findings.par_extend(
            profiles
                .par_iter()
                .flat_map_iter(|profile| progress.count(|| survey.profile(profile))),
        );
        findings.par_extend(
            machines
                .par_iter()
                .flat_map_iter(|machine| progress.count(|| survey.machine(machine))),
        );
        let placed = findings
            .into_iter()
            .filter(|finding| !self.names_invalid_object(finding))
            .map(|finding| self.place(finding))
            .collect::<Vec<_>>();
        self.faults.extend(placed);
        self.sort();
    }

    /// Returns the number of errors and of warnings.
    pub fn count(&self) -> (usize, usize) {
        let errors = self
            .faults
            .iter()
            .filter(|(_, fault)| fault.rule.severity == Severity::Error)
            .count();
        (errors, self.faults.len() - errors)
    }

    fn read_sources(&mut self, paths: &[PathBuf], progress: &Progress) {
        let charts: Vec<PathBuf> = self
            .sources
            .iter()
            .filter(|source| is_named(source, &["Chart"]))
            .filter_map(parent)
            .collect();
        let mut pieces = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            match purpose(source, &charts) {
                Use::Generator(fault) => self.faults.push((at, fault)),
                Use::Manifest if !source.text.is_empty() => pieces.extend(split(at, source)),
                Use::Manifest | Use::Part => {}
            }
        }
        progress.expect("checking", pieces.len());
        let read = |piece: &Piece<'_>| {
            progress.count(|| read::review(piece.text, piece.is_json, piece.above))
        };
        let read: Vec<(Contents, Vec<Fault>)> = pieces.par_iter().map(read).collect();
        let of: Vec<usize> = pieces.iter().map(|piece| piece.source).collect();
        let mut foreign = 0;
        for (at, (contents, faults)) in of.into_iter().zip(read) {
            let text = &self.sources[at].text;
            let hinted = |fault: Fault| {
                let is_of_value = [&rule::SCHEMA, &rule::CONVERSION].contains(&fault.rule);
                let line = fault.line().filter(|_| is_of_value && fault.help.is_none());
                let helm = line.map_or("", |line| read::hint_for_line(text, line));
                match helm.strip_prefix("; ") {
                    Some(help) => Fault {
                        help: Some(help.to_owned()),
                        ..fault
                    },
                    None => fault,
                }
            };
            self.faults
                .extend(faults.into_iter().map(|fault| (at, hinted(fault))));
            foreign += contents.foreign.len() + contents.more_foreign;
            self.invalid_labels.extend(contents.invalid_labels);
            self.rejected.extend(contents.rejected);
            for (spots, object) in contents.objects {
                self.insert(at, spots, object);
            }
        }
        if self.catalog.names().next().is_none() && self.count().0 == 0 {
            self.report_no_objects(paths, foreign);
        }
        self.sort();
    }

    fn insert(&mut self, at: usize, spots: Spots, object: Object) {
        let change = object.change();
        let name = change.name();
        if let Some((first, there)) = self.places.get(&name) {
            let first = format!("{}:{}", self.sources[*first].name, there.object.line);
            let reason = format!("{name} is already defined at {first}; remove one of them");
            let fault = Fault {
                object: Some(Box::new(name)),
                ..Fault::new(&rule::DUPLICATE_OBJECT, Some(spots.name), reason)
            };
            return self.faults.push((at, fault));
        }
        self.places.insert(name, (at, spots));
        self.catalog.apply(change);
    }

    /// Whether the object that a finding misses exists but is invalid, which is already reported.
    fn names_invalid_object(&self, finding: &Finding) -> bool {
        let key = finding.object.key();
        let in_namespace = self
            .invalid_labels
            .iter()
            .filter(|(name, _)| name.key().namespace == key.namespace);
        match &finding.object {
            ObjectRef::Assignment(_)
                if finding.rule.id == rule::NO_PROFILE.id
                    || finding.rule.id == rule::NO_PROFILE_FOR_ARCH.id =>
            {
                let Some(assignment) = self.catalog.assignment(key) else {
                    return false;
                };
                in_namespace.into_iter().any(|(name, labels)| {
                    matches!(name, ObjectRef::Profile(_))
                        && labels.contains_all(&assignment.profiles)
                })
            }
            ObjectRef::Profile(_) if finding.rule.id == rule::UNUSED_PROFILE.id => {
                let Some(profile) = self.catalog.profile(key) else {
                    return false;
                };
                in_namespace.into_iter().any(|(name, selectors)| {
                    matches!(name, ObjectRef::Assignment(_))
                        && profile.labels.contains_all(selectors)
                })
            }
            _ => false,
        }
    }

    /// Places a finding of a check across objects in its file.
    fn place(&self, finding: Finding) -> (usize, Fault) {
        let (at, spots) = self
            .places
            .get(&finding.object)
            .copied()
            .unwrap_or_default();
        let spot = match finding.field.to_string().as_str() {
            "spec.subjectSelectors" => spots.subject_selectors,
            "spec.profileSelectors" => spots.profile_selectors,
            "metadata.labels" => spots.labels,
            _ => spots.name,
        };
        let Finding {
            rule,
            object,
            field,
            message,
            help,
            ..
        } = finding;
        (
            at,
            Fault {
                spot: Some(spot),
                rule,
                object: Some(Box::new(object)),
                field,
                reason: message,
                help,
            },
        )
    }

    /// Reports that nothing was found: an empty directory may be the wrong one, and a check of
    /// nothing must not look like success.
    fn report_no_objects(&mut self, paths: &[PathBuf], foreign: usize) {
        let named: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let named = if named.is_empty() {
            "the input".to_owned()
        } else {
            named.join(", ")
        };
        let reason = match (self.sources.len(), foreign) {
            (0, _) => format!(
                "no *.yaml, *.yml or *.json file in {named}; pass the folder that contains the manifests"
            ),
            (_, 0) => format!("no Profile, Assignment or Machine in {named}"),
            (_, n) => format!(
                "no Profile, Assignment or Machine in {named}, only {n} objects of other kinds"
            ),
        };
        self.faults.push((
            self.sources.len(),
            Fault::new(&rule::NO_MANIFESTS, None, reason),
        ));
        self.sources.push(Source {
            name: named,
            text: String::new(),
        });
    }

    fn sort(&mut self) {
        let sources = &self.sources;
        self.faults.sort_by(|(a, x), (b, y)| {
            let key = |fault: &Fault| (fault.spot, fault.rule.id, fault.reason.clone());
            (&sources[*a].name, key(x)).cmp(&(&sources[*b].name, key(y)))
        });
    }
}

/// Where the path of a file comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The user named it. It may be a pipe, as in `validate <(helm template .)`.
    Named,
    /// It was found in a directory.
    Found,
}

/// Returns the paths below a directory that can't be checked, and why.
fn reasons<T>(dir: &Path, found: &Listing<T>) -> Vec<(PathBuf, String)> {
    let unread = found
        .unread
        .iter()
        .filter(|(path, why)| !matches!(why, Unread::Dangling(_)) || walk::is_manifest(path))
        .map(|(path, why)| (path.clone(), format!("can't be read: {why}")));
    let aliases = found.aliases.iter().map(|alias| {
        let reason = format!(
            "this symlink leads to {}, which is read already; remove the symlink",
            alias.directory.display()
        );
        (alias.link.clone(), reason)
    });
    let limit = found.limit.iter().map(|limit| {
        let reason = format!("not all of the folder is read: {limit}; remove files or symlinks");
        (dir.to_owned(), reason)
    });
    unread.chain(aliases).chain(limit).collect()
}

fn open(path: &Path, origin: Origin) -> (Source, Option<Fault>) {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "<stdin>".to_owned()
    } else {
        path.display().to_string()
    };
    let bytes = if is_stdin {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else if origin == Origin::Named {
        fs::read(path)
    } else {
        read_regular(path)
    };
    let failed = |reason: String| Some(Fault::file(None, reason));
    let (bytes, fault) = match bytes {
        Ok(bytes) if !is_stdin && bytes.len() as u64 > MAX_FILE_BYTES => {
            let reason = format!(
                "the file has {} bytes; split it into files of at most {MAX_FILE_BYTES} (64 MiB)",
                bytes.len()
            );
            (Vec::new(), failed(reason))
        }
        Ok(bytes) => (bytes, None),
        Err(error) => (Vec::new(), failed(format!("can't be read: {error}"))),
    };
    if fault.is_some() {
        return (
            Source {
                name,
                text: String::new(),
            },
            fault,
        );
    }
    match read::text(&bytes).map(str::to_owned) {
        Ok(text) => (Source { name, text }, None),
        Err(fault) => (
            Source {
                name,
                text: String::new(),
            },
            Some(fault),
        ),
    }
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_regular(path, Symlinks::Follow)?;
    let mut bytes = Vec::new();
    // Files of the kernel say that they are empty, and some never end.
    let size = file.metadata()?.len().min(MAX_FILE_BYTES + 1);
    file.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The role of a file.
enum Use {
    Manifest,
    /// Generates manifests, but is not one.
    Generator(Fault),
    /// Belongs to what generates manifests, which is reported elsewhere.
    Part,
}

fn purpose(source: &Source, charts: &[PathBuf]) -> Use {
    let folder = parent(source);
    let generator = |reason: String| Use::Generator(Fault::new(&rule::UNRENDERED, None, reason));
    let folder_name = folder
        .as_deref()
        .map_or_else(|| ".".to_owned(), |path| path.display().to_string());
    if is_named(source, &["kustomization"]) {
        return generator(format!(
            "this is a kustomization, which is not applied here; check its output with `kustomize build {folder_name} | shaper validate -`"
        ));
    }
    match charts.iter().find(|chart| {
        folder
            .as_ref()
            .is_some_and(|folder| folder.starts_with(chart))
    }) {
        Some(chart) if is_named(source, &["Chart"]) => {
            let chart = chart.display();
            generator(format!(
                "this is a Helm chart, which is not rendered here; check its output with `helm template {chart} | shaper validate -`"
            ))
        }
        Some(_) => Use::Part,
        None => Use::Manifest,
    }
}

fn is_named(source: &Source, stems: &[&str]) -> bool {
    let path = Path::new(&source.name);
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    stems.contains(&stem)
        && path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn parent(source: &Source) -> Option<PathBuf> {
    let parent = Path::new(&source.name).parent()?;
    Some(if parent.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parent.to_owned()
    })
}

/// Splits a source into pieces of whole documents. A line of three dashes ends a document at any
/// position (YAML 1.2.2, 9.1.2: c-forbidden).
fn split(at: usize, source: &Source) -> Vec<Piece<'_>> {
    let text = source.text.as_str();
    let piece = |text, above| Piece {
        source: at,
        text,
        is_json: source.is_json(),
        above,
    };
    // Directives apply to the document after them.
    if source.is_json()
        || text.len() < 2 * PIECE_BYTES
        || text.starts_with('%')
        || text.contains("\n%")
    {
        return vec![piece(text, 0)];
    }
    let mut pieces = Vec::new();
    let (mut start, mut above) = (0, 0);
    while text.len() - start > PIECE_BYTES {
        let mut from = start + PIECE_BYTES;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        let Some(end) = document_end(text, from) else {
            break;
        };
        pieces.push(piece(&text[start..end], above));
        above += read::lines(&text.as_bytes()[start..end]);
        start = end;
    }
    pieces.push(piece(&text[start..], above));
    pieces
}

fn document_end(text: &str, from: usize) -> Option<usize> {
    let ends = text[from..]
        .match_indices("\n---")
        .map(|(at, _)| from + at + 1);
    let is_marker =
        |at: &usize| text[at + 3..].starts_with(['\n', '\r', ' ', '\t']) || text.len() == at + 3;
    ends.into_iter().find(is_marker)
}

#[cfg(test)]
mod tests;
