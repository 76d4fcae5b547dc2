//! The log: its format, its filter and where it goes.

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

/// Log settings.
#[derive(clap::Args)]
pub struct Args {
    /// Format of the log on standard error. Default: text on a terminal, else json
    #[arg(long, global = true, env = "SHAPER_LOG_FORMAT", value_enum)]
    log_format: Option<Format>,
    /// Log level: error, warn, info, debug or trace, optionally by module as in info,api=debug
    #[arg(long, global = true, env = "SHAPER_LOG", default_value = "info", value_name = "LEVEL", value_parser = parse_filter)]
    log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines: one object per line
    Json,
}

fn parse_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    // EnvFilter would take any other word for a module, and silence all others.
    let is_valid = |part: &str| match part.split_once('=') {
        Some((name, level)) => !name.is_empty() && is_level(level),
        None => is_level(part),
    };
    match text.split(',').find(|part| !is_valid(part)) {
        Some(part) => Err(format!(
            "{part:?} is not a log level; write one of {}, or MODULE=LEVEL",
            LEVELS.join(", ")
        )),
        None => Ok(text.to_owned()),
    }
}

/// The sink for request lines. Like `tracing`'s subscriber, it is global to the process.
static REQUEST_LOG: OnceLock<Arc<dyn RequestLog>> = OnceLock::new();

/// The sink for request lines, which discards them before [`init`].
pub(crate) fn request_log() -> Arc<dyn RequestLog> {
    REQUEST_LOG.get().cloned().unwrap_or_else(|| Arc::new(()))
}

/// Starts logging. Dropping the returned guard writes the lines that are still buffered.
#[must_use = "dropping the guard ends the log"]
pub fn init(args: &Args) -> Option<FlushGuard> {
    let terminal = io::stderr().is_terminal();
    let format = args
        .log_format
        .unwrap_or(if terminal { Format::Text } else { Format::Json });
    // `notify` warns about each watch that was removed with its directory.
    let filter = EnvFilter::new(format!("notify=error,{}", args.log));
    // If the writer's thread can't be started, each thread writes its own lines.
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

/// Calls `make` with an empty buffer, which is reused by the next call on this thread.
fn with_buffer<T>(make: impl FnOnce(&mut String) -> T) -> T {
    /// The capacity that the buffer keeps. A longer line's memory is freed.
    const RETAINED_BYTES: usize = 4096;
    thread_local! {
        static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
    }
    BUFFER.with(|buffer| {
        // A value that logs while it is formatted finds the buffer in use.
        let Ok(mut buffer) = buffer.try_borrow_mut() else {
            return make(&mut String::new());
        };
        buffer.clear();
        let made = make(&mut buffer);
        buffer.shrink_to(RETAINED_BYTES);
        made
    })
}

/// Returns what `run` logs at INFO and above, as JSON with one object per line.
#[cfg(test)]
pub(crate) fn capture(run: impl FnOnce()) -> String {
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .event_format(json::Json)
        .finish();
    tracing::subscriber::with_default(subscriber, run);
    let text = captured.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_rejected() {
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
