//! A message over which the program fails: no source of SQS's can make it, so the store of this test does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postern::queue::{Append, Appended, Claim, Filter, Pending, Queue, QueueError, Row, Settlement, Stats, Want};
use postern::shutdown::{self, Phase};
use postern::simulator::sqs::{Options, Queue as Sqs};
use postern::sources::sqs;

use super::bare;
use crate::support::drain;

/// A store that keeps keys and reasons, and fails whenever it is to keep an event of an object called `poison`. One called `moody` it
/// refuses first, and fails over it from then on.
#[derive(Debug, Default)]
struct Brittle {
    refusals: AtomicU32,
    keys: Mutex<Vec<String>>,
    aside: Mutex<Vec<(&'static str, String)>>,
}

impl Queue for Brittle {
    fn append(&self, append: Append) -> Pending<'_, Result<Appended, QueueError>> {
        Box::pin(async move {
            let is_about = |key: &str| append.deliveries.iter().any(|delivery| delivery.event.key == key);
            if is_about("moody") && self.refusals.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(QueueError::DiskFull);
            }
            assert!(!is_about("poison") && !is_about("moody"), "on purpose");
            let appended =
                Appended { queued: append.deliveries.len(), set_aside: append.set_aside.len(), ..Appended::default() };
            self.keys.lock().expect("no panic").extend(append.deliveries.into_iter().map(|one| one.event.key));
            self.aside
                .lock()
                .expect("no panic")
                .extend(append.set_aside.into_iter().map(|one| (one.reason, one.detail)));
            Ok(appended)
        })
    }

    fn claim<'a>(&'a self, _: &'a str, _: Want) -> Pending<'a, Vec<Claim>> {
        Box::pin(std::future::pending())
    }

    fn settle(&self, _: Settlement) -> Pending<'_, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn list(&self, _: Filter) -> Pending<'_, Result<Vec<Row>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn replay(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn discard(&self, _: Filter) -> Pending<'_, Result<u64, QueueError>> {
        Box::pin(async { Ok(0) })
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn note_paused<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn paused(&self, _: &str) -> Duration {
        Duration::ZERO
    }

    fn put_note<'a>(&'a self, _: &'a str, _: &'a str, _: String) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn notes<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Vec<(String, String)>, QueueError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove_note<'a>(&'a self, _: &'a str, _: &'a str) -> Pending<'a, Result<(), QueueError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async {})
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_the_program_fail_goes_back_a_few_times_and_is_then_set_aside_and_the_others_go_on() {
    let queue = Sqs::start(Options::default()).await.expect("a queue");
    let first = queue.send(bare("poison"));
    // Received for the fifth time, after it has failed four times elsewhere.
    let last = queue.send_again(4, bare("poison"));
    for n in 0..20 {
        queue.send(bare(&format!("k{n}")));
    }
    let store = Arc::new(Brittle::default());
    let (conductor, shutdown) = shutdown::channel();
    let running = tokio::spawn(sqs::run(drain::setup(&queue, Arc::clone(&store) as _, &[]), shutdown));
    let ended = async {
        // The first comes again after seconds, and fails again.
        while queue.ledger().visibility.len() < 2 || queue.left() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::wait::PATIENCE, ended)
        .await
        .expect("the others are deleted, and one goes back");
    conductor.enter(Phase::Draining);
    running.await.expect("it ends");
    let ledger = queue.ledger();
    assert!(ledger.deleted.contains(&last) && !ledger.deleted.contains(&first), "{ledger:?}");
    assert!(ledger.visibility.iter().all(|(number, seconds)| *number == first && *seconds >= 2), "{ledger:?}");
    assert_eq!(store.keys.lock().expect("no panic").len(), 20);
    let aside = store.aside.lock().expect("no panic").clone();
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(aside[0].0 == "poison" && aside[0].1.contains("received 5 times"), "{aside:?}");
}

/// Whoever waits for the store tells the others when it takes again. One that went back for another reason instead told nobody, and
/// nothing was received any more until a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_only_message_that_waits_for_the_store_goes_back_receiving_goes_on() {
    let queue = Sqs::start(Options::default()).await.expect("a queue");
    let moody = queue.send(bare("moody"));
    let store = Arc::new(Brittle::default());
    let (conductor, shutdown) = shutdown::channel();
    let running = tokio::spawn(sqs::run(drain::setup(&queue, Arc::clone(&store) as _, &[]), shutdown));
    let drained = async {
        while queue.ledger().visibility.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for n in 0..20 {
            queue.send(bare(&format!("k{n}")));
        }
        while queue.left() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::support::wait::PATIENCE, drained).await.expect("the others are deleted");
    conductor.enter(Phase::Draining);
    running.await.expect("it ends");
    assert_eq!(queue.ledger().visibility[0].0, moody);
    // On a machine that stands still for half a minute it may be set aside meanwhile, but is never stored.
    let keys = store.keys.lock().expect("no panic").clone();
    assert!(keys.len() == 20 && keys.iter().all(|key| key != "moody"), "{keys:?}");
}
