//! Storage for Leases.

use std::future::Future;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

/// Stores Leases and rejects writes that are based on an old version.
pub trait Leases: Send + Sync {
    /// Reads a Lease; `None` if it does not exist.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;
    /// Creates a Lease. Returns [`StoreError::Conflict`] if it already exists.
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Replaces a Lease. Returns [`StoreError::Conflict`] if its `resourceVersion` is not the
    /// current one.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process wrote the Lease first.
    #[error("another process wrote the Lease first")]
    Conflict,
    /// The API server can't be reached or returned an error.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

/// The Leases in one namespace of a cluster.
pub struct KubeLeases(Api<Lease>);

impl KubeLeases {
    /// Creates a store for the Leases in `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }
}

impl Leases for KubeLeases {
    async fn get(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        Ok(self.0.get_opt(name).await?)
    }

    async fn create(&self, lease: &Lease) -> Result<(), StoreError> {
        self.0
            .create(&PostParams::default(), lease)
            .await
            .map(drop)
            .map_err(conflict)
    }

    async fn replace(&self, lease: &Lease) -> Result<(), StoreError> {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        self.0
            .replace(name, &PostParams::default(), lease)
            .await
            .map(drop)
            .map_err(conflict)
    }
}

fn conflict(error: kube::Error) -> StoreError {
    match error {
        kube::Error::Api(status) if status.code == 409 => StoreError::Conflict,
        error => StoreError::Kube(error),
    }
}
