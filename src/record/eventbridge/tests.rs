use super::*;
use crate::clock::UnixMillis;
use crate::event::{Event, EventType, Origin, Sequencer};
use crate::normalize::{self, Context};
use crate::record::{Dialect, Shape, parse_as};

/// As `s3-dialects.md` 3.5 shows it.
const CREATED: &str = r#"{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created","source":"aws.s3","account":"111122223333","time":"2021-11-12T00:00:00Z","region":"ca-central-1","resources":["arn:aws:s3:::DOC-EXAMPLE-BUCKET1"],
"detail":{"version":"0","bucket":{"name":"DOC-EXAMPLE-BUCKET1"},"object":{"key":"example-key","size":5,"etag":"b1946ac92492d2347c6235b4d2611184","version-id":"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e","sequencer":"617f08299329d189"},
"request-id":"N4N7GDK58NMKJ12R","requester":"123456789012","source-ip-address":"1.2.3.4","reason":"PutObject"}}"#;

fn one(message: &str) -> Record<'_> {
    match parse_as(Shape::EventBridge, message).expect("an event") {
        Body::Records(mut records) if records.len() == 1 => records.remove(0).expect("a good record"),
        other => panic!("{other:?}"),
    }
}

fn event(message: &str) -> Event {
    let context = Context {
        instance_id: "7",
        origin: Origin::S3http,
        dialect: Dialect::EVENTBRIDGE,
        topic: None,
        message_id: None,
        received_at: UnixMillis(1),
        notification: None,
    };
    normalize::event(&one(message), &context)
}

fn refused(message: &str) -> Malformed {
    parse(message).expect_err("malformed")
}

#[test]
fn an_event_is_one_record_with_the_whole_event_as_its_text() {
    let padded = format!("\n {CREATED} \r\n");
    let record = one(&padded);
    assert_eq!(record.raw.get(), CREATED);
    assert_eq!(record.event_name, "ObjectCreated:Put");
    assert_eq!(record.event_time.as_deref(), Some("2021-11-12T00:00:00Z"));
    assert_eq!(record.region.as_deref(), Some("ca-central-1"));
    assert_eq!(record.request_id.as_deref(), Some("N4N7GDK58NMKJ12R"));
    assert_eq!((record.bucket.as_ref(), record.key.as_ref()), ("DOC-EXAMPLE-BUCKET1", "example-key"));
    assert_eq!(record.version_id.as_deref(), Some("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"));
    assert_eq!(record.e_tag.as_deref(), Some("b1946ac92492d2347c6235b4d2611184"));
    assert_eq!(record.size, Some(5));
    assert_eq!(record.sequencer, Some(SentSequencer::Text("617f08299329d189".into())));
    assert_eq!(id(CREATED).as_deref(), Some("17793124-05d4-b198-2fde-7ededc63b103"));
}

#[test]
fn its_event_has_the_seconds_the_raw_key_and_a_comparable_sequencer() {
    let made = event(&CREATED.replace("example-key", "a b+c%20/п.jpg"));
    assert_eq!(made.key, "a b+c%20/п.jpg");
    assert_eq!(made.raw_key, None);
    assert_eq!(Some(made.time), UnixMillis::parse_rfc3339("2021-11-12T00:00:00Z"));
    assert_eq!(made.sequencer, Some(Sequencer::Aws("617f08299329d189".to_owned())));
    let again = CREATED.replace("17793124", "00000000").replace("\"version\":\"0\"", "\"version\":\"1\"");
    assert_eq!(event(&again).id, event(CREATED).id, "the same change, announced again");
    assert_ne!(event(&CREATED.replace("d189", "d190")).id, event(CREATED).id);
}

#[test]
fn names_and_types_are_those_of_s3s_own_notifications() {
    use EventType::{Created, Deleted, Unknown, Updated};
    let lifecycle = "Lifecycle Expiration";
    for (kind, reason, deletion, name, event_type) in [
        ("Object Created", "PutObject", "", "ObjectCreated:Put", Created),
        ("Object Created", "POST Object", "", "ObjectCreated:Post", Created),
        ("Object Created", "CopyObject", "", "ObjectCreated:Copy", Created),
        ("Object Created", "CompleteMultipartUpload", "", "ObjectCreated:CompleteMultipartUpload", Created),
        ("Object Created", "RenameObject", "", "ObjectCreated:RenameObject", Created),
        ("Object Created", "", "", "ObjectCreated:Unknown", Created),
        ("Object Deleted", "DeleteObject", "Permanently Deleted", "ObjectRemoved:Delete", Deleted),
        ("Object Deleted", "DeleteObject", "Delete Marker Created", "ObjectRemoved:DeleteMarkerCreated", Deleted),
        ("Object Deleted", "", "", "ObjectRemoved:Delete", Deleted),
        ("Object Deleted", "DeleteObject", "Shredded", "ObjectRemoved:Shredded", Deleted),
        ("Object Deleted", lifecycle, "Permanently Deleted", "LifecycleExpiration:Delete", Deleted),
        ("Object Deleted", lifecycle, "Delete Marker Created", "LifecycleExpiration:DeleteMarkerCreated", Deleted),
        ("Object Restore Initiated", "", "", "ObjectRestore:Post", Updated),
        ("Object Restore Completed", "", "", "ObjectRestore:Completed", Updated),
        ("Object Restore Expired", "", "", "ObjectRestore:Delete", Updated),
        ("Object Storage Class Changed", "", "", "LifecycleTransition", Updated),
        ("Object Access Tier Changed", "", "", "IntelligentTiering", Updated),
        ("Object Tags Added", "", "", "ObjectTagging:Put", Updated),
        ("Object Tags Deleted", "", "", "ObjectTagging:Delete", Updated),
        ("Object ACL Updated", "", "", "ObjectAcl:Put", Updated),
        ("Object Annotated", "", "", "EventBridge:Object Annotated", Unknown),
        ("ObjectCreated:Put", "", "", "EventBridge:ObjectCreated:Put", Unknown),
    ] {
        let text = CREATED
            .replace("Object Created", kind)
            .replace("\"PutObject\"", &format!("\"{reason}\",\"deletion-type\":\"{deletion}\""));
        let event = event(&text);
        assert_eq!((event.event_name.as_str(), event.event_type), (name, event_type), "{kind} {reason} {deletion}");
    }
}

