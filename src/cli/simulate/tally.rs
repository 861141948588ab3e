//! What came of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::store;
use crate::simulator::load::Latencies;
use crate::simulator::sns::forge::Forgery;
use crate::simulator::wire::{Reply, WireError};

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// To be accepted.
    Genuine,
    /// The same bytes again: to be answered with 2xx and not delivered again.
    Duplicate,
    /// To be refused.
    Forged(Forgery),
    /// Of a store that is not SNS: to be refused, or to be dropped.
    Posed(store::Forgery),
}

impl Class {
    pub(super) fn tag(self) -> u64 {
        match self {
            Self::Genuine => 0,
            Self::Duplicate => 1,
            Self::Forged(kind) => 2 + Forgery::ALL.iter().position(|known| *known == kind).unwrap_or_default() as u64,
            Self::Posed(kind) => {
                100 + store::Forgery::ALL.iter().position(|known| *known == kind).unwrap_or_default() as u64
            }
        }
    }

    fn of(tag: u64) -> Self {
        match tag {
            0 => Self::Genuine,
            1 => Self::Duplicate,
            2..100 => Self::Forged(Forgery::ALL[usize::try_from(tag - 2).unwrap_or(0).min(Forgery::ALL.len() - 1)]),
            _ => Self::Posed(
                store::Forgery::ALL[usize::try_from(tag - 100).unwrap_or(0).min(store::Forgery::ALL.len() - 1)],
            ),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Genuine => "genuine",
            Self::Duplicate => "sent again",
            Self::Forged(kind) => kind.as_str(),
            Self::Posed(kind) => kind.as_str(),
        }
    }

    /// To be answered with anything but 2xx.
    fn must_fail(self) -> bool {
        match self {
            Self::Genuine | Self::Duplicate => false,
            Self::Forged(_) => true,
            Self::Posed(kind) => !kind.is_dropped(),
        }
    }

    /// To be answered with 2xx, and not to be delivered.
    fn must_vanish(self) -> bool {
        matches!(self, Self::Posed(kind) if kind.is_dropped())
    }
}

/// Counts by class and answer.
#[derive(Debug, Default)]
pub(super) struct Tally {
    answers: Mutex<BTreeMap<(Class, Option<u16>), u64>>,
    latencies: Latencies,
}

impl Tally {
    fn answers(&self) -> MutexGuard<'_, BTreeMap<(Class, Option<u16>), u64>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, tag: u64, reply: &Result<Reply, WireError>, latency: Duration) {
        let class = Class::of(tag);
        let status = reply.as_ref().ok().map(|reply| reply.status.as_u16());
        *self.answers().entry((class, status)).or_default() += 1;
        if class == Class::Genuine && status.is_some() {
            self.latencies.note(latency);
        }
    }

    fn count(&self, fits: impl Fn(Class, Option<u16>) -> bool) -> u64 {
        self.answers().iter().filter(|((class, status), _)| fits(*class, *status)).map(|(_, count)| count).sum()
    }

    /// No forgery was accepted, and everything genuine was.
    pub(super) fn is_well(&self) -> bool {
        self.count(|class, status| class.must_fail() && accepted(status)) == 0
            && self.count(|class, status| !class.must_fail() && !accepted(status)) == 0
    }

    pub(super) fn report(&self, took: Duration) -> String {
        let all = self.count(|_, _| true);
        let per_second = all as f64 / took.as_secs_f64().max(0.001);
        let mut text = format!("Sent {all} messages in {:.1} s ({per_second:.0}/s):\n", took.as_secs_f64());
        for ((class, status), count) in self.answers().iter() {
            let status = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {count:>8}  {:<30} {status}", class.as_str());
        }
        if let (Some(p50), Some(p99)) = (self.latencies.quantile(0.5), self.latencies.quantile(0.99)) {
            let ms = |latency: Duration| latency.as_secs_f64() * 1000.0;
            let _ = writeln!(text, "\nAnswers to genuine messages: p50 {:.1} ms, p99 {:.1} ms", ms(p50), ms(p99));
        }
        let forged =
            |ok: bool| self.count(|class, status| class.must_fail() && status.is_some() && accepted(status) == ok);
        let (refused, passed) = (forged(false), forged(true));
        if refused + passed > 0 {
            let _ = writeln!(text, "Forged messages: {refused} refused, {passed} ACCEPTED");
        }
        let vanished = self.count(|class, _| class.must_vanish());
        if vanished > 0 {
            let _ = writeln!(
                text,
                "Messages of others: {vanished}; they are answered like any, and the app must not have heard of forged/…"
            );
        }
        let genuine = self.count(|class, _| class == Class::Genuine);
        let taken = self.count(|class, status| class == Class::Genuine && accepted(status));
        if taken < genuine {
            let _ = writeln!(text, "Genuine messages that were NOT accepted: {}", genuine - taken);
        }
        if genuine > 0 && taken == 0 {
            text.push_str("Was the sidecar started with the settings above, after this run began?\n");
        }
        text
    }
}

fn accepted(status: Option<u16>) -> bool {
    status.is_some_and(|status| (200..300).contains(&status))
}
