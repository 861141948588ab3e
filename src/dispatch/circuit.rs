//! Whether a callback is paused (hard case 3). Pure: time and randomness are arguments.
//!
//! The trouble of a whole callback is told from an event's own: the first pauses it, and while it is paused only probes go, one
//! at a time; the second only concerns its lane.

use std::time::{Duration, Instant};

use super::retry::MAX_RETRY_AFTER;

/// First wait for a probe; it doubles.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait for a probe that nobody asked to be longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Lanes that fail in a row, without a success between, before the callback as a whole is to blame.
const LANES: usize = 5;

/// How an attempt ended, as far as the callback is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// 2xx.
    Delivered,
    /// An answer that is about this event: any other status.
    Answered,
    /// No answer, though a connection stood: a timeout or a reset.
    Silent,
    /// Trouble that concerns every event alike.
    Wide(Trouble),
}

/// Trouble that concerns every event alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens, or no route leads there.
    Connect,
    /// The name does not resolve.
    Dns,
    /// TLS fails.
    Tls,
    /// 429.
    TooManyRequests,
    /// 503.
    Unavailable,
}

/// Why a callback is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Lane after lane failed.
    Lanes,
    /// Trouble that is callback-wide by nature.
    Trouble(Trouble),
}

impl Cause {
    /// What is wrong and what to do, for people.
    pub fn explain(self) -> &'static str {
        match self {
            Self::Lanes => {
                "events of 5 different objects failed in a row: look at the app's log and at `postern events`"
            }
            Self::Trouble(Trouble::Connect) => {
                "it cannot be connected to: is the app up, and is event.notification.callback.url right?"
            }
            Self::Trouble(Trouble::Dns) => {
                "its name does not resolve: check event.notification.callback.url and the cluster's DNS"
            }
            Self::Trouble(Trouble::Tls) => {
                "TLS fails: check its certificate, and set POSTERN_EGRESS_CA_FILE if a private authority issued it"
            }
            Self::Trouble(Trouble::TooManyRequests) => {
                "it answered 429: the app asks for fewer requests; POSTERN_CONCURRENCY lowers them"
            }
            Self::Trouble(Trouble::Unavailable) => {
                "it answered 503: the app says that it cannot take events at the moment"
            }
        }
    }
}

/// What an attempt's ending means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether a failure counts towards the attempt limit.
    pub counted: bool,
    /// What it did to the callback.
    pub change: Change,
}

/// What became of the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing, or the next probe was put off.
    None,
    /// It is paused from now on.
    Paused(Cause),
    /// It is open again, after so long.
    Resumed(Duration),
}

/// An attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// Which lane it was of.
    pub lane: [u8; 16],
    /// Whether it was a probe.
    pub probe: bool,
    /// `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
}

/// One callback's state.
#[derive(Debug, Default)]
pub struct Circuit {
    /// Different lanes that failed since the last success; at most [`LANES`].
    failing: Vec<[u8; 16]>,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    cause: Cause,
    since: Instant,
    /// Waits so far.
    waits: u32,
    next_probe: Instant,
}

impl Circuit {
    /// Why it is paused, if it is.
    pub fn paused(&self) -> Option<Cause> {
        self.pause.as_ref().map(|pause| pause.cause)
    }

    /// When the next probe may go, while it is paused.
    pub fn next_probe(&self) -> Option<Instant> {
        self.pause.as_ref().map(|pause| pause.next_probe)
    }

    /// How long the present pause has lasted at `now`.
    pub fn paused_for(&self, now: Instant) -> Duration {
        self.pause.as_ref().map_or(Duration::ZERO, |pause| now.saturating_duration_since(pause.since))
    }

