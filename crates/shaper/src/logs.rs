//! Where the log goes and how it looks.

mod json;
mod queue;
mod requests;
mod text;

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::sync::{Arc, OnceLock};

use api::RequestLog;
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use queue::Queue;
use requests::RequestWriter;

pub use queue::FlushGuard;

/// How to log.
#[derive(clap::Args)]
pub struct Args {
    /// How the log on standard error looks: text on a terminal and json otherwise, if not given
    #[arg(long, global = true, env = "SHAPER_LOG_FORMAT", value_enum)]
    log_format: Option<Format>,
    /// What to log: error, warn, info, debug or trace, also by part as in info,api=debug
    #[arg(long, global = true, env = "SHAPER_LOG", default_value = "info", value_name = "LEVEL", value_parser = parse_filter)]
    log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines: one object a line
    Json,
}

fn parse_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    // A word alone would be taken for a part of the program, and silence all others.
    let is_valid = |part: &str| match part.split_once('=') {
        Some((name, level)) => !name.is_empty() && is_level(level),
        None => is_level(part),
    };
    match text.split(',').find(|part| !is_valid(part)) {
        Some(part) => Err(format!(
            "{part:?} is no level; there are {}, and PART=LEVEL",
            LEVELS.join(", ")
        )),
        None => Ok(text.to_owned()),
    }
}

/// As `tracing` has it for all other lines, the log is one for the whole process.
static REQUEST_LOG: OnceLock<Arc<dyn RequestLog>> = OnceLock::new();

/// Where the lines of requests go: nowhere before [`init`].
pub(crate) fn request_log() -> Arc<dyn RequestLog> {
    REQUEST_LOG.get().cloned().unwrap_or_else(|| Arc::new(()))
}

/// Starts to log. What waits to be written is written when the value is dropped.
#[must_use = "what waits to be written is lost without it"]
pub fn init(args: &Args) -> Option<FlushGuard> {
    let terminal = io::stderr().is_terminal();
    let format = args
        .log_format
        .unwrap_or(if terminal { Format::Text } else { Format::Json });
    // A watch that went with its folder is no news.
    let filter = EnvFilter::new(format!("notify=error,{}", args.log));
    // Without a thread for it, whoever logs writes.
    let queue = Queue::start(io::stderr()).ok();
    let flush = queue.as_ref().map(Queue::flush_guard);
    let has_colours = format == Format::Text && terminal && std::env::var_os("NO_COLOR").is_none();
    let requests = RequestWriter {
        format,
        has_colours,
        queue: queue.clone(),
    };
    REQUEST_LOG.get_or_init(|| Arc::new(requests));
    let writer = match queue {
        Some(queue) => BoxMakeWriter::new(queue),
        None => BoxMakeWriter::new(io::stderr),
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_target(false);
    match format {
        Format::Text => builder
            .with_ansi(has_colours)
            .event_format(text::Text)
            .init(),
        Format::Json => builder
            .with_ansi(has_colours)
            .event_format(json::Json)
            .init(),
    }
    flush
}

/// Makes a line in a text that is there already, empty at first.
fn with_buffer<T>(make: impl FnOnce(&mut String) -> T) -> T {
    /// A line of usual length; room for a longer one is given back.
    const RETAINED_BYTES: usize = 4096;
    thread_local! {
        static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
    }
    BUFFER.with(|buffer| {
        // A value that logs while it is written finds the other line in use, and makes one of its own.
        let Ok(mut buffer) = buffer.try_borrow_mut() else {
            return make(&mut String::new());
        };
        buffer.clear();
        let made = make(&mut buffer);
        buffer.shrink_to(RETAINED_BYTES);
        made
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_refused_and_silences_nothing() {
        for text in ["info", "WARN", "info,api=debug", "off,feed=trace"] {
            assert_eq!(parse_filter(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "inf",
            "info,",
            "api=",
            "=info",
            "info,api=loud",
            "shaper",
        ] {
            assert!(parse_filter(text).is_err(), "{text:?}");
        }
    }
}
