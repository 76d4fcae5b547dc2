//! Paths of values in an object.

use std::fmt;

/// The path of a value in an object, such as `spec.subjectSelectors.uuids[3]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<PathSegment>);

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// The name of a field or the key of a map.
    Key(String),
    /// The index in a list, counted from 0.
    Index(usize),
}

// === impl FieldPath ===

impl FieldPath {
    /// Creates a path from the names of nested fields.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(
            keys.into_iter()
                .map(|key| PathSegment::Key(key.to_owned()))
                .collect(),
        )
    }

    /// The path of a field or map entry below this one.
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.join(PathSegment::Key(key.into()))
    }

    /// The path of a list item, counted from 0, below this one.
    pub fn index(&self, index: usize) -> Self {
        self.join(PathSegment::Index(index))
    }

    /// The segments, outermost first.
    pub fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    fn join(&self, segment: PathSegment) -> Self {
        Self(self.0.iter().cloned().chain([segment]).collect())
    }
}

/// Formats the path as the API server does, with keys that are not plain words in brackets.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_word = |key: &str| {
            !key.is_empty()
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                PathSegment::Key(key) if is_word(key) => {
                    write!(f, "{}{key}", if i == 0 { "" } else { "." })?;
                }
                PathSegment::Key(key) => write!(f, "[{}]", key.escape_debug())?,
                PathSegment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_formatted_like_the_api_server_formats_it() {
        let selectors = FieldPath::new(["spec", "subjectSelectors"]);
        assert_eq!(
            selectors.key("uuids").index(3).to_string(),
            "spec.subjectSelectors.uuids[3]"
        );
        assert_eq!(
            selectors.key("matchLabels").key("a.b/c").to_string(),
            "spec.subjectSelectors.matchLabels[a.b/c]"
        );
        assert_eq!(
            FieldPath::new(["spec", "additionalConfig", "user-data"]).to_string(),
            "spec.additionalConfig.user-data"
        );
    }
}
