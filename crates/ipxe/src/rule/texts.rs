//! The text of the reference for each rule, beyond its summary.

/// The reference text of one rule.
#[derive(Debug)]
pub struct Text {
    /// The id of the rule.
    pub rule: &'static str,
    /// What happens when the rule is broken.
    pub why: &'static str,
    /// Example messages. `...` matches anything; tests compare these with real messages.
    pub says: &'static [&'static str],
    /// What to do.
    pub remedy: &'static str,
    /// The source of iPXE's behaviour: its code (`ipxe:PATH`, at v2.0.0), its issues, or runs in
    /// virtual machines (tried). `None` for rules that are not about iPXE.
    pub source: Option<&'static str>,
}

// === impl Text ===

impl Text {
    /// The text of a rule that is not about iPXE.
    pub const fn new(
        rule: &'static str,
        why: &'static str,
        says: &'static [&'static str],
        remedy: &'static str,
    ) -> Self {
        Self {
            rule,
            why,
            says,
            remedy,
            source: None,
        }
    }
}

const fn text(
    rule: &'static str,
    why: &'static str,
    says: &'static [&'static str],
    remedy: &'static str,
    source: &'static str,
) -> Text {
    Text {
        source: Some(source),
        ..Text::new(rule, why, says, remedy)
    }
}

