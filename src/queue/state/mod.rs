//! The pure part of the queue: which delivery may be attempted next.
//!
//! [`State`] holds, for each instance, a [`Window`]: a bounded part of what is owed. The store tells it what became durable
//! (rows appended, attempts settled), and it says which deliveries to hand out and which rows to bring in from disk. Nothing
//! here does IO, waits or reads a clock; everything can be rebuilt from the rows.
//!
//! # What a window knows
//!
//! A row that is owed is either *resident* (in the window) or on disk only. Rows that never failed come in by arrival, behind a
//! cursor; rows that wait for a retry come in when they are due. Two rules keep the order of a lane while only a part of it is
//! in memory:
//!
//! - a lane comes in as a whole, up to [`Limits::lane`] rows of it; a longer lane is marked as having a *tail* on disk, and no
//!   later row of it comes in except by a refill that reads the lane from its start;
//! - a lane leaves memory (is *parked*) only as a whole, and only while it waits for a retry, so that the time of that retry
//!   brings it back.

pub mod change;
mod lane;
mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::event::Sequencer;
use crate::queue::{Owed, Want};

pub use window::Window;

/// The lane of a delivery: a digest of instance, bucket and key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneKey(pub [u8; 16]);

/// Bounds of one window.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Deliveries in memory at most.
    pub deliveries: usize,
    /// Their bytes at most. A composition of several events that alone is larger is let in while the window is at most half
    /// full, since it could never be attempted otherwise.
    pub bytes: u64,
    /// Deliveries of one lane in memory at most, so that one busy key cannot fill the window.
    pub lane: usize,
}

/// A delivery in memory.
#[derive(Clone, Debug)]
pub struct Item {
    /// What is delivered.
    pub owed: Arc<Owed>,
    /// Its lane.
    pub lane: LaneKey,
    /// Bytes that it counts for.
    pub size: u64,
    /// Counted attempts that failed.
    pub attempts: u32,
    /// When the first of them failed.
    pub first_failed_at: Option<UnixMillis>,
    /// When it is due again; `None` until it has failed, counted or not.
    pub next_at: Option<UnixMillis>,
    /// The composition that it belongs to (hard case 12): the lowest sequence number of its members.
    pub batch: Option<u64>,
    /// Whether it was replayed: then it is delivered also when the app has seen a newer one.
    pub replayed: bool,
}

impl Item {
    /// Whether it may be put together with others: never failed, not composed yet.
    fn combines(&self) -> bool {
        self.batch.is_none() && self.next_at.is_none()
    }

    fn sequencer(&self) -> Option<&Sequencer> {
        self.owed.event.sequencer.as_ref()
    }
}

/// The rows of one lane, to be made resident together.
#[derive(Clone, Debug)]
pub struct LaneRows {
    /// The lane.
    pub lane: LaneKey,
    /// Its first rows by arrival. Rows that are resident already are passed over.
    pub items: Vec<Item>,
    /// Whether the disk has more.
    pub more: bool,
    /// The sequencer that was delivered last.
    pub last: Option<Sequencer>,
}

/// What became of an item that was offered to a window.
#[derive(Debug)]
pub enum Admission {
    /// No room now; the cursor has to stay before it.
    Full,
    /// It is in the window.
    Resident,
    /// It is provably older than what was delivered last, and has to end superseded. Boxed, as it is rare.
    Superseded(Box<Item>),
    /// It stays on disk, behind its lane.
    Tail,
}

/// What was taken from a window for an attempt.
#[derive(Clone, Debug)]
pub struct Taken {
    /// Names the claim.
    pub token: u64,
    /// What is to be delivered, in order.
    pub items: Vec<Item>,
    /// Whether the composition has to be made durable before it is handed out.
    pub compose: bool,
}

/// What a durable settlement does to the claimed items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// They have ended; `delivered` tells whether the app has them.
    Ended {
        /// The app has them.
        delivered: bool,
    },
    /// Handed back as they are.
    Released,
    /// Due again at `at`.
    Retry {
        /// When.
        at: UnixMillis,
        /// Counted attempts now.
        attempts: u32,
        /// When the first of them failed.
        first_failed_at: Option<UnixMillis>,
    },
    /// The composition is dissolved into compositions of one, due at `at`.
    Split {
        /// When.
        at: UnixMillis,
        /// Counted attempts now.
        attempts: u32,
        /// When the first of them failed.
        first_failed_at: Option<UnixMillis>,
    },
}

/// Rows that a window wants from disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Lanes of which more should come in.
    pub refill: Vec<LaneKey>,
    /// Whether lanes whose retry is due should come in.
    pub due: bool,
    /// Rows that never failed: those after this sequence number, so many at most.
    pub fresh: Option<(u64, usize)>,
}

impl Plan {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.refill.is_empty() && !self.due && self.fresh.is_none()
    }
}

/// The windows of all configured instances.
#[derive(Debug)]
pub struct State {
    windows: Vec<Window>,
    claims: HashMap<u64, usize>,
    next_token: u64,
}

impl State {
    /// Empty windows; `owed` tells for each instance how many rows the disk holds.
    pub fn new(owed: &[u64], limits: Limits) -> Self {
        Self {
            windows: owed.iter().map(|&owed| Window::new(owed, limits)).collect(),
            claims: HashMap::new(),
            next_token: 1,
        }
    }

    /// The window of an instance.
    pub fn window(&mut self, slot: usize) -> Option<&mut Window> {
        self.windows.get_mut(slot)
    }

    /// Takes what `want` asks for.
    pub fn take(&mut self, slot: usize, want: Want, now: UnixMillis) -> Vec<Taken> {
        let Some(window) = self.windows.get_mut(slot) else { return Vec::new() };
        let taken = window.take(want, now, &mut self.next_token);
        for claim in &taken {
            self.claims.insert(claim.token, slot);
        }
        taken
    }

    /// The instance and the items of a claim.
    pub fn claimed(&self, token: u64) -> Option<(usize, Vec<Item>)> {
        let slot = *self.claims.get(&token)?;
        Some((slot, self.windows[slot].in_flight(token)))
    }

    /// Notes that the composition of a claim is durable.
    pub fn composed(&mut self, token: u64) {
        if let Some(&slot) = self.claims.get(&token) {
            self.windows[slot].composed(token);
        }
    }

    /// Ends a claim. What comes back is provably older than what was delivered now, has left the window and has to end
    /// superseded. A token that is not known changes nothing.
    pub fn finish(&mut self, token: u64, effect: Effect) -> Vec<Item> {
        match self.claims.remove(&token) {
            Some(slot) => self.windows[slot].finish(token, effect),
            None => Vec::new(),
        }
    }

    /// Whether a row is in flight.
    pub fn is_claimed(&self, seq: u64) -> bool {
        self.windows.iter().any(|window| window.flying().any(|other| other == seq))
    }

    /// The rows of an instance that are in flight.
    pub fn claimed_rows(&self, slot: usize) -> Vec<u64> {
        self.windows.get(slot).map(|window| window.flying().collect()).unwrap_or_default()
    }

    /// Claims that are not settled.
    pub fn claims(&self) -> usize {
        self.claims.len()
    }
}
