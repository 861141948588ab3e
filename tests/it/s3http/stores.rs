//! Each store by its preset, from what it sends to the signed callback (`s3-dialects.md` 2 and 3).

use serde_json::{Value, json};

use super::{assert_signed, body, created, metric, path, post, prepare, record, send, stand};
use crate::hard_cases::stand::{Stand, app, calls};

/// The event of the last callback, and its record as it came.
fn last(stand: &Stand) -> (Value, Value) {
    let call = calls(&stand.app).pop().expect("a callback");
    let body = crate::hard_cases::stand::body(&call);
    let message = &body["message"];
    (message["events"][0].clone(), message["raw"]["Records"][0].clone())
}

/// What a store sends, how it proves itself, and what the app hears of it.
struct Store {
    preset: &'static str,
    auth: &'static str,
    headers: &'static [&'static str],
    body: String,
    key: &'static str,
    event: &'static str,
}

fn stores() -> Vec<Store> {
    let with = |record: Value, members: &[(&str, Value)]| {
        let mut record = record;
        for (name, value) in members {
            record[*name] = value.clone();
        }
        record
    };
    let minio = body(&[record("s3:ObjectCreated:Put", "images", "photos%2F2024+05%2Fa+b.jpg", "15C32494527B46C5")]);
    let plain = |event: &str| record(event, "images", "a b+c%20.jpg", "AFE8CD6506C2FD36");
    let ceph = json!({"Records": [with(plain("ObjectCreated:Put"), &[("opaqueData", "iam opaque".into())])]});
    let noobaa = json!({"Records": [plain("ObjectRemoved:Delete")]});
    let versitygw = json!({"Records": [plain("s3:ObjectRemoved:DeleteObjects")]});
    let aws = json!({"Records": [record("ObjectCreated:Put", "images", "a+b", "0055AED6DCD90281E5")]});
    let bridge = json!({"version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "detail-type": "Object Deleted",
        "source": "aws.s3", "time": "2026-11-12T00:00:00Z", "region": "ca-central-1", "detail": {"version": "0",
        "bucket": {"name": "images"}, "object": {"key": "a b+c%20.jpg", "sequencer": "617f08299329d189"},
        "request-id": "N4", "reason": "DeleteObject", "deletion-type": "Permanently Deleted"}});
    // The vector of 2.7, byte for byte.
    let b2 = r#"{"events":[{"accountId":"acct123","bucketId":"b1","bucketName":"my-bucket","eventId":"evt-1","eventTimestamp":1700000000000,"eventType":"b2:ObjectCreated:Upload","eventVersion":1,"matchedRuleName":"upload-rule","objectName":"photos/dog.jpg","objectSize":4096,"objectVersionId":"v-1"}]}"#;
    let store = |preset, auth, headers, body: String, key, event| Store { preset, auth, headers, body, key, event };
    vec![
        store(
            "minio",
            "t0ken",
            &["authorization: Bearer t0ken"],
            minio.to_string(),
            "photos/2024 05/a b.jpg",
            "CREATED",
        ),
        store(
            "rustfs",
            "Splunk xyz",
            &["authorization: Splunk xyz"],
            minio.to_string(),
            "photos/2024 05/a b.jpg",
            "CREATED",
        ),
        store(
            "ceph",
            "opaqueData=iam opaque",
            &["ce-type: com.amazonaws.ObjectCreated:Put"],
            ceph.to_string(),
            "a b+c%20.jpg",
            "CREATED",
        ),
        store(
            "noobaa",
            "Basic dXNlcjpwYXNz",
            &["Authorization: Basic dXNlcjpwYXNz"],
            noobaa.to_string(),
            "a b+c%20.jpg",
            "DELETED",
        ),
        store(
            "versitygw",
            "",
            &["content-type: application/json; charset=utf-8"],
            versitygw.to_string(),
            "a b+c%20.jpg",
            "DELETED",
        ),
        store(
            "sns-raw",
            "",
            &[
                "x-amz-sns-rawdelivery: true",
                "x-amz-sns-message-type: Notification",
                "x-amz-sns-message-id: m-1",
                "x-amz-sns-topic-arn: arn:aws:sns:us-east-1:123456789012:t",
                "content-type: text/plain; charset=UTF-8",
            ],
            aws.to_string(),
            "a b",
            "CREATED",
        ),
        store(
            "b2",
            "super-secret-signing-key-from-b2",
            &["X-Bz-Event-Notification-Signature: v1=c16863fa075492853d6fe17abce6793634f7dbff7285f7373bb838b3217ba358"],
            b2.to_owned(),
            "photos/dog.jpg",
            "CREATED",
        ),
        store(
            "eventbridge",
            "Basic dXNlcjpwYXNz",
            &[
                "authorization: Basic dXNlcjpwYXNz",
                "range: bytes=0-1048575",
                "user-agent: Amazon/EventBridge/ApiDestinations",
            ],
            bridge.to_string(),
            "a b+c%20.jpg",
            "DELETED",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_store_sends_reaches_the_app_signed_and_once() {
    for store in stores() {
        let stand = stand(&[("POSTERN_S3HTTP_PRESET", store.preset), ("POSTERN_S3HTTP_AUTH", store.auth)]).await;
        for _ in 0..2 {
            let reply = post(&stand, &path(), store.headers, store.body.as_bytes()).await;
            assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{}\n{}", store.preset, stand.log());
        }
        stand.delivered(&[store.key]).await;
        let (event, raw) = last(&stand);
        assert_eq!(event["eventType"], store.event, "{}: {event}", store.preset);
        let sent: Value = serde_json::from_str(&store.body).expect("JSON");
        let record = [&sent["Records"][0], &sent["events"][0]].into_iter().find(|found| !found.is_null());
        assert_eq!(&raw, record.unwrap_or(&sent), "{}", store.preset);
        assert_eq!(stand.rows(&["--limit", "100"]).await.len(), 1, "{}: the second was a duplicate", store.preset);
        assert_eq!(metric(&stand, &["events", "\"duplicate\""]).await, 1, "{}", store.preset);
        assert_signed(&stand);
        assert!(!stand.log().contains(super::SECRET), "the path is never logged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_events_are_heard_and_not_relayed() {
    let stand = stand(&[]).await;
    let noobaa = json!({"Records": [{"Service": "NooBaa", "Event": "s3:TestEvent", "Time": "t", "Bucket": "images",
        "RequestId": "r", "HostId": "h"}]});
    let versitygw =
        json!({"Bucket": "Test-Bucket", "Event": "s3:TestEvent", "Service": "S3", "Time": "2026-01-01T00:00:00+02:00"});
    for test in [noobaa, versitygw] {
        assert_eq!(send(&stand, &[], &test).await, 200);
    }
    assert_eq!(metric(&stand, &["events", "\"test_event\""]).await, 2);
    assert_eq!(send(&stand, &[], &json!({"Records": []})).await, 200, "nothing happened");
    assert!(stand.rows(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_wanted_events_of_listed_buckets_are_taken() {
    let stand = stand(&[("POSTERN_BUCKETS", "images"), ("EVENT_OBJECTS", "s3:ObjectCreated:*,key:in/**")]).await;
    let wanted = record("s3:ObjectCreated:Put", "images", "in%2Fa", "01");
    let foreign = record("s3:ObjectCreated:Put", "others", "in%2Fb", "01");
    let removed = record("s3:ObjectRemoved:Delete", "images", "in%2Fc", "01");
    let outside = record("s3:ObjectCreated:Put", "images", "out%2Fd", "01");
    assert_eq!(
        send(&stand, &[], &body(std::slice::from_ref(&foreign))).await,
        200,
        "nobody is told which buckets there are"
    );
    assert_eq!(send(&stand, &[], &body(&[foreign, removed, outside, wanted])).await, 200);
    stand.delivered(&["in/a"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 1);
    assert_eq!(metric(&stand, &["events", "\"foreign_bucket\""]).await, 2);
    assert_eq!(metric(&stand, &["events", "\"filtered\""]).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_by_cephs_clock_is_superseded() {
    let stand = stand(&[("POSTERN_S3HTTP_PRESET", "ceph")]).await;
    // 2024, and 2019, which is greater as text.
    for (event, sequencer) in [("ObjectCreated:Put", "AFE8CD6506C2FD36"), ("ObjectRemoved:Delete", "F7E6D75DC742D108")]
    {
        assert_eq!(send(&stand, &[], &json!({"Records": [record(event, "images", "k", sequencer)]})).await, 200);
        stand.delivered(&["k"]).await;
    }
    let superseded = stand.wait_rows(&["--state", "superseded"], 1).await;
    assert_eq!(superseded[0]["eventName"], "ObjectRemoved:Delete", "{superseded:#?}");
    assert_eq!(stand.app.ledger(|ledger| ledger.taken), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_keeps_its_order_and_a_bad_record_is_set_aside() {
    let stand = stand(&[]).await;
    let mut bad = record("s3:ObjectCreated:Put", "images", "x", "01");
    bad["s3"]["object"]["key"] = "".into();
    let batch = body(&[
        record("s3:ObjectCreated:Put", "images", "a", "01"),
        bad,
        record("s3:ObjectCreated:Copy", "images", "b", "01"),
    ]);
    assert_eq!(send(&stand, &[], &batch).await, 200);
    stand.delivered(&["a", "b"]).await;
    assert_eq!(stand.wait_rows(&["--state", "dead"], 1).await.len(), 1);
    assert_eq!(send(&stand, &[], &created("%zz")).await, 200, "a key that cannot be decoded goes on as it is");
    stand.delivered(&["%zz"]).await;
}

/// Once the id of an EventBridge event was remembered for all instances together: with two targets of one rule, whichever came
/// second was taken for a repetition and lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_have_secrets_and_memories_of_their_own() {
    let unset = [
        "EVENT_NOTIFICATION_CALLBACK_URL",
        "EVENT_NOTIFICATION_SIGNATURE_KEY",
        "POSTERN_INSTANCE_NAME",
        "POSTERN_S3HTTP_SECRET",
    ];
    let mut stand = prepare(&unset.map(|name| (name, ""))).await;
    let other = app().await;
    for (name, url) in [("first", stand.app.url()), ("second", other.url())] {
        let configuration = json!({"event.notification.enabled": true, "event.vendor.type": "webhooks",
            "event.notification.callback.url": url, "event.notification.signature.key": crate::hard_cases::stand::KEY,
            "POSTERN_S3HTTP_SECRET": format!("the-secret-of-the-{name}"), "POSTERN_S3HTTP_PRESET": "eventbridge"});
        let document = json!({"element": {"key": "amazons3"}, "configuration": configuration, "name": name});
        stand.file(&format!("instances/{name}.json"), &document.to_string());
    }
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    stand.begin().await;
    let bridge = stores().pop().expect("EventBridge").body;
    for _ in 0..2 {
        for name in ["first", "second"] {
            let target = format!("/s3/the-secret-of-the-{name}");
            assert_eq!(post(&stand, &target, &[], bridge.as_bytes()).await.status, 200, "{name}\n{}", stand.log());
        }
    }
    stand.delivered(&["a b+c%20.jpg"]).await;
    stand.delivered_to(&other, &["a b+c%20.jpg"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 2, "and each of them once");
    assert_eq!(post(&stand, &path(), &[], bridge.as_bytes()).await.status, 404);
}
