//! One request, one answer, from memory.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boot::render::RenderError;
use boot::{
    Assignment, Catalog, ConfigName, ExtrinsicLabels, InvalidQuery, NotSelected, Profile, Selected,
    SharedCatalog, Subject,
};
use bytes::Bytes;
use http::{Method, StatusCode};

use crate::base_url::BaseUrl;
use crate::bootstrap::bootstrap;
use crate::configs;
use crate::openapi::openapi;

/// Longest path and query, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// What a link has beside the labels: `/config/`, an id, and the name of a file.
const LINK_BYTES: usize = 128;
/// A label may take six times the bytes in a link that it took in a query: é, sent raw and read byte by byte, becomes `%C3%83%C2%A9`.
const MAX_GROWTH: usize = 6;

/// What answers are made from.
pub struct Boot {
    pub(crate) catalog: Arc<SharedCatalog>,
    pub(crate) extrinsic: ExtrinsicLabels,
    public_url: Option<BaseUrl>,
    is_synced: AtomicBool,
}

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
    pub is_operators_fault: bool,
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

// === impl Boot ===

impl Boot {
    /// Answers from this catalog, once [`set_synced`](Self::set_synced) was called.
    pub fn new(
        catalog: Arc<SharedCatalog>,
        extrinsic: ExtrinsicLabels,
        public_url: Option<BaseUrl>,
    ) -> Self {
        Self {
            catalog,
            extrinsic,
            public_url,
            is_synced: AtomicBool::new(false),
        }
    }

    /// What links start with, whatever clients ask for, if that is set.
    pub fn public_url(&self) -> Option<&BaseUrl> {
        self.public_url.as_ref()
    }

    /// The catalog holds all that there is: before, a machine might get a default instead of what is its own.
    pub fn set_synced(&self) {
        self.is_synced.store(true, Ordering::Release);
    }

    /// Whether the catalog holds all that there is.
    pub fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::Acquire)
    }

    /// The labels that the operator gave to this server.
    pub fn extrinsic(&self) -> &ExtrinsicLabels {
        &self.extrinsic
    }

    /// The catalog from which it answers.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.catalog
    }

    /// The catalog of this moment, if it holds all that there is.
    pub fn synced(&self) -> Option<impl Deref<Target = Arc<Catalog>>> {
        // In this order: what is loaded after it was said to be whole is whole.
        self.is_synced().then(|| self.catalog.load())
    }

    /// Answers one request, from what [`synced`](Self::synced) gives.
    pub fn answer<'c>(
        &self,
        catalog: Option<&'c Arc<Catalog>>,
        request: &Request<'_>,
    ) -> Answer<'c> {
        let route = Route::of(request.path);
        if request.method != Method::GET && request.method != Method::HEAD {
            return Answer::failure(
                route,
                Outcome::MethodNotAllowed,
                format!("shaper only serves GET and HEAD, not {}", request.method),
            );
        }
        if request.path.len() + request.query.len() > MAX_TARGET_BYTES {
            let reason = format!(
                "path and query are longer than {MAX_TARGET_BYTES} bytes; send fewer or shorter labels"
            );
            return Answer::failure(route, Outcome::TargetTooLong, reason);
        }
        let base_url = match self.base_url(request) {
            Ok(base_url) => base_url,
            Err(reason) => return Answer::failure(route, Outcome::BadRequest, reason),
        };
        match route {
            Route::Bootstrap => Answer::text(route, bootstrap(&base_url)),
            Route::Script => self.script(catalog, request.query, &base_url),
            Route::Config => configs::answer(self, catalog, request, &base_url),
            Route::OpenApi => Answer {
                content_type: ContentType::Json,
                ..Answer::text(route, openapi().to_owned())
            },
            Route::Unknown => {
                let reason = "shaper serves /boot.ipxe, /autoexec.ipxe, /ipxe?labels, /config/{uuid} and /openapi.json";
                Answer::failure(route, Outcome::NoSuchPath, reason.to_owned())
            }
        }
    }

    /// `/ipxe`: who asks, what is theirs, and its script.
    fn script<'c>(
        &self,
        catalog: Option<&'c Arc<Catalog>>,
        query: &str,
        base_url: &BaseUrl,
    ) -> Answer<'c> {
        let route = Route::Script;
        let Some(catalog) = catalog else {
            return Answer::not_synced(route);
        };
        let subject = match Subject::from_query(query, &self.extrinsic) {
            Ok(subject) => Arc::new(subject),
            Err(error) => return Answer::bad_query(route, &error),
        };
        if query.len() * MAX_GROWTH > MAX_TARGET_BYTES - LINK_BYTES
            && subject.to_query().len() > MAX_TARGET_BYTES - LINK_BYTES
        {
            let reason = format!(
                "the labels are too long for the links of a script, at most {MAX_TARGET_BYTES} bytes; send fewer or shorter ones"
            );
            return Answer::failure(route, Outcome::TargetTooLong, reason).of(subject);
        }
        let selected = match catalog.selected(&subject) {
            Ok(selected) => selected,
            Err(error) => return Answer::not_selected(route, error).of(subject),
        };
        let Selected {
            assignment,
            by,
            profile,
        } = selected;
        let answer = match selected.script(&subject, base_url.as_str()) {
            Ok(script) => Answer::text(route, script),
            Err(error) => Answer::not_rendered(route, &error, profile),
        };
        let choice = Choice {
            assignment: Some((Cow::Borrowed(assignment), by)),
            profile: Some(Cow::Borrowed(profile)),
            config: None,
        };
        Answer { choice, ..answer }.of(subject)
    }

    fn base_url(&self, request: &Request<'_>) -> Result<BaseUrl, String> {
        if let Some(public_url) = &self.public_url {
            return Ok(public_url.clone());
        }
        match request.host {
            None | Some("") => Ok(BaseUrl::from_address(request.scheme, request.local)),
            Some(host) => BaseUrl::from_host(request.scheme, host)
                .ok_or_else(|| "the Host header is no host name or address, perhaps with a port, that links could start with".to_owned()),
        }
    }
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
            is_operators_fault: false,
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

    fn not_selected(route: Route, error: NotSelected) -> Self {
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
        let is_operators_fault = matches!(error, RenderError::MissingLabel { label, .. } if !boot::subject::PRESENTED.contains(&label.as_str()));
        Self {
            is_operators_fault,
            ..Self::failure(route, outcome, format!("Profile {}: {error}", profile.key))
        }
    }

    pub(crate) fn of(self, subject: Arc<Subject>) -> Self {
        Self {
            subject: Some(subject),
            ..self
        }
    }

    /// The same, for as long as anybody wants it: what it says of the catalog's objects is kept beyond the catalog.
    pub fn kept(self) -> Answer<'static> {
        let Self {
            route,
            outcome,
            body,
            is_operators_fault,
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
            is_operators_fault,
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
