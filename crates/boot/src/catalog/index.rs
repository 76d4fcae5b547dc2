//! A persistent hash map, tuned for the memory and lookup time of a catalog of a million objects.
//!
//! It is a trie over the bits of the hash whose leaves are slices of entries. A lookup visits a few
//! nodes, most of them shared by all lookups, and ends at contiguous entries. A clone shares
//! everything; a change copies the shared nodes on its path. (A map with one node for each entry
//! took a third of a catalog's memory, and most of a lookup's time in a large catalog.)

use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;

use smallvec::SmallVec;

/// Number of hash bits by which a node selects a child.
const BITS: u32 = 6;
const CHILDREN: usize = 1 << BITS;
/// Maximum number of entries in a leaf. A longer leaf is split into a node while hash bits remain.
/// The leaves of a growing index fill up and split at about the same time, so large leaves keep the
/// nodes few enough for the processor's cache. (Small in tests, to get many nodes.)
const MAX_LEAF: usize = if cfg!(test) { 8 } else { 48 };

/// A persistent hash map.
pub(crate) struct Index<K, V> {
    root: Child<K, V>,
    len: usize,
    hasher: ahash::RandomState,
}

enum Child<K, V> {
    /// Entries sorted by tag; may be empty.
    Leaf(Arc<[Entry<K, V>]>),
    Node(Arc<Node<K, V>>),
}

struct Node<K, V> {
    children: [Child<K, V>; CHILDREN],
}

#[derive(Clone)]
struct Entry<K, V> {
    /// The upper half of the hash. Entries with different tags are told apart without reading their
    /// keys.
    tag: u32,
    key: K,
    value: V,
}

/// Iterates over all entries, in no particular order.
pub(crate) struct Iter<'i, K, V> {
    nodes: SmallVec<[std::slice::Iter<'i, Child<K, V>>; 8]>,
    leaf: std::slice::Iter<'i, Entry<K, V>>,
}

// === impl Index ===

impl<K, V> Index<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            root: Child::empty(),
            len: 0,
            hasher: ahash::RandomState::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            nodes: SmallVec::from_iter([std::slice::from_ref(&self.root).iter()]),
            leaf: [].iter(),
        }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Index<K, V> {
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key, |own| own.borrow() == key)
    }

    /// Returns the stored key.
    pub(crate) fn get_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.entry(key, |own| own.borrow() == key)
            .map(|entry| &entry.key)
    }

    /// Returns the value of the key for which `is` holds, for keys that can't be borrowed. `like`
    /// must have the same hash as that key.
    pub(crate) fn find(&self, like: impl Hash, is: impl Fn(&K) -> bool) -> Option<&V> {
        self.entry(like, is).map(|entry| &entry.value)
    }

    fn entry(&self, like: impl Hash, is: impl Fn(&K) -> bool) -> Option<&Entry<K, V>> {
        if self.len == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(like);
        let leaf = self.leaf(hash);
        search(leaf, hash, is).ok().map(|at| &leaf[at])
    }

    /// Returns the only leaf that can contain this hash.
    fn leaf(&self, hash: u64) -> &[Entry<K, V>] {
        let (mut child, mut rest) = (&self.root, hash);
        loop {
            match child {
                Child::Leaf(entries) => return entries,
                Child::Node(node) => child = &node.children[slot(rest)],
            }
            rest >>= BITS;
        }
    }

    /// Inserts a value, replacing the current one.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let hash = self.hasher.hash_one(&key);
        let (mut child, mut depth) = (&mut self.root, 0);
        let entries = loop {
            match child {
                Child::Leaf(entries) => break entries,
                Child::Node(node) => {
                    child = &mut Arc::make_mut(node).children[slot(hash >> (BITS * depth))];
                }
            }
            depth += 1;
        };
        let entry = Entry {
            tag: tag(hash),
            key,
            value,
        };
        let known = search(entries, hash, |other| *other == entry.key);
        let (Ok(at) | Err(at)) = known;
        let rest = &entries[at + usize::from(known.is_ok())..];
        let updated: Arc<[_]> = entries[..at]
            .iter()
            .cloned()
            .chain([entry])
            .chain(rest.iter().cloned())
            .collect();
        match known {
            Ok(_) => *entries = updated,
            Err(_) => {
                self.len += 1;
                let is_full = updated.len() > MAX_LEAF && BITS * (depth + 1) <= u64::BITS;
                *child = if is_full {
                    split(&updated, depth, &self.hasher)
                } else {
                    Child::Leaf(updated)
                };
            }
        }
    }

    /// Removes the value of a key, if there is one.
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Copy nothing if the key is absent.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let removed = remove_below(&mut self.root, hash, hash, key);
        self.len -= 1;
        removed
    }
}

