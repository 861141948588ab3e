//! The window of one instance: what is resident, what can be taken, what should come in.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::lane::{Lane, Place};
use super::{Admission, Effect, Item, LaneKey, LaneRows, Limits, Plan, Taken};
use crate::clock::UnixMillis;
use crate::event::Sequencer;
use crate::queue::Want;

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

    pub(super) fn take(&mut self, want: Want, now: UnixMillis, next_token: &mut u64) -> Vec<Taken> {
        self.promote(now);
        if want.probe {
            return self.probe(want, next_token).into_iter().collect();
        }
        let mut retries_left = want.retries;
        let mut taken = Vec::new();
        while taken.len() < want.claims {
            let fresh = self.ready.first_key_value().map(|(order, unit)| (*order, *unit));
            let retry = (retries_left > 0).then(|| self.retries.first_key_value()).flatten();
            let retry = retry.map(|(order, unit)| (*order, *unit));
            let unit = match (fresh, retry) {
                (Some((a, _)), Some((b, unit))) if b < a => unit,
                (Some((_, unit)), _) => unit,
                (None, Some((_, unit))) => unit,
                (None, None) => break,
            };
            retries_left -= usize::from(fresh.is_none_or(|(_, other)| other != unit));
            taken.push(self.fly(unit, want.batch.max(1), next_token));
        }
        taken
    }

    pub(super) fn flying(&self) -> impl Iterator<Item = u64> + '_ {
        self.flights.values().flat_map(|flight| flight.members.iter().map(|(_, seq)| *seq))
    }

    pub(super) fn in_flight(&self, token: u64) -> Vec<Item> {
        let Some(flight) = self.flights.get(&token) else { return Vec::new() };
        let find =
            |(key, seq): &(LaneKey, u64)| self.lanes.get(key)?.items.iter().find(|item| item.owed.seq == *seq).cloned();
        flight.members.iter().filter_map(find).collect()
    }

    pub(super) fn composed(&mut self, token: u64) {
        let Some(flight) = self.flights.get_mut(&token) else { return };
        let Some(id) = flight.members.iter().map(|(_, seq)| *seq).min() else { return };
        flight.batch = Some(id);
        let members = flight.members.clone();
        for (key, seq) in &members {
            let items = self.lanes.get_mut(key).map(|lane| lane.items.iter_mut()).into_iter().flatten();
            items.filter(|item| item.owed.seq == *seq).for_each(|item| item.batch = Some(id));
        }
        self.bind(id, members);
    }

    pub(super) fn finish(&mut self, token: u64, effect: Effect) -> Vec<Item> {
        let Some(flight) = self.flights.remove(&token) else { return Vec::new() };
        let mut keys: Vec<LaneKey> = Vec::new();
        for (key, _) in &flight.members {
            if keys.last() != Some(key) {
                keys.push(*key);
            }
        }
        let ends = matches!(effect, Effect::Ended { .. } | Effect::Split { .. });
        if ends && let Some(batch) = flight.batch {
            self.batches.remove(&batch);
        }
        let mut superseded = Vec::new();
        for key in &keys {
            let Some(lane) = self.lanes.get_mut(key) else { continue };
            let flying = lane.flight.take().map_or(0, |(_, n)| n).min(lane.items.len());
            if ends {
                lane.bound = None;
            }
            match effect {
                Effect::Ended { delivered } => {
                    for item in lane.items.drain(..flying) {
                        self.resident.remove(&item.owed.seq);
                        self.bytes -= item.size;
                        self.owed = self.owed.saturating_sub(1);
                        if delivered {
                            // The mark may not be moved while `items` is borrowed; a lane's few marks are kept aside.
                            superseded.push(item);
                        }
                    }
                    let ended = std::mem::take(&mut superseded);
                    ended.iter().for_each(|item| lane.delivered(item));
                }
                Effect::Released => lane.sort(),
                Effect::Retry { at, attempts, first_failed_at } | Effect::Split { at, attempts, first_failed_at } => {
                    for item in &mut lane.items[..flying] {
                        item.attempts = attempts;
                        item.first_failed_at = first_failed_at;
                        item.next_at = Some(at);
                        if matches!(effect, Effect::Split { .. }) {
                            item.batch = Some(item.owed.seq);
                        }
                    }
                    lane.sort();
                }
            }
        }
        for key in &keys {
            if matches!(effect, Effect::Ended { delivered: true })
                && let Some(lane) = self.lanes.get_mut(key)
            {
                let gone = lane.take_superseded();
                for item in &gone {
                    self.resident.remove(&item.owed.seq);
                    self.bytes -= item.size;
                }
                superseded.extend(gone);
            }
            self.settle_place(*key);
        }
        self.evict_excess();
        superseded
    }

    fn has_room(&self) -> bool {
        self.resident.is_empty() || (self.resident.len() < self.limits.deliveries && self.bytes < self.limits.bytes)
    }

    /// Puts an item into its lane, which is there.
    fn insert(&mut self, item: Item) {
        let Some(lane) = self.lanes.get(&item.lane) else { return };
        if let Some(Place::Retry(_) | Place::Waiting(..)) = lane.place {
            self.held = (self.held.0 + 1, self.held.1 + item.size);
        }
        self.resident.insert(item.owed.seq);
        self.bytes += item.size;
        if let Some(lane) = self.lanes.get_mut(&item.lane) {
            lane.insert(item);
        }
    }

    /// Holds the members of a stored composition together. One of a single event needs no more than its mark.
    fn bind(&mut self, id: u64, mut members: Vec<(LaneKey, u64)>) {
        if members.len() < 2 {
            return;
        }
        // Lanes by their first member, and the order of the lane within: the same before and after a restart.
        members.sort_by_key(|(_, seq)| *seq);
        let mut keys: Vec<LaneKey> = Vec::new();
        for (key, _) in members {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let mut ordered = Vec::new();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            // The members stand first, in their order; a row that came in between while they were on disk steps back.
            lane.items.sort_by_key(|item| item.batch != Some(id));
            let held = lane.items.iter().take_while(|item| item.batch == Some(id)).map(|item| (key, item.owed.seq));
            let before = ordered.len();
            ordered.extend(held);
            lane.bound = Some((id, ordered.len() - before));
        }
        for flight in self.flights.values_mut().filter(|flight| flight.batch == Some(id)) {
            flight.members.clone_from(&ordered);
        }
        self.batches.insert(id, Batch { members: ordered, place: None });
    }

    /// Gives a lane, or the composition that holds it, its place among what can be taken; drops the lane when it is done.
    fn settle_place(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get(&key) else { return };
        if let Some((batch, _)) = lane.bound {
            self.unplace_lane(key);
            let Some(batch_state) = self.batches.get(&batch) else { return };
            let members = batch_state.members.clone();
            if batch_state.place.is_some() {
                return;
            }
            let idle = |(key, _): &(LaneKey, u64)| self.lanes.get(key).is_some_and(|lane| lane.flight.is_none());
            if !members.iter().all(idle) {
                return;
            }
            let head = self.lanes.get(&members[0].0).and_then(|lane| lane.items.first());
            let Some(next_at) = head.map(|item| item.next_at) else { return };
            let place = self.put(Unit::Batch(batch), next_at);
            if let Some(batch) = self.batches.get_mut(&batch) {
                batch.place = Some(place);
            }
            return;
        }
        if lane.flight.is_some() {
            return;
        }
        let Some(head) = lane.items.first() else {
            if !lane.tail || self.is_whole() {
                self.unplace_lane(key);
                self.lanes.remove(&key);
            }
            return;
        };
        // A lane that stands where its head belongs keeps its turn.
        let stays = match (lane.place, head.next_at) {
            (Some(Place::Ready(_)), None) => true,
            (Some(Place::Waiting(at, _)), Some(next)) => at == next.0,
            (Some(Place::Retry(_)), Some(_)) => true,
            _ => false,
        };
        if stays {
            return;
        }
        let next_at = head.next_at;
        self.unplace_lane(key);
        let place = self.put(Unit::Lane(key), next_at);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.place = Some(place);
        }
    }

    fn put(&mut self, unit: Unit, next_at: Option<UnixMillis>) -> Place {
        let order = self.next_order;
        self.next_order += 1;
        match next_at {
            None => {
                self.ready.insert(order, unit);
                Place::Ready(order)
            }
            Some(at) => {
                let (count, bytes) = self.weight(unit);
                self.held = (self.held.0 + count, self.held.1 + bytes);
                self.waiting.insert((at.0, order), unit);
                Place::Waiting(at.0, order)
            }
        }
    }

    fn unplace_lane(&mut self, key: LaneKey) {
        if let Some(place) = self.lanes.get_mut(&key).and_then(|lane| lane.place.take()) {
            self.unplace(Unit::Lane(key), place);
        }
    }

    fn unplace(&mut self, unit: Unit, place: Place) {
        match place {
            Place::Ready(order) => drop(self.ready.remove(&order)),
            Place::Retry(order) => drop(self.retries.remove(&order)),
            Place::Waiting(at, order) => drop(self.waiting.remove(&(at, order))),
        }
        if !matches!(place, Place::Ready(_)) {
            let (count, bytes) = self.weight(unit);
            self.held = (self.held.0.saturating_sub(count), self.held.1.saturating_sub(bytes));
        }
    }

    fn lanes_of(&self, unit: Unit) -> Vec<LaneKey> {
        match unit {
            Unit::Lane(key) => vec![key],
            Unit::Batch(id) => {
                let mut keys: Vec<LaneKey> = Vec::new();
                for (key, _) in self.batches.get(&id).map(|batch| batch.members.iter()).into_iter().flatten() {
                    if !keys.contains(key) {
                        keys.push(*key);
                    }
                }
                keys
            }
        }
    }

    fn weight(&self, unit: Unit) -> (usize, u64) {
        let keys = self.lanes_of(unit);
        let lanes = keys.iter().filter_map(|key| self.lanes.get(key));
        match unit {
            Unit::Lane(_) => lanes.fold((0, 0), |(n, b), lane| (n + lane.items.len(), b + lane.bytes())),
            // Only the members: what stands behind them changes while the composition keeps its place.
            Unit::Batch(id) => lanes
                .flat_map(|lane| &lane.items)
                .filter(|item| item.batch == Some(id))
                .fold((0, 0), |(n, b), item| (n + 1, b + item.size)),
        }
    }

    fn promote(&mut self, now: UnixMillis) {
        while let Some((&(at, order), &unit)) = self.waiting.first_key_value()
            && at <= now.0
        {
            self.waiting.remove(&(at, order));
            let order = self.next_order;
            self.next_order += 1;
            self.retries.insert(order, unit);
            self.mark(unit, Some(Place::Retry(order)));
        }
    }

    fn mark(&mut self, unit: Unit, place: Option<Place>) {
        match unit {
            Unit::Lane(key) => {
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.place = place;
                }
            }
            Unit::Batch(id) => {
                if let Some(batch) = self.batches.get_mut(&id) {
                    batch.place = place;
                }
            }
        }
    }

    /// One unit for a probe: of a lane other than the last one probed where there is one, due or not.
    fn probe(&mut self, want: Want, next_token: &mut u64) -> Option<Taken> {
        if want.claims == 0 {
            return None;
        }
        let units = || self.ready.values().chain(self.retries.values()).chain(self.waiting.values()).copied();
        let other = units().find(|unit| self.lanes_of(*unit).first().copied() != self.last_probed);
        let unit = other.or_else(|| units().next())?;
        self.last_probed = self.lanes_of(unit).first().copied();
        let composes = want.batch > 1;
        let mut taken = self.fly(unit, 1, next_token);
        // A probe of one event that never failed must stay alone on every retry as well.
        taken.compose = composes && taken.items.len() == 1 && taken.items[0].combines();
        Some(taken)
    }

    fn fly(&mut self, unit: Unit, batch: usize, next_token: &mut u64) -> Taken {
        let token = *next_token;
        *next_token += 1;
        let mut members: Vec<(LaneKey, u64)> = Vec::new();
        let mut compose = false;
        let mut stored = None;
        match unit {
            Unit::Batch(id) => {
                if let Some(place) = self.batches.get_mut(&id).and_then(|batch| batch.place.take()) {
                    self.unplace(unit, place);
                }
                members.clone_from(&self.batches[&id].members);
                stored = Some(id);
            }
            Unit::Lane(key) => {
                let head = self.lanes.get(&key).and_then(|lane| lane.items.first());
                if batch > 1 && head.is_some_and(Item::combines) {
                    compose = true;
                    self.gather(key, batch, &mut members);
                    // Lanes by their first member: the order that a restart finds again (see `bind`).
                    let mut first: HashMap<LaneKey, u64> = HashMap::new();
                    for (key, seq) in &members {
                        let least = first.entry(*key).or_insert(*seq);
                        *least = (*least).min(*seq);
                    }
                    members.sort_by_key(|(key, _)| first[key]);
                } else if let Some(head) = head {
                    stored = head.batch;
                    members.push((key, head.owed.seq));
                    self.unplace_lane(key);
                }
            }
        }
        for (key, _) in &members {
            if let Some(lane) = self.lanes.get_mut(key) {
                let flying = lane.flight.map_or(0, |(_, n)| n);
                lane.flight = Some((token, flying + 1));
            }
        }
        self.flights.insert(token, Flight { members, batch: stored });
        Taken { token, items: self.in_flight(token), compose }
    }

    /// Collects a composition: from the first lane, then from the others that are ready, what never failed. It takes what is
    /// there and never waits.
    fn gather(&mut self, first: LaneKey, batch: usize, members: &mut Vec<(LaneKey, u64)>) {
        let others = self.ready.values().filter_map(|unit| match unit {
            Unit::Lane(key) if *key != first => Some(*key),
            _ => None,
        });
        let keys: Vec<LaneKey> = std::iter::once(first).chain(others).take(batch).collect();
        for key in keys {
            let room = batch - members.len();
            if room == 0 {
                break;
            }
            let Some(lane) = self.lanes.get(&key) else { continue };
            let before = members.len();
            members.extend(lane.items.iter().take(room).take_while(|i| i.combines()).map(|i| (key, i.owed.seq)));
            if members.len() > before {
                self.unplace_lane(key);
            }
        }
    }

    /// Parks lanes that wait longest while those that failed fill more than half of the window.
    fn evict_excess(&mut self) {
        while self.held.0 > self.limits.deliveries / 2 || self.held.1 > self.limits.bytes / 2 {
            if self.waiting.len() + self.retries.len() < 2 {
                return;
            }
            let last = self.waiting.last_key_value().map(|(_, unit)| *unit);
            let Some(unit) = last.or_else(|| self.retries.last_key_value().map(|(_, unit)| *unit)) else { return };
            self.park(unit);
        }
    }

    fn park(&mut self, unit: Unit) {
        let keys = self.lanes_of(unit);
        match unit {
            Unit::Lane(key) => self.unplace_lane(key),
            Unit::Batch(id) => {
                if let Some(place) = self.batches.get_mut(&id).and_then(|batch| batch.place.take()) {
                    self.unplace(unit, place);
                }
                self.batches.remove(&id);
            }
        }
        for key in keys {
            let Some(lane) = self.lanes.remove(&key) else { continue };
            for item in &lane.items {
                self.resident.remove(&item.owed.seq);
                self.bytes -= item.size;
            }
            let due = lane.items.iter().filter_map(|item| item.next_at).min();
            self.parked = self.parked.into_iter().chain(due).min();
        }
    }
}
