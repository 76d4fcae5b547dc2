//! Answers one request, counts it and logs it.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use boot::Catalog;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use net::{Connection, PlainText, RequestId, Reserved};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, ContentType, Outcome, Request, Route};
use crate::shed;

use super::connection::ConnectionState;
use super::{Peer, ServerContext};

/// The body of a response. While it exists, its request counts as in flight.
pub(super) struct ResponseBody {
    bytes: Bytes,
    _in_flight: Option<InFlight>,
}

struct InFlight(Arc<ServerContext>);

/// The bytes of a long answer, which count towards
/// [`Limits::answer_bytes`](super::Limits::answer_bytes) until they are written.
struct CountedBytes {
    bytes: Bytes,
    _reserved: Reserved,
}

/// The header with the request id, by which an operator finds the log line of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Answers up to this size are not counted: the limit on connections bounds them.
const COUNTED_FROM_BYTES: usize = 16 * 1024;

// === impl ServerContext ===

impl ServerContext {
    /// Reserves room for the answer until the client has read it. Replaces it by a 503 if there is
    /// none.
    fn reserve<'c>(connection: &Connection, answer: Answer<'c>) -> Answer<'c> {
        let bytes = answer.body.len();
        if bytes <= COUNTED_FROM_BYTES {
            return answer;
        }
        match connection.reserve(bytes) {
            Ok(reserved) => {
                let body = Bytes::from_owner(CountedBytes {
                    bytes: answer.body,
                    _reserved: reserved,
                });
                Answer { body, ..answer }
            }
            Err(error) => Answer {
                body: format!("{error}; try again in a moment").into(),
                outcome: Outcome::Overloaded,
                content_type: ContentType::Text,
                ..answer
            },
        }
    }

    pub(super) fn respond(
        self: &Arc<Self>,
        request: &http::Request<Incoming>,
        peer: &Peer,
        connection: &Connection,
        state: &ConnectionState,
        stop: &CancellationToken,
    ) -> Response<ResponseBody> {
        let started = Instant::now();
        let catalog = self.boot.synced();
        let (answer, in_flight) = match InFlight::acquire(self) {
            Some(in_flight) => (
                Self::reserve(connection, self.answer(catalog.as_deref(), request, peer)),
                Some(in_flight),
            ),
            None => {
                let reason =
                    "shaper is answering too many requests; try again in a moment".to_owned();
                (
                    Answer::failure(Route::of(request.uri().path()), Outcome::Overloaded, reason),
                    None,
                )
            }
        };
        let id = self.ids.next();
        let took = started.elapsed();
        self.metrics.count(&answer, took);
        self.logger
            .log(&answer, &peer.ip, id.as_str(), SystemTime::now(), took);
        let mut response = response(answer, &id, in_flight);
        // No route reads a body, and `TargetEncoder` needs the connection closed after one.
        let has_body = !request.body().is_end_stream();
        if has_body {
            state.has_unread_input.store(true, Ordering::Relaxed);
        }
        if has_body || stop.is_cancelled() {
            response
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        state.response_started();
        response
    }

    fn answer<'c>(
        &self,
        catalog: Option<&'c Arc<Catalog>>,
        request: &http::Request<Incoming>,
        peer: &Peer,
    ) -> Answer<'c> {
        let uri = request.uri();
        let route = Route::of(uri.path());
        let header_bytes: usize = request
            .headers()
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        if header_bytes > self.limits.header_bytes {
            let reason = format!(
                "the headers are longer than {} bytes; send fewer or shorter headers",
                self.limits.header_bytes
            );
            return Answer::failure(route, Outcome::HeadersTooLarge, reason);
        }
        let authority = uri.authority().map(http::uri::Authority::as_str);
        let header = match host_header(request) {
            Ok(header) => header,
            Err(reason) => return Answer::failure(route, Outcome::BadRequest, reason),
        };
        let request = Request {
            method: request.method(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            host: authority.or(header),
            scheme: peer.scheme,
            local: peer.local,
        };
        // A panic in one request must not end the other connections of the thread.
        catch_unwind(AssertUnwindSafe(|| self.boot.answer(catalog, &request))).unwrap_or_else(|_| {
            let reason = "internal error; please report it with the lines around this request id in the log".to_owned();
            Answer::failure(route, Outcome::Broken, reason)
        })
    }
}

