//! What the app is handed: numbers, records and formats, and what it is not handed. (Hard case 11.)

use postern::simulator::receiver::{Callback, Receiver};
use serde_json::{Value, json};

use super::stand::{PATIENCE, Stand, body, calls, created, header, objects, record};

/// Sends one record and waits for its callback.
async fn one(extra: &[(&str, &str)], sent: &Value) -> (Stand, Callback) {
    let stand = Stand::start(extra).await;
    assert_eq!(stand.notify(std::slice::from_ref(sent)).await, 200, "{}", stand.log());
    let call = first(&stand, &stand.app).await;
    (stand, call)
}

async fn first(stand: &Stand, app: &Receiver) -> Callback {
    assert!(app.wait_until(PATIENCE, |ledger| ledger.taken > 0).await, "{}", stand.log());
    calls(app).remove(0)
}

/// Hard case 11. The numbers of the envelope are the operator's; its id is a sequence, and `raw` holds the records as they came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_envelope_has_the_operators_numbers_a_sequence_and_the_records_as_they_came() {
    let mut sent = created("a");
    sent["unknown"] = json!({"null": null, "number": 1.50, "text": "\u{1f600}"});
    let numbers = [
        ("POSTERN_INSTANCE_ID", "4711"),
        ("POSTERN_ACCOUNT_ID", "1"),
        ("POSTERN_COMPANY_ID", "2"),
        ("POSTERN_USER_ID", "3"),
        ("POSTERN_INSTANCE_NAME", "photos"),
        ("POSTERN_INSTANCE_TAGS", "blue, green"),
        ("ELEMENT_KEY", "amazons3"),
    ];
    let (stand, call) = one(&numbers, &sent).await;
    let text = String::from_utf8(call.body.to_vec()).expect("UTF-8");
    assert!(text.contains(&sent.to_string()), "byte for byte: {text}");
    let envelope = body(&call);
    let message = &envelope["message"];
    assert_eq!(message["raw"], json!({"Records": [sent]}));
    assert_eq!((&message["instanceId"], &message["instance_id"]), (&json!(4711), &json!(4711)));
    assert_eq!((&message["accountId"], &message["companyId"], &message["userId"]), (&json!(1), &json!(2), &json!(3)));
    assert_eq!((&message["instanceName"], &message["instanceTags"]), (&json!("photos"), &json!(["blue", "green"])));
    assert_eq!(envelope["topic"], "instance-4711-amazons3-events");
    assert_eq!(envelope["id"], stand.rows(&[]).await[0]["seq"].to_string());
    assert_eq!(header(&call, "content-type"), "application/json");

    stand.create(&["b"]).await;
    stand.delivered(&["b"]).await;
    let number = |call: &Callback| body(call)["id"].as_str().and_then(|id| id.parse::<u64>().ok()).expect("a number");
    assert!(number(&calls(&stand.app)[1]) > number(&call));
}

/// Hard case 11. Unset, the instance's number is a positive one of 31 bits, and the same after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_without_a_number_has_a_stable_one() {
    let (mut stand, call) = one(&[], &created("a")).await;
    stand.kill();
    stand.begin().await;
    stand.create(&["b"]).await;
    stand.delivered(&["b"]).await;
    let number = |call: &Callback| body(call)["message"]["instanceId"].as_i64().expect("a number");
    assert!((1..=0x7fff_ffff).contains(&number(&call)));
    assert_eq!(number(&calls(&stand.app)[1]), number(&call));
}

/// `filter.response.nulls` removes null members also from the raw record, where it is asked for (hard case 11).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_are_removed_where_the_operator_asks_for_that() {
    let mut sent = created("a");
    sent["s3"]["object"]["versionId"] = Value::Null;
    sent["kept"] = json!([null, {"gone": null, "here": ""}]);
    let (_stand, call) = one(&[("filter.response.nulls", "true")], &sent).await;
    let text = String::from_utf8(call.body.to_vec()).expect("UTF-8");
    let object = &body(&call)["message"]["raw"]["Records"][0]["s3"]["object"];
    assert!(object.get("versionId").is_none() && object.get("size").is_some(), "{text}");
    assert!(!text.contains("\"gone\"") && text.contains("\"here\":\"\""), "{text}");
}

