//! Connects to controllers over the network.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prometheus_client::metrics::counter::Counter;
use tls::{MutualTls, PeerName, Reloader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tower::service_fn;

use crate::connection::{Connection, CountedStream};
use crate::proto::feed_client::FeedClient;
use crate::proto::{FollowRequest, FollowResponse};
use crate::source::Source;

use super::link::{Dial, Ended, STEP_TIMEOUT};
use super::merged_catalog::lock;

/// How often an idle connection is probed, and how long an answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The largest message: a part of 128 KiB and one more object, at most a Profile of a few
/// megabytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// The flow-control window: how much a controller may send ahead.
const WINDOW_BYTES: u32 = 1024 * 1024;

/// Connects to the controllers of one partition.
pub(crate) struct Network {
    sources: Vec<Source>,
    tls: Arc<Reloader<MutualTls>>,
    /// The names that a controller's certificate may carry; `None` for the host of its URL.
    names: Option<Vec<PeerName>>,
    received: Counter,
}

/// One IP address of a source.
pub(crate) struct Address {
    source: Source,
    address: SocketAddr,
}

/// A stream of messages. Owns the channel that carries it.
pub(crate) struct Messages {
    stream: Streaming<FollowResponse>,
    _channel: Channel,
}

impl Network {
    pub(crate) fn new(
        sources: Vec<Source>,
        tls: Arc<Reloader<MutualTls>>,
        names: Option<Vec<PeerName>>,
        received: Counter,
    ) -> Self {
        Self {
            sources,
            tls,
            names,
            received,
        }
    }

    async fn connect(&self, to: &Address) -> Result<Connection<CountedStream>, Ended> {
        let unreachable = |error: io::Error| Ended::Unreachable(format!("can't connect: {error}"));
        let Some(current) = self.tls.current() else {
            let problem = self.tls.last_error().unwrap_or_default();
            return Err(Ended::Unreachable(format!(
                "no usable certificate: {problem}"
            )));
        };
        let stream = timeout(STEP_TIMEOUT, TcpStream::connect(to.address))
            .await
            .map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))?;
        let stream = stream.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let stream = CountedStream::new(stream, self.received.clone());
        let handshake =
            TlsConnector::from(current.client()).connect(to.source.peer.server_name(), stream);
        let connected = timeout(STEP_TIMEOUT, handshake)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
            .and_then(|connected| connected);
        let stream = connected.map_err(|error| {
            self.tls
                .metrics()
                .handshake_failed(self.tls.name(), tls::handshake_reason(&error));
            Ended::Unreachable(format!("TLS handshake failed: {error}"))
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if self.names.is_none() && !tls::certificate_has_name(chain, &to.source.peer) {
            self.tls
                .metrics()
                .handshake_failed(self.tls.name(), "peer_name");
            return Err(Ended::Unreachable(format!(
                "its certificate is not valid for {}",
                to.source.peer
            )));
        }
        Ok(Connection::new(
            stream.into(),
            to.address,
            self.tls.clone(),
            MutualTls::check_server,
        ))
    }
}

impl Dial for Network {
    type Candidate = Address;
    type Messages = Messages;

    async fn candidates(&self) -> Result<Vec<Address>, String> {
        let mut lookups = JoinSet::new();
        for source in self.sources.clone() {
            lookups.spawn(async move {
                let resolved = timeout(
                    STEP_TIMEOUT,
                    tokio::net::lookup_host((&*source.host, source.port)),
                )
                .await;
                let resolved = resolved
                    .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
                    .and_then(|resolved| resolved);
                (resolved.map(Vec::from_iter), source)
            });
        }
        let mut candidates = Vec::new();
        let mut last_error = String::new();
        for (resolved, source) in lookups.join_all().await {
            match resolved {
                Ok(addresses) => {
                    candidates.extend(addresses.into_iter().map(|address| Address {
                        source: source.clone(),
                        address,
                    }));
                }
                Err(error) => last_error = format!("can't resolve {}: {error}", source.host),
            }
        }
        candidates.sort_by_key(|candidate: &Address| candidate.address);
        if candidates.is_empty() {
            Err(last_error)
        } else {
            Ok(candidates)
        }
    }

    async fn dial(&self, to: &Address, request: FollowRequest) -> Result<Messages, Ended> {
        let connection = Mutex::new(Some(self.connect(to).await?));
        // The connector is called once: when this connection is closed, the channel is too.
        let connector = service_fn(move |_| {
            let connection = lock(&connection)
                .take()
                .map(TokioIo::new)
                .ok_or(io::ErrorKind::NotConnected);
            std::future::ready(connection.map_err(io::Error::from))
        });
        let failed = |error: &dyn fmt::Display| Ended::Unreachable(error.to_string());
        let channel = Endpoint::from_static("https://controller")
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| failed(&error))?;
        let mut client =
            FeedClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = timeout(STEP_TIMEOUT, client.follow(request))
            .await
            .map_err(|_| Ended::Silent(STEP_TIMEOUT))?;
        Ok(Messages {
            stream: answer.map_err(Ended::Refused)?.into_inner(),
            _channel: channel,
        })
    }
}

impl Stream for Messages {
    type Item = Result<FollowResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.stream).poll_next(cx)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.host.parse::<std::net::IpAddr>().is_ok() {
            return write!(f, "{}", self.source);
        }
        write!(f, "{} ({})", self.source, self.address.ip())
    }
}
