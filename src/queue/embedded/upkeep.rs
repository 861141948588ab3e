//! What nobody should wait for: checkpoints, space given back, numbers.
//!
//! # How long the log may become
//!
//! The keeper checkpoints in the background, passively, on a connection of its own: no commit waits for that. Under load such
//! a checkpoint never ends at the end of the log, though, and only a log that was copied to its end starts again. So when it
//! has passed [`LONG_LOG`] frames (64 MiB), the writer copies the rest itself between two transactions, and the next one
//! writes from the beginning. What it has to copy is what was written during the keeper's last checkpoint, whose end it does
//! not wait for until the log has [`LONGEST_LOG`] frames (256 MiB): a slow disk must not fill itself with the log. A reader may
//! hold the log back as long as its listing lasts; the writer then tries again after every [`ASK`] frames.

use std::io;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::counts::Count;
use super::ops::Op;
use super::writer::Store;
use super::{Shared, files, schema};

/// Frames that are not in the database yet after which the keeper is asked for a checkpoint: 8 MiB.
const ASK: i64 = 2048;
/// Frames of the log after which the writer itself finishes a checkpoint: 64 MiB.
const LONG_LOG: i64 = if cfg!(test) { 512 } else { 16_384 };
/// Frames of the log from which on the writer waits for the keeper before it finishes a checkpoint: 256 MiB.
pub(super) const LONGEST_LOG: i64 = 4 * LONG_LOG;
/// How often numbers are brought up to date.
const TICK: Duration = Duration::from_secs(1);
/// Pages given back in one tick, 8 MiB while nothing else is to do.
const GIVEN_BACK: (u32, u32) = (2048, 128);

/// The thread beside the writer. It ends with it.
pub(super) struct Keeper(std_mpsc::SyncSender<()>);

impl Keeper {
    pub(super) fn start(shared: Arc<Shared>, ops: mpsc::WeakSender<Op>) -> io::Result<Self> {
        let (sender, receiver) = std_mpsc::sync_channel(1);
        let keep = move || keep(&shared, &receiver, &ops);
        std::thread::Builder::new().name("postern-keep".to_owned()).spawn(keep)?;
        Ok(Self(sender))
    }

    /// Asks for a checkpoint, if none waits already.
    fn checkpoint(&self) {
        let _ = self.0.try_send(());
    }
}

/// Checkpoints when asked; wakes a writer that has nothing to do once a second.
fn keep(shared: &Shared, asked: &std_mpsc::Receiver<()>, ops: &mpsc::WeakSender<Op>) {
    loop {
        match asked.recv_timeout(TICK) {
            Ok(()) => {
                let _turn = shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner);
                // A checkpoint that fails is tried again; the writer finds out for itself whether the disk is at fault.
                let checkpoint = schema::open_checkpointer(&shared.dir)
                    .and_then(|conn| conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
                if let Err(error) = checkpoint {
                    tracing::debug!(%error, "a checkpoint of the store did not finish");
                }
            }
            Err(std_mpsc::RecvTimeoutError::Timeout) => {
                let Some(ops) = ops.upgrade() else { return };
                let _ = ops.try_send(Op::Tick);
            }
            Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Store<'_> {
    /// After every group, so that a writer with too much to do to hear the keeper keeps up as well.
    pub(super) fn keep_up(&mut self, ticks: bool, keeper: &Keeper) -> rusqlite::Result<()> {
        let tick = ticks || self.ticked.elapsed() >= TICK;
        self.bound_log(tick, keeper)?;
        if tick {
            self.ticked = Instant::now();
            self.tick()?;
            self.publish();
        }
        Ok(())
    }

    fn bound_log(&mut self, tick: bool, keeper: &Keeper) -> rusqlite::Result<()> {
        let (frames, copied) =
            self.sql.log_frames.query_row([], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))?;
        let open = frames - copied;
        if frames < LONG_LOG {
            self.finish_log_at = LONG_LOG;
        }
        if open > 0 && frames >= self.finish_log_at {
            // Beside the keeper's own checkpoint another one can only be refused, so the next group asks again.
            let turn = match self.shared.checkpoint.try_lock() {
                Err(TryLockError::WouldBlock) if frames < LONGEST_LOG => return Ok(()),
                Err(TryLockError::WouldBlock) => self.shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner),
                Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
                Ok(turn) => turn,
            };
            self.finish_log_at = frames + ASK;
            self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            drop(turn);
        } else if open >= ASK || (tick && open > 0) {
            keeper.checkpoint();
        }
        Ok(())
    }

    fn tick(&mut self) -> rusqlite::Result<()> {
        self.find_oldest()?;
        self.shared.stats().store_bytes = files::size(&self.shared.dir);
        let mut astray = Vec::new();
        for slot in 0..self.ids.len() {
            if self.ending.is_empty() && self.shared.state().window(slot).is_some_and(|window| window.is_astray()) {
                tracing::warn!(instance = %self.shared.names[slot], "the window lost sight of rows and is filled again");
                astray.push(slot);
            }
        }
        self.reset_windows(&astray)?;
        if !self.ended_known {
            // The slim history is bounded, and so is this count.
            self.ended =
                self.conn.query_row("SELECT count(*) FROM ended", [], |row| row.get::<_, i64>(0))?.cast_unsigned();
            self.ended_known = true;
        }
        let idle = !std::mem::take(&mut self.busy);
        self.give_back(idle)
    }

    /// Gives free pages back to the file system, many while nothing else is to do.
    fn give_back(&self, idle: bool) -> rusqlite::Result<()> {
        let pages = |name| self.conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
        let (free, all) = (pages("freelist_count")?, pages("page_count")?);
        if free > 256 && (idle || free > all / 2) && self.shared.stats().refusing.is_none() {
            let step = if idle { GIVEN_BACK.0 } else { GIVEN_BACK.1 };
            let mut vacuum = self.conn.prepare(&format!("PRAGMA incremental_vacuum({step})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
        }
        Ok(())
    }

    /// What is owed longest of each instance: one step down an index, whatever is owed.
    pub(super) fn find_oldest(&mut self) -> rusqlite::Result<()> {
        for count in &mut self.counts {
            let at: Option<i64> = self.sql.oldest.query_row([count.id], |row| Ok(row.get(0).unwrap_or_default()))?;
            count.oldest = at.map(crate::clock::UnixMillis);
        }
        Ok(())
    }

    pub(super) fn publish(&self) {
        let mut stats = self.shared.stats();
        stats.instances = self.counts.iter().map(Count::stats).collect();
        stats.owed_bytes = self.counts.iter().map(|count| count.owed_bytes).sum();
        stats.dead_bytes = self.counts.iter().map(|count| count.dead_bytes).sum();
    }
}
