//! What is known of an expression's value before it is computed.

/// The kind of a value. The order of growth is `Never`, then the rest, then `Any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value was seen yet.
    Never,
    /// A number.
    Number,
    /// A text, a number, a truth value or nothing.
    Scalar,
    /// A list, or a map seen through its values.
    List(Box<Kind>),
    /// A mixture.
    Any,
}

impl Kind {
    pub(super) fn list_of(items: Self) -> Self {
        Self::List(Box::new(items))
    }

    /// The kind of a value that is of one kind or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Never, kind) | (kind, Self::Never) => kind,
            (Self::Number, Self::Scalar) | (Self::Scalar, Self::Number) => Self::Scalar,
            (Self::List(a), Self::List(b)) => Self::list_of(a.or(*b)),
            _ => Self::Any,
        }
    }

    /// What iterating over it, or looking into it, yields.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::List(item) => (**item).clone(),
            Self::Never => Self::Never,
            // The items of a text are texts; of a number there are none.
            Self::Number | Self::Scalar => Self::Scalar,
            Self::Any => Self::Any,
        }
    }

    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Self::Never | Self::Number | Self::Scalar)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Never | Self::Number)
    }
}
