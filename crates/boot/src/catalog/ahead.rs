//! What a lookup will read, fetched from memory before it is read.
//!
//! In a catalog of a hundred thousand machines, next to nothing that belongs to one machine is in the processor's cache when it boots. A
//! lookup reads a leaf of the index, then the Assignment to which that leads, then its name, and waits for each in turn: a tenth of what
//! a whole request costs. There is work that needs none of them, reading the request and the query; so they are asked for before that.
//!
//! These are hints: nothing that is answered depends on them.

use std::slice;

use prefetch_index::prefetch_index;
use uuid::Uuid;

use crate::assignment::Assignment;

use super::Catalog;

/// A smaller catalog is in the cache as it is.
const MANY: usize = 4096;

impl Catalog {
    /// The first step, as soon as a query is there: the leaf of the index. Of queries in the order of the bootstrap script, which start with
    /// the uuid; others are answered as well, without this.
    ///
    /// Gives that uuid, for the second step.
    pub fn look_ahead(&self, query: &[u8]) -> Option<Uuid> {
        if self.uuids.len() < MANY {
            return None;
        }
        let uuid = query.strip_prefix(b"uuid=")?.get(..uuid::fmt::Hyphenated::LENGTH)?;
        let uuid = Uuid::try_parse_ascii(uuid).ok()?;
        self.uuids.fetch(&uuid);
        Some(uuid)
    }

    /// The second, once the leaf had the time to come: the Assignment.
    pub fn look_further(&self, uuid: Uuid) {
        if let Some(assignment) = self.uuids.get(&uuid).and_then(|bucket| bucket.first()) {
            // In the order of selection; they are not all in one line of the cache.
            prefetch_index(slice::from_ref(&assignment.priority), 0);
            prefetch_index(slice::from_ref(&assignment.subjects.labels), 0);
            prefetch_index(slice::from_ref(&assignment.profiles), 0);
            prefetch_index(slice::from_ref(&assignment.key), 0);
        }
    }
}

impl Assignment {
    /// The third: its name, which is said when all is done.
    pub(crate) fn fetch_name(&self) {
        let name = self.key.name.as_bytes();
        prefetch_index(name, 0);
        prefetch_index(name, name.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Change, Labels, ObjectKey, SubjectSelectors};

    // Whether anything comes from memory sooner is not to be seen here.
    #[test]
    fn it_looks_ahead_for_whoever_begins_with_a_uuid_and_where_there_are_many() {
        let mut catalog = Catalog::new();
        let uuid = |number: usize| Uuid::from_u128(0x47c6_da67_7477_4970_aa03_0000_0000_0000 | number as u128);
        let mut seen = Vec::new();
        for number in 0..=MANY {
            seen.push(catalog.look_ahead(format!("uuid={}&mac=", uuid(0)).as_bytes()).is_some());
            catalog.apply(Change::Assignment(Arc::new(Assignment {
                key: ObjectKey::new("n", format!("{number}")),
                created: None,
                labels: Labels::default(),
                subjects: SubjectSelectors { uuids: [uuid(number)].into(), ..SubjectSelectors::default() },
                profiles: Labels::default(),
                priority: 0,
            })));
        }
        assert_eq!(seen.iter().position(|is_seen| *is_seen), Some(MANY));
        for known in [uuid(0), uuid(MANY), uuid(MANY + 1), Uuid::nil()] {
            assert_eq!(catalog.look_ahead(format!("uuid={known}").as_bytes()), Some(known));
            catalog.look_further(known);
        }
        for other in
            ["", "uuid=", "mac=52:54:00:00:00:01&uuid=47c6da67-7477-4970-aa03-000000000000", "uuid=47c6da67-7477-4970-aa03-00000000000x"]
        {
            assert_eq!(catalog.look_ahead(other.as_bytes()), None, "{other}");
        }
    }
}
