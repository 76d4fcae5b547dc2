//! The kind of an expression's value, inferred without evaluating it.

/// The kind of a value. Kinds only grow: from `Never` to one of the others, and at last to `Any`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No value was seen yet.
    Never,
    /// A number.
    Number,
    /// A number, a boolean, none, or text that the template can't make long: a label or a short
    /// literal.
    Word,
    /// A word, or text of any length.
    Scalar,
    /// A variable: a scalar, or a list or map of variables. It is bounded when it is loaded, and
    /// what can't be printed is an error when the template runs.
    Json,
    /// A list, or a map seen through its keys and values.
    List(Box<Kind>),
    /// A list, or a slice or the reverse of one, which is recomputed whenever it is iterated.
    View(Box<Kind>),
    /// Any mixture.
    Any,
}

impl Kind {
    pub(super) fn list_of(items: Self) -> Self {
        Self::List(Box::new(items))
    }

    pub(super) fn view_of(items: Self) -> Self {
        Self::View(Box::new(items))
    }

    /// Returns the kind of a value that is of either kind.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Never, kind) | (kind, Self::Never) => kind,
            (Self::Number | Self::Word, Self::Number | Self::Word) => Self::Word,
            (Self::Json, other) | (other, Self::Json) if other.is_in_json() => Self::Json,
            (a, b) if a.is_scalar() && b.is_scalar() => Self::Scalar,
            (Self::List(a), Self::List(b)) => Self::list_of(a.or(*b)),
            (Self::List(a) | Self::View(a), Self::List(b) | Self::View(b)) => {
                Self::view_of(a.or(*b))
            }
            _ => Self::Any,
        }
    }

    /// Returns the kind of an item of this value, by iteration or by index.
    pub(super) fn item(&self) -> Self {
        match self {
            Self::List(item) | Self::View(item) => (**item).clone(),
            Self::Never => Self::Never,
            // The items of text are its characters; a number has none.
            Self::Number | Self::Word | Self::Scalar => Self::Word,
            Self::Json => Self::Json,
            Self::Any => Self::Any,
        }
    }

    /// Returns whether a variable could be a value of this kind.
    fn is_in_json(&self) -> bool {
        match self {
            Self::List(item) => item.is_in_json(),
            other => other.is_scalar(),
        }
    }

    pub(super) fn is_scalar(&self) -> bool {
        self.is_word() || matches!(self, Self::Scalar | Self::Json)
    }

    pub(super) fn is_word(&self) -> bool {
        matches!(self, Self::Never | Self::Number | Self::Word)
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Never | Self::Number)
    }
}
