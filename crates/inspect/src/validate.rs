//! `shaper validate PATH...`: runs every check of manifests that needs no cluster.

mod json;
mod sarif;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use review::Severity;

use crate::console::{self, Style};
use manifests::{Batch, Fault, Progress, Source};

/// Check Profiles and Assignments before a machine boots
///
/// Reads manifests and reports all errors that can be found without a cluster or machines. Checks
/// fields against the schema of the resources, and converts objects as the server does. Renders
/// templates for a sample machine of each architecture within the limits that apply at boot, and
/// checks that iPXE can read the scripts. Compares objects with each other: Assignments that select
/// the same machine, or between which only age or name decides; Assignments without a Profile;
/// Profiles that no machine can get.
#[derive(clap::Args)]
#[command(after_long_help = "\
Exit code:
  0  no errors; there may be warnings
  1  errors, or with --strict, warnings
  2  wrong usage

Examples:
  shaper validate manifests/
  shaper validate --strict -o sarif manifests/ > shaper.sarif
  kubectl get profiles,assignments -A -o yaml | shaper validate -
  kustomize build overlays/production | shaper validate -
  helm template ./chart | shaper validate -

The rules are described in docs/reference/admission.md, those of the iPXE linter in docs/reference/linter.md. Only the output of -o json and -o sarif
is stable across versions.")]
pub struct Args {
    /// Folders with *.yaml, *.yml and *.json files, single files, or - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people, with the affected lines
    Text,
    /// For scripts
    Json,
    /// SARIF 2.1.0, which code hosts show next to the change
    Sarif,
}

/// The findings in the form that is printed.
struct Report<'b> {
    batch: &'b Batch,
    is_strict: bool,
}

/// Reads, checks and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let progress = Progress::start();
    let mut batch = Batch::read(&args.paths, &progress);
    batch.survey(&progress);
    drop(progress);
    let report = Report {
        batch: &batch,
        is_strict: args.strict,
    };
    match args.output {
        Format::Text => console::print(&text::write(&report, Style::of_stdout())),
        Format::Json => console::print_json(&json::write(&report)),
        Format::Sarif => console::print_json(&sarif::write(&report)),
    }
    .context("can't print")?;
    Ok(if report.errors() > 0 {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

// === impl Report ===

impl Report<'_> {
    fn errors(&self) -> usize {
        let (errors, warnings) = self.batch.count();
        errors + if self.is_strict { warnings } else { 0 }
    }

    fn warnings(&self) -> usize {
        if self.is_strict {
            0
        } else {
            self.batch.count().1
        }
    }

    fn severity(&self, fault: &Fault) -> Severity {
        if self.is_strict {
            Severity::Error
        } else {
            fault.rule.severity
        }
    }

    fn faults(&self) -> impl ExactSizeIterator<Item = (&Source, &Fault)> {
        self.batch
            .faults
            .iter()
            .map(|(at, fault)| (&self.batch.sources[*at], fault))
    }
}

#[cfg(test)]
mod tests;
