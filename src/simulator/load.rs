//! Load: many kept-alive connections that take shots from one source, at full speed or at a rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use hyper::body::Bytes;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::simulator::wire::{Connection, Reply, Target, WireError};

/// One request to send.
#[derive(Clone, Debug)]
pub struct Shot {
    /// What the sender knows it by.
    pub tag: u64,
    /// Headers besides Host and framing.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// How to shoot.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub target: Arc<Target>,
    /// Connections, each with one request in flight.
    pub connections: usize,
    /// Shots per second over all connections; `None` is as fast as answers come.
    pub rate: Option<f64>,
}

/// When a shot is sent again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Whether an answer with this status, or none at all, leads to another try.
    pub after: fn(Option<u16>) -> bool,
    /// Wait before the next try.
    pub delay: Duration,
    /// Tries at most, the first one included.
    pub tries: u32,
}

impl Retry {
    /// Everything is sent once.
    pub const NEVER: Self = Self { after: |_| false, delay: Duration::ZERO, tries: 1 };
}

/// As [`drive_with`], where each shot is sent once.
pub async fn drive<A>(load: &Load, shots: mpsc::Receiver<Shot>, answered: A) -> Duration
where
    A: Fn(u64, Result<Reply, WireError>, Duration) + Send + Sync + 'static,
{
    drive_with(load, Retry::NEVER, shots, answered).await
}

/// Sends what comes through `shots` until that is closed, again as `retry` says, and tells `answered` of each end with its latency.
///
/// With a rate, latency counts from when the shot was due, not from when a connection was free: otherwise a stalled server
/// would hide its stall by holding up the load.
pub async fn drive_with<A>(load: &Load, retry: Retry, shots: mpsc::Receiver<Shot>, answered: A) -> Duration
where
    A: Fn(u64, Result<Reply, WireError>, Duration) + Send + Sync + 'static,
{
    let shots = Arc::new(Mutex::new(shots));
    let answered = Arc::new(answered);
    let turn = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..load.connections.max(1) {
        let (shots, answered, turn) = (Arc::clone(&shots), Arc::clone(&answered), Arc::clone(&turn));
        let mut connection = Connection::new(Arc::clone(&load.target));
        let rate = load.rate.filter(|rate| *rate > 0.0);
        workers.spawn(async move {
            loop {
                let due = rate
                    .map(|rate| begun + Duration::from_secs_f64(turn.fetch_add(1, Ordering::Relaxed) as f64 / rate));
                if let Some(due) = due {
                    tokio::time::sleep_until(due.into()).await;
                }
                let shot = shots.lock().await.recv().await;
                let Some(shot) = shot else { return };
                let from = due.unwrap_or_else(Instant::now);
                let mut reply = connection.post(shot.headers.clone(), shot.body.clone()).await;
                for _ in 1..retry.tries {
                    if !(retry.after)(reply.as_ref().ok().map(|reply| reply.status.as_u16())) {
                        break;
                    }
                    tokio::time::sleep(retry.delay).await;
                    reply = connection.post(shot.headers.clone(), shot.body.clone()).await;
                }
                answered(shot.tag, reply, from.elapsed());
            }
        });
    }
    while workers.join_next().await.is_some() {}
    begun.elapsed()
}

/// Latencies, of which quantiles are asked at the end. Holds the first million.
#[derive(Debug, Default)]
pub struct Latencies(StdMutex<Vec<Duration>>);

impl Latencies {
    /// Notes one.
    pub fn note(&self, latency: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < 1_000_000 {
            all.push(latency);
        }
    }

    /// The latency that `share` (0 to 1) of all do not exceed; `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.sort_unstable();
        let rank = (share.clamp(0.0, 1.0) * all.len() as f64).ceil() as usize;
        all.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::receiver::Receiver;

    #[test]
    fn quantiles_are_of_the_nearest_rank() {
        let latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for ms in (1..=100).rev() {
            latencies.note(Duration::from_millis(ms));
        }
        let ms = |share| latencies.quantile(share).map(|d| d.as_millis());
        assert_eq!((ms(0.5), ms(0.99), ms(1.0), ms(0.0)), (Some(50), Some(99), Some(100), Some(1)));
    }

    #[tokio::test]
    async fn every_shot_is_sent_and_answered_once() {
        let receiver = Receiver::start(Default::default()).await.expect("a receiver");
        let target = Arc::new(Target::new(&receiver.url().parse().expect("a URL"), None).expect("a target"));
        let (sender, shots) = mpsc::channel(50);
        for tag in 0..50 {
            sender.try_send(Shot { tag, headers: HeaderMap::new(), body: Bytes::new() }).expect("room");
        }
        drop(sender);
        let tags = Arc::new(StdMutex::new(Vec::new()));
        let noted = Arc::clone(&tags);
        drive(&Load { target, connections: 4, rate: Some(1000.0) }, shots, move |tag, reply, _| {
            assert_eq!(reply.expect("an answer").status, 200);
            noted.lock().expect("a lock").push(tag);
        })
        .await;
        let mut tags = tags.lock().expect("a lock").clone();
        tags.sort_unstable();
        assert_eq!(tags, (0..50).collect::<Vec<_>>());
        receiver.ledger(|ledger| assert_eq!(ledger.requests, 50));
    }
}
