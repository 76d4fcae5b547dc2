//! Finds conflicts: Assignments that match one subject, with only age or name to decide between
//! them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::assignment::Assignment;
use crate::identity;

use super::Catalog;
use super::bucket::Bucket;

impl Catalog {
    /// Iterates over the Assignments that conflict with this one: those that some subject would
    /// match by the same identity, or by none, with the same priority and the same number of label
    /// requirements. Each occurs once, nearest in age and name first; invalid ones are left out.
    /// Lazy, so that taking a few is cheap.
    pub fn conflicting<'c>(
        &'c self,
        of: &'c Arc<Assignment>,
    ) -> impl Iterator<Item = &'c Arc<Assignment>> {
        self.conflicting_within(of, usize::MAX)
    }

    /// [`Catalog::conflicting`], but visits at most `limit` candidates. Without identities there
    /// can be too many to wait for.
    pub fn conflicting_within<'c>(
        &'c self,
        of: &'c Arc<Assignment>,
        limit: usize,
    ) -> impl Iterator<Item = &'c Arc<Assignment>> {
        let mut seen = HashSet::new();
        let equal = |bucket: &'c Bucket<Assignment>| {
            bucket.neighbours(of, |other| other.cmp_precedence(of).is_eq())
        };
        self.shared_buckets(of)
            .flat_map(equal)
            .take(limit)
            .filter(move |other| {
                self.rejected_assignment(other).is_none()
                    && other.subjects.labels.is_compatible(&of.subjects.labels)
                    && seen.insert(Arc::as_ptr(other))
            })
    }

    /// Iterates over the Assignments that list an identity that this one lists, in either byte
    /// order of a UUID, whatever decides between them; at most `limit` for each identity. They come
    /// in no particular order, once for each shared identity.
    pub fn sharing_identity<'c>(
        &'c self,
        of: &'c Assignment,
        limit: usize,
    ) -> impl Iterator<Item = &'c Arc<Assignment>> {
        let named = of
            .subjects
            .names_identities()
            .then(|| self.shared_buckets(of))
            .into_iter()
            .flatten();
        let swapped = of
            .subjects
            .uuids
            .iter()
            .map(|uuid| identity::other_byte_order(*uuid));
        let swapped = swapped
            .filter(|uuid| !identity::is_placeholder_uuid(*uuid))
            .filter_map(|uuid| self.uuids.get(&uuid));
        let is_compatible = |other: &&Arc<Assignment>| {
            other.key != of.key && other.subjects.labels.is_compatible(&of.subjects.labels)
        };
        named
            .chain(swapped)
            .flat_map(move |bucket| bucket.iter().filter(is_compatible).take(limit))
    }

    /// Iterates over the buckets of Assignments that share an identity with this one or, if it
    /// lists none, list none either.
    fn shared_buckets<'c>(
        &'c self,
        of: &'c Assignment,
    ) -> Box<dyn Iterator<Item = &'c Bucket<Assignment>> + 'c> {
        let subjects = &of.subjects;
        if !subjects.names_identities() {
            return Box::new(self.by_labels.compatible_buckets(&subjects.labels));
        }
        // Placeholders identify no subject.
        let uuids = subjects
            .uuids
            .iter()
            .filter(|uuid| !identity::is_placeholder_uuid(**uuid));
        let serials = subjects
            .serials
            .iter()
            .filter(|serial| !identity::is_placeholder_serial(serial));
        let macs = subjects.macs.iter().filter(|mac| !mac.is_placeholder());
        let uuids = uuids.filter_map(|uuid| self.uuids.get(uuid));
        let serials = serials.filter_map(|serial| self.serials.get(&**serial));
        Box::new(
            uuids
                .chain(serials)
                .chain(macs.filter_map(|mac| self.macs.get(mac))),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Change, LabelSelector, ObjectKey, SubjectSelectors};

    fn by_labels(name: &str, labels: &[(&str, String)]) -> Arc<Assignment> {
        let wanted: BTreeMap<_, _> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        Arc::new(Assignment {
            key: ObjectKey::new("n", name),
            created: None,
            labels: crate::Labels::default(),
            subjects: SubjectSelectors {
                labels: LabelSelector::new(&wanted, []),
                ..SubjectSelectors::default()
            },
            profiles: crate::Labels::default(),
            priority: 0,
            variables: crate::Variables::default(),
        })
    }

    /// Counts the Assignments that are visited to find the conflicts of all, where two shapes share
    /// a key and no value occurs twice in one shape.
    fn visited(count: usize, of: impl Fn(&str, usize) -> Vec<(&'static str, String)>) -> usize {
        let mut catalog = Catalog::new();
        let each = |number| {
            ["row", "slot"].map(|other| by_labels(&format!("{other}{number}"), &of(other, number)))
        };
        let all: Vec<_> = (0..count).flat_map(each).collect();
        for assignment in &all {
            catalog.apply(Change::Assignment(assignment.clone()));
        }
        assert!(
            all.iter()
                .all(|assignment| catalog.conflicting(assignment).count() == 1),
            "each has the one of the other shape"
        );
        all.iter()
            .map(|assignment| {
                catalog
                    .shared_buckets(assignment)
                    .map(Bucket::len)
                    .sum::<usize>()
            })
            .sum()
    }

    #[test]
    fn conflict_search_visits_only_overlapping_assignments() {
        let other = |name: &str| if name == "row" { "row" } else { "slot" };
        let two_values = |name: &str, number: usize| {
            vec![
                ("rack", format!("r{number}")),
                (other(name), "1".to_owned()),
            ]
        };
        for count in [100, 1000] {
            // Itself and its one conflict, at most twice.
            let visited = visited(count, two_values);
            assert!(
                visited <= 4 * 2 * count,
                "{visited} visits for {} Assignments",
                2 * count
            );
        }
    }
}