impl<K, V> Clone for Index<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
            hasher: self.hasher.clone(),
        }
    }
}

/// Removes an entry below a child, and collapses nodes that fit into a leaf.
fn remove_below<K: Hash + Eq + Clone + Borrow<Q>, V: Clone, Q: Hash + Eq + ?Sized>(
    child: &mut Child<K, V>,
    hash: u64,
    rest: u64,
    key: &Q,
) -> Option<V> {
    match child {
        Child::Leaf(entries) => {
            let at = search(entries, hash, |own| own.borrow() == key).ok()?;
            let value = entries[at].value.clone();
            *child = Child::of(
                entries[..at]
                    .iter()
                    .chain(&entries[at + 1..])
                    .cloned()
                    .collect(),
            );
            Some(value)
        }
        Child::Node(node) => {
            let node = Arc::make_mut(node);
            let value = remove_below(&mut node.children[slot(rest)], hash, rest >> BITS, key);
            if let Some(collapsed) = node.collapsed() {
                *child = collapsed;
            }
            value
        }
    }
}

/// Splits a leaf that is too long into a node.
fn split<K: Hash + Clone, V: Clone>(
    entries: &[Entry<K, V>],
    depth: u32,
    hasher: &ahash::RandomState,
) -> Child<K, V> {
    let mut parts: [Vec<Entry<K, V>>; CHILDREN] = std::array::from_fn(|_| Vec::new());
    for entry in entries {
        parts[slot(hasher.hash_one(&entry.key) >> (BITS * depth))].push(entry.clone());
    }
    let is_single = parts.iter().filter(|part| !part.is_empty()).count() == 1
        && BITS * (depth + 2) <= u64::BITS;
    let children = parts.map(|part| match part.len() {
        len if is_single && len > MAX_LEAF => split(&part, depth + 1, hasher),
        _ => Child::of(part),
    });
    Child::Node(Arc::new(Node { children }))
}

fn slot(hash: u64) -> usize {
    usize::try_from(hash % CHILDREN as u64).expect("there are few children")
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Interpolates the position of an entry: tags are uniformly distributed.
fn expected_position<K, V>(entries: &[Entry<K, V>], hash: u64) -> usize {
    ((u64::from(tag(hash)) * entries.len() as u64) >> u32::BITS) as usize
}

/// Returns the position of an entry in a leaf, or the position to insert it.
fn search<K, V>(
    entries: &[Entry<K, V>],
    hash: u64,
    is: impl Fn(&K) -> bool,
) -> Result<usize, usize> {
    let tag = tag(hash);
    let mut at = expected_position(entries, hash);
    while at > 0 && entries[at - 1].tag >= tag {
        at -= 1;
    }
    while entries.get(at).is_some_and(|entry| entry.tag < tag) {
        at += 1;
    }
    let mut same_tag = entries[at..].iter().take_while(|entry| entry.tag == tag);
    same_tag
        .position(|entry| is(&entry.key))
        .map(|beyond| at + beyond)
        .ok_or(at)
}

// === impl Node ===

impl<K: Clone, V: Clone> Node<K, V> {
    /// Returns the leaf that can replace this node once it holds little, so that an index that was
    /// once large becomes small again.
    fn collapsed(&self) -> Option<Child<K, V>> {
        let mut len = 0;
        for child in &self.children {
            len += match child {
                Child::Leaf(entries) => entries.len(),
                Child::Node(_) => return None,
            };
        }
        // Collapse well below the limit, or an entry that comes and goes would split and collapse
        // each time.
        if len > MAX_LEAF / 2 {
            return None;
        }
        let leaves = self.children.iter().filter_map(|child| {
            if let Child::Leaf(entries) = child {
                Some(entries)
            } else {
                None
            }
        });
        let mut entries: Vec<_> = leaves.flat_map(|entries| entries.iter().cloned()).collect();
        entries.sort_by_key(|entry| entry.tag);
        Some(Child::of(entries))
    }
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        Self {
            children: self.children.clone(),
        }
    }
}

