//! One review, from its bytes to those of its answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use admission::{Context, Kind, Outcome, Recent, Request, Unreadable};
use boot::{Catalog, SharedCatalog};
use tracing::{debug, info};

use crate::metrics::Metrics;

/// How long a review may take: an API server waits for three seconds.
const REVIEW_BUDGET: Duration = Duration::from_millis(1500);

/// Answers reviews beside a catalog.
pub struct Reviews {
    catalog: Arc<SharedCatalog>,
    /// The cluster whose API server asks, as the catalog calls it.
    partition: Box<str>,
    is_synced: AtomicBool,
    age: Box<dyn Fn() -> Option<Duration> + Send + Sync>,
    recent: Mutex<Recent>,
    metrics: Metrics,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Whether it may be written.
    Validate,
    /// What it is to be changed by.
    Mutate,
}

impl Hook {
    /// By its path.
    pub fn from_path(path: &str) -> Option<Self> {
        match path {
            "/validate" => Some(Self::Validate),
            "/mutate" => Some(Self::Mutate),
            _ => None,
        }
    }

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
        }
    }
}

// === impl Reviews ===

impl Reviews {
    /// Reviews for the API server of one cluster, beside a catalog that is [not whole yet](Self::set_synced).
    pub fn new(catalog: Arc<SharedCatalog>, partition: &str, metrics: Metrics) -> Self {
        Self {
            catalog,
            partition: partition.into(),
            is_synced: AtomicBool::new(false),
            age: Box::new(|| None),
            recent: Mutex::default(),
            metrics,
        }
    }

    /// The same, where this tells how long ago the catalog was last known to be true: who is reviewed beside an old one is told so.
    #[must_use]
    pub fn with_age(self, age: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self {
            age: Box::new(age),
            ..self
        }
    }

    /// From now on the catalog is whole.
    pub fn set_synced(&self) {
        self.is_synced.store(true, Ordering::Release);
    }

    /// Whether the catalog is whole.
    pub fn is_synced(&self) -> bool {
        self.is_synced.load(Ordering::Acquire)
    }

    /// The catalog beside which objects are reviewed.
    pub fn catalog(&self) -> &Arc<SharedCatalog> {
        &self.catalog
    }

    /// Answers a review that came at this moment.
    pub fn answer(&self, hook: Hook, bytes: &[u8], started: Instant) -> Result<String, Unreadable> {
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
                if let Some(change) = verdict
                    .change
                    .filter(|_| !request.dry_run && catalog.is_some())
                {
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
        log(hook, &request, outcome, &rules, took);
        Ok(answer.to_json())
    }

    /// The catalog with what was admitted here a moment ago.
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
        // What it holds is whole after each of its calls.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line for what somebody was told; the rest only for who wants to see all. No text of an object is in it.
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
                namespace = request.namespace,
                name = request.name,
                user,
                dry_run = request.dry_run,
                outcome = outcome.name(),
                rules,
                took_us,
                review = request.uid,
                "reviewed"
            )
        };
    }
    match outcome {
        Outcome::Denied | Outcome::Warned => line!(info),
        Outcome::Allowed | Outcome::Patched => line!(debug),
    }
}
