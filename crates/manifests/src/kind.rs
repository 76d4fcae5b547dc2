//! The kinds of shaper's API group.

/// A kind of shaper's API group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Profile,
    Assignment,
    Machine,
}

// === impl Kind ===

impl Kind {
    pub(super) const NAMES: [&str; 3] = ["Profile", "Assignment", "Machine"];

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Profile, Self::Assignment, Self::Machine]
            .into_iter()
            .zip(Self::NAMES)
            .find(|(_, known)| *known == name)
            .map(|(kind, _)| kind)
    }
}
