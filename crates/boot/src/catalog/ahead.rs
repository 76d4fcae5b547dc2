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
use crate::identity::{self, UUID_BYTES};

use super::Catalog;

/// A smaller catalog is in the cache as it is.
const MANY: usize = 4096;

impl Catalog {
    /// The first step, as soon as a query is there: the leaf of the index. Of queries in the order of the bootstrap script, which start with
    /// the uuid; others are answered as well, without this.
    pub fn look_ahead(&self, query: &[u8]) {
        if let Some(uuid) = self.uuid_among_many(query) {
            self.uuids.fetch(&uuid);
        }
    }

    /// The second, once the leaf had the time to come: the Assignment.
    pub fn look_further(&self, query: &[u8]) {
        let bucket = self
            .uuid_among_many(query)
            .and_then(|uuid| self.uuids.get(&uuid));
        if let Some(assignment) = bucket.and_then(|bucket| bucket.first()) {
            // In the order of selection; they are not all in one line of the cache.
            fetch(&assignment.priority);
            fetch(&assignment.subjects.labels);
            fetch(&assignment.profiles);
            fetch(&assignment.key);
        }
    }

    /// Whom to look ahead for, where that is worth it.
    fn uuid_among_many(&self, query: &[u8]) -> Option<Uuid> {
        if self.uuids.len() < MANY {
            return None;
        }
        identity::parse_uuid_bytes(query.strip_prefix(b"uuid=")?.get(..UUID_BYTES)?)
    }
}

fn fetch<T>(field: &T) {
    prefetch_index(slice::from_ref(field), 0);
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
        let uuid = |number: usize| {
            Uuid::from_u128(0x47c6_da67_7477_4970_aa03_0000_0000_0000 | number as u128)
        };
        let mut seen = Vec::new();
        for number in 0..=MANY {
            seen.push(
                catalog
                    .uuid_among_many(format!("uuid={}&mac=", uuid(0)).as_bytes())
                    .is_some(),
            );
            catalog.apply(Change::Assignment(Arc::new(Assignment {
                key: ObjectKey::new("n", format!("{number}")),
                created: None,
                labels: Labels::default(),
                subjects: SubjectSelectors {
                    uuids: [uuid(number)].into(),
                    ..SubjectSelectors::default()
                },
                profiles: Labels::default(),
                priority: 0,
            })));
        }
        assert_eq!(seen.iter().position(|is_seen| *is_seen), Some(MANY));
        for known in [uuid(0), uuid(MANY), uuid(MANY + 1), Uuid::nil()] {
            let query = format!("uuid={known}");
            assert_eq!(catalog.uuid_among_many(query.as_bytes()), Some(known));
            catalog.look_ahead(query.as_bytes());
            catalog.look_further(query.as_bytes());
        }
        for other in [
            "",
            "uuid=",
            "mac=52:54:00:00:00:01&uuid=47c6da67-7477-4970-aa03-000000000000",
            "uuid=47c6da67-7477-4970-aa03-00000000000x",
        ] {
            assert_eq!(catalog.uuid_among_many(other.as_bytes()), None, "{other}");
        }
    }
}
