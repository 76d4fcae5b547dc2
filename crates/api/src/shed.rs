//! The answer to a client when there are too many connections.

use std::time::Duration;

use http::StatusCode;
use net::PlainText;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client may take to send its request, and then to take its answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Seconds until the client should come back. Random, so that clients that were shed together do
/// not come back together.
pub(crate) fn retry_after() -> u32 {
    rand::rng().random_range(2..=10)
}

/// Reads the head of one request and answers it with a 503. iPXE then waits and asks again by
/// itself (`ipxe:src/net/tcp/httpcore.c`).
///
/// A request that does not arrive in time is answered all the same: where there are too many
/// clients, the kernel may have dropped it, and it is sent again seconds later. Without an answer,
/// that would be met by a reset.
pub(crate) async fn shed(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    const REASON: &str = "shaper has too many connections; try again in a moment";
    // A failure here is the client's: it will come back.
    let _ = timeout(LIMIT, read_head(&mut stream)).await;
    let answer = PlainText::new(StatusCode::SERVICE_UNAVAILABLE, REASON).retry_after(retry_after());
    let exchange = async {
        stream.write_all(&answer.to_http1()).await?;
        stream.shutdown().await
    };
    let _ = timeout(LIMIT, exchange).await;
}

/// Reads a head: an answer that is sent before its request was read would be lost in a reset.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    // On the heap, since every connection's future has room for this one.
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
