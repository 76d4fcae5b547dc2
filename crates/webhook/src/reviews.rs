//! Answers one review: bytes in, bytes out.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use admission::{Context, Kind, Outcome, Recent, Request, Unreadable};
use boot::{Catalog, SharedCatalog};
use net::LineLimit;
use tracing::{debug, info};

use crate::metrics::Metrics;

/// Time for one review; an API server waits for three seconds.
const REVIEW_BUDGET: Duration = Duration::from_millis(1500);

/// Maximum length of a text of a review in the log.
const MAX_LOGGED_BYTES: usize = 253;

/// Answers reviews with a catalog.
pub struct Reviews {
    catalog: Arc<SharedCatalog>,
    /// The partition of the API server that asks.
    partition: Box<str>,
    is_synced: AtomicBool,
    age: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    recent: Mutex<Recent>,
    metrics: Metrics,
    lines: LineLimit,
}

/// The kind of webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Validates an object.
    Validate,
    /// Adds metadata to an object.
    Mutate,
}

/// Who asks for a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A client with a certificate of an authority that signs those of API servers.
    Verified,
    /// Anybody who reaches the port. Its reviews may be made up.
    Unverified,
}

impl Hook {
    /// The webhook served under a path.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/validate" => Some(Self::Validate),
            "/mutate" => Some(Self::Mutate),
            _ => None,
        }
    }

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
        }
    }
}

// === impl Reviews ===

impl Reviews {
    /// Reviews for the API server of one partition. The catalog counts as incomplete until
    /// [`Self::set_synced`].
    pub fn new(catalog: Arc<SharedCatalog>, partition: &str, metrics: Metrics) -> Self {
        Self {
            catalog,
            partition: partition.into(),
            is_synced: AtomicBool::new(false),
            age: Box::new(|| None),
            recent: Mutex::default(),
            metrics,
            lines: LineLimit::default(),
        }
    }

    /// Sets the function that returns how long ago the catalog was last current; reviews against a
    /// stale catalog get a warning.
    #[must_use]
    pub fn with_age(self, age: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self {
            age: Box::new(age),
            ..self
        }
    }

    /// Marks the catalog as complete.
    pub fn set_synced(&self) {
        self.is_synced.store(true, Ordering::Release);
    }

    /// Whether the catalog is complete.
    pub fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::Acquire)
    }

    /// The catalog that objects are reviewed against.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.catalog
    }

    /// Answers a review that arrived at `started` from this caller, at this address.
    ///
    /// What a verified caller is allowed to write counts as written for the next reviews. Nothing
    /// is remembered of other callers: a made-up review would change what others are told.
    pub fn answer(
        &self,
        hook: Hook,
        bytes: &[u8],
        started: Instant,
        (caller, peer): (Caller, IpAddr),
    ) -> Result<String, Unreadable> {
        let request = Request::read(bytes)?;
        let (answer, rules) = match hook {
            Hook::Mutate => (admission::mutate(&request), Vec::new()),
            Hook::Validate => {
                let catalog = self.is_synced().then(|| self.catalog_with_recent());
                let deadline = Some(started + REVIEW_BUDGET);
                let context = Context {
                    catalog: catalog.as_ref(),
                    age: (self.age)(),
                    partition: &self.partition,
                    deadline,
                };
                let verdict = admission::validate(&request, &context);
                let is_remembered =
                    caller == Caller::Verified && !request.dry_run && catalog.is_some();
                if let Some(change) = verdict.change.filter(|_| is_remembered) {
                    self.recent()
                        .record(&self.catalog.load(), change, Instant::now());
                }
                (verdict.answer, verdict.rules)
            }
        };
        let took = started.elapsed();
        let (kind, outcome) = (
            request
                .kind
                .as_ref()
                .map_or("other", |kind: &Kind| kind.name()),
            answer.outcome(),
        );
        self.metrics
            .record_review(hook.name(), kind, request.operation.name(), outcome.name());
        self.metrics.record_duration(hook.name(), took);
        self.metrics.record_findings(&rules);
        // A made-up review must not fill the log.
        if caller == Caller::Verified || self.lines.allows_or_reports(peer, "reviews") {
            log(hook, &request, outcome, &rules, took);
        }
        Ok(answer.to_json())
    }

    /// The current catalog plus recently admitted changes.
    fn catalog_with_recent(&self) -> Catalog {
        let current = self.catalog.load();
        let pending = self.recent().pending(&current, Instant::now());
        let mut next = Catalog::clone(&current);
        for change in pending {
            next.apply(change);
        }
        next
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        // Every call leaves it consistent, so a poisoned lock is safe to use.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The start of a text for the log. Names in Kubernetes are not longer.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LOGGED_BYTES)]
}

/// Logs denials and warnings at info, the rest at debug. No text of an object is logged.
fn log(
    hook: Hook,
    request: &Request<'_>,
    outcome: Outcome,
    rules: &[&'static review::Rule],
    took: Duration,
) {
    let kind = request.kind.as_ref().map_or("other", |kind| kind.name());
    let user = request.user.as_deref().unwrap_or_default();
    let rules = rules
        .iter()
        .map(|rule| rule.id)
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(",");
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    macro_rules! line {
        ($level:ident) => {
            $level!(
                webhook = hook.name(),
                operation = request.operation.name(),
                kind,
                namespace = cut(&request.namespace),
                name = cut(&request.name),
                user = cut(user),
                dry_run = request.dry_run,
                outcome = outcome.name(),
                rules,
                took_us,
                review = cut(&request.uid),
                "reviewed"
            )
        };
    }
    match outcome {
        Outcome::Denied | Outcome::Warned => line!(info),
        Outcome::Allowed | Outcome::Patched => line!(debug),
    }
}
