//! A read-only TFTP server: what most firmware speaks until iPXE runs.
//!
//! RFC 1350 in mode octet, with the options blksize, tsize, timeout (RFC 2347 to 2349) and windowsize (RFC 7440).
//!
//! - [`Packet`]: bytes and values; pure.
//! - [`Table`]: the names that can be asked for. No name of a client is ever joined to a path.
//! - [`Transfers`]: all transfers, as one machine driven by datagrams and by the clock; no socket. Each of them is a `Transfer`.
//! - [`Limits`]: what peers may take. Who has not proved its address gets the first answer and three repeats.
//! - [`Server`]: sockets, threads and the clock. It moves datagrams in batches and decides nothing.
//!
//! ```text
//! datagrams --Server--> Arrival --Transfers--> Outbox --Server--> datagrams
//! ```

mod content;
mod limits;
mod metrics;
mod outbox;
pub mod packet;
mod server;
mod table;
mod transfer;
mod transfers;

pub use content::{Content, OpenFile};
pub use limits::Limits;
pub use metrics::{Metrics, Outcome, Refusal};
pub use outbox::{Outbox, Route, Transmission};
pub use packet::{Options, Packet};
pub use server::{BindError, Config, Server};
pub use table::{SkippedPath, Table};
pub use transfers::{Arrival, Bootstrap, Library, Transfers};
