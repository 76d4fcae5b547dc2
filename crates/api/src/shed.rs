//! The 503 for connections beyond the limit.

use std::time::Duration;

use http::StatusCode;
use net::{Connection, PlainText};
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client may take to send its request, and then to read the answer.
const LIMIT: Duration = Duration::from_secs(2);

/// The value of `Retry-After` in seconds. It is random, so that clients that were shed together do
/// not come back together.
pub(crate) fn retry_after() -> u32 {
    rand::rng().random_range(2..=10)
}

/// Reads the head of one request and answers it with a 503, after which iPXE retries by itself
/// (`ipxe:src/net/tcp/httpcore.c`).
///
/// Answers even if the request does not arrive in time, or another client must be answered in this
/// one's place: on an overloaded network the kernel may have dropped the request, and the client
/// sends it again seconds later. Without an answer it would then get a reset.
pub(crate) async fn shed(mut stream: impl AsyncRead + AsyncWrite + Unpin, connection: &Connection) {
    // A failed read is the client's problem; it retries.
    tokio::select! {
        biased;
        _ = timeout(LIMIT, read_head(&mut stream)) => {}
        () = connection.must_hurry() => {}
    }
    answer(stream).await;
}

/// Writes the 503 and closes the stream, whether or not a request has arrived.
pub(crate) async fn answer(mut stream: impl AsyncWrite + Unpin) {
    const REASON: &str = "shaper has too many connections; try again in a moment";
    let answer = PlainText::new(StatusCode::SERVICE_UNAVAILABLE, REASON).retry_after(retry_after());
    let exchange = async {
        stream.write_all(&answer.to_http1()).await?;
        stream.shutdown().await
    };
    // A failed write is the client's problem; it retries.
    let _ = timeout(LIMIT, exchange).await;
}

/// Reads a head. Without that, closing the connection would reset it, and the client would lose the
/// answer.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    // On the heap, because every connection's future includes this one.
    let mut head = vec![0; 8192];
    let mut len = 0;
    while len < head.len() && !head[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut head[len..]).await? {
            0 => break,
            more => len += more,
        }
    }
    Ok(())
}
