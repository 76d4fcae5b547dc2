//! What makes an API server ask: the two configurations, as files.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
    ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

/// How long an API server waits for an answer.
const TIMEOUT_SECONDS: i32 = 3;
/// What becomes of an object while nobody answers: it is written. Schema and CEL hold all the same, and the controllers do not accept
/// what can't be served.
const FAILURE_POLICY: &str = "Ignore";

/// How the webhook is registered.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The namespace of shaper.
    pub namespace: String,
    /// The Service by which the API server asks.
    pub service: String,
    /// The address instead of a Service, such as `https://webhook.lab:8443`.
    pub url: Option<String>,
    /// The authority of the webhook's certificate, in PEM. If it is not given, cert-manager is asked to write the one that signed the
    /// Certificate of the Service's name.
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
    /// The files of `config/webhook`: each one's name, and its text.
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

    /// What objects get.
    pub fn mutating(&self) -> MutatingWebhookConfiguration {
        let webhook = MutatingWebhook {
            name: "mutate.shaper.amahdha.com".to_owned(),
            admission_review_versions: vec!["v1".to_owned()],
            client_config: self.client("/mutate"),
            rules: Some(vec![rule(&["CREATE", "UPDATE"])]),
            match_policy: Some("Equivalent".to_owned()),
            match_conditions: Some(self.conditions()),
            failure_policy: Some(FAILURE_POLICY.to_owned()),
            // What it sets follows from the spec, which others may change after it.
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

    /// Whether they may be written.
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

    /// What is spared: the status that the controller writes, and nothing else that its account does. The rules name no subresource, so that
    /// a server asks about no status as it is; this keeps it so, should a rule be wider one day.
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
        resources: texts(&["profiles", "assignments"]),
        scope: Some("Namespaced".to_owned()),
    }
}

fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).expect("a configuration is made of maps with text keys")
}
