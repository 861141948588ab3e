//! An append: what of it is new, whether there is room, and how it comes into the window.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::params;

use super::apply::{Done, End, Ending};
use super::ops::{NewRow, Prepared};
use super::writer::Store;
use crate::clock::UnixMillis;
use crate::event::Sequencer;
use crate::queue::state::Item;
use crate::queue::state::change::{self, Known, Verdict};
use crate::queue::{Appended, Owed, QueueError, State};

/// An append, judged.
struct Judged<'a> {
    /// What is stored: which of the append's rows, the row, and whether a listing told a newer state.
    new: Vec<(usize, &'a NewRow, bool)>,
    /// Pushes of which a listing had told.
    covered: Vec<&'a [u8; 16]>,
    /// What is known now of the objects of `new`.
    told: HashMap<[u8; 16], Known>,
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
    pub(super) fn append(&mut self, append: &Prepared) -> rusqlite::Result<Done> {
        if let Some(message) = &append.message
            && self.memory.seen(message)?
        {
            let duplicate = Appended { duplicate_message: true, ..Appended::default() };
            return Ok(Done::Appended(Ok(duplicate), Vec::new(), Vec::new()));
        }
        // Everything is judged before anything is written.
        let Judged { new, covered, told } = self.judge(append)?;
        if let Some(error) = self.refusal(append, &new) {
            return Ok(Done::Appended(Err(error), Vec::new(), Vec::new()));
        }
        if let Some(message) = &append.message {
            self.memory.remember(message)?;
        }
        // A push that a listing forestalled is not judged anew when it is sent again: by then other changes may be known.
        for seen in covered {
            self.memory.remember(seen)?;
        }
        for (object, known) in &told {
            self.memory.tell(object, known)?;
        }
        let mut items = Vec::with_capacity(new.len());
        let mut ends = Vec::new();
        for (n, row, outdated) in &new {
            self.memory.remember(&row.seen)?;
            let seq = self.next_seq()?;
            if *outdated {
                let reason = "a listing had told a newer state of the same object";
                self.insert_dead(row, seq, append.received_at, State::Superseded, Some(reason))?;
                ends.push(End::of(self.ids[row.slot], State::Superseded));
                continue;
            }
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
            let seq = self.next_seq()?;
            self.insert_dead(row, seq, append.received_at, State::Dead, row.reason.as_deref())?;
        }
        let done = Appended {
            duplicate_message: false,
            queued: new.len(),
            duplicates: append.rows.len() - new.len(),
            set_aside: append.set_aside.len(),
        };
        Ok(Done::Appended(Ok(done), items, ends))
    }

    /// Which events are new: by their ids, and by what was told of their objects' states (hard case 20).
    fn judge<'a>(&mut self, append: &'a Prepared) -> rusqlite::Result<Judged<'a>> {
        let mut judged =
            Judged { new: Vec::with_capacity(append.rows.len()), covered: Vec::new(), told: HashMap::new() };
        for (n, row) in append.rows.iter().enumerate() {
            if judged.new.iter().any(|(_, other, _)| other.seen == row.seen) || self.memory.seen(&row.seen)? {
                continue;
            }
            let Some(change) = &row.change else {
                judged.new.push((n, row, false));
                continue;
            };
            let known = match judged.told.get(&change.object) {
                Some(known) => Some(*known),
                None => self.memory.known(&change.object)?,
            };
            match change::judge(known.as_ref(), change) {
                Verdict::Covered if change.listed_at.is_none() => judged.covered.push(&row.seen),
                Verdict::Covered => {}
                Verdict::News(news) => {
                    judged.told.insert(change.object, news);
                    judged.new.push((n, row, false));
                }
                Verdict::Outdated => judged.new.push((n, row, true)),
            }
        }
        Ok(judged)
    }

    /// A row that has ended before anything was attempted, kept with its payload.
    fn insert_dead(
        &mut self,
        row: &NewRow,
        seq: u64,
        at: UnixMillis,
        state: State,
        reason: Option<&str>,
    ) -> rusqlite::Result<()> {
        let count = &mut self.counts[self.ids[row.slot]];
        let (seq, size) = (seq.cast_signed(), row.json.len() as i64);
        let values = params![seq, count.id, &row.lane.0[..], at.0, 0, size, reason, row.json, state.as_str()];
        self.sql.insert_dead.execute(values)?;
        count.change(0, 0, 1, size);
        Ok(())
    }

    /// The bounds of hard case 16. What is dead by the end of its attempts is kept even beyond the bound, so that its lane goes
    /// on; the bound then refuses new work, and so the store never holds more than both bounds together.
    fn refusal(&self, append: &Prepared, new: &[(usize, &NewRow, bool)]) -> Option<QueueError> {
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
        let added: u64 = new.iter().map(|(_, row, _)| row.json.len() as u64).sum();
        let owed_bytes: u64 = self.counts.iter().map(|count| count.owed_bytes).sum();
        if owed_bytes + added > max_bytes {
            return Some(QueueError::Full { owed_bytes, max_bytes });
        }
        if self.ids.len() > 1 {
            let max_bytes = max_bytes / 2;
            for (slot, id) in self.ids.iter().enumerate() {
                let rows = new.iter().filter(|(_, row, _)| row.slot == slot);
                let own: u64 = rows.map(|(_, row, _)| row.json.len() as u64).sum();
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
            self.ending.extend(superseded.map(|item| Ending::superseded(row.slot, *item)));
            if !woken.contains(&row.slot) {
                woken.push(row.slot);
            }
        }
    }
}
