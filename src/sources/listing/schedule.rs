//! When which range is walked. Time and randomness are arguments.
//!
//! From the beginning of a walk to that of the next it is `every`, and a walk that takes longer begins again at once. A walk that failed
//! is tried again with a growing pause; other ranges are walked meanwhile.
//!
//! Reconciliation believes that an object is gone only when a later walk, by the grace, misses it still. Where the grace is shorter than
//! the interval, one more walk is made after it, so that a deletion that push missed is not told an interval later than anything else.
//! It is one at most for each regular walk: listings cost money, and at worst twice as much.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{ListingConfig, ListingKind};

/// First pause after a failure; it doubles.
const FIRST: Duration = Duration::from_secs(1);

/// Longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(300);

/// How long a range that lists no key any more is left alone before it is walked once more, at most.
const EMPTIED: Duration = Duration::from_secs(10);

/// A walk that follows because of the grace begins so much after it, for clocks that tick in whole seconds.
const AFTER_GRACE: Duration = Duration::from_secs(1);

/// How long all ranges of an instance have to wait, and what troubles them.
#[derive(Debug)]
pub(super) struct Schedule {
    every: Duration,
    /// How long after a walk another one follows that finds something missing.
    follow_up: Option<Duration>,
    ranges: Vec<Turn>,
}

#[derive(Debug)]
struct Turn {
    due: Instant,
    /// When the next regular walk is due, while a walk follows up.
    regular: Option<Instant>,
    failures: u32,
    trouble: Option<String>,
}

/// The pause after so many failures: half of it certain, half of it random.
pub(super) fn backoff(failures: u32, random: u64) -> Duration {
    let bound = FIRST.saturating_mul(1_u32 << failures.saturating_sub(1).min(16)).min(LONGEST);
    bound / 2 + scaled(bound / 2, random)
}

/// The pause before the first walk: short, and not the same for all sidecars of a rollout.
pub(super) fn first(config: &ListingConfig, random: u64) -> Duration {
    scaled((config.every / 10).min(Duration::from_secs(2)), random)
}

/// Evenly between nothing and `bound`.
fn scaled(bound: Duration, random: u64) -> Duration {
    bound.mul_f64(random as f64 / u64::MAX as f64)
}

impl Schedule {
    /// All ranges are due at `first`.
    pub(super) fn new(ranges: usize, config: &ListingConfig, first: Instant) -> Self {
        let follow_up = Some(config.grace + AFTER_GRACE)
            .filter(|pause| config.kind == ListingKind::Reconcile && *pause < config.every);
        let turn = |_| Turn { due: first, regular: None, failures: 0, trouble: None };
        Self { every: config.every, follow_up, ranges: (0..ranges).map(turn).collect() }
    }

    /// Which range is walked next, and when: of those due at once the first, so that none waits for another's second turn. `None`
    /// where there are no ranges.
    pub(super) fn next(&self) -> Option<(usize, Instant)> {
        self.ranges.iter().enumerate().map(|(at, turn)| (at, turn.due)).min_by_key(|(_, due)| *due)
    }

    /// The walk of `range` that began at `begun` is complete; `missing` says that something was missed that is not told yet.
    pub(super) fn completed(&mut self, range: usize, begun: Instant, missing: bool) {
        let (every, follow_up) = (self.every, self.follow_up);
        let Some(turn) = self.ranges.get_mut(range) else { return };
        (turn.failures, turn.trouble) = (0, None);
        turn.due = match turn.regular.take() {
            Some(regular) => regular,
            None => begun + every,
        };
        if let Some(pause) = follow_up.filter(|_| missing)
            && turn.due.saturating_duration_since(begun) >= every
            && begun + pause < turn.due
        {
            turn.regular = Some(turn.due);
            turn.due = begun + pause;
        }
    }

    /// The walk of `range` ended at `now` and saw no key, and is made once more after a pause; others are walked meanwhile.
    pub(super) fn emptied(&mut self, range: usize, now: Instant) {
        let pause = EMPTIED.min(self.every);
        let Some(turn) = self.ranges.get_mut(range) else { return };
        turn.due = now + pause;
    }

    /// The walk of `range` failed at `now` and goes on after a pause, which grows only while it does not get on: a store that refuses
    /// some pages of many must not make a walk take days.
    pub(super) fn failed(&mut self, range: usize, now: Instant, random: u64, (trouble, got_on): (String, bool)) {
        let Some(turn) = self.ranges.get_mut(range) else { return };
        turn.failures = if got_on { 1 } else { turn.failures.saturating_add(1) };
        turn.due = now + backoff(turn.failures, random);
        turn.trouble = Some(trouble);
    }

