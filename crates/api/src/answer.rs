//! One request, one answer, from memory.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use boot::render::RenderError;
use boot::{Assignment, ConfigName, InvalidQuery, NotSelected, Profile, Subject};
use bytes::Bytes;
use http::{Method, StatusCode};

/// The parts of a request that an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method; only GET and HEAD are served.
    pub method: &'a Method,
    /// The path, as sent.
    pub path: &'a str,
    /// The query, as sent, without `?`.
    pub query: &'a str,
    /// The Host header, or the authority of an absolute target.
    pub host: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Our end of the connection.
    pub local: SocketAddr,
}

/// An answer, and what is to be said of it in log and metrics.
#[derive(Clone, Debug)]
pub struct Answer<'c> {
    /// What was asked for.
    pub route: Route,
    /// How it ended.
    pub outcome: Outcome,
    /// The whole body. For a failure, a sentence that tells what to do.
    pub body: Bytes,
    /// The media type of the body.
    pub content_type: ContentType,
    /// Who asked, if the query told.
    pub subject: Option<Arc<Subject>>,
    /// Which Assignment and by what, which Profile, which config.
    pub choice: Choice<'c>,
    /// Whether a template needs a label that most likely the operator should give.
    pub is_operator_error: bool,
}

/// What was chosen for the machine, as far as it came, as the catalog has it.
#[derive(Clone, Debug, Default)]
pub struct Choice<'c> {
    /// The Assignment, and by what it matched.
    pub assignment: Option<(Cow<'c, Arc<Assignment>>, boot::MatchedBy)>,
    /// The Profile.
    pub profile: Option<Cow<'c, Arc<Profile>>>,
    /// The name of the config.
    pub config: Option<Cow<'c, ConfigName>>,
}

/// The media type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// Scripts, configs and sentences.
    Text,
    /// The description of the API.
    Json,
}

/// What was asked for.
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

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Ok,
    /// 400: the query is no subject, the host no host, or a template needs what the machine does not say.
    BadRequest,
    /// 404: there is no such path.
    NoSuchPath,
    /// 404: no Assignment matches.
    NoAssignment,
    /// 404: an Assignment matches and has no Profile for this subject.
    NoProfile,
    /// 404: no config has this id.
    NoConfig,
    /// 405.
    MethodNotAllowed,
    /// 414.
    TargetTooLong,
    /// 431.
    HeadersTooLarge,
    /// 500: a template fails.
    RenderFailed,
    /// 500: our own fault.
    Broken,
    /// 503: nothing was loaded yet, or a config has no id yet.
    NotReady,
    /// 503: the Assignment that matches, or its Profile, exists and is not accepted.
    NotAccepted,
    /// 503: too much at once.
    Overloaded,
}

// === impl Answer ===

impl Answer<'_> {
    /// The status code.
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
            "shaper has not loaded all Profiles and Assignments yet; it will in a moment"
                .to_owned(),
        )
    }

    pub(crate) fn bad_query(route: Route, error: &InvalidQuery) -> Self {
        Self::failure(route, Outcome::BadRequest, error.to_string())
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

    pub(crate) fn not_rendered(route: Route, error: &RenderError, profile: &Profile) -> Self {
        let outcome = match error {
            RenderError::Unsafe(_) | RenderError::MissingLabel { .. } => Outcome::BadRequest,
            RenderError::NotReady(_) => Outcome::NotReady,
            RenderError::Failed { .. } => Outcome::RenderFailed,
        };
        let is_operator_error = matches!(error, RenderError::MissingLabel { label, .. } if !boot::subject::PRESENTED.contains(&label.as_str()));
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

    /// The same, for as long as anybody wants it: what it says of the catalog's objects is kept beyond the catalog.
    pub fn into_owned(self) -> Answer<'static> {
        let Self {
            route,
            outcome,
            body,
            is_operator_error,
            content_type,
            subject,
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
            choice,
            is_operator_error,
        }
    }
}

// === impl ContentType ===

impl ContentType {
    /// As the header `content-type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }
}

// === impl Route ===

impl Route {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 5] = [
        Self::Bootstrap,
        Self::Script,
        Self::Config,
        Self::OpenApi,
        Self::Unknown,
    ];

    /// What a path asks for.
    pub fn of(path: &str) -> Self {
        match path {
            "/boot.ipxe" => Self::Bootstrap,
            "/ipxe" => Self::Script,
            "/openapi.json" => Self::OpenApi,
            _ if path.ends_with("/autoexec.ipxe") => Self::Bootstrap,
            _ if path.starts_with("/config/") => Self::Config,
            _ => Self::Unknown,
        }
    }

    /// Its name in metrics and logs.
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

// === impl Outcome ===

impl Outcome {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 14] = [
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
        Self::Overloaded,
    ];

    /// Its status code.
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
            Self::NotReady | Self::NotAccepted | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// Its name in metrics and logs.
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
            Self::Overloaded => "overloaded",
        }
    }
}
