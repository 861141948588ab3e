//! The window of one instance: what is resident and what should come in.

mod flight;
mod placement;

use std::collections::{BTreeMap, HashMap, HashSet};

use super::lane::{Lane, Place};
use super::{Admission, Item, LaneKey, LaneRows, Limits, Plan};
use crate::clock::UnixMillis;
use crate::event::Sequencer;

/// Something that is attempted as one: the head of a lane, or a stored composition of several events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Batch(u64),
    Lane(LaneKey),
}

/// A stored composition of several events.
#[derive(Debug)]
struct Batch {
    members: Vec<(LaneKey, u64)>,
    place: Option<Place>,
}

/// A claim that is not settled.
#[derive(Debug)]
struct Flight {
    members: Vec<(LaneKey, u64)>,
    batch: Option<u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    lanes: HashMap<LaneKey, Lane>,
    batches: HashMap<u64, Batch>,
    flights: HashMap<u64, Flight>,
    resident: HashSet<u64>,
    bytes: u64,
    ready: BTreeMap<u64, Unit>,
    retries: BTreeMap<u64, Unit>,
    waiting: BTreeMap<(i64, u64), Unit>,
    /// Items and bytes of what stands in `retries` and `waiting`: at most half of the window, so that failing lanes leave
    /// room for first attempts.
    held: (usize, u64),
    next_order: u64,
    /// Rows owed, on disk and in memory.
    owed: u64,
    /// Rows that never failed have come in up to here, or stand behind their lane.
    cursor: u64,
    /// The highest row that there is.
    highest: u64,
    /// When the first lane that was parked is due.
    parked: Option<UnixMillis>,
    last_probed: Option<LaneKey>,
}

