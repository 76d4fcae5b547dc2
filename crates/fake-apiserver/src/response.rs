//! Response bodies and error responses.

use std::io;

use bytes::Bytes;
use http::{Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An error response.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// An error that makes hyper close the connection.
pub(crate) fn connection_closed() -> io::Error {
    io::Error::other("the connection is closed")
}

pub(crate) fn json_response(code: u16, json: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(json.to_string()))
        .map_err(|never| match never {})
        .boxed_unsync();
    let response = Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    response.expect("status and header are valid")
}

// === impl ApiError ===

impl ApiError {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    /// The error as a `Status` object.
    pub(crate) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        })
    }

    pub(crate) fn to_response(&self, retry_after: Option<u32>) -> Response<Body> {
        let mut response = json_response(self.code, &self.status());
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
