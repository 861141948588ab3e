use super::*;
use crate::event::{Event, EventType, Origin};
use crate::normalize::{self, Context};
use crate::record::{Dialect, Shape, parse_as};

/// As `s3-dialects.md` 2.7 shows it.
const UPLOAD: &str = r#"{"events":[{"accountId":"acct123","bucketId":"b1","bucketName":"my-bucket","eventId":"evt-1","eventTimestamp":1700000000000,"eventType":"b2:ObjectCreated:Upload","eventVersion":1,"matchedRuleName":"upload-rule","objectName":"photos/dog.jpg","objectSize":4096,"objectVersionId":"v-1"}]}"#;

fn records(message: &str) -> Vec<Result<Record<'_>, Malformed>> {
    match parse_as(Shape::B2, message).expect("a message") {
        Body::Records(records) => records,
        Body::TestEvent(test) => panic!("{test:?}"),
    }
}

fn one(message: &str) -> Record<'_> {
    records(message).remove(0).expect("a good record")
}

fn event(message: &str) -> Event {
    let context = Context {
        instance_id: "7",
        origin: Origin::S3http,
        dialect: Dialect::B2,
        topic: None,
        message_id: None,
        received_at: UnixMillis(1),
        notification: None,
    };
    normalize::event(&one(message), &context)
}

#[test]
fn an_upload_is_a_put_with_its_account_version_and_milliseconds() {
    let sent = UPLOAD.replace("1700000000000", "1700000000123");
    let record = one(&sent);
    assert_eq!(record.event_name, "ObjectCreated:Put");
    assert_eq!(record.event_time.as_deref(), Some("2023-11-14T22:13:20.123Z"));
    assert_eq!((record.bucket.as_ref(), record.key.as_ref()), ("my-bucket", "photos/dog.jpg"));
    assert_eq!((record.owner.as_deref(), record.version_id.as_deref()), (Some("acct123"), Some("v-1")));
    assert_eq!((record.size, record.request_id.as_deref()), (Some(4096), Some("evt-1")));
    assert_eq!(record.raw.get(), &sent[11..sent.len() - 2]);
    assert_eq!(event(&sent).time, UnixMillis(1_700_000_000_123));
}

