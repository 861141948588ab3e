//! Brings rows from disk into the windows.

use rusqlite::{OptionalExtension, params};

use super::apply::Ending;
use super::rows::{self, Damaged};
use super::writer::Store;
use crate::clock::UnixMillis;
use crate::queue::state::{Admission, Item, LaneKey, LaneRows};

/// Rows and lanes of one step: few enough that appends do not wait long behind it.
const STEP: usize = 256;
const LANES: usize = 32;

impl Store<'_> {
    /// One step for every window that wants rows; whether anything came in.
    pub(super) fn load(&mut self, now: UnixMillis) -> rusqlite::Result<bool> {
        let mut progress = false;
        for slot in 0..self.ids.len() {
            let plan = match self.shared.state().window(slot) {
                Some(window) => window.plan(now),
                None => continue,
            };
            if plan.is_empty() {
                continue;
            }
            let mut loaded = false;
            for lane in plan.refill {
                loaded |= self.bring(slot, lane)?;
            }
            if plan.due {
                loaded |= self.load_due(slot, now)?;
            }
            if let Some((after, limit)) = plan.fresh {
                loaded |= self.load_fresh(slot, after, limit.min(STEP))?;
            }
            if loaded {
                self.shared.wake(slot);
            }
            progress |= loaded;
        }
        Ok(progress)
    }

    /// Rows that never failed, by arrival.
    fn load_fresh(&mut self, slot: usize, after: u64, limit: usize) -> rusqlite::Result<bool> {
        let id = self.counts[self.ids[slot]].id;
        let found = self
            .sql
            .fresh
            .query_map(params![id, after.cast_signed(), limit as i64], |row| {
                Ok((row.get::<_, i64>(0)?, rows::lane(row, 1)))
            })?
            .collect::<Result<Vec<_>, _>>()?;
        let mut cursor = after;
        let mut stopped = false;
        for (seq, lane) in &found {
            let (resident, tail) = {
                let mut state = self.shared.state();
                let Some(window) = state.window(slot) else { return Ok(false) };
                (window.is_resident(seq.cast_unsigned()), lane.map(|lane| (lane, window.lane_tail(&lane))))
            };
            let came_in = match tail {
                _ if resident => true,
                Some((_, Some(true))) => true,
                // A row without a lane is damaged, which its reading tells.
                Some((_, Some(false))) | None => self.admit(slot, *seq)?,
                Some((lane, None)) => self.bring(slot, lane)?,
            };
            if !came_in {
                stopped = true;
                break;
            }
            cursor = seq.cast_unsigned();
        }
        let highest = self.highest();
        let mut state = self.shared.state();
        if let Some(window) = state.window(slot) {
            window.advance(cursor);
            if !stopped && found.len() < limit {
                window.caught_up(highest);
            }
        }
        Ok(cursor > after || (!stopped && found.len() < limit))
    }

    fn admit(&mut self, slot: usize, seq: i64) -> rusqlite::Result<bool> {
        if self.is_ending(seq.cast_unsigned()) {
            return Ok(true);
        }
        let found = self.sql.row.query_row([seq], rows::item).optional()?;
        let Some(item) = self.sound(slot, found).pop() else { return Ok(true) };
        let admission = self.shared.state().window(slot).map(|window| window.admit(item, None));
        Ok(match admission {
            Some(Admission::Full) => false,
            Some(Admission::Superseded(item)) => {
                self.ending.push(Ending::superseded(slot, *item));
                true
            }
            _ => true,
        })
    }

    /// The rows that can be read; the others end with the next transaction.
    fn sound(&mut self, slot: usize, found: impl IntoIterator<Item = Result<Item, Damaged>>) -> Vec<Item> {
        let mut items = Vec::new();
        for row in found {
            match row {
                Ok(item) => items.push(item),
                Err(Damaged { item, .. }) if self.is_ending(item.owed.seq) => {}
                Err(Damaged { item, why }) => self.ending.push(Ending { slot, item, damaged: Some(why) }),
            }
        }
        items
    }

    /// Whether a row ends with the next transaction, or cannot.
    fn is_ending(&self, seq: u64) -> bool {
        self.parked.contains_key(&seq) || self.ending.iter().any(|one| one.item.owed.seq == seq)
    }

    /// Lanes that wait on disk for a retry that is due.
    fn load_due(&mut self, slot: usize, now: UnixMillis) -> rusqlite::Result<bool> {
        let (due, _) = self.parked(slot, now)?;
        let mut loaded = false;
        for lane in due {
            if !self.bring(slot, lane)? {
                break;
            }
            loaded = true;
        }
        let (left, next) = self.parked(slot, now)?;
        let next = if left.is_empty() { next } else { Some(now) };
        if let Some(window) = self.shared.state().window(slot) {
            window.set_parked(next);
        }
        Ok(loaded)
    }

    /// The first lanes that are due and on disk only, and the time of the first that is due later.
    fn parked(&mut self, slot: usize, now: UnixMillis) -> rusqlite::Result<(Vec<LaneKey>, Option<UnixMillis>)> {
        let id = self.counts[self.ids[slot]].id;
        let mut found = self.sql.due.query([id])?;
        let mut lanes = Vec::new();
        let mut broken = Vec::new();
        let mut later = None;
        while let Some(row) = found.next()? {
            let (Some(lane), Ok(at)) = (rows::lane(row, 1), row.get(2).map(UnixMillis)) else {
                broken.push(row.get(0)?);
                if broken.len() >= LANES {
                    break;
                }
                continue;
            };
            if self.shared.state().window(slot).is_none_or(|window| window.lane_tail(&lane).is_some()) {
                continue;
            }
            if at > now {
                later = Some(at);
                break;
            }
            if !lanes.contains(&lane) {
                lanes.push(lane);
            }
            if lanes.len() >= LANES {
                break;
            }
        }
        drop(found);
        for seq in broken {
            self.admit(slot, seq)?;
        }
        Ok((lanes, later))
    }

    /// Brings in a lane, with the lanes that a stored composition binds to it; `false` when there is no room.
    fn bring(&mut self, slot: usize, lane: LaneKey) -> rusqlite::Result<bool> {
        let mut group: Vec<LaneRows> = Vec::new();
        let mut batches: Vec<u64> = Vec::new();
        let mut members: Vec<Item> = Vec::new();
        let mut wanted = vec![lane];
        while let Some(key) = wanted.pop() {
            if group.iter().any(|rows| rows.lane == key) {
                continue;
            }
            let limit = self.limits.lane;
            let found = self.sql.lane.query_map(params![&key.0[..], limit as i64 + 1], rows::item)?;
            let mut found = found.collect::<Result<Vec<_>, _>>()?;
            let more = found.len() > limit;
            found.truncate(limit);
            let mut items = self.sound(slot, found);
            items.retain(|item| !self.is_ending(item.owed.seq));
            for batch in items.iter().filter_map(|item| item.batch) {
                if batches.contains(&batch) {
                    continue;
                }
                batches.push(batch);
                let found =
                    self.sql.batch.query_map([batch.cast_signed()], rows::item)?.collect::<Result<Vec<_>, _>>()?;
                let found = self.sound(slot, found);
                wanted.extend(found.iter().map(|item| item.lane));
                members.extend(found);
            }
            let last = self.last_delivered(&key)?;
            group.push(LaneRows { lane: key, items, more, last });
        }
        // A member may stand beyond the first rows of its lane.
        for member in members {
            if let Some(rows) = group.iter_mut().find(|rows| rows.lane == member.lane)
                && !rows.items.iter().any(|item| item.owed.seq == member.owed.seq)
            {
                rows.items.push(member);
            }
        }
        let superseded = match self.shared.state().window(slot) {
            Some(window) => window.admit_lanes(group),
            None => None,
        };
        let Some(superseded) = superseded else { return Ok(false) };
        self.ending.extend(superseded.into_iter().map(|item| Ending::superseded(slot, item)));
        Ok(true)
    }
}
