//! Kill -9 in the middle of a queue, with an exact ledger; with a disk that forgets what was not synced; two sidecars on one queue.

use std::collections::BTreeSet;
use std::time::Duration;

use postern::simulator::dice::Dice;
use postern::simulator::sqs::{Options, Queue};

use super::{bare, draining, emptied, prepared, queue};
use crate::hard_cases::stand::Stand;

const MESSAGES: usize = 2000;

fn key(n: usize) -> String {
    format!("object {n:05}")
}

/// Every message is deleted once and its object known to one of `stands`; how often the apps were told something twice.
async fn ledger(stands: &[&Stand], queue: &Queue) -> u64 {
    emptied(stands[0], queue).await;
    let expected: BTreeSet<String> = (0..MESSAGES).map(key).collect();
    let known = || {
        let objects = |stand: &&Stand| stand.app.ledger(|ledger| ledger.objects.keys().cloned().collect::<Vec<_>>());
        stands.iter().flat_map(objects).collect::<BTreeSet<String>>()
    };
    stands[0].eventually("every object is known", async |_| known().len() >= expected.len()).await;
    assert_eq!(known(), expected);
    assert_eq!(queue.ledger().deleted.len(), MESSAGES);
    for stand in stands {
        assert!(stand.app.ledger(|ledger| ledger.is_clean() && ledger.objects.values().all(|o| o.events.len() == 1)));
    }
    stands.iter().map(|stand| stand.app.ledger(|ledger| ledger.repeated)).sum()
}

async fn survive(extra: &[(&str, &str)], preload: bool) {
    // Short, so that what a killed sidecar held comes again soon.
    let queue = queue(Options { visibility: Duration::from_secs(10), ..Options::default() }).await;
    let mut stand = prepared(&queue, extra).await;
    if preload {
        let Some(shim) = crate::lostwrites::shim(stand.dir.path()) else { return };
        let store = stand.dir.path().join("store");
        std::fs::create_dir_all(&store).expect("a folder");
        stand.set("LD_PRELOAD", shim.to_str().expect("a path"));
        stand.set("LOSTWRITES_DIR", store.to_str().expect("a path"));
    }
    for n in 0..MESSAGES {
        queue.send(bare(&key(n)));
    }
    let mut dice = Dice::new();
    for round in 0..3 {
        stand.begin().await;
        let moment = round * 500 + usize::try_from(dice.below(400)).expect("a small number");
        stand.eventually("some are deleted", async |_| queue.ledger().deleted.len() >= moment).await;
        stand.kill();
        println!("killed with {} deleted, {} in flight", queue.ledger().deleted.len(), queue.in_flight());
    }
    stand.begin().await;
    let repeated = ledger(&[&stand], &queue).await;
    println!("{} handed out, {repeated} callbacks repeated", queue.ledger().handed_out);
    // At least once: what was in flight when it was killed (64 attempts), or delivered and not yet durably settled (256), is sent again.
    assert!(repeated <= 3 * (64 + 256), "{repeated}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_outlives_kills() {
    survive(&[], false).await;
}

/// No message is deleted before it is durable: the disk forgets at each kill what was not synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_outlives_kills_that_lose_every_write_not_yet_synced() {
    survive(&[], true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_share_a_queue() {
    let queue = queue(Options::default()).await;
    let stands = tokio::join!(draining(&queue, &[]), draining(&queue, &[]));
    // A sidecar with nothing to do has one long poll of 20 s open.
    stands.0.eventually("both ask", async |_| queue.ledger().receives >= 2).await;
    for n in 0..MESSAGES {
        queue.send(bare(&key(n)));
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let repeated = ledger(&[&stands.0, &stands.1], &queue).await;
    assert_eq!((repeated, queue.ledger().handed_out), (0, MESSAGES as u64));
    for stand in [&stands.0, &stands.1] {
        assert!(stand.app.ledger(|ledger| ledger.taken) > 0, "each has its share");
    }
}
