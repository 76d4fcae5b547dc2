//! The answer to one request, before it is encoded as HTTP.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use boot::catalog::NoConfig;
use boot::render::RenderError;
use boot::subject::MAX_VALUE_BYTES;
use boot::{Assignment, ConfigName, InvalidQuery, NotSelected, Profile, Subject};
use bytes::Bytes;
use http::{Method, StatusCode};

/// The labels that identify a machine.
const IDENTITIES: [&str; 3] = ["uuid", "serial", "mac"];

/// The parts of a request that the answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method. Only GET and HEAD are served.
    pub method: &'a Method,
    /// The path, as the client sent it.
    pub path: &'a str,
    /// The query without `?`, as the client sent it.
    pub query: &'a str,
    /// The Host header, or the authority of an absolute target.
    pub host: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The server's address of the connection.
    pub local: SocketAddr,
}

/// The answer to a request, with the facts that the log and the metrics need.
#[derive(Clone, Debug)]
pub struct Answer<'c> {
    /// The route of the request.
    pub route: Route,
    /// The outcome of the request.
    pub outcome: Outcome,
    /// The body. For a failure, one sentence that says what is wrong and what to do.
    pub body: Bytes,
    /// The media type of the body.
    pub content_type: ContentType,
    /// The machine, if the query describes one.
    pub subject: Option<Arc<Subject>>,
    /// The uuid, serial and mac of an invalid query, which has no subject, by name.
    pub invalid_identities: Vec<(&'static str, Box<str>)>,
    /// The objects that were selected for the machine.
    pub choice: Choice<'c>,
    /// Whether a template needs a label that the operator probably has to provide.
    pub is_operator_error: bool,
}

/// The objects that were selected for a machine. Fields that selection did not reach are `None`.
#[derive(Clone, Debug, Default)]
pub struct Choice<'c> {
    /// The Assignment, and what it matched by.
    pub assignment: Option<(Cow<'c, Arc<Assignment>>, boot::MatchedBy)>,
    /// The Profile.
    pub profile: Option<Cow<'c, Arc<Profile>>>,
    /// The name of the config.
    pub config: Option<Cow<'c, ConfigName>>,
}

/// The media type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Scripts, configs and error sentences.
    Text,
    /// The `OpenAPI` document.
    Json,
}

/// The route of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/boot.ipxe`, and `autoexec.ipxe` at any depth.
    Bootstrap,
    /// `/ipxe`.
    Script,
    /// `/config/{uuid}`.
    Config,
    /// `/openapi.json`.
    OpenApi,
    /// Anything else.
    Unknown,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Ok,
    /// 400: the query or the Host header is invalid, or a template needs a label that the machine
    /// does not present.
    BadRequest,
    /// 404: unknown path.
    NoSuchPath,
    /// 404: no Assignment matches.
    NoAssignment,
    /// 404: an Assignment matches, but selects no Profile for this machine.
    NoProfile,
    /// 404: no config has this id.
    NoConfig,
    /// 405.
    MethodNotAllowed,
    /// 414.
    TargetTooLong,
    /// 431.
    HeadersTooLarge,
    /// 500: a template failed.
    RenderFailed,
    /// 500: a bug in shaper.
    Broken,
    /// 503: the catalog is not complete yet, or a config has no id yet.
    NotReady,
    /// 503: the matching Assignment or its Profile is invalid.
    NotAccepted,
    /// 503: several configs have the id of a config.
    DuplicateId,
    /// 503: a limit on concurrent work is reached.
    Overloaded,
}

// === impl Answer ===

