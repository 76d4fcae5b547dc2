//! Finds, before a machine boots, the variables that it will lack.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::assignment::Assignment;
use crate::config_name::ConfigName;
use crate::machine::Machine;
use crate::profile::Profile;

use super::Variables;

/// A variable that a Profile needs and that is missing or invalid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VariableFault {
    /// The names that lead to the variable, joined by dots. Empty if the fault is of all variables
    /// together.
    pub variable: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Returns the merged variables of Profile, Assignment and Machine.
pub fn merge(
    profile: &Profile,
    assignment: Option<&Assignment>,
    machine: Option<&Machine>,
) -> Variables {
    let layers = [
        Some(&profile.variables),
        assignment.map(|it| &it.variables),
        machine.map(|it| &it.variables),
    ];
    Variables::merged(layers.into_iter().flatten())
}

/// Returns the variables that a machine will lack when it boots the Profile, and those that the
/// Profile's schema refuses, each once. An empty list does not mean that every text can be
/// rendered: a template may read a variable under a condition.
pub fn faults(
    profile: &Profile,
    assignment: Option<&Assignment>,
    machine: Option<&Arc<Machine>>,
) -> Vec<VariableFault> {
    let templates = &profile.templates;
    let reads_variables = templates
        .all_uses()
        .any(|(_, uses)| !uses.variables.is_empty());
    if !reads_variables && profile.variables_schema.is_none() {
        return Vec::new();
    }
    let variables = merge(profile, assignment, machine.map(|it| &**it));
    let mut found: Vec<VariableFault> = Vec::new();
    for (config, uses) in templates.all_uses() {
        for needed in uses.variables.iter().filter(|needed| needed.required) {
            let variable = needed.path.join(".");
            if variables.find(&needed.path).is_some()
                || found.iter().any(|it| it.variable == variable)
            {
                continue;
            }
            let text = config.map_or("spec.ipxe", ConfigName::as_str);
            let reason = format!(
                "line {} of {text} needs it, and nobody gives it",
                needed.line
            );
            found.push(VariableFault { variable, reason });
        }
    }
    if let Some(schema) = &profile.variables_schema {
        for fault in schema.check(&variables) {
            let variable = fault.variable.unwrap_or_default();
            if !found.iter().any(|it| it.variable == variable) {
                let reason = format!("spec.variablesSchema of the Profile: {}", fault.reason);
                found.push(VariableFault { variable, reason });
            }
        }
    }
    found
}

/// Writes `variable "NAME": REASON`.
impl fmt::Display for VariableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.variable.is_empty() {
            write!(f, "the variables: {}", self.reason)
        } else {
            write!(f, "variable {:?}: {}", self.variable, self.reason)
        }
    }
}
