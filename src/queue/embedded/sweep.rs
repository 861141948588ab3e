//! Replay and discard: operators' work over many rows, in bounded steps.

use rusqlite::{params, params_from_iter};

use super::apply::{Done, End};
use super::inspect::{Where, payload};
use super::ops::Sweep;
use super::rows;
use super::writer::Store;
use crate::clock::UnixMillis;
use crate::queue::State;

/// Rows of one step.
const STEP: u64 = 256;

impl Store<'_> {
    /// Dead and superseded rows are owed again, as new: their age begins anew and the dedupe memory does not hold them back.
    /// It stops where the queue's bound is reached, and tells how many were replayed.
    pub(super) fn replay_step(&mut self, sweep: &Sweep, now: UnixMillis) -> rusqlite::Result<Done> {
        let mut narrowed = Where::of(&sweep.filter, sweep.before, false);
        if !narrowed.states(&sweep.filter.states, &[State::Dead, State::Superseded]) {
            return Ok(Done::Swept(0, None, Vec::new()));
        }
        let limit = step_of(sweep);
        let sql =
            format!("SELECT seq, instance, size FROM dead WHERE {} ORDER BY seq DESC LIMIT {limit}", narrowed.sql);
        let found = self
            .conn
            .prepare(&sql)?
            .query_map(params_from_iter(narrowed.values), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<Vec<(i64, i64, i64)>, _>>()?;
        let mut last = None;
        let mut done = 0;
        let mut full = false;
        let mut slots = Vec::new();
        for (seq, id, size) in &found {
            let owed: u64 = self.counts.iter().map(|count| count.owed_bytes).sum();
            if owed + size.cast_unsigned() > self.shared.config.max_bytes {
                full = true;
                break;
            }
            self.conn.execute(
                "INSERT OR REPLACE INTO owed (seq, instance, lane, accepted_at, paused_ms, size, replayed, event)
                 SELECT seq, instance, lane, ?2, (SELECT paused_ms FROM instances WHERE id = instance), size, 1, event
                 FROM dead WHERE seq = ?1",
                params![seq, now.0],
            )?;
            self.conn.execute("DELETE FROM dead WHERE seq = ?1", [seq])?;
            last = Some(seq.cast_unsigned());
            done += 1;
            if let Some(count) = self.counts.iter_mut().find(|count| count.id == *id) {
                count.change(1, size.cast_unsigned(), -1, -size);
                count.owed_since(now);
                slots.extend(count.slot.filter(|slot| !slots.contains(slot)));
            }
        }
        let more = !full && found.len() as u64 == limit;
        Ok(Done::Swept(done, last.filter(|_| more), slots))
    }

    /// Owed and dead rows are given up; what is being attempted at this moment is left alone.
    pub(super) fn discard_step(&mut self, sweep: &Sweep, now: UnixMillis) -> rusqlite::Result<Done> {
        let limit = step_of(sweep);
        let states = &sweep.filter.states;
        let mut found: Vec<(i64, bool)> = Vec::new();
        if states.is_empty() || states.contains(&State::Owed) {
            let narrowed = Where::of(&sweep.filter, sweep.before, false);
            self.collect(
                &format!("SELECT seq FROM owed WHERE {} ORDER BY seq DESC LIMIT {limit}", narrowed.sql),
                narrowed,
                true,
                &mut found,
            )?;
        }
        let mut narrowed = Where::of(&sweep.filter, sweep.before, false);
        let dead: &[State] = if states.is_empty() { &[State::Dead] } else { &[State::Dead, State::Superseded] };
        if narrowed.states(states, dead) {
            self.collect(
                &format!("SELECT seq FROM dead WHERE {} ORDER BY seq DESC LIMIT {limit}", narrowed.sql),
                narrowed,
                false,
                &mut found,
            )?;
        }
        found.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let (mut done, mut slots, mut ends) = (0, Vec::new(), Vec::new());
        for (seq, owed) in &found {
            if *owed && self.shared.state().is_claimed(seq.cast_unsigned()) {
                continue;
            }
            let table = if *owed { "owed" } else { "dead" };
            let row = self.conn.query_row(
                &format!(
                    "SELECT instance, accepted_at, attempts, log, size, {} FROM {table} WHERE seq = ?1",
                    payload()
                ),
                [seq],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, i64>(1).unwrap_or_default(),
                        row.get::<_, i64>(2).unwrap_or_default(),
                        rows::log(row, 3),
                        row.get::<_, i64>(4).unwrap_or_default(),
                        [row.get::<_, String>(5)?, row.get(6)?, row.get(7)?, row.get(8)?, row.get(9)?],
                    ))
                },
            )?;
            let (id, accepted_at, attempts, log, size, [event_id, bucket, key, name, origin]) = row;
            self.conn.execute(
                "INSERT OR REPLACE INTO ended (seq, instance, state, accepted_at, ended_at, attempts, reason, log, event_id,
                 bucket, key, event_name, origin)
                 VALUES (?1, ?2, 'discarded', ?3, ?4, ?5, 'discarded by an operator', ?6, ?7, ?8, ?9, ?10, ?11)",
                params![seq, id, accepted_at, now.0, attempts, log, event_id, bucket, key, name, origin],
            )?;
            self.conn.execute(&format!("DELETE FROM {table} WHERE seq = ?1"), [seq])?;
            self.ended += 1;
            done += 1;
            if let Some((place, count)) = self.counts.iter_mut().enumerate().find(|(_, count)| count.id == id) {
                if *owed {
                    ends.push(End::of(place, State::Discarded));
                    count.change(-1, 0, 0, 0);
                    count.owed_bytes = count.owed_bytes.saturating_sub(size.cast_unsigned());
                    slots.extend(count.slot.filter(|slot| !slots.contains(slot)));
                } else {
                    count.change(0, 0, -1, -size);
                }
            }
        }
        let more = found.len() as u64 == limit;
        let last = found.last().map(|(seq, _)| seq.cast_unsigned());
        Ok(Done::Discarded(done, last.filter(|_| more), slots, ends))
    }

    fn collect(&self, sql: &str, narrowed: Where, owed: bool, found: &mut Vec<(i64, bool)>) -> rusqlite::Result<()> {
        let mut statement = self.conn.prepare(sql)?;
        let rows = statement.query_map(params_from_iter(narrowed.values), |row| row.get::<_, i64>(0))?;
        for seq in rows {
            found.push((seq?, owed));
        }
        Ok(())
    }
}

/// Rows of the next step; no limit of the filter is all that fit.
fn step_of(sweep: &Sweep) -> u64 {
    match sweep.filter.limit as u64 {
        0 => STEP,
        limit => limit.saturating_sub(sweep.done).clamp(0, STEP),
    }
}
