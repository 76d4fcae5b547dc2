//! Where the log goes and how it looks.

mod line;

use std::io::{self, IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How to log.
#[derive(clap::Args)]
pub struct Args {
    /// How the log on standard error looks: text on a terminal and json otherwise, if not given
    #[arg(long, global = true, env = "SHAPER_LOG_FORMAT", value_enum)]
    log_format: Option<Format>,
    /// What to log: error, warn, info, debug or trace, also by part as in info,api=debug
    #[arg(long, global = true, env = "SHAPER_LOG", default_value = "info", value_name = "LEVEL")]
    log: String,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines: one object a line
    Json,
}

/// Starts to log.
pub fn init(args: &Args) {
    let terminal = io::stderr().is_terminal();
    let format = args.log_format.unwrap_or(if terminal { Format::Text } else { Format::Json });
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|error| {
        eprintln!("shaper: --log {:?} is no filter ({error}); logging at info", args.log);
        EnvFilter::new("info")
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    match format {
        Format::Text => builder.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).event_format(line::Line).init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}
