//! What polling tells.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn polling_tells_created_updated_and_deleted_with_the_date_of_the_poll() {
    let bench = Bench::polling().await;
    for key in ["kept.txt", "changed.txt", "gone.txt"] {
        bench.s3.put(key, "1", long_ago());
    }
    let mut running = bench.start_with_baseline().await;
    more_walks(&mut running, 1.0).await;
    assert!(bench.told().is_empty(), "the first walk is silent, and so are unchanged ones");

    bench.s3.put("new/ü +&\u{1}.txt", "1", now());
    bench.s3.put("folder/", "1", now());
    bench.s3.put("changed.txt", "2", now());
    bench.s3.delete("gone.txt");
    bench
        .is_told(&[
            ("changed.txt", "UPDATED"),
            ("folder/", "CREATED"),
            ("gone.txt", "DELETED"),
            ("new/ü +&\u{1}.txt", "CREATED"),
        ])
        .await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(bench.told().len(), 4, "each change is told once");

    for received in bench.app.received() {
        assert!(received.is_signed_with(KEY));
        let body = received.json();
        let (event, record) = (&body["message"]["events"][0], &body["message"]["raw"]["Records"][0]);
        let poll_date = event["pollDate"].as_str().and_then(UnixMillis::parse_rfc3339).expect("a date");
        assert!(now().since(poll_date) < PATIENCE);
        assert_eq!(event["hubKey"], "documents");
        assert_eq!(record["eventSource"], "postern:listing");
        assert_eq!(record["s3"]["bucket"]["name"], "photos");
        let (kind, name) = (event["eventType"].as_str(), record["eventName"].as_str());
        match kind {
            Some("CREATED") => assert_eq!(name, Some("ObjectCreated:Listed")),
            Some("UPDATED") => assert_eq!(name, Some("ObjectCreated:Overwritten")),
            other => assert_eq!((other, name), (Some("DELETED"), Some("ObjectRemoved:Unlisted"))),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_walk_is_told_where_it_is_asked_for() {
    let bench = Bench::polling().await.with("POSTERN_POLL_INITIAL", "emit");
    bench.s3.put("a", "1", long_ago());
    bench.s3.put("b", "1", long_ago());
    let mut running = bench.start().await;
    bench.is_told(&[("a", "CREATED"), ("b", "CREATED")]).await;
    more_walks(&mut running, 1.0).await;
    assert_eq!(bench.told().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_nobody_looked_is_told_after_a_restart() {
    let bench = Bench::polling().await;
    bench.s3.put("gone", "1", long_ago());
    bench.start_with_baseline().await.kill();
    bench.s3.delete("gone");
    bench.s3.put("new", "1", now());
    let _running = bench.start().await;
    bench.is_told(&[("gone", "DELETED"), ("new", "CREATED")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_looked_at_alone_and_one_that_is_given_up_is_not_told_as_deleted() {
    let bench = Bench::polling()
        .await
        .with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "prefixes": ["a/", "b/"], "pageSize": 2}"#);
    for key in ["a/1", "a/2", "a/3", "b/1", "c/1"] {
        bench.s3.put(key, "1", long_ago());
    }
    let mut running = bench.start().await;
    walks(&mut running, 2.0).await;
    bench.s3.put("c/2", "1", now());
    bench.s3.put("b/2", "1", now());
    bench.s3.delete("a/2");
    bench.is_told(&[("a/2", "DELETED"), ("b/2", "CREATED")]).await;
    running.kill();

    let bench = bench.with("EVENT_POLLER_CONFIGURATION", r#"{"bucket": "photos", "prefixes": ["b/", "c/"]}"#);
    let mut running = bench.start().await;
    walks(&mut running, 4.0).await;
    assert_eq!(bench.told().len(), 2, "neither what is left nor what is new to it is news: {:?}", bench.told());
    bench.s3.delete("c/1");
    bench.s3.delete("a/1");
    bench.is_told(&[("a/2", "DELETED"), ("b/2", "CREATED"), ("c/1", "DELETED")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_was_emptied_is_told_as_that() {
    let bench = Bench::polling().await;
    for number in 0..2500 {
        bench.s3.put(&format!("{number:05}"), "1", long_ago());
    }
    let _running = bench.start_with_baseline().await;
    bench.s3.clear();
    wait_until("all is told", || async { (bench.told().len() == 2500).then_some(()) }).await;
    assert!(bench.told().iter().all(|(_, _, kind)| kind == "DELETED"));
}
