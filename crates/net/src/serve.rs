//! The accept loop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::accept_errors::is_about_one_connection;
use crate::connections::Place;
use crate::{Connection, Connections, CountedInput, Listener};

/// How long to wait after a failed `accept`: file descriptors become free when connections close.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What a server does with a connection.
///
/// A closure `Fn(CountedInput<TcpStream>, Connection) -> impl Future` is one.
pub trait Handler {
    /// The future that serves one connection.
    type Served: Future<Output = ()> + Send + 'static;

    /// Serves one connection to its end, that of the returned future. Tells the connection what has
    /// arrived, with [`reached`](Connection::reached).
    ///
    /// A large future should be boxed here, since spawning moves it several times.
    fn serve(&self, stream: CountedInput<TcpStream>, connection: Connection) -> Self::Served;

    /// Called for each connection that is closed unserved because the server is full.
    fn refused(&self, _peer: SocketAddr) {}

    /// Called for each failed `accept`.
    fn accept_failed(&self) {}
}

/// Accepts connections and has `handler` serve each in its own task, until `stop`.
///
/// Then the connections that the kernel has already established are accepted too, since closing the
/// socket would reset them, and the listening socket is closed. Connections have
/// [`Limits::drain`](crate::Limits::drain) to end by themselves; those that are left are aborted.
/// `handler` learns of `stop` from its own copy of the token.
///
/// Fails only if the listener can't be registered with the runtime.
pub async fn serve(
    listener: Listener,
    connections: Connections,
    handler: impl Handler,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = listener.into_tokio()?;
    let mut tasks = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        while let Some(ended) = tasks.try_join_next() {
            log_panic(&connections, ended);
        }
        match accepted {
            Ok((stream, peer)) => {
                let admitted = stop
                    .run_until_cancelled(connections.admit_or_wait(peer))
                    .await;
                match admitted {
                    Some(Some(place)) => start(&mut tasks, &handler, stream, place),
                    Some(None) => refuse(&connections, &handler, peer),
                    None => {}
                }
            }
            Err(error) => {
                handler.accept_failed();
                if !is_about_one_connection(&error) {
                    connections.accept_failed(&error);
                    sleep(BACK_OFF).await;
                }
            }
        }
    }
    let drain = connections.limits().drain;
    if !drain.is_zero() {
        while let Ok(Ok((stream, peer))) = timeout(Duration::ZERO, listener.accept()).await {
            match connections.admit(peer) {
                Ok(place) => start(&mut tasks, &handler, stream, place),
                Err(_) => break,
            }
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            log_panic(&connections, ended);
        }
    };
    if timeout(drain, all_ended).await.is_err() && !drain.is_zero() {
        warn!(
            server = connections.server(),
            connections = tasks.len(),
            "closed connections that did not end in time"
        );
    }
    // Dropping the tasks aborts those that are left.
    Ok(())
}

fn start(tasks: &mut JoinSet<()>, handler: &impl Handler, stream: TcpStream, place: Place) {
    let _ = stream.set_nodelay(true);
    let connection = place.connection().clone();
    if let Some(displaced) = place.displaced {
        debug!(peer = %connection.peer(), %displaced, "a connection was displaced");
    }
    let stream = CountedInput::new(stream, connection.clone());
    let served = handler.serve(stream, connection.clone());
    let task = tasks.spawn(async move {
        served.await;
        drop(place);
    });
    connection.set_task(task);
}

fn refuse(connections: &Connections, handler: &impl Handler, peer: SocketAddr) {
    debug!(server = connections.server(), %peer, "connection refused: too many are open");
    handler.refused(peer);
}

fn log_panic(connections: &Connections, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(server = connections.server(), %error, "serving a connection panicked; please report it");
    }
}

// === impl Handler ===

impl<F, S> Handler for F
where
    F: Fn(CountedInput<TcpStream>, Connection) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    type Served = S;

    fn serve(&self, stream: CountedInput<TcpStream>, connection: Connection) -> S {
        self(stream, connection)
    }
}
