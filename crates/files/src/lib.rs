//! Reads directories and files that others may write to.
//!
//! - [`walk`] lists a tree within [`Limits`]. It visits each directory once, however many symlinks
//!   lead to it, and its [`Listing`] tells a path that is gone from one that was not seen.
//! - [`open_regular`] and [`create_regular`] open regular files only, so that a FIFO or a device
//!   can't block the caller. [`read_regular`] reads a file that is not longer than its limit.
//! - [`Activity`] records which operation a reading thread is in, so that another thread can report
//!   a read that does not return, as of a network file system whose server is down.

mod activity;
mod regular;
mod walk;

pub use activity::Activity;
pub use regular::{Symlinks, create_regular, open_regular, read_regular};
pub use walk::{Alias, Limits, Listing, Scope, Unread, walk};
