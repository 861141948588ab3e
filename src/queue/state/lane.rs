//! One lane: deliveries of the same instance, bucket and key, in the order in which they go.

use std::cmp::Ordering;

use super::Item;
use crate::event::Sequencer;

/// The resident part of a lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// In the order in which they go. Those in flight, and those of a composition of several lanes, stand first.
    pub(super) items: Vec<Item>,
    /// How many of the first are in flight, and under which claim.
    pub(super) flight: Option<(u64, usize)>,
    /// A stored composition of more than one event that holds the first items.
    pub(super) bound: Option<(u64, usize)>,
    /// Where the lane stands among those that can be taken.
    pub(super) place: Option<Place>,
    /// Whether rows of it are on disk only.
    pub(super) tail: bool,
    /// What was delivered last.
    pub(super) last: Option<Sequencer>,
}

/// Where something that can be taken stands: in which queue, and under which number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Never failed.
    Ready(u64),
    /// Failed before and due.
    Retry(u64),
    /// Failed before and due later.
    Waiting(i64, u64),
}

impl Lane {
    /// Puts an item where it belongs: behind everything that arrived before, except what is provably newer. What is in flight
    /// or composed keeps its place: it has been shown to the app already.
    pub(super) fn insert(&mut self, item: Item) {
        let fixed = self.fixed();
        let mut at = self.items.len();
        while at > fixed && goes_before(&item, &self.items[at - 1]) {
            at -= 1;
        }
        self.items.insert(at, item);
    }

    /// Puts everything that is not fixed in order again.
    pub(super) fn sort(&mut self) {
        let mut loose = self.items.split_off(self.fixed());
        loose.sort_by_key(|item| item.owed.seq);
        for item in loose {
            self.insert(item);
        }
    }

    /// Whether `item` is provably older than what was delivered last.
    pub(super) fn supersedes(&self, item: &Item) -> bool {
        !item.replayed && older(item.sequencer(), self.last.as_ref())
    }

    /// Notes that `item` was delivered.
    pub(super) fn delivered(&mut self, item: &Item) {
        // A replayed old event does not move the mark back.
        if let Some(sequencer) = item.sequencer()
            && !older(Some(sequencer), self.last.as_ref())
        {
            self.last = Some(sequencer.clone());
        }
    }

    /// Takes out what is provably older than what was delivered last.
    pub(super) fn take_superseded(&mut self) -> Vec<Item> {
        let loose = self.items.split_off(self.fixed());
        let (superseded, kept) = loose.into_iter().partition(|item| self.supersedes(item));
        self.items.extend::<Vec<_>>(kept);
        superseded
    }

    /// How many of the first items may not be moved.
    fn fixed(&self) -> usize {
        let flying = self.flight.map_or(0, |(_, n)| n);
        let bound = self.bound.map_or(0, |(_, n)| n);
        flying.max(bound)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.size).sum()
    }
}

/// Whether `a`, which comes in now, goes before `b`, which is there.
fn goes_before(a: &Item, b: &Item) -> bool {
    if a.owed.seq < b.owed.seq {
        // Only a replay or a refill brings rows in out of arrival; they go by arrival unless the order is provable.
        return !older(b.sequencer(), a.sequencer());
    }
    older(a.sequencer(), b.sequencer())
}

/// Whether `a` is provably older than `b`.
pub(super) fn older(a: Option<&Sequencer>, b: Option<&Sequencer>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a.compare(b) == Some(Ordering::Less))
}
