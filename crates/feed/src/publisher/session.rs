//! Serves followers over gRPC.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use net::{LineLimit, Listener, Permit, Permits};
use tls::{MutualTls, Reloader};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{debug, info};

use crate::connection::{Accepted, PeerInfo};
use crate::proto::feed_server::{Feed, FeedServer};
use crate::proto::follow_response::Message;
use crate::proto::{FollowRequest, FollowResponse, Heartbeat, Hello, PROTOCOL, Position};

use super::{Publisher, PublisherMetrics, millis};

/// Limits on followers.
#[derive(Clone, Copy, Debug)]
pub struct PublisherLimits {
    /// How many may follow at once.
    pub followers: usize,
    /// How long after the last message a heartbeat is sent.
    pub heartbeat: Duration,
    /// How long a follower may accept no data before it is disconnected.
    pub stall_timeout: Duration,
}

/// A follower that has not taken its first batch after this time may be displaced by any newcomer.
const FIRST_BATCH_GRACE: Duration = Duration::from_secs(10);

/// What the limit of log lines is about.
const LINES: &str = "changes of followers";
/// Of a longer version of a follower, only the start is logged.
const MAX_SOFTWARE_CHARS: usize = 64;

type Messages = Pin<Box<dyn Stream<Item = Result<FollowResponse, Status>> + Send>>;

/// The gRPC service, independent of the transport.
pub(crate) struct Service {
    publisher: Arc<Publisher>,
    metrics: PublisherMetrics,
    limits: PublisherLimits,
    permits: Permits,
    lines: Arc<LineLimit>,
    stop: CancellationToken,
}

/// Sends to one follower.
struct Session {
    publisher: Arc<Publisher>,
    metrics: PublisherMetrics,
    limits: PublisherLimits,
    peer: String,
    address: IpAddr,
    lines: Arc<LineLimit>,
    messages: mpsc::Sender<Result<FollowResponse, Status>>,
    permit: Permit,
}

/// Why a stream ended.
enum Ended {
    Left,
    Stalled,
    /// Another follower took its place.
    Displaced,
    Stopping,
}

/// Serves followers on `listener` until `stop`.
///
/// `tls` determines who may follow. A follower whose certificate would no longer be accepted,
/// because it expired or its authority was removed, is disconnected when the files change and
/// within a minute in any case.
pub async fn serve(
    listener: Listener,
    publisher: Arc<Publisher>,
    tls: Arc<Reloader<MutualTls>>,
    metrics: PublisherMetrics,
    limits: PublisherLimits,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = Service::new(publisher, metrics, limits, stop.clone());
    let accepted = Accepted::new(listener, tls, limits.followers, stop.clone());
    let service = FeedServer::new(service).max_decoding_message_size(64 * 1024);
    // One service needs no router, and so no second HTTP framework.
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(limits.heartbeat * 2))
        .http2_keepalive_timeout(Some(limits.heartbeat * 3))
        .max_concurrent_streams(8)
        .http2_max_header_list_size(16 * 1024)
        .serve_with_incoming_shutdown(service, accepted, stop.cancelled_owned())
        .await
}

// === impl PublisherLimits ===

impl Default for PublisherLimits {
    fn default() -> Self {
        Self {
            followers: 512,
            heartbeat: Duration::from_secs(2),
            stall_timeout: Duration::from_mins(1),
        }
    }
}

// === impl Service ===

impl Service {
    pub(crate) fn new(
        publisher: Arc<Publisher>,
        metrics: PublisherMetrics,
        limits: PublisherLimits,
        stop: CancellationToken,
    ) -> Self {
        Self {
            publisher,
            metrics,
            limits,
            permits: Permits::new(limits.followers, FIRST_BATCH_GRACE),
            lines: Arc::default(),
            stop,
        }
    }

    /// Starts to send to a follower, or refuses it with a reason.
    pub(crate) fn open(
        &self,
        peer: &PeerInfo,
        request: FollowRequest,
    ) -> Result<ReceiverStream<Result<FollowResponse, Status>>, Status> {
        let refuse = |reason, status: Status| {
            self.metrics.ended(reason);
            if self.lines.allows_or_reports(peer.address(), LINES) {
                info!(
                    %peer,
                    software = cut(&request.software),
                    reason = status.message(),
                    "follower refused"
                );
            }
            Err(status)
        };
        if request.protocol != PROTOCOL {
            let sentence = format!(
                "this controller speaks version {PROTOCOL} of the feed and the follower version {}; run the same major version of shaper at both ends",
                request.protocol
            );
            return refuse("protocol", Status::failed_precondition(sentence));
        }
        if !self.publisher.is_ready() {
            return refuse(
                "not_ready",
                Status::unavailable(
                    "this controller has not listed all objects yet; try another one, or retry in a moment",
                ),
            );
        }
        if self.stop.is_cancelled() {
            return refuse(
                "stopping",
                Status::unavailable("this controller is stopping; try another one"),
            );
        }
        let Some(permit) = self.permits.try_acquire(peer.source()) else {
            let sentence = format!(
                "this controller already has {} followers; try another one, or retry in a moment",
                self.limits.followers
            );
            return refuse("too_many", Status::resource_exhausted(sentence));
        };
        let (messages, stream) = mpsc::channel(1);
        let session = Session {
            publisher: self.publisher.clone(),
            metrics: self.metrics.clone(),
            limits: self.limits,
            peer: peer.to_string(),
            address: peer.address(),
            lines: self.lines.clone(),
            messages,
            permit,
        };
        tokio::spawn(session.run(request, self.stop.clone()));
        Ok(ReceiverStream::new(stream))
    }
}

