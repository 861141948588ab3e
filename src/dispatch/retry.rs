//! When a failed delivery is tried again, and when it is given up (hard case 3). Pure: time and randomness are arguments.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::config::{DispatchConfig, RetrySchedule};

/// First delay of the exponential schedule; it doubles.
const FIRST: Duration = Duration::from_secs(1);

/// Longest delay of the exponential schedule.
const LONGEST: Duration = Duration::from_secs(600);

/// Offsets from the first failure (`cloud-elements.md` section 4).
const CLOUD_ELEMENTS: [Duration; 5] = [
    Duration::from_secs(8),
    Duration::from_secs(64),
    Duration::from_secs(512),
    Duration::from_secs(4096),
    Duration::from_secs(32768),
];

/// `Retry-After` is honoured up to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// Counted attempts after which a refusal (4xx) is believed.
const REFUSALS: u32 = 8;

/// The settings that decide.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// `POSTERN_RETRY`.
    pub schedule: RetrySchedule,
    /// `POSTERN_RETRY_MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// `POSTERN_RETRY_MAX_AGE`.
    pub max_age: Duration,
}

impl From<&DispatchConfig> for Policy {
    fn from(config: &DispatchConfig) -> Self {
        Self { schedule: config.retry, max_attempts: config.max_attempts, max_age: config.max_age }
    }
}

/// A failed attempt, with what went before.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// When it failed.
    pub now: UnixMillis,
    /// Whether it counts.
    pub counted: bool,
    /// Counted attempts that failed before it.
    pub counted_before: u32,
    /// Failures just before it that did not count and were not the fault of a whole callback either; they lengthen the delay only.
    pub uncounted_before: u32,
    /// When the first counted one failed, if one did before.
    pub first_failed_at: Option<UnixMillis>,
    /// When the event was accepted; of a batch, its youngest.
    pub accepted_at: UnixMillis,
    /// How long the callback has been paused since then.
    pub paused: Duration,
    /// A 4xx that says the app will never take it: not 408, 425 or 429.
    pub refused: bool,
    /// `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is given up, for this reason.
    Dead(String),
    /// It is tried again then.
    Retry(UnixMillis),
}

/// Decides about `failure`; `random` is uniform over all of `u64`.
///
/// Only a counted failure can be the last: what was never really tried, because we or the callback were away, is not given up.
pub fn decide(policy: &Policy, failure: &Failure, random: u64) -> Decision {
    let attempts = failure.counted_before.saturating_add(u32::from(failure.counted));
    if failure.counted
        && let Some(reason) = exhausted(policy, failure, attempts)
    {
        return Decision::Dead(reason);
    }
    let scheduled = match policy.schedule {
        RetrySchedule::Exponential => {
            let tries = attempts.saturating_add(failure.uncounted_before);
            failure.now.plus(jittered(backoff(tries), random))
        }
        RetrySchedule::CloudElements => {
            let step = usize::try_from(attempts.max(1) - 1).unwrap_or(usize::MAX).min(CLOUD_ELEMENTS.len() - 1);
            let first = failure.first_failed_at.unwrap_or(failure.now);
            // An offset that passed while the callback was paused does not become a burst of attempts.
            first.plus(CLOUD_ELEMENTS[step]).max(failure.now.plus(FIRST))
        }
    };
    let asked = failure.now.plus(failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER));
    Decision::Retry(scheduled.max(asked))
}

fn exhausted(policy: &Policy, failure: &Failure, attempts: u32) -> Option<String> {
    let most = match policy.schedule {
        RetrySchedule::CloudElements => u32::try_from(CLOUD_ELEMENTS.len()).unwrap_or(u32::MAX) + 1,
        RetrySchedule::Exponential => u32::MAX,
    };
    let most = most.min(policy.max_attempts);
    if failure.refused && attempts >= REFUSALS.min(most) {
        return Some(format!("refused in {attempts} attempts"));
    }
    if attempts >= most {
        return Some(format!("failed in {attempts} attempts"));
    }
    let age = failure.now.since(failure.accepted_at).saturating_sub(failure.paused);
    (age >= policy.max_age).then(|| {
        format!(
            "older than {} (POSTERN_RETRY_MAX_AGE) after {attempts} failed attempts",
            humantime::format_duration(policy.max_age)
        )
    })
}

/// The exponential schedule's bound on the delay after `tries` failures.
fn backoff(tries: u32) -> Duration {
    FIRST.saturating_mul(1 << (tries.max(1) - 1).min(16)).min(LONGEST)
}

/// Anything from nothing to `bound`, evenly: full jitter.
fn jittered(bound: Duration, random: u64) -> Duration {
    let millis = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis(random % (millis + 1))
}

