//! Space, log and numbers of a store with a backlog.

use super::*;
use crate::queue::embedded::upkeep::LONGEST_LOG;
use crate::queue::embedded::{rows, schema};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_in_order_within_a_bounded_window_and_leaves_nothing_owed() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    const ALL: u32 = 10_000;
    for from in (0..ALL).step_by(1000) {
        let events = (from..from + 1000).map(|n| event(n, &(n % 700).to_string(), Some(u64::from(n)))).collect();
        bed.queue.append(append_of(events)).await.expect("stored");
    }
    let mut seen = std::collections::HashMap::new();
    let mut failed = 0;
    let mut delivered = 0;
    while delivered < ALL {
        let claims = claim_within(&bed, WANT).await;
        let (mut fail, mut deliver) = (Vec::new(), Vec::new());
        for claim in claims {
            let owed = &claim.items[0];
            if owed.seq % 13 == 0 && claim.attempts == 0 {
                failed += 1;
                fail.push(claim);
            } else {
                let before = seen.insert(owed.event.key.clone(), owed.seq);
                assert!(before < Some(owed.seq), "a lane goes in order");
                delivered += 1;
                deliver.push(claim);
            }
        }
        settle_together(&bed, &fail, &Outcome::Retry { at: NOW }).await;
        settle_together(&bed, &deliver, &Outcome::Delivered).await;
        let load = bed.queue.shared.state().window(0).expect("a window").load();
        assert!(load.0 <= 1024, "{load:?}");
    }
    assert!(failed > 500);
    assert!(nothing_to_claim(&bed).await);
    assert_eq!((bed.queue.stats().instances[0].owed, bed.queue.stats().owed_bytes), (0, 0));
    let rows = bed.queue.list(Filter { limit: 5, ..Filter::default() }).await.expect("read");
    assert!(rows.iter().all(|row| row.state == State::Delivered));
}

#[tokio::test]
async fn a_drained_backlog_gives_its_space_back_while_nothing_else_is_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    for from in (0..8000).step_by(500) {
        bed.queue.append(append_of((from..from + 500).map(large).collect())).await.expect("stored");
    }
    let size = || std::fs::metadata(dir.path().join("postern.db")).map_or(0, |file| file.len());
    wait_until(|| size() > 8 << 20).await;
    // Discarded, the payloads go and slim rows stay.
    assert_eq!(bed.queue.discard(Filter { states: vec![State::Owed], ..Filter::default() }).await.expect("done"), 8000);
    let full = size();
    wait_until(|| pragma(dir.path(), "freelist_count") <= 256 && size() < full / 2).await;
}

#[tokio::test]
async fn the_log_starts_again_after_a_checkpoint() {
    // On a busy machine the log once had 19 MB: while a checkpoint of the keeper goes on, the writer cannot finish one, and it
    // tried again 8 MiB later only. Now it waits for the keeper at last. An append in flight comes on top.
    const BOUND: u64 = (LONGEST_LOG as u64 * 4096) + (2 << 20);
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    for from in (0..32_000).step_by(250) {
        bed.queue.append(append_of((from..from + 250).map(large).collect())).await.expect("stored");
        let log = std::fs::metadata(dir.path().join("postern.db-wal")).map_or(0, |file| file.len());
        assert!(log < BOUND, "{log} bytes of log, of more than 40 MB that were written");
    }
}

#[tokio::test]
async fn what_is_owed_longest_is_found_by_index_and_right_beside_a_foreign_backlog_and_after_a_replay() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start_with(dir.path(), &config(), &["a", "b"]).expect("opened");
    let at = |ms| UnixMillis(NOW.0 + ms);
    let received =
        |instance, ms, n, key| Append { received_at: at(ms), ..append_to(instance, vec![event(n, key, None)]) };
    for n in 0..300 {
        bed.queue.append(received("b", 10, n, "x")).await.expect("stored");
    }
    bed.queue.append(received("a", 20, 1000, "x")).await.expect("stored");
    bed.queue.append(received("a", 30, 1001, "y")).await.expect("stored");
    let oldest = || bed.queue.stats().instances.iter().map(|one| one.oldest_owed).collect::<Vec<_>>();
    assert_eq!(oldest(), [Some(at(20)), Some(at(10))]);
    let mut claims = claim_within(&bed, WANT).await;
    claims.sort_by_key(|claim| claim.items[0].seq);
    settle(&bed, &claims[0], Outcome::Dead("because".into()), true).await;
    settle(&bed, &claims[1], Outcome::Retry { at: at(60_000) }, true).await;
    wait_until(|| oldest() == [Some(at(30)), Some(at(10))]).await;
    // What is replayed is owed from now on, whatever its number.
    bed.clock.advance(Duration::from_secs(5));
    assert_eq!(bed.queue.replay(Filter::default()).await.expect("replayed"), 1);
    assert_eq!(oldest(), [Some(at(30)), Some(at(10))]);
    bed.queue.close().await;
    let plan = plan(dir.path(), rows::OLDEST);
    assert!(plan.contains("SEARCH owed USING COVERING INDEX owed_age"), "{plan}");
}

