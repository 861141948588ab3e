//! Messages that went back to the queue for a reason that lies in them or in us, until each has come again and met its end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Messages that are known by name; what is beyond is waited for no longer than these are.
const KNOWN: usize = 1024;

/// How much later than it should a message may come again, before it is taken for somebody else's.
const LATE: Duration = Duration::from_secs(60);

/// Messages of one kind that went back. The trouble that they are lasts as long as one of them is due: others that succeed between
/// its visits do not end it, so that the condition does not come and go with every message.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    in_a_row: AtomicU32,
    /// Whether any is waited for: what every message asks must not cost a lock.
    any: AtomicBool,
    due: Mutex<HashMap<String, Instant>>,
}

impl Waiting {
    /// How many went back since the last that did not.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    /// The message `id` went back, hidden for so many seconds.
    pub(super) fn went_back(&self, id: &str, seconds: i32) {
        self.in_a_row.fetch_add(1, Ordering::Relaxed);
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() < KNOWN || due.contains_key(id) {
            let hidden = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            due.insert(id.to_owned(), Instant::now() + hidden + LATE);
        }
        self.any.store(true, Ordering::SeqCst);
    }

    /// The message `id` met its end. Whether none is waited for any more, said once.
    pub(super) fn ended(&self, id: &str) -> bool {
        self.in_a_row.store(0, Ordering::Relaxed);
        if !self.any.load(Ordering::SeqCst) {
            return false;
        }
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.remove(id);
        let now = Instant::now();
        due.retain(|_, at| *at > now);
        let over = due.is_empty();
        self.any.store(!over, Ordering::SeqCst);
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The condition of a proof that fails came and went with each other message that was proven.
    #[tokio::test(start_paused = true)]
    async fn the_trouble_lasts_until_each_that_went_back_has_ended_or_is_overdue() {
        let waiting = Waiting::default();
        assert!(!waiting.ended("another"), "nothing was wrong");
        waiting.went_back("a", 5);
        waiting.went_back("b", 600);
        waiting.went_back("a", 10);
        assert_eq!(waiting.in_a_row(), 3);
        assert!(!waiting.ended("another") && !waiting.ended("a"));
        assert_eq!(waiting.in_a_row(), 0);
        assert!(waiting.ended("b"));
        assert!(!waiting.ended("b"), "said once");
        waiting.went_back("a", 5);
        tokio::time::advance(Duration::from_secs(66)).await;
        assert!(waiting.ended("another"), "a replica has it");
    }

    #[test]
    fn what_is_known_by_name_is_bounded() {
        let waiting = Waiting::default();
        for n in 0..2 * KNOWN {
            waiting.went_back(&n.to_string(), 5);
        }
        assert_eq!(waiting.due.lock().expect("no panic").len(), KNOWN);
    }
}