impl Answer<'_> {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.outcome.status()
    }

    pub(crate) fn text(route: Route, text: String) -> Self {
        Self {
            route,
            outcome: Outcome::Ok,
            body: text.into(),
            content_type: ContentType::Text,
            subject: None,
            invalid_identities: Vec::new(),
            choice: Choice::default(),
            is_operator_error: false,
        }
    }

    pub(crate) fn failure(route: Route, outcome: Outcome, reason: String) -> Self {
        Self {
            outcome,
            ..Self::text(route, reason)
        }
    }

    pub(crate) fn not_synced(route: Route) -> Self {
        Self::failure(
            route,
            Outcome::NotReady,
            "shaper has not loaded all Profiles and Assignments yet; try again in a moment"
                .to_owned(),
        )
    }

    pub(crate) fn bad_query(route: Route, query: &str, error: &InvalidQuery) -> Self {
        let identity = |key: &'static str| {
            let (_, value) = boot::query::pairs(query).find(|(other, _)| *other == key)?;
            let end = value.floor_char_boundary(MAX_VALUE_BYTES);
            (!value.is_empty()).then(|| (key, value[..end].into()))
        };
        Self {
            invalid_identities: IDENTITIES.into_iter().filter_map(identity).collect(),
            ..Self::failure(route, Outcome::BadRequest, error.to_string())
        }
    }

    /// The label with this key that the machine presented, also in an invalid query if it is an
    /// identity.
    pub(crate) fn presented(&self, key: &str) -> Option<&str> {
        match &self.subject {
            Some(subject) => subject.label(key),
            None => self
                .invalid_identities
                .iter()
                .find_map(|(other, value)| (*other == key).then_some(&**value)),
        }
    }

    pub(crate) fn not_selected(route: Route, error: NotSelected) -> Self {
        let reason = error.to_string();
        let (outcome, assignment) = match error {
            NotSelected::NoAssignment => (Outcome::NoAssignment, None),
            NotSelected::NoProfile { assignment, by, .. } => {
                (Outcome::NoProfile, Some((Cow::Owned(assignment), by)))
            }
            NotSelected::NotAccepted { assignment, by, .. } => {
                (Outcome::NotAccepted, Some((Cow::Owned(assignment), by)))
            }
        };
        let answer = Self::failure(route, outcome, reason);
        Self {
            choice: Choice {
                assignment,
                ..Choice::default()
            },
            ..answer
        }
    }

    pub(crate) fn no_config(route: Route, error: &NoConfig) -> Self {
        let outcome = match error {
            NoConfig::Unknown => Outcome::NoConfig,
            NoConfig::Duplicate(_) => Outcome::DuplicateId,
        };
        Self::failure(route, outcome, error.to_string())
    }

    pub(crate) fn not_rendered(route: Route, error: &RenderError, profile: &Profile) -> Self {
        let outcome = match error {
            RenderError::Unsafe(_)
            | RenderError::MissingLabel { .. }
            | RenderError::MissingExtrinsic { .. } => Outcome::BadRequest,
            RenderError::NotReady(_) => Outcome::NotReady,
            RenderError::MissingVariable { .. }
            | RenderError::NoMachine { .. }
            | RenderError::InvalidVariable { .. }
            | RenderError::Failed { .. } => Outcome::RenderFailed,
        };
        let is_operator_error = match error {
            RenderError::MissingLabel { label, .. } => {
                !boot::subject::BOOTSTRAP_LABELS.contains(&label.as_str())
            }
            RenderError::MissingExtrinsic { .. } => true,
            _ => false,
        };
        Self {
            is_operator_error,
            ..Self::failure(route, outcome, format!("Profile {}: {error}", profile.key))
        }
    }

    pub(crate) fn with_subject(self, subject: Arc<Subject>) -> Self {
        Self {
            subject: Some(subject),
            ..self
        }
    }

    /// Converts the answer to one that does not borrow from the catalog.
    pub fn into_owned(self) -> Answer<'static> {
        let Self {
            route,
            outcome,
            body,
            is_operator_error,
            content_type,
            subject,
            invalid_identities,
            choice:
                Choice {
                    assignment,
                    profile,
                    config,
                },
        } = self;
        let choice = Choice {
            assignment: assignment
                .map(|(assignment, by)| (Cow::Owned(assignment.into_owned()), by)),
            profile: profile.map(|profile| Cow::Owned(profile.into_owned())),
            config: config.map(|config| Cow::Owned(config.into_owned())),
        };
        Answer {
            route,
            outcome,
            body,
            content_type,
            subject,
            invalid_identities,
            choice,
            is_operator_error,
        }
    }
}

// === impl ContentType ===

impl ContentType {
    /// The value of the `content-type` header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

// === impl Route ===

impl Route {
    /// All variants, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::Bootstrap,
        Self::Script,
        Self::Config,
        Self::OpenApi,
        Self::Unknown,
    ];

    /// The route of a path. Empty segments don't count, as in `//boot.ipxe`.
    pub fn of(path: &str) -> Self {
        match &*without_empty_segments(path) {
            "/boot.ipxe" => Self::Bootstrap,
            "/ipxe" => Self::Script,
            "/openapi.json" => Self::OpenApi,
            path if path.ends_with("/autoexec.ipxe") => Self::Bootstrap,
            path if path.starts_with("/config/") => Self::Config,
            _ => Self::Unknown,
        }
    }

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Script => "ipxe",
            Self::Config => "config",
            Self::OpenApi => "openapi",
            Self::Unknown => "unknown",
        }
    }
}

/// Returns a path without its empty segments: `/ipxe` for `//ipxe/`. DHCP servers and scripts join
/// URLs with a slash too many, and firmware keeps it.
pub(crate) fn without_empty_segments(path: &str) -> Cow<'_, str> {
    if !path.contains("//") && !path.ends_with('/') {
        return path.into();
    }
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        clean.push('/');
        clean.push_str(segment);
    }
    clean.into()
}

// === impl Outcome ===

impl Outcome {
    /// All variants, in the order of their discriminants.
    pub const ALL: [Self; 15] = [
        Self::Ok,
        Self::BadRequest,
        Self::NoSuchPath,
        Self::NoAssignment,
        Self::NoProfile,
        Self::NoConfig,
        Self::MethodNotAllowed,
        Self::TargetTooLong,
        Self::HeadersTooLarge,
        Self::RenderFailed,
        Self::Broken,
        Self::NotReady,
        Self::NotAccepted,
        Self::DuplicateId,
        Self::Overloaded,
    ];

    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NoSuchPath | Self::NoAssignment | Self::NoProfile | Self::NoConfig => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RenderFailed | Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotReady | Self::NotAccepted | Self::DuplicateId | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadRequest => "bad_request",
            Self::NoSuchPath => "no_such_path",
            Self::NoAssignment => "no_assignment",
            Self::NoProfile => "no_profile",
            Self::NoConfig => "no_config",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TargetTooLong => "target_too_long",
            Self::HeadersTooLarge => "headers_too_large",
            Self::RenderFailed => "render_failed",
            Self::Broken => "broken",
            Self::NotReady => "not_ready",
            Self::NotAccepted => "not_accepted",
            Self::DuplicateId => "duplicate_id",
            Self::Overloaded => "overloaded",
        }
    }
}
