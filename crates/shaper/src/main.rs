//! `shaper`: one binary, one subcommand a role.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use inspect::{diff, explain, validate};
use shaper::cli::{Cli, Role};
use shaper::{api, controller, logs, manual, partition, registration, standalone, tftp, webhook};

/// What a check exits with where it could not be done: 1 is its answer.
const NOT_DONE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = logs::init(&cli.logs);
    let is_check = matches!(
        cli.role,
        Role::Validate(_) | Role::Explain(_) | Role::Diff(_)
    );
    let ended = run(cli.role);
    // The reason is the last that is said.
    drop(log);
    ended.unwrap_or_else(|error| {
        eprintln!("shaper: {error:#}");
        if is_check {
            ExitCode::from(NOT_DONE)
        } else {
            ExitCode::FAILURE
        }
    })
}

fn run(role: Role) -> anyhow::Result<ExitCode> {
    match role {
        Role::Api(args) => api::run(args)?,
        Role::Controller(args) => controller::run(args)?,
        Role::Partition(args) => partition::run(&args)?,
        Role::Standalone(args) => standalone::run(args)?,
        Role::Tftp(args) => tftp::run(args)?,
        Role::Webhook(args) => webhook::run(args)?,
        Role::WebhookConfiguration(args) => registration::run(&args)?,
        Role::Validate(args) => return validate::run(&args),
        Role::Explain(args) => return explain::run(&args),
        Role::Diff(args) => return diff::run(&args),
        Role::Completions(args) => manual::completions(&args, Cli::command())?,
        Role::Man(args) => manual::man(&args, Cli::command())?,
    }
    Ok(ExitCode::SUCCESS)
}
