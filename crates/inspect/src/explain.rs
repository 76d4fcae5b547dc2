//! `shaper explain DIR QUERY`: shows what a machine gets, and why.

mod query;
mod text;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use api::BaseUrl;
use boot::nearest::did_you_mean;
use boot::{Catalog, ConfigName, ExtrinsicLabels, Subject, render};
use clap::ValueEnum;
use review::sample;
use serde_json::Value;

use crate::admin_client::AdminUrl;
use crate::console::{self, Style};
use crate::load::{self, OnInvalid};
use crate::parse_label;

/// Show what a machine boots, and why
///
/// Lists the Assignments that could match the machine, in order, with the reason why each won or
/// lost, and the Profiles that the winner selects, with the reason for the choice. Uses the same
/// code as the server. Pass the machine as the query of its request, or as a URL or log line that
/// contains one; add labels that the query lacks with --label.
#[derive(clap::Args)]
#[command(
    override_usage = "shaper explain [OPTIONS] DIR [QUERY]\n       shaper explain [OPTIONS] --admin URL [QUERY]",
    after_long_help = "\
--label and --extrinsic: a label of --label is presented by the machine, as if it were part of QUERY. A label of --extrinsic belongs to the server,
as set by `shaper standalone --label` and `shaper api --label`: a machine can't override it, and only it satisfies a Profile's label
assignment/extrinsic-KEY. With --admin, the replica's own labels are used.

Exit code:
  0  the machine boots something
  1  it boots nothing
  2  wrong usage, or the replica can't be reached

Examples:
  shaper explain manifests/ 'uuid=47c6da67-7477-4970-aa03-84e48ff4f6ad&buildarch=x86_64'
  shaper explain manifests/ 'http://192.0.2.1:8080/ipxe?mac=52:54:00:12:34:56' --script
  shaper explain manifests/ --label product=R640 --extrinsic region=us-cal -o json
  kubectl port-forward deploy/shaper-api 9090 & shaper explain --admin http://127.0.0.1:9090 'serial=SN1'"
)]
pub struct Args {
    /// A folder of manifests, a file, or - for standard input
    #[arg(value_name = "DIR", required_unless_present = "admin")]
    dir: Option<PathBuf>,
    /// The query of the machine: k=v&k=v, or a URL that contains it
    #[arg(value_name = "QUERY")]
    query: Option<String>,
    /// A label that the machine presents in addition to QUERY; repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// A label of the server; repeatable
    #[arg(long = "extrinsic", env = "SHAPER_LABEL", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = parse_label)]
    extrinsic: Vec<(String, String)>,
    /// Ask a running replica through its admin port instead of reading DIR. `unix:` and a path for
    /// a Unix socket
    #[arg(long, value_name = "URL")]
    admin: Option<AdminUrl>,
    /// Print only the script that the machine gets
    #[arg(long, conflicts_with = "config")]
    script: bool,
    /// Print only this config as the machine gets it
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
    /// The start of links in a script. Ids in them are placeholders, except with --admin
    #[arg(long, value_name = "URL", default_value = sample::BASE_URL)]
    public_url: BaseUrl,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For scripts: the response of /explain of the admin port, with `script` or `config` if
    /// requested
    Json,
}

/// The explanation.
struct Answer {
    explanation: Value,
    /// The requested script or config, if any, or the reason why there is none.
    text: Option<Result<String, String>>,
    notes: Vec<String>,
}