// === impl Child ===

impl<K, V> Child<K, V> {
    fn empty() -> Self {
        Self::of(Vec::new())
    }

    /// Creates a leaf. All empty leaves share one allocation.
    fn of(entries: Vec<Entry<K, V>>) -> Self {
        Self::Leaf(if entries.is_empty() {
            Arc::default()
        } else {
            entries.into()
        })
    }
}

impl<K, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(entries.clone()),
            Self::Node(node) => Self::Node(node.clone()),
        }
    }
}

// === impl Iter ===

impl<'i, K, V> Iterator for Iter<'i, K, V> {
    type Item = (&'i K, &'i V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some((&entry.key, &entry.value));
            }
            match self.nodes.last_mut()?.next() {
                Some(Child::Leaf(entries)) => self.leaf = entries.iter(),
                Some(Child::Node(node)) => self.nodes.push(node.children.iter()),
                None => drop(self.nodes.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A key with only seven different hashes, so that keys collide.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Coarse(u16);

    impl Hash for Coarse {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            state.write_u16(self.0 % 7);
        }
    }

    fn depth<K, V>(child: &Child<K, V>) -> usize {
        match child {
            Child::Node(node) => 1 + node.children.iter().map(depth).max().unwrap_or(0),
            Child::Leaf(_) => 0,
        }
    }

    proptest! {
        #[test]
        fn an_index_holds_what_a_hash_map_holds(changes in prop::collection::vec((0..400_u16, any::<bool>(), any::<u32>()), 0..1500)) {
            let (mut index, mut map) = (Index::new(), HashMap::new());
            let mut former = Vec::new();
            for (step, (key, is_put, value)) in changes.into_iter().enumerate() {
                if step % 100 == 0 {
                    former.push((index.clone(), map.clone()));
                }
                if is_put {
                    index.insert(key, value);
                    map.insert(key, value);
                } else {
                    prop_assert_eq!(index.remove(&key), map.remove(&key));
                }
            }
            former.push((index, map));
            for (index, map) in former {
                prop_assert_eq!(index.len(), map.len());
                prop_assert_eq!(index.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), map.clone());
                for key in 0..400 {
                    prop_assert_eq!(index.get(&key), map.get(&key));
                }
            }
        }
    }

    #[test]
    fn keys_with_equal_hashes_stay_distinct() {
        let mut index = Index::new();
        for key in 0..500 {
            index.insert(Coarse(key), key);
        }
        assert!((0..500).all(|key| index.get(&Coarse(key)) == Some(&key)));
        assert!((0..500).all(|key| index.remove(&Coarse(key)) == Some(key)));
        assert!(index.is_empty() && index.iter().next().is_none());
    }

    #[test]
    fn an_emptied_index_is_as_small_as_a_new_one() {
        let mut index = Index::new();
        (0..100_000).for_each(|key: u32| index.insert(key, key));
        assert!(depth(&index.root) >= 3);
        assert!((10..100_000).all(|key: u32| index.remove(&key) == Some(key)));
        assert!(depth(&index.root) <= 2, "{}", depth(&index.root));
        assert!((0..10).all(|key: u32| index.remove(&key) == Some(key)));
        assert!(matches!(&index.root, Child::Leaf(entries) if entries.is_empty()));
    }

    #[test]
    fn changing_one_entry_copies_only_the_nodes_on_its_path() {
        let mut index = Index::new();
        (0..100_000).for_each(|key: u32| index.insert(key, Arc::new(key)));
        let before = index.clone();
        index.insert(7, Arc::new(0));
        // The copied leaf's values are in two slices now, all others in one.
        let copied = before
            .values()
            .filter(|value| Arc::strong_count(value) > 1)
            .count();
        assert!(copied <= MAX_LEAF, "{copied}");
    }
}
