//! Rules on lines and on how they are split into words.

use crate::rule;

use super::names::is_command;
use super::script::{Line, Word, is_space};
use super::{MOST, Remark};

/// Maximum number of arguments; iPXE fails a command with more (`46162001`).
const MAX_ARGUMENTS: usize = 255;
/// Number of words from which BIOS builds of iPXE hang: each word takes room on a small stack.
const HANGING_WORDS: usize = 500;
const MANY_WORDS: usize = 200;
const LONG_LINE_BYTES: usize = 4096;

pub(super) fn check(script: &str, lines: &[Line], remarks: &mut Vec<Remark>) {
    let most = remarks.len() + MOST;
    lines.iter().for_each(|line| {
        if remarks.len() < most {
            length(line, remarks);
        }
    });
    let most = remarks.len() + MOST;
    for line in lines {
        if remarks.len() >= most {
            break;
        }
        let code = line.code();
        non_ascii(code, remarks);
        for (at, word) in code.iter().enumerate() {
            glued_operator(word, code.get(at + 1), remarks);
        }
        for command in line.commands() {
            glued_comment(command.words, remarks);
            quotes(command.name(), &command.words[1..], remarks);
        }
        line.words
            .iter()
            .for_each(|word| url_fragment(word, remarks));
    }
    let most = remarks.len() + MOST;
    for (at, text) in script.lines().enumerate() {
        if remarks.len() >= most {
            break;
        }
        characters(at + 1, text, remarks);
    }
}

fn length(line: &Line, remarks: &mut Vec<Remark>) {
    let words = line.words.len();
    let longest = line
        .commands()
        .iter()
        .map(|command| command.words.len())
        .max()
        .unwrap_or(0);
    if longest > MAX_ARGUMENTS || words >= HANGING_WORDS {
        let message = format!(
            "this line has {words} words; iPXE rejects a command of more than {MAX_ARGUMENTS} (error 46162001), and on BIOS hangs at {HANGING_WORDS} or slightly more"
        );
        remarks.push(
            Remark::of_line(&rule::TOO_MANY_WORDS, line, message)
                .help("use fewer words, or move arguments into a config that the system fetches"),
        );
    } else if words > MANY_WORDS {
        let message = format!(
            "this line has {words} words; each word uses iPXE's small stack, and a command of 256 words fails"
        );
        remarks.push(
            Remark::of_line(&rule::MANY_WORDS, line, message)
                .help(format!("keep a line below {MANY_WORDS} words")),
        );
    }
    if line.bytes > LONG_LINE_BYTES {
        let message = format!(
            "this line has {} bytes; Linux cuts a command line at 2,048 or 4,096 bytes, and old builds of iPXE have little memory",
            line.bytes
        );
        remarks.push(Remark::of_line(&rule::LONG_LINE, line, message));
    }
}

/// Reports non-ASCII characters once per line, since a text in another language has many.
fn non_ascii(code: &[Word], remarks: &mut Vec<Remark>) {
    if let Some((word, c)) = code
        .iter()
        .find_map(|word| Some((word, word.text.chars().find(|c| !c.is_ascii())?)))
    {
        let message = format!(
            "{c:?} is not ASCII: consoles show other characters, and URLs send other bytes"
        );
        remarks.push(
            Remark::at(&rule::NON_ASCII, word, message)
                .help("use ASCII; percent-encode it in a URL"),
        );
    }
}

