//! Generates `admission.md` and `linter.md`: the checks of objects before they are written, and
//! their messages.

use review::rule::texts::{self, CheckedBy, Text};
use review::{Rule, Severity, rule};

use crate::markdown::{code, described, head, sentence, table};
use crate::resources;

pub(crate) fn admission_page() -> String {
    let mut page = head(
        "Admission and validation",
        "Every rule that `kubectl apply`, `shaper validate` and `--dry-run=server` check, with what they say. The API server checks the \
         first table itself, by the schema and the CEL rules of the definitions, whether shaper runs or not. The second table is checked by \
         `shaper validate`, and by `shaper webhook` when the API server asks it.",
    );
    page += "\n## What the API server refuses by itself\n\n\
             `[]` is an item of a list, `.*` a value of a map. The API server words sizes and numbers itself.\n\n";
    page += &table(
        ["field", "where", "what is asked, and what is said"],
        resources::bounded_fields(),
    );
    page += "\n## What the webhook tells\n\n\
             *Refused*: the object can't be served, or what it says can't work. *Warning*: it is allowed, and probably not what was meant. In \
             `shaper validate` these are errors and warnings. `...` stands for anything.\n\n";
    page += &table(
        [
            "rule",
            "severity",
            "at `kubectl apply`",
            "where it holds",
            "what is said, such as",
            "meaning",
            "what to do",
        ],
        rule::all().map(row),
    );
    page
}

pub(crate) fn linter_page() -> String {
    let mut page = head(
        "iPXE linter",
        "`shaper validate` and the webhook read the scripts that sample machines would get, as iPXE reads them: lines joined by a backslash, \
         words separated by white space, commands separated by `||`, `&&` and `;`, labels, comments. A finding points to the line of the \
         template that made the line of the script, where that is one line.\n\n\
         iPXE's language looks like a shell's, and is not: there are no quotes, a line is split into words before settings are expanded, and a \
         script that is wrong fails on a console that nobody watches. A rule is silent where it can't be sure: a word with `${` in it may become \
         anything. Of the findings on one Profile at most 200 are shown, errors first.\n\n\
         Commands that only some builds have (`imgtrust`, `params`, `ntp`, `cpuid`, ...) are known to the linter; it can't see whether your \
         machines' iPXE has them. Sources are files of iPXE (`ipxe:PATH`, at v2.0.0), its issues, and runs of iPXE of 2019, 2020, 2025 and 2026 \
         in virtual machines (*tried*).",
    );
    page += "\n## Rules\n\n";
    let rules = ipxe::rule::RULES.iter();
    let rows = rules.map(|rule| {
        let (_, text) = text_of(rule);
        [
            code(rule.id),
            severity(rule).to_owned(),
            described(rule.id, Some(rule.summary)),
            described(&format!("why of {}", rule.id), Some(text.why)),
            said(text),
            described(&format!("remedy of {}", rule.id), Some(text.remedy)),
            text.source
                .unwrap_or_else(|| panic!("{} has no source", rule.id))
                .to_owned(),
        ]
    });
    page + &table(
        [
            "rule",
            "severity",
            "finding",
            "why",
            "what is said, such as",
            "what to do",
            "source",
        ],
        rows,
    )
}

fn row(rule: &'static Rule) -> [String; 7] {
    let (checked_by, text) = text_of(rule);
    let outcome = match (checked_by, rule.severity) {
        (CheckedBy::Validate, _) => "validate only",
        (_, Severity::Error) => "refused",
        (_, Severity::Warning) => "warning",
    };
    let place = match checked_by {
        CheckedBy::Validate => "`shaper validate`".to_owned(),
        CheckedBy::Webhook => "webhook".to_owned(),
        CheckedBy::WebhookAndCondition(condition) => {
            format!("webhook; the condition {}", code(condition))
        }
        // The word `schema` would mean that the API server answers.
        CheckedBy::Server => {
            "schema and CEL (the first table); the webhook as well, should it be asked".to_owned()
        }
    };
    let why = if rule.id.starts_with("ipxe-") {
        format!("[{}](linter.md#rules)", rule.summary.trim_end_matches('.'))
    } else {
        let why = described(&format!("why of {}", rule.id), Some(text.why));
        format!("{} {why}", described(rule.id, Some(rule.summary)))
    };
    [
        code(rule.id),
        severity(rule).to_owned(),
        outcome.to_owned(),
        place,
        said(text),
        why,
        sentence(&described(
            &format!("remedy of {}", rule.id),
            Some(text.remedy),
        )),
    ]
}

fn text_of(rule: &Rule) -> (CheckedBy, &'static Text) {
    texts::of(rule.id)
        .unwrap_or_else(|| panic!("{} has no text: add one to review::rule::texts", rule.id))
}

fn severity(rule: &Rule) -> &'static str {
    match rule.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn said(text: &Text) -> String {
    let says: Vec<_> = text.says.iter().map(|says| code(says)).collect();
    says.join("; ")
}
