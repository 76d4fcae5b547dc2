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
A flag whose help names a variable can also be set in the environment; the command line overrides the environment. Output to a terminal
is coloured unless NO_COLOR is set.

Start here:
  shaper standalone DIR                 serve machines from a folder of manifests
  shaper validate DIR                   check manifests
  shaper explain DIR 'uuid=...&mac=...' show which Profile a machine gets, and why
  shaper diff OLD NEW                   show which machines would boot something else

`shaper COMMAND --help` describes a command; `shaper man COMMAND | man -l -` shows the same as a man page."
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
    (0, "Success; for a server, SIGTERM or SIGINT stopped it"),
    (1, "Failure; the last line on standard error says why"),
    (2, "Invalid command line"),
];
