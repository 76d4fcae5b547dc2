//! `shaper diff OLD NEW`: lists the machines that would boot something else after a change.

mod markdown;
mod text;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use boot::{Assignment, Catalog, Change, ExtrinsicLabels, ObjectRef};
use clap::ValueEnum;
use review::Diff;
use serde_json::{Value, json};

use crate::admin_client::AdminUrl;
use crate::console::{self, Style, count};
use crate::load::{self, OnInvalid};
use crate::parse_label;
use manifests::{Batch, Source};

/// List the machines that would boot something else after a change
///
/// Compares two sets of manifests by what machines get from them, not by their text. Tries every
/// machine that a selector names, and one machine for each combination of labels. Machines with the
/// same change are shown on one line. A different Assignment, Profile, script or config is a
/// change; renamed files, reordered fields and new comments are not.
#[derive(clap::Args)]
#[command(
    override_usage = "shaper diff [OPTIONS] OLD NEW\n       shaper diff [OPTIONS] --admin URL NEW",
    after_long_help = "\
The effect of an unmerged change in a Git repository:
  git worktree add --detach /tmp/main origin/main
  shaper diff /tmp/main/manifests manifests -o markdown

Its effect in production, compared with what a running replica serves:
  kubectl port-forward deploy/shaper-api 9090 &
  shaper diff --admin http://127.0.0.1:9090 manifests

An object without creationTimestamp gets that of the same object in OLD, as in a cluster. NEW must have no errors; invalid objects in OLD are left
out.

Exit code:
  0  success; with --exit-code: no machine boots anything else
  1  with --exit-code: some machines boot something else
  2  wrong usage, errors in NEW, or the replica can't be reached"
)]
pub struct Args {
    /// Manifests before and after the change: folders or files
    #[arg(value_name = "OLD NEW", num_args = 1..=2, required = true)]
    paths: Vec<PathBuf>,
    /// Compare with what a running replica serves, read from its admin port, instead of OLD.
    /// `unix:` and a path for a Unix socket
    #[arg(long, value_name = "URL")]
    admin: Option<AdminUrl>,
    /// The cluster whose objects to compare, if the replica serves several
    #[arg(long, value_name = "NAME", requires = "admin")]
    partition: Option<String>,
    /// A label of the server: compare only machines that use a server with this label; repeatable
    #[arg(long = "extrinsic", env = "SHAPER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    extrinsic: Vec<(String, String)>,
    /// Exit with 1 if a machine boots something else
    #[arg(long)]
    exit_code: bool,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For scripts: every machine by name
    Json,
    /// For a pull request
    Markdown,
}

