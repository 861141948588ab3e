//! A listing that fails, lies or stops in the middle: nothing false is told, and what is true is told later.

use super::*;
use crate::support::s3::Fault;

/// A bench with more than two pages of objects.
async fn bench() -> Bench {
    let bench = Bench::polling().await.with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 10}"#);
    for number in 0..25 {
        bench.s3.put(&format!("{number:02}"), "1", long_ago());
    }
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_trouble_is_asked_again_and_nothing_is_taken_for_deleted() {
    let bench = bench().await;
    let mut running = bench.start_with_baseline().await;
    for (fault, says) in [
        (Fault::AccessDenied, "allow s3:ListBucket"),
        (Fault::NoSuchBucket, "bucket photos does not exist"),
        (Fault::SlowDown, "held back by the store (SlowDown)"),
        (Fault::Reset, "does not answer"),
        (Fault::CutXml, "none of that page is believed"),
    ] {
        bench.s3.always(Some(fault));
        complains(&mut running, says).await;
        bench.s3.always(None);
        more_walks(&mut running, 1.0).await;
        assert!(bench.told().is_empty(), "{fault:?}: {:?}", bench.told());
    }
    bench.s3.delete("07");
    bench.is_told(&[("07", "DELETED")]).await;
}

/// An answer that says that there is nothing is a whole listing; told at once, it would have the app delete all that it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_seems_to_be_empty_is_asked_once_more_before_all_of_it_is_told_as_deleted() {
    let bench = bench().await.with("EVENT_POLLER_REFRESH_INTERVAL", "2s");
    let mut running = bench.start_with_baseline().await;
    for _ in 0..2 {
        bench.s3.faults(&[Fault::Empty]);
        complains(&mut running, "nothing is taken for deleted").await;
        more_walks(&mut running, 1.0).await;
        assert!(bench.told().is_empty(), "{:?}", bench.told());
    }
    bench.s3.clear();
    wait_until("all is told as deleted", || async { (bench.told().len() == 25).then_some(()) }).await;
    assert!(bench.told().iter().all(|(_, _, kind)| kind == "DELETED"));
    bench.s3.put("new", "1", now());
    wait_until("what is new is told", || async { (bench.told().len() == 26).then_some(()) }).await;
}

