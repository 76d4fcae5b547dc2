//! Detects that a server's history went back, as after etcd was restored from a backup.
//!
//! Versions count all writes to a server, so the version of a restored server soon passes what was
//! seen, just from the server's own bookkeeping. Individual objects give it away for longer: an
//! object that was changed or deleted after the backup has its old version, is missing, or exists
//! again.

use boot::ObjectKey;

use crate::observed::Version;

/// The number of recent changes to remember.
const NEWEST: usize = 4;

/// What was seen of one source, as far as its versions are numbers.
#[derive(Debug, Default)]
pub(super) struct History {
    version: u64,
    newest: Vec<Seen>,
    /// An object that was missing at the last probe.
    missing: Option<Seen>,
    /// The newest version at the last probe that had not been seen.
    ahead: Option<u64>,
}

/// The differences between a server's state and a history.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// The server does not know what was seen.
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

/// The result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The history continues from what was seen.
    Continues,
    /// Something was changed or deleted. The watch may still deliver it, or the history went back;
    /// the next probe decides.
    Pending,
    /// The watch has not delivered a change.
    Stalled,
    /// The server does not know what was seen.
    Reset,
}

// === impl History ===

impl History {
    /// Records that an object was seen, or seen to be deleted, at this version.
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

    /// Returns the highest version that was seen.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Returns whether `version` is lower than the highest version that was seen.
    pub(super) fn is_beyond(&self, version: Option<&str>) -> bool {
        version
            .and_then(|version| version.parse::<u64>().ok())
            .is_some_and(|now| now < self.version)
    }

    /// Returns the changes to ask the server about.
    pub(super) fn newest(&self) -> Vec<Seen> {
        self.newest.clone()
    }

    /// Evaluates a probe. A first difference decides nothing, as the watch may still deliver it.
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
    /// Records the server's current version of an object; `None` if the server does not have it.
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

    /// Evaluates a probe in which the server has this version of the object of [`one`], or does not
    /// have the object.
    fn assess(history: &mut History, now: Option<&str>) -> Verdict {
        let mut found = Probed::default();
        found.record(history.newest().remove(0), now);
        history.assess(found)
    }

    #[test]
    fn an_older_object_version_means_a_reset() {
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
    fn a_deleted_object_that_exists_at_its_old_version_means_a_reset() {
        let mut history = one("a", "150", true);
        assert_eq!(assess(&mut history, Some("120")), Verdict::Reset);
        assert_eq!(assess(&mut history, None), Verdict::Continues);
        // The object was deleted and created again.
        assert_eq!(assess(&mut history, Some("160")), Verdict::Pending);
    }

    #[test]
    fn a_missing_object_means_a_reset_at_the_second_probe() {
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, None), Verdict::Pending);
        assert_eq!(assess(&mut history, None), Verdict::Reset);
        assert_eq!(assess(&mut history, Some("150")), Verdict::Continues);
        assert_eq!(assess(&mut history, None), Verdict::Pending);
    }

    #[test]
    fn a_newer_version_means_a_stall_unless_the_watch_delivers_a_change() {
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Pending);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Stalled);
        let mut history = one("a", "150", false);
        assert_eq!(assess(&mut history, Some("151")), Verdict::Pending);
        history.see(&key("a"), &"151".into(), false);
        assert_eq!(
            assess(&mut history, Some("152")),
            Verdict::Pending,
            "the version has moved on since"
        );
        history.see(&key("b"), &"153".into(), false);
        assert_eq!(assess(&mut history, Some("153")), Verdict::Continues);
    }

    #[test]
    fn history_keeps_the_newest_numeric_version_of_each_object() {
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
