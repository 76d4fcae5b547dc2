//! Builds Assignments for tests.

use std::sync::Arc;

use boot::{Assignment, LabelSelector, ObjectKey, Sorted, SubjectSelectors};

/// Creates an Assignment with these serial numbers and labels that selects any Profile.
pub(crate) fn assignment(
    name: &str,
    serials: &[&str],
    labels: &[(&str, &str)],
    priority: i32,
) -> Assignment {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    Assignment {
        key: ObjectKey::new("n", name),
        created: None,
        labels: boot::Labels::default(),
        subjects: SubjectSelectors {
            serials: serials
                .iter()
                .map(|serial| Arc::from(*serial))
                .collect::<Sorted<_>>(),
            labels: LabelSelector::new(&labels, []),
            ..SubjectSelectors::default()
        },
        profiles: boot::Labels::default(),
        priority,
        variables: boot::Variables::default(),
    }
}
