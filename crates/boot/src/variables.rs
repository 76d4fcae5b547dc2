//! Variables: values for templates that a Profile, an Assignment or a Machine gives.
//!
//! The three are merged in this order, so that a Machine overrides its Assignment, and that the
//! Profile's defaults. Maps are merged key by key at any depth; everything else, lists too, is
//! replaced. `null` removes what an earlier layer gives.

mod fault;
mod schema;

use std::fmt;
use std::sync::Arc;

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use crate::intern;

pub use fault::{VariableFault, faults, merge};
pub use schema::{InvalidSchema, SchemaFault, VariablesSchema};

/// Maximum size of the variables of one object as JSON, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Maximum depth of lists and maps in a variable.
pub const MAX_DEPTH: usize = 16;
/// Maximum length of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 253;

/// The variables of one object.
///
/// ```
/// use boot::Variables;
///
/// let json = |text| serde_json::from_str(text).unwrap();
/// let profile = Variables::from_json(json(r#"{"ntp": ["pool.example"], "net": {"mtu": 1500}}"#))?;
/// let machine = Variables::from_json(json(r#"{"net": {"ip": "192.0.2.12"}, "ntp": ["local"]}"#))?;
/// let merged = Variables::merged([&profile, &machine]);
/// assert_eq!(
///     serde_json::to_string(&merged).unwrap(),
///     r#"{"net":{"ip":"192.0.2.12","mtu":1500},"ntp":["local"]}"#
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(
    /// `None` if there are none. Boxed twice, so that an object without variables pays for one
    /// pointer.
    Option<Arc<Entries>>,
);

/// The entries of a map, sorted by key.
type Entries = Box<[(Arc<str>, Json)]>;

/// A JSON value, in less memory than [`serde_json::Value`] takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(Box<str>),
    /// A list.
    List(Box<[Json]>),
    /// A map, sorted by key.
    Map(Entries),
}

/// The variables of an object can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVariables {
    /// They are larger than [`MAX_BYTES`].
    #[error(
        "the variables have {0} bytes as JSON; the limit of one object is {MAX_BYTES}, so put long text into a config"
    )]
    TooLarge(usize),
    /// Lists and maps are nested too deeply.
    #[error("variable {0:?} has more than {MAX_DEPTH} levels of lists and maps")]
    TooDeep(String),
    /// A key is empty, too long, or has control characters.
    #[error(
        "the name {0:?} in variable {1:?} must have 1 to {MAX_KEY_BYTES} bytes without control characters"
    )]
    Key(String, String),
}

// === impl Variables ===

impl Variables {
    /// Checks the variables of an object.
    pub fn from_json(variables: Map<String, Value>) -> Result<Self, InvalidVariables> {
        if variables.is_empty() {
            return Ok(Self::default());
        }
        for (name, value) in &variables {
            check(name, name, value, 1)?;
        }
        let bytes = json_bytes(&variables);
        if bytes > MAX_BYTES {
            return Err(InvalidVariables::TooLarge(bytes));
        }
        Ok(Self::of(entries(variables)))
    }

    fn of(entries: Entries) -> Self {
        Self((!entries.is_empty()).then(|| Arc::new(entries)))
    }

    /// Returns whether there are no variables.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Iterates over the variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.entries().iter().map(|(name, value)| (&**name, value))
    }

    /// Returns the value of a variable.
    pub fn get(&self, name: &str) -> Option<&Json> {
        lookup(self.entries(), name)
    }

    /// Returns the value that a path of names leads to. It is `null` where the path goes through a
    /// value that is not a map, which hides the maps of earlier layers.
    pub(crate) fn find(&self, path: &[impl AsRef<str>]) -> Option<&Json> {
        let (name, below) = path.split_first()?;
        let mut found = self.get(name.as_ref())?;
        for name in below {
            found = match found {
                Json::Map(entries) => lookup(entries, name.as_ref())?,
                _ => return Some(&Json::Null),
            };
        }
        Some(found)
    }

    /// Merges variables. Later ones override earlier ones.
    pub fn merged<'v>(layers: impl IntoIterator<Item = &'v Self>) -> Self {
        let mut entries: Vec<(Arc<str>, Json)> = Vec::new();
        for layer in layers {
            merge_into(&mut entries, layer.entries());
        }
        Self::of(entries.into())
    }

    fn entries(&self) -> &[(Arc<str>, Json)] {
        self.0.as_deref().map_or(&[], |entries| &**entries)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Serialises to a JSON object.
impl Serialize for Variables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_entries(self.entries(), serializer)
    }
}

// === impl Json ===

impl Json {
    /// Returns the text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the item of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => lookup(entries, key),
            _ => None,
        }
    }

    /// Merges values of one variable. Later ones override earlier ones. `None` if nothing is left.
    pub(crate) fn merge<'j>(layers: impl Iterator<Item = &'j Self>) -> Option<Self> {
        layers.fold(None, |merged, layer| match (merged, layer) {
            (_, Self::Null) => None,
            (Some(merged), layer) => Some(merged.merged_with(layer)),
            (None, layer) => Some(layer.without_nulls()),
        })
    }

    /// Returns this value with that of a later layer merged into it.
    fn merged_with(self, later: &Self) -> Self {
        match (self, later) {
            (Self::Map(own), Self::Map(later)) => {
                let mut entries = own.into_vec();
                merge_into(&mut entries, later);
                Self::Map(entries.into())
            }
            (_, later) => later.without_nulls(),
        }
    }

    /// Returns the value without keys that are `null` in maps.
    fn without_nulls(&self) -> Self {
        match self {
            Self::Map(own) => {
                let mut entries = Vec::with_capacity(own.len());
                merge_into(&mut entries, own);
                Self::Map(entries.into())
            }
            other => other.clone(),
        }
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => Self::Number(number),
            Value::String(text) => Self::Text(text.into()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            Value::Object(map) => Self::Map(entries(map)),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items
                    .iter()
                    .try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
            Self::Map(entries) => serialize_entries(entries, serializer),
        }
    }
}

