//! Rules on control flow.

use std::collections::BTreeMap;

use boot::nearest::did_you_mean;

use crate::rule;

use super::script::{After, Command, Line, Word};
use super::{MOST, MOST_NAMES, Remark};

pub(super) fn check(lines: &[Line], remarks: &mut Vec<Remark>) {
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    let most = remarks.len() + MOST;
    for line in lines {
        let Some(label) = &line.label else { continue };
        let name = &label.text[1..];
        if let Some(first) = labels.get(name).filter(|_| remarks.len() < most) {
            let message = format!(
                "the label :{name} is on line {first} already; goto leads there, never here"
            );
            remarks.push(Remark::at(&rule::DUPLICATE_LABEL, label, message));
        } else {
            labels.entry(name).or_insert(line.number);
        }
    }
    let commands = || {
        lines.iter().flat_map(|line| {
            line.commands()
                .into_iter()
                .map(move |command| (line.number, command))
        })
    };
    let gotos = || commands().filter_map(|(number, command)| Some((number, target(&command)?)));
    let most = remarks.len() + MOST;
    for (_, word) in gotos() {
        if remarks.len() >= most {
            break;
        }
        if !labels.contains_key(word.text.as_str()) {
            let hint = did_you_mean(&word.text, labels.keys().copied().take(MOST_NAMES));
            let message = format!("there is no label :{} in this script{hint}", word.text);
            remarks.push(Remark::at(&rule::NO_SUCH_LABEL, word, message));
        }
    }
    // A backward jump makes a loop, from the label to the `goto`.
    let loops: Vec<_> = gotos()
        .filter_map(|(end, word)| Some((*labels.get(word.text.as_str())?, end, word.text.as_str())))
        .filter(|(start, end, _)| start <= end)
        .collect();
    let most = remarks.len() + MOST;
    for (number, command) in commands() {
        if remarks.len() >= most {
            break;
        }
        if !(command.is(&["exit"]) && command.after == After::Failure) {
            continue;
        }
        if let Some((_, _, label)) = loops
            .iter()
            .find(|(start, end, _)| (*start..=*end).contains(&number))
        {
            let message = format!(
                "the first failure leaves the loop of :{label} here, so it never retries; the firmware continues with its next boot device"
            );
            remarks.push(
                Remark::at(&rule::EXIT_IN_RETRY, command.name(), message)
                    .help(format!("write `|| goto {label}`, after a `sleep`")),
            );
        }
    }
}

/// Returns the label that a `goto` names, if it is a literal.
fn target<'l>(command: &Command<'l>) -> Option<&'l Word> {
    let word = command
        .arguments()
        .next()
        .filter(|_| command.is(&["goto"]))?;
    (!word.text.contains("${")).then_some(word)
}
