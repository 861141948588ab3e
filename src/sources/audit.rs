//! The log of what is dropped although its sender was let in: a line at once, and then one sum in each interval.
//!
//! A bucket that announces to the wrong topic does so with every message. The first one says what is wrong; how many there are
//! is what the metrics count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two lines of the same kind about the same instance.
const EVERY: Duration = Duration::from_secs(60);

/// Characters of a name in a line; buckets have at most 63.
const MAX_AUDITED: usize = 200;

/// A producer's text for a log.
pub(super) fn bounded(text: &str) -> String {
    text.chars().take(MAX_AUDITED).collect()
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// MCS S3: a project and bucket that no instance accepts.
    ForeignProject,
    /// A bucket that the instance does not accept.
    ForeignBucket,
    /// Another region than the topic's.
    RegionMismatch,
}

/// Decides which lines are written. It holds an entry for each kind and configured instance at most.
#[derive(Debug, Default)]
pub(super) struct AuditLog(Mutex<BTreeMap<(Kind, Arc<str>), Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    unsaid: u64,
}

impl AuditLog {
    /// Takes `count` records of a kind. `None` when no line is due, else how many before them were not told.
    pub(super) fn admit(&self, kind: Kind, instance: &Arc<str>, count: u64, now: Instant) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(&(kind, Arc::clone(instance))) {
            None => {
                told.insert((kind, Arc::clone(instance)), Told { at: now, unsaid: 0 });
                Some(0)
            }
            Some(before) if now.saturating_duration_since(before.at) >= EVERY => {
                before.at = now;
                Some(std::mem::take(&mut before.unsaid))
            }
            Some(before) => {
                before.unsaid = before.unsaid.saturating_add(count);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_its_first_line_and_then_one_sum_in_each_interval() {
        let (log, start) = (AuditLog::default(), Instant::now());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let shown = (0..1000).filter_map(|_| log.admit(Kind::ForeignBucket, &a, 2, start)).collect::<Vec<_>>();
        assert_eq!(shown, [0]);
        assert_eq!(log.admit(Kind::ForeignBucket, &b, 1, start), Some(0), "another instance");
        assert_eq!(log.admit(Kind::ForeignProject, &a, 1, start), Some(0), "another kind");
        assert_eq!(log.admit(Kind::ForeignBucket, &a, 1, start + EVERY), Some(1998));
        assert_eq!(log.admit(Kind::ForeignBucket, &a, 1, start + EVERY), None);
        assert_eq!(log.admit(Kind::ForeignBucket, &a, 1, start + 2 * EVERY), Some(1));
    }
}
