//! What the webhook tells.

use serde_json::json;

use super::cases::{
    Case, ENDLESS, assignment, case, labelled, machine, profile, run, script, uuid,
};

#[expect(clippy::too_many_lines, reason = "it is a table")]
pub(crate) fn of_rules() -> Vec<Case> {
    vec![
        case(
            "template",
            script("kernel {{ nobody }}"),
            &[
                "The Profile \"p\" is invalid: spec.ipxe: line 2 of the text: `nobody` is not defined (configs of this Profile: none; built-in variables: subject, encoded, extrinsic, machine, vars, profile, assignment, base_url)",
            ],
        ),
        case(
            "object-size",
            profile(
                json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { "a": "#".repeat(900_000), "b": "#".repeat(900_000) } }),
            ),
            &[
                "Warning: Profile p: spec: the Profile has 1.7 MiB as JSON; by default, etcd takes 1.5 MiB for an object, and an API server 3 MiB for a request (divide it into several Profiles, or let the system fetch large files from elsewhere)",
            ],
        ),
        case(
            "render",
            profile(json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { "a": ENDLESS } })),
            &[
                "The Profile \"p\" is invalid: spec.additionalConfig.a: line 1 of the text: can't be rendered for a sample machine (x86_64, efi): it exceeds the work limit of one answer; use smaller loops and less text",
            ],
        ),
        case(
            "cloud-config",
            profile(
                json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { "a": "#cloud-config\n- hostname: web\n" } }),
            ),
            &[
                "Warning: Profile p: spec.additionalConfig.a: line 2 of the text: cloud-init ignores the whole config: it is not a YAML map",
            ],
        ),
        case(
            "raw-label",
            profile(
                json!({ "ipxe": "#!ipxe\nboot\n", "additionalConfig": { "a": "#cloud-config\nhostname: {{ subject.hostname }}\n" } }),
            ),
            &[
                "Warning: Profile p: spec.additionalConfig.a: line 2 of the text: the label \"hostname\" reaches the config as the machine presents it: a value that is not plain text in YAML is a 400 (write {{ subject.hostname | toyaml }}, as a whole value, without quotation marks around it, or extrinsic.hostname if it is an operator's label)",
            ],
        ),
        case(
            "host-from-label",
            script("chain {{ subject.assets }}/boot.ipxe"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: a machine may choose the host of this URL, by its label \"assets\" (write {{ extrinsic.assets }} if it is an operator's label; otherwise, choose the host by a Profile for each value)",
            ],
        ),
        case(
            "machine-conflict",
            machine(json!({ "macAddresses": ["52:54:00:00:00:01"] })),
            &[
                "Warning: Machine m: spec: Machine rack7-u13 claims one of its identities; the older Machine gets it, or the first by name (remove the identity from all Machines but one)",
            ],
        ),
        case(
            "conflict",
            assignment(
                json!({ "subjectSelectors": { "uuids": [uuid(1)] }, "priority": 5, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors: Assignment n/web matches uuid 47c6da67-7477-4970-aa03-000000000001 too, and ranks first only because it is older (give one of them a higher priority, or remove what both match from one)",
            ],
        ),
        case(
            "shared-identity",
            assignment(
                json!({ "subjectSelectors": { "uuids": [uuid(1)] }, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors: Assignment n/web names uuid 47c6da67-7477-4970-aa03-000000000001 too; that one ranks first, because its priority 5 is higher than 0 (name the machine in only one of them, or give the intended one the higher priority)",
            ],
        ),
        case(
            "shared-identity",
            assignment(
                json!({ "subjectSelectors": { "uuids": [uuid(1)] }, "priority": 7, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors: Assignment n/web names uuid 47c6da67-7477-4970-aa03-000000000001 too; this one ranks first, because its priority 7 is higher than 5 (name the machine in only one of them, or give the intended one the higher priority)",
            ],
        ),
        case(
            "no-profile",
            assignment(
                json!({ "subjectSelectors": { "uuids": [uuid(9)] }, "profileSelectors": { "os": "linus" } }),
            ),
            &[
                "Warning: Assignment a: spec.profileSelectors: no Profile in namespace n has the labels os=linus: its machines boot nothing (did you mean os=linux?)",
            ],
        ),
        case(
            "no-profile-for-arch",
            assignment(
                json!({ "subjectSelectors": { "matchLabels": { "product": "R640" } }, "profileSelectors": { "os": "x86" } }),
            ),
            &[
                "Warning: Assignment a: spec.profileSelectors: machines of arm64 that it matches boot nothing: the Profiles that it selects are for x86_64 (label a Profile for these architectures, or match other machines with the label buildarch in matchLabels)",
            ],
        ),
        case(
            "unused-profile",
            labelled("nobody", "boot"),
            &[
                "Warning: Profile p: metadata.labels: no Assignment in namespace n selects this Profile, so no machine boots it (add an Assignment whose profileSelectors are among its labels, or remove this Profile)",
            ],
        ),
        case(
            "placeholder",
            assignment(
                json!({ "subjectSelectors": { "serialNumbers": ["To be filled by O.E.M."] }, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors.serialNumbers[0]: \"To be filled by O.E.M.\" is a placeholder that vendors leave on boards, so it matches no machine (use another identity of the machine, such as its MAC address)",
            ],
        ),
        case(
            "never-matches",
            assignment(
                json!({ "subjectSelectors": { "matchExpressions": [{ "key": "a", "operator": "Exists" }, { "key": "a", "operator": "DoesNotExist" }] }, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors: no machine matches all of a, !a (remove the contradiction; for alternatives, use one requirement with operator In, or several Assignments)",
            ],
        ),
        case(
            "label-key",
            assignment(
                json!({ "subjectSelectors": { "matchLabels": { "serail": "x" } }, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors.matchLabels.serail: no machine presents \"serail\" by itself (did you mean `serial`?) (if serail is a label that you set with --label, this is fine)",
            ],
        ),
        case(
            "unknown-architecture",
            assignment(
                json!({ "subjectSelectors": { "matchLabels": { "buildarch": "arm65" } }, "profileSelectors": { "os": "linux" } }),
            ),
            &[
                "Warning: Assignment a: spec.subjectSelectors.matchLabels.buildarch: iPXE has no architecture \"arm65\" (did you mean `arm64`?) (there are x86_64, arm64, i386, arm32, riscv32, riscv64, loong64, s390x)",
            ],
        ),
        case(
            "loses-profile",
            run("delete assignment web"),
            &[
                "Warning: Assignment web: the machine with uuid 47c6da67-7477-4970-aa03-000000000001 would boot nothing instead of Profile n/linux (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
        ),
        case(
            "loses-profile",
            run("delete assignment few"),
            &[
                "Warning: Assignment few: machines with 4 uuids would boot nothing instead of Profile n/few, such as uuid 47c6da67-7477-4970-aa03-000000000010, uuid 47c6da67-7477-4970-aa03-000000000011, uuid 47c6da67-7477-4970-aa03-000000000012 (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
        ),
        case(
            "loses-profile",
            run("delete profile rack"),
            &[
                "Warning: Profile rack: machines with at least 500 uuids would boot nothing instead of Profile n/rack (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
        ),
        case(
            "loses-profile",
            run("label profile linux os=other --overwrite"),
            &[
                "Warning: Profile linux: metadata.labels: machines with 2 uuids would boot nothing instead of Profile n/linux (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
                "Warning: Profile linux: metadata.labels: no Assignment in namespace n selects this Profile, so no machine boots it (add an Assignment whose profileSelectors are among its labels, or remove this Profile)",
            ],
        ),
        case(
            "moves-machines",
            run("delete assignment moved"),
            &[
                "Warning: Assignment moved: the machine with uuid 47c6da67-7477-4970-aa03-000000000002 would boot Profile n/rescue instead of Profile n/linux (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
        ),
        case(
            "moves-machines",
            run("delete assignment waiting"),
            &[
                "Warning: Assignment waiting: the machine with uuid 47c6da67-7477-4970-aa03-000000000003, which boots nothing now, would boot Profile n/rescue (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
        ),
        case(
            "incomplete-check",
            run("label profile rack tier=gold"),
            &[
                "Warning: Profile rack: metadata.labels: too many machines to check the effect on each of them; nothing changes for those that were checked (run `shaper diff`, which has no time limit)",
            ],
        ),
        case(
            "ipxe-non-ascii",
            script("echo é"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: 'é' is not ASCII: consoles show other characters, and URLs send other bytes (use ASCII; percent-encode it in a URL)",
            ],
        ),
        case(
            "ipxe-control-character",
            script("echo a\u{7}b"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: the control character U+0007 is not text for iPXE",
            ],
        ),
        case(
            "ipxe-glued-operator",
            script("chain http://a/|| shell"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: || is part of the word \"http://a/||\": iPXE recognizes it only as a separate word (put spaces around ||)",
            ],
        ),
        case(
            "ipxe-glued-comment",
            script("boot# now"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: the # in \"boot#\" does not start a comment: iPXE reads it as part of the word (put a space before the #)",
                "Warning: Profile p: spec.ipxe: line 2 of the text: iPXE has no command \"boot#\" (did you mean `boot`?)",
            ],
        ),
        case(
            "ipxe-url-fragment",
            script("chain http://a/#x"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: the URL ends at its #: iPXE does not send \"#x\" (write %23 for a # that belongs to the URL)",
            ],
        ),
        case(
            "ipxe-exit-in-retry",
            script(":retry\nchain http://a/ || exit\ngoto retry"),
            &[
                "Warning: Profile p: spec.ipxe: line 3 of the text: the first failure leaves the loop of :retry here, so it never retries; the firmware continues with its next boot device (write `|| goto retry`, after a `sleep`)",
            ],
        ),
        case(
            "ipxe-kernel-without-initrd",
            script("kernel http://a/vmlinuz\ninitrd http://a/initrd.gz\nboot"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: the kernel is not told the name of its initrd: on UEFI, Linux finds it only by initrd=NAME on its command line (add initrd=initrd.gz to this line)",
            ],
        ),
        case(
            "ipxe-initrd-name",
            script("kernel http://a/vmlinuz initrd=x\ninitrd http://a/y\nboot"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: x is not an image that this script fetches (did you mean `y`?); there is y",
            ],
        ),
        case(
            "ipxe-unknown-command",
            script("kernal http://a/"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: iPXE has no command \"kernal\" (did you mean `kernel`?)",
            ],
        ),
        case(
            "ipxe-no-such-label",
            script("goto nowhere"),
            &[
                "The Profile \"p\" is invalid: spec.ipxe: line 2 of the text: there is no label :nowhere in this script",
            ],
        ),
        case(
            "ipxe-duplicate-label",
            script(":a\n:a\ngoto a"),
            &[
                "Warning: Profile p: spec.ipxe: line 3 of the text: the label :a is on line 2 already; goto leads there, never here",
            ],
        ),
        case(
            "ipxe-unclosed-setting",
            script("echo ${serial number}"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: ${ has no } in the word \"${serial\": iPXE splits a line at spaces first, and does not expand it (write ${NAME} without spaces in it)",
            ],
        ),
        case(
            "ipxe-setting-type",
            script("echo ${net0/mac:hexhypp}"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: unknown setting type \"hexhypp\" (did you mean `hexhyp`?) (there are string, uristring, ipv4, ipv6, ipv6lla, int8, int16, int32, uint8, uint16, uint32, hex, hexhyp, hexraw, base64, uuid, guid, busdevfn, dnssl)",
            ],
        ),
        case(
            "ipxe-never-equal",
            script("iseq ${buildarch} amd64 && boot"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: ${buildarch} is never \"amd64\" in iPXE (write x86_64)",
            ],
        ),
        case(
            "ipxe-quotes",
            script("chain \"http://a/b c\""),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: iPXE has no quotes: the quotation mark of \"http://a/b is taken literally, and spaces still separate words (remove the quotation marks; write a space in a URL as %20)",
            ],
        ),
        case(
            "ipxe-backslash-space",
            script("echo a \\ \nboot"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: white space follows the backslash, so iPXE does not join the next line (remove the white space after the backslash)",
            ],
        ),
        case(
            "ipxe-one-word",
            script("set args http://a/ x y\nchain ${args}"),
            &[
                "Warning: Profile p: spec.ipxe: line 3 of the text: ${args} was set to 3 words but expands to one: its spaces become %20 in the URL (write the arguments out, or set one setting for each)",
            ],
        ),
        case(
            "ipxe-command-line",
            script(&format!("kernel http://a/vmlinuz {}", "a".repeat(2100))),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: the kernel's command line has 2100 bytes; on x86 and arm64, Linux keeps the first 2047 and ignores the rest (move arguments into a config that the system fetches, or name fewer labels in the query)",
            ],
        ),
        case(
            "ipxe-nocloud-seed",
            profile(
                json!({ "ipxe": "#!ipxe\nkernel http://a/vmlinuz ds=nocloud-net;s={{ a }}\nkernel http://a/vmlinuz ds=nocloud-net;s=http://a/seed\n", "additionalConfig": { "a": "#cloud-config\n" } }),
            ),
            &[
                "The Profile \"p\" is invalid: ",
                "* spec.ipxe: line 2 of the text: cloud-init appends user-data and meta-data to the URL, which is the link of a config and not a folder (write the link through the filter: {{ NAME | nocloud }})",
                "* spec.ipxe: line 3 of the text: cloud-init appends user-data and meta-data to the URL, which does not end in / (add a / at the end of the URL)",
            ],
        ),
        case(
            "ipxe-nocloud-net",
            script("kernel http://a/vmlinuz ds=nocloud;s=http://a/seed/"),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: cloud-init before 24.1 ignores ds=nocloud with a URL (write ds=nocloud-net, which later versions accept as well)",
            ],
        ),
        case(
            "ipxe-too-many-words",
            script(&format!("echo{}", " a".repeat(300))),
            &[
                "The Profile \"p\" is invalid: spec.ipxe: line 2 of the text: this line has 301 words; iPXE rejects a command of more than 255 (error 46162001), and on BIOS hangs at 500 or slightly more (use fewer words, or move arguments into a config that the system fetches)",
            ],
        ),
        case(
            "ipxe-many-words",
            script(&format!("echo{}", " a".repeat(210))),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: this line has 211 words; each word uses iPXE's small stack, and a command of 256 words fails (keep a line below 200 words)",
            ],
        ),
        case(
            "ipxe-long-line",
            script(&format!("echo {}", "a".repeat(5000))),
            &[
                "Warning: Profile p: spec.ipxe: line 2 of the text: this line has 5005 bytes; Linux cuts a command line at 2,048 or 4,096 bytes, and old builds of iPXE have little memory",
            ],
        ),
        case(
            "ipxe-shebang",
            profile(json!({ "ipxe": "boot\n" })),
            &[
                "Warning: Profile p: spec.ipxe: line 1 of the text: the script starts with \"boot\"; iPXE recognizes a script by its first line #!ipxe, which shaper adds (make #!ipxe the first line)",
            ],
        ),
    ]
}