/// The reference texts, in the order of [`super::RULES`].
pub static TEXTS: &[Text] = &[
    text(
        "ipxe-shebang",
        "iPXE recognizes a script by this line; without it, a BIOS build runs the text as machine code. shaper adds the line if it is missing.",
        &[
            "the script starts with \"boot\"; iPXE recognizes a script by its first line #!ipxe, which shaper adds",
        ],
        "Make `#!ipxe` the first line.",
        "`ipxe:src/image/script.c`, tried",
    ),
    text(
        "ipxe-too-many-words",
        "A command with more words fails with error 46162001. From 500 words on, BIOS builds hang: each word uses a small stack, also in comments.",
        &[
            "this line has 301 words; iPXE rejects a command of more than 255 (error 46162001), and on BIOS hangs at 500 or slightly more",
        ],
        "Use fewer words, or move arguments into a config that the system fetches.",
        "`ipxe:src/core/exec.c` (`system`), tried",
    ),
    text(
        "ipxe-many-words",
        "The limit of 255 words is near.",
        &[
            "this line has 211 words; each word uses iPXE's small stack, and a command of 256 words fails",
        ],
        "Keep a line below 200 words.",
        "`ipxe:src/core/exec.c` (`system`), tried",
    ),
    text(
        "ipxe-long-line",
        "Linux truncates its command line at 2,048 bytes or a little more on most architectures; old builds of iPXE have half a megabyte of memory in all.",
        &["this line has 5005 bytes; Linux cuts a command line at 2,048 or 4,096 bytes"],
        "Move arguments into a config that the system fetches.",
        "`COMMAND_LINE_SIZE` of Linux",
    ),
    text(
        "ipxe-non-ascii",
        "Consoles show other characters, and URLs send such bytes as `%FFFFFFC3`.",
        &["'é' is not ASCII: consoles show other characters, and URLs send other bytes"],
        "Use ASCII; percent-encode other characters in a URL.",
        "`ipxe:src/core/uri.c`, tried",
    ),
    text(
        "ipxe-control-character",
        "A NUL ends the line; other control characters are sent and shown unchanged.",
        &["the control character U+0007 is not text for iPXE"],
        "Remove the character.",
        "`ipxe:src/image/script.c`",
    ),
    text(
        "ipxe-glued-operator",
        "`url||` is a URL that ends in two bars: the fallback never runs.",
        &["|| is part of the word \"http://a/||\": iPXE recognizes it only as a separate word"],
        "Put spaces around the operator.",
        "`ipxe:src/core/exec.c` (`command_terminator`), tried",
    ),
    text(
        "ipxe-glued-comment",
        "`boot# now` has no comment.",
        &["the # in \"boot#\" does not start a comment: iPXE reads it as part of the word"],
        "Put a space before the `#`.",
        "`ipxe:src/core/exec.c` (`command_terminator`), tried",
    ),
    text(
        "ipxe-url-fragment",
        "iPXE does not send what follows the `#`. `##NAME`, a list of parameters, is fine.",
        &["the URL ends at its #: iPXE does not send \"#x\""],
        "Write `%23` for a `#` that belongs to the URL.",
        "`ipxe:src/core/uri.c`, tried",
    ),
    text(
        "ipxe-exit-in-retry",
        "`|| exit` between a label and the `goto` that leads back to it ends the script with success: the firmware continues with its next boot device.",
        &["the first failure leaves the loop of :retry here, so it never retries"],
        "Write `|| goto retry`, after a `sleep`.",
        "`ipxe:src/core/exec.c` (`exit_exec`)",
    ),
    text(
        "ipxe-kernel-without-initrd",
        "On UEFI, Linux's EFI stub looks for the file that its command line names; without it the kernel panics because it finds no root.",
        &[
            "the kernel is not told the name of its initrd: on UEFI, Linux finds it only by initrd=NAME on its command line",
        ],
        "Add `initrd=NAME` to the line of the kernel.",
        "Linux, `Documentation/admin-guide/efi-stub.rst`",
    ),
    text(
        "ipxe-initrd-name",
        "An image is named by `--name`, or by the last part of its URL's path.",
        &["x is not an image that this script fetches (did you mean `y`?)"],
        "Write the name of an image that the script fetches.",
        "`ipxe:src/core/image.c`",
    ),
    text(
        "ipxe-unknown-command",
        "The script ends there with \"command not found\".",
        &["iPXE has no command \"kernal\" (did you mean `kernel`?)"],
        "Write a command that iPXE has.",
        "`ipxe:src/core/exec.c` (`execv`), `ipxe:src/hci/commands`",
    ),
    text(
        "ipxe-no-such-label",
        "The script ends there.",
        &["there is no label :nowhere in this script"],
        "Add the label, or fix its name.",
        "`ipxe:src/image/script.c` (`goto_exec`)",
    ),
    text(
        "ipxe-duplicate-label",
        "`goto` leads to the first of them.",
        &["the label :a is on line 2 already; goto leads there, never here"],
        "Rename one of the labels.",
        "`ipxe:src/image/script.c` (`goto_find_label`)",
    ),
    text(
        "ipxe-unclosed-setting",
        "iPXE splits a line into words first: `${serial number}` is two words, not a setting.",
        &[
            "${ has no } in the word \"${serial\": iPXE splits a line at spaces first, and does not expand it",
        ],
        "Write `${NAME}` without spaces in it.",
        "`ipxe:src/core/settings.c` (`expand_settings`)",
    ),
    text(
        "ipxe-setting-type",
        "The setting is not expanded, or is empty.",
        &["unknown setting type \"hexhypp\" (did you mean `hexhyp`?)"],
        "Write a type that iPXE knows; the message lists them.",
        "`ipxe:src/core/settings.c`",
    ),
    text(
        "ipxe-never-equal",
        "`${buildarch}` is `x86_64`, never `amd64`; `${platform}` is `efi` or `pcbios`.",
        &["${buildarch} is never \"amd64\" in iPXE"],
        "Compare with the value that iPXE has.",
        "`ipxe:src/Makefile.housekeeping`",
    ),
    text(
        "ipxe-quotes",
        "iPXE has no quotes: the mark is part of the word, and spaces still separate words. A kernel's command line may have quotes.",
        &[
            "iPXE has no quotes: the quotation mark of \"http://a/b is taken literally, and spaces still separate words",
        ],
        "Remove the quotation marks; write a space in a URL as `%20`.",
        "`ipxe:src/core/exec.c` (`split_command`), tried",
    ),
    text(
        "ipxe-backslash-space",
        "With a space after the backslash, iPXE joins nothing.",
        &["white space follows the backslash, so iPXE does not join the next line"],
        "Remove the white space after the backslash.",
        "`ipxe:src/image/script.c`",
    ),
    text(
        "ipxe-one-word",
        "An expanded value never becomes two words: its spaces are sent as `%20`.",
        &["${args} was set to 3 words but expands to one: its spaces become %20 in the URL"],
        "Write the arguments out, or set one setting for each.",
        "ipxe/ipxe#1305",
    ),
    text(
        "ipxe-command-line",
        "On x86 and arm64, Linux keeps 2,047 bytes of its command line and ignores the rest without a word. A config's link often stands at the end.",
        &[
            "the kernel's command line has 2100 bytes; on x86 and arm64, Linux keeps the first 2047 and ignores the rest",
        ],
        "Move arguments into a config that the system fetches, or name fewer labels in the query.",
        "`COMMAND_LINE_SIZE` of Linux",
    ),
    text(
        "ipxe-nocloud-seed",
        "cloud-init appends `user-data` and `meta-data` to the URL. Behind the query of a link, they become the end of the last label.",
        &[
            "cloud-init appends user-data and meta-data to the URL, which is the link of a config and not a folder",
            "cloud-init appends user-data and meta-data to the URL, which does not end in /",
        ],
        "Write the link of a config through the filter `nocloud`, or end the URL with `/`.",
        "cloud-init, `cloudinit/util.py` (`read_seeded`)",
    ),
    text(
        "ipxe-nocloud-net",
        "Before 24.1 (Debian 12 has 22.4), cloud-init accepts a URL only after `ds=nocloud-net`, and ignores it without a word otherwise.",
        &["cloud-init before 24.1 ignores ds=nocloud with a URL"],
        "Write `ds=nocloud-net`, which later versions accept as well.",
        "cloud-init, `cloudinit/sources/DataSourceNoCloud.py`",
    ),
];
