//! What was received and is not yet deleted, and the heartbeat that keeps it hidden from others meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::report::{Aspect, Report};
use crate::aws::sqs::{BATCH, Change, SqsError, SqsProblem, SqsQueue};

/// A visibility timeout below this leaves no time for a heartbeat; then we ask for one of our own.
const SHORTEST: i32 = 10;

/// The visibility timeout that we ask for where the queue's own is too short, or not known.
const OWN: i32 = 30;

/// How often the queue's own is looked up: an operator may change it.
const LOOK_UP: Duration = Duration::from_secs(300);

/// What is held of one queue.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The queue's own visibility timeout in seconds; 0 while it is not known.
    queues_own: AtomicI32,
    next: AtomicU64,
    entries: Mutex<HashMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    receipt: Arc<str>,
    until: Instant,
}

/// One held message; it is let go when this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    held: Arc<Held>,
    key: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.entries().remove(&self.key);
    }
}

impl Held {
    /// What a receive asks for instead of the queue's own timeout.
    pub(super) fn wish(&self) -> Option<i32> {
        (self.queues_own.load(Ordering::Relaxed) < SHORTEST).then_some(OWN)
    }

    /// For how long a message is hidden by a receive or a heartbeat of ours.
    fn seconds(&self) -> i32 {
        self.wish().unwrap_or_else(|| self.queues_own.load(Ordering::Relaxed))
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.seconds()).unwrap_or(0))
    }

    /// Holds what was received just now.
    pub(super) fn hold(self: &Arc<Self>, receipt: &Arc<str>) -> Hold {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { receipt: Arc::clone(receipt), until: Instant::now() + self.lease() };
        self.entries().insert(key, entry);
        Hold { held: Arc::clone(self), key }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Extends what has less than half of its time left, until it is dropped.
    pub(super) async fn beat(&self, queue: &SqsQueue, name: &str, report: &Report) {
        let mut failures = 0;
        loop {
            sleep((self.lease() / 5).clamp(Duration::from_secs(1), Duration::from_secs(60))).await;
            let due = self.due(Instant::now() + self.lease() / 2);
            let batches = Mutex::new(due.chunks(BATCH));
            let walk = || self.walk(queue, &batches, report);
            // Side by side: thousands can be due at once, and none is to become visible while it waits for the others.
            let (a, b, c, d) = tokio::join!(walk(), walk(), walk(), walk());
            match a.and(b).and(c).and(d) {
                // Where nothing is due any more, what could not be extended was let go, and there is no trouble left.
                Ok(()) => {
                    failures = 0;
                    report.well(name, Aspect::Heartbeat);
                }
                Err(error) => {
                    failures += 1;
                    report.failed(name, Aspect::Heartbeat, &error, failures);
                }
            }
        }
    }

    /// Extends batch after batch until none is left, and tells the last failure. Without an answer to one there is none to the others
    /// either: then the rest is left to the next beat.
    async fn walk(
        &self,
        queue: &SqsQueue,
        batches: &Mutex<std::slice::Chunks<'_, (u64, Arc<str>)>>,
        report: &Report,
    ) -> Result<(), SqsError> {
        let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut worst = Ok(());
        while let Some(batch) = next() {
            if let Err(error) = self.extend(queue, batch, report).await {
                let unheard = matches!(error.problem, SqsProblem::Timeout | SqsProblem::Unreachable);
                worst = Err(error);
                if unheard {
                    break;
                }
            }
        }
        worst
    }

    /// What becomes visible before `limit`, the first of it first.
    fn due(&self, limit: Instant) -> Vec<(u64, Arc<str>)> {
        let mut due: Vec<_> = {
            let entries = self.entries();
            let soon = entries.iter().filter(|(_, entry)| entry.until < limit);
            soon.map(|(key, entry)| (entry.until, *key, Arc::clone(&entry.receipt))).collect()
        };
        due.sort_unstable_by_key(|(until, ..)| *until);
        due.into_iter().map(|(_, key, receipt)| (key, receipt)).collect()
    }

    async fn extend(&self, queue: &SqsQueue, batch: &[(u64, Arc<str>)], report: &Report) -> Result<(), SqsError> {
        let (asked_at, seconds, lease) = (Instant::now(), self.seconds(), self.lease());
        let changes: Vec<_> = batch.iter().map(|(_, receipt)| Change { receipt, visible_in: seconds }).collect();
        let results = queue.change_visibility(&changes).await?;
        let mut worst = Ok(());
        let mut entries = self.entries();
        for ((key, _), result) in batch.iter().zip(results) {
            match result {
                Ok(()) => {
                    if let Some(entry) = entries.get_mut(key) {
                        entry.until = asked_at + lease;
                    }
                }
                // Somebody else has it by now, or it is deleted: there is nothing left to keep hidden.
                Err(error) if error.problem == SqsProblem::Gone => {
                    entries.remove(key);
                    report.message("expired");
                }
                Err(error) => worst = Err(error),
            }
        }
        worst
    }

    /// Looks the queue's own timeout up again and again, until it is dropped.
    pub(super) async fn look_up_again(&self, queue: &SqsQueue, name: &str) {
        loop {
            sleep_until(Instant::now() + LOOK_UP).await;
            self.look_up(queue, name).await;
        }
    }

    /// Looks the queue's own timeout up; without an answer the last one holds, or one of ours.
    pub(super) async fn look_up(&self, queue: &SqsQueue, name: &str) {
        match queue.visibility_timeout().await {
            Ok(seconds) => self.queues_own.store(i32::try_from(seconds).unwrap_or(i32::MAX), Ordering::Relaxed),
            Err(error) => tracing::info!(
                queue = name,
                %error,
                seconds = self.seconds(),
                "the queue's visibility timeout is not known (sqs:GetQueueAttributes); received messages are hidden for a time of ours"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_has_less_than_half_of_its_time_left_is_due_until_it_is_let_go() {
        let held = Arc::new(Held::default());
        assert_eq!(
            (held.wish(), held.lease().as_secs()),
            (Some(30), 30),
            "a time of ours while the queue's is not known"
        );
        held.queues_own.store(100, Ordering::Relaxed);
        assert_eq!((held.wish(), held.lease().as_secs()), (None, 100));
        let hold = held.hold(&"r".into());
        assert_eq!(held.due(Instant::now() + held.lease() / 2).len(), 0);
        tokio::time::advance(Duration::from_secs(51)).await;
        assert_eq!(held.due(Instant::now() + held.lease() / 2).len(), 1);
        drop(hold);
        assert_eq!(held.due(Instant::now() + held.lease() * 2).len(), 0);
        held.queues_own.store(0, Ordering::Relaxed);
        assert_eq!(held.wish(), Some(30), "a queue that hides nothing");
    }
}
