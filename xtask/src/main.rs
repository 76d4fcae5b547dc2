//! Commands for developers of shaper: `cargo xtask --help`.

use clap::{Parser, Subcommand};

mod bench;
mod build;
mod cluster;
mod demo;
mod dev;
mod fuzz;
mod generate;
mod prepare;
mod stop;
mod test;

/// Commands for those who work on shaper
#[derive(Parser)]
enum Xtask {
    #[command(flatten)]
    Task(Task),
}

#[derive(Subcommand)]
enum Task {
    /// Build shaper, start it on examples/quickstart, and boot a virtual machine through it into
    /// Linux
    Demo(demo::Args),
    /// Start a Kubernetes API server that knows shaper's kinds and roles, and print how to use
    /// kubectl with it
    Cluster(cluster::Args),
    /// Start a cluster and every role of shaper, and boot a virtual machine from what kubectl
    /// applies
    Dev(dev::Args),
    /// Measure shaper: `cargo xtask bench --help`
    Bench(bench::Args),
    /// Try bytes that nobody would write, led by coverage, for a bounded time
    Fuzz(fuzz::Args),
    /// Build and fetch what the tests need besides shaper; the tests do so themselves when they
    /// need it
    Prepare,
    /// Run all tests, those with virtual machines as well
    Test(test::Args),
    /// Write the files that are generated from code: config/crd, config/webhook,
    /// config/openapi.json and docs/reference
    Generate,
}

fn main() -> anyhow::Result<()> {
    let Xtask::Task(task) = Xtask::parse();
    match task {
        Task::Demo(args) => demo::run(&args),
        Task::Cluster(args) => cluster::run(&args),
        Task::Dev(args) => dev::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Prepare => prepare::run(),
        Task::Test(args) => test::run(&args),
        Task::Generate => generate::run(),
    }
}