/// Compares and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let extrinsic = ExtrinsicLabels::new(args.extrinsic.iter().map(|(key, value)| (key, value)))
        .context("--extrinsic")?;
    let (old, new_path) = match (&args.admin, args.paths.as_slice()) {
        (Some(admin), [new]) => (replica(admin, args.partition.as_deref())?, new),
        (Some(_), _) => bail!("--admin takes the place of OLD; pass only NEW"),
        (None, [old, new]) => (load::catalog(old, OnInvalid::LeaveOut)?, new),
        (None, _) => {
            bail!("pass two folders, OLD and NEW; or --admin URL and NEW")
        }
    };
    let new = aged(&load::catalog(new_path, OnInvalid::Refuse)?, &old);
    if let Some(note) = moved(&old, &new) {
        console::note(note);
    }
    let diff = Diff::between(
        &old,
        &new,
        (!args.extrinsic.is_empty()).then_some(&extrinsic),
    );
    match args.output {
        Format::Text => console::print(&text::write(&diff, Style::of_stdout())),
        Format::Markdown => console::print(&markdown::write(&diff)),
        Format::Json => console::print_json(&json(&diff)),
    }
    .context("can't print")?;
    Ok(if args.exit_code && !diff.is_empty() {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn json(diff: &Diff) -> String {
    let document =
        json!({ "version": 1, "unexplored": diff.unexplored(), "groups": diff.groups() });
    serde_json::to_string_pretty(&document).expect("its keys are strings") + "\n"
}

/// Returns the catalog that a replica serves.
fn replica(admin: &AdminUrl, partition: Option<&str>) -> anyhow::Result<Catalog> {
    let path = match partition {
        Some(name) => {
            let mut encoded = String::new();
            boot::query::encode_into(&mut encoded, name);
            format!("/catalog?partition={encoded}")
        }
        None => "/catalog".to_owned(),
    };
    let body = admin.get(&path)?;
    let text = String::from_utf8(body.to_vec()).context("the replica's response is not UTF-8")?;
    let list: Value = serde_json::from_str(&text).context("the replica's response is not JSON")?;
    let partitions: Vec<&str> = list["metadata"]["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match partition {
        Some(name) if !partitions.contains(&name) => {
            bail!(
                "the replica has no partition {name:?}; known partitions: {}",
                partitions.join(", ")
            )
        }
        None if partitions.len() > 1 => {
            bail!(
                "the replica serves {} clusters; choose one with --partition: {}",
                partitions.len(),
                partitions.join(", ")
            )
        }
        _ => {}
    }
    let batch = Batch::of(vec![Source {
        name: format!("{admin}{path}.json"),
        text,
    }]);
    if let Some((_, fault)) = batch
        .faults
        .iter()
        .find(|(_, fault)| fault.rule.severity == review::Severity::Error && fault.object.is_some())
    {
        bail!(
            "the replica serves an object that this version rejects; use the same version of shaper: {}",
            fault.sentence()
        );
    }
    Ok(batch.catalog)
}

/// Returns the new objects with the creation times of the old ones.
fn aged(new: &Catalog, old: &Catalog) -> Catalog {
    let mut aged = new.clone();
    for assignment in new
        .assignments()
        .filter(|assignment| assignment.created.is_none())
    {
        if let Some(created) = old.assignment(&assignment.key).and_then(|old| old.created) {
            aged.apply(Change::Assignment(Arc::new(Assignment {
                created: Some(created),
                ..(**assignment).clone()
            })));
        }
    }
    for profile in new.profiles().filter(|profile| profile.created.is_none()) {
        if let Some(created) = old.profile(&profile.key).and_then(|old| old.created) {
            let mut profile = (**profile).clone();
            profile.created = Some(created);
            aged.apply(Change::Profile(Arc::new(profile)));
        }
    }
    aged
}

/// Returns a note about objects that exist under the same name in another namespace: selection
/// treats them as different objects.
fn moved(old: &Catalog, new: &Catalog) -> Option<String> {
    let only = |a: &Catalog, b: &Catalog| -> BTreeMap<(bool, Arc<str>), ObjectRef> {
        let names = a.names().filter(|name| !b.contains(name));
        names
            .map(|name| {
                (
                    (
                        matches!(name, ObjectRef::Profile(_)),
                        name.key().name.clone(),
                    ),
                    name,
                )
            })
            .collect()
    };
    let (gone, come) = (only(old, new), only(new, old));
    let moves: Vec<_> = gone
        .iter()
        .filter_map(|(key, name)| Some((name, come.get(key)?)))
        .collect();
    let (from, to) = moves.first()?;
    let spaces: BTreeSet<_> = moves
        .iter()
        .map(|(a, b)| format!("{} to {}", a.key().namespace, b.key().namespace))
        .collect();
    Some(format!(
        "{} of OLD {} in NEW under the same name in another namespace (from {}), such as {from} and {to}: these count as different objects. \
         A manifest without metadata.namespace is in {}",
        count(moves.len(), "object"),
        if moves.len() == 1 { "is" } else { "are" },
        spaces
            .into_iter()
            .take(3)
            .collect::<Vec<_>>()
            .join(", from "),
        crd::DEFAULT_NAMESPACE
    ))
}

#[cfg(test)]
mod tests;
