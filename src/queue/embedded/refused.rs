//! What SQL refuses of one row: a constraint, a value that does not fit, a trigger that a stranger left. No time mends that, so it
//! must keep nobody else from their way.
//!
//! A group that is refused is carried out again one by one. A settlement that is refused alone as well is settled row by row; a
//! row whose settlement is refused ends dead with the reason, and one that cannot even be moved to the dead stays owed on disk and
//! is handed out no more until the next start. Whatever else is refused is answered so.

use rusqlite::ErrorCode;

use super::apply::End;
use super::failure::Kept;
use super::inspect::failed;
use super::ops::{Op, Sweep};
use super::writer::Store;
use crate::queue::state::{Effect, Item};
use crate::queue::{Outcome, Settlement, State};

/// Whether SQL refuses the statement with these values, and not the disk, the file or another connection every statement.
pub(super) fn is_refusal(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch | ErrorCode::Unknown
        ),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::ToSqlConversionFailure(..)
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    }
}

impl Store<'_> {
    /// Carries out a refused group one by one. An error that is no refusal leaves in `group` what was not done.
    pub(super) fn one_by_one(
        &mut self,
        group: &mut Vec<Op>,
        kept: &mut Kept,
        continuing: &mut Vec<Op>,
    ) -> rusqlite::Result<()> {
        for ending in std::mem::take(&mut self.ending) {
            let (slot, seq) = (ending.slot, ending.item.owed.seq);
            self.ending.push(ending);
            match self.transact(&[]) {
                Err(error) if is_refusal(&error) => {
                    self.ending.clear();
                    self.park(slot, seq, &error);
                    if let Some(window) = self.shared.state().window(slot) {
                        window.ended_outside();
                    }
                }
                other => drop(other?),
            }
        }
        while !group.is_empty() {
            match self.transact(&group[..1]) {
                Ok(done) => {
                    // Whoever hears an answer finds it in the numbers.
                    self.publish();
                    self.finish(group.drain(..1).zip(done), kept, continuing);
                }
                Err(error) if is_refusal(&error) => {
                    if let Op::Settle(settlement, _) = &group[0] {
                        self.settle_rows(settlement)?;
                        self.publish();
                    }
                    let why = failed(error);
                    match group.remove(0) {
                        Op::Settle(_, answer) => drop(answer.send(Ok(()))),
                        Op::Note(_, answer) => drop(answer.send(Err(why))),
                        Op::Append(_, answer) => drop(answer.send(Err(why))),
                        Op::Replay(Sweep { answer, .. }) | Op::Discard(Sweep { answer, .. }) => {
                            drop(answer.send(Err(why)));
                        }
                        // Attempted all the same, it may be composed anew after a restart. Released, it would come here again at once.
                        Op::Compose(reserved, answer) => drop(answer.send(reserved)),
                        other => super::failure::keep_or_refuse(other, &why, kept),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn settle_rows(&mut self, settlement: &Settlement) -> rusqlite::Result<()> {
        let Some((slot, items)) = self.shared.state().claimed(settlement.token) else { return Ok(()) };
        for item in &items {
            let only = std::slice::from_ref(item);
            match self.alone(|store| store.settle_items(slot, only, settlement).map(|(_, ends)| ends)) {
                Err(error) if is_refusal(&error) => self.give_up(slot, item, settlement, &error)?,
                other => self.count_ends(&other?),
            }
        }
        self.shared.state().finish(settlement.token, Effect::Ended { delivered: false });
        // What is owed still is found on disk again.
        self.reset_windows(&[slot])?;
        self.shared.wake(slot);
        Ok(())
    }

    /// Ends a row whose settlement is refused.
    fn give_up(
        &mut self,
        slot: usize,
        item: &Item,
        settlement: &Settlement,
        why: &rusqlite::Error,
    ) -> rusqlite::Result<()> {
        let outcome = match &settlement.outcome {
            Outcome::Dead(reason) => format!("dead ({reason})"),
            Outcome::Delivered => "delivered".to_owned(),
            Outcome::Release => "released".to_owned(),
            Outcome::Retry { .. } | Outcome::Split => "failed".to_owned(),
        };
        let reason = format!("the store refuses to note that it was {outcome}: {why}");
        let (at, attempts) = (settlement.at, item.attempts);
        let attempt = settlement.attempt.as_ref();
        match self.alone(|store| store.bury(slot, item, State::Dead, at, attempts, &reason, attempt)) {
            Err(error) if is_refusal(&error) => self.park(slot, item.owed.seq, &error),
            buried => {
                if buried? {
                    self.count_ends(&[End::of(self.ids[slot], State::Dead)]);
                }
                tracing::error!(seq = item.owed.seq, reason, "a delivery is kept among the dead letters");
            }
        }
        Ok(())
    }

    fn park(&mut self, slot: usize, seq: u64, why: &rusqlite::Error) {
        self.parked.insert(seq, slot);
        tracing::error!(seq, %why, "the store refuses every change of an owed row, which is attempted no more until the next start");
    }
}
