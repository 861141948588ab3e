//! Each operation inside the transaction, and what follows for the window when it is durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::ops::{NewRow, Note, Op, Prepared};
use super::rows;
use super::writer::Store;
use crate::clock::UnixMillis;
use crate::config;
use crate::event::Sequencer;
use crate::queue::state::{Effect, Item, LaneKey};
use crate::queue::{Appended, Outcome, Owed, QueueError, Settlement, State};

/// What an operation came to inside the transaction.
pub(super) enum Done {
    Appended(Result<Appended, QueueError>, Vec<NewItem>),
    Composed,
    Nothing,
    /// Nothing was claimed under that token.
    Unknown,
    Settled(Effect, Vec<End>),
    /// Rows done, where the next step begins if there is one, and the windows that have to be filled anew.
    Swept(u64, Option<u64>, Vec<usize>),
    /// The same, and what ended by it.
    Discarded(u64, Option<u64>, Vec<usize>, Vec<End>),
}

/// A delivery that ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Where the counts of its instance are.
    pub(super) place: usize,
    pub(super) state: State,
}

impl End {
    pub(super) fn of(place: usize, state: State) -> Self {
        Self { place, state }
    }
}

/// A row that was appended.
pub(super) struct NewItem {
    /// Which of the append's rows.
    pub(super) row: usize,
    pub(super) seq: u64,
    /// What was delivered last of its lane, where the lane was not in memory.
    last: Option<Sequencer>,
    /// Rows of its lane may be on disk only.
    behind: bool,
    paused_ms: u64,
}