#[test]
fn an_event_sent_again_is_the_same_and_another_events_id_makes_another() {
    let first = event(UPLOAD).id;
    assert_eq!(event(&UPLOAD.replace("upload-rule", "renamed-rule")).id, first);
    assert_ne!(event(&UPLOAD.replace("evt-1", "evt-2")).id, first);
    let bare = UPLOAD.replace(r#""eventId":"evt-1","eventTimestamp":1700000000000,"#, "");
    assert_eq!(event(&bare).id, event(&bare).id);
    assert_eq!(event(&bare).time, UnixMillis(1), "ours, where there is none");
}

#[test]
fn names_and_types_are_those_of_s3() {
    use EventType::{Created, Deleted, Unknown};
    for (sent, name, event_type) in [
        ("ObjectCreated:Upload", "ObjectCreated:Put", Created),
        ("ObjectCreated:MultipartUpload", "ObjectCreated:CompleteMultipartUpload", Created),
        ("ObjectCreated:Copy", "ObjectCreated:Copy", Created),
        ("ObjectCreated:Replica", "ObjectCreated:Replica", Created),
        ("ObjectCreated:MultipartReplica", "ObjectCreated:MultipartReplica", Created),
        ("ObjectCreated:Hide", "ObjectRemoved:DeleteMarkerCreated", Deleted),
        ("HideMarkerCreated:Hide", "ObjectRemoved:DeleteMarkerCreated", Deleted),
        ("HideMarkerCreated:LifecycleRule", "LifecycleExpiration:DeleteMarkerCreated", Deleted),
        ("ObjectDeleted:Delete", "ObjectRemoved:Delete", Deleted),
        ("ObjectDeleted:LifecycleRule", "LifecycleExpiration:Delete", Deleted),
        ("ObjectDeleted:Shredded", "ObjectRemoved:Shredded", Deleted),
        ("MultipartUploadCreated:LiveRead", "b2:MultipartUploadCreated:LiveRead", Unknown),
        ("Unheard", "b2:Unheard", Unknown),
    ] {
        let event = event(&UPLOAD.replace("ObjectCreated:Upload", sent));
        assert_eq!((event.event_name.as_str(), event.event_type), (name, event_type), "{sent}");
    }
}

#[test]
fn names_of_files_are_plain_and_absent_members_unsaid() {
    let made = event(&UPLOAD.replace("photos/dog.jpg", "a b+c%20.jpg"));
    assert_eq!((made.key.as_str(), made.raw_key), ("a b+c%20.jpg", None));
    let poor = r#"{"events":[{"bucketName":"b","eventType":"b2:ObjectDeleted:Delete","objectName":"k","objectSize":null,"objectVersionId":"","eventTimestamp":99999999999999999}]}"#;
    let record = one(poor);
    assert_eq!((record.size, record.version_id, record.event_time, record.owner), (None, None, None, None));
    assert_eq!(one(&UPLOAD.replace("4096", "\"4096\"")).size, Some(4096));
    assert_eq!(one(&UPLOAD.replace("4096", "0")).size, Some(0));
}

#[test]
fn a_test_event_is_heard_and_not_relayed() {
    let test = r#"{"accountId":"e85c","bucketId":"aea8","bucketName":"mine","eventTimestamp":1684793309123,"eventType":"b2:TestEvent","eventVersion":1,"matchedRuleName":"r","objectName":null}"#;
    for text in [format!(r#"{{"events":[{test}]}}"#), test.to_owned()] {
        match parse(&text).expect("a message") {
            Body::TestEvent(test) => assert_eq!(test.bucket, "mine"),
            Body::Records(records) => panic!("{records:?}"),
        }
    }
    let mixed = UPLOAD.replace("[{", &format!("[{test},{{"));
    assert_eq!(records(&mixed).len(), 1);
}

#[test]
fn a_batch_keeps_its_order_and_tells_its_bad_events_apart() {
    let bad = r#"{"eventType":"b2:ObjectCreated:Copy","bucketName":"b","objectName":""}"#;
    let twice = r#"{"eventType":"b2:ObjectCreated:Copy","bucketName":"b","objectName":"x","objectName":"y"}"#;
    let newer = r#"{"eventType":"b2:ObjectCreated:Copy","bucketName":"b","objectName":"x","eventVersion":2}"#;
    let text = UPLOAD.replace("[{", &format!("[{bad},{twice},{newer},{{"));
    let records = records(&text);
    assert_eq!(records.len(), 4);
    assert!(matches!(records[0], Err(Malformed::BadRecord { index: 0, .. })));
    assert!(matches!(records[1], Err(Malformed::BadRecord { index: 1, .. })));
    assert!(matches!(records[2], Err(Malformed::BadRecord { index: 2, .. })));
    assert!(records[3].is_ok());
}

#[test]
fn other_json_is_no_event_of_b2() {
    let tigris = r#"{"events":[{"eventVersion":"1","eventSource":"tigris","eventName":"OBJECT_CREATED_PUT","bucket":"b","object":{"key":"k"}}]}"#;
    let records =
        r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#;
    for text in [tigris, records, "{}", r#"{"eventType":"b2:ObjectCreated:Upload"}"#] {
        assert!(matches!(parse(text), Err(Malformed::NotS3(_))), "{text}");
    }
    assert!(matches!(parse("[]"), Err(Malformed::NotJson(_))));
    assert!(matches!(parse(r#"{"events":[]}"#), Err(Malformed::NoRecords)));
    assert!(matches!(parse(r#"{"events":{}}"#), Err(Malformed::BadShape(_))));
    assert!(matches!(parse(r#"{"events":[],"events":[]}"#), Err(Malformed::BadShape(_))));
    assert_eq!(parse(&format!(r#"{{"events":{}}}"#, "[".repeat(300))).err(), Some(Malformed::TooDeep));
    let many = format!(r#"{{"events":[{}0]}}"#, "0,".repeat(2000));
    assert_eq!(parse(&many).err(), Some(Malformed::TooManyRecords));
}
