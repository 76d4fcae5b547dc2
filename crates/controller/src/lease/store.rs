//! Where Leases are kept.

use std::future::Future;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

/// Keeps Leases, and refuses a write that was made up from an old one.
pub trait Leases: Send + Sync {
    /// One Lease, if it is there.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;
    /// Makes one. [`StoreError::Conflict`] when there is one already.
    fn create(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Changes one. [`StoreError::Conflict`] when its `resourceVersion` is not the current one.
    fn replace(&self, lease: &Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Why a Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote it first.
    #[error("somebody else wrote the Lease first")]
    Conflict,
    /// The API server can't be reached, or refuses.
    #[error(transparent)]
    Kube(#[from] kube::Error),
}

/// The Leases of one namespace of a cluster.
pub struct KubeLeases(Api<Lease>);

impl KubeLeases {
    /// Leases in a namespace.
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