/// Explains and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let answer = match &args.admin {
        Some(admin) => explain_replica(args, admin)?,
        None => explain_folder(args)?,
    };
    for note in &answer.notes {
        console::note(note);
    }
    let boots = answer.explanation["outcome"]["answer"] == "boots";
    let mut failed = !boots;
    let out = match (args.output, answer.text) {
        (Format::Json, text) => {
            let mut explanation = answer.explanation;
            if let Some(text) = text {
                let name = if args.script { "script" } else { "config" };
                explanation[name] = text
                    .as_ref()
                    .map_or(Value::Null, |text| text.as_str().into());
                if let Err(error) = text {
                    failed = true;
                    console::note(error);
                }
            }
            console::print_json(&(serde_json::to_string_pretty(&explanation)? + "\n"))
        }
        (Format::Text, Some(Ok(text))) => console::print_rendered(&text),
        (Format::Text, Some(Err(error))) => {
            failed = true;
            console::note(error);
            Ok(())
        }
        (Format::Text, None) => {
            console::print(&text::write(&answer.explanation, Style::of_stdout()))
        }
    };
    out.context("can't print")?;
    Ok(if failed {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

/// Explains by the manifests in a folder.
fn explain_folder(args: &Args) -> anyhow::Result<Answer> {
    let dir = args
        .dir
        .as_deref()
        .context("pass the folder that contains the manifests")?;
    let query = query::of(args.query.as_deref(), &args.labels)?;
    let extrinsic = ExtrinsicLabels::new(args.extrinsic.iter().map(|(key, value)| (key, value)))
        .context("--extrinsic")?;
    let catalog = load::catalog(dir, OnInvalid::Wait)?;
    let subject = Arc::new(catalog.subject(&query, &extrinsic).context("QUERY")?);
    let explanation = serde_json::to_value(catalog.explain(&subject))?;
    let text = if args.script || args.config.is_some() {
        Some(rendered(args, &catalog, &subject)?)
    } else {
        None
    };
    Ok(Answer {
        explanation,
        text,
        notes: unused_labels(&catalog, &query),
    })
}

/// Renders the script or the config, or returns the reason why there is none.
fn rendered(
    args: &Args,
    catalog: &Catalog,
    subject: &Arc<Subject>,
) -> anyhow::Result<Result<String, String>> {
    let selection = match catalog.select(subject) {
        Ok(selection) => selection,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let selection = sample::selection(&selection.profile, Some(selection.assignment));
    let base_url = args.public_url.as_str();
    let text = match &args.config {
        None => selection.script(subject, base_url),
        Some(name) => {
            let name = config_named(&selection.profile, name)?;
            render::config(
                &selection.profile,
                name,
                subject,
                Some(&selection.assignment),
                base_url,
            )
        }
    };
    Ok(text.map_err(|error| error.to_string()))
}

fn config_named<'p>(profile: &'p boot::Profile, name: &str) -> anyhow::Result<&'p ConfigName> {
    if let Some(name) = profile.templates.config_named(name) {
        return Ok(name);
    }
    let names: Vec<_> = profile
        .templates
        .config_names()
        .map(ConfigName::as_str)
        .collect();
    let hint = did_you_mean(name, names.iter().copied());
    if names.is_empty() {
        bail!("Profile {} has no configs", profile.key);
    }
    bail!(
        "Profile {} has no config {name:?}{hint}; its configs: {}",
        profile.key,
        names.join(", ")
    )
}

/// Explains by what a running replica serves.
fn explain_replica(args: &Args, admin: &AdminUrl) -> anyhow::Result<Answer> {
    if !args.extrinsic.is_empty() && std::env::var_os("SHAPER_LABEL").is_none() {
        bail!("--extrinsic can't be combined with --admin: the replica has its own labels");
    }
    // Without DIR, the only argument is the query.
    let words: Vec<String> = args
        .dir
        .iter()
        .map(|dir| dir.to_string_lossy().into_owned())
        .chain(args.query.clone())
        .collect();
    let ([] | [_]) = words.as_slice() else {
        bail!("--admin takes the place of DIR; pass only QUERY")
    };
    let query = query::of(words.first().map(String::as_str), &args.labels)?;
    let explanation: Value = serde_json::from_slice(&admin.get(&format!("/explain?{query}"))?)
        .context("the replica's response is not JSON")?;
    let path = match &args.config {
        Some(name) => Some(format!("/explain/config/{name}?{query}")),
        None if args.script => Some(format!("/explain/script?{query}")),
        None => None,
    };
    let text = path.map(|path| {
        admin
            .get(&path)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .map_err(|error| format!("{error:#}"))
    });
    let warnings = explanation["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let notes = warnings
        .map(|warning| format!("this answer may be outdated or incomplete: {warning}"))
        .collect();
    Ok(Answer {
        explanation,
        text,
        notes,
    })
}

/// Returns a note for each label of the query that no object uses, since it may be mistyped.
fn unused_labels(catalog: &Catalog, query: &str) -> Vec<String> {
    let mut used: BTreeSet<&str> = boot::subject::BOOTSTRAP_LABELS.into();
    for assignment in catalog.assignments() {
        used.extend(
            assignment
                .subjects
                .labels
                .requirements()
                .iter()
                .map(|requirement| &*requirement.key),
        );
    }
    for profile in catalog.profiles() {
        used.extend(
            profile
                .constraints()
                .iter()
                .map(|constraint| constraint.key.as_str()),
        );
        let configs = profile
            .templates
            .config_names()
            .filter_map(|name| profile.templates.config_uses(name.as_str()));
        used.extend(
            configs
                .chain([profile.templates.script_uses()])
                .flat_map(|uses| uses.labels.iter().chain(&uses.extrinsic))
                .map(String::as_str),
        );
    }
    let keys: BTreeSet<_> = boot::query::pairs(query)
        .map(|(key, _)| key.into_owned())
        .collect();
    let unknown = keys
        .iter()
        .filter(|key| !key.is_empty() && !used.contains(key.as_str()));
    unknown
        .map(|key| {
            format!(
                "no Assignment, Profile or template uses the label {key:?}{}",
                did_you_mean(key, used.iter().copied())
            )
        })
        .collect()
}
