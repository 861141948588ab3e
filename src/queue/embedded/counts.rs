//! Numbers of each instance, kept beside the rows so that nobody has to count them.

use crate::clock::UnixMillis;
use crate::queue::InstanceStats;

/// Numbers of an instance, kept with the rows.
#[derive(Clone, Debug)]
pub(super) struct Count {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) slot: Option<usize>,
    pub(super) owed: u64,
    pub(super) owed_bytes: u64,
    pub(super) dead: u64,
    pub(super) dead_bytes: u64,
    /// When the delivery that is owed longest was accepted; at most a second out of date.
    pub(super) oldest: Option<UnixMillis>,
    pub(super) dirty: bool,
}

impl Count {
    /// Notes that something that was accepted at `at` is owed.
    pub(super) fn owed_since(&mut self, at: UnixMillis) {
        self.oldest = Some(self.oldest.filter(|_| self.owed > 1).map_or(at, |oldest| oldest.min(at)));
    }

    /// Adds to the numbers.
    pub(super) fn change(&mut self, owed: i64, owed_bytes: u64, dead: i64, dead_bytes: i64) {
        self.owed = self.owed.saturating_add_signed(owed);
        self.owed_bytes += owed_bytes;
        self.dead = self.dead.saturating_add_signed(dead);
        self.dead_bytes = self.dead_bytes.saturating_add_signed(dead_bytes);
        self.dirty = true;
    }

    pub(super) fn stats(&self) -> InstanceStats {
        InstanceStats {
            name: self.name.clone(),
            owed: self.owed,
            owed_bytes: self.owed_bytes,
            oldest_owed: self.oldest.filter(|_| self.owed > 0),
            dead: self.dead,
            dead_bytes: self.dead_bytes,
        }
    }
}
