//! Follows the lines of an iPXE script through a template, to know which command a value is part of.

use std::collections::BTreeSet;

use minijinja::machinery::ast::Stmt;

/// iPXE commands that join their words to a text for people (`ipxe:src/hci/commands`). In all
/// others, white space divides arguments, of the command or of the kernel that it starts.
const TEXT_COMMANDS: [&str; 4] = ["echo", "item", "menu", "prompt"];
/// Of a longer line, nothing counts as known.
const MAX_LINE_BYTES: usize = 1024;
/// What may end a command or a line.
const ENDS: [char; 6] = ['&', '|', ';', '\\', '#', '\n'];
/// Stands for a part of a line that is not known: a value, or a branch.
const UNKNOWN: char = '\u{1}';

/// The current line of a script, as far as it is known.
#[derive(Clone, Debug, Default)]
pub(super) struct ScriptLine(String);

/// Where a script expands its settings.
#[derive(Debug, Default)]
pub(super) struct Expansions {
    /// The settings that are expanded elsewhere than in texts for people, without their scope.
    as_arguments: BTreeSet<String>,
    /// Whether one of these is the number of a DHCP option.
    has_number: bool,
    /// Whether the name of one is not known.
    has_unknown: bool,
}

// === impl ScriptLine ===

impl ScriptLine {
    /// Appends text of the template.
    pub(super) fn push(&mut self, text: &str) {
        self.0.push_str(text);
        if let Some(start) = last_line(&self.0) {
            self.0.drain(..start);
        }
        if self.0.len() > MAX_LINE_BYTES {
            *self = Self::unknown();
        }
    }

    /// Returns a line of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self(UNKNOWN.to_string())
    }

    /// Returns the line at the start of each round of a loop.
    pub(super) fn in_loop(&self, body: &[Stmt<'_>]) -> Self {
        let is_whole = self.0.trim().is_empty()
            && matches!(body.last(), Some(Stmt::EmitRaw(raw))
                if last_line(raw.raw).is_some_and(|start| raw.raw[start..].trim().is_empty()));
        if is_whole {
            return self.clone();
        }
        let mut text = String::new();
        body.iter()
            .for_each(|statement| append(statement, &mut text));
        if text.contains(ENDS) {
            return Self::unknown();
        }
        let mut line = self.clone();
        line.push_unknown();
        line
    }

    /// Appends something that is not known.
    pub(super) fn push_unknown(&mut self) {
        self.0.push(UNKNOWN);
    }

    /// Returns the line after one of two branches, or none, was written.
    pub(super) fn after_branches(before: &Self, yes: &Self, no: &Self) -> Self {
        if yes.0 == no.0 {
            return yes.clone();
        }
        let is_harmless = |branch: &Self| {
            branch
                .0
                .strip_prefix(&*before.0)
                .is_some_and(|added| !added.contains(ENDS))
        };
        let mut line = Self::default();
        if is_harmless(yes) && is_harmless(no) {
            line.clone_from(before);
        }
        line.push_unknown();
        line
    }

    /// Returns whether white space in a value that is written now is part of a text for people, so
    /// that it divides nothing.
    pub(super) fn is_text(&self, expansions: &Expansions) -> bool {
        let Some((command, first)) = command(&self.0) else {
            return false;
        };
        TEXT_COMMANDS.contains(&command)
            || command.starts_with('#')
            || command == "set" && first.is_some_and(|name| !expansions.are_arguments(name))
    }
}

// === impl Expansions ===

impl Expansions {
    pub(super) fn of(root: &Stmt<'_>) -> Self {
        let mut text = String::new();
        append(root, &mut text);
        let mut expansions = Self::default();
        let mut rest = &*text;
        while let Some(start) = first_line(rest) {
            expansions.add(&rest[..start]);
            rest = &rest[start..];
        }
        expansions.add(rest);
        expansions
    }