fn serialize_entries<S: Serializer>(
    entries: &[(Arc<str>, Json)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(entries.len()))?;
    for (key, value) in entries {
        map.serialize_entry(&**key, value)?;
    }
    map.end()
}

fn entries(map: Map<String, Value>) -> Entries {
    let mut entries: Vec<_> = map
        .into_iter()
        .map(|(key, value)| (intern::string(&key), Json::from(value)))
        .collect();
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    entries.into()
}

fn lookup<'e>(entries: &'e [(Arc<str>, Json)], key: &str) -> Option<&'e Json> {
    let at = entries.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
    Some(&entries[at].1)
}

/// Merges the entries of a later layer into these. Both are sorted.
fn merge_into(entries: &mut Vec<(Arc<str>, Json)>, later: &[(Arc<str>, Json)]) {
    for (key, value) in later {
        match entries.binary_search_by(|(own, _)| own.cmp(key)) {
            Ok(at) if *value == Json::Null => drop(entries.remove(at)),
            Ok(at) => {
                let own = std::mem::replace(&mut entries[at].1, Json::Null);
                entries[at].1 = own.merged_with(value);
            }
            Err(_) if *value == Json::Null => {}
            Err(at) => entries.insert(at, (key.clone(), value.without_nulls())),
        }
    }
}

/// Checks the keys and the depth of a value.
fn check(variable: &str, key: &str, value: &Value, depth: usize) -> Result<(), InvalidVariables> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
        let excerpt = |text: &str| text.chars().take(64).collect();
        return Err(InvalidVariables::Key(excerpt(key), excerpt(variable)));
    }
    if depth > MAX_DEPTH {
        return Err(InvalidVariables::TooDeep(variable.to_owned()));
    }
    match value {
        Value::Object(map) => map
            .iter()
            .try_for_each(|(key, value)| check(variable, key, value, depth + 1)),
        Value::Array(items) => items
            .iter()
            .try_for_each(|value| check(variable, variable, value, depth + 1)),
        _ => Ok(()),
    }
}

/// Returns the size of the variables as JSON, in bytes.
fn json_bytes(variables: &Map<String, Value>) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, variables).expect("JSON values serialise to JSON");
    counter.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables(json: Value) -> Result<Variables, InvalidVariables> {
        let Value::Object(map) = json else {
            panic!("a map")
        };
        Variables::from_json(map)
    }

    #[test]
    fn later_layers_override_and_maps_are_merged_at_any_depth() {
        let layers = [
            json!({ "a": 1, "net": { "v4": { "ip": "x", "mtu": 1500 }, "dns": ["p"] }, "gone": 1, "kept": null }),
            json!({ "a": 2, "net": { "v4": { "ip": "y" }, "dns": ["q"] }, "gone": null }),
            json!({ "net": { "v4": { "mtu": null }, "new": { "x": null, "y": [null] } } }),
        ]
        .map(|layer| variables(layer).unwrap());
        let merged = serde_json::to_value(Variables::merged(&layers)).unwrap();
        assert_eq!(
            merged,
            json!({ "a": 2, "net": { "v4": { "ip": "y" }, "dns": ["q"], "new": { "y": [null] } } })
        );
    }

    #[test]
    fn a_map_and_another_value_replace_each_other() {
        for (earlier, later) in [
            (json!({ "x": { "a": 1 } }), json!({ "x": "text" })),
            (json!({ "x": [1] }), json!({ "x": { "b": 2 } })),
        ] {
            let layers = [earlier, later.clone()].map(|layer| variables(layer).unwrap());
            assert_eq!(
                serde_json::to_value(Variables::merged(&layers)).unwrap(),
                later
            );
        }
    }

    #[test]
    fn too_much_too_deep_and_unprintable_are_rejected() {
        let deep = |levels| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(variables(json!({ "x": deep(MAX_DEPTH - 1) })).is_ok());
        assert!(
            matches!(variables(json!({ "x": deep(MAX_DEPTH) })), Err(InvalidVariables::TooDeep(name)) if name == "x")
        );
        let text = |bytes: usize| json!({ "x": "a".repeat(bytes - r#"{"x":""}"#.len()) });
        assert!(variables(text(MAX_BYTES)).is_ok());
        assert_eq!(
            variables(text(MAX_BYTES + 1)),
            Err(InvalidVariables::TooLarge(MAX_BYTES + 1))
        );
        for key in ["", "a\nb", &"k".repeat(MAX_KEY_BYTES + 1)] {
            assert!(
                matches!(variables(json!({ "x": { key: 1 } })), Err(InvalidVariables::Key(_, name)) if name == "x"),
                "{key:?}"
            );
        }
    }

    #[test]
    fn no_variables_cost_a_pointer() {
        assert_eq!(size_of::<Variables>(), size_of::<usize>());
        assert!(size_of::<Json>() <= 24);
        assert!(variables(json!({})).unwrap().is_empty());
    }
}