/// Returns the Host header. RFC 9112, section 3.2: two of them, or none in HTTP/1.1, are an error.
fn host_header(request: &http::Request<Incoming>) -> Result<Option<&str>, String> {
    let mut headers = request.headers().get_all(header::HOST).iter();
    let first = headers.next();
    match headers.count() {
        0 => {}
        others => {
            let count = others + 1;
            return Err(format!("the request has {count} Host headers; send one"));
        }
    }
    match first {
        None if request.version() == http::Version::HTTP_11 => {
            Err("the request has no Host header, which HTTP/1.1 requires; send one".to_owned())
        }
        None => Ok(None),
        // A value that is not ASCII is rejected later as not a host.
        Some(host) => Ok(Some(host.to_str().unwrap_or("not ASCII"))),
    }
}

/// Builds the response. Hyper sets Content-Length from the body's size hint.
fn response(
    answer: Answer<'_>,
    id: &RequestId,
    in_flight: Option<InFlight>,
) -> Response<ResponseBody> {
    let status = answer.status();
    let bytes = if status.is_success() {
        answer.body
    } else {
        error_body(&answer.body, status, id)
    };
    let mut response = Response::new(ResponseBody {
        bytes,
        _in_flight: in_flight,
    });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    *headers = self::headers(answer.content_type, id);
    match answer.outcome {
        Outcome::MethodNotAllowed => {
            drop(headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD")));
        }
        Outcome::NotReady | Outcome::NotAccepted | Outcome::DuplicateId | Outcome::Overloaded => {
            drop(headers.insert(header::RETRY_AFTER, shed::retry_after().into()));
        }
        _ => {}
    }
    response
}

/// Returns the headers that all responses have. Cloned from a map per media type, in which only the
/// id changes, because building one is slower.
fn headers(content_type: ContentType, id: &RequestId) -> HeaderMap {
    static TEXT: LazyLock<HeaderMap> = LazyLock::new(|| build(ContentType::Text));
    static JSON: LazyLock<HeaderMap> = LazyLock::new(|| build(ContentType::Json));
    fn build(content_type: ContentType) -> HeaderMap {
        let content_type = HeaderValue::from_static(content_type.name());
        let no_store = HeaderValue::from_static("no-store");
        let id = HeaderValue::from_static("none yet");
        HeaderMap::from_iter([
            (header::CONTENT_TYPE, content_type),
            (header::CACHE_CONTROL, no_store),
            (REQUEST_ID, id),
        ])
    }
    let mut headers = match content_type {
        ContentType::Text => TEXT.clone(),
        ContentType::Json => JSON.clone(),
    };
    // Unlike `insert`, this does not reserve room.
    if let Some(place) = headers.get_mut(&REQUEST_ID) {
        *place = id.to_header();
    }
    headers
}

/// Builds the text of an error response.
fn error_body(reason: &Bytes, status: http::StatusCode, id: &RequestId) -> Bytes {
    PlainText::new(status, String::from_utf8_lossy(reason))
        .with_request_id(id.clone())
        .body()
        .into()
}

// === impl InFlight ===

impl InFlight {
    fn acquire(context: &Arc<ServerContext>) -> Option<Self> {
        let others = context.metrics.in_flight.inc();
        let acquired = Self(context.clone());
        let has_room =
            usize::try_from(others).is_ok_and(|others| others < context.limits.in_flight);
        has_room.then_some(acquired)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

// === impl CountedBytes ===

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

// === impl ResponseBody ===

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use boot::{Catalog, ExtrinsicLabels, SharedCatalog};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Metrics;
    use crate::server::{Limits, Server};
    use crate::service::BootService;

    #[test]
    fn requests_in_flight_are_limited() {
        let boot = Arc::new(BootService::new(
            Arc::new(SharedCatalog::new(Catalog::new())),
            ExtrinsicLabels::default(),
            None,
        ));
        let metrics = Metrics::register(&mut Registry::default());
        let limits = Limits {
            in_flight: 96,
            ..Limits::default()
        };
        let server = Server::bind(
            ([127, 0, 0, 1], 0).into(),
            boot,
            metrics,
            Arc::new(()),
            limits,
        )
        .unwrap();
        let mut acquired: Vec<_> = (0..200)
            .filter_map(|_| InFlight::acquire(&server.context))
            .collect();
        assert_eq!(acquired.len(), 96);
        assert!(InFlight::acquire(&server.context).is_none());
        acquired.clear();
        assert!(InFlight::acquire(&server.context).is_some());
        assert_eq!(server.context.metrics.in_flight.get(), 0);
    }
}
