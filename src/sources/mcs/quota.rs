//! How often something is done for strangers: a token bucket.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many at once, and afterwards one in each interval.
#[derive(Debug)]
pub(super) struct Quota {
    burst: u32,
    every: Duration,
    /// The moment at which all of it is there again.
    full_at: Mutex<Option<Instant>>,
}

impl Quota {
    pub(super) fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: Mutex::default() }
    }

    /// Takes one; false when there is none.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.map_or(now, |at| at.max(now)) + self.every;
        let granted = next.saturating_duration_since(now) <= self.every * self.burst;
        if granted {
            *full_at = Some(next);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_and_then_one_in_each_interval() {
        let quota = Quota::new(3, Duration::from_secs(10));
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!([0, 0, 0, 0].map(|s| quota.take(at(s))), [true, true, true, false]);
        assert_eq!([9, 10, 10, 20].map(|s| quota.take(at(s))), [false, true, false, true]);
        assert_eq!([500, 500, 500, 500].map(|s| quota.take(at(s))), [true, true, true, false], "it fills up again");
    }
}
