//! Claims: what is taken, and what their end does to the window.

use std::collections::HashMap;

use super::super::{Effect, Item, LaneKey, Taken};
use super::{Flight, Unit, Window};
use crate::clock::UnixMillis;
use crate::queue::Want;

impl Window {
    pub(in crate::queue::state) fn take(&mut self, want: Want, now: UnixMillis, next_token: &mut u64) -> Vec<Taken> {
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

    pub(in crate::queue::state) fn flying(&self) -> impl Iterator<Item = u64> + '_ {
        self.flights.values().flat_map(|flight| flight.members.iter().map(|(_, seq)| *seq))
    }

    pub(in crate::queue::state) fn in_flight(&self, token: u64) -> Vec<Item> {
        let Some(flight) = self.flights.get(&token) else { return Vec::new() };
        let find =
            |(key, seq): &(LaneKey, u64)| self.lanes.get(key)?.items.iter().find(|item| item.owed.seq == *seq).cloned();
        flight.members.iter().filter_map(find).collect()
    }

    pub(in crate::queue::state) fn composed(&mut self, token: u64) {
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

    pub(in crate::queue::state) fn finish(&mut self, token: u64, effect: Effect) -> Vec<Item> {
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
}
