//! Rows of which SQL refuses a change, whatever is tried.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

/// A trigger that a stranger left.
fn refuse(dir: &Path, trigger: &str) {
    let conn = rusqlite::Connection::open(dir.join("postern.db")).expect("opened");
    conn.busy_timeout(Duration::from_secs(5)).expect("set");
    conn.execute_batch(&format!("CREATE TRIGGER stubborn {trigger} BEGIN SELECT RAISE(ABORT, 'no'); END"))
        .expect("made");
}

async fn bed_of_five(dir: &Path) -> Bed {
    let bed = start(dir);
    let events = [(1, "x"), (2, "y"), (3, "y"), (4, "z"), (5, "w")].map(|(n, key)| event(n, key, None));
    bed.queue.append(append_of(events.into())).await.expect("stored");
    bed
}

async fn dead(bed: &Bed) -> Vec<crate::queue::Row> {
    bed.queue.list(Filter { states: vec![State::Dead], ..Filter::default() }).await.expect("read")
}

/// Claims and settles until so many deliveries were handed out.
async fn hand_out(bed: &Bed, count: usize, want: Want, outcome: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        for claim in claim_within(bed, want).await {
            found.extend(numbers(std::slice::from_ref(&claim)));
            settle(bed, &claim, outcome.clone(), true).await;
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_settlement_that_is_always_refused_ends_its_delivery_dead_and_the_rest_goes_on() {
    // It was kept and tried again with all others for ever: nothing was accepted or delivered for one row.
    for (trigger, outcome) in [
        ("BEFORE INSERT ON ended WHEN new.seq = 2", Outcome::Delivered),
        ("BEFORE UPDATE ON owed WHEN new.seq = 2", Outcome::Retry { at: UnixMillis(NOW.0 + 3_600_000) }),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let bed = bed_of_five(dir.path()).await;
        refuse(dir.path(), trigger);
        let all = hand_out(&bed, 5, WANT, &outcome).await;
        assert_eq!(all, [1, 2, 3, 4, 5].map(|n| format!("{{\"n\":  {n}}}")), "{trigger}");
        let rows = dead(&bed).await;
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [2], "{trigger}");
        let reason = rows[0].reason.clone().unwrap_or_default();
        assert!(reason.starts_with("the store refuses to note that it was ") && reason.ends_with("no"), "{reason}");
        assert_eq!(bed.ended("a", "dead"), 1, "{trigger}");
        bed.queue.append(append_of(vec![event(6, "v", None)])).await.expect("accepted");
        assert_eq!(hand_out(&bed, 1, WANT, &Outcome::Delivered).await, ["{\"n\":  6}"]);
        assert_eq!((bed.queue.shared.faults.reopened.load(SeqCst), bed.queue.stats().refusing), (0, None), "{trigger}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_changed_at_all_is_handed_out_once_and_the_rest_of_its_lane_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = bed_of_five(dir.path()).await;
    refuse(dir.path(), "BEFORE DELETE ON owed WHEN old.seq = 2");
    let all = hand_out(&bed, 5, WANT, &Outcome::Delivered).await;
    assert_eq!(all, [1, 2, 3, 4, 5].map(|n| format!("{{\"n\":  {n}}}")));
    // Windows are looked after once a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(nothing_to_claim(&bed).await);
    bed.queue.append(append_of(vec![event(6, "y", None)])).await.expect("accepted");
    assert_eq!(hand_out(&bed, 1, WANT, &Outcome::Delivered).await, ["{\"n\":  6}"]);
    assert_eq!((dead(&bed).await.len(), bed.queue.stats().instances[0].owed), (0, 1), "it is owed, and shown");
    assert_eq!((bed.queue.shared.faults.reopened.load(SeqCst), bed.queue.stats().refusing), (0, None));
    bed.queue.close().await;
    drop(bed);
    let conn = rusqlite::Connection::open(dir.path().join("postern.db")).expect("opened");
    conn.execute_batch("DROP TRIGGER stubborn").expect("dropped");
    drop(conn);
    assert_eq!(hand_out(&start(dir.path()), 1, WANT, &Outcome::Delivered).await, ["{\"n\":  2}"], "never lost");
}

#[tokio::test]
async fn of_a_batch_only_the_refused_row_ends_dead() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = bed_of_five(dir.path()).await;
    refuse(dir.path(), "BEFORE INSERT ON ended WHEN new.seq = 4");
    hand_out(&bed, 5, Want { batch: 5, ..WANT }, &Outcome::Delivered).await;
    assert_eq!(dead(&bed).await.iter().map(|row| row.seq).collect::<Vec<_>>(), [4]);
    assert_eq!((bed.ended("a", "dead"), bed.ended("a", "delivered")), (1, 4));
    assert_eq!(bed.queue.stats().instances[0].owed, 0);
}

#[tokio::test]
async fn an_append_that_is_refused_is_answered_and_the_next_is_taken() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = bed_of_five(dir.path()).await;
    refuse(dir.path(), "BEFORE INSERT ON owed WHEN new.event LIKE '%poison%'");
    let poison = append_of(vec![event(7, "poison", None)]);
    let (refused, taken) =
        tokio::join!(bed.queue.append(poison), bed.queue.append(append_of(vec![event(8, "v", None)])));
    assert!(matches!(refused, Err(QueueError::Failed(_))), "{refused:?}");
    assert_eq!(taken.expect("stored").queued, 1);
    assert_eq!((bed.queue.shared.faults.reopened.load(SeqCst), bed.queue.stats().refusing), (0, None));
    assert_eq!(bed.queue.stats().instances[0].owed, 6);
}
