//! Replicates the catalog from controllers to API replicas and webhooks over mutual TLS.
//!
//! A controller applies changes to a [`Publisher`], and [`serve`] streams them to its followers. A
//! [`Replica`], in an API server or a webhook, follows one or several controllers and keeps a
//! catalog of its own. The protocol is `proto/shaper/feed/v1/feed.proto`.
//!
//! ```text
//! Change --Publisher::apply--> Catalog + Journal --batch after a position--> parts --commit--> Catalog of a replica
//! ```
//!
//! A follower's *position* is the epoch of a controller process and a revision in it. A batch holds
//! what changed after that position, read from the catalog as it is now. No state is kept per
//! follower, so a slow follower costs nothing, and an object that changed a hundred times is sent
//! once. If the journal does not reach back to the position, or the epoch is another process's, the
//! follower gets a snapshot and applies the difference. A batch is applied as a whole or not at
//! all.

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