    /// What troubles ranges.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.ranges.iter().filter_map(|turn| turn.trouble.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const GRACE: Duration = Duration::from_secs(900);

    fn config(kind: ListingKind, every: Duration) -> ListingConfig {
        ListingConfig {
            kind,
            buckets: vec!["b".to_owned()],
            every,
            prefixes: Vec::new(),
            page_size: 1000,
            emit_initial: false,
            grace: GRACE,
        }
    }

    fn due(schedule: &Schedule) -> Instant {
        schedule.next().expect("a range").1
    }

    #[test]
    fn walks_begin_an_interval_apart_and_at_once_when_one_took_longer() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, &config(ListingKind::Poll, HOUR), now);
        assert_eq!(schedule.next(), Some((0, now)));
        schedule.completed(0, now, true);
        assert_eq!(schedule.next(), Some((1, now)), "each has its turn before any has its second");
        schedule.completed(1, now - HOUR * 2, false);
        assert_eq!(schedule.next(), Some((1, now - HOUR)));
        schedule.completed(1, now + HOUR, false);
        assert_eq!(schedule.next(), Some((0, now + HOUR)));
    }

    #[test]
    fn a_failing_range_waits_longer_each_time_and_does_not_hold_the_others_up() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2, &config(ListingKind::Poll, HOUR), now);
        schedule.failed(0, now, u64::MAX, ("no".to_owned(), false));
        assert_eq!(schedule.next(), Some((1, now)));
        schedule.completed(1, now, false);
        assert_eq!(schedule.next(), Some((0, now + FIRST)));
        assert_eq!(schedule.troubles().collect::<Vec<_>>(), ["no"]);
        schedule.completed(0, now, false);
        assert_eq!(schedule.troubles().count(), 0);
        for failures in 1..100 {
            let (least, most) = (backoff(failures, 0), backoff(failures, u64::MAX));
            assert!(least >= FIRST / 2 && most <= LONGEST && least <= most, "{failures}");
        }
        assert_eq!(backoff(99, u64::MAX), LONGEST);
    }

    /// The pause was within the walk, so that many prefixes that are emptied regularly held all others up by ten seconds each.
    #[test]
    fn ranges_that_seem_to_be_empty_do_not_hold_the_others_up() {
        let now = Instant::now();
        let mut schedule = Schedule::new(3, &config(ListingKind::Poll, HOUR), now);
        schedule.emptied(0, now);
        schedule.emptied(1, now);
        assert_eq!(schedule.next(), Some((2, now)));
        schedule.completed(2, now, false);
        assert_eq!(schedule.next(), Some((0, now + EMPTIED)));
        schedule.completed(0, now, false);
        assert_eq!(schedule.next(), Some((1, now + EMPTIED)));
        let mut schedule = Schedule::new(1, &config(ListingKind::Poll, EMPTIED / 5), now);
        schedule.emptied(0, now);
        assert_eq!(due(&schedule), now + EMPTIED / 5, "no longer than it is between walks");
    }

    /// With some refusals in each walk of many pages, the pauses grew to five minutes a page.
    #[test]
    fn a_walk_that_gets_on_between_failures_waits_no_longer_each_time() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1, &config(ListingKind::Poll, HOUR), now);
        let mut wait = |got_on| {
            schedule.failed(0, now, u64::MAX, ("no".to_owned(), got_on));
            due(&schedule) - now
        };
        assert_eq!([wait(true), wait(true), wait(true)], [FIRST; 3]);
        assert_eq!([wait(false), wait(false), wait(true)], [FIRST * 2, FIRST * 4, FIRST]);
    }

    #[test]
    fn reconciliation_follows_up_once_where_something_is_missing_and_keeps_its_interval() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1, &config(ListingKind::Reconcile, HOUR), now);
        schedule.completed(0, now, true);
        let follow_up = now + GRACE + AFTER_GRACE;
        assert_eq!(due(&schedule), follow_up);
        schedule.completed(0, follow_up, true);
        assert_eq!(due(&schedule), now + HOUR, "one at most, and the interval stays");
        schedule.completed(0, now + HOUR, false);
        assert_eq!(due(&schedule), now + HOUR * 2);
    }

    #[test]
    fn where_the_grace_is_as_long_as_the_interval_the_next_walk_is_soon_enough() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1, &config(ListingKind::Reconcile, GRACE), now);
        schedule.completed(0, now, true);
        assert_eq!(due(&schedule), now + GRACE);
    }
}
