//! Notifications: from MCS's record to a signed callback (`s3-dialects.md` 1.5 and 1.6).

use serde_json::{Value, json};

use super::{metric, notify, path, post, prepare, record, stand};
use crate::hard_cases::stand::{Stand, app, body, calls, get, objects};

const SAMPLE: &str = r#"{"Records":[{"s3":{"object":{"eTag":"aed563ecafb4bcc5654c597a421547b2","sequencer":1577453615,"key":"some-file-to-bucket","size":100},"configurationId":"1","bucket":{"name":"bucketA","ownerIdentity":{"principalId":"mcs2883541269"}},"s3SchemaVersion":"1.0"},"eventVersion":"1.0","requestParameters":{"sourceIPAddress":"185.6.245.156"},"userIdentity":{"principalId":"2407013e-cbc1-415f-9102-16fb9bd6946b"},"eventName":"s3:ObjectCreated:Put","awsRegion":"ru-msk","eventSource":"aws:s3","responseElements":{"x-amz-request-id":"VGJR5rtJ"}}]}"#;

async fn taken(stand: &Stand, count: u64) {
    let all = stand.app.wait_until(crate::hard_cases::stand::PATIENCE, |ledger| ledger.taken >= count).await;
    assert!(all, "{} of {count} taken\n{}", stand.app.ledger(|ledger| ledger.taken), stand.log());
    stand.app.ledger(|ledger| assert!(ledger.is_clean(), "{ledger:?}"));
}

#[tokio::test]
async fn the_documented_notification_becomes_a_signed_callback() {
    let stand = stand(&[]).await;
    let reply = post(&stand, &path(), &["X-Amz-Sns-Message-Type: Notification"], SAMPLE.as_bytes()).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{}", stand.log());
    taken(&stand, 1).await;
    let call = body(&calls(&stand.app)[0]);
    let message = &call["message"];
    assert_eq!(message["elementKey"], "mcss3");
    let event = &message["events"][0];
    assert_eq!(
        (event["objectId"].as_str(), event["eventType"].as_str()),
        (Some("some-file-to-bucket"), Some("CREATED"))
    );
    assert_eq!(event["date"], "2019-12-27T13:33:35Z", "from the sequencer: {event}");
    assert_eq!(
        message["raw"]["Records"][0],
        serde_json::from_str::<Value>(SAMPLE).expect("JSON")["Records"][0],
        "the record as it came"
    );
}

#[tokio::test]
async fn what_comes_again_is_delivered_once_in_every_content_type() {
    let stand = stand(&[]).await;
    for header in ["content-type: application/json", "content-type: text/plain", "content-type: x", "accept: */*"] {
        assert_eq!(post(&stand, &path(), &[header], SAMPLE.as_bytes()).await.status, 200, "{header}");
    }
    assert_eq!(notify(&stand, &[record("s3:ObjectRemoved:Delete", "last", 1)]).await, 200);
    taken(&stand, 2).await;
    stand.app.ledger(|ledger| assert_eq!((ledger.taken, ledger.repeated), (2, 0)));
    assert_eq!(metric(&stand, "reason=\"duplicate\"").await, 3);
}

#[tokio::test]
async fn records_of_a_batch_are_taken_one_by_one_and_a_broken_one_is_set_aside_once() {
    let stand = stand(&[]).await;
    let mut odd = record("s3:ObjectCreated:Copy", "odd+size%2Fkey", 1_577_453_616);
    odd["s3"]["object"]["size"] = "12".into();
    odd["s3"]["object"].as_object_mut().expect("an object").remove("eTag");
    odd["extra"] = json!({"deep": [1, 2, {"x": null}]});
    let mut float = record("s3:ObjectRemoved:DeleteMarkerCreated", "float", 1_577_453_617);
    float["s3"]["object"]["size"] = json!(1.5);
    let records = [
        record("s3:ObjectCreated:CompleteMultipartUpload", "whole", 1_577_453_615),
        json!({"eventName": "s3:ObjectCreated:Put", "s3": {}}),
        odd,
        json!(1),
        float,
    ];
    assert_eq!(notify(&stand, &records).await, 200);
    stand.delivered(&["whole", "odd size/key", "float"]).await;
    let dead = stand.wait_rows(&["--state", "dead"], 1).await;
    assert!(dead[0].to_string().contains("Records[1]"), "{dead:#?}");
    assert_eq!(metric(&stand, "outcome=\"set_aside\"").await, 1);
}

/// A thousand broken records kept a thousand copies of their message once.
#[tokio::test]
async fn a_message_of_many_broken_records_is_kept_once() {
    let stand = stand(&[]).await;
    let mut records = vec![json!({"s3": {"x": "y".repeat(400)}}); 999];
    records.push(record("s3:ObjectCreated:Put", "good", 1));
    assert_eq!(notify(&stand, &records).await, 200, "{}", stand.log());
    stand.delivered(&["good"]).await;
    stand.wait_rows(&["--state", "dead"], 1).await;
}

