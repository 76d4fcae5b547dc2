//! Generates `flags.md`: the command line.

use clap::{Arg, ArgAction, Command, CommandFactory};
use shaper::cli::{Cli, SERVER_EXIT_CODES};

use crate::markdown::{code, described, head, sentence, table};

pub(crate) fn page() -> String {
    of(Cli::command())
}

/// Generates the page of a command with subcommands.
pub(crate) fn of(mut command: Command) -> String {
    command.build();
    let mut page = head(
        "Command line",
        "Every subcommand of `shaper`, its flags and their environment variables. A flag on the command line wins over its \
         variable. Flags that can be repeated take several values in one variable, separated by commas.",
    );
    page += "\n## All subcommands\n\n";
    page += &flags(&command, is_listed);
    for subcommand in command.get_subcommands() {
        if subcommand.get_name() != "help" && !subcommand.is_hide_set() {
            page += &section(subcommand);
        }
    }
    page
}

/// Whether the page lists an argument. `--help` and `--version` need no explanation.
fn is_listed(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "help" | "version")
}

fn section(command: &Command) -> String {
    let name = command.get_name();
    let about = command.get_about().map(ToString::to_string);
    let mut text = format!(
        "\n## shaper {name}\n\n{}\n",
        described(&format!("the command {name}"), about.as_deref())
    );
    let long = command.get_long_about().map(ToString::to_string);
    let rest = long.as_deref().and_then(|long| long.split_once("\n\n"));
    if let Some((_, rest)) = rest {
        text += &format!("\n{}\n", rest.trim());
    }
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    text += &format!("\n```text\n{usage}\n```\n\n");
    text += &flags(command, |arg| is_listed(arg) && !arg.is_global_set());
    text + &exit_codes(command)
}

fn flags(command: &Command, is_meant: impl Fn(&Arg) -> bool) -> String {
    let mut rows = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && is_meant(arg))
        .map(|arg| row(command, arg))
        .peekable();
    if rows.peek().is_none() {
        return "It takes no flags.\n".to_owned();
    }
    table(["flag", "environment", "default", "meaning"], rows)
}

fn row(command: &Command, arg: &Arg) -> [String; 4] {
    let values: Vec<&str> = arg
        .get_value_names()
        .unwrap_or_default()
        .iter()
        .map(AsRef::as_ref)
        .collect();
    let takes_value = arg.get_action().takes_values();
    let name = match (arg.get_long(), arg.get_short()) {
        (Some(long), Some(short)) => format!("-{short}, --{long}"),
        (Some(long), None) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => values.join(" "),
    };
    let name = if takes_value && !arg.is_positional() {
        format!("{name} {}", values.join(" "))
    } else {
        name
    };
    let environment = arg.get_env().map(|name| code(&name.to_string_lossy()));
    let defaults = arg.get_default_values().iter();
    let defaults: Vec<_> = defaults.map(|value| value.to_string_lossy()).collect();
    let default = match (defaults.is_empty(), arg.is_required_set()) {
        (false, _) if takes_value => code(&defaults.join(",")),
        (_, true) => "required".to_owned(),
        _ => String::new(),
    };
    let help = arg.get_long_help().or(arg.get_help());
    let what = format!("shaper {} {name}", command.get_name());
    let mut meaning = described(&what, help.map(ToString::to_string).as_deref());
    let possible: Vec<_> = if takes_value {
        arg.get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| match value.get_help() {
                Some(help) => format!("{} ({help})", code(value.get_name())),
                None => code(value.get_name()),
            })
            .collect()
    } else {
        Vec::new()
    };
    if !possible.is_empty() {
        meaning += &format!(" One of {}.", possible.join(", "));
    }
    if matches!(arg.get_action(), ArgAction::Append)
        && !arg.is_positional()
        && !meaning.to_lowercase().contains("repeat")
    {
        meaning += " Repeatable.";
    }
    [
        code(&name),
        environment.unwrap_or_default(),
        default,
        meaning,
    ]
}

/// Returns the exit codes that the end of the help lists, or those of a server.
fn exit_codes(command: &Command) -> String {
    let help = command
        .get_after_long_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let listed: Vec<_> = help
        .lines()
        .skip_while(|line| *line != "Exit code:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split_once("  "))
        .map(|(code, meaning)| (code.to_owned(), meaning.to_owned()))
        .collect();
    let codes = if listed.is_empty() {
        SERVER_EXIT_CODES
            .iter()
            .map(|(code, meaning)| (code.to_string(), (*meaning).to_owned()))
            .collect()
    } else {
        listed
    };
    let rows = codes
        .into_iter()
        .map(|(number, meaning)| [code(&number), sentence(&meaning)]);
    format!("\n{}", table(["exit code", "meaning"], rows))
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    #[should_panic(expected = "shaper serve --port PORT has no description")]
    fn a_flag_without_help_is_refused() {
        let serve = Command::new("serve")
            .about("Serve")
            .arg(Arg::new("port").long("port").value_name("PORT"));
        of(Command::new("shaper").subcommand(serve));
    }

    #[test]
    fn a_flag_is_listed_with_its_default_and_environment() {
        let flag = Arg::new("mode")
            .long("mode")
            .value_name("MODE")
            .env("SHAPER_MODE")
            .default_value("fast")
            .value_parser(["fast", "slow"])
            .help("How fast");
        let page = of(Command::new("shaper").subcommand(Command::new("go").about("Go").arg(flag)));
        let row = "| `--mode MODE` | `SHAPER_MODE` | `fast` | How fast. One of `fast`, `slow`. |\n";
        assert!(page.contains(row), "{page}");
    }
}
