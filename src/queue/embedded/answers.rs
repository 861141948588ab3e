//! What follows from a commit: windows, further steps of long operations, answers.

use super::apply::{Done, End, Ending};
use super::failure::Kept;
use super::inspect::failed;
use super::ops::{Note, Op, Sweep};
use super::writer::Store;
use crate::queue::QueueError;
use crate::telemetry::metrics::Metrics;

impl Store<'_> {
    /// What follows from a commit: the window first, appends before settlements, then the answers.
    pub(super) fn finish(&mut self, done: impl Iterator<Item = (Op, Done)>, kept: &mut Kept, continuing: &mut Vec<Op>) {
        let mut woken = Vec::new();
        let mut rest = Vec::new();
        for (op, done) in done {
            match (op, done) {
                (Op::Append(mut append, answer), Done::Appended(result, items, ends)) => {
                    self.count_ends(&ends);
                    self.enter(&mut append, items, &mut woken);
                    let _ = answer.send(result);
                }
                other => rest.push(other),
            }
        }
        for (op, done) in rest {
            match (op, done) {
                (Op::Settle(settlement, answer), Done::Settled(effect, ends)) => {
                    let mut state = self.shared.state();
                    let slot = state.claimed(settlement.token).map(|(slot, _)| slot);
                    let superseded = state.finish(settlement.token, effect);
                    drop(state);
                    if let Some(slot) = slot {
                        self.ending.extend(superseded.into_iter().map(|item| Ending::superseded(slot, item)));
                        if !woken.contains(&slot) {
                            woken.push(slot);
                        }
                    }
                    self.count_ends(&ends);
                    let _ = answer.send(Ok(()));
                }
                (Op::Settle(settlement, answer), _) => {
                    let _ = answer.send(Err(QueueError::UnknownClaim { token: settlement.token }));
                }
                (Op::Compose(reserved, answer), _) => {
                    if let Some(taken) = reserved.get() {
                        self.shared.state().composed(taken.token);
                    }
                    let _ = answer.send(reserved);
                }
                (Op::Note(note, answer), _) => {
                    if let Note::Paused { slot, ms } = note {
                        self.shared.paused_ms[slot].store(ms, std::sync::atomic::Ordering::Release);
                    }
                    let _ = answer.send(Ok(()));
                }
                (Op::Replay(sweep), Done::Swept(done, next, slots)) => {
                    self.swept(sweep, done, next, &slots, true, &mut woken, continuing);
                }
                (Op::Discard(sweep), Done::Discarded(done, next, slots, ends)) => {
                    self.count_ends(&ends);
                    self.swept(sweep, done, next, &slots, false, &mut woken, continuing);
                }
                (Op::Close(answer), _) => kept.closing.push(answer),
                _ => {}
            }
        }
        for slot in woken {
            self.shared.wake(slot);
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what one step of a sweep found, told once to the waiter and the scheduler"
    )]
    fn swept(
        &mut self,
        mut sweep: Sweep,
        done: u64,
        next: Option<u64>,
        slots: &[usize],
        replay: bool,
        woken: &mut Vec<usize>,
        continuing: &mut Vec<Op>,
    ) {
        sweep.done += done;
        let reset = self.reset_windows(slots);
        woken.extend(slots);
        if let Err(error) = reset {
            let _ = sweep.answer.send(Err(failed(error)));
            return;
        }
        let finished = sweep.filter.limit > 0 && sweep.done >= sweep.filter.limit as u64;
        match next.filter(|_| !finished) {
            Some(before) => {
                sweep.before = Some(before);
                continuing.push(if replay { Op::Replay(sweep) } else { Op::Discard(sweep) });
            }
            None => drop(sweep.answer.send(Ok(sweep.done))),
        }
    }

    /// Fills windows from disk again. Claims stay; those whose row is gone are still counted until they are settled.
    pub(super) fn reset_windows(&mut self, slots: &[usize]) -> rusqlite::Result<()> {
        for &slot in slots {
            let claimed = self.shared.state().claimed_rows(slot);
            let mut owed = self.counts[self.ids[slot]].owed;
            for seq in claimed {
                owed += u64::from(!self.sql.is_owed.exists([seq.cast_signed()])?);
            }
            let parked: Vec<u64> = self.parked.iter().filter(|(_, of)| **of == slot).map(|(seq, _)| *seq).collect();
            for seq in parked {
                owed = owed.saturating_sub(u64::from(self.sql.is_owed.exists([seq.cast_signed()])?));
            }
            self.ending.retain(|one| one.slot != slot);
            if let Some(window) = self.shared.state().window(slot) {
                window.reset(owed);
            }
        }
        Ok(())
    }

    /// The one place where ends of deliveries are counted: each when it is durable. Of what ended already, such as a dead
    /// letter that is discarded, no second end is counted.
    pub(super) fn count_ends(&self, ends: &[End]) {
        for end in ends {
            Metrics::count(&self.shared.metrics.deliveries, &self.counts[end.place].name, end.state.as_str(), 1);
        }
    }
}
