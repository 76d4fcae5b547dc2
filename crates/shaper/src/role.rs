//! What all roles do alike: they start, and say which address they can't have.

use std::net::SocketAddr;

use anyhow::Context;

/// Runs a role to its end, on as many threads as there are cores.
pub(crate) fn run(role: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(role)
}

/// The same for a role that does its work on a thread of its own.
pub(crate) fn run_on_one_thread(
    role: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(role)
}

/// What is said where an address can't be listened on.
pub(crate) fn in_use(flag: &str, address: SocketAddr) -> String {
    format!(
        "can't listen on {flag} {address}; is another server there? Choose another address or port"
    )
}
