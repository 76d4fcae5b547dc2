//! The line of the log that each request gets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use boot::{ConfigName, MatchedBy, ObjectKey};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::answer::{Answer, Choice, Outcome};

/// What is said of one request. A whole config id is not in it, nor is any text that was rendered.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// When it was answered.
    pub at: SystemTime,
    /// How grave it is.
    pub level: Level,
    /// `served`, `refused` or `failed`.
    pub message: &'static str,
    /// What was asked for: [`Route::name`](crate::Route::name).
    pub route: &'static str,
    /// The label of this name.
    pub uuid: Option<&'a str>,
    /// The label of this name.
    pub mac: Option<&'a str>,
    /// The label of this name.
    pub serial: Option<&'a str>,
    /// Which Assignment.
    pub assignment: Option<&'a ObjectKey>,
    /// By what it matched.
    pub by: Option<MatchedBy>,
    /// Which Profile.
    pub profile: Option<&'a ObjectKey>,
    /// The name of the config.
    pub config: Option<&'a str>,
    /// The status code.
    pub status: u16,
    /// How it ended: [`Outcome::name`].
    pub outcome: &'static str,
    /// The sentence that tells the client why it gets nothing.
    pub reason: Option<&'a str>,
    /// The client's address.
    pub peer: &'a str,
    /// Of the answer's text.
    pub bytes: usize,
    /// The time to make the answer, in microseconds.
    pub took_us: u64,
    /// The id that the client was told.
    pub request: &'a str,
}

/// Where the lines of requests go. They are no events of `tracing`: what a request costs is to a good part what its line costs, and all
/// lines have the same fields.
pub trait RequestLog: Send + Sync {
    /// Writes one. It must not wait for whoever reads it.
    fn write(&self, entry: &LogEntry<'_>);
}

/// Nowhere.
impl RequestLog for () {
    fn write(&self, _: &LogEntry<'_>) {}
}

/// Logs requests, as far as anybody wants to know of them.
#[derive(Clone)]
pub(crate) struct RequestLogger {
    log: Arc<dyn RequestLog>,
    /// Asked once: the filter of the log does not change.
    max_level: LevelFilter,
}

impl RequestLogger {
    pub(crate) fn new(log: Arc<dyn RequestLog>) -> Self {
        let levels = [
            (tracing::enabled!(Level::INFO), LevelFilter::INFO),
            (tracing::enabled!(Level::WARN), LevelFilter::WARN),
            (tracing::enabled!(Level::ERROR), LevelFilter::ERROR),
        ];
        let max_level = levels
            .into_iter()
            .find_map(|(is_enabled, level)| is_enabled.then_some(level))
            .unwrap_or(LevelFilter::OFF);
        Self { log, max_level }
    }

    /// Logs one request.
    pub(crate) fn log(
        &self,
        answer: &Answer<'_>,
        peer: &str,
        request: &str,
        at: SystemTime,
        took: Duration,
    ) {
        let (level, message) = match answer.outcome {
            Outcome::Ok => (Level::INFO, "served"),
            Outcome::Broken => (Level::ERROR, "failed"),
            Outcome::RenderFailed => (Level::WARN, "failed"),
            _ if answer.is_operator_error => (Level::WARN, "refused"),
            _ => (Level::INFO, "refused"),
        };
        if level <= self.max_level {
            self.log
                .write(&entry(at, level, message, answer, peer, request, took));
        }
    }
}

fn entry<'a>(
    at: SystemTime,
    level: Level,
    message: &'static str,
    answer: &'a Answer<'_>,
    peer: &'a str,
    request: &'a str,
    took: Duration,
) -> LogEntry<'a> {
    let label = |key| {
        answer
            .subject
            .as_deref()
            .and_then(|subject| subject.label(key))
    };
    let Choice {
        assignment,
        profile,
        config,
    } = &answer.choice;
    LogEntry {
        at,
        level,
        message,
        route: answer.route.name(),
        uuid: label("uuid"),
        mac: label("mac"),
        serial: label("serial"),
        assignment: assignment.as_ref().map(|(assignment, _)| &assignment.key),
        by: assignment.as_ref().map(|(_, by)| *by),
        profile: profile.as_deref().map(|profile| &profile.key),
        config: config.as_deref().map(ConfigName::as_str),
        status: answer.status().as_u16(),
        outcome: answer.outcome.name(),
        reason: (answer.outcome != Outcome::Ok)
            .then(|| std::str::from_utf8(&answer.body).unwrap_or_default()),
        peer,
        bytes: answer.body.len(),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request,
    }
}
