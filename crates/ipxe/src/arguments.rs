//! Rules on the command line of a Linux kernel.

use boot::identity::parse_uuid;

use crate::rule;

use super::images::is_linux;
use super::script::{Command, Line, Word};
use super::{MOST, Remark};

/// Size of the kernel's copy of its command line, with the NUL at the end, on x86 and arm64
/// (`COMMAND_LINE_SIZE` of Linux).
const COMMAND_LINE_BYTES: usize = 2048;
/// Commands whose words are text for people.
const TEXT_COMMANDS: [&str; 4] = ["echo", "item", "menu", "prompt"];
/// The parameters of cloud-init that name the seed (`cloudinit/sources/DataSourceNoCloud.py`).
const SEEDS: [&str; 2] = ["s=", "seedfrom="];

pub(super) fn check(lines: &[Line], remarks: &mut Vec<Remark>) {
    let most = remarks.len() + MOST;
    for command in lines.iter().flat_map(Line::commands) {
        if remarks.len() >= most {
            return;
        }
        length(&command, remarks);
        if !command.is(&TEXT_COMMANDS) {
            command.words[1..]
                .iter()
                .for_each(|word| nocloud(word, remarks));
        }
    }
}

/// Reports a command line that Linux cuts. What a setting expands to is not counted.
fn length(command: &Command<'_>, remarks: &mut Vec<Remark>) {
    if !command.is(&["kernel", "imgargs", "imgselect"]) {
        return;
    }
    let Some(image) = command.arguments().next().filter(|image| is_linux(image)) else {
        return;
    };
    let first = command.words.iter().position(|word| word == image);
    let arguments = &command.words[first.map_or(0, |at| at + 1)..];
    let literal = |word: &Word| match word.text.split_once("${") {
        Some((before, _)) => before.len(),
        None => word.text.len(),
    };
    let bytes = arguments.iter().map(literal).sum::<usize>() + arguments.len().saturating_sub(1);
    if bytes < COMMAND_LINE_BYTES {
        return;
    }
    let message = format!(
        "the kernel's command line has {bytes} bytes; on x86 and arm64, Linux keeps the first {} and ignores the rest",
        COMMAND_LINE_BYTES - 1
    );
    remarks.push(Remark::at(&rule::COMMAND_LINE, image, message).help(
        "move arguments into a config that the system fetches, or name fewer labels in the query",
    ));
}

/// Reports a seed of cloud-init's `NoCloud` that cloud-init can't fetch.
fn nocloud(word: &Word, remarks: &mut Vec<Remark>) {
    let text = word.text.trim_matches(['"', '\'']);
    let Some(source) = text.strip_prefix("ds=nocloud") else {
        return;
    };
    let mut parameters = source.split(';');
    let is_net = parameters.next() == Some("-net");
    let Some(seed) = parameters.find_map(|parameter| {
        let name = SEEDS.iter().find(|name| parameter.starts_with(**name))?;
        Some(&parameter[name.len()..])
    }) else {
        return;
    };
    // `%s` stands for the name of the file.
    let is_folder = seed.ends_with('/') || seed.contains("%s");
    if is_config_link(seed) {
        let message = "cloud-init appends user-data and meta-data to the URL, which is the link of a config and not a folder".to_owned();
        remarks.push(
            Remark::at(&rule::NOCLOUD_SEED, word, message)
                .help("write the link through the filter: {{ NAME | nocloud }}"),
        );
    } else if !is_folder && !seed.contains(['?', '$']) {
        let message =
            "cloud-init appends user-data and meta-data to the URL, which does not end in /"
                .to_owned();
        remarks.push(
            Remark::at(&rule::NOCLOUD_SEED, word, message).help("add a / at the end of the URL"),
        );
    } else if !is_net && seed.contains("://") {
        let message = "cloud-init before 24.1 ignores ds=nocloud with a URL".to_owned();
        remarks.push(
            Remark::at(&rule::NOCLOUD_NET, word, message)
                .help("write ds=nocloud-net, which later versions accept as well"),
        );
    }
}

