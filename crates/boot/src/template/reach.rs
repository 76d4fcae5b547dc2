//! How far the value of a label reaches into the text of a template.

/// How a template uses the label of a machine, at one position of its source. Ordered by what the
/// value must satisfy: a later variant is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    /// It does not reach the text, or only through a filter that escapes it.
    Escaped,
    /// It is written as it is.
    Raw,
    /// It is written as it is where white space would divide it: in the arguments of a command.
    Word,
    /// It is written where its format does not read the quotation marks of a filter: inside of
    /// others, or in the middle of a longer text.
    Unquoted,
    /// It is changed or taken apart before it is written, which can undo an escape, and put the
    /// parts of the value elsewhere.
    Altered,
    /// It is [altered](Self::Altered), and written where a [word](Self::Word) is.
    AlteredWord,
}

/// The names under which the engine sees `subject`, one for each reach except [`Reach::Raw`]. They
/// are longer than [`crate::config_name::MAX_CONFIG_NAME_BYTES`], so no config has one, and no
/// template can set one.
const VARIABLES: [(&str, Reach); 5] = [
    (
        "subject_whose_values_reach_the_text_only_through_a_filter_that_escapes_them",
        Reach::Escaped,
    ),
    (
        "subject_whose_values_are_written_where_white_space_would_divide_them",
        Reach::Word,
    ),
    (
        "subject_whose_values_are_written_where_no_filter_can_put_them_in_quotation_marks",
        Reach::Unquoted,
    ),
    (
        "subject_whose_values_are_changed_by_the_template_before_it_writes_them",
        Reach::Altered,
    ),
    (
        "subject_whose_values_are_changed_and_written_where_white_space_divides",
        Reach::AlteredWord,
    ),
];

// === impl Reach ===

impl Reach {
    /// Returns what the engine calls `subject` where its values reach this far.
    pub(super) fn variable(self) -> &'static str {
        let known = VARIABLES.iter().find(|(_, reach)| *reach == self);
        known.map_or("subject", |(name, _)| name)
    }

    /// Returns the reach of the values of a variable, if it is `subject` by one of its names.
    pub(crate) fn of_variable(name: &str) -> Option<Self> {
        if name == "subject" {
            return Some(Self::Raw);
        }
        // Most names are shorter.
        let mut known = VARIABLES
            .iter()
            .filter(|(known, _)| known.len() == name.len());
        known
            .find(|(known, _)| *known == name)
            .map(|(_, reach)| *reach)
    }

    /// Returns the reach of a value that gets this far where no filter can put it in quotation
    /// marks.
    pub(super) fn unquoted(self) -> Self {
        match self {
            Self::Escaped => Self::Escaped,
            other => other.max(Self::Unquoted),
        }
    }

    /// Returns the reach of a value that is changed before it gets this far.
    pub(super) fn altered(self) -> Self {
        match self {
            Self::Escaped => Self::Escaped,
            Self::Raw | Self::Altered => Self::Altered,
            Self::Word | Self::Unquoted | Self::AlteredWord => Self::AlteredWord,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config_name::MAX_CONFIG_NAME_BYTES;

    use super::*;

    #[test]
    fn no_config_has_the_name_of_a_variable() {
        for (name, reach) in VARIABLES {
            assert!(name.len() > MAX_CONFIG_NAME_BYTES);
            assert_eq!(Reach::of_variable(name), Some(reach));
            assert_eq!(reach.variable(), name);
        }
        assert_eq!(Reach::of_variable(Reach::Raw.variable()), Some(Reach::Raw));
    }
}
