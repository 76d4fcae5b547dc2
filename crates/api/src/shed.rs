//! What a client gets when there are too many.

use std::time::Duration;

use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a client that is sent away may take to ask, and then to take its answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Seconds until the client should come again. Spread, so that those who were sent away together do not return together.
pub(crate) fn retry_after() -> u32 {
    rand::rng().random_range(2..=10)
}

/// Reads the head of one request and sends the client away. iPXE then waits and asks again by itself (`ipxe:src/net/tcp/httpcore.c`).
///
/// A request that does not come in time is answered all the same: where there are too many clients, the system may have dropped it, and it
/// comes again seconds later. Without an answer, that would be met by a reset.
pub(crate) async fn send_away(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    const REASON: &str = "shaper has too many connections; try again in a moment\n";
    // Whether it asked, and whether the answer arrived, is the client's concern: it will come again.
    let _ = timeout(LIMIT, read_head(&mut stream)).await;
    let exchange = async {
        let answer = format!(
            "HTTP/1.1 503 Service Unavailable\r\nretry-after: {}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n{REASON}",
            retry_after(),
            REASON.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = timeout(LIMIT, exchange).await;
}

/// An answer before the request was read would be lost in a reset.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    // Beside the future, which every connection has room for.
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
