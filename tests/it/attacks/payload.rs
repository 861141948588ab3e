//! A76 to A81: genuine messages whose content is odd. The signature was fine, so a retry cannot help: always 200.

use serde_json::json;

use super::bench::{Bench, Message, record_of};

async fn dead(bench: &Bench) -> u64 {
    bench.metric("postern_queue_dead{").await
}

#[tokio::test]
async fn a76_the_test_event_is_heard_and_not_relayed() {
    let bench = Bench::start().await;
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z",
        "Bucket": "bucketname", "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4"});
    assert_eq!(bench.send(&Message::notification(&test.to_string()).signed(&bench)).await, 200);
    bench.app_knows_only(&[]).await;
    assert_eq!(bench.refusals("test_event").await, 1);
    assert_eq!(dead(&bench).await, 0);
}

#[tokio::test]
async fn a77_a78_what_is_no_s3_event_of_a_known_version_is_set_aside() {
    let bench = Bench::start().await;
    let bodies = [
        "hello".to_owned(),
        "{}".to_owned(),
        "{\"Records\":[]}".to_owned(),
        "{\"Records\":{}}".to_owned(),
        "{\"Records\":[1]}".to_owned(),
        record_of("postern-bucket", "three", "3.0"),
        format!("{{\"Records\":[{}]}}", vec!["{}"; 10_000].join(",")),
    ];
    for (at, body) in bodies.iter().enumerate() {
        assert_eq!(
            bench.send(&Message::notification(body).signed(&bench)).await,
            200,
            "{at}: {}",
            &body[..body.len().min(80)]
        );
    }
    bench.app_knows_only(&[]).await;
    let dead = dead(&bench).await;
    assert!((6..=1100).contains(&dead), "kept, and bounded: {dead}\n{}", bench.log());
}

#[tokio::test]
async fn a_message_that_is_no_s3_event_is_relayed_where_the_operator_wants_it() {
    let bench = Bench::with(&[("POSTERN_NON_S3", "relay")]).await;
    let message = Message::notification("hello").signed(&bench);
    assert_eq!(bench.send(&message).await, 200);
    bench.app_knows_only(&[message.get("MessageId")]).await;
}

#[tokio::test]
async fn a79_odd_keys_are_relayed_and_cannot_write_into_logs() {
    let bench = Bench::start().await;
    let long = "k".repeat(1024);
    let keys = ["%zz", "a%00b", "line%0Abreak", "bidi%E2%80%AE", long.as_str(), "a+b%2Bc"];
    for key in keys {
        assert_eq!(bench.send(&Message::created(key).signed(&bench)).await, 200, "{key}");
    }
    bench.app_knows_only(&["%zz", "a\0b", "line\nbreak", "bidi\u{202e}", &long, "a b+c"]).await;
    assert!(!bench.log().contains("line\nbreak"));
}

#[tokio::test]
async fn a80_a_foreign_bucket_is_dropped_and_audited() {
    let bench = Bench::with(&[("POSTERN_BUCKETS", "postern-bucket, other")]).await;
    let message = Message::notification(&record_of("stranger", "a", "2.1")).signed(&bench);
    assert_eq!(bench.send(&message).await, 200);
    bench.app_knows_only(&[]).await;
    assert_eq!(bench.metric("outcome=\"foreign_bucket\"").await, 1);
    assert!(bench.log().contains("stranger"), "audited");
    // Once each of them wrote a line: a bucket that announces to the wrong topic filled the log.
    for key in ["b", "c", "d"] {
        let message = Message::notification(&record_of("stranger", key, "2.1")).signed(&bench);
        assert_eq!(bench.send(&message).await, 200);
    }
    assert_eq!(bench.metric("outcome=\"foreign_bucket\"").await, 4);
    assert_eq!(bench.log().matches("that this instance does not accept").count(), 1, "{}", bench.log());
}

#[tokio::test]
async fn a81_a_record_of_another_region_is_relayed_and_audited() {
    let bench = Bench::start().await;
    let text = record_of("postern-bucket", "far", "2.1").replace("us-west-2", "eu-west-1");
    assert_eq!(bench.send(&Message::notification(&text).signed(&bench)).await, 200);
    bench.app_knows_only(&["far"]).await;
    assert_eq!(bench.metric("outcome=\"region_mismatch\"").await, 1);
}
