//! Stops a role on SIGTERM or SIGINT.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// The two steps in which a role stops.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// Cancelled first: the role reports not ready, so that load balancers stop sending requests.
    pub not_ready: CancellationToken,
    /// Cancelled second: the role finishes the requests it has and accepts no new ones.
    pub stop: CancellationToken,
}

/// Cancels the tokens at the first SIGTERM or SIGINT. A second signal skips the lame-duck period,
/// and a third one ends the process at once.
///
/// The lame-duck period is the time between the two steps after a SIGTERM. After a SIGINT, which
/// usually comes from a terminal, there is none.
pub fn on_signal_after(lameduck: Duration) -> std::io::Result<Stop> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = Stop::default();
    let tokens = stop.clone();
    tokio::spawn(async move {
        let signal = next(&mut terminate, &mut interrupt).await;
        info!(signal, "stopping after the requests in progress");
        tokens.not_ready.cancel();
        if signal == "SIGTERM" && !lameduck.is_zero() {
            tokio::select! {
                () = sleep(lameduck) => {}
                _ = next(&mut terminate, &mut interrupt) => {}
            }
        }
        tokens.stop.cancel();
        next(&mut terminate, &mut interrupt).await;
        std::process::exit(130);
    });
    Ok(stop)
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
