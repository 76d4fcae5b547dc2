//! TCP listeners for every server: accept loop, connection limits, TLS handshakes and drain.
//!
//! A role binds a [`Listener`] before it starts anything else, so that an address in use is an
//! error at startup. [`serve`] then accepts on it until it is told to stop. It asks
//! [`Connections`], the table of all open connections of one server, whether one more fits, and
//! hands the stream to the server's [`Handler`] with a [`Connection`]: its entry in that table.
//! What is spoken on the stream is the handler's business.
//!
//! ```text
//! Listener --serve--> Connections::admit --> Handler::serve(CountedInput, connection)
//!                                                 |
//!                              Connection::handshake (TLS), reached(Stage), busy()
//! ```
//!
//! Answers that are not what a client asked for are [`PlainText`]: a status, one paragraph and the
//! id of the request.
//!
//! | server | when it is full | after `stop` |
//! |---|---|---|
//! | machines (`api`) | [`WhenFull::Shed`]: answer 503, then close the new connection | drain 30 s |
//! | webhook | [`WhenFull::Refuse`]: close the new connection | drain 25 s |
//! | feed | [`WhenFull::Refuse`] | tonic drains |
//! | admin port | [`WhenFull::Refuse`] | close all |
//!
//! Before that, a newcomer to a full server displaces a connection, by the rules of
//! [`places`]: one that has proved nothing, of the address and prefix that hold most.
//!
//! A server that answers on several threads binds one listener for each
//! ([`Listener::bind_many`]), runs one [`serve`] on each, and gives all of them the same
//! [`Connections`]. Its lock is taken when a connection opens and when it closes, and never for a
//! request.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use net::{Connection, Connections, CountedInput, Limits, Listener, Stage, WhenFull};
//! use prometheus_client::metrics::counter::Counter;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::TcpStream;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let listener = Listener::bind(([127, 0, 0, 1], 0).into())?;
//! let address = listener.local_addr();
//! let limits = Limits {
//!     connections: 100,
//!     when_full: WhenFull::Refuse,
//!     proof: Stage::Accepted,
//!     grace: Duration::from_secs(1),
//!     input_bytes: 1024 * 1024,
//!     answer_bytes: 1024 * 1024,
//!     drain: Duration::from_secs(5),
//! };
//! let greet = |mut stream: CountedInput<TcpStream>, connection: Connection| async move {
//!     let greeting = format!("hello, {}\n", connection.peer().ip());
//!     let _ = stream.write_all(greeting.as_bytes()).await;
//! };
//! let stop = CancellationToken::new();
//! let connections = Connections::new("greeter", limits, Counter::default());
//! let serving = tokio::spawn(net::serve(listener, connections, greet, stop.clone()));
//!
//! let mut greeting = String::new();
//! TcpStream::connect(address).await?.read_to_string(&mut greeting).await?;
//! assert_eq!(greeting, "hello, 127.0.0.1\n");
//!
//! stop.cancel();
//! serving.await?
//! # }
//! ```

mod accept_errors;
mod connections;
mod counted;
mod counted_input;
mod handshake;
mod line_limit;
mod listener;
mod open_files;
mod permits;
mod plain_text;
mod read_ahead;
mod request_id;
mod serve;
mod turns;
mod write_timeout;

pub use connections::{
    Busy, Connection, Connections, HeldInput, Limits, NoRoom, Reserved, Stage, WhenFull,
};
pub use counted::Counted;
pub use counted_input::CountedInput;
pub use handshake::ServerTls;
pub use line_limit::{LeftOut, LineLimit};
pub use listener::Listener;
pub use open_files::raise_open_files;
pub use permits::{Permit, Permits};
pub use places::Source;
pub use plain_text::{PlainText, TEXT, response};
pub use read_ahead::ReadAhead;
pub use request_id::{RequestId, RequestIds};
pub use serve::{Handler, serve};
pub use turns::{Turn, Turns};
pub use write_timeout::WriteTimeout;
