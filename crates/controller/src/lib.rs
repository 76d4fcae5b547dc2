//! From Kubernetes to the catalog, and back to the status of what is there.

pub mod lease;
