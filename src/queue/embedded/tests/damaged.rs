//! Rows that cannot be read any more.

use std::sync::atomic::Ordering::SeqCst;

use super::*;

/// Changes the closed store as a flipped bit or a stranger would.
fn damage(dir: &Path, sql: &str) {
    let conn = rusqlite::Connection::open(dir.join("postern.db")).expect("opened");
    assert!(conn.execute(sql, []).expect("changed") > 0, "{sql}");
}

async fn backlog(dir: &Path) {
    let bed = start(dir);
    let events = [(1, "x"), (2, "y"), (3, "y"), (4, "z"), (5, "w")].map(|(n, key)| event(n, key, None));
    bed.queue.append(append_of(events.into())).await.expect("stored");
    bed.queue.close().await;
}

async fn drain(bed: &Bed, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        for claim in claim_within(bed, WANT).await {
            found.extend(numbers(std::slice::from_ref(&claim)));
            settle(bed, &claim, Outcome::Delivered, true).await;
        }
    }
    found.sort();
    found
}

async fn dead(bed: &Bed) -> Vec<crate::queue::Row> {
    bed.queue.list(Filter { states: vec![State::Dead], ..Filter::default() }).await.expect("read")
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_dead_once_with_its_text_and_the_rest_goes_on() {
    // Its payload was an error of the store: that was reopened and checked again and again, and nothing was accepted or
    // delivered for one row.
    for change in [
        "UPDATE owed SET event = substr(event, 1, 40) WHERE seq = 2",
        "UPDATE owed SET event = '{}' WHERE seq = 2",
        "UPDATE owed SET event = CAST(x'7bfffe' AS TEXT) WHERE seq = 2",
        "UPDATE owed SET lane = x'00' WHERE seq = 2",
        "UPDATE owed SET accepted_at = 'soon' WHERE seq = 2",
        "UPDATE owed SET lane = 7, next_at = 1 WHERE seq = 2",
        "UPDATE owed SET event = '', batch = 2 WHERE seq = 2",
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        backlog(dir.path()).await;
        damage(dir.path(), change);
        let bed = start(dir.path());
        assert_eq!(bed.queue.list(Filter::default()).await.expect("read").len(), 5, "{change}");
        assert_eq!(drain(&bed, 4).await, [1, 3, 4, 5].map(|n| format!("{{\"n\":  {n}}}")), "{change}");
        let rows = dead(&bed).await;
        assert_eq!(rows.len(), 1, "{change}");
        assert!(rows[0].reason.as_deref().is_some_and(|why| why.starts_with("damaged: ")), "{change}: {rows:?}");
        assert_eq!((rows[0].seq, rows[0].event_name.as_str()), (2, "Damaged"), "{change}");
        assert_eq!((bed.ended("a", "dead"), bed.ended("a", "delivered")), (1, 4), "{change}");
        let stats = bed.queue.stats();
        assert_eq!((stats.instances[0].owed, stats.owed_bytes, stats.instances[0].dead), (0, 0, 1), "{change}");
        assert_eq!((bed.queue.shared.faults.reopened.load(SeqCst), stats.refusing), (0, None), "{change}");
        assert_eq!(bed.queue.discard(Filter::default()).await.expect("discarded"), 1, "{change}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_damaged_row_is_kept_as_text_and_can_be_replayed() {
    let dir = tempfile::tempdir().expect("a directory");
    backlog(dir.path()).await;
    damage(dir.path(), "UPDATE owed SET event = 'half of {\"it' WHERE seq = 4");
    let bed = start(dir.path());
    drain(&bed, 4).await;
    assert_eq!(bed.queue.replay(Filter::default()).await.expect("replayed"), 1);
    assert_eq!(numbers(&claim_within(&bed, WANT).await), ["\"half of {\\\"it\""]);
}

#[tokio::test]
async fn a_damaged_row_is_discarded_and_its_log_keeps_no_settlement_from_being_durable() {
    let dir = tempfile::tempdir().expect("a directory");
    backlog(dir.path()).await;
    damage(dir.path(), "UPDATE owed SET event = 'x', batch = NULL WHERE seq = 5");
    damage(dir.path(), "UPDATE owed SET log = CAST(x'ff' AS TEXT) WHERE seq < 5");
    let bed = start(dir.path());
    let only = Filter { until: None, before_seq: None, id: None, limit: 1, ..Filter::default() };
    assert_eq!(bed.queue.discard(only).await.expect("discarded"), 1, "the newest: the damaged one, owed or dead");
    let claims = claim_within(&bed, WANT).await;
    settle(&bed, &claims[0], Outcome::Delivered, true).await;
    settle(&bed, &claims[1], Outcome::Dead("because".into()), true).await;
    settle(&bed, &claims[2], Outcome::Retry { at: NOW }, true).await;
    assert_eq!(bed.queue.shared.faults.reopened.load(SeqCst), 0);
    assert_eq!(bed.queue.list(Filter::default()).await.expect("read").len(), 5);
}

/// The tables were read one after another: a delivery that ended in between was listed as owed and as delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_ends_while_a_list_is_made_is_in_it_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let events = (0..300).map(|n| event(n, &format!("k{n}"), None)).collect();
    bed.queue.append(append_of(events)).await.expect("stored");
    let reader = open_readonly(dir.path()).expect("opened");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let listing = std::thread::spawn(move || {
        let mut lengths = std::collections::BTreeSet::new();
        while stopped.try_recv().is_err() {
            lengths.insert(reader.list(&Filter { limit: 1000, ..Filter::default() }).expect("read").len());
        }
        lengths
    });
    drain(&bed, 300).await;
    stop.send(()).expect("a listener");
    assert_eq!(listing.join().expect("lists"), [300].into());
}