    /// Notes an attempt's end; `random` is uniform over all of `u64`.
    ///
    /// An attempt that is no probe was begun while the callback was open. Ending in a pause it counts as it would have before, but
    /// it neither prolongs the pause nor ends it.
    pub fn ended(&mut self, ended: &Ended, now: Instant, random: u64) -> Verdict {
        let by_nature = !matches!(
            ended.ending,
            Ending::Wide(Trouble::Connect | Trouble::Dns | Trouble::Tls | Trouble::TooManyRequests)
        );
        match (&mut self.pause, ended.probe) {
            (Some(pause), true) => {
                let back = match ended.ending {
                    Ending::Delivered => true,
                    // It answers, and of what it answers the event is to blame. Where lanes failed one after another, that
                    // is what it did before the pause as well.
                    Ending::Answered => pause.cause != Cause::Lanes,
                    Ending::Silent | Ending::Wide(_) => false,
                };
                if back {
                    return Verdict { counted: true, change: self.resume(ended, now) };
                }
                pause.put_off(ended.retry_after, now, random);
                Verdict { counted: false, change: Change::None }
            }
            (Some(_), false) => Verdict { counted: by_nature, change: Change::None },
            (None, _) => {
                let cause = self.blame(ended);
                let change = cause.map_or(Change::None, |cause| {
                    let mut pause = Pause { cause, since: now, waits: 0, next_probe: now };
                    pause.put_off(ended.retry_after, now, random);
                    self.pause = Some(pause);
                    Change::Paused(cause)
                });
                Verdict { counted: by_nature, change }
            }
        }
    }

    fn resume(&mut self, ended: &Ended, now: Instant) -> Change {
        let lasted = self.paused_for(now);
        self.pause = None;
        self.failing.clear();
        if ended.ending != Ending::Delivered {
            self.failing.push(ended.lane);
        }
        Change::Resumed(lasted)
    }

    /// Why an open callback is to be paused after this ending, if it is.
    fn blame(&mut self, ended: &Ended) -> Option<Cause> {
        match ended.ending {
            Ending::Delivered => {
                self.failing.clear();
                None
            }
            Ending::Wide(trouble) => Some(Cause::Trouble(trouble)),
            Ending::Answered | Ending::Silent => {
                if !self.failing.contains(&ended.lane) {
                    self.failing.push(ended.lane);
                }
                (self.failing.len() >= LANES).then_some(Cause::Lanes)
            }
        }
    }
}

impl Pause {
    fn put_off(&mut self, retry_after: Option<Duration>, now: Instant, random: u64) {
        let bound = FIRST.saturating_mul(1 << self.waits.min(16)).min(LONGEST);
        self.waits = self.waits.saturating_add(1);
        // Between half and all of the bound: sidecars of one app do not probe it in step, and none probes it at once.
        let half = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX - 1) / 2;
        let wait = Duration::from_millis(half + random % (half + 1));
        self.next_probe = now + wait.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFUSED: Ending = Ending::Wide(Trouble::Connect);
    const UNAVAILABLE: Ending = Ending::Wide(Trouble::Unavailable);

    fn attempt(ending: Ending, lane: u8) -> Ended {
        Ended { ending, lane: [lane; 16], probe: false, retry_after: None }
    }

    fn probe(ending: Ending, lane: u8) -> Ended {
        Ended { probe: true, ..attempt(ending, lane) }
    }

    fn paused_by(ending: Ending) -> (Circuit, Instant) {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert!(matches!(circuit.ended(&attempt(ending, 1), now, 0).change, Change::Paused(_)));
        (circuit, now)
    }

    fn paused_by_lanes() -> (Circuit, Instant) {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for lane in 0..5 {
            assert_eq!(circuit.paused(), None);
            circuit.ended(&attempt(if lane == 2 { Ending::Silent } else { Ending::Answered }, lane), now, 0);
        }
        assert_eq!(circuit.paused(), Some(Cause::Lanes));
        (circuit, now)
    }

    #[test]
    fn callback_wide_trouble_pauses_at_once_and_only_a_503_counts() {
        for (trouble, counted) in [
            (Trouble::Connect, false),
            (Trouble::Dns, false),
            (Trouble::Tls, false),
            (Trouble::TooManyRequests, false),
            (Trouble::Unavailable, true),
        ] {
            let mut circuit = Circuit::default();
            let verdict = circuit.ended(&attempt(Ending::Wide(trouble), 1), Instant::now(), 0);
            assert_eq!(verdict, Verdict { counted, change: Change::Paused(Cause::Trouble(trouble)) });
        }
    }

    #[test]
    fn five_lanes_in_a_row_pause_it_and_a_success_between_does_not() {
        paused_by_lanes();
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for lane in 0..40 {
            circuit.ended(&attempt(Ending::Answered, lane), now, 0);
            if lane % 4 == 3 {
                circuit.ended(&attempt(Ending::Delivered, 99), now, 0);
            }
        }
        assert_eq!(circuit.paused(), None);
    }

