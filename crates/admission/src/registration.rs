//! Builds the webhook configurations that make an API server send reviews.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

/// How long an API server waits for an answer, in seconds.
const TIMEOUT_SECONDS: i32 = 3;
/// Objects are written while the webhook is down: schema and CEL rules still apply, and the
/// controllers reject objects that can't be served.
const FAILURE_POLICY: &str = "Ignore";

/// Settings of the webhook configurations.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The namespace in which shaper runs.
    pub namespace: String,
    /// The Service of the webhook.
    pub service: String,
    /// A URL to use instead of the Service, such as `https://webhook.lab:8443`.
    pub url: Option<String>,
    /// The CA of the webhook's certificate, in PEM. If unset, cert-manager injects the CA of the
    /// Certificate that has the Service's name.
    pub authority: Option<String>,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            namespace: "shaper-system".to_owned(),
            service: "shaper-webhook".to_owned(),
            url: None,
            authority: None,
        }
    }
}

// === impl Registration ===

impl Registration {
    /// The files of `config/webhook`: names and contents.
    pub fn manifests(&self) -> [(&'static str, String); 2] {
        let head = "# Written by `cargo xtask generate` from crates/admission. `shaper webhook-configuration` prints it for another namespace,\n\
             # address or authority. Needs a webhook that answers; while there is none, objects are written unchecked by it.\n";
        [
            ("mutating.yaml", format!("{head}{}", yaml(&self.mutating()))),
            (
                "validating.yaml",
                format!("{head}{}", yaml(&self.validating())),
            ),
        ]
    }

    /// The configuration of the mutating webhook.
    pub fn mutating(&self) -> MutatingWebhookConfiguration {
        let webhook = MutatingWebhook {
            name: "mutate.shaper.amahdha.com".to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: self.client("/mutate"),
            rules: Some(vec![rule(&["CREATE", "UPDATE"])]),
            match_policy: Some("Equivalent".to_owned()),
            match_conditions: Some(self.conditions()),
            failure_policy: Some(FAILURE_POLICY.to_owned()),
            // The metadata follows from the spec, which later webhooks may change.
            reinvocation_policy: Some("IfNeeded".to_owned()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            ..MutatingWebhook::default()
        };
        MutatingWebhookConfiguration {
            metadata: self.metadata(),
            webhooks: Some(vec![webhook]),
        }
    }

    /// The configuration of the validating webhook.
    pub fn validating(&self) -> ValidatingWebhookConfiguration {
        let webhook = ValidatingWebhook {
            name: "validate.shaper.amahdha.com".to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: self.client("/validate"),
            rules: Some(vec![rule(&["CREATE", "UPDATE", "DELETE"])]),
            match_policy: Some("Equivalent".to_owned()),
            match_conditions: Some(self.conditions()),
            failure_policy: Some(FAILURE_POLICY.to_owned()),
            side_effects: "None".to_owned(),
            timeout_seconds: Some(TIMEOUT_SECONDS),
            ..ValidatingWebhook::default()
        };
        ValidatingWebhookConfiguration {
            metadata: self.metadata(),
            webhooks: Some(vec![webhook]),
        }
    }

    fn metadata(&self) -> ObjectMeta {
        let label = [("app.kubernetes.io/part-of".to_owned(), "shaper".to_owned())];
        let inject = (
            "cert-manager.io/inject-ca-from".to_owned(),
            format!("{}/{}", self.namespace, self.service),
        );
        ObjectMeta {
            name: Some("shaper".to_owned()),
            labels: Some(label.into()),
            annotations: self.authority.is_none().then(|| [inject].into()),
            ..ObjectMeta::default()
        }
    }

    fn client(&self, path: &str) -> WebhookClientConfig {
        let service = ServiceReference {
            namespace: self.namespace.clone(),
            name: self.service.clone(),
            path: Some(path.to_owned()),
            port: Some(443),
        };
        WebhookClientConfig {
            ca_bundle: self
                .authority
                .clone()
                .map(|pem| ByteString(pem.into_bytes())),
            service: self.url.is_none().then_some(service),
            url: self
                .url
                .as_ref()
                .map(|url| format!("{}{path}", url.trim_end_matches('/'))),
        }
    }

    /// Skips status updates by the controller's service account, and nothing else. The rules name
    /// no subresource, so status updates are not reviewed anyway; this keeps it so if a rule
    /// becomes wider.
    fn conditions(&self) -> Vec<MatchCondition> {
        let controller = format!("system:serviceaccount:{}:shaper-controller", self.namespace);
        let is_status = "has(request.subResource) && request.subResource == 'status'";
        let is_controller = format!(
            "has(request.userInfo.username) && request.userInfo.username == '{controller}'"
        );
        let expression = format!("!({is_status} && {is_controller})");
        vec![MatchCondition {
            name: "not-a-status-of-shaper-itself".to_owned(),
            expression,
        }]
    }
}

fn rule(operations: &[&str]) -> RuleWithOperations {
    let texts = |all: &[&str]| Some(all.iter().map(|text| (*text).to_owned()).collect());
    RuleWithOperations {
        api_groups: texts(&[crd::GROUP]),
        api_versions: texts(&[crd::VERSION]),
        operations: texts(operations),
        resources: texts(&["profiles", "assignments", "machines"]),
        // Machines are cluster-scoped.
        scope: Some("*".to_owned()),
    }
}

fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).expect("a configuration is made of maps with text keys")
}
