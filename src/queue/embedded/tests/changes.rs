//! Push and listings recognise each other's news, on disk (contract 8, hard case 20).

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::queue::embedded::schema;
use crate::queue::{Appended, Change, memory_key};

const GRACE: i64 = 900;

fn at(seconds: i64) -> UnixMillis {
    UnixMillis(NOW.0 + seconds * 1000)
}

fn state(e_tag: &str) -> [u8; 16] {
    memory_key(&[e_tag.as_bytes()])
}

fn object(key: &str) -> [u8; 16] {
    memory_key(&[b"object", key.as_bytes()])
}

fn offered(n: u32, key: &str, change: Change) -> Append {
    let mut append = append_of(vec![event(n, key, None)]);
    append.deliveries[0].change = Some(change);
    append
}

fn pushed(n: u32, key: &str, e_tag: &str, when: i64) -> Append {
    offered(
        n,
        key,
        Change { object: object(key), state: state(e_tag), at: Some(at(when)), listed_at: None, missing_since: None },
    )
}

fn listed(n: u32, key: &str, e_tag: &str, modified: Option<i64>, when: i64) -> Append {
    let change = Change {
        object: object(key),
        state: state(e_tag),
        at: modified.map(at),
        listed_at: Some(at(when)),
        missing_since: None,
    };
    offered(n, key, change)
}

async fn append(bed: &Bed, append: Append) -> (usize, usize) {
    let Appended { queued, duplicates, .. } = bed.queue.append(append).await.expect("answered");
    (queued, duplicates)
}

const NEWS: (usize, usize) = (1, 0);
const DUPLICATE: (usize, usize) = (0, 1);

#[tokio::test]
async fn what_push_told_no_listing_tells_again_also_after_a_restart_and_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    assert_eq!(append(&bed, pushed(1, "x", "a", 10)).await, NEWS);
    assert_eq!(append(&bed, listed(2, "x", "a", Some(10), 10 + GRACE)).await, DUPLICATE);
    let crashed = crash(dir.path());
    bed.queue.close().await;
    drop(bed);
    for dir in [dir.path(), crashed.path()] {
        let bed = start(dir);
        assert_eq!(append(&bed, listed(3, "x", "a", Some(10), 3000)).await, DUPLICATE);
        assert_eq!(append(&bed, listed(4, "x", "b", Some(2000), 3000)).await, NEWS, "an overwrite that push missed");
        assert_eq!(append(&bed, listed(5, "x", "gone", None, 9000)).await, NEWS, "and a removal");
        assert_eq!(bed.queue.stats().instances[0].owed, 3);
    }
}

#[tokio::test]
async fn a_late_push_of_what_a_listing_told_is_a_duplicate_and_a_later_write_of_the_same_bytes_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    assert_eq!(append(&bed, listed(1, "x", "a", Some(10), 3000)).await, NEWS);
    assert_eq!(append(&bed, pushed(2, "x", "a", 10)).await, DUPLICATE);
    bed.queue.close().await;
    drop(bed);
    let bed = start(dir.path());
    assert_eq!(append(&bed, pushed(3, "x", "a", 10)).await, DUPLICATE);
    assert_eq!(append(&bed, pushed(4, "x", "a", 3001)).await, NEWS);
    assert_eq!(append(&bed, pushed(5, "x", "gone", 3100)).await, NEWS);
    assert_eq!(append(&bed, pushed(6, "x", "a", 3200)).await, NEWS, "removed and made again");
    assert_eq!(append(&bed, listed(7, "x", "a", Some(3200), 9000)).await, DUPLICATE);
}

#[tokio::test]
async fn a_late_push_that_was_recognised_stays_so_when_other_changes_are_known() {
    // Its id was not remembered: sent again after the next change, it came as news of a state long gone.
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let late = |n| {
        let mut late = pushed(n, "x", "a", 0);
        late.deliveries[0].change.as_mut().expect("a change").at = None;
        late
    };
    assert_eq!(append(&bed, listed(1, "x", "a", Some(10), 3000)).await, NEWS);
    assert_eq!(append(&bed, late(2)).await, DUPLICATE);
    assert_eq!(append(&bed, pushed(3, "x", "b", 4000)).await, NEWS);
    assert_eq!(append(&bed, late(2)).await, DUPLICATE);
    assert_eq!(append(&bed, late(4)).await, NEWS, "another one may be of another write");
}

#[tokio::test]
async fn a_push_that_a_listing_outdated_ends_superseded_and_can_be_replayed() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    assert_eq!(append(&bed, listed(1, "x", "b", Some(200), 3000)).await, NEWS);
    assert_eq!(append(&bed, pushed(2, "x", "a", 100)).await, NEWS, "it is kept");
    let claims = claim_within(&bed, WANT).await;
    assert_eq!(numbers(&claims), ["{\"n\":  1}"]);
    settle(&bed, &claims[0], Outcome::Delivered, true).await;
    assert!(nothing_to_claim(&bed).await, "and never handed out after the newer state");
    wait_until(|| bed.ended("a", "superseded") == 1).await;
    let row = &bed.queue.list(Filter { states: vec![State::Superseded], ..Filter::default() }).await.expect("read")[0];
    assert_eq!(row.reason.as_deref(), Some("a listing had told a newer state of the same object"));
    assert_eq!((bed.ended("a", "superseded"), bed.queue.stats().instances[0].owed), (1, 0));
    assert_eq!(append(&bed, listed(3, "x", "b", Some(200), 9000)).await, DUPLICATE, "what is known stayed");
    assert_eq!(bed.queue.replay(Filter::default()).await.expect("replayed"), 1);
    assert_eq!(numbers(&claim_within(&bed, WANT).await), ["{\"n\":  2}"]);
}

