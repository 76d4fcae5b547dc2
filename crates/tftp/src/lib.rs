//! A read-only TFTP server: most firmware speaks TFTP until iPXE runs.
//!
//! It implements RFC 1350 in octet mode with the options blksize, tsize and timeout (RFC 2347 to
//! 2349) and windowsize (RFC 7440).
//!
//! - [`Packet`] encodes and decodes datagrams. It does no I/O.
//! - [`Table`] maps file names to open files. A name from a client is never joined to a path.
//! - [`Transfers`] is the state machine of all transfers, driven by datagrams and the clock. It
//!   does no I/O.
//! - [`Limits`] bounds what peers can use. A peer that has not proved its source address gets the
//!   first answer and at most three repeats of it.
//! - [`Server`] owns sockets, threads and the clock. It moves datagrams in batches and makes no
//!   protocol decisions.
//!
//! ```text
//! datagrams --Server--> Arrival --Transfers--> Outbox --Server--> datagrams
//! ```
//!
//! # Examples
//!
//! A client reads `boot.ipxe` without a socket:
//!
//! ```
//! use std::net::Ipv4Addr;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use arc_swap::ArcSwap;
//! use tftp::{Arrival, Library, Limits, Metrics, Outbox, Packet, Route, Table, Transfers};
//!
//! let library = Library {
//!     table: Arc::new(ArcSwap::from_pointee(Table::default())),
//!     bootstrap: Arc::new(|server| format!("#!ipxe\nchain http://{server}/boot.ipxe\n")),
//! };
//! let mut transfers = Transfers::new(Limits::default(), library, Metrics::default(), 0);
//! let mut outbox = Outbox::default();
//! let route = Route {
//!     socket: 0,
//!     peer: (Ipv4Addr::new(192, 0, 2, 7), 2000).into(),
//!     local: Ipv4Addr::new(192, 0, 2, 1).into(),
//! };
//!
//! // A read request without options is answered by the first block.
//! let datagram = b"\0\x01boot.ipxe\0octet\0";
//! let arrival = Arrival { route, datagram, is_truncated: false };
//! transfers.on_datagram(&arrival, Duration::ZERO, &mut outbox);
//! let (_, packet) = outbox.packets().next().expect("an answer");
//! assert!(matches!(Packet::parse(packet), Ok(Packet::Data { block: 1, .. })));
//! outbox.clear();
//!
//! // The script is shorter than a block, so its acknowledgement completes the transfer.
//! let arrival = Arrival { route, datagram: &[0, 4, 0, 1], is_truncated: false };
//! transfers.on_datagram(&arrival, Duration::from_millis(1), &mut outbox);
//! assert_eq!(transfers.active(), 0);
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
pub use table::{SkippedPath, Table, TableScan};
pub use transfers::{Arrival, Bootstrap, Library, Transfers};
