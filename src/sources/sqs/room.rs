//! How much may be in hand, and how many consumers ask.

use std::sync::Arc;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::aws::sqs::BATCH;

/// Messages whose bodies are held, for each consumer: what is asked for, and what is being appended meanwhile.
const BODIES: usize = 3 * BATCH;

/// Messages in hand for each consumer, those included that only wait for their deletion.
const IN_HAND: usize = 10 * BATCH;

/// Bytes of held bodies from which on nothing more is asked for. A message has 1 MiB at most, and what S3 sends about 1 KiB.
const BYTES: usize = 16 << 20;

/// How many messages may be in hand.
#[derive(Debug)]
pub(super) struct Room {
    bodies: Arc<Semaphore>,
    in_hand: Arc<Semaphore>,
    bytes: watch::Sender<usize>,
}

/// The room that one message, or one receive, takes.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) body: OwnedSemaphorePermit,
    pub(super) hand: OwnedSemaphorePermit,
}

/// The bytes of one held body; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Weight {
    bytes: watch::Sender<usize>,
    len: usize,
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.bytes.send_modify(|held| *held = held.saturating_sub(self.len));
    }
}

impl Room {
    pub(super) fn for_consumers(consumers: usize) -> Self {
        Self {
            bodies: Arc::new(Semaphore::new(consumers * BODIES)),
            in_hand: Arc::new(Semaphore::new(consumers * IN_HAND)),
            bytes: watch::Sender::new(0),
        }
    }

    /// Room for one receive; `None` never comes, as nobody closes it.
    pub(super) async fn take(&self) -> Option<Place> {
        let ten = 10;
        let hand = Arc::clone(&self.in_hand).acquire_many_owned(ten).await.ok()?;
        let body = Arc::clone(&self.bodies).acquire_many_owned(ten).await.ok()?;
        // The sender lives as long as `self`.
        let _ = self.bytes.subscribe().wait_for(|held| *held < BYTES).await;
        Some(Place { body, hand })
    }

    /// Books the bytes of a body.
    pub(super) fn weigh(&self, len: usize) -> Weight {
        self.bytes.send_modify(|held| *held += len);
        Weight { bytes: self.bytes.clone(), len }
    }
}

/// The consumers besides the first: they ask only while receives come full, so that an idle queue costs one long poll at a time and
/// a full one is drained by as many consumers as there may be.
#[derive(Debug, Default)]
pub(super) struct Crew(Notify);

impl Crew {
    /// Waits until there is more to do than the others get done.
    pub(super) async fn called(&self) {
        self.0.notified().await;
    }

    /// Tells how many messages a receive brought: with more than half of what it asked for, one more consumer is called.
    pub(super) fn brought(&self, messages: usize) {
        if messages > BATCH / 2 {
            self.0.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_more_is_asked_for_while_the_held_bodies_are_heavy() {
        let room = Room::for_consumers(4);
        let heavy: Vec<_> = (0..16).map(|_| room.weigh(1 << 20)).collect();
        assert!(tokio::time::timeout(Duration::from_secs(60), room.take()).await.is_err());
        drop(heavy);
        assert!(room.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn another_consumer_is_called_only_by_receives_that_come_nearly_full() {
        let crew = Crew::default();
        crew.brought(5);
        assert!(tokio::time::timeout(Duration::from_secs(60), crew.called()).await.is_err());
        crew.brought(6);
        crew.called().await;
    }
}
