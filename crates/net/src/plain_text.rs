//! Plain-text answers: a status and one paragraph that says what is wrong and what to do.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use crate::RequestId;

/// An answer of one paragraph, for a client whose request is not answered with what it asked for.
///
/// The same answer can be given to hyper ([`into_response`](Self::into_response)) or written to a
/// stream on which hyper does not run ([`to_http1`](Self::to_http1)).
#[derive(Clone, Debug)]
pub struct PlainText {
    status: StatusCode,
    paragraph: String,
    request_id: Option<RequestId>,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
}

/// The media type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// An answer that no cache may keep.
pub fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

// === impl PlainText ===

impl PlainText {
    /// An answer of this paragraph, which has no line break at its end.
    pub fn new(status: StatusCode, paragraph: impl Into<String>) -> Self {
        Self {
            status,
            paragraph: paragraph.into(),
            request_id: None,
            retry_after: None,
            allow: None,
        }
    }

    /// Adds the id by which the log names the request.
    pub fn with_request_id(self, id: RequestId) -> Self {
        Self {
            request_id: Some(id),
            ..self
        }
    }

    /// Asks the client to come back after this many seconds.
    pub fn retry_after(self, seconds: u32) -> Self {
        Self {
            retry_after: Some(seconds),
            ..self
        }
    }

    /// Names the methods that are allowed, for a 405.
    pub fn allow(self, methods: &'static str) -> Self {
        Self {
            allow: Some(methods),
            ..self
        }
    }

    /// The body: the paragraph, and if the request has an id, the status before it and the id
    /// below it.
    pub fn body(&self) -> String {
        match &self.request_id {
            Some(id) => format!("{}: {}\nrequest id: {id}\n", self.status, self.paragraph),
            None => format!("{}\n", self.paragraph),
        }
    }

    /// The answer as a response for hyper.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = response(self.status, TEXT, self.body());
        let headers = response.headers_mut();
        if let Some(id) = &self.request_id {
            headers.insert("x-request-id", id.to_header());
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        response
    }

    /// The answer as bytes of HTTP/1.1, after which the connection is to be closed.
    pub fn to_http1(&self) -> Vec<u8> {
        let body = self.body();
        let mut answer = format!("HTTP/1.1 {}\r\n", self.status);
        if let Some(seconds) = self.retry_after {
            answer += &format!("retry-after: {seconds}\r\n");
        }
        if let Some(methods) = self.allow {
            answer += &format!("allow: {methods}\r\n");
        }
        answer += &format!(
            "content-type: {TEXT}\r\ncontent-length: {}\r\ncache-control: no-store\r\n",
            body.len()
        );
        if let Some(id) = &self.request_id {
            answer += &format!("x-request-id: {id}\r\n");
        }
        answer += "connection: close\r\n\r\n";
        answer += &body;
        answer.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestIds;

    #[test]
    fn an_answer_without_hyper_is_whole() {
        let answer = PlainText::new(StatusCode::SERVICE_UNAVAILABLE, "too many").retry_after(7);
        assert_eq!(
            String::from_utf8(answer.to_http1()).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n\
             content-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\ntoo many\n"
        );
    }

    #[test]
    fn the_body_names_status_and_request_id() {
        let id = RequestIds::new().next();
        let answer = PlainText::new(StatusCode::BAD_REQUEST, "bad").with_request_id(id.clone());
        assert_eq!(
            answer.body(),
            format!("400 Bad Request: bad\nrequest id: {id}\n")
        );
        let response = answer.into_response();
        assert_eq!(response.headers()["x-request-id"], id.as_str());
    }
}
