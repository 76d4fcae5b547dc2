//! What is known of an expression's value before it is computed.

/// The kind of a value. The order of growth is `Never`, then the rest, then `Any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value was seen yet.
    Never,
    /// A number.
    Number,
    /// A number, a truth value, nothing, or a text that the template can't make long: a label, a short literal.
    Word,
    /// As a word, or a text of any length.
    Scalar,
    /// A list, or a map seen through its keys and values.
    List(Box<Kind>),
    /// A list, or a part or the reverse of one, which is computed anew whenever it is walked.
    View(Box<Kind>),
    /// A mixture.
    Any,
}

impl Kind {
    pub(super) fn list_of(items: Self) -> Self {
        Self::List(Box::new(items))
    }

    pub(super) fn view_of(items: Self) -> Self {
        Self::View(Box::new(items))
    }

    /// The kind of a value that is of one kind or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Never, kind) | (kind, Self::Never) => kind,
            (Self::Number | Self::Word, Self::Number | Self::Word) => Self::Word,
            (a, b) if a.is_scalar() && b.is_scalar() => Self::Scalar,
            (Self::List(a), Self::List(b)) => Self::list_of(a.or(*b)),
            (Self::List(a) | Self::View(a), Self::List(b) | Self::View(b)) => {
                Self::view_of(a.or(*b))
            }
            _ => Self::Any,
        }
    }

    /// What iterating over it, or looking into it, yields.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::List(item) | Self::View(item) => (**item).clone(),
            Self::Never => Self::Never,
            // The items of a text are its characters; of a number there are none.
            Self::Number | Self::Word | Self::Scalar => Self::Word,
            Self::Any => Self::Any,
        }
    }

    pub(super) fn is_scalar(&self) -> bool {
        self.is_word() || *self == Self::Scalar
    }

    pub(super) fn is_word(&self) -> bool {
        matches!(self, Self::Never | Self::Number | Self::Word)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Never | Self::Number)
    }
}
