//! The line of the log that each request gets.

use std::sync::Arc;
use std::time::Duration;

use boot::{ConfigName, MatchedBy, ObjectKey};
use tracing::Level;

use crate::answer::{Answer, Choice, Outcome};

/// What is said of one request. A whole config id is not in it, nor is any text that was rendered.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
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
    fn write(&self, line: &Line<'_>);
}

/// Nowhere.
impl RequestLog for () {
    fn write(&self, _: &Line<'_>) {}
}

/// Logs one request, if anybody wants to know of those that ended so.
pub(crate) fn log(log: &Arc<dyn RequestLog>, answer: &Answer, peer: &str, request: &str, took: Duration) {
    let (level, message, is_wanted) = match answer.outcome {
        Outcome::Ok => (Level::INFO, "served", tracing::enabled!(Level::INFO)),
        Outcome::Broken => (Level::ERROR, "failed", tracing::enabled!(Level::ERROR)),
        Outcome::RenderFailed => (Level::WARN, "failed", tracing::enabled!(Level::WARN)),
        _ => (Level::INFO, "refused", tracing::enabled!(Level::INFO)),
    };
    if !is_wanted {
        return;
    }
    let label = |key| answer.subject.as_deref().and_then(|subject| subject.label(key));
    let Choice { assignment, profile, config } = &answer.choice;
    log.write(&Line {
        level,
        message,
        route: answer.route.name(),
        uuid: label("uuid"),
        mac: label("mac"),
        serial: label("serial"),
        assignment: assignment.as_ref().map(|(assignment, _)| &assignment.key),
        by: assignment.as_ref().map(|(_, by)| *by),
        profile: profile.as_ref().map(|profile| &profile.key),
        config: config.as_ref().map(ConfigName::as_str),
        status: answer.status().as_u16(),
        outcome: answer.outcome.name(),
        reason: (answer.outcome != Outcome::Ok).then(|| std::str::from_utf8(&answer.body).unwrap_or_default()),
        peer,
        bytes: answer.body.len(),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        request,
    });
}
