//! `shaper`: one binary, one subcommand a role.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use shaper::{
    api, controller, diff, explain, logs, manual, partition, registration, standalone, tftp,
    validate, webhook,
};

/// Large pages for what the catalog holds: a lookup reads it here and there, and finding a page took as long as reading it.
#[cfg(all(feature = "jemalloc", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A Kubernetes-native iPXE boot and configuration server.
///
/// A machine network-boots, iPXE fetches /boot.ipxe, chains to /ipxe with the machine's labels, and gets the script of the Profile that an
/// Assignment gives it, with links to configs (Ignition, cloud-init, anything) at /config/{uuid}.
#[derive(Parser)]
#[command(
    version,
    after_long_help = "\
Each flag can also be set in the environment, where its help names a variable; a flag on the command line goes first. Text on a terminal is
coloured unless NO_COLOR is set.

Start here:
  shaper standalone DIR                 serve machines from a folder of manifests
  shaper validate DIR                   what is wrong with them
  shaper explain DIR 'uuid=...&mac=...' who gets what, and why
  shaper diff OLD NEW                   which machines would boot something else

`shaper COMMAND --help` is the manual of a command; `shaper man COMMAND | man -l -` is the same as a man page."
)]
struct Cli {
    #[command(flatten)]
    logs: logs::Args,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    Api(api::Args),
    Controller(controller::Args),
    Partition(partition::Args),
    Standalone(standalone::Args),
    Tftp(tftp::Args),
    Webhook(webhook::Args),
    WebhookConfiguration(registration::Args),
    Validate(validate::Args),
    Explain(explain::Args),
    Diff(diff::Args),
    Completions(manual::CompletionsArgs),
    Man(manual::ManArgs),
}

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
