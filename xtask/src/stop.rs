//! Waits for a request to stop.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

/// Catches Ctrl-C, SIGTERM and SIGHUP: once created, they no longer end this program.
pub(crate) struct Stop {
    runtime: tokio::runtime::Runtime,
    signals: Vec<tokio::signal::unix::Signal>,
}

impl Stop {
    /// Starts to listen for signals.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("can't start a runtime")?;
        let entered = runtime.enter();
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let signals = kinds
            .into_iter()
            .map(signal)
            .collect::<Result<_, _>>()
            .context("can't listen for signals")?;
        drop(entered);
        Ok(Self { runtime, signals })
    }

    /// Waits for the first signal, which may have arrived already.
    pub(crate) fn wait(&mut self) {
        let Self { runtime, signals } = self;
        runtime.block_on(std::future::poll_fn(|context| {
            let any = signals
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready());
            if any {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        }));
    }
}
