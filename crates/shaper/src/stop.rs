//! The signals of a role: it stops on SIGTERM or SIGINT, and reads its files again on SIGHUP.

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

/// Cancels the tokens at the first SIGTERM or SIGINT.
///
/// The lame-duck period is the time between the two steps after a SIGTERM; a second signal skips
/// it. After a SIGINT, which usually comes from a terminal, there is none.
///
/// Once the role finishes its requests, a SIGINT ends the process at once. A SIGTERM does not: a
/// supervisor that repeats it must not cut off answers, and has SIGKILL to end the process.
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
        let mut is_logged = false;
        while next(&mut terminate, &mut interrupt).await == "SIGTERM" {
            if !std::mem::replace(&mut is_logged, true) {
                info!("still finishing the requests in progress; SIGINT ends the process at once");
            }
        }
        std::process::exit(130);
    });
    Ok(stop)
}

/// Ignores SIGHUP, which would end the process, until [`on_hangup`] handles it.
pub(crate) fn survive_hangup() -> std::io::Result<()> {
    // A handler stays installed when its stream is dropped.
    signal(SignalKind::hangup()).map(drop)
}

/// Calls `reload` at each SIGHUP until `stop`.
pub(crate) fn on_hangup(
    stop: CancellationToken,
    reload: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while let Some(Some(())) = stop.run_until_cancelled(hangup.recv()).await {
            info!(signal = "SIGHUP", "reading files again");
            reload();
        }
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
