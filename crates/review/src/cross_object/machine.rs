//! Checks a Machine against all other objects.

use boot::{Machine, ObjectRef};
use crd::FieldPath;

use super::Survey;
use crate::finding::Finding;
use crate::rule;

impl Survey<'_> {
    /// Returns the findings about a Machine of the catalog.
    pub fn machine(&self, machine: &Machine) -> Vec<Finding> {
        self.machine_conflict(machine).into_iter().collect()
    }

    /// Reports other Machines that claim one of its identities.
    fn machine_conflict(&self, machine: &Machine) -> Option<Finding> {
        let others = self.catalog.conflicting_machines(machine);
        let (first, more) = (others.first()?, others.len() - 1);
        let more = match more {
            0 => String::new(),
            1 => " and one more".to_owned(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "Machine {}{more} claims one of its identities; the older Machine gets it, or the first by name",
            first.key
        );
        let name = ObjectRef::Machine(machine.key.clone());
        let field = FieldPath::new(["spec"]);
        let help = "remove the identity from all Machines but one";
        Some(Finding::new(&rule::MACHINE_CONFLICT, &name, field, message).help(help))
    }
}
