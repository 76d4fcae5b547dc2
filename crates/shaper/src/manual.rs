//! `shaper completions` and `shaper man`: print shell completions and man pages, generated from the
//! command line.

mod page;
mod sections;

use anyhow::{Context, bail};
use clap::Command;
use clap_complete::Shell;

use inspect::console;

/// Print completions for a shell
///
/// For bash: `shaper completions bash > /etc/bash_completion.d/shaper`. For zsh, write a file
/// `_shaper` to a directory in $fpath. For fish: `shaper completions fish >
/// ~/.config/fish/completions/shaper.fish`.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual
///
/// As a man page: `shaper man | man -l -`, and `shaper man validate` for one command.
#[derive(clap::Args)]
pub struct ManArgs {
    /// The command. Default: the page of shaper itself
    command: Option<String>,
}

/// Prints completions.
pub fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut command, "shaper", &mut out);
    print(&out)
}

/// Prints a man page.
pub fn man(args: &ManArgs, mut command: Command) -> anyhow::Result<()> {
    command.build();
    let page = match &args.command {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(found) => found.clone(),
            None => {
                let names: Vec<_> = command
                    .get_subcommands()
                    .map(|command| command.get_name().to_owned())
                    .collect();
                let hint = boot::nearest::did_you_mean(name, names.iter().map(String::as_str));
                bail!(
                    "unknown command {name:?}{hint}; commands are {}",
                    names.join(", ")
                );
            }
        },
    };
    let mut out = Vec::new();
    page::render(args.command.as_deref().unwrap_or_default(), &page, &mut out)
        .context("can't render the man page")?;
    print(&out)
}

fn print(out: &[u8]) -> anyhow::Result<()> {
    console::print(&String::from_utf8_lossy(out)).context("can't print")
}
