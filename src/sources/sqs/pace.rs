//! Pure: how long to wait before asking SQS, or the store, again.

use std::time::Duration;

/// First bound of the waits that double.
const BASE: Duration = Duration::from_millis(200);
/// Their last bound: what fails on its own comes back on its own, and then nobody wants to wait for long.
const CAP: Duration = Duration::from_secs(20);
/// Wait for what a person has to mend.
const SLOW: Duration = Duration::from_secs(30);
/// First and longest time for which a message is hidden that we cannot judge at the moment.
const HIDE: Duration = Duration::from_secs(5);
const HIDE_CAP: Duration = Duration::from_secs(600);

/// Before the next try after `failures` in a row: anything up to a bound that doubles from 200 ms to 20 s (full jitter, so that
/// consumers and replicas that failed together do not come back together).
pub(super) fn backoff(failures: u32, random: u64) -> Duration {
    jittered(doubled(BASE, failures.saturating_sub(1), CAP), random)
}

/// Before the next try of what a person has to mend first: 15 to 30 s.
pub(super) fn slow(random: u64) -> Duration {
    SLOW / 2 + jittered(SLOW / 2, random)
}

/// For how many seconds a message is hidden that was received `receives` times and could not be judged for a reason of our own:
/// half to all of a bound that doubles from 5 s to 10 min.
pub(super) fn hidden_for(receives: u32, random: u64) -> i32 {
    let bound = doubled(HIDE, receives.saturating_sub(1), HIDE_CAP);
    let wait = bound / 2 + jittered(bound / 2, random);
    i32::try_from(wait.as_secs()).unwrap_or(i32::MAX).max(1)
}

fn doubled(base: Duration, times: u32, cap: Duration) -> Duration {
    base.saturating_mul(1 << times.min(16)).min(cap)
}

/// Anything from nothing to `bound`, evenly.
fn jittered(bound: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    // Less than `nanos`, by the shift.
    Duration::from_nanos(u64::try_from(part).unwrap_or(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_have_full_jitter() {
        let most = |failures| backoff(failures, u64::MAX).as_millis();
        assert_eq!([1, 2, 3, 4].map(most), [199, 399, 799, 1599]);
        assert_eq!([8, 20, u32::MAX].map(most), [19_999; 3]);
        assert_eq!(backoff(20, 0), Duration::ZERO);
        assert_eq!(backoff(20, u64::MAX / 2).as_secs(), 9);
    }

    #[test]
    fn what_a_person_has_to_mend_is_tried_two_to_four_times_a_minute() {
        assert_eq!(slow(0).as_secs(), 15);
        assert_eq!(slow(u64::MAX).as_secs(), 29);
    }

    #[test]
    fn a_message_is_hidden_longer_each_time_and_never_for_no_time() {
        assert_eq!([0, 1, 2, 3].map(|n| hidden_for(n, 0)), [2, 2, 5, 10]);
        assert_eq!([1, 4, 100, u32::MAX].map(|n| hidden_for(n, u64::MAX)), [4, 39, 599, 599]);
    }
}
