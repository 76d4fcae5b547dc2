//! Stub.
/// Stub.
pub struct Diff;
