//! What an API server asks.
//!
//! The types are our own and not those of a client library: what is missing or unknown here must lead to an answer, and the objects stay as
//! they were written, so that an old one that no longer can be read spoils nothing.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A review, as far as it is understood.
#[derive(Debug)]
pub struct Request<'b> {
    /// What the answer has to repeat.
    pub uid: String,
    /// The kind of the object, where it is one of ours.
    pub kind: Result<Kind, String>,
    /// What is to be done with it.
    pub operation: Operation,
    /// The part of the object that is to be written: `status`, or nothing for the object itself.
    pub subresource: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name. Empty where the server is still to make one up.
    pub name: String,
    /// Who asks. None where the server does not say.
    pub user: Option<String>,
    /// Whether nothing is to come of it.
    pub dry_run: bool,
    /// The object as it shall be.
    pub object: Option<&'b RawValue>,
    /// The object as it is.
    pub old_object: Option<&'b RawValue>,
}

/// One of our kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What to boot.
    Profile,
    /// Who gets it.
    Assignment,
}

/// What is to be done with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Something else.
    Other(String),
}

/// The bytes are no review that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are no JSON, or no such JSON.
    #[error("this is no AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It is another type of message.
    #[error("this is {0}; shaper understands AdmissionReview of admission.k8s.io/v1")]
    OtherType(String),
    /// It asks nothing.
    #[error("the AdmissionReview has no request with a uid, so that nothing can be answered")]
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
    /// Both.
    pub const ALL: [Self; 2] = [Self::Profile, Self::Assignment];

    /// As manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Profile => "Profile",
            Self::Assignment => "Assignment",
        }
    }
}

impl Operation {
    /// As Kubernetes spells it; what is unknown has one name.
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
    /// Reads a review.
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
        // `null` stands for what is not there.
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

    /// The place of the object: as it says itself, or as the server says.
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

/// An object as plain JSON.
pub(crate) fn parse_json(object: Option<&RawValue>) -> Option<Value> {
    serde_json::from_str(object?.get()).ok()
}
