//! Routes a request to its handler and answers it from the catalog in memory.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boot::catalog::NoConfig;
use boot::{Catalog, ExtrinsicLabels, Selected, SharedCatalog};
use http::Method;

use crate::answer::{Answer, Choice, ContentType, Outcome, Request, Route, without_empty_segments};
use crate::base_url::BaseUrl;
use crate::bootstrap::bootstrap;
use crate::configs;
use crate::openapi::openapi;

/// The longest path and query, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// Bytes of a link besides the labels: `/config/`, an id, and a file name.
const LINK_OVERHEAD_BYTES: usize = 128;
/// How much longer a label can become in a link than it was in the query: a raw é that is decoded
/// byte by byte becomes `%C3%83%C2%A9`.
const MAX_ENCODED_GROWTH: usize = 6;

/// Answers boot requests from a catalog.
pub struct BootService {
    catalog: Arc<SharedCatalog>,
    extrinsic: ExtrinsicLabels,
    public_url: Option<BaseUrl>,
    is_synced: AtomicBool,
}

// === impl BootService ===

impl BootService {
    /// Creates a service for this catalog. It answers 503 until [`set_synced`](Self::set_synced) is
    /// called.
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

    /// The configured base URL of links, which overrides the Host header.
    pub fn public_url(&self) -> Option<&BaseUrl> {
        self.public_url.as_ref()
    }

    /// Marks the catalog as complete. Before that, a machine could get a default instead of its own
    /// Profile.
    pub fn set_synced(&self) {
        self.is_synced.store(true, Ordering::Release);
    }

    /// Whether the catalog is complete.
    pub fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::Acquire)
    }

    /// The labels that the operator set on this server.
    pub fn extrinsic(&self) -> &ExtrinsicLabels {
        &self.extrinsic
    }

    /// The catalog that requests are answered from.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.catalog
    }

    /// The current catalog, if it is complete.
    pub fn synced(&self) -> Option<impl Deref<Target = Arc<Catalog>>> {
        // Check before loading: a catalog that is loaded after `set_synced` is complete.
        self.is_synced().then(|| self.catalog.load())
    }

    /// Answers one request from a catalog that [`synced`](Self::synced) returned.
    pub fn answer<'c>(
        &self,
        catalog: Option<&'c Arc<Catalog>>,
        request: &Request<'_>,
    ) -> Answer<'c> {
        let path = without_empty_segments(request.path);
        let route = Route::of(&path);
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
            Route::Config => {
                configs::answer(&self.extrinsic, catalog, &path, request.query, &base_url)
            }
            Route::OpenApi => Answer {
                content_type: ContentType::Json,
                ..Answer::text(route, openapi().to_owned())
            },
            Route::Unknown => {
                let reason = "unknown path; shaper serves /boot.ipxe, /autoexec.ipxe, /ipxe?labels, /config/{uuid} and /openapi.json";
                Answer::failure(route, Outcome::NoSuchPath, reason.to_owned())
            }
        }
    }

    /// Answers `/ipxe`: parses the machine's labels, selects its Profile and renders the script.
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
        let subject = match catalog.subject(query, &self.extrinsic) {
            Ok(subject) => Arc::new(subject),
            Err(error) => return Answer::bad_query(route, query, &error),
        };
        if query.len() * MAX_ENCODED_GROWTH > MAX_TARGET_BYTES - LINK_OVERHEAD_BYTES
            && subject.to_query().len() > MAX_TARGET_BYTES - LINK_OVERHEAD_BYTES
        {
            let reason = format!(
                "the labels are too long for the links of a script, at most {MAX_TARGET_BYTES} bytes; send fewer or shorter ones"
            );
            return Answer::failure(route, Outcome::TargetTooLong, reason).with_subject(subject);
        }
        let selected = match catalog.select_ref(&subject) {
            Ok(selected) => selected,
            Err(error) => return Answer::not_selected(route, error).with_subject(subject),
        };
        let Selected {
            assignment,
            by,
            profile,
        } = selected;
        // The installer that follows a link is less patient than iPXE, so wait here.
        let answer = match catalog.duplicate_id_of(profile) {
            Some(duplicate) => Answer::no_config(route, &NoConfig::Duplicate(duplicate)),
            None => match selected.script(&subject, base_url.as_str()) {
                Ok(script) => Answer::text(route, script),
                Err(error) => Answer::not_rendered(route, &error, profile),
            },
        };
        let choice = Choice {
            assignment: Some((Cow::Borrowed(assignment), by)),
            profile: Some(Cow::Borrowed(profile)),
            config: None,
        };
        Answer { choice, ..answer }.with_subject(subject)
    }

    fn base_url(&self, request: &Request<'_>) -> Result<BaseUrl, String> {
        if let Some(public_url) = &self.public_url {
            return Ok(public_url.clone());
        }
        match request.host {
            None | Some("") => Ok(BaseUrl::from_address(request.scheme, request.local)),
            Some(host) => BaseUrl::from_host(request.scheme, host).ok_or_else(|| {
                "the Host header is not a host name or address with an optional port; check the URL that the machine was given"
                    .to_owned()
            }),
        }
    }
}
