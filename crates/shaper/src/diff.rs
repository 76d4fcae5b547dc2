//! Stub.
/// Stub
#[derive(clap::Args)]
pub struct Args {}
/// Stub
pub fn run(_: &Args) -> anyhow::Result<std::process::ExitCode> { Ok(std::process::ExitCode::SUCCESS) }
