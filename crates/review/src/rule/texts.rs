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
    /// Where the rule is checked.
    pub checked_by: CheckedBy,
    /// The source of iPXE's behaviour: its code (`ipxe:PATH`, at v2.0.0), its issues, or runs in
    /// virtual machines (tried).
    pub source: Option<&'static str>,
}

/// Where a rule is checked, besides `shaper validate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedBy {
    /// Nowhere else: an API server has no files.
    Validate,
    /// In the webhook.
    Webhook,
    /// In the webhook; a condition of the object reports it as well.
    WebhookAndCondition(&'static str),
    /// In the API server, by schema and CEL, and in the webhook if it is asked.
    Server,
}

const fn text(
    rule: &'static str,
    checked_by: CheckedBy,
    why: &'static str,
    says: &'static [&'static str],
    remedy: &'static str,
) -> Text {
    Text {
        rule,
        why,
        says,
        remedy,
        checked_by,
        source: None,
    }
}

/// Creates the text of a linter rule.
const fn ipxe(
    rule: &'static str,
    why: &'static str,
    says: &'static [&'static str],
    remedy: &'static str,
    source: &'static str,
) -> Text {
    Text {
        rule,
        why,
        says,
        remedy,
        checked_by: CheckedBy::Webhook,
        source: Some(source),
    }
}

