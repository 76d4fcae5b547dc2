//! Renders a man page: what clap knows of a command, with exit status, files and examples.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;

use super::sections::{EXAMPLES, FILES, SEE_ALSO};

/// Parts of a command's long help, which become sections.
#[derive(Default)]
struct Help {
    notes: Vec<String>,
    /// Headings with the lines below them.
    exit_status: Vec<(String, Vec<String>)>,
    examples: Vec<(String, Vec<String>)>,
}

/// Renders the man page of a built command. `name` is the subcommand, or empty for `shaper` itself.
pub(super) fn render(name: &str, command: &Command, out: &mut Vec<u8>) -> io::Result<()> {
    let has_subcommands = command.get_subcommands().next().is_some();
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if has_subcommands {
        man.render_subcommands_section(out)?;
    }
    let help = command
        .get_after_long_help()
        .map(|help| Help::parse(&help.to_string()))
        .unwrap_or_default();
    blocks(out, "EXIT STATUS", &help.exit_status)?;
    if !help.notes.is_empty() {
        writeln!(out, ".SH NOTES")?;
        for note in &help.notes {
            writeln!(out, ".PP\n{}", escape(note))?;
        }
    }
    let files = of(FILES, name);
    if !files.is_empty() {
        writeln!(out, ".SH FILES")?;
        for (file, meaning) in files {
            writeln!(out, ".TP\n{}\n{}", escape(file), escape(meaning))?;
        }
    }
    let own = of(EXAMPLES, name)
        .iter()
        .map(|(what, line)| (format!("{what}:"), vec![format!("  {line}")]));
    let examples: Vec<_> = help.examples.into_iter().chain(own).collect();
    blocks(out, "EXAMPLES", &examples)?;
    writeln!(out, ".SH SEE ALSO\n{}", escape(&see_also(name, command)))?;
    // Subcommands have no version, and clap_mangen panics without one.
    if command.get_version().is_some() {
        man.render_version_section(out)?;
    }
    Ok(())
}

/// The entries of a table for one command.
fn of<T>(table: &'static [(&str, &[T])], name: &str) -> &'static [T] {
    table
        .iter()
        .find(|(command, _)| *command == name)
        .map_or(&[], |(_, entries)| *entries)
}

/// Writes a section of headings with literal lines below them.
fn blocks(out: &mut Vec<u8>, section: &str, blocks: &[(String, Vec<String>)]) -> io::Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    writeln!(out, ".SH {section}")?;
    for (heading, lines) in blocks {
        if !matches!(heading.as_str(), "Examples:" | "Exit code:") {
            writeln!(out, ".PP\n{}", escape(heading))?;
        }
        writeln!(out, ".nf")?;
        for line in lines {
            writeln!(out, "{}", escape(line))?;
        }
        writeln!(out, ".fi")?;
    }
    Ok(())
}

/// The pages of all subcommands, or of the command's relatives.
fn see_also(name: &str, command: &Command) -> String {
    let subcommands: Vec<_> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| *name != "help")
        .collect();
    let (first, own) = if name.is_empty() {
        (None, subcommands.as_slice())
    } else {
        (Some("shaper(1)".to_owned()), &[][..])
    };
    let related = of(SEE_ALSO, name).iter().map(|page| (*page).to_owned());
    let own = own.iter().map(|name| format!("shaper-{name}(1)"));
    let pages: Vec<_> = first.into_iter().chain(own).chain(related).collect();
    pages.join(", ")
}

/// Escapes text so that roff prints it as it is.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    // A line that starts with one of these would be a request.
    escaped
        .split('\n')
        .map(|line| match line.chars().next() {
            Some('.' | '\'') => format!("\\&{line}"),
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

// === impl Help ===

impl Help {
    /// Splits the text into paragraphs. A heading with indented lines below it is a list of exit
    /// codes or an example.
    fn parse(text: &str) -> Self {
        let mut help = Self::default();
        for paragraph in text.split("\n\n") {
            let mut lines = paragraph.lines().map(str::to_owned);
            let first = lines.next().unwrap_or_default();
            let rest: Vec<_> = lines.collect();
            let is_list = !rest.is_empty() && rest.iter().all(|line| line.starts_with("  "));
            if !is_list {
                help.notes.push(paragraph.to_owned());
            } else if first == "Exit code:" {
                help.exit_status.push((first, rest));
            } else {
                help.examples.push((first, rest));
            }
        }
        help
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    fn page(name: &str) -> String {
        let mut command = Cli::command();
        command.build();
        let command = match name {
            "" => command,
            name => command.find_subcommand(name).unwrap().clone(),
        };
        let mut out = Vec::new();
        render(name, &command, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_page_has_examples_and_refers_to_others() {
        let names = Cli::command();
        let names = names.get_subcommands().map(Command::get_name);
        for name in names.chain([""]) {
            let page = page(name);
            let section = |title: &str| page.find(&format!("\n.SH {title}\n"));
            let (examples, see_also) = (section("EXAMPLES"), section("SEE ALSO"));
            assert!(examples < see_also, "{name:?}: {page}");
            assert!(examples.is_some(), "{name:?}: {page}");
            assert!(!page.contains(".SH EXTRA"), "{name:?}");
        }
    }

    #[test]
    fn every_example_is_a_valid_command_line() {
        for (name, examples) in EXAMPLES {
            for (_, line) in *examples {
                let words = line.split_whitespace();
                let words = words.take_while(|word| !matches!(*word, "|" | ">"));
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{name}: {line}: {error}");
                }
            }
        }
    }

    #[test]
    fn every_table_entry_is_for_a_command() {
        let command = Cli::command();
        let names = FILES.iter().map(|(name, _)| name);
        let names = names.chain(EXAMPLES.iter().map(|(name, _)| name));
        for name in names.chain(SEE_ALSO.iter().map(|(name, _)| name)) {
            let is_command = name.is_empty() || command.find_subcommand(name).is_some();
            assert!(is_command, "{name:?}");
        }
    }

    #[test]
    fn the_page_of_a_server_lists_its_files() {
        let page = page("standalone");
        let files = page.find("\n.SH FILES\n").unwrap();
        assert!(page[files..].contains("config\\-ids.json"), "{page}");
        assert!(page.contains("shaper(1), "), "{page}");
    }

    #[test]
    fn exit_codes_and_examples_of_the_help_are_sections() {
        let page = page("validate");
        for text in [
            ".SH EXIT STATUS\n.nf\n  0  ",
            ".SH EXAMPLES\n.nf\n  shaper validate manifests/\n",
        ] {
            assert!(page.contains(text), "{text:?} is not in {page}");
        }
    }

    #[test]
    fn escaped_text_has_no_requests() {
        assert_eq!(escape(".nf\n-a\\b\n'x"), "\\&.nf\n\\-a\\eb\n\\&'x");
    }
}
