//! `shaper`: one binary, one subcommand a role.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shaper::{api, controller, logs, partition, standalone, tftp};

/// A Kubernetes-native iPXE boot and configuration server.
///
/// A machine network-boots, iPXE fetches /boot.ipxe, chains to /ipxe with the machine's labels, and gets the script of the Profile that an
/// Assignment gives it, with links to configs (Ignition, cloud-init, anything) at /config/{uuid}.
#[derive(Parser)]
#[command(version)]
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
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs::init(&cli.logs);
    let ended = match cli.role {
        Role::Api(args) => api::run(args),
        Role::Controller(args) => controller::run(args),
        Role::Partition(args) => partition::run(&args),
        Role::Standalone(args) => standalone::run(args),
        Role::Tftp(args) => tftp::run(args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shaper: {error:#}");
            ExitCode::FAILURE
        }
    }
}
