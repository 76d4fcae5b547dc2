//! Routes a request to what answers it, from the catalog in memory.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use boot::{Catalog, ExtrinsicLabels, Selected, SharedCatalog, Subject};
use http::Method;

use crate::answer::{Answer, Choice, ContentType, Outcome, Request, Route};
use crate::base_url::BaseUrl;
use crate::bootstrap::bootstrap;
use crate::configs;
use crate::openapi::openapi;

/// Longest path and query, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;
/// What a link has beside the labels: `/config/`, an id, and the name of a file.
const LINK_OVERHEAD_BYTES: usize = 128;
/// A label may take six times the bytes in a link that it took in a query: é, sent raw and read byte by byte, becomes `%C3%83%C2%A9`.
const MAX_ENCODED_GROWTH: usize = 6;

/// What answers are made from.
pub struct BootService {
    catalog: Arc<SharedCatalog>,
    extrinsic: ExtrinsicLabels,
    public_url: Option<BaseUrl>,
    is_synced: AtomicBool,
}

// === impl BootService ===

impl BootService {
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
            Route::Config => configs::answer(&self.extrinsic, catalog, request, &base_url),
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
        if query.len() * MAX_ENCODED_GROWTH > MAX_TARGET_BYTES - LINK_OVERHEAD_BYTES
            && subject.to_query().len() > MAX_TARGET_BYTES - LINK_OVERHEAD_BYTES
        {
            let reason = format!(
                "the labels are too long for the links of a script, at most {MAX_TARGET_BYTES} bytes; send fewer or shorter ones"
            );
            return Answer::failure(route, Outcome::TargetTooLong, reason).with_subject(subject);
        }
        let selected = match catalog.selected(&subject) {
            Ok(selected) => selected,
            Err(error) => return Answer::not_selected(route, error).with_subject(subject),
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
        Answer { choice, ..answer }.with_subject(subject)
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
