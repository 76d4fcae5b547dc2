//! What hyper alone costs: the same runtime and the same answer, from a constant.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Answers everything with the same text
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file that holds the text
    body: PathBuf,
}

/// Serves until it is killed. Says first where.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let body = Bytes::from(std::fs::read(&args.body).context("can't read the answer")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("can't start a runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("can't listen on loopback")?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await.context("can't accept")?;
            let _ = stream.set_nodelay(true);
            let body = body.clone();
            tokio::spawn(async move {
                let service = service_fn(|_| std::future::ready(Ok::<_, Infallible>(answer(body.clone()))));
                // A client that hangs up is how all of them end.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

/// The same headers as shaper's, in the same lengths.
fn answer(body: Bytes) -> Response<Full<Bytes>> {
    let length = body.len();
    let mut response = Response::new(Full::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-request-id", HeaderValue::from_static("01234567-12345"));
    response
}