#[tokio::test]
async fn what_was_appended_before_changes_nothing_that_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let message = |append| Append { message: Some([7; 16]), ..append };
    assert_eq!(append(&bed, message(pushed(1, "x", "a", 10))).await, NEWS);
    assert_eq!(append(&bed, pushed(2, "x", "b", 20)).await, NEWS);
    assert_eq!(append(&bed, pushed(1, "x", "a", 30)).await, DUPLICATE, "the same event");
    assert!(bed.queue.append(message(pushed(3, "x", "c", 40))).await.expect("answered").duplicate_message);
    assert_eq!(append(&bed, listed(4, "x", "b", Some(20), 3000)).await, DUPLICATE);
}

#[tokio::test]
async fn the_changes_of_one_append_are_judged_one_after_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let mut page = listed(1, "x", "a", Some(10), 3000);
    page.deliveries.extend(listed(2, "y", "a", Some(10), 3000).deliveries);
    page.deliveries.extend(listed(3, "x", "a", Some(10), 3000).deliveries);
    assert_eq!(append(&bed, page).await, (2, 1));
}

#[tokio::test]
async fn what_was_not_stored_is_not_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    append(&bed, pushed(1, "w", "a", 0)).await;
    bed.queue.shared.faults.full_commits.store(1, SeqCst);
    assert_eq!(bed.queue.append(pushed(2, "x", "a", 10)).await, Err(QueueError::DiskFull));
    let stored = loop {
        match bed.queue.append(listed(3, "x", "a", Some(10), 3000)).await {
            Err(QueueError::DiskFull) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => break other.expect("answered"),
        }
    };
    assert_eq!(stored.queued, 1, "the push was refused, so the listing tells");
    let full = QueueConfig { max_bytes: 1, ..config() };
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start_with(dir.path(), &full, &["a"]).expect("opened");
    assert!(matches!(bed.queue.append(pushed(1, "x", "a", 10)).await, Err(QueueError::Full { .. })));
    bed.queue.close().await;
    drop(bed);
    assert_eq!(append(&start(dir.path()), listed(2, "x", "a", Some(10), 3000)).await, NEWS);
}

#[tokio::test]
async fn states_are_forgotten_when_their_span_ends_and_not_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    for from in (0..10_000).step_by(1000) {
        let mut many = append_of(Vec::new());
        for n in from..from + 1000 {
            many.deliveries.extend(pushed(n, &n.to_string(), "a", 10).deliveries);
        }
        assert_eq!(append(&bed, many).await, (1000, 0));
    }
    let rows = || {
        let conn = schema::open_reader(dir.path()).expect("opened");
        let count = |start| -> i64 {
            conn.query_row(&format!("SELECT count(*) FROM object_{start}"), [], |row| row.get(0)).expect("counted")
        };
        schema::memory_parts(&conn).expect("read").into_iter().map(count).sum::<i64>()
    };
    assert_eq!(rows(), 10_000);
    bed.clock.advance(Duration::from_secs(86_399));
    assert_eq!(append(&bed, listed(10_001, "77", "a", Some(10), 3000)).await, DUPLICATE);
    bed.clock.advance(Duration::from_secs(86_400));
    assert_eq!(append(&bed, listed(10_002, "77", "a", Some(10), 3000)).await, NEWS);
    assert_eq!(rows(), 1);
}

#[tokio::test]
async fn a_store_of_version_1_opens_with_all_that_it_holds_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    bed.queue.append(append_of(vec![event(1, "x", None), event(2, "y", None)])).await.expect("stored");
    bed.clock.advance(Duration::from_secs(40_000));
    bed.queue.append(append_of(vec![event(3, "z", None)])).await.expect("stored");
    bed.queue.close().await;
    drop(bed);
    // Version 1 is what there was before the tables of objects and the origin of what ended.
    let conn = rusqlite::Connection::open(dir.path().join("postern.db")).expect("opened");
    let parts = schema::memory_parts(&conn).expect("read");
    assert_eq!(parts.len(), 2);
    for start in parts {
        conn.execute_batch(&format!("DROP TABLE object_{start}")).expect("dropped");
    }
    conn.execute_batch("ALTER TABLE ended DROP COLUMN origin").expect("dropped");
    conn.pragma_update(None, "user_version", 1).expect("set");
    drop(conn);

    assert_eq!(open_readonly(dir.path()).expect("opened").list(&Filter::default()).expect("read").len(), 3);
    let bed = start(dir.path());
    bed.clock.advance(Duration::from_secs(40_000));
    assert_eq!(append(&bed, append_of(vec![event(1, "x", None)])).await, DUPLICATE, "what was seen");
    assert_eq!(append(&bed, pushed(4, "w", "a", 10)).await, NEWS);
    assert_eq!(append(&bed, listed(5, "w", "a", Some(10), 3000)).await, DUPLICATE);
    assert_eq!(bed.queue.stats().instances[0].owed, 4);
    bed.clock.advance(Duration::from_secs(400_000));
    assert_eq!(append(&bed, append_of(vec![event(1, "x", None)])).await, NEWS, "old parts are dropped as ever");
}