fn characters(line: usize, text: &str, remarks: &mut Vec<Remark>) {
    let text = text.strip_suffix('\r').unwrap_or(text);
    if let Some((at, c)) = text
        .chars()
        .enumerate()
        .find(|(_, c)| c.is_control() && *c != '\t')
    {
        let what = if c == '\0' {
            "ends the line for iPXE"
        } else {
            "is not text for iPXE"
        };
        let message = format!("the control character U+{:04X} {what}", u32::from(c));
        remarks.push(Remark {
            rule: &rule::CONTROL_CHARACTER,
            line,
            columns: at + 1..at + 2,
            message,
            help: None,
        });
    }
    let trimmed = text.trim_end_matches(is_space);
    if trimmed.len() < text.len()
        && trimmed.ends_with('\\')
        && !trimmed.trim_start().starts_with('#')
    {
        let column = trimmed.chars().count();
        let message =
            "white space follows the backslash, so iPXE does not join the next line".to_owned();
        let remark = Remark {
            rule: &rule::BACKSLASH_SPACE,
            line,
            columns: column..column + 1,
            message,
            help: None,
        };
        remarks.push(remark.help("remove the white space after the backslash"));
    }
}

fn glued_operator(word: &Word, next: Option<&Word>, remarks: &mut Vec<Remark>) {
    let text = word.text.as_str();
    if matches!(text, "||" | "&&" | ";") {
        return;
    }
    // Prose may contain a semicolon; only a command after it shows that a separator was meant.
    let separates =
        |operator: &str| operator != ";" || next.is_some_and(|next| is_command(&next.text));
    let end = ["||", "&&", ";"]
        .into_iter()
        .find(|operator| text.ends_with(operator) && separates(operator));
    // Matches what looks like the start of a command, not a query (`a=1&&b=2`) or a list.
    let start = ["||", "&&", ";"]
        .into_iter()
        .find(|operator| text.strip_prefix(operator).is_some_and(is_command));
    if let Some(operator) = end.or(start) {
        let message = format!(
            "{operator} is part of the word {text:?}: iPXE recognizes it only as a separate word"
        );
        remarks.push(
            Remark::at(&rule::GLUED_OPERATOR, word, message)
                .help(format!("put spaces around {operator}")),
        );
    }
}

/// Reports `boot# comment`: the `#` does not start a word, so it does not start a comment.
fn glued_comment(words: &[Word], remarks: &mut Vec<Remark>) {
    for (at, word) in words.iter().enumerate() {
        let Some((before, after)) = word.text.split_once('#') else {
            continue;
        };
        let is_comment = !before.is_empty()
            && ((after.is_empty() && at + 1 < words.len()) || (at == 0 && is_command(before)));
        if is_comment && !before.contains("://") {
            let message = format!(
                "the # in {:?} does not start a comment: iPXE reads it as part of the word",
                word.text
            );
            remarks.push(
                Remark::at(&rule::GLUED_COMMENT, word, message).help("put a space before the #"),
            );
        }
    }
}

fn url_fragment(word: &Word, remarks: &mut Vec<Remark>) {
    let Some((before, after)) = word.text.split_once('#') else {
        return;
    };
    // `##NAME` is a list of parameters to send.
    if before.contains("://") && !after.starts_with('#') {
        let message = format!("the URL ends at its #: iPXE does not send \"#{after}\"");
        remarks.push(
            Remark::at(&rule::URL_FRAGMENT, word, message)
                .help("write %23 for a # that belongs to the URL"),
        );
    }
}

/// Reports quotes, except in kernel command lines, which have their own quoting, and in text that
/// is only displayed.
fn quotes(name: &Word, arguments: &[Word], remarks: &mut Vec<Remark>) {
    if !matches!(
        name.text.as_str(),
        "set" | "chain" | "imgfetch" | "initrd" | "module" | "param" | "iseq" | "isset" | "goto"
    ) {
        return;
    }
    let is_quoted = |word: &&Word| word.text.len() > 1 && word.text.starts_with(['"', '\'']);
    if let Some(word) = arguments.iter().find(is_quoted) {
        let message = format!(
            "iPXE has no quotes: the quotation mark of {} is taken literally, and spaces still separate words",
            word.text
        );
        remarks.push(
            Remark::at(&rule::QUOTES, word, message)
                .help("remove the quotation marks; write a space in a URL as %20"),
        );
    }
}
