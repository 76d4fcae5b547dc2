//! Rejects attributes that no value of a built-in variable can have.
//!
//! Such an attribute is undefined for every machine. Without this check, a template with a spelling
//! mistake would replace the last good one, and answer each machine with an error.

use std::collections::BTreeSet;

use minijinja::machinery::ast::Expr;

use super::access;
use crate::nearest::did_you_mean;

/// The attributes of `profile` and `assignment`. Those of `machine` are the same without
/// `namespace`.
const OF_OBJECTS: [&str; 3] = ["name", "namespace", "labels"];
/// The attributes of `loop`.
const OF_LOOP: [&str; 13] = [
    "index",
    "index0",
    "revindex",
    "revindex0",
    "first",
    "last",
    "length",
    "depth",
    "depth0",
    "previtem",
    "nextitem",
    "cycle",
    "changed",
];

/// Checks `.name` or `['name']` of an expression. The error says why it can't be defined.
pub(super) fn check(of: &Expr<'_>, name: &str, configs: &BTreeSet<&str>) -> Result<(), String> {
    match of {
        Expr::Var(variable) => match variable.id {
            id @ ("profile" | "assignment") => known(id, name, &OF_OBJECTS),
            // A Machine has no namespace.
            "machine" => known("machine", name, &["name", "labels"]),
            "loop" => known("loop", name, &OF_LOOP),
            "base_url" => Err(of_text("base_url", "a URL", name)),
            id if configs.contains(id) => Err(of_text(id, "the URL of a config", name)),
            _ => Ok(()),
        },
        Expr::GetAttr(get) => check_value(&get.expr, get.name, name),
        Expr::GetItem(get) => match get.subscript_expr.as_const() {
            Some(key) => check_value(&get.expr, key.as_str().unwrap_or_default(), name),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Checks `.name` of a value that is an attribute of a variable itself.
fn check_value(of: &Expr<'_>, key: &str, name: &str) -> Result<(), String> {
    match of {
        Expr::Var(variable) => match (variable.id, key) {
            (id @ ("subject" | "encoded" | "extrinsic"), key) => Err(of_label(id, key, name)),
            (id @ ("profile" | "assignment" | "machine"), "name" | "namespace") => {
                Err(of_text(&format!("{id}.{key}"), "text", name))
            }
            _ => Ok(()),
        },
        Expr::GetAttr(labels) => match &labels.expr {
            Expr::Var(variable)
                if labels.name == "labels"
                    && matches!(variable.id, "profile" | "assignment" | "machine") =>
            {
                Err(of_label(&format!("{}.labels", variable.id), key, name))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

fn known(variable: &str, name: &str, attributes: &[&str]) -> Result<(), String> {
    if attributes.contains(&name) {
        return Ok(());
    }
    let hint = did_you_mean(name, attributes.iter().copied());
    // What is not misspelt is most likely a label.
    let hint = if hint.is_empty() && attributes.contains(&"labels") {
        format!("; for a label, write {{{{ {variable}.labels.KEY }}}}")
    } else {
        hint
    };
    Err(format!(
        "`{variable}` has no attribute `{name}`{hint}; it has {}",
        attributes.join(", ")
    ))
}

fn of_text(variable: &str, what: &str, name: &str) -> String {
    format!("`{variable}` is {what}, and has no attribute `{name}`; write {{{{ {variable} }}}}")
}

fn of_label(labels: &str, key: &str, name: &str) -> String {
    format!(
        "the label {key:?} is text, and has no attribute `{name}`; for the label {:?}, write {{{{ {} }}}}",
        format!("{key}.{name}"),
        access(labels, &format!("{key}.{name}"))
    )
}
