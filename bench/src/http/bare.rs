//! Measures hyper alone: the same number of threads, each with a runtime and a dedicated listening
//! socket, the same limit on the time of a head by hyper's own timer, and the same response, from a
//! constant.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpSocket;

/// Answers everything with the same text
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file that holds the text
    body: PathBuf,
}

/// The limit that shaper has.
const HEAD: Duration = Duration::from_secs(15);

/// Prints its address and serves until it is killed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let body = Bytes::from(std::fs::read(&args.body).context("can't read the answer")?);
    let all_listen = Arc::new(Barrier::new(
        std::thread::available_parallelism()?.get() + 1,
    ));
    let first = bind(([127, 0, 0, 1], 0).into())?;
    let address = first.local_addr()?;
    let more = (1..std::thread::available_parallelism()?.get()).map(|_| bind(address));
    let threads: Vec<_> = std::iter::once(Ok(first))
        .chain(more)
        .map(|socket| {
            let (socket, body, all_listen) = (socket?, body.clone(), all_listen.clone());
            anyhow::Ok(std::thread::spawn(move || {
                serve(socket, &body, &all_listen)
            }))
        })
        .collect::<Result<_, _>>()?;
    all_listen.wait();
    println!("{address}");
    std::io::stdout().flush()?;
    threads
        .into_iter()
        .try_for_each(|thread| thread.join().expect("it serves until it is killed"))
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address).context("can't listen on loopback")?;
    Ok(socket)
}

fn serve(socket: TcpSocket, body: &Bytes, all_listen: &Barrier) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start a runtime")?;
    runtime.block_on(async {
        let listener = socket.listen(4096)?;
        all_listen.wait();
        loop {
            let (stream, _) = listener.accept().await.context("can't accept")?;
            let _ = stream.set_nodelay(true);
            let body = body.clone();
            tokio::spawn(async move {
                let service =
                    service_fn(|_| std::future::ready(Ok::<_, Infallible>(answer(body.clone()))));
                // Every connection ends with a client that hangs up.
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEAD);
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

/// Returns shaper's headers, with equal lengths.
fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let length = body.len();
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", HeaderValue::from_static("01234567-12345"));
    response
}
