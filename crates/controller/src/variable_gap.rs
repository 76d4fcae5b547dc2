//! The variables that a machine would lack when it boots a Profile.

use std::fmt;
use std::sync::Arc;

use boot::variables::{self, Json, VariableFault};
use boot::{Assignment, Machine, Profile, Variables};

/// The maximum length of the description of one gap, in characters.
const MAX_TEXT: usize = 1024;

/// A variable that is missing or invalid, with the objects that it is missing in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableGap {
    text: Box<str>,
    /// Whether the variable is missing, rather than invalid.
    pub(crate) is_missing: bool,
}

// === impl VariableGap ===

impl VariableGap {
    /// Returns the gap of a machine, or of one that no Machine describes.
    pub(crate) fn find(
        profile: &Profile,
        assignment: &Assignment,
        machine: Option<&Arc<Machine>>,
    ) -> Option<Self> {
        let faults = variables::faults(profile, Some(assignment), machine);
        let first = faults.first()?;
        let given = variables::merge(profile, Some(assignment), machine.map(|it| &**it));
        let who = machine.map_or_else(
            || "no Machine".to_owned(),
            |machine| format!("Machine {}", machine.key),
        );
        let more = match faults.len() - 1 {
            0 => String::new(),
            1 => " (and 1 more variable)".to_owned(),
            more => format!(" (and {more} more variables)"),
        };
        let text = format!(
            "Profile {} with Assignment {} and {who}: {first}",
            profile.key, assignment.key
        );
        let text = match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => format!("{}...{more}", &text[..end]),
            None => format!("{text}{more}"),
        };
        Some(Self {
            text: text.into(),
            is_missing: faults.iter().any(|fault| is_missing(&given, fault)),
        })
    }
}

impl fmt::Display for VariableGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns whether nothing gives the variable of a fault.
fn is_missing(given: &Variables, fault: &VariableFault) -> bool {
    let mut names = fault.variable.split('.');
    let first = names.next().filter(|name| !name.is_empty());
    first.is_some_and(|first| {
        let value = names.fold(given.get(first), |value: Option<&Json>, name| {
            value?.get(name)
        });
        value.is_none()
    })
}
