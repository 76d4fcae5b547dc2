//! The text of the reference for each rule, beyond its summary.

pub use ipxe::rule::texts::Text;

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

/// The reference texts of the rules about objects, in the order of [`super::RULES`].
static TEXTS: &[(CheckedBy, Text)] = &[
    (
        CheckedBy::Validate,
        Text::new(
            "file",
            "Nothing in the file could be served.",
            &[],
            "Fix the file; the message names the line.",
        ),
    ),
    (
        CheckedBy::Server,
        Text::new(
            "schema",
            "An API server would refuse the object, or silently drop the field.",
            &["does not match the schema: ..."],
            "Write the field as [the resources](resources.md) have it.",
        ),
    ),
    (
        CheckedBy::Server,
        Text::new(
            "conversion",
            "The catalog could not hold the object.",
            &[
                "\"nonsense\" is not a MAC address; write six octets in hexadecimal, as in 52:54:00:12:34:56",
            ],
            "Write the value as the message says.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "template",
            "Every machine would get a 500.",
            &[
                "line 2 of the text: `nobody` is not defined (configs of this Profile: none; built-in variables: subject, encoded, extrinsic, machine, vars, profile, assignment, base_url)",
            ],
            "Use a name of the list, or add a config of that name.",
        ),
    ),
    (
        CheckedBy::Validate,
        Text::new(
            "duplicate-object",
            "The names of the files would decide which of the two is served.",
            &[],
            "Remove one of them, or rename it.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "object-size",
            "By default, etcd takes 1.5 MiB for an object and an API server 3 MiB for a request: no cluster could hold it.",
            &[
                "the Profile has 1.7 MiB as JSON; by default, etcd takes 1.5 MiB for an object, and an API server 3 MiB for a request",
            ],
            "Divide it into several Profiles, or let the system fetch large files from elsewhere.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "render",
            "Machines like the sample would get a 500.",
            &[
                "can't be rendered for a sample machine (x86_64, efi): it exceeds the work limit of one answer; use smaller loops and less text",
            ],
            "Fix the template for that architecture, or make it smaller.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "cloud-config",
            "cloud-init ignores the whole config, and logs that on the machine alone.",
            &["cloud-init ignores the whole config: it is not a YAML map"],
            "Fix the YAML below the line `#cloud-config`.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "raw-label",
            "A stranger may choose the value. One that is more than plain text in the format of the config is refused with 400, so its machine waits.",
            &[
                "the label \"hostname\" reaches the config as the machine presents it: a value that is not plain text in YAML is a 400",
            ],
            "Write the value through the filter of the format, `toyaml`, `tojson` or `shquote`, where the format reads a whole value: not inside of quotation marks, a longer text or a here document. For a label of the operator, write `extrinsic.KEY`. If the config has no syntax, say so in `spec.configFormats`.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "host-from-label",
            "Where the operator does not set the label, a machine, or what asks in its name, decides from where a system is fetched.",
            &["a machine may choose the host of this URL, by its label \"assets\""],
            "Write `extrinsic.KEY` for a label that you set with `--label`. Otherwise, write a Profile for each host.",
        ),
    ),
    (
        CheckedBy::Validate,
        Text::new(
            "no-manifests",
            "A check of the wrong folder would pass.",
            &[],
            "Pass the folder that contains Profiles and Assignments.",
        ),
    ),
    (
        CheckedBy::Validate,
        Text::new(
            "unrendered",
            "A kustomization changes what it includes, and the templates of a chart are not YAML.",
            &[],
            "Pipe the output of `kustomize build DIR` or `helm template DIR` into `shaper validate -`.",
        ),
    ),
    (
        CheckedBy::WebhookAndCondition("Conflicted"),
        Text::new(
            "conflict",
            "The age of the objects decides, so recreating one may change what machines boot.",
            &[
                "Assignment n/web matches uuid 47c6... too, and ranks first only because it is older",
            ],
            "Give one of them another priority, or require more labels.",
        ),
    ),
    (
        CheckedBy::WebhookAndCondition("Conflicted"),
        Text::new(
            "machine-conflict",
            "A machine that presents the identity is the older Machine, or the first by name where no age is known; the other one never gets it by this identity.",
            &[
                "Machine rack7-u13 claims one of its identities; the older Machine gets it, or the first by name",
            ],
            "Remove the identity from all Machines but one.",
        ),
    ),
    (
        CheckedBy::WebhookAndCondition("ProfileFound"),
        Text::new(
            "no-profile",
            "The machines of the Assignment get a 404; they never fall through to the next Assignment.",
            &[
                "no Profile in namespace n has the labels os=linus: its machines boot nothing (did you mean os=linux?)",
            ],
            "Fix `profileSelectors`, or label a Profile.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "no-profile-for-arch",
            "The Assignment names no machines, and its namespace has Profiles for more architectures: machines of the others get a 404.",
            &[
                "machines of arm64 that it matches boot nothing: the Profiles that it selects are for x86_64",
            ],
            "Select a Profile for each architecture, or select machines by `buildarch`.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "unused-profile",
            "No machine boots the Profile; often a label is mistyped.",
            &["no Assignment in namespace n selects this Profile, so no machine boots it"],
            "Add an Assignment whose `profileSelectors` are among its labels, or remove the Profile.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "placeholder",
            "The identity matches no machine: many boards share such a text, and would all get one machine's system.",
            &[
                "\"To be filled by O.E.M.\" is a placeholder that vendors leave on boards, so it matches no machine",
            ],
            "Use another identity of the machine, such as its MAC address.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "never-matches",
            "No machine can match the Assignment.",
            &["no machine matches all of a, !a"],
            "Remove the contradiction. For alternatives, use one requirement with operator `In`, or several Assignments.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "label-key",
            "The selector never matches, or the label has no effect.",
            &["no machine presents \"serail\" by itself (did you mean `serial`?)"],
            "Use the suggested key. A label that you set with `--label` is fine.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "unknown-architecture",
            "No machine presents another architecture.",
            &["iPXE has no architecture \"arm65\" (did you mean `arm64`?)"],
            "Write one of `x86_64`, `arm64`, `i386`, `arm32`, `riscv32`, `riscv64`, `loong64`, `s390x`.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "shared-identity",
            "Two authors may not know of each other; the message says which Assignment ranks first and why.",
            &[
                "Assignment n/web names uuid 47c6... too; that one ranks first, because its priority 5 is higher than 0 (name the machine in only one of them, or give the intended one the higher priority)",
            ],
            "Name the machine in only one of them, or give the intended one the higher priority.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "loses-profile",
            "Such machines get a 404. Only admission reports this; `shaper diff` does so for folders.",
            &[
                "machines with at least 500 uuids would boot nothing instead of Profile n/rack (if this is not intended, undo it before they boot; `shaper diff` lists all of them)",
            ],
            "If this is not intended, undo the change before the machines boot.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "moves-machines",
            "Machines boot something else than before, perhaps unintentionally. Only admission reports this; `shaper diff` does so for folders.",
            &[
                "the machine with uuid 47c6... would boot Profile n/rescue instead of Profile n/linux",
                "the machine with uuid 47c6..., which boots nothing now, would boot Profile n/rescue",
            ],
            "If this is not intended, undo the change before the machines boot.",
        ),
    ),
    (
        CheckedBy::Webhook,
        Text::new(
            "incomplete-check",
            "What was not checked may be wrong. Only admission reports this.",
            &[
                "templates from here on were not checked: out of time",
                "too many machines to check the effect on each of them; nothing changes for those that were checked",
            ],
            "Run `shaper validate` or `shaper diff`, which have no time limit.",
        ),
    ),
];

/// Returns the reference texts of all rules, in the order of [`super::all`].
pub fn all() -> impl Iterator<Item = (CheckedBy, &'static Text)> {
    let of_scripts = ipxe::rule::texts::TEXTS.iter();
    TEXTS
        .iter()
        .map(|(checked_by, text)| (*checked_by, text))
        .chain(of_scripts.map(|text| (CheckedBy::Webhook, text)))
}

/// Returns the reference text of the rule with this id.
pub fn of(id: &str) -> Option<(CheckedBy, &'static Text)> {
    all().find(|(_, text)| text.rule == id)
}
