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
    /// The newest version that it had then, where that was not seen.
    ahead: Option<u64>,
}

/// What a server has that is not as it was seen.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// It does not know what was seen.
    pub(super) is_reset: bool,
    pub(super) missing: Option<Seen>,
    pub(super) ahead: Option<u64>,
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
    Continues,
    /// Something was changed or deleted, of which word may be on its way; or has never been. Time will tell.
    Pending,
    /// Word of something that changed has not come.
    Stalled,
    /// It does not know what was seen.
    Reset,
}

// === impl History ===

impl History {
    /// An object was seen, or seen to be gone, at this version.
    pub(super) fn see(&mut self, key: &ObjectKey, version: &Version, is_gone: bool) {
        let Version::Number(version) = *version else {
            return;
        };
        self.version = self.version.max(version);
        let oldest = self.newest.iter().map(|seen| seen.version).min();
        if self.newest.len() >= NEWEST && oldest.is_some_and(|oldest| version < oldest) {
            return;
        }
        self.newest.retain(|seen| seen.key != *key);
        self.newest.push(Seen {
            key: key.clone(),
            version,
            is_gone,
        });
        self.newest
            .sort_by_key(|seen| std::cmp::Reverse(seen.version));
        self.newest.truncate(NEWEST);
    }

    /// The highest version that was seen.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the server, which has this version now, had a higher one before.
    pub(super) fn is_beyond(&self, version: Option<&str>) -> bool {
        version
            .and_then(|version| version.parse::<u64>().ok())
            .is_some_and(|now| now < self.version)
    }

    /// What to ask the server for.
    pub(super) fn newest(&self) -> Vec<Seen> {
        self.newest.clone()
    }

    /// What it means that the server has what was found: nothing at first, as word of it may be on its way.
    pub(super) fn assess(&mut self, found: Probed) -> Verdict {
        let Probed {
            is_reset,
            missing,
            ahead,
        } = found;
        let is_still_missing = missing.is_some() && self.missing == missing;
        let is_still_ahead = self.ahead.is_some_and(|ahead| self.version < ahead);
        let may_come = missing.is_some() || ahead.is_some();
        (self.missing, self.ahead) = (missing, ahead);
        match () {
            () if is_reset || is_still_missing => Verdict::Reset,
            () if is_still_ahead => Verdict::Stalled,
            () if may_come => Verdict::Pending,
            () => Verdict::Continues,
        }
    }
}

// === impl Probed ===

impl Probed {
    /// The server has the object at this version now, or has it not.
    pub(super) fn record(&mut self, seen: Seen, now: Option<&str>) {
        match now.map(str::parse::<u64>) {
            Some(Ok(now)) if now < seen.version => self.is_reset = true,
            Some(Ok(now)) if now > seen.version => self.ahead = self.ahead.max(Some(now)),
            None if !seen.is_gone => self.missing = self.missing.take().or(Some(seen)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn one(name: &str, version: &str, is_gone: bool) -> History {
        let mut history = History::default();
        history.see(&key(name), &version.into(), is_gone);
        history
    }

    /// What it means that the server has the object of [`one`] at this version, or has it not.
    fn assess(history: &mut History, now: Option<&str>) -> Verdict {
        let mut found = Probed::default();
        found.record(history.newest().remove(0), now);
        history.assess(found)
    }

    #[test]
    fn a_server_that_has_an_older_version_of_an_object_went_back() {
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, Some("120")), Verdict::Reset);
        assert_eq!(assess(&mut history, Some("150")), Verdict::Continues);
        assert!(
            history.is_beyond(Some("149"))
                && !history.is_beyond(Some("150"))
                && !history.is_beyond(None)
        );
    }

    #[test]
    fn a_deleted_object_that_is_there_as_it_was_is_a_server_that_went_back() {
        let mut history = one("a", "150", true);
        assert_eq!(assess(&mut history, Some("120")), Verdict::Reset);
        assert_eq!(assess(&mut history, None), Verdict::Continues);
        // Somebody made it anew.
        assert_eq!(assess(&mut history, Some("160")), Verdict::Pending);
    }

    #[test]
    fn an_object_that_is_missing_is_waited_for_once() {
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, None), Verdict::Pending);
        assert_eq!(assess(&mut history, None), Verdict::Reset);
        assert_eq!(assess(&mut history, Some("150")), Verdict::Continues);
        assert_eq!(assess(&mut history, None), Verdict::Pending);
    }

    #[test]
    fn word_of_a_newer_version_is_waited_for_once_and_any_later_word_will_do() {
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Pending);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Stalled);
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Pending);
        history.see(&key("a"), &"151".into(), false);
        assert_eq!(
            assess(&mut history, Some("152")),
            Verdict::Pending,
            "it changes all the time"
        );
        history.see(&key("b"), &"153".into(), false);
        assert_eq!(assess(&mut history, Some("153")), Verdict::Continues);
    }

    #[test]
    fn only_the_newest_are_remembered_each_once_and_versions_that_are_no_numbers_not_at_all() {
        let mut history = History::default();
        for (name, version) in [
            ("a", "1"),
            ("b", "9"),
            ("c", "3"),
            ("d", "x"),
            ("e", "5"),
            ("f", "7"),
            ("b", "11"),
            ("a", "2"),
        ] {
            history.see(&key(name), &version.into(), false);
        }
        let newest: Vec<_> = history
            .newest()
            .into_iter()
            .map(|seen| (seen.key.name.to_string(), seen.version))
            .collect();
        assert_eq!(
            newest,
            [
                ("b".to_owned(), 11),
                ("f".to_owned(), 7),
                ("e".to_owned(), 5),
                ("c".to_owned(), 3)
            ]
        );
        assert_eq!(history.version(), 11);
    }
}