/// Reads `Retry-After`: seconds, or a date in any of the three forms of RFC 9110 5.6.7. `None` when it is neither; a date that
/// has passed is zero. Not yet bounded by [`MAX_RETRY_AFTER`].
pub fn parse_retry_after(value: &str, now: UnixMillis) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than fit are more seconds than are honoured.
        return Some(Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    UnixMillis::parse_http_date(value).map(|date| date.since(now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn policy(schedule: RetrySchedule) -> Policy {
        Policy { schedule, max_attempts: 20, max_age: 72 * HOUR }
    }

    fn failure(counted_before: u32) -> Failure {
        Failure {
            now: UnixMillis(1_000_000),
            counted: true,
            counted_before,
            uncounted_before: 0,
            first_failed_at: None,
            accepted_at: UnixMillis(1_000_000),
            paused: Duration::ZERO,
            refused: false,
            retry_after: None,
        }
    }

    fn delay(policy: &Policy, failure: &Failure, random: u64) -> Option<Duration> {
        match decide(policy, failure, random) {
            Decision::Dead(_) => None,
            Decision::Retry(at) => Some(at.since(failure.now)),
        }
    }

    #[test]
    fn the_exponential_bound_doubles_from_a_second_to_ten_minutes() {
        let seconds: Vec<u64> = (1..=12).map(|tries| backoff(tries).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(backoff(u32::MAX), LONGEST);
    }

    #[test]
    fn a_refusal_is_believed_after_eight_attempts_and_anything_else_after_the_limit() {
        let policy = policy(RetrySchedule::Exponential);
        for (before, refused, dead) in [(6, true, false), (7, true, true), (18, false, false), (19, false, true)] {
            let failure = Failure { refused, ..failure(before) };
            assert_eq!(delay(&policy, &failure, 0).is_none(), dead, "{before} before, refused: {refused}");
        }
    }

    #[test]
    fn a_lower_limit_of_attempts_holds_for_refusals_too() {
        let policy = Policy { max_attempts: 3, ..policy(RetrySchedule::Exponential) };
        assert_eq!(delay(&policy, &Failure { refused: true, ..failure(2) }, 0), None);
    }

    #[test]
    fn the_cloud_elements_schedule_counts_from_the_first_failure_and_ends_after_the_fifth_retry() {
        let policy = policy(RetrySchedule::CloudElements);
        let first = UnixMillis(5_000_000);
        for (before, offset) in [(0, 8), (1, 64), (2, 512), (3, 4096), (4, 32768)] {
            let failure = Failure { first_failed_at: Some(first), now: first, ..failure(before) };
            assert_eq!(delay(&policy, &failure, 7), Some(Duration::from_secs(offset)));
        }
        assert_eq!(delay(&policy, &failure(5), 7), None);
    }

    #[test]
    fn an_offset_that_has_passed_is_not_made_up_for_by_a_burst() {
        let policy = policy(RetrySchedule::CloudElements);
        let failure = Failure { first_failed_at: Some(UnixMillis(0)), now: UnixMillis(90_000), ..failure(1) };
        assert_eq!(delay(&policy, &failure, 0), Some(FIRST));
    }

    #[test]
    fn age_counts_without_pauses_and_only_after_an_attempt_that_counts() {
        let policy = policy(RetrySchedule::Exponential);
        let old = Failure { accepted_at: UnixMillis(0), now: UnixMillis(0).plus(72 * HOUR), ..failure(0) };
        assert_eq!(delay(&policy, &old, 0), None);
        assert!(delay(&policy, &Failure { paused: HOUR, ..old }, 0).is_some());
        assert!(delay(&policy, &Failure { counted: false, ..old }, 0).is_some());
    }

    #[test]
    fn retry_after_comes_in_seconds_and_in_three_kinds_of_date() {
        let now = UnixMillis::parse_rfc3339("2094-11-06T08:49:07Z").expect("a time");
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sat, 06 Nov 2094 08:49:37 GMT", Some(30)),
            ("Saturday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sat Nov  6 08:49:37 2094", Some(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse_retry_after(value, now).map(|d| d.as_secs()), seconds, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_schedule_and_retry_after_only_lengthens_it(
            before in 0_u32..19, uncounted in 0_u32..100, counted: bool, random: u64, asked in 0_u64..100_000,
        ) {
            let policy = policy(RetrySchedule::Exponential);
            let plain = Failure { counted, uncounted_before: uncounted, ..failure(before) };
            let without = delay(&policy, &plain, random).expect("no limit is reached");
            prop_assert!(without <= LONGEST);
            prop_assert!(without <= backoff(before + u32::from(counted) + uncounted));
            let asked = Duration::from_secs(asked);
            let with = delay(&policy, &Failure { retry_after: Some(asked), ..plain }, random).expect("no limit is reached");
            prop_assert_eq!(with, without.max(asked.min(MAX_RETRY_AFTER)));
        }

        #[test]
        fn no_text_in_retry_after_breaks_its_parser(value in ".{0,60}") {
            let _ = parse_retry_after(&value, UnixMillis(0));
        }

        #[test]
        fn no_numbers_overflow(now: i64, accepted: i64, first: Option<i64>, before: u32, uncounted: u32, random: u64) {
            for schedule in [RetrySchedule::Exponential, RetrySchedule::CloudElements] {
                let failure = Failure {
                    now: UnixMillis(now),
                    accepted_at: UnixMillis(accepted),
                    first_failed_at: first.map(UnixMillis),
                    uncounted_before: uncounted,
                    ..failure(before)
                };
                let _ = decide(&Policy { max_attempts: u32::MAX, ..policy(schedule) }, &failure, random);
            }
        }
    }
}
