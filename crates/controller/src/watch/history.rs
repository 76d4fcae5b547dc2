//! What was seen of a server's history, to notice when that is no longer the server's: etcd was restored from a backup.
//!
//! Versions count all writes to a server, so that a restored one soon counts on beyond what was seen, by its own bookkeeping alone. Objects tell
//! longer: one that was changed or deleted after the backup is as old as it was then, gone, or there again.

use boot::ObjectKey;

use crate::observed::Version;

/// How many of the newest changes are remembered.
const NEWEST: usize = 4;

/// What was seen of one source, where versions are numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    version: u64,
    newest: Vec<Seen>,
    /// What was missing when the server was asked last.
    missing: Option<Seen>,
}

/// A change that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) key: ObjectKey,
    version: u64,
    is_gone: bool,
}

/// What an answer of the server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on from what was seen.
    GoesOn,
    /// Either it was deleted just now, or it has never been: time will tell.
    IsMissing,
    /// It does not know what was seen.
    WentBack,
}

// === impl History ===

impl History {
    /// An object was seen, or seen to be gone, at this version.
    pub(super) fn see(&mut self, key: &ObjectKey, version: &Version, is_gone: bool) {
        let Version::Number(version) = *version else { return };
        self.version = self.version.max(version);
        let oldest = self.newest.iter().map(|seen| seen.version).min();
        if self.newest.len() >= NEWEST && oldest.is_some_and(|oldest| version < oldest) {
            return;
        }
        self.newest.retain(|seen| seen.key != *key);
        self.newest.push(Seen { key: key.clone(), version, is_gone });
        self.newest.sort_by_key(|seen| std::cmp::Reverse(seen.version));
        self.newest.truncate(NEWEST);
    }

    /// The highest version that was seen.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the server, which has this version now, had a higher one before.
    pub(super) fn is_beyond(&self, version: Option<&str>) -> bool {
        version.and_then(|version| version.parse::<u64>().ok()).is_some_and(|now| now < self.version)
    }

    /// What to ask the server for.
    pub(super) fn newest(&self) -> Vec<Seen> {
        self.newest.clone()
    }

    /// What it means that something is missing: nothing at first, as word of its deletion may be on its way.
    pub(super) fn misses(&mut self, seen: Option<Seen>) -> Verdict {
        let is_still = seen.is_some() && self.missing == seen;
        self.missing = seen;
        match &self.missing {
            None => Verdict::GoesOn,
            Some(_) if is_still => Verdict::WentBack,
            Some(_) => Verdict::IsMissing,
        }
    }
}

// === impl Seen ===

impl Seen {
    /// What it means that the server has the object at this version now, or has it not.
    pub(super) fn judge(&self, now: Option<&str>) -> Verdict {
        match now.map(str::parse::<u64>) {
            Some(Ok(now)) if now < self.version => Verdict::WentBack,
            None if !self.is_gone => Verdict::IsMissing,
            _ => Verdict::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn one(name: &str, version: &str, is_gone: bool) -> (History, Seen) {
        let mut history = History::default();
        history.see(&key(name), &version.into(), is_gone);
        let seen = history.newest().remove(0);
        (history, seen)
    }

    #[test]
    fn a_server_that_has_an_older_version_of_an_object_went_back() {
        let (history, seen) = one("a", "150", false);
        assert_eq!(seen.judge(Some("120")), Verdict::WentBack);
        assert_eq!(seen.judge(Some("150")), Verdict::GoesOn);
        assert_eq!(seen.judge(Some("151")), Verdict::GoesOn);
        assert!(history.is_beyond(Some("149")) && !history.is_beyond(Some("150")) && !history.is_beyond(None));
    }

    #[test]
    fn a_deleted_object_that_is_there_as_it_was_is_a_server_that_went_back() {
        let (_, seen) = one("a", "150", true);
        assert_eq!(seen.judge(Some("120")), Verdict::WentBack);
        assert_eq!(seen.judge(None), Verdict::GoesOn);
        // Somebody made it anew.
        assert_eq!(seen.judge(Some("160")), Verdict::GoesOn);
    }

    #[test]
    fn an_object_that_is_missing_is_waited_for_once() {
        let (mut history, seen) = one("a", "150", false);
        assert_eq!(seen.judge(None), Verdict::IsMissing);
        assert_eq!(history.misses(Some(seen.clone())), Verdict::IsMissing);
        assert_eq!(history.misses(Some(seen.clone())), Verdict::WentBack);
        assert_eq!(history.misses(None), Verdict::GoesOn);
        assert_eq!(history.misses(Some(seen)), Verdict::IsMissing);
    }

    #[test]
    fn only_the_newest_are_remembered_each_once_and_versions_that_are_no_numbers_not_at_all() {
        let mut history = History::default();
        for (name, version) in [("a", "1"), ("b", "9"), ("c", "3"), ("d", "x"), ("e", "5"), ("f", "7"), ("b", "11"), ("a", "2")] {
            history.see(&key(name), &version.into(), false);
        }
        let newest: Vec<_> = history.newest().into_iter().map(|seen| (seen.key.name.to_string(), seen.version)).collect();
        assert_eq!(newest, [("b".to_owned(), 11), ("f".to_owned(), 7), ("e".to_owned(), 5), ("c".to_owned(), 3)]);
        assert_eq!(history.version(), 11);
    }
}
