//! The definitions of the resources, as files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::assignment::Assignment;
use crate::profile::Profile;

/// The definitions of both resources, Profile first.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [Profile::crd(), Assignment::crd()]
}

/// The files of `config/crd`: each one's name, and its text.
pub fn manifests() -> [(String, String); 2] {
    definitions().map(|definition| {
        let yaml = serde_saphyr::to_string(&definition).expect("a definition is made of maps with text keys");
        let head = "# Written by `cargo xtask generate` from crates/crd; kubectl apply --server-side -f takes it.\n";
        (format!("{}.yaml", definition.spec.names.plural), format!("{head}{yaml}"))
    })
}
