//! The command line: one subcommand per role and per offline command.

use clap::{Parser, Subcommand};

use inspect::{diff, explain, validate};

use crate::{api, controller, logs, manual, partition, registration, standalone, tftp, webhook};

/// A Kubernetes-native iPXE boot and configuration server.
///
/// A machine network-boots, iPXE fetches /boot.ipxe and chains to /ipxe with the machine's labels.
/// There it gets the script of the Profile that an Assignment gives it, with links to configs
/// (Ignition, cloud-init or any text) at /config/{uuid}.
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
pub struct Cli {
    /// Log settings.
    #[command(flatten)]
    pub logs: logs::Args,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

// clap would print a doc comment here instead of the one of the arguments.
#[allow(
    missing_docs,
    reason = "the documentation is that of each variant's arguments"
)]
#[derive(Subcommand)]
pub enum Command {
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

/// Exit codes of servers, and of every command whose help lists none.
pub const SERVER_EXIT_CODES: [(u8, &str); 3] = [
    (
        0,
        "It did what it was asked; a server was stopped by SIGTERM or SIGINT",
    ),
    (1, "It failed; the last line on standard error says why"),
    (2, "The command line is wrong"),
];