fn cut(software: &str) -> String {
    software.chars().take(MAX_SOFTWARE_CHARS).collect()
}

#[tonic::async_trait]
impl Feed for Service {
    type FollowStream = Messages;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Messages>, Status> {
        let (_, extensions, request) = request.into_parts();
        let peer = extensions
            .get::<PeerInfo>()
            .ok_or_else(|| Status::internal("the connection has no peer"))?;
        let messages = self.open(peer, request)?;
        Ok(Response::new(Box::pin(messages)))
    }
}

// === impl Session ===

impl Session {
    async fn run(self, request: FollowRequest, stop: CancellationToken) {
        self.metrics.followers.inc();
        if self.lines.allows_or_reports(self.address, LINES) {
            info!(
                peer = self.peer,
                software = cut(&request.software),
                resumes = request.after.is_some(),
                "follower connected"
            );
        }
        let end = |ended, reason| {
            let _ = self.messages.try_send(Err(Status::unavailable(reason)));
            ended
        };
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => {
                end(Ended::Stopping, "this controller is stopping; try another one")
            }
            () = self.permit.revoked() => end(
                Ended::Displaced,
                "this controller has too many followers, most of them with this certificate or address; try another one",
            ),
            followed = self.follow(request.after) => match followed {
                Err(ended) => ended,
                Ok(never) => match never {},
            },
        };
        let reason = match ended {
            Ended::Left => "left",
            Ended::Stalled => "stalled",
            Ended::Displaced => "displaced",
            Ended::Stopping => "stopping",
        };
        self.metrics.ended(reason);
        self.metrics.followers.dec();
        if self.lines.allows_or_reports(self.address, LINES) {
            info!(peer = self.peer, reason, "follower disconnected");
        }
    }

    async fn follow(&self, mut after: Option<Position>) -> Result<std::convert::Infallible, Ended> {
        let mut revisions = self.publisher.revision.subscribe();
        self.send(Message::Hello(Hello {
            protocol: PROTOCOL,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            heartbeat_millis: u32::try_from(self.limits.heartbeat.as_millis()).unwrap_or(u32::MAX),
            heard_millis_ago: millis(self.publisher.heard_ago()),
        }))
        .await?;
        loop {
            // Marked before the batch is read: a change from here on wakes the next iteration.
            revisions.mark_unchanged();
            let reached = self.send_batch(after).await?;
            self.permit.proved();
            after = Some(reached);
            while tokio::select! {
                // The sender is owned by the publisher, which this session keeps alive.
                _ = revisions.changed() => false,
                () = sleep(self.limits.heartbeat) => true,
            } {
                self.send_heartbeat(reached).await?;
            }
        }
    }

    async fn send_heartbeat(&self, position: Position) -> Result<(), Ended> {
        let heard_millis_ago = millis(self.publisher.heard_ago());
        self.send(Message::Heartbeat(Heartbeat {
            position: Some(position),
            heard_millis_ago,
        }))
        .await
    }

    /// Sends what the follower lacks and returns its new position.
    async fn send_batch(&self, after: Option<Position>) -> Result<Position, Ended> {
        let batch = self.publisher.batch_after(after);
        let reached = batch.commit().position.unwrap_or_default();
        if !batch.is_snapshot() && after == Some(reached) {
            // A follower that reconnects and is up to date learns so at once.
            self.send_heartbeat(reached).await?;
            return Ok(reached);
        }
        let kind = if batch.is_snapshot() {
            "snapshot"
        } else {
            "delta"
        };
        let mut parts = 0;
        for part in batch.parts() {
            self.send(Message::Part(part)).await?;
            parts += 1;
        }
        self.metrics.sent(kind);
        self.metrics
            .revision
            .set(i64::try_from(reached.revision).unwrap_or(i64::MAX));
        debug!(
            peer = self.peer,
            kind,
            parts,
            revision = reached.revision,
            "batch sent"
        );
        Ok(reached)
    }

    async fn send(&self, message: Message) -> Result<(), Ended> {
        match timeout(
            self.limits.stall_timeout,
            self.messages.send(Ok(FollowResponse {
                message: Some(message),
            })),
        )
        .await
        {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Left),
            Err(_) => Err(Ended::Stalled),
        }
    }
}
