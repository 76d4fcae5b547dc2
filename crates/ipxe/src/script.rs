//! Parses a script as iPXE does: into lines, then words, then commands (`ipxe:src/image/script.c`,
//! `ipxe:src/core/exec.c`).
//!
//! A line that ends with a backslash continues in the next. A word that starts with `:` at the
//! start of a line is a label, and a command may follow it. White space separates words; there are
//! no quotes. `||`, `&&` and `;` as words separate commands; a word that starts with `#` starts a
//! comment.

/// A word and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The columns of the first character and of the one after the last, counted from 1.
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A line of the script, with the continuation lines that a backslash joins to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// The line number, counted from 1.
    pub(super) number: usize,
    pub(super) bytes: usize,
    pub(super) label: Option<Word>,
    /// All words except the label, including those of a comment.
    pub(super) words: Vec<Word>,
}

/// The separator between a command and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Start,
    Failure,
    Success,
    Always,
}

/// A command with its arguments: at least one word.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'l> {
    pub(super) after: After,
    pub(super) words: &'l [Word],
}

/// Splits a text into lines.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut chars: Vec<(char, usize, usize)> = Vec::new();
    let mut number = 1;
    for (at, physical) in text.split('\n').enumerate() {
        let physical = physical.strip_suffix('\r').unwrap_or(physical);
        let joined = physical.strip_suffix('\\');
        chars.extend(
            joined
                .unwrap_or(physical)
                .chars()
                .enumerate()
                .map(|(column, c)| (c, at + 1, column + 1)),
        );
        if joined.is_none() {
            lines.push(line(number, &chars));
            chars.clear();
            number = at + 2;
        }
    }
    if !chars.is_empty() {
        lines.push(line(number, &chars));
    }
    lines
}

fn line(number: usize, chars: &[(char, usize, usize)]) -> Line {
    let mut words: Vec<Word> = Vec::new();
    for run in chars
        .split(|(c, ..)| is_space(*c))
        .filter(|run| !run.is_empty())
    {
        let (first, last) = (run[0], run[run.len() - 1]);
        // Of a word that a backslash joins, only the part on its first line is shown.
        let end = run
            .iter()
            .take_while(|(_, line, _)| *line == first.1)
            .last()
            .unwrap_or(&last)
            .2
            + 1;
        words.push(Word {
            text: run.iter().map(|(c, ..)| *c).collect(),
            line: first.1,
            start: first.2,
            end,
        });
    }
    let bytes = chars.iter().map(|(c, ..)| c.len_utf8()).sum();
    let label = words
        .first()
        .is_some_and(|word| word.text.starts_with(':'))
        .then(|| words.remove(0));
    Line {
        number,
        bytes,
        label,
        words,
    }
}

/// Whether C's `isspace` accepts the character.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

// === impl Line ===

impl Line {
    /// Returns the words before a comment.
    pub(super) fn code(&self) -> &[Word] {
        let end = self
            .words
            .iter()
            .position(|word| word.text.starts_with('#'))
            .unwrap_or(self.words.len());
        &self.words[..end]
    }

    /// Returns the commands, without empty ones.
    pub(super) fn commands(&self) -> Vec<Command<'_>> {
        let mut commands = Vec::new();
        let (mut after, mut rest) = (After::Start, self.code());
        loop {
            let end = rest
                .iter()
                .position(|word| operator(&word.text).is_some())
                .unwrap_or(rest.len());
            if end > 0 {
                commands.push(Command {
                    after,
                    words: &rest[..end],
                });
            }
            let Some(next) = rest.get(end).and_then(|word| operator(&word.text)) else {
                return commands;
            };
            after = next;
            rest = &rest[end + 1..];
        }
    }
}

// === impl Command ===

impl<'l> Command<'l> {
    pub(super) fn name(&self) -> &'l Word {
        &self.words[0]
    }

    pub(super) fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name().text.as_str())
    }

    /// Returns the words that are neither options nor values of options.
    pub(super) fn arguments(&self) -> impl Iterator<Item = &'l Word> {
        let mut words = self.words[1..].iter();
        std::iter::from_fn(move || {
            loop {
                let word = words.next()?;
                match word.text.as_str() {
                    "-n" | "--name" | "-t" | "--timeout" | "--signer" | "-s" | "--drive" | "-d"
                    | "--keep"
                        if takes_value(&word.text) =>
                    {
                        words.next();
                    }
                    text if text.starts_with('-') && text.len() > 1 => {}
                    _ => return Some(word),
                }
            }
        })
    }

    /// Returns the value of an option.
    pub(super) fn option(&self, names: &[&str]) -> Option<&'l str> {
        let at = self
            .words
            .iter()
            .position(|word| names.contains(&word.text.as_str()))?;
        self.words.get(at + 1).map(|word| word.text.as_str())
    }
}

fn takes_value(option: &str) -> bool {
    option != "--keep"
}

fn operator(word: &str) -> Option<After> {
    match word {
        "||" => Some(After::Failure),
        "&&" => Some(After::Success),
        ";" => Some(After::Always),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continued_lines_are_joined_and_words_keep_their_positions() {
        let lines = lines("#!ipxe\n:go kernel a \\\n  b || \\\r\n goto go # c\nend");
        let texts = |words: &[Word]| {
            words
                .iter()
                .map(|word| word.text.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            lines.iter().map(|line| line.number).collect::<Vec<_>>(),
            [1, 2, 5]
        );
        assert_eq!(lines[1].label.as_ref().unwrap().text, ":go");
        assert_eq!(
            texts(lines[1].code()),
            ["kernel", "a", "b", "||", "goto", "go"]
        );
        let b = &lines[1].code()[2];
        assert_eq!((b.line, b.start, b.end), (3, 3, 4));
        let commands = lines[1].commands();
        assert_eq!(
            commands
                .iter()
                .map(|command| command.after)
                .collect::<Vec<_>>(),
            [After::Start, After::Failure]
        );
        assert!(lines[0].code().is_empty());
    }

    #[test]
    fn options_are_not_arguments() {
        let lines = lines("initrd --name x --timeout 5 -q http://h/i a");
        let commands = lines[0].commands();
        let arguments: Vec<_> = commands[0]
            .arguments()
            .map(|word| word.text.as_str())
            .collect();
        assert_eq!(arguments, ["http://h/i", "a"]);
        assert_eq!(commands[0].option(&["-n", "--name"]), Some("x"));
    }
}