#[test]
fn what_newer_and_poorer_events_say_is_read() {
    let newer = CREATED
        .replace(r#""detail":{"version":"0""#, r#""detail":{"version":"0","event-version":"1.1""#)
        .replace(r#"BUCKET1"},"#, r#"BUCKET1","aws-generated-tags":{"aws:cloudformation:stack-name":"x"}},"#);
    assert_eq!(one(&newer).size, Some(5));
    let poor = r#"{"source":"aws.s3","detail-type":"Object Deleted","time":null,"detail":{"bucket":{"name":"b"},
        "object":{"key":"k","size":"7","etag":"\"e\"","version-id":"","sequencer":null},"requester":"s3.amazonaws.com"}}"#;
    let record = one(poor);
    assert_eq!((record.event_time, record.region, record.request_id, record.version_id), (None, None, None, None));
    assert_eq!((record.size, record.e_tag.as_deref(), record.sequencer), (Some(7), Some("e"), None));
}

#[test]
fn another_services_event_and_other_json_are_no_s3_event() {
    for text in [
        CREATED.replace("aws.s3", "aws.ec2"),
        CREATED.replace("aws.s3", "my.s3"),
        CREATED.replace(r#""source":"aws.s3""#, r#""source":7"#),
        r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#
            .to_owned(),
        r#"{"source":"my.app","detail":["anything",{"bucket":1}]}"#.to_owned(),
        "{}".to_owned(),
    ] {
        assert!(matches!(refused(&text), Malformed::NotS3(_)), "{text}");
        assert!(!is_eventbridge(&text), "{text}");
    }
    for text in ["", "[]", "\"aws.s3\"", "{\"source\":", "aws.s3"] {
        assert!(matches!(refused(text), Malformed::NotJson(_)), "{text}");
        assert!(!is_eventbridge(text) && id(text).is_none(), "{text}");
    }
}

#[test]
fn an_event_of_s3_that_is_not_clear_is_set_aside_and_not_foreign() {
    for text in [
        CREATED.replace(r#""key":"example-key""#, r#""key":"""#),
        CREATED.replace(r#""key":"example-key""#, r#""key":["k"]"#),
        CREATED.replace(r#"{"name":"DOC-EXAMPLE-BUCKET1"}"#, "null"),
        CREATED.replace(r#""Object Created""#, "null"),
        CREATED.replace(r#""detail":{"#, r#""other":{"#),
        CREATED.replace(r#""key":"example-key""#, r#""key":"a","key":"b""#),
        r#"{"source":"aws.s3","detail-type":"Object Created","detail":[]}"#.to_owned(),
    ] {
        let malformed = refused(&text);
        assert!(matches!(malformed, Malformed::BadRecord { index: 0, .. }), "{text}: {malformed}");
    }
    for text in [
        CREATED.replace(r#""source":"aws.s3""#, r#""source":"aws.s3","source":"aws.s3""#),
        CREATED.replace(r#""time":"#, r#""detail-type":"Object Deleted","time":"#),
    ] {
        let malformed = refused(&text);
        assert!(matches!(malformed, Malformed::BadShape(_)), "{text}: {malformed}");
        assert!(!malformed.is_foreign());
    }
    let version = CREATED.replace(r#""detail":{"version":"0""#, r#""detail":{"event-version":"9.0""#);
    assert!(matches!(refused(&version), Malformed::UnsupportedVersion { .. }));
    let deep = CREATED.replace(r#""version":"0","id""#, &format!(r#""x":{}{},"id""#, "[".repeat(200), "]".repeat(200)));
    assert_eq!(refused(&deep), Malformed::TooDeep);
    assert!(!is_eventbridge(&deep));
}

#[test]
fn the_shape_is_recognised_by_source_and_detail_alone() {
    assert!(is_eventbridge(CREATED));
    assert!(
        is_eventbridge(&format!("  {}", CREATED.replace(r#""key":"example-key""#, r#""key":7"#))),
        "even if it is bad"
    );
    assert!(!is_eventbridge(&CREATED.replace(r#""detail":{"#, r#""other":{"#)));
    assert!(!is_eventbridge(r#"{"source":"aws.s3","detail":"text"}"#));
}
