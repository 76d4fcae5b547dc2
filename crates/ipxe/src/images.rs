//! Rules on images and their arguments.

use std::collections::{BTreeMap, BTreeSet};

use crate::rule;

use super::script::{Command, Line, Word};
use super::{MOST, MOST_NAMES, Remark};

/// Programs that load other images themselves and ignore `initrd=`.
const NO_LINUX: [&str; 9] = [
    "wimboot",
    "memdisk",
    ".efi",
    "mboot",
    ".c32",
    "xen",
    "multiboot",
    "grub",
    "ipxe",
];

pub(super) fn check(lines: &[Line], platform: &str, remarks: &mut Vec<Remark>) {
    let commands: Vec<_> = lines.iter().flat_map(Line::commands).collect();
    one_word(&commands, remarks);
    let initrds: Vec<_> = commands
        .iter()
        .filter(|command| command.is(&["initrd", "module"]))
        .collect();
    // Labels mean branches, so which initrd belongs to which kernel is unknown.
    if initrds.is_empty()
        || initrds
            .iter()
            .any(|command| command.arguments().next().is_none())
    {
        return;
    }
    let fetches = || {
        commands
            .iter()
            .filter(|command| command.is(&["initrd", "module", "imgfetch", "imgextract"]))
    };
    let names: BTreeSet<Option<String>> = fetches().map(image_name).collect();
    let told_later = commands.iter().any(|command| command.is(&["imgargs"]));
    let most = remarks.len() + MOST;
    for kernel in commands
        .iter()
        .filter(|command| command.is(&["kernel", "imgselect"]))
    {
        if remarks.len() >= most {
            break;
        }
        let Some(uri) = kernel.arguments().next() else {
            continue;
        };
        let rest = &kernel.words[1..];
        if !is_linux(uri)
            || rest
                .iter()
                .any(|word| word.text.contains("${") && word != uri)
        {
            continue;
        }
        let told: Vec<_> = rest
            .iter()
            .filter(|word| word.text.starts_with("initrd="))
            .collect();
        if told.is_empty() && !told_later && platform == "efi" {
            let name = image_name(initrds[0]).unwrap_or_else(|| "NAME".to_owned());
            let message =
                "the kernel is not told the name of its initrd: on UEFI, Linux finds it only by initrd=NAME on its command line".to_owned();
            remarks.push(
                Remark::at(&rule::NO_INITRD, uri, message)
                    .help(format!("add initrd={name} to this line")),
            );
        }
        for word in told {
            unknown_image(word, &names, remarks);
        }
    }
}

/// Returns whether an image may be a Linux kernel, by its URL or name.
pub(super) fn is_linux(image: &Word) -> bool {
    let lower = image.text.to_ascii_lowercase();
    !NO_LINUX.iter().any(|other| lower.contains(other))
}

fn unknown_image(word: &Word, names: &BTreeSet<Option<String>>, remarks: &mut Vec<Remark>) {
    // A name that depends on a setting could be this one.
    if names.contains(&None) {
        return;
    }
    for told in word.text["initrd=".len()..]
        .split(',')
        .filter(|told| !told.is_empty() && *told != "initrd.magic")
    {
        if !names.contains(&Some(told.to_owned())) {
            let known: Vec<_> = names
                .iter()
                .flatten()
                .map(String::as_str)
                .take(MOST_NAMES)
                .collect();
            let hint = boot::nearest::did_you_mean(told, known.iter().copied());
            let shown: Vec<_> = known.iter().copied().take(10).collect();
            let message = format!(
                "{told} is not an image that this script fetches{hint}; there is {}",
                shown.join(", ")
            );
            remarks.push(Remark::at(&rule::INITRD_NAME, word, message));
        }
    }
}

/// Returns the name of the image that a command fetches: the given one, or the last part of the
/// URL's path. `None` if it depends on a setting.
fn image_name(command: &Command<'_>) -> Option<String> {
    let given = command.option(&["-n", "--name"]);
    let uri = || command.arguments().next().map(|word| word.text.as_str());
    let name = match given {
        Some(name) => name,
        None => {
            let path = uri()?.split(['?', '#']).next()?;
            path.rsplit('/').next()?
        }
    };
    (!name.contains(['$', '{', '}']) && !name.is_empty()).then(|| name.to_owned())
}

/// Reports `set line http://... arg` followed by `chain ${line}`: a setting expands to one word,
/// whatever it contains.
fn one_word(commands: &[Command<'_>], remarks: &mut Vec<Remark>) {
    let mut of_several: BTreeMap<&str, usize> = BTreeMap::new();
    for command in commands {
        let mut arguments = command.arguments();
        if command.is(&["set"]) {
            let name = arguments.next().map_or("", |word| word.text.as_str());
            let name = name.split(':').next().unwrap_or(name);
            let values = arguments.count();
            if values > 1 {
                of_several.insert(name, values);
            } else {
                of_several.remove(name);
            }
        } else if command.is(&[
            "chain",
            "kernel",
            "initrd",
            "module",
            "imgfetch",
            "imgexec",
            "imgselect",
        ]) {
            let Some(word) = arguments.next() else {
                continue;
            };
            let name = word
                .text
                .strip_prefix("${")
                .and_then(|rest| rest.strip_suffix('}'))
                .unwrap_or_default();
            if let Some(values) = of_several.get(name) {
                let message = format!(
                    "{} was set to {values} words but expands to one: its spaces become %20 in the URL",
                    word.text
                );
                remarks.push(
                    Remark::at(&rule::ONE_WORD, word, message)
                        .help("write the arguments out, or set one setting for each"),
                );
            }
        }
    }
}
