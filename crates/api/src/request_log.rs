//! The log line of each request.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use boot::{ConfigName, MatchedBy, ObjectKey};
use net::{LeftOut, LineLimit};
use prometheus_client::metrics::counter::Counter;
use tracing::level_filters::LevelFilter;
use tracing::{Level, warn};

use crate::answer::{Answer, Choice, Outcome};

/// The log entry of one request. It contains no rendered text and no complete config id.
#[derive(Clone, Copy, Debug)]
pub struct LogEntry<'a> {
    /// When the request was answered.
    pub at: SystemTime,
    /// The severity.
    pub level: Level,
    /// `served`, `refused` or `failed`.
    pub message: &'static str,
    /// The route: [`Route::name`](crate::Route::name).
    pub route: &'static str,
    /// The machine's label of this name.
    pub uuid: Option<&'a str>,
    /// The machine's label of this name.
    pub mac: Option<&'a str>,
    /// The machine's label of this name.
    pub serial: Option<&'a str>,
    /// The Assignment.
    pub assignment: Option<&'a ObjectKey>,
    /// What the Assignment matched by.
    pub by: Option<MatchedBy>,
    /// The Profile.
    pub profile: Option<&'a ObjectKey>,
    /// The name of the config.
    pub config: Option<&'a str>,
    /// The HTTP status.
    pub status: u16,
    /// The outcome: [`Outcome::name`].
    pub outcome: &'static str,
    /// Why the client got an error, as it was told.
    pub reason: Option<&'a str>,
    /// The client's IP address.
    pub peer: &'a str,
    /// The size of the body.
    pub bytes: usize,
    /// How long it took to make the answer, in microseconds.
    pub took_us: u64,
    /// The request id, which the client got too.
    pub request: &'a str,
}

/// A sink for log entries of requests.
///
/// Requests are not logged as `tracing` events, because writing the line is a large part of the
/// cost of a request and all lines have the same fields.
pub trait RequestLog: Send + Sync {
    /// Writes one entry. Must not block.
    fn write(&self, entry: &LogEntry<'_>);
}

/// Discards all entries.
impl RequestLog for () {
    fn write(&self, _: &LogEntry<'_>) {}
}

/// Logs requests at the levels that the log filter enables.
#[derive(Clone)]
pub(crate) struct RequestLogger {
    log: Arc<dyn RequestLog>,
    /// Read once at the start, because the log filter does not change.
    max_level: LevelFilter,
    refused: Arc<LineLimit>,
    /// Lines that [`LineLimit`] left out.
    left_out: Counter,
}

impl RequestLogger {
    pub(crate) fn new(log: Arc<dyn RequestLog>, left_out: Counter) -> Self {
        let levels = [
            (tracing::enabled!(Level::INFO), LevelFilter::INFO),
            (tracing::enabled!(Level::WARN), LevelFilter::WARN),
            (tracing::enabled!(Level::ERROR), LevelFilter::ERROR),
        ];
        let max_level = levels
            .into_iter()
            .find_map(|(is_enabled, level)| is_enabled.then_some(level))
            .unwrap_or(LevelFilter::OFF);
        Self {
            log,
            max_level,
            refused: Arc::default(),
            left_out,
        }
    }

    /// Logs one request. Leaves out lines of refused requests beyond a rate, since strangers can
    /// cause any number of them.
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
        if level > self.max_level {
            return;
        }
        // Our own faults are always logged.
        let is_limited = !matches!(answer.outcome, Outcome::Ok | Outcome::Broken);
        let ip = || peer.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        if is_limited && !self.refused.allows(ip()) {
            self.left_out.inc();
        } else {
            self.log
                .write(&entry(at, level, message, answer, peer, request, took));
        }
    }

    /// Logs how many lines were left out, if a report is due.
    pub(crate) fn report_left_out(&self) {
        if let Some(LeftOut { lines, over }) = self.refused.report() {
            warn!(
                lines,
                seconds = over.as_secs(),
                "more requests were refused than are logged; shaper_http_requests_total counts all of them"
            );
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
        uuid: answer.presented("uuid"),
        mac: answer.presented("mac"),
        serial: answer.presented("serial"),
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

#[cfg(test)]
mod tests {
    use boot::{ExtrinsicLabels, InvalidQuery, Subject};

    use super::*;
    use crate::answer::Route;

    fn identities(query: &str) -> [Option<String>; 3] {
        let answer = match Subject::from_query(query, &ExtrinsicLabels::default()) {
            Ok(subject) => Answer::text(Route::Script, String::new()).with_subject(subject.into()),
            Err(error) => invalid(query, &error),
        };
        let entry = entry(
            SystemTime::UNIX_EPOCH,
            Level::INFO,
            "served",
            &answer,
            "192.0.2.7",
            "1234-a",
            Duration::ZERO,
        );
        [entry.uuid, entry.serial, entry.mac].map(|value| value.map(str::to_owned))
    }

    fn invalid(query: &str, error: &InvalidQuery) -> Answer<'static> {
        Answer::bad_query(Route::Script, query, error)
    }

    #[test]
    fn every_presented_identity_is_logged_even_of_an_invalid_query() {
        let (uuid, mac) = ("47c6da67-7477-4970-aa03-84e48ff4f6ad", "52:54:00:12:34:56");
        let all = [Some(uuid), Some("SN1"), Some(mac)].map(|value| value.map(str::to_owned));
        assert_eq!(
            identities(&format!("uuid={uuid}&mac={mac}&serial=SN1")),
            all
        );
        let twice = format!("uuid={uuid}&mac={mac}&serial=SN1&asset=1&asset=2");
        assert_eq!(identities(&twice), all);
        assert_eq!(
            identities("uuid=x&serial=SN1&mac="),
            [Some("x".to_owned()), Some("SN1".to_owned()), None]
        );
        let long = format!("uuid=x&serial={}", "\u{e9}".repeat(2000));
        assert_eq!(identities(&long)[1].as_ref().map(String::len), Some(1024));
    }
}
