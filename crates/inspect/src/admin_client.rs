//! A client for the admin port of a running replica.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The address of an admin port.
#[derive(Clone, Debug)]
pub struct AdminUrl(Address);

#[derive(Clone, Debug)]
enum Address {
    /// `HOST:PORT`.
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// How long to wait for a response. A replica answers from memory, so a longer wait is in vain.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum size of a response. A catalog of a million Assignments has about 500 MB.
const MAX_BYTES: usize = 2 * 1024 * 1024 * 1024;

impl std::str::FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err("write unix:/PATH, as in unix:/run/shaper/admin.sock".to_owned());
            }
            return Ok(Self(Address::Unix(path.into())));
        }
        let spelled = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let uri: Uri = spelled.parse().map_err(|error| {
            format!("{error}; write http://HOST:PORT, as in http://127.0.0.1:9090")
        })?;
        if uri.scheme_str() != Some("http") {
            return Err("the admin port speaks plain HTTP; write http://HOST:PORT".to_owned());
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err("write only the address, as in http://127.0.0.1:9090".to_owned());
        }
        let authority = uri
            .authority()
            .filter(|authority| !authority.host().is_empty())
            .ok_or("the host is missing; write http://HOST:PORT")?;
        let port = authority.port_u16().unwrap_or(9090);
        Ok(Self(Address::Tcp(format!("{}:{port}", authority.host()))))
    }
}

impl std::fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Address::Tcp(authority) => write!(f, "http://{authority}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

// === impl AdminUrl ===

impl AdminUrl {
    /// Returns the body of a response. Any status other than 200 is an error with the sentence in
    /// the body.
    pub fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("can't start the runtime")?;
        let asked =
            runtime.block_on(async { tokio::time::timeout(TIMEOUT, self.fetch(path)).await });
        let (status, body) = match asked {
            Ok(answer) => answer.with_context(|| {
                format!("can't reach {self}; is it the admin port of a running shaper?")
            })?,
            Err(_) => bail!(
                "{self} did not respond within {} seconds",
                TIMEOUT.as_secs()
            ),
        };
        if status != StatusCode::OK {
            let message = String::from_utf8_lossy(&body[..body.len().min(1000)])
                .trim()
                .to_owned();
            bail!("{self} responded {status}: {message}");
        }
        Ok(body)
    }

    async fn fetch(&self, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        match &self.0 {
            Address::Tcp(authority) => {
                let stream = TcpStream::connect(authority).await?;
                exchange(stream, authority, path).await
            }
            Address::Unix(socket) => {
                exchange(UnixStream::connect(socket).await?, "localhost", path).await
            }
        }
    }
}

async fn exchange<S>(stream: S, host: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, host)
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    Ok((head.status, body.to_bytes()))
}