/// Whatever could not be read was asked for again with encoded keys, and LocalStack compares those with the marker as it is: `%C3`
/// is before `a`, so it left the rest of the bucket out, and that was told as deleted.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_is_not_asked_for_with_encoded_keys() {
    let bench = Bench::polling().await.with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 3}"#);
    bench.s3.compare_encoded();
    for key in ["a 1", "a+2", "b", "c", "é", "ü 1", "ü+2", "😀"] {
        bench.s3.put(key, "1", long_ago());
    }
    let mut running = bench.start_with_baseline().await;
    for _ in 0..3 {
        bench.s3.faults(&[Fault::CutLaterXml]);
        complains(&mut running, "none of that page is believed").await;
        more_walks(&mut running, 1.0).await;
        assert!(bench.told().is_empty(), "{:?}", bench.told());
    }
    bench.s3.delete("ü 1");
    bench.is_told(&[("ü 1", "DELETED")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_after_faults_between_its_pages_and_with_forgotten_tokens() {
    let bench = bench().await;
    let mut running = bench.start_with_baseline().await;
    for number in 0..25 {
        bench.s3.put(&format!("{number:02}"), "2", now());
    }
    bench.s3.put("99", "1", now());
    // No token is ever understood: each page after the first fails once, and is then asked for by the last key.
    bench.s3.forget_tokens(true);
    wait_until("all is told", || async { (bench.told().len() == 26).then_some(()) }).await;
    bench.s3.forget_tokens(false);
    more_walks(&mut running, 1.0).await;
    let told = bench.told();
    assert_eq!(told.len(), 26, "and once");
    assert_eq!(told.iter().filter(|(_, _, kind)| kind == "UPDATED").count(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lists_in_another_order_is_refused_and_nothing_false_is_told() {
    let bench = Bench::polling().await;
    // U+FFEE is below U+1F600 in bytes and above it in UTF-16.
    bench.s3.put("\u{ffee}", "1", long_ago());
    bench.s3.put("a", "1", long_ago());
    let mut running = bench.start_with_baseline().await;
    bench.s3.always(Some(Fault::Disorder));
    bench.s3.put("😀", "1", now());
    complains(&mut running, "not listed in the byte order of its keys").await;
    assert!(bench.told().is_empty());
    bench.s3.always(None);
    bench.is_told(&[("😀", "CREATED")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_xml_cannot_hold_stops_the_listing_of_a_store_that_does_not_encode_keys() {
    let bench = Bench::polling().await;
    bench.s3.encodes(false);
    bench.s3.put("a+b%20c & d", "1", long_ago());
    let mut running = bench.start_with_baseline().await;
    bench.s3.put("x\u{1}y", "1", now());
    complains(&mut running, "cannot be read").await;
    assert!(bench.told().is_empty());
    // The SDK said so as an error of its own, for each page of each walk.
    let log = std::fs::read_to_string(bench.sidecar.log_file()).expect("a log");
    assert!(!log.contains("aws_smithy"), "{log}");
    bench.s3.delete("x\u{1}y");
    bench.s3.delete("a+b%20c & d");
    bench.is_told(&[("a+b%20c & d", "DELETED")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_holds_the_walk_where_it_is() {
    let bench = Bench::polling().await.with("POSTERN_QUEUE_MAX_BYTES", "1MiB");
    let mut running = bench.start_with_baseline().await;
    bench.app.answer(hyper::StatusCode::SERVICE_UNAVAILABLE);
    for number in 0..3000 {
        bench.s3.put(&format!("{number:05}"), "1", now());
    }
    complains(&mut running, "POSTERN_QUEUE_MAX_BYTES").await;
    bench.app.answer(hyper::StatusCode::OK);
    wait_until("all is told", || async { (bench.told().len() >= 3000).then_some(()) }).await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(bench.told().len(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_memory_begins_anew_and_says_so() {
    let bench = Bench::polling().await;
    bench.s3.put("a", "1", long_ago());
    bench.start_with_baseline().await.kill();
    let store = bench.folder.path().join("store");
    for file in ["listing.db-wal", "listing.db-shm"] {
        let _ = std::fs::remove_file(store.join(file));
    }
    std::fs::write(store.join("listing.db"), vec![0x5a; 16_384]).expect("written");
    bench.s3.delete("a");
    let mut running = bench.start_with_baseline().await;
    assert!(store.join("listing.db.damaged").exists());
    assert!(std::fs::read_to_string(bench.sidecar.log_file()).expect("a log").contains("beginning anew"));
    bench.s3.put("b", "1", now());
    bench.is_told(&[("b", "CREATED")]).await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(bench.told().len(), 1);
}

/// Ceph's pages repeat the markers as they are, so that one that ends with such a key was unreadable also where keys are encoded, and
/// the walk stood before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_ends_with_a_key_that_xml_cannot_hold_is_asked_for_with_another_end() {
    let bench = Bench::polling().await.with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "pageSize": 3}"#);
    bench.s3.repeat_markers();
    // In the middle of a page, at the end of the next, two in a row, and as many as a page has.
    for key in ["a", "b\u{1}", "c", "d", "e", "f\u{1}", "g", "h\u{1}", "i\u{1}", "j", "k\u{1}", "l\u{1}", "m\u{1}", "n"]
    {
        bench.s3.put(key, "1", long_ago());
    }
    let mut running = bench.start_with_baseline().await;
    bench.s3.put("f\u{1}", "2", now());
    bench.s3.delete("i\u{1}");
    bench.is_told(&[("f\u{1}", "UPDATED"), ("i\u{1}", "DELETED")]).await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(bench.told().len(), 2);
}