/// The reference texts, in the order of [`super::ALL`].
pub static TEXTS: &[Text] = &[
    text(
        "file",
        CheckedBy::Validate,
        "Nothing in the file could be served.",
        &[],
        "Fix the file; the message names the line.",
    ),
    text(
        "schema",
        CheckedBy::Server,
        "An API server would refuse the object, or drop the field without a word.",
        &["does not match the schema: ..."],
        "Write the field as [the resources](resources.md) have it.",
    ),
    text(
        "conversion",
        CheckedBy::Server,
        "The catalog could not hold the object.",
        &[
            "\"nonsense\" is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56",
        ],
        "Write the value as the message says.",
    ),
    text(
        "template",
        CheckedBy::Webhook,
        "Every machine would get a 500.",
        &[
            "line 2 of the text: `nobody` is not defined (configs of this Profile: none; built-in variables: subject, encoded, profile, assignment, base_url)",
        ],
        "Use a name of the list, or add a config of that name.",
    ),
    text(
        "duplicate-object",
        CheckedBy::Validate,
        "Which of the two is served would depend on the names of files.",
        &[],
        "Remove one of them, or rename it.",
    ),
    text(
        "render",
        CheckedBy::Webhook,
        "Machines like the sample would get a 500.",
        &[
            "it can't be rendered for a sample machine (x86_64, efi): it exceeds the work limit of one answer; use smaller loops and less text",
        ],
        "Fix the template for that architecture, or make it smaller.",
    ),
    text(
        "no-manifests",
        CheckedBy::Validate,
        "A check of the wrong folder finds nothing wrong.",
        &[],
        "Name the folder that holds Profiles and Assignments.",
    ),
    text(
        "unrendered",
        CheckedBy::Validate,
        "A kustomization changes what it includes, and the templates of a chart are not YAML.",
        &[],
        "Give `shaper validate -` what `kustomize build DIR` or `helm template DIR` prints.",
    ),
    text(
        "conflict",
        CheckedBy::WebhookAndCondition("Conflicted"),
        "Nobody chose the answer, and a new object may change it.",
        &["Assignment n/web matches uuid 47c6... too, and goes first only because it is older"],
        "Give one of them another priority, or more labels.",
    ),
    text(
        "no-profile",
        CheckedBy::WebhookAndCondition("ProfileFound"),
        "The machines of the Assignment get a 404: they never fall through to the next Assignment.",
        &[
            "no Profile in namespace n has the labels os=linus: its machines boot nothing (did you mean os=linux?)",
        ],
        "Fix `profileSelectors`, or label a Profile.",
    ),
    text(
        "no-profile-for-arch",
        CheckedBy::Webhook,
        "The Assignment names no machines, and its namespace has Profiles for more architectures: machines of the others get a 404.",
        &[
            "machines of arm64 that it matches boot nothing: the Profiles that it selects are for x86_64",
        ],
        "Select a Profile for each architecture, or select machines by `buildarch`.",
    ),
    text(
        "unused-profile",
        CheckedBy::Webhook,
        "No machine boots the Profile; often a label is mistyped.",
        &["no Assignment in namespace n selects this Profile, so that no machine boots it"],
        "Write an Assignment whose `profileSelectors` are among its labels, or remove the Profile.",
    ),
    text(
        "placeholder",
        CheckedBy::Webhook,
        "The identity matches no machine, so that one filler text can't give one machine's system to a hundred.",
        &[
            "\"To be filled by O.E.M.\" is what boards say that nobody gave an identity: it matches no machine",
        ],
        "Name the machine by another identity, or by its MAC address.",
    ),
    text(
        "never-matches",
        CheckedBy::Webhook,
        "No machine can match the Assignment.",
        &["no machine can meet all of a, !a"],
        "Remove what contradicts the rest. For alternatives write one requirement with operator `In`, or several Assignments.",
    ),
    text(
        "label-key",
        CheckedBy::Webhook,
        "The selector never matches, or the label is not looked at.",
        &["no machine presents \"serail\" by itself (did you mean `serial`?)"],
        "Write the key that is meant. A label that you set with `--label` is fine.",
    ),
    text(
        "unknown-architecture",
        CheckedBy::Webhook,
        "No machine presents another architecture.",
        &["iPXE has no architecture \"arm65\" (did you mean `arm64`?)"],
        "Write one of `x86_64`, `arm64`, `i386`, `arm32`, `riscv32`, `riscv64`, `loong64`, `s390x`.",
    ),
    text(
        "shared-identity",
        CheckedBy::Webhook,
        "Two authors may not know of each other; the message says which Assignment goes first and why.",
        &[
            "Assignment n/web names uuid 47c6... too; that one goes first, as its priority 5 is higher than 0 (leave the machine to one of them, or give the one that is meant the higher priority)",
        ],
        "Leave the machine to one of them, or give the one that is meant the higher priority.",
    ),
    text(
        "loses-profile",
        CheckedBy::Webhook,
        "Such machines get a 404. Admission only: `shaper diff` says it of folders.",
        &[
            "machines with at least 500 uuids would boot nothing instead of Profile n/rack, such as uuid 47c6..., uuid 47c6..., uuid 47c6... (if this is not meant, undo it before they boot; `shaper diff` names them all)",
        ],
        "If this is not meant, undo the change before the machines boot.",
    ),
    text(
        "moves-machines",
        CheckedBy::Webhook,
        "Somebody who may not have meant it decides what a machine boots. Admission only: `shaper diff` says it of folders.",
        &[
            "the machine with uuid 47c6... would boot Profile n/rescue instead of Profile n/linux",
            "the machine with uuid 47c6..., which boots nothing now, would boot Profile n/rescue",
        ],
        "If this is not meant, undo the change before the machines boot.",
    ),
    text(
        "incomplete-check",
        CheckedBy::Webhook,
        "What was not tried may be wrong. Admission only.",
        &[
            "from here on templates were not tried: the time for it was over",
            "there are too many machines to see what it does to each of them; the first of them boot as before",
        ],
        "Run `shaper validate` or `shaper diff`, which take their time.",
    ),
    ipxe(
        "ipxe-shebang",
        "That line is how iPXE knows a script; without it, a BIOS build runs the text as machine code. shaper adds it where it lacks, so this is about what the author believes.",
        &[
            "the script starts with \"boot\"; iPXE knows a script by its first line #!ipxe, which shaper adds here",
        ],
        "Make `#!ipxe` the first line.",
        "`ipxe:src/image/script.c`, tried",
    ),
    ipxe(
        "ipxe-too-many-words",
        "More words fail with error 46162001. From 500 words on BIOS builds hang: each word takes room on a small stack, also in comments.",
        &[
            "this line has 301 words; iPXE fails a command of more than 255 (error 46162001), and on BIOS hangs at 500 or some more",
        ],
        "Put the arguments into fewer words, or into a config that the system fetches.",
        "`ipxe:src/core/exec.c` (`system`), tried",
    ),
    ipxe(
        "ipxe-many-words",
        "The limit of 255 words is near.",
        &[
            "this line has 211 words; each takes room on iPXE's small stack, and at 256 the command fails",
        ],
        "Keep a line below 200 words.",
        "`ipxe:src/core/exec.c` (`system`), tried",
    ),
    ipxe(
        "ipxe-long-line",
        "Linux cuts its command line at 2,048 bytes or a little more on most architectures; old builds of iPXE have half a megabyte of memory for all they do.",
        &["this line has 5005 bytes; Linux cuts a command line at 2,048 or 4,096 bytes"],
        "Move arguments into a config that the system fetches.",
        "`COMMAND_LINE_SIZE` of Linux",
    ),
    ipxe(
        "ipxe-non-ascii",
        "Consoles show other bytes as other characters, and URLs send them as `%FFFFFFC3`.",
        &[
            "'é' is not ASCII: consoles show it as something else, and in a URL it is sent as other bytes",
        ],
        "Write it in ASCII, in a URL percent-encoded.",
        "`ipxe:src/core/uri.c`, tried",
    ),
    ipxe(
        "ipxe-control-character",
        "A NUL ends the line; others are sent and shown as they are.",
        &["the control character U+0007 is no text that iPXE knows"],
        "Remove the character.",
        "`ipxe:src/image/script.c`",
    ),
    ipxe(
        "ipxe-glued-operator",
        "`url||` is a URL that ends in two bars: the fallback never runs.",
        &["|| is part of the word \"http://a/||\": iPXE sees it only as a word of its own"],
        "Put spaces around the operator.",
        "`ipxe:src/core/exec.c` (`command_terminator`), tried",
    ),
    ipxe(
        "ipxe-glued-comment",
        "`boot# now` has no comment.",
        &["the # in \"boot#\" starts no comment: iPXE takes it as part of the word"],
        "Put a space before the `#`.",
        "`ipxe:src/core/exec.c` (`command_terminator`), tried",
    ),
    ipxe(
        "ipxe-url-fragment",
        "iPXE does not send what follows the `#`. `##NAME`, a list of parameters, is fine.",
        &["the URL ends at its #: iPXE does not send \"#x\""],
        "Write `%23` for a `#` that belongs to the URL.",
        "`ipxe:src/core/uri.c`, tried",
    ),
    ipxe(
        "ipxe-exit-in-retry",
        "`|| exit` between a label and the `goto` that leads back to it ends the script with success: the firmware goes on with its next boot device.",
        &["the first failure leaves the loop of :retry here, so that it never tries again"],
        "Write `|| goto retry`, after a `sleep`.",
        "`ipxe:src/core/exec.c` (`exit_exec`)",
    ),
    ipxe(
        "ipxe-kernel-without-initrd",
        "On UEFI, Linux's EFI stub looks for the file that its command line names; without it the kernel panics because it finds no root.",
        &[
            "the kernel is not told of its initrd: on UEFI, Linux finds it only by initrd=NAME on its command line",
        ],
        "Add `initrd=NAME` to the line of the kernel.",
        "Linux, `Documentation/admin-guide/efi-stub.rst`",
    ),
    ipxe(
        "ipxe-initrd-name",
        "An image is named by `--name`, or by the last part of its URL's path.",
        &["x is no image that this script fetches (did you mean `y`?)"],
        "Write the name of an image that the script fetches.",
        "`ipxe:src/core/image.c`",
    ),
    ipxe(
        "ipxe-unknown-command",
        "The script ends there with \"command not found\".",
        &["iPXE has no command \"kernal\" (did you mean `kernel`?)"],
        "Write a command that iPXE has.",
        "`ipxe:src/core/exec.c` (`execv`), `ipxe:src/hci/commands`",
    ),
    ipxe(
        "ipxe-no-such-label",
        "The script ends there.",
        &["there is no label :nowhere in this script"],
        "Add the label, or fix its name.",
        "`ipxe:src/image/script.c` (`goto_exec`)",
    ),
    ipxe(
        "ipxe-duplicate-label",
        "`goto` leads to the first of them.",
        &["the label :a is on line 2 already: goto leads to that one, and never here"],
        "Rename one of the labels.",
        "`ipxe:src/image/script.c` (`goto_find_label`)",
    ),
    ipxe(
        "ipxe-unclosed-setting",
        "Words are split first: `${serial number}` is two words and not a setting.",
        &[
            "${ has no } in the word \"${serial\": iPXE splits a line at spaces first, and does not expand it",
        ],
        "Write `${NAME}` without spaces in it.",
        "`ipxe:src/core/settings.c` (`expand_settings`)",
    ),
    ipxe(
        "ipxe-setting-type",
        "The setting is not expanded, or is empty.",
        &["iPXE knows no type \"hexhypp\" of a setting (did you mean `hexhyp`?)"],
        "Write a type that iPXE knows; the message lists them.",
        "`ipxe:src/core/settings.c`",
    ),
    ipxe(
        "ipxe-never-equal",
        "`${buildarch}` is `x86_64`, never `amd64`; `${platform}` is `efi` or `pcbios`.",
        &["${buildarch} is never \"amd64\" in iPXE"],
        "Compare with the value that iPXE has.",
        "`ipxe:src/Makefile.housekeeping`",
    ),
    ipxe(
        "ipxe-quotes",
        "iPXE has no quotes: the mark is part of the word, and spaces separate words in any case. A kernel's command line is another language, and may have them.",
        &[
            "iPXE has no quotes: the quotation mark of \"http://a/b is taken as it is, and spaces separate all the same",
        ],
        "Remove the quotation marks; write a space in a URL as `%20`.",
        "`ipxe:src/core/exec.c` (`split_command`), tried",
    ),
    ipxe(
        "ipxe-backslash-space",
        "With a space after the backslash, iPXE joins nothing.",
        &["white space follows the backslash, so that iPXE does not join the next line"],
        "Remove what follows the backslash.",
        "`ipxe:src/image/script.c`",
    ),
    ipxe(
        "ipxe-one-word",
        "An expanded value never becomes two words: its spaces are sent as `%20`.",
        &["${args} was set to 3 words, and expands to one: its spaces become %20 in the URL"],
        "Write the arguments out, or set one setting for each.",
        "ipxe/ipxe#1305",
    ),
];

/// Returns the reference text of the rule with this id.
pub fn of(id: &str) -> Option<&'static Text> {
    TEXTS.iter().find(|text| text.rule == id)
}