    fn add(&mut self, line: &str) {
        let is_text = command(line).is_some_and(|(command, _)| TEXT_COMMANDS.contains(&command))
            && !line.contains("&&")
            && !line.contains("||");
        if is_text {
            return;
        }
        for rest in line.split("${").skip(1) {
            let name = rest.split(['}', ':']).next().unwrap_or_default();
            // The name of one setting may be the value of another, as in `${${name}}`.
            if name.contains([UNKNOWN, '$']) || name.is_empty() {
                self.has_unknown = true;
            } else {
                let name = without_scope(name);
                self.has_number |= is_number(name);
                self.as_arguments.insert(name.to_owned());
            }
        }
    }

    /// Returns whether the value of a setting may become arguments of a command.
    fn are_arguments(&self, setting: &str) -> bool {
        // Without its type (`set NAME:TYPE VALUE`).
        let name = without_scope(setting.split(':').next().unwrap_or_default());
        self.has_unknown
            || setting.contains([UNKNOWN, '$'])
            || self.has_number
            || is_number(name)
            || self.as_arguments.contains(name)
    }
}

/// Returns whether a setting is the number of a DHCP option, which has a name as well.
fn is_number(setting: &str) -> bool {
    setting.bytes().all(|byte| byte.is_ascii_digit())
}

fn without_scope(setting: &str) -> &str {
    setting.rsplit('/').next().unwrap_or_default()
}

/// Returns the last command of a line and its first argument, or `None` if it is not known.
fn command(line: &str) -> Option<(&str, Option<&str>)> {
    let mut command = None;
    let mut argument = None;
    let mut is_start = true;
    let words = line.split(|c: char| c.is_whitespace() || c == '\\');
    for word in words.filter(|word| !word.is_empty()) {
        if matches!(word, "||" | "&&" | ";") {
            (command, argument, is_start) = (None, None, true);
        } else if is_start {
            (command, is_start) = (Some(word), false);
        } else if argument.is_none() {
            argument = Some(word);
        }
    }
    // A value right after the command may be a part of its name.
    let command = command.filter(|command| !command.contains(UNKNOWN))?;
    let is_ended =
        line.trim_end_matches(char::is_whitespace).len() < line.len() || argument.is_some();
    is_ended.then_some((command, argument))
}

/// Returns where the second line begins, if there is one. A backslash joins two lines
/// (`ipxe:src/image/script.c`).
fn first_line(text: &str) -> Option<usize> {
    let mut ends = text.match_indices('\n').map(|(at, _)| at);
    ends.find(|at| ends_line(text, *at)).map(|at| at + 1)
}

/// Returns where the last line begins, if there are two.
fn last_line(text: &str) -> Option<usize> {
    let mut ends = text.rmatch_indices('\n').map(|(at, _)| at);
    ends.find(|at| ends_line(text, *at)).map(|at| at + 1)
}

fn ends_line(text: &str, newline: usize) -> bool {
    let before = &text[..newline];
    !before.strip_suffix('\r').unwrap_or(before).ends_with('\\')
}

/// Appends the text of a template, with [`UNKNOWN`] for values and around branches.
fn append(statement: &Stmt<'_>, text: &mut String) {
    let mut blocks = |blocks: &[&[Stmt<'_>]]| {
        for block in blocks {
            text.push(UNKNOWN);
            block.iter().for_each(|statement| append(statement, text));
        }
        text.push(UNKNOWN);
    };
    match statement {
        Stmt::Template(template) => template
            .children
            .iter()
            .for_each(|statement| append(statement, text)),
        Stmt::EmitRaw(raw) => text.push_str(raw.raw),
        Stmt::ForLoop(each) => blocks(&[&each.body, &each.else_body]),
        Stmt::IfCond(branch) => blocks(&[&branch.true_body, &branch.false_body]),
        Stmt::WithBlock(with) => blocks(&[&with.body]),
        Stmt::SetBlock(set) => blocks(&[&set.body]),
        Stmt::Set(_) => {}
        _ => text.push(UNKNOWN),
    }
}