impl Window {
    pub(super) fn new(owed: u64, limits: Limits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            batches: HashMap::new(),
            flights: HashMap::new(),
            resident: HashSet::new(),
            bytes: 0,
            ready: BTreeMap::new(),
            retries: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: (0, 0),
            next_order: 0,
            owed,
            cursor: 0,
            highest: if owed > 0 { u64::MAX } else { 0 },
            parked: (owed > 0).then_some(UnixMillis(0)),
            last_probed: None,
        }
    }

    /// Forgets everything but the claims, to be filled from disk again: after the store was reopened, and after rows were
    /// changed behind the window's back.
    pub fn reset(&mut self, owed: u64) {
        let last_probed = self.last_probed;
        let old = std::mem::replace(self, Self::new(owed, self.limits));
        self.next_order = old.next_order;
        self.last_probed = last_probed;
        for (key, mut lane) in old.lanes {
            let Some((_, flying)) = lane.flight else { continue };
            lane.items.truncate(flying);
            lane.bound = lane.bound.map(|(batch, n)| (batch, n.min(flying)));
            lane.tail = true;
            self.bytes += lane.bytes();
            self.resident.extend(lane.items.iter().map(|item| item.owed.seq));
            self.lanes.insert(key, lane);
        }
        let flying = |batch: &u64| old.flights.values().any(|flight| flight.batch == Some(*batch));
        self.batches = old.batches.into_iter().filter(|(id, _)| flying(id)).collect();
        self.flights = old.flights;
    }

    /// Deliveries and bytes in memory.
    pub fn load(&self) -> (usize, u64) {
        (self.resident.len(), self.bytes)
    }

    /// Whether a row is in memory.
    pub fn is_resident(&self, seq: u64) -> bool {
        self.resident.contains(&seq)
    }

    /// Whether a lane is in memory, and if so whether rows of it are on disk only.
    pub fn lane_tail(&self, lane: &LaneKey) -> Option<bool> {
        self.lanes.get(lane).map(|lane| lane.tail)
    }

    /// Whether every row behind the cursor is in memory, so that a lane which is not in memory has no row at all.
    pub fn is_whole(&self) -> bool {
        self.owed <= self.resident.len() as u64
    }

    /// Whether everything that the disk has came in or stands behind its lane.
    pub fn is_caught_up(&self) -> bool {
        self.cursor >= self.highest
    }

    /// Whether rows are on disk only while nothing would bring them in; then the window has to be reset. It cannot be by
    /// these rules, and a delivery that was forgotten would be the worst of errors.
    pub fn is_astray(&self) -> bool {
        self.is_caught_up() && !self.is_whole() && self.parked.is_none() && !self.lanes.values().any(|lane| lane.tail)
    }

    /// Notes a row that became durable, the highest so far, and lets it come in where it can at once. `behind` says that rows
    /// of its lane may be on disk only; `last` is what was delivered last, for a lane that is not in memory. What comes back
    /// has to end superseded.
    pub fn append(&mut self, item: Item, last: Option<Sequencer>, behind: bool) -> Option<Box<Item>> {
        let seq = item.owed.seq;
        let follows = self.is_caught_up();
        self.owed += 1;
        self.highest = seq;
        if !follows || !self.has_room() {
            return None;
        }
        if behind && !self.lanes.contains_key(&item.lane) {
            self.cursor = seq;
            return None;
        }
        match self.admit(item, last) {
            Admission::Full => return None,
            Admission::Superseded(item) => {
                self.cursor = seq;
                return Some(item);
            }
            Admission::Resident | Admission::Tail => {}
        }
        self.cursor = seq;
        None
    }

    /// Notes that a row which is not in the window has ended.
    pub fn ended_outside(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    /// Moves the cursor: rows up to `seq` that never failed are in the window or stand behind their lane.
    pub fn advance(&mut self, seq: u64) {
        self.cursor = self.cursor.max(seq);
    }

    /// Notes that there is no row after the cursor.
    pub fn caught_up(&mut self, highest: u64) {
        self.highest = highest;
        self.cursor = self.cursor.max(highest);
    }

    /// Notes when the first lane that is on disk only is due.
    pub fn set_parked(&mut self, at: Option<UnixMillis>) {
        self.parked = at;
    }

    /// Offers the row that follows the cursor. `last` is what was delivered last of its lane, where the lane is not in memory.
    pub fn admit(&mut self, item: Item, last: Option<Sequencer>) -> Admission {
        if self.resident.contains(&item.owed.seq) {
            return Admission::Resident;
        }
        if let Some(lane) = self.lanes.get_mut(&item.lane)
            && (lane.tail || lane.items.len() >= self.limits.lane)
        {
            lane.tail = true;
            return Admission::Tail;
        }
        let fits = self.resident.is_empty() || self.bytes + item.size <= self.limits.bytes;
        if self.resident.len() >= self.limits.deliveries || !fits {
            return Admission::Full;
        }
        let lane = self.lanes.entry(item.lane).or_insert_with(|| Lane { last, ..Lane::default() });
        if lane.supersedes(&item) {
            if lane.items.is_empty() && !lane.tail {
                self.lanes.remove(&item.lane);
            }
            return Admission::Superseded(Box::new(item));
        }
        let key = item.lane;
        self.insert(item);
        self.settle_place(key);
        self.evict_excess();
        Admission::Resident
    }

    /// Brings in lanes that belong together: one lane, or the lanes of a stored composition, or nothing when there is no room
    /// for them (`None`). What comes back is provably older than what was delivered last and has to end superseded.
    pub fn admit_lanes(&mut self, group: Vec<LaneRows>) -> Option<Vec<Item>> {
        let new = || group.iter().flat_map(|rows| &rows.items).filter(|item| !self.is_resident(item.owed.seq));
        let (count, bytes) = (new().count(), new().map(|item| item.size).sum::<u64>());
        let fits = self.resident.len() + count <= self.limits.deliveries && self.bytes + bytes <= self.limits.bytes;
        let half_empty = self.resident.len() <= self.limits.deliveries / 2 && self.bytes <= self.limits.bytes / 2;
        if !fits && !half_empty {
            return None;
        }
        let mut superseded = Vec::new();
        let mut composed: BTreeMap<u64, Vec<(LaneKey, u64)>> = BTreeMap::new();
        let mut touched = Vec::new();
        let mut sizes: HashMap<u64, usize> = HashMap::new();
        for batch in group.iter().flat_map(|rows| &rows.items).filter_map(|item| item.batch) {
            *sizes.entry(batch).or_default() += 1;
        }
        for LaneRows { lane: key, items, more, last } in group {
            self.unplace_lane(key);
            let lane = self.lanes.entry(key).or_insert_with(|| Lane { last, ..Lane::default() });
            lane.tail = more;
            touched.push(key);
            for item in items {
                if self.resident.contains(&item.owed.seq) {
                    continue;
                }
                // Only a composition of several stays whole, whatever was delivered.
                let alone = item.batch.is_none_or(|batch| sizes.get(&batch) == Some(&1));
                if self.lanes.get(&key).is_some_and(|lane| alone && lane.supersedes(&item)) {
                    superseded.push(item);
                    continue;
                }
                if let Some(batch) = item.batch {
                    composed.entry(batch).or_default().push((key, item.owed.seq));
                }
                self.insert(item);
            }
        }
        for (id, members) in composed {
            self.bind(id, members);
        }
        for key in touched {
            self.settle_place(key);
        }
        self.evict_excess();
        Some(superseded)
    }

    /// What should come in from disk now.
    pub fn plan(&self, now: UnixMillis) -> Plan {
        let mut plan = Plan::default();
        if self.is_whole() && self.cursor >= self.highest {
            return plan;
        }
        let count = self.resident.len();
        let has_room = self.has_room();
        // Lanes that stand empty with rows on disk come first, whatever the room: nothing else would bring them back.
        plan.refill = self
            .lanes
            .iter()
            .filter(|(_, lane)| {
                lane.tail
                    && (lane.items.is_empty()
                        || (has_room
                            && lane.items.len() < self.limits.lane * 3 / 4
                            && !matches!(lane.place, Some(Place::Waiting(..)))))
            })
            .map(|(key, _)| *key)
            .take(16)
            .collect();
        let due = self.parked.is_some_and(|at| at <= now);
        let held_room = self.held.0 < self.limits.deliveries / 2 && self.held.1 < self.limits.bytes / 2;
        plan.due = due && held_room && has_room;
        // While retries wait on disk, first attempts leave them a quarter.
        let cap = if due { self.limits.deliveries * 3 / 4 } else { self.limits.deliveries };
        let free = cap.saturating_sub(count);
        // A new load is begun only with some room, so that it brings in more than a row or two.
        if self.cursor < self.highest && has_room && free >= (self.limits.deliveries / 8).max(1) {
            plan.fresh = Some((self.cursor, free));
        }
        plan
    }

    /// When something is due next that is not now, in memory or parked.
    pub fn next_due(&self) -> Option<UnixMillis> {
        let waiting = self.waiting.keys().next().map(|(at, _)| UnixMillis(*at));
        waiting.into_iter().chain(self.parked).min()
    }

    fn has_room(&self) -> bool {
        self.resident.is_empty() || (self.resident.len() < self.limits.deliveries && self.bytes < self.limits.bytes)
    }
}