/// `event.objects`: what the instance does not want is answered with 200 and not queued.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_objects_that_are_wanted_are_delivered() {
    // Blanks around the colons as in MCS' own documentation (hard case 19).
    let wanted = "file, s3: ObjectCreated: *, key:images/**/*.{png,jpg}";
    let stand = Stand::start(&[("EVENT_OBJECTS", wanted)]).await;
    for unwanted in [
        record("ObjectRemoved:Delete", "images/a.png", 1),
        created("images/a.gif"),
        created("other/a.png"),
        created("images/folder.png/"),
    ] {
        assert_eq!(stand.notify(&[unwanted]).await, 200, "{}", stand.log());
    }
    // Of one notification a part may be wanted.
    assert_eq!(stand.notify(&[created("x.txt"), created("images/b/c.jpg"), created("images/d.png")]).await, 200);
    stand.delivered(&["images/b/c.jpg", "images/d.png"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 2);
    assert_eq!(stand.app.ledger(|ledger| ledger.requests), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloudevents_format_is_structured() {
    let sent = created("dir a/k\u{e9}y.txt");
    let (_stand, call) = one(&[("POSTERN_FORMAT", "cloudevents")], &sent).await;
    assert_eq!(header(&call, "content-type"), "application/cloudevents+json");
    let event = body(&call);
    assert_eq!(event["specversion"], "1.0");
    assert_eq!(event["id"], header(&call, "webhook-id"));
    assert_eq!(event["source"], "aws:s3.us-east-1.hard-cases");
    assert_eq!(event["type"], "com.amazonaws.s3.ObjectCreated:Put");
    assert_eq!(event["subject"], "dir a/k\u{e9}y.txt");
    assert_eq!((&event["time"], &event["data"]), (&sent["eventTime"], &sent));
    assert!(call.checked.is_some_and(|checked| checked.is_good()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_cloudevents_format_has_its_attributes_in_headers() {
    let sent = created("dir a/k\u{e9}y.txt");
    let (_stand, call) = one(&[("POSTERN_FORMAT", "cloudevents-binary")], &sent).await;
    assert_eq!(header(&call, "content-type"), "application/json");
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-source", "aws:s3.us-east-1.hard-cases"),
        ("ce-type", "com.amazonaws.s3.ObjectCreated:Put"),
        ("ce-subject", "dir%20a/k%C3%A9y.txt"),
        ("ce-time", sent["eventTime"].as_str().expect("a time")),
    ] {
        assert_eq!(header(&call, name), value, "{name}");
    }
    assert_eq!(header(&call, "ce-id"), header(&call, "webhook-id"));
    assert_eq!(String::from_utf8_lossy(&call.body), sent.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_raw_format_is_the_record_alone() {
    let sent = created("a");
    let (_stand, call) = one(&[("POSTERN_FORMAT", "raw")], &sent).await;
    assert_eq!(header(&call, "content-type"), "application/json");
    assert_eq!(String::from_utf8_lossy(&call.body), sent.to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sns_format_is_the_notification_as_it_came() {
    let stand = Stand::start(&[("POSTERN_FORMAT", "sns")]).await;
    let envelope = stand.envelope(&[created("a")]);
    assert_eq!(stand.post(&envelope).await, 200, "{}", stand.log());
    let call = first(&stand, &stand.app).await;
    assert_eq!(String::from_utf8_lossy(&call.body), envelope.to_body(), "byte for byte: its signature can be checked");
    assert_eq!(header(&call, "x-amz-sns-message-type"), "Notification");
    assert_eq!(header(&call, "x-amz-sns-message-id"), envelope.message_id);
    assert_eq!(header(&call, "x-amz-sns-topic-arn"), envelope.topic_arn);
    assert!(call.checked.is_some_and(|checked| checked.is_good()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_cloudevents_in_one_callback_are_a_batch() {
    let batch = [("POSTERN_FORMAT", "cloudevents"), ("POSTERN_MAX_EVENTS_PER_CALLBACK", "20")];
    let stand = Stand::start(&batch).await;
    assert_eq!(stand.notify(&[created("a"), created("b"), created("c")]).await, 200, "{}", stand.log());
    let call = first(&stand, &stand.app).await;
    assert_eq!(header(&call, "content-type"), "application/cloudevents-batch+json");
    let subjects: Vec<String> =
        body(&call).as_array().expect("a batch").iter().map(|e| e["subject"].to_string()).collect();
    assert_eq!(subjects, ["\"a\"", "\"b\"", "\"c\""]);
}

/// Several records of one notification are several callbacks, in their order, where one event goes per callback.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_one_notification_are_events_of_their_own() {
    let stand = Stand::start(&[("POSTERN_CONCURRENCY", "1")]).await;
    assert_eq!(stand.notify(&[created("a"), created("b"), created("c")]).await, 200, "{}", stand.log());
    stand.delivered(&["a", "b", "c"]).await;
    let order: Vec<Vec<String>> = calls(&stand.app).iter().map(objects).collect();
    assert_eq!(order, [["a"], ["b"], ["c"]]);
}
