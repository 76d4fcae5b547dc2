//! `shaper`: one binary with a subcommand for each role.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use inspect::{console, diff, explain, validate};
use shaper::cli::{Cli, Command};
use shaper::{api, controller, logs, manual, partition, registration, standalone, tftp, webhook};

/// The exit code of a check that could not be done; 1 means that it failed.
const CHECK_FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = logs::init(&cli.logs);
    let is_check = matches!(
        cli.command,
        Command::Validate(_) | Command::Explain(_) | Command::Diff(_)
    );
    let ended = run(cli.command);
    // Flush the log first, so that the reason is the last line.
    drop(log);
    ended.unwrap_or_else(|error| {
        console::note(format_args!("{error:#}"));
        if is_check {
            ExitCode::from(CHECK_FAILED)
        } else {
            ExitCode::FAILURE
        }
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Api(args) => api::run(args)?,
        Command::Controller(args) => controller::run(args)?,
        Command::Partition(args) => partition::run(&args)?,
        Command::Standalone(args) => standalone::run(args)?,
        Command::Tftp(args) => tftp::run(args)?,
        Command::Webhook(args) => webhook::run(args)?,
        Command::WebhookConfiguration(args) => registration::run(&args)?,
        Command::Validate(args) => return validate::run(&args),
        Command::Explain(args) => return explain::run(&args),
        Command::Diff(args) => return diff::run(&args),
        Command::Completions(args) => manual::completions(&args, Cli::command())?,
        Command::Man(args) => manual::man(&args, Cli::command())?,
    }
    Ok(ExitCode::SUCCESS)
}