/// Returns whether a URL is the link of a config, with the labels in its query.
fn is_config_link(url: &str) -> bool {
    let path = url.split('?').next().unwrap_or_default();
    let id = path.rsplit_once("/config/").map(|(_, id)| id);
    id.is_some_and(|id| parse_uuid(id.trim_end_matches('/')).is_some())
        && !url.ends_with("%s")
        && (url.contains('?') || !url.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use crate::lint;

    const LINK: &str = "http://boot/config/47c6da67-7477-4970-aa03-84e48ff4f6ad";

    fn rules(line: &str) -> Vec<&'static str> {
        let script = format!("#!ipxe\n{line}\nboot\n");
        let remarks = lint(&script, "efi").into_iter();
        remarks
            .map(|remark| remark.rule.id)
            .filter(|rule| rule.contains("nocloud") || rule.contains("command-line"))
            .collect()
    }

    #[test]
    fn a_seed_that_is_no_folder_is_an_error() {
        for line in [
            format!("kernel http://a/k ds=nocloud-net;s={LINK}?mac=52:54:00:00:00:01"),
            format!("kernel http://a/k ds=nocloud;s={LINK}?mac=52:54:00:00:00:01/ quiet"),
            format!("kernel http://a/k \"ds=nocloud;seedfrom={LINK}\""),
            format!("imgargs k ds=nocloud-net;h=web;s={LINK}"),
            format!("set args ds=nocloud-net;s={LINK}?a=b"),
            "kernel http://a/k ds=nocloud-net;s=http://files/seed".to_owned(),
        ] {
            assert_eq!(rules(&line), ["ipxe-nocloud-seed"], "{line}");
        }
        for line in [
            format!("kernel http://a/k ds=nocloud-net;s={LINK}/mac=52:54:00:00:00:01/"),
            format!("kernel http://a/k ds=nocloud-net;s={LINK}/"),
            "kernel http://a/k ds=nocloud-net;s=http://files/seed/;h=web".to_owned(),
            "kernel http://a/k ds=nocloud-net;s=http://files/seed?file=".to_owned(),
            "kernel http://a/k ds=nocloud-net;s=http://files/%s?a=b".to_owned(),
            "kernel http://a/k ds=nocloud-net;s=${seed}".to_owned(),
            "kernel http://a/k ds=nocloud;s=/mnt/seed/".to_owned(),
            "kernel http://a/k ds=nocloud".to_owned(),
            format!("echo ds=nocloud;s={LINK}"),
        ] {
            assert_eq!(rules(&line), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_url_that_old_versions_of_cloud_init_ignore_is_reported() {
        let line = "kernel http://a/k ds=nocloud;s=http://files/seed/";
        assert_eq!(rules(line), ["ipxe-nocloud-net"]);
    }

    #[test]
    fn a_command_line_that_linux_cuts_is_reported() {
        let arguments = |bytes: usize| "a".repeat(bytes);
        for (line, is_reported) in [
            (
                format!("kernel -n k http://a/vmlinuz {}", arguments(2047)),
                false,
            ),
            (
                format!("kernel -n k http://a/vmlinuz {}", arguments(2048)),
                true,
            ),
            (
                format!("kernel http://a/vmlinuz b {}", arguments(2046)),
                true,
            ),
            (format!("imgargs vmlinuz {}", arguments(2048)), true),
            (
                format!("kernel http://a/wimboot {}", arguments(2048)),
                false,
            ),
            (
                format!("kernel http://a/vmlinuz {} ${{args}}", arguments(2040)),
                false,
            ),
            (format!("echo {}", arguments(3000)), false),
        ] {
            let expected: &[&str] = if is_reported {
                &["ipxe-command-line"]
            } else {
                &[]
            };
            assert_eq!(rules(&line), expected, "{line:.60}");
        }
    }
}
