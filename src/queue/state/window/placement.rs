//! Where lanes and compositions stand among what can be taken, and who has to leave.

use super::super::lane::Place;
use super::super::{Item, LaneKey};
use super::{Batch, Unit, Window};
use crate::clock::UnixMillis;

impl Window {
    /// Puts an item into its lane, which is there.
    pub(super) fn insert(&mut self, item: Item) {
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
    pub(super) fn bind(&mut self, id: u64, mut members: Vec<(LaneKey, u64)>) {
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
    pub(super) fn settle_place(&mut self, key: LaneKey) {
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

    pub(super) fn put(&mut self, unit: Unit, next_at: Option<UnixMillis>) -> Place {
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

    pub(super) fn unplace_lane(&mut self, key: LaneKey) {
        if let Some(place) = self.lanes.get_mut(&key).and_then(|lane| lane.place.take()) {
            self.unplace(Unit::Lane(key), place);
        }
    }

    pub(super) fn unplace(&mut self, unit: Unit, place: Place) {
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

    pub(super) fn lanes_of(&self, unit: Unit) -> Vec<LaneKey> {
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

    pub(super) fn weight(&self, unit: Unit) -> (usize, u64) {
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

    pub(super) fn promote(&mut self, now: UnixMillis) {
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

    pub(super) fn mark(&mut self, unit: Unit, place: Option<Place>) {
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

    /// Parks lanes that wait longest while those that failed fill more than half of the window.
    pub(super) fn evict_excess(&mut self) {
        while self.held.0 > self.limits.deliveries / 2 || self.held.1 > self.limits.bytes / 2 {
            if self.waiting.len() + self.retries.len() < 2 {
                return;
            }
            let last = self.waiting.last_key_value().map(|(_, unit)| *unit);
            let Some(unit) = last.or_else(|| self.retries.last_key_value().map(|(_, unit)| *unit)) else { return };
            self.park(unit);
        }
    }

    pub(super) fn park(&mut self, unit: Unit) {
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
