//! Bounds the memory of answers that clients have not read yet.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::{Body, Frame};
use manifests::listing::Listing;
use net::PlainText;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of answers that are held for clients. An explanation has some kilobytes, a config at most
/// a megabyte.
const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;
/// Lists of objects that are sent at once. Each takes about a megabyte, and a core while its client
/// reads.
const MAX_LISTS: usize = 4;
/// Size of the pieces in which a list is sent; a large object makes a larger piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Seconds after which a client that is turned away should ask again.
const RETRY_AFTER: u32 = 5;

/// The memory of answers in flight.
#[derive(Debug)]
pub(super) struct AnswerMemory {
    bytes: Arc<Semaphore>,
    lists: Arc<Semaphore>,
}

/// The permit to send one list of objects.
#[derive(Debug)]
pub(super) struct ListPermit {
    _permit: OwnedSemaphorePermit,
}

/// The body of a list of objects, which is written as the client reads.
pub(super) struct ListBody {
    listing: Listing,
    _permit: ListPermit,
}

/// A text that counts as held until it is sent or dropped.
struct Held {
    text: String,
    _permit: OwnedSemaphorePermit,
}

// === impl AnswerMemory ===

impl Default for AnswerMemory {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(MAX_HELD_BYTES)),
            lists: Arc::new(Semaphore::new(MAX_LISTS)),
        }
    }
}

impl AnswerMemory {
    /// Counts a text until it is sent. The error is the answer while too much is unsent.
    pub(super) fn hold(&self, text: String) -> Result<Bytes, PlainText> {
        let permit = u32::try_from(text.len())
            .ok()
            .and_then(|bytes| self.bytes.clone().try_acquire_many_owned(bytes).ok());
        let Some(permit) = permit else {
            return Err(busy(
                "clients have not read the answers to earlier requests yet",
            ));
        };
        Ok(Bytes::from_owner(Held {
            text,
            _permit: permit,
        }))
    }

    /// Reserves the sending of a list. The error is the answer while too many are sent.
    pub(super) fn list(&self) -> Result<ListPermit, PlainText> {
        match self.lists.clone().try_acquire_owned() {
            Ok(permit) => Ok(ListPermit { _permit: permit }),
            Err(_) => Err(busy(&format!("{MAX_LISTS} clients are reading this list"))),
        }
    }
}

fn busy(reason: &str) -> PlainText {
    let sentence = format!("{reason}; try again in {RETRY_AFTER} seconds");
    PlainText::new(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(RETRY_AFTER)
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

// === impl ListBody ===

impl ListBody {
    pub(super) fn new(listing: Listing, permit: ListPermit) -> Self {
        Self {
            listing,
            _permit: permit,
        }
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut piece = String::new();
        while piece.len() < PIECE_BYTES {
            match self.listing.next() {
                Some(text) => piece += &text,
                None => break,
            }
        }
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece.into()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_until_all_of_its_bytes_are_dropped() {
        let memory = AnswerMemory::default();
        let mut held = memory.hold("x".repeat(MAX_HELD_BYTES - 1)).unwrap();
        let refused = memory.hold("xx".to_owned()).unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "5");
        assert!(memory.hold("x".to_owned()).is_ok());
        // hyper splits off what it has written.
        drop(held.split_to(1000));
        assert!(memory.hold("xx".to_owned()).is_err());
        drop(held);
        assert!(memory.hold("x".repeat(MAX_HELD_BYTES)).is_ok());
    }

    #[test]
    fn more_lists_at_once_are_turned_away() {
        let memory = AnswerMemory::default();
        let mut permits: Vec<_> = (0..MAX_LISTS).map(|_| memory.list().unwrap()).collect();
        let refused = memory.list().unwrap_err().into_response();
        assert_eq!(refused.headers()["retry-after"], "5");
        permits.pop();
        assert!(memory.list().is_ok());
    }
}