    #[test]
    fn one_lane_that_always_fails_never_pauses_it() {
        let mut circuit = Circuit::default();
        for _ in 0..100 {
            let verdict = circuit.ended(&attempt(Ending::Answered, 1), Instant::now(), 0);
            assert_eq!(verdict, Verdict { counted: true, change: Change::None });
        }
    }

    #[test]
    fn a_failing_probe_does_not_count_and_puts_the_next_one_off() {
        let (mut circuit, now) = paused_by(UNAVAILABLE);
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(circuit.next_probe().expect("paused").duration_since(now).as_millis());
            let verdict = circuit.ended(&probe(UNAVAILABLE, 2), now, u64::MAX - 615);
            assert_eq!(verdict, Verdict { counted: false, change: Change::None });
        }
        assert_eq!(waits[0], 500);
        assert!(waits.iter().all(|wait| *wait <= 60_000), "{waits:?}");
        assert!(*waits.last().expect("waits") >= 30_000, "{waits:?}");
    }

    #[test]
    fn any_2xx_of_a_probe_reopens_it() {
        for (mut circuit, now) in [paused_by(REFUSED), paused_by_lanes()] {
            let later = now + Duration::from_secs(9);
            let verdict = circuit.ended(&probe(Ending::Delivered, 2), later, 0);
            assert_eq!(verdict.change, Change::Resumed(Duration::from_secs(9)));
            assert_eq!(circuit.paused(), None);
        }
    }

    #[test]
    fn an_answer_about_the_event_shows_that_a_silent_callback_is_back() {
        let (mut circuit, now) = paused_by(REFUSED);
        let verdict = circuit.ended(&probe(Ending::Answered, 2), now, 0);
        assert_eq!(verdict, Verdict { counted: true, change: Change::Resumed(Duration::ZERO) });

        let (mut circuit, now) = paused_by_lanes();
        let verdict = circuit.ended(&probe(Ending::Answered, 2), now, 0);
        assert_eq!(verdict, Verdict { counted: false, change: Change::None });
        assert_eq!(circuit.paused(), Some(Cause::Lanes));
    }

    #[test]
    fn no_answer_shows_nothing() {
        let (mut circuit, now) = paused_by(REFUSED);
        assert_eq!(circuit.ended(&probe(Ending::Silent, 2), now, 0), Verdict { counted: false, change: Change::None });
        assert!(circuit.paused().is_some());
    }

    #[test]
    fn an_attempt_from_before_the_pause_counts_as_before_and_leaves_the_pause_alone() {
        let (mut circuit, now) = paused_by(REFUSED);
        let next = circuit.next_probe();
        for (ending, counted) in [
            (REFUSED, false),
            (UNAVAILABLE, true),
            (Ending::Silent, true),
            (Ending::Answered, true),
            (Ending::Delivered, true),
        ] {
            assert_eq!(circuit.ended(&attempt(ending, 7), now, 9), Verdict { counted, change: Change::None });
        }
        assert_eq!(circuit.next_probe(), next);
    }

    #[test]
    fn retry_after_puts_the_probe_off_for_an_hour_at_most() {
        for (asked, waits) in [(0, 1), (30, 30), (3600, 3600), (100_000, 3600)] {
            let (mut circuit, now) = (Circuit::default(), Instant::now());
            let ended = Ended { retry_after: Some(Duration::from_secs(asked)), ..attempt(UNAVAILABLE, 1) };
            circuit.ended(&ended, now, 500);
            assert_eq!(circuit.next_probe(), Some(now + Duration::from_secs(waits)), "{asked}");
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_its_memory_and_its_waits_are_bounded(
            steps in proptest::collection::vec((0_u8..4, 0_u8..20, any::<bool>(), any::<u64>()), 0..200),
        ) {
            let (mut circuit, now) = (Circuit::default(), Instant::now());
            for (ending, lane, probing, random) in steps {
                let ending = [Ending::Delivered, Ending::Answered, Ending::Silent, REFUSED][usize::from(ending)];
                let before = circuit.paused();
                let ended = Ended { probe: probing && before.is_some(), ..attempt(ending, lane) };
                circuit.ended(&ended, now, random);
                prop_assert!(circuit.failing.len() <= LANES);
                if let Some(next) = circuit.next_probe() {
                    prop_assert!(next >= now + FIRST / 2 && next <= now + LONGEST);
                }
                if before.is_some() && !ended.probe {
                    prop_assert_eq!(circuit.paused(), before);
                }
            }
        }
    }
}
