//! Parses admission reviews.
//!
//! The types are defined here instead of taken from a client library: missing or unknown fields
//! must still lead to an answer, and objects stay raw, so that an old object that no longer parses
//! does not fail the review.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A parsed review.
#[derive(Debug)]
pub struct Request<'b> {
    /// The id that the answer must repeat.
    pub uid: String,
    /// The kind of the object, or the name of a kind that is not ours.
    pub kind: Result<Kind, String>,
    /// The operation.
    pub operation: Operation,
    /// The subresource that is written, such as `status`; empty for the object itself.
    pub subresource: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name. Empty if the server generates it.
    pub name: String,
    /// The user. `None` if the server does not say.
    pub user: Option<String>,
    /// Whether this is a dry run.
    pub dry_run: bool,
    /// The new object.
    pub object: Option<&'b RawValue>,
    /// The stored object.
    pub old_object: Option<&'b RawValue>,
}

/// A kind that this crate reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A Profile.
    Profile,
    /// An Assignment.
    Assignment,
    /// A Machine.
    Machine,
}

/// The operation of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The object is created.
    Create,
    /// The object is updated.
    Update,
    /// The object is deleted.
    Delete,
    /// An operation that is not known here.
    Other(String),
}

/// Why bytes are not a review that can be answered.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Not JSON, or not the JSON of a review.
    #[error("not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// A message of another type.
    #[error("expected an AdmissionReview of admission.k8s.io/v1, got {0}")]
    OtherType(String),
    /// A review without a request or uid.
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'b> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<RawRequest<'b>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRequest<'b> {
    #[serde(default)]
    uid: String,
    #[serde(default)]
    kind: RawKind,
    #[serde(default)]
    operation: String,
    sub_resource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    user_info: Option<RawUser>,
    dry_run: Option<bool>,
    #[serde(borrow)]
    object: Option<&'b RawValue>,
    #[serde(borrow)]
    old_object: Option<&'b RawValue>,
}

#[derive(Default, Deserialize)]
struct RawKind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    kind: String,
}

#[derive(Deserialize)]
struct RawUser {
    username: Option<String>,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Profile, Self::Assignment, Self::Machine];

    /// The kind as written in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "Profile",
            Self::Assignment => "Assignment",
            Self::Machine => "Machine",
        }
    }
}

impl Operation {
    /// The operation as Kubernetes spells it; all unknown ones are `other`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Other(_) => "other",
        }
    }
}

// === impl Request ===

impl<'b> Request<'b> {
    /// Parses a review.
    pub fn read(bytes: &'b [u8]) -> Result<Self, Unreadable> {
        let review: Review<'_> = serde_json::from_slice(bytes)?;
        if review.api_version != "admission.k8s.io/v1" || review.kind != "AdmissionReview" {
            let shown = |text: &str| text.chars().take(64).collect::<String>();
            return Err(Unreadable::OtherType(format!(
                "{:?} of {:?}",
                shown(&review.kind),
                shown(&review.api_version)
            )));
        }
        let request = review
            .request
            .filter(|request| !request.uid.is_empty())
            .ok_or(Unreadable::NoRequest)?;
        let RawKind {
            group,
            version,
            kind,
        } = request.kind;
        let known = Kind::ALL
            .into_iter()
            .find(|known| known.name() == kind && group == crd::GROUP && version == crd::VERSION);
        let operation = match request.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            "DELETE" => Operation::Delete,
            _ => Operation::Other(request.operation),
        };
        // An absent object is sent as `null`.
        let present = |object: Option<&'b RawValue>| object.filter(|object| object.get() != "null");
        Ok(Self {
            uid: request.uid,
            kind: known.ok_or_else(|| format!("{kind} of {group}/{version}")),
            operation,
            subresource: request.sub_resource.unwrap_or_default(),
            namespace: request.namespace.unwrap_or_default(),
            name: request.name.unwrap_or_default(),
            user: request
                .user_info
                .and_then(|user| user.username)
                .filter(|name| !name.is_empty()),
            dry_run: request.dry_run.unwrap_or_default(),
            object: present(request.object),
            old_object: present(request.old_object),
        })
    }

    /// The object's namespace and name: from its metadata, or else from the request.
    pub(crate) fn object_name(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        #[derive(Default, Deserialize)]
        struct Named {
            #[serde(default)]
            metadata: Metadata,
        }
        #[derive(Default, Deserialize)]
        struct Metadata {
            namespace: Option<String>,
            name: Option<String>,
        }
        let object = self
            .object
            .or(self.old_object)
            .and_then(|object| serde_json::from_str::<Named>(object.get()).ok());
        let Metadata { namespace, name } = object.unwrap_or_default().metadata;
        let or = |own: Option<String>, other: &'_ str| {
            own.filter(|own| !own.is_empty())
                .unwrap_or_else(|| other.to_owned())
        };
        (
            or(namespace, &self.namespace).into(),
            or(name, &self.name).into(),
        )
    }
}

/// Parses an object as untyped JSON.
pub(crate) fn parse_json(object: Option<&RawValue>) -> Option<Value> {
    serde_json::from_str(object?.get()).ok()
}
