//! Writes that fail.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_failed_sync_stops_acceptance_until_the_store_was_reopened_and_keeps_settlements() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None), event(2, "y", None)])).await.expect("stored");
    let claims = claim_within(&bed, Want { claims: 1, ..WANT }).await;
    bed.queue.shared.faults.commits.store(1, SeqCst);
    assert!(matches!(bed.queue.append(append_of(vec![event(3, "z", None)])).await, Err(QueueError::Failed(_))));
    assert!(matches!(bed.queue.stats().refusing, Some(QueueError::Failed(_))));
    assert_eq!(bed.queue.stats().refusing.map(|why| why.label()), Some("failed"));
    assert!(matches!(bed.queue.append(append_of(vec![event(3, "z", None)])).await, Err(QueueError::Failed(_))));
    settle(&bed, &claims[0], Outcome::Delivered, true).await;
    assert_eq!(bed.queue.stats().refusing, None);
    assert!(bed.queue.shared.faults.reopened.load(SeqCst) > 0, "accepted only after the file was opened anew");
    bed.queue.append(append_of(vec![event(3, "z", None)])).await.expect("stored");
    let mut rest = numbers(&claim_within(&bed, WANT).await);
    if rest.len() == 1 {
        rest.extend(numbers(&claim_within(&bed, WANT).await));
    }
    assert_eq!(rest, ["{\"n\":  2}", "{\"n\":  3}"]);
}

#[tokio::test]
async fn a_full_disk_refuses_keeps_what_is_owed_and_recovers_by_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    bed.queue.shared.faults.max_pages.store(1, SeqCst);
    let many = |from: u32| append_of((from..from + 200).map(|n| event(n, &n.to_string(), None)).collect());
    let refused = bed.queue.append(many(1000)).await;
    assert_eq!(refused, Err(QueueError::DiskFull));
    bed.queue.shared.faults.max_pages.store(0, SeqCst);
    let stored = loop {
        match bed.queue.append(many(1000)).await {
            Err(QueueError::DiskFull) => tokio::time::sleep(Duration::from_millis(50)).await,
            other => break other.expect("stored"),
        }
    };
    assert_eq!(stored.queued, 200);
    assert_eq!(bed.queue.stats().instances[0].owed, 201);
}

#[tokio::test]
async fn a_rotation_that_was_rolled_back_is_made_again_by_the_next_commit() {
    // The tables of the new span were rolled back, their statements stayed: the next commit wrote to tables that were not there.
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("stored");
    for spans in [1, 8] {
        bed.clock.advance(Duration::from_secs(spans * 21_600));
        bed.queue.shared.faults.full_commits.store(1, SeqCst);
        let refused = bed.queue.append(append_of(vec![event(2, "y", None)])).await;
        assert_eq!(refused, Err(QueueError::DiskFull));
        let stored =
            until_accepted(&bed, || append_of(vec![event(10 + u32::try_from(spans).unwrap(), "z", None)])).await;
        assert_eq!(stored.queued, 1);
        if spans == 1 {
            let again = bed.queue.append(append_of(vec![event(1, "x", None)])).await.expect("answered");
            assert_eq!(again.duplicates, 1, "what was remembered is");
        }
    }
    assert_eq!(bed.queue.shared.faults.reopened.load(SeqCst), 0, "and nothing failed");
}

#[tokio::test]
async fn a_composition_waits_for_a_full_disk_and_is_not_claimed_in_a_circle() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None), event(2, "y", None)])).await.expect("stored");
    bed.queue.shared.faults.full_commits.store(2, SeqCst);
    let claims = claim_within(&bed, Want { batch: 2, claims: 1, ..WANT }).await;
    assert_eq!(claims[0].items.len(), 2);
    assert_eq!(claims[0].token, 1, "the first claim is the one that was handed out");
}

#[tokio::test]
async fn what_was_acknowledged_before_a_failed_sync_is_there_after_it_and_the_rest_was_never_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let mut acknowledged = Vec::new();
    for n in 0..8 {
        bed.queue.shared.faults.commits.store(usize::from(n == 5), SeqCst);
        match bed.queue.append(append_of(vec![event(n, &n.to_string(), None)])).await {
            Ok(_) => acknowledged.push(format!("{{\"n\":  {n}}}")),
            Err(error) => {
                assert_eq!((n, error.label()), (5, "failed"));
                until_accepted(&bed, || append_of(Vec::new())).await;
            }
        }
    }
    assert_eq!((acknowledged.len(), bed.queue.shared.faults.reopened.load(SeqCst)), (7, 1));
    let after = start(crash(dir.path()).path());
    let mut there = numbers(&claim_within(&after, WANT).await);
    while there.len() < acknowledged.len() {
        there.extend(numbers(&claim_within(&after, WANT).await));
    }
    assert_eq!(there, acknowledged);
}

/// Offers the same again until it is accepted, as a producer does.
async fn until_accepted(bed: &Bed, append: impl Fn() -> Append) -> crate::queue::Appended {
    let offer = async {
        loop {
            match bed.queue.append(append()).await {
                Err(QueueError::DiskFull | QueueError::Failed(_)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await
                }
                other => break other.expect("stored"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), offer).await.expect("accepted at last")
}
