//! Each operation inside the transaction, and what follows for the window when it is durable.

use rusqlite::{OptionalExtension, params};

use super::append::NewItem;
use super::ops::{Note, Op};
use super::rows;
use super::writer::Store;
use crate::clock::UnixMillis;
use crate::config;
use crate::event::Sequencer;
use crate::queue::state::{Effect, Item, LaneKey};
use crate::queue::{Appended, Outcome, QueueError, Settlement, State};

/// What an operation came to inside the transaction.
pub(super) enum Done {
    Appended(Result<Appended, QueueError>, Vec<NewItem>, Vec<End>),
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

/// What ends with the next transaction without an attempt.
#[derive(Clone)]
pub(super) struct Ending {
    pub(super) slot: usize,
    pub(super) item: Item,
    /// Why it cannot be read; otherwise it is superseded.
    pub(super) damaged: Option<String>,
}

impl Ending {
    pub(super) fn superseded(slot: usize, item: Item) -> Self {
        Self { slot, item, damaged: None }
    }
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

    pub(super) fn last_delivered(&mut self, lane: &LaneKey) -> rusqlite::Result<Option<Sequencer>> {
        match self.shared.config.ordering {
            config::Ordering::Key => self.memory.last(lane),
            config::Ordering::None => Ok(None),
        }
    }

    fn settle(&mut self, settlement: &Settlement) -> rusqlite::Result<Done> {
        let Some((slot, items)) = self.shared.state().claimed(settlement.token) else { return Ok(Done::Unknown) };
        self.settle_items(slot, &items, settlement).map(|(effect, ends)| Done::Settled(effect, ends))
    }

    /// Settles items of one claim.
    pub(super) fn settle_items(
        &mut self,
        slot: usize,
        items: &[Item],
        settlement: &Settlement,
    ) -> rusqlite::Result<(Effect, Vec<End>)> {
        let attempt = settlement.attempt.as_ref();
        let counted = attempt.is_some_and(|attempt| attempt.counted);
        let attempts = items.first().map_or(0, |item| item.attempts) + u32::from(counted);
        let first = items.first().and_then(|item| item.first_failed_at);
        let first_failed_at = first.or_else(|| counted.then_some(settlement.at));
        let mut ends = Vec::new();
        for item in items {
            let seq = item.owed.seq.cast_signed();
            match &settlement.outcome {
                Outcome::Delivered => {
                    let log = self.sql.remove_owed.query_row([seq], |row| Ok(rows::log(row, 0))).optional()?;
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
        Ok((effect, ends))
    }

    /// Ends what is superseded or damaged. What is left of a damaged row is kept in a form that can be read.
    pub(super) fn end_unattempted(&mut self, ending: &Ending, now: UnixMillis) -> rusqlite::Result<Option<End>> {
        let Ending { slot, item, damaged } = ending;
        let (state, reason) = match damaged {
            None => (State::Superseded, "a newer event of the same object was delivered".to_owned()),
            Some(why) => (State::Dead, format!("damaged: {why}")),
        };
        if !self.bury(*slot, item, state, now, item.attempts, &reason, None)? {
            return Ok(None);
        }
        if damaged.is_some() {
            // An event always has a JSON form; without it the row would stay as it was.
            if let Ok(event) = serde_json::to_string(&item.owed.event) {
                let (seq, at, size) = (item.owed.seq.cast_signed(), item.owed.accepted_at.0, item.size.cast_signed());
                self.sql.mend_dead.execute(params![seq, &item.lane.0[..], event, at, size])?;
            }
            let (instance, seq) = (&*self.shared.names[*slot], item.owed.seq);
            tracing::error!(instance, seq, reason, "an owed row cannot be read and is kept among the dead letters");
        }
        Ok(Some(End::of(self.ids[*slot], state)))
    }

    fn log_with(&mut self, seq: i64, attempt: Option<&crate::queue::Attempt>) -> rusqlite::Result<Option<String>> {
        let log: Option<Option<String>> = self.sql.log.query_row([seq], |row| Ok(rows::log(row, 0))).optional()?;
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
            event.event_name,
            event.origin.as_str()
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
        let _ = self.sql.remove_owed.query_row([seq], |row| Ok(rows::log(row, 0))).optional()?;
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
}
