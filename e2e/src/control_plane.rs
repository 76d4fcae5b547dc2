//! A Kubernetes API server and the certificates of the feed, for controllers that follow it.

use crate::cluster::{Cluster, Kubectl};
use crate::roles::{FeedCertificates, Role};
use anyhow::Result;

/// A Profile `debian` with the label `os: debian` and one config, which its script links.
pub const DEBIAN: &str = "
apiVersion: shaper.amahdha.com/v1alpha1
kind: Profile
metadata: {name: debian, labels: {os: debian}}
spec: {ipxe: \"#!ipxe\\nchain {{ config }}\\n\", additionalConfig: {config: x}}
";

/// An API server of its own, without a controller at first.
#[derive(Debug)]
pub struct ControlPlane {
    /// The API server.
    pub cluster: Cluster,
    /// kubectl as an administrator, in a namespace that no other test uses.
    pub kubectl: Kubectl,
    /// The certificates of both ends of the feed.
    pub certificates: FeedCertificates,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts the API server.
    pub fn start() -> Result<Self> {
        let cluster = Cluster::start()?;
        let kubectl = cluster.admin().in_namespace(&cluster.namespace()?);
        Ok(Self {
            cluster,
            kubectl,
            certificates: FeedCertificates::new()?,
        })
    }

    /// Starts a controller and waits until it is ready.
    pub fn start_controller(&self) -> Result<Role> {
        let certificate = self.certificates.controller.path();
        Role::controller(&self.cluster, certificate)?.start_ready()
    }
}
