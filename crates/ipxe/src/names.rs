//! Rules on names: commands, settings, types, values.

use boot::arch;
use boot::nearest::did_you_mean;

use crate::rule;

use super::script::{Command, Line, Word};
use super::{MOST, Remark};

/// The commands of iPXE (`ipxe:src/hci/commands`, `ipxe:src/core/exec.c`,
/// `ipxe:src/image/script.c`, `ipxe:src/hci/shell.c`), including those that only some builds have,
/// and those that builds since 2019 have and newer ones lack.
const COMMANDS: [&str; 110] = [
    "autoboot",
    "boot",
    "certfree",
    "certstat",
    "certstore",
    "chain",
    "choose",
    "clear",
    "colour",
    "config",
    "console",
    "cpair",
    "cpuid",
    "dhcp",
    "digest",
    "echo",
    "efimap",
    "exit",
    "fcels",
    "fcstat",
    "fdt",
    "fetchvar",
    "form",
    "gdbstub",
    "goto",
    "help",
    "ibstat",
    "ifclose",
    "ifconf",
    "iflinkwait",
    "ifopen",
    "ifstat",
    "imgacquire",
    "imgargs",
    "imgdecrypt",
    "imgexec",
    "imgextract",
    "imgfetch",
    "imgfree",
    "imgload",
    "imgmem",
    "imgselect",
    "imgset",
    "imgstat",
    "imgtrust",
    "imgverify",
    "inc",
    "initrd",
    "ipstat",
    "iseq",
    "isset",
    "item",
    "iwassoc",
    "iwlist",
    "iwstat",
    "kernel",
    "login",
    "lotest",
    "md4sum",
    "md5sum",
    "menu",
    "module",
    "neighbour",
    "nslookup",
    "nstat",
    "ntp",
    "param",
    "params",
    "pciscan",
    "ping",
    "pnplist",
    "poweroff",
    "present",
    "profstat",
    "prompt",
    "pxebs",
    "read",
    "reboot",
    "route",
    "sanboot",
    "sanhook",
    "sanunhook",
    "set",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "sha512_224sum",
    "sha512_256sum",
    "shell",
    "shim",
    "show",
    "sleep",
    "startpxe",
    "stoppxe",
    "sync",
    "time",
    "usbscan",
    "userdata",
    "vcreate",
    "vdestroy",
    "wpa",
    "hwclock",
    "imgsize",
    "uuid",
    "lldp",
    "pxe",
    "color",
    "dynui",
];

/// The types of settings (`ipxe:src/core/settings.c` and others that register one).
const TYPES: [&str; 22] = [
    "string",
    "uristring",
    "ipv4",
    "ipv6",
    "ipv6lla",
    "int8",
    "int16",
    "int32",
    "uint8",
    "uint16",
    "uint32",
    "hex",
    "hexhyp",
    "hexraw",
    "base64",
    "uuid",
    "guid",
    "busdevfn",
    "dnssl",
    "dhcp",
    "hexdump",
    "uint64",
];

/// The values of `${platform}` (`ipxe:src/arch`, `PLATFORM`).
const PLATFORMS: [&str; 5] = ["pcbios", "efi", "linux", "sbi", "none"];

pub(super) fn is_command(name: &str) -> bool {
    COMMANDS.contains(&name)
}

pub(super) fn check(lines: &[Line], remarks: &mut Vec<Remark>) {
    let most = remarks.len() + MOST;
    for line in lines {
        if remarks.len() >= most {
            break;
        }
        for command in line.commands() {
            unknown(&command, remarks);
            never_equal(&command, remarks);
            set_type(&command, remarks);
        }
        line.code().iter().for_each(|word| settings(word, remarks));
    }
}

fn unknown(command: &Command<'_>, remarks: &mut Vec<Remark>) {
    let name = &command.name().text;
    if is_command(name) || name.contains("${") {
        return;
    }
    let hint = did_you_mean(name, COMMANDS);
    remarks.push(Remark::at(
        &rule::UNKNOWN_COMMAND,
        command.name(),
        format!("iPXE has no command {name:?}{hint}"),
    ));
}

/// Checks the innermost `${...}` of a word.
fn settings(word: &Word, remarks: &mut Vec<Remark>) {
    let mut rest = word.text.as_str();
    let mut open = 0;
    while let Some(at) = rest.find(['$', '}']) {
        if let Some(inner) = rest[at..].strip_prefix("${") {
            open += 1;
            let content = inner
                .find(['$', '}'])
                .map(|end| (&inner[..end], inner[end..].starts_with('}')));
            if let Some((content, true)) = content {
                setting_type(word, content, remarks);
            }
            rest = inner;
        } else {
            if rest[at..].starts_with('}') && open > 0 {
                open -= 1;
            }
            rest = &rest[at + 1..];
        }
    }
    if open > 0 {
        let message = format!(
            "${{ has no }} in the word {:?}: iPXE splits a line at spaces first, and does not expand it",
            word.text
        );
        remarks.push(
            Remark::at(&rule::UNCLOSED_SETTING, word, message)
                .help("write ${NAME} without spaces in it"),
        );
    }
}

fn setting_type(word: &Word, content: &str, remarks: &mut Vec<Remark>) {
    let Some((_, kind)) = content.rsplit_once(':') else {
        return;
    };
    if !TYPES.contains(&kind) {
        let message = format!("unknown setting type {kind:?}{}", did_you_mean(kind, TYPES));
        remarks.push(
            Remark::at(&rule::SETTING_TYPE, word, message)
                .help(format!("there are {}", TYPES[..19].join(", "))),
        );
    }
}

/// Checks the type in `set name:type value`.
fn set_type(command: &Command<'_>, remarks: &mut Vec<Remark>) {
    if let Some(name) = command
        .arguments()
        .next()
        .filter(|name| command.is(&["set", "read", "inc"]) && !name.text.contains("${"))
    {
        setting_type(name, &name.text, remarks);
    }
}

fn never_equal(command: &Command<'_>, remarks: &mut Vec<Remark>) {
    let arguments: Vec<_> = command.arguments().collect();
    let ([a, b], true) = (arguments.as_slice(), command.is(&["iseq"])) else {
        return;
    };
    for (setting, value) in [(a, b), (b, a)] {
        let text = value.text.as_str();
        let (meant, hint) = match setting.text.as_str() {
            _ if text.contains("${") => continue,
            "${buildarch}" if arch::canonical(text) != text => {
                (arch::canonical(text).into_owned(), String::new())
            }
            "${platform}" if !PLATFORMS.contains(&text) => match text.to_ascii_lowercase().as_str()
            {
                "bios" | "pc" | "legacy" => ("pcbios".to_owned(), String::new()),
                "uefi" => ("efi".to_owned(), String::new()),
                _ => (PLATFORMS[..2].join(" or "), did_you_mean(text, PLATFORMS)),
            },
            _ => continue,
        };
        let message = format!("{} is never {text:?} in iPXE{hint}", setting.text);
        remarks.push(Remark::at(&rule::NEVER_EQUAL, value, message).help(format!("write {meant}")));
    }
}