impl Store<'_> {
    pub(super) fn apply(&mut self, op: &Op, now: UnixMillis) -> rusqlite::Result<Done> {
        match op {
            Op::Append(append, _) => self.append(append),
            Op::Compose(reserved, _) => {
                let items = reserved.get().map(|taken| taken.items.as_slice()).unwrap_or_default();
                let batch = items.iter().map(|item| item.owed.seq).min().unwrap_or_default();
                for item in items {
                    self.sql.compose.execute(params![item.owed.seq.cast_signed(), batch.cast_signed()])?;
                }
                Ok(Done::Composed)
            }
            Op::Discard(sweep) => self.discard_step(sweep, now),
            Op::Replay(sweep) => self.replay_step(sweep, now),
            Op::Note(note, _) => self.note(note).map(|()| Done::Nothing),
            Op::Settle(settlement, _) => self.settle(settlement),
            Op::Close(_) | Op::Load | Op::Tick => Ok(Done::Nothing),
        }
    }

    fn append(&mut self, append: &Prepared) -> rusqlite::Result<Done> {
        let refuse = |error| Ok(Done::Appended(Err(error), Vec::new()));
        if let Some(message) = &append.message
            && self.memory.seen(message)?
        {
            return Ok(Done::Appended(Ok(Appended { duplicate_message: true, ..Appended::default() }), Vec::new()));
        }
        // Everything is judged before anything is written.
        let mut new: Vec<(usize, &NewRow)> = Vec::with_capacity(append.rows.len());
        for (n, row) in append.rows.iter().enumerate() {
            if !new.iter().any(|(_, other)| other.seen == row.seen) && !self.memory.seen(&row.seen)? {
                new.push((n, row));
            }
        }
        if let Some(error) = self.refusal(append, &new) {
            return refuse(error);
        }
        if let Some(message) = &append.message {
            self.memory.remember(message)?;
        }
        let mut items = Vec::with_capacity(new.len());
        for (n, row) in &new {
            self.memory.remember(&row.seen)?;
            let seq = self.next_seq()?;
            let (last, behind) = self.look_at_lane(row, seq)?;
            let paused_ms = self.shared.paused_ms[row.slot].load(Ordering::Acquire);
            let count = &mut self.counts[self.ids[row.slot]];
            let size = row.json.len() as u64;
            self.sql.insert_owed.execute(params![
                seq.cast_signed(),
                count.id,
                &row.lane.0[..],
                append.received_at.0,
                paused_ms.cast_signed(),
                size.cast_signed(),
                row.json
            ])?;
            count.change(1, size, 0, 0);
            count.owed_since(append.received_at);
            items.push(NewItem { row: *n, seq, last, behind, paused_ms });
        }
        for row in &append.set_aside {
            let seq = self.next_seq()?.cast_signed();
            let count = &mut self.counts[self.ids[row.slot]];
            let at = append.received_at.0;
            let (lane, size) = (&row.lane.0[..], row.json.len() as u64);
            self.sql.insert_dead.execute(params![
                seq,
                count.id,
                lane,
                at,
                0,
                size.cast_signed(),
                row.reason,
                row.json
            ])?;
            count.change(0, 0, 1, size.cast_signed());
        }
        let done = Appended {
            duplicate_message: false,
            queued: items.len(),
            duplicates: append.rows.len() - items.len(),
            set_aside: append.set_aside.len(),
        };
        Ok(Done::Appended(Ok(done), items))
    }

    /// The bounds of hard case 16. What is dead by the end of its attempts is kept even beyond the bound, so that its lane goes
    /// on; the bound then refuses new work, and so the store never holds more than both bounds together.
    fn refusal(&self, append: &Prepared, new: &[(usize, &NewRow)]) -> Option<QueueError> {
        let aside: u64 = append.set_aside.iter().map(|row| row.json.len() as u64).sum();
        if new.is_empty() && aside == 0 {
            return None;
        }
        let max_bytes = self.shared.config.dead_max_bytes;
        let dead: u64 = self.counts.iter().map(|count| count.dead_bytes).sum();
        if dead >= max_bytes || dead + aside > max_bytes {
            return Some(QueueError::DeadFull { max_bytes });
        }
        let max_bytes = self.shared.config.max_bytes;
        let added: u64 = new.iter().map(|(_, row)| row.json.len() as u64).sum();
        let owed_bytes: u64 = self.counts.iter().map(|count| count.owed_bytes).sum();
        if owed_bytes + added > max_bytes {
            return Some(QueueError::Full { owed_bytes, max_bytes });
        }
        if self.ids.len() > 1 {
            let max_bytes = max_bytes / 2;
            for (slot, id) in self.ids.iter().enumerate() {
                let own =
                    new.iter().filter(|(_, row)| row.slot == slot).map(|(_, row)| row.json.len() as u64).sum::<u64>();
                let owed_bytes = self.counts[*id].owed_bytes;
                if own > 0 && owed_bytes + own > max_bytes {
                    return Some(QueueError::Full { owed_bytes, max_bytes });
                }
            }
        }
        None
    }

    /// What the window has to know of the lane of a new row, if the row may come in at once.
    fn look_at_lane(&mut self, row: &NewRow, seq: u64) -> rusqlite::Result<(Option<Sequencer>, bool)> {
        let whole = {
            let mut state = self.shared.state();
            let Some(window) = state.window(row.slot) else { return Ok((None, false)) };
            if !window.is_caught_up() {
                return Ok((None, false));
            }
            if window.lane_tail(&row.lane).is_some() {
                // Should the lane be parked by the time of the commit, the row is behind it.
                return Ok((None, true));
            }
            window.is_whole()
        };
        if !whole {
            // Rows of this transaction are not on disk only: they come in before this one.
            let first = self.first_seq.min(seq).cast_signed();
            if self.sql.lane_before.exists(params![&row.lane.0[..], first])? {
                return Ok((None, true));
            }
        }
        let comparable = row.event.as_ref().is_some_and(|event| event.sequencer.is_some());
        Ok((if comparable { self.last_delivered(&row.lane)? } else { None }, false))
    }

    pub(super) fn last_delivered(&mut self, lane: &LaneKey) -> rusqlite::Result<Option<Sequencer>> {
        match self.shared.config.ordering {
            config::Ordering::Key => self.memory.last(lane),
            config::Ordering::None => Ok(None),
        }
    }

    fn settle(&mut self, settlement: &Settlement) -> rusqlite::Result<Done> {
        let Some((slot, items)) = self.shared.state().claimed(settlement.token) else { return Ok(Done::Unknown) };
        let attempt = settlement.attempt.as_ref();
        let counted = attempt.is_some_and(|attempt| attempt.counted);
        let attempts = items.first().map_or(0, |item| item.attempts) + u32::from(counted);
        let first = items.first().and_then(|item| item.first_failed_at);
        let first_failed_at = first.or_else(|| counted.then_some(settlement.at));
        let mut ends = Vec::new();
        for item in &items {
            let seq = item.owed.seq.cast_signed();
            match &settlement.outcome {
                Outcome::Delivered => {
                    let log: Option<Option<String>> =
                        self.sql.remove_owed.query_row([seq], |row| row.get(0)).optional()?;
                    if let Some(log) = log {
                        let log = rows::add_attempt(log.as_deref(), attempt);
                        self.end(slot, item, State::Delivered, settlement.at, attempts, None, log.as_deref())?;
                        ends.push(End::of(self.ids[slot], State::Delivered));
                    }
                    self.mark_delivered(item)?;
                }
                Outcome::Dead(reason) => {
                    if self.bury(slot, item, State::Dead, settlement.at, attempts, reason, attempt)? {
                        ends.push(End::of(self.ids[slot], State::Dead));
                    }
                }
                Outcome::Release => {
                    if attempt.is_some() {
                        let log = self.log_with(seq, attempt)?;
                        self.sql.set_log.execute(params![seq, log])?;
                    }
                }
                Outcome::Retry { .. } | Outcome::Split => {
                    let (at, batch) = match settlement.outcome {
                        Outcome::Retry { at } => (at, None),
                        _ => (settlement.at, Some(seq)),
                    };
                    let log = self.log_with(seq, attempt)?;
                    self.sql.retry.execute(params![seq, attempts, first_failed_at.map(|at| at.0), at.0, log, batch])?;
                }
            }
        }
        let effect = match settlement.outcome {
            Outcome::Dead(_) => Effect::Ended { delivered: false },
            Outcome::Delivered => Effect::Ended { delivered: true },
            Outcome::Release => Effect::Released,
            Outcome::Retry { at } => Effect::Retry { at, attempts, first_failed_at },
            Outcome::Split => Effect::Split { at: settlement.at, attempts, first_failed_at },
        };
        Ok(Done::Settled(effect, ends))
    }

    fn log_with(&mut self, seq: i64, attempt: Option<&crate::queue::Attempt>) -> rusqlite::Result<Option<String>> {
        let log: Option<Option<String>> = self.sql.log.query_row([seq], |row| row.get(0)).optional()?;
        Ok(rows::add_attempt(log.flatten().as_deref(), attempt))
    }

    /// Writes what was delivered last of a lane; a replayed older event leaves the mark where it is.
    fn mark_delivered(&mut self, item: &Item) -> rusqlite::Result<()> {
        let Some(sequencer) = &item.owed.event.sequencer else { return Ok(()) };
        if self.shared.config.ordering == config::Ordering::None {
            return Ok(());
        }
        if (item.replayed || item.batch.is_some())
            && let Some(last) = self.memory.last(&item.lane)?
            && sequencer.compare(&last) == Some(std::cmp::Ordering::Less)
        {
            return Ok(());
        }
        self.memory.delivered(&item.lane, sequencer)
    }

    /// Moves a row that has left `owed` to the slim history.
    #[allow(clippy::too_many_arguments, reason = "the columns of one row, each named at the only places that write it")]
    pub(super) fn end(
        &mut self,
        slot: usize,
        item: &Item,
        state: State,
        at: UnixMillis,
        attempts: u32,
        reason: Option<&str>,
        log: Option<&str>,
    ) -> rusqlite::Result<()> {
        let count = &mut self.counts[self.ids[slot]];
        let event = &item.owed.event;
        self.sql.insert_ended.execute(params![
            item.owed.seq.cast_signed(),
            count.id,
            state.as_str(),
            item.owed.accepted_at.0,
            at.0,
            attempts,
            reason,
            log,
            event.id.to_string(),
            event.bucket,
            event.key,
            event.event_name
        ])?;
        count.change(-1, 0, 0, 0);
        count.owed_bytes = count.owed_bytes.saturating_sub(item.size);
        self.ended += 1;
        Ok(())
    }

    /// Moves a row from `owed` to the dead, with its payload; whether it was there.
    #[allow(clippy::too_many_arguments, reason = "the columns of one row, each named at the only places that write it")]
    pub(super) fn bury(
        &mut self,
        slot: usize,
        item: &Item,
        state: State,
        at: UnixMillis,
        attempts: u32,
        reason: &str,
        attempt: Option<&crate::queue::Attempt>,
    ) -> rusqlite::Result<bool> {
        let seq = item.owed.seq.cast_signed();
        let log = self.log_with(seq, attempt)?;
        let moved = self.sql.to_dead.execute(params![seq, state.as_str(), at.0, attempts, reason, log])?;
        if moved == 0 {
            return Ok(false);
        }
        let _: Option<Option<String>> = self.sql.remove_owed.query_row([seq], |row| row.get(0)).optional()?;
        let count = &mut self.counts[self.ids[slot]];
        count.change(-1, 0, 1, item.size.cast_signed());
        count.owed_bytes = count.owed_bytes.saturating_sub(item.size);
        Ok(true)
    }

    fn note(&mut self, note: &Note) -> rusqlite::Result<()> {
        match note {
            Note::Paused { slot, ms } => {
                let id = self.counts[self.ids[*slot]].id;
                self.conn
                    .execute("UPDATE instances SET paused_ms = ?2 WHERE id = ?1", params![id, ms.cast_signed()])?;
                Ok(())
            }
            Note::Put { space, key, value } => {
                let sql = "INSERT OR REPLACE INTO notes (space, key, value) VALUES (?1, ?2, ?3)";
                self.conn.execute(sql, params![space, key, value]).map(drop)
            }
            Note::Remove { space, key } => {
                self.conn.execute("DELETE FROM notes WHERE space = ?1 AND key = ?2", params![space, key]).map(drop)
            }
        }
    }

    /// Brings appended rows into the window, once they are durable.
    pub(super) fn enter(&mut self, append: &mut Prepared, items: Vec<NewItem>, woken: &mut Vec<usize>) {
        let mut state = self.shared.state();
        for new in items {
            let row = &mut append.rows[new.row];
            let Some(event) = row.event.take() else { continue };
            let Some(window) = state.window(row.slot) else { continue };
            let item = Item {
                owed: Arc::new(Owed {
                    seq: new.seq,
                    accepted_at: append.received_at,
                    paused_at_accept: Duration::from_millis(new.paused_ms),
                    event,
                }),
                lane: row.lane,
                size: row.json.len() as u64,
                attempts: 0,
                first_failed_at: None,
                next_at: None,
                batch: None,
                replayed: false,
            };
            let superseded = window.append(item, new.last, new.behind);
            self.superseded.extend(superseded.map(|item| (row.slot, *item)));
            if !woken.contains(&row.slot) {
                woken.push(row.slot);
            }
        }
    }
}