#[tokio::test]
async fn a_test_event_is_heard_and_an_empty_message_is_nobodys() {
    let stand = stand(&[]).await;
    for (body, reason) in [
        (
            r#"{"Service":"S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"bucketA"}"#,
            "test_event",
        ),
        (r#"{"Service":"S3","Event":"TestEvent","Bucket":"bucketA"}"#, "test_event"),
        (r#"{"Records":[{"Event":"s3:TestEvent","Bucket":"bucketA"}]}"#, "test_event"),
        (r#"{"Records":[{"eventName":"s3:TestEvent","s3":{"bucket":{"name":"bucketA"}}}]}"#, "test_event"),
        (r#"{"Records":[]}"#, "dropped"),
    ] {
        let before = metric(&stand, &format!("reason=\"{reason}\"")).await;
        assert_eq!(post(&stand, &path(), &[], body.as_bytes()).await.status, 200, "{body}");
        assert_eq!(metric(&stand, &format!("reason=\"{reason}\"")).await, before + 1, "{body}");
    }
    assert_eq!(metric(&stand, "outcome=\"test_event\"").await, 4);
    assert!(stand.rows(&[]).await.is_empty());
}

#[tokio::test]
async fn records_of_a_foreign_project_or_bucket_are_dropped_and_audited() {
    let stand = stand(&[]).await;
    let mut project = record("s3:ObjectCreated:Put", "project", 1);
    project["s3"]["bucket"]["ownerIdentity"]["principalId"] = "mcs5259999770".into();
    let mut bucket = record("s3:ObjectCreated:Put", "bucket", 1);
    bucket["s3"]["bucket"]["name"] = "stranger".into();
    let mut unsaid = record("s3:ObjectCreated:Put", "owner unsaid", 1);
    unsaid["s3"]["bucket"].as_object_mut().expect("an object").remove("ownerIdentity");
    assert_eq!(notify(&stand, std::slice::from_ref(&project)).await, 200);
    assert_eq!(notify(&stand, &[bucket, project, unsaid, record("s3:ObjectCreated:Put", "ours", 1)]).await, 200);
    stand.delivered(&["ours", "owner unsaid"]).await;
    stand.app.ledger(|ledger| assert_eq!(ledger.taken, 2));
    assert_eq!(metric(&stand, "outcome=\"foreign_project\"").await, 3);
    let log = stand.log();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("whose project|bucket no instance accepts")).collect();
    assert!(lines.len() == 1 && lines[0].contains("mcs5259999770"), "the first is told, the others are counted: {log}");
}

/// The pairs are a list of their own: the bucket of the instance's AWS settings once shut out the bucket of its webhooks.
#[tokio::test]
async fn a_pair_holds_beside_a_bucket_of_another_storage() {
    let stand = stand(&[("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "an-aws-bucket")]).await;
    assert_eq!(notify(&stand, &[record("s3:ObjectCreated:Put", "ours", 1)]).await, 200);
    stand.delivered(&["ours"]).await;
}

/// Hard case 15: project|bucket chooses the instance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pair_chooses_among_instances() {
    let mut stand = prepare(&[
        ("POSTERN_MCS_TOPICS", ""),
        ("EVENT_NOTIFICATION_CALLBACK_URL", ""),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""),
        ("ELEMENT_KEY", ""),
    ])
    .await;
    let other = app().await;
    for (name, url, pairs) in [
        ("first", stand.app.url(), "mcs2883541269|bucketA,mcs1|shared"),
        ("second", other.url(), "mcs2|bucketB,mcs1|shared"),
    ] {
        let document = json!({"element": {"key": "mcss3"}, "name": name, "configuration": {
            "event.notification.enabled": true, "event.vendor.type": "webhooks", "POSTERN_MCS_TOPICS": pairs,
            "event.notification.callback.url": url, "event.notification.signature.key": crate::hard_cases::stand::KEY}});
        stand.file(&format!("instances/{name}.json"), &document.to_string());
    }
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    stand.begin().await;
    let of = |project: &str, bucket: &str, key: &str| {
        let mut record = record("s3:ObjectCreated:Put", key, 1);
        record["s3"]["bucket"] = json!({"name": bucket, "ownerIdentity": {"principalId": project}});
        record
    };
    let records = [of("mcs2883541269", "bucketA", "a"), of("mcs2", "bucketB", "b"), of("mcs1", "shared", "both")];
    assert_eq!(notify(&stand, &records).await, 200);
    stand.delivered(&["a", "both"]).await;
    stand.delivered_to(&other, &["b", "both"]).await;
    let keys = |app: &postern::simulator::receiver::Receiver| {
        calls(app).iter().flat_map(objects).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(keys(&stand.app), ["a", "both"].map(str::to_owned).into());
    assert_eq!(keys(&other), ["b", "both"].map(str::to_owned).into());
    assert_eq!(metric(&stand, "outcome=\"foreign_project\"").await, 0, "each record was somebody's");
    assert!(!stand.log().contains("no instance accepts"), "{}", stand.log());
}

#[tokio::test]
async fn a_switched_off_instance_takes_nothing() {
    let stand = stand(&[("EVENT_NOTIFICATION_ENABLED", "false")]).await;
    assert_eq!(notify(&stand, &[record("s3:ObjectCreated:Put", "a", 1)]).await, 403);
    for body in [
        super::confirmation().to_string().as_str(),
        r#"{"Records":[]}"#,
        r#"{"Event":"s3:TestEvent","Bucket":"bucketA"}"#,
    ] {
        assert_eq!(post(&stand, &path(), &[], body.as_bytes()).await.status, 403, "{body}");
    }
    assert_eq!(metric(&stand, "reason=\"disabled\"").await, 4);
}

/// Beside an instance that is on, the notifications of one that is off were taken for a stranger's: 200, and lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_another_a_switched_off_instance_takes_nothing_either() {
    let mut stand = prepare(&[]).await;
    let off = json!({"element": {"key": "mcss3"}, "name": "off", "configuration": {
        "event.notification.enabled": false, "event.vendor.type": "webhooks",
        "POSTERN_MCS_TOPICS": "mcs2|bucketB,mcs2883541269|bucketA",
        "event.notification.callback.url": stand.app.url(), "event.notification.signature.key": crate::hard_cases::stand::KEY}});
    stand.file("instances/off.json", &off.to_string());
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    stand.begin().await;
    let of = |project: Option<&str>, bucket: &str| {
        let mut record = record("s3:ObjectCreated:Put", &format!("{bucket}/{project:?}"), 1);
        record["s3"]["bucket"] = json!({"name": bucket, "ownerIdentity": {"principalId": project}});
        record
    };
    for (record, status) in [
        (of(Some("mcs2"), "bucketB"), 403),
        (of(None, "bucketB"), 403),
        (of(Some("mcs3"), "bucketB"), 200),
        (of(Some("mcs2883541269"), "bucketA"), 200),
    ] {
        assert_eq!(notify(&stand, std::slice::from_ref(&record)).await, status, "{record}");
    }
    // Its handshake was refused as a stranger's, and the log told to add the pair where it stood already.
    let mut asked = super::confirmation();
    asked["TopicArn"] = "mcs2|bucketB|s3:ObjectCreated:*".into();
    assert_eq!(post(&stand, &path(), &[], asked.to_string().as_bytes()).await.status, 403);
    assert!(stand.log().contains("the instance of this pair is disabled"), "{}", stand.log());
    assert!(!stand.log().contains("add this pair"), "{}", stand.log());

    let both = [of(Some("mcs2"), "bucketB"), of(Some("mcs2883541269"), "bucketA")];
    assert_eq!(notify(&stand, &both).await, 200, "what somebody accepts is not refused for its neighbour");
}

/// How MCS codes keys is documented nowhere (`s3-dialects.md` 1.6), and there was no way to say it once it is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coding_of_keys_can_be_told() {
    for (coding, expected) in [("", "a b/ü%"), ("percent", "a+b/ü%"), ("raw", "a+b%2F%C3%BC%25")] {
        let stand = stand(&[("POSTERN_MCS_KEY_CODING", coding)]).await;
        assert_eq!(notify(&stand, &[record("s3:ObjectCreated:Put", "a+b%2F%C3%BC%25", 1_577_453_615)]).await, 200);
        stand.delivered(&[expected]).await;
    }
}

/// Hard case 2 with seconds for an order: an older one is superseded, one of the same second is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_by_its_sequencer_is_superseded_and_the_same_second_is_a_tie() {
    let stand = stand(&[]).await;
    let change = |request: &str, sequencer: u64| {
        let mut record = record("s3:ObjectCreated:Put", "one", sequencer);
        record["responseElements"]["x-amz-request-id"] = request.into();
        record
    };
    assert_eq!(notify(&stand, &[change("r1", 1_577_453_615)]).await, 200);
    taken(&stand, 1).await;
    assert_eq!(notify(&stand, &[change("r2", 1_577_453_614)]).await, 200);
    stand.wait_rows(&["--state", "superseded"], 1).await;
    assert_eq!(notify(&stand, &[change("r3", 1_577_453_615)]).await, 200);
    taken(&stand, 2).await;
    stand.app.ledger(|ledger| assert_eq!(ledger.objects["one"].events.len(), 2));
}

#[tokio::test]
async fn probes_are_answered_and_other_methods_are_not() {
    let stand = stand(&[]).await;
    assert_eq!(get(stand.intake, &path()).await.map(|reply| reply.status), Some(200));
    for (method, expected) in [("HEAD", 200), ("PUT", 405), ("DELETE", 405)] {
        let request = format!("{method} {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", path());
        let reply = crate::attacks::bench::exchange(stand.intake, request.as_bytes()).await.expect("an answer");
        assert_eq!(reply.status, expected, "{method}");
    }
}