#[tokio::test]
async fn opening_reads_numbers_that_were_kept_and_counts_no_rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    let events = (0..50).map(|n| event(n, &n.to_string(), None)).collect();
    bed.queue.append(append_of(events)).await.expect("stored");
    bed.queue.close().await;
    drop(bed);
    // A number that no row stands behind comes out as it was kept.
    let conn = rusqlite::Connection::open(dir.path().join("postern.db")).expect("opened");
    conn.execute("UPDATE instances SET owed = 4711", []).expect("set");
    drop(conn);
    assert_eq!(start(dir.path()).queue.stats().instances[0].owed, 4711);
}

#[tokio::test]
async fn many_failing_lanes_are_parked_and_leave_room_for_fresh_deliveries() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start(dir.path());
    for from in (0..3000).step_by(500) {
        let events = (from..from + 500).map(|n| event(n, &n.to_string(), None)).collect();
        bed.queue.append(append_of(events)).await.expect("stored");
    }
    let later = UnixMillis(NOW.0 + 3_600_000);
    let mut failed = 0;
    while failed < 3000 {
        let claims = claim_within(&bed, Want { claims: 256, ..WANT }).await;
        settle_together(&bed, &claims, &Outcome::Retry { at: later }).await;
        failed += claims.len();
        let load = bed.queue.shared.state().window(0).expect("a window").load();
        assert!(load.0 <= 1024, "{load:?}");
    }
    let load = bed.queue.shared.state().window(0).expect("a window").load();
    assert!(load.0 <= 512, "failing lanes keep to half of the window: {load:?}");
    bed.queue.append(append_of(vec![event(9999, "fresh", None)])).await.expect("stored");
    let fresh = claim_within(&bed, WANT).await;
    assert_eq!(numbers(&fresh), ["{\"n\":  9999}"], "a first attempt is not kept waiting");
    settle(&bed, &fresh[0], Outcome::Delivered, true).await;
    // In their time all of them come back.
    bed.clock.advance(Duration::from_secs(3600));
    let mut again = 0;
    while again < 3000 {
        let claims = claim_within(&bed, Want { claims: 256, retries: 256, ..WANT }).await;
        settle_together(&bed, &claims, &Outcome::Delivered).await;
        again += claims.len();
    }
    assert_eq!(bed.queue.stats().instances[0].owed, 0);
}

#[tokio::test]
async fn the_numbers_can_be_read_beside_the_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let bed = start_with(dir.path(), &config(), &["a", "b"]).expect("opened");
    bed.queue.append(append_of(vec![event(1, "x", None), event(2, "y", None)])).await.expect("stored");
    let claim = claim_within(&bed, Want { claims: 1, ..WANT }).await.remove(0);
    settle(&bed, &claim, Outcome::Dead("because".into()), true).await;
    let stats = open_readonly(dir.path()).expect("opened").stats().expect("read");
    let [a, b] = stats.instances.as_slice() else { panic!("{stats:?}") };
    assert_eq!((a.name.as_str(), a.owed, a.dead, a.oldest_owed), ("a", 1, 1, Some(NOW)));
    assert_eq!((b.name.as_str(), b.owed, b.dead, b.oldest_owed), ("b", 0, 0, None));
    assert_eq!((stats.owed_bytes, stats.dead_bytes), (a.owed_bytes, a.dead_bytes));
    assert!(stats.owed_bytes > 0 && stats.store_bytes > 0);
}

#[test]
fn a_memory_file_system_is_known_as_one_that_forgets() {
    let forgets = super::super::files::volatile_filesystem;
    // Linux mounts one there everywhere; elsewhere there is nothing to find.
    if cfg!(target_os = "linux") && Path::new("/dev/shm").is_dir() {
        assert_eq!(forgets(Path::new("/dev/shm")), Some("tmpfs"));
    }
    assert_eq!(forgets(Path::new("/proc")), None);
    assert_eq!(forgets(Path::new("/no/such/directory")), None);
}

/// An event with a payload of 1 KiB.
fn large(n: u32) -> Event {
    let raw = format!("{{\"n\":{n},\"p\":\"{}\"}}", "p".repeat(1000));
    Event { raw: RawValue::from_string(raw).expect("JSON"), ..event(n, &n.to_string(), None) }
}

async fn settle_together(bed: &Bed, claims: &[Claim], outcome: &Outcome) {
    let settle = |claim: &Claim| {
        let attempt =
            Attempt { at: NOW, took_ms: 1, status: None, outcome: "test".into(), detail: String::new(), counted: true };
        let (token, outcome) = (claim.token, outcome.clone());
        bed.queue.settle(Settlement { token, outcome, attempt: Some(attempt), at: NOW })
    };
    // All are polled before the first is awaited, so that they share commits.
    let mut open = Vec::new();
    for mut one in claims.iter().map(settle) {
        match std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx))).await {
            std::task::Poll::Ready(settled) => settled.expect("settled"),
            std::task::Poll::Pending => open.push(one),
        }
    }
    for one in open {
        one.await.expect("settled");
    }
}

fn pragma(dir: &Path, name: &str) -> i64 {
    let conn = schema::open_reader(dir).expect("opened");
    conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).expect("read")
}

fn plan(dir: &Path, sql: &str) -> String {
    let conn = schema::open_reader(dir).expect("opened");
    let sql = format!("EXPLAIN QUERY PLAN {}", sql.replace("?1", "1"));
    conn.query_row(&sql, [], |row| row.get(3)).expect("a plan")
}
