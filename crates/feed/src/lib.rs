//! The catalog over mTLS.
//!
//! A controller has a [`Publisher`]: changes go in, and [`serve`] sends them to whoever follows. An API replica or a webhook follows one or
//! several and keeps a catalog of its own like theirs. What goes over the wire is `proto/shaper/feed/v1/feed.proto`.
//!
//! ```text
//! Change --Publisher::apply--> Catalog + Journal --batch after a position--> parts --commit--> Catalog of a replica
//! ```
//!
//! A follower holds a *position*: the epoch of a controller's process and a revision. It gets what has changed since, read from the catalog as
//! it is now: nothing is kept for any one follower, so a slow one costs nothing and gets what changed a hundred times once. Where the
//! journal does not reach back, or the epoch is another's, it gets a snapshot, and takes from that what differs. A batch is taken whole or
//! not at all.

mod checksummed_file;
mod connection;
mod files;
mod inventory;
mod partition;
pub mod proto;
mod publisher;
mod replica;
mod source;
pub mod wire;

pub use boot::catalog::guard::Limits as GuardLimits;
pub use checksummed_file::CopyError;
pub use files::{FileCopy, FolderCopy};
pub use partition::{InvalidPartitions, Partitions};
pub use publisher::{Publisher, PublisherLimits, PublisherMetrics, serve};
pub use replica::{InvalidSources, Replica, ReplicaMetrics, UnknownPartition};
pub use source::{DEFAULT_PORT, InvalidSource, Source};
pub use wire::Malformed;
