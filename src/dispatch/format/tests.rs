use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::clock::UnixMillis;
use crate::config::{CallbackUrl, ObjectFilter};
use crate::event::{EventId, Origin};
use crate::normalize::{self, Context};
use crate::queue::Owed;
use crate::record::{self, Body, Dialect};

fn instance() -> Instance {
    Instance {
        name: "photos".into(),
        id: 8_948_659,
        account_id: 643,
        company_id: 280,
        user_id: 2374,
        element_key: "amazons3".to_owned(),
        mcs_element_key: "mcss3".into(),
        tags: vec!["Demoday".to_owned()],
        enabled: true,
        topics: Vec::new(),
        mcs_topics: Vec::new(),
        s3http: None,
        sqs: None,
        listing: None,
        callback: CallbackUrl::Unix { socket: "/run/app.sock".into(), path: "/".to_owned() },
        signature_keys: Vec::new(),
        headers: Vec::new(),
        basic: None,
        objects: ObjectFilter::default(),
        filter_nulls: None,
        validate: false,
        credentials: None,
        bucket: None,
        region: None,
        buckets: Vec::new(),
    }
}

const RECEIVED: UnixMillis = UnixMillis(1_582_303_421_250);

fn context() -> Context<'static> {
    Context {
        instance_id: "8948659",
        origin: Origin::Sns,
        dialect: Dialect::AWS,
        topic: Some("arn:aws:sns:us-east-1:123456789012:t"),
        message_id: Some("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"),
        received_at: RECEIVED,
        notification: None,
    }
}

fn record_text(name: &str, key: &str) -> String {
    format!(
        r#"{{"eventVersion":"2.1", "eventSource":"aws:s3","awsRegion":"us-east-1","eventTime":"2020-02-21T16:43:39.900Z","eventName":"{name}","n":null,"s3":{{"bucket":{{"name":"b","arn":null}},"object":{{"key":{},"sequencer":"0055"}}}}}}"#,
        Value::from(key)
    )
}

fn event(name: &str, key: &str) -> Event {
    let text = format!(r#"{{"Records":[{}]}}"#, record_text(name, key));
    match record::parse(&text).expect("a message") {
        Body::Records(records) => normalize::event(records[0].as_ref().expect("a record"), &context()),
        Body::TestEvent(test) => panic!("{test:?}"),
    }
}

fn claim(events: Vec<Event>) -> Claim {
    Claim {
        token: 1,
        instance: "photos".into(),
        delivery_id: EventId([1; 15]),
        items: events
            .into_iter()
            .enumerate()
            .map(|(n, event)| {
                Arc::new(Owed {
                    seq: 69_182_068 + n as u64,
                    accepted_at: RECEIVED,
                    paused_at_accept: Duration::ZERO,
                    event,
                })
            })
            .collect(),
        attempts: 0,
        first_failed_at: None,
    }
}

fn text(encoded: &Encoded) -> &str {
    std::str::from_utf8(&encoded.body).expect("UTF-8")
}

fn json(encoded: &Encoded) -> Value {
    serde_json::from_slice(&encoded.body).expect("JSON")
}

fn header<'a>(encoded: &'a Encoded, name: &str) -> Option<&'a str> {
    encoded.headers.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v.to_str().expect("ASCII"))
}

#[test]
fn the_cloud_elements_envelope_is_exactly_the_published_one() {
    let encoded = encode(Format::CloudElements, &instance(), &claim(vec![event("ObjectCreated:Put", "a+b/c")]));
    let expected = format!(
        concat!(
            r#"{{"severity":"medium","createdDate":"Fri Feb 21 16:43:41 UTC 2020","topic":"instance-8948659-amazons3-events","#,
            r#""action":"create","id":"69182068","message":{{"elementKey":"amazons3","accountId":643,"#,
            r#""eventId":"AQEBAQEBAQEBAQEBAQEB","companyId":280,"instanceId":8948659,"instance_id":8948659,"#,
            r#""instanceName":"photos","instanceTags":["Demoday"],"raw":{{"Records":[{}]}},"userId":2374,"#,
            r#""events":[{{"date":"2020-02-21T16:43:39Z","elementKey":"amazons3","eventType":"CREATED","hubKey":"documents","#,
            r#""objectId":"a b/c","objectType":"file","newPath":"/a b/c"}}]}},"user":"notifications@cloud-elements.com"}}"#
        ),
        record_text("ObjectCreated:Put", "a+b/c")
    );
    assert_eq!(text(&encoded), expected);
    assert_eq!(encoded.content_type, "application/json");
    assert!(encoded.headers.is_empty());
}

#[test]
fn only_a_created_object_has_a_new_path_and_only_a_listed_one_a_poll_date() {
    let mut polled = event("ObjectRemoved:Delete", "folder/");
    polled.poll_date = Some(UnixMillis(RECEIVED.0 + 1000));
    let body = json(&encode(Format::CloudElements, &instance(), &claim(vec![polled, event("ObjectTagging:Put", "k")])));
    let events = body["message"]["events"].as_array().expect("events");
    assert_eq!(events[0]["objectType"], "folder");
    assert_eq!(events[0]["pollDate"], "2020-02-21T16:43:42Z");
    assert_eq!(events[1].get("pollDate"), None);
    assert!(events.iter().all(|event| event.get("newPath").is_none()));
    assert_eq!(body["message"]["raw"]["Records"].as_array().expect("records").len(), 2);
    assert_eq!(body["id"], "69182068", "a batch has the number of its first event");
}

#[test]
fn null_members_go_only_when_asked_and_from_every_format_but_the_notification() {
    let claim = claim(vec![event("ObjectCreated:Put", "k")]);
    for format in [Format::CloudElements, Format::CloudEvents, Format::CloudEventsBinary, Format::Raw] {
        for (asked, nulls) in [(None, 2), (Some(false), 2), (Some(true), 0)] {
            let encoded = encode(format, &Instance { filter_nulls: asked, ..instance() }, &claim);
            assert_eq!(text(&encoded).matches("null").count(), nulls, "{format:?} {asked:?}");
        }
    }
}

#[test]
fn a_structured_cloudevent_has_the_attributes_of_the_s3_adapter() {
    let event = event("ObjectCreated:Put", "a+b/c");
    let id = event.id.to_string();
    let encoded = encode(Format::CloudEvents, &instance(), &claim(vec![event]));
    assert_eq!(encoded.content_type, "application/cloudevents+json");
    assert!(text(&encoded).contains(&format!(r#""data":{}"#, record_text("ObjectCreated:Put", "a+b/c"))));
    let body = json(&encoded);
    for (attribute, value) in [
        ("specversion", "1.0"),
        ("id", &*id),
        ("source", "aws:s3.us-east-1.b"),
        ("type", "com.amazonaws.s3.ObjectCreated:Put"),
        ("subject", "a b/c"),
        ("time", "2020-02-21T16:43:39.900Z"),
        ("datacontenttype", "application/json"),
    ] {
        assert_eq!(body[attribute], value);
    }
}

#[test]
fn several_cloudevents_are_a_batch_also_in_binary_mode_which_has_none() {
    let claim = claim(vec![event("ObjectCreated:Put", "a"), event("ObjectCreated:Put", "b")]);
    let encoded = encode(Format::CloudEvents, &instance(), &claim);
    assert_eq!(encoded.content_type, "application/cloudevents-batch+json");
    let body = json(&encoded);
    assert_eq!((&body[0]["subject"], &body[1]["subject"]), (&"a".into(), &"b".into()));
    assert_eq!(encode(Format::CloudEventsBinary, &instance(), &claim), encoded, "no event is left out");
}

#[test]
fn a_binary_cloudevent_has_header_values_for_every_key() {
    for (key, subject) in [
        ("a+b/c", "a%20b/c"),
        ("%D0%BF", "%D0%BF"),
        ("%22100%25%22", "%22100%25%22"),
        // A line break becomes %0A in the attribute, and its percent sign %25 in the header.
        ("a%0Ab%25", "a%250Ab%2525"),
        ("%7F", "%257F"),
        ("%C2%85", "%25C2%2585"),
    ] {
        let encoded = encode(Format::CloudEventsBinary, &instance(), &claim(vec![event("ObjectCreated:Put", key)]));
        assert_eq!(header(&encoded, "ce-subject"), Some(subject), "{key}");
        assert_eq!(header(&encoded, "ce-type"), Some("com.amazonaws.s3.ObjectCreated:Put"));
        assert_eq!(header(&encoded, "ce-source"), Some("aws:s3.us-east-1.b"));
        assert_eq!(header(&encoded, "ce-specversion"), Some("1.0"));
        assert_eq!(header(&encoded, "ce-time"), Some("2020-02-21T16:43:39.900Z"));
        assert_eq!(text(&encoded), record_text("ObjectCreated:Put", key));
        assert_eq!(encoded.content_type, "application/json");
    }
}

#[test]
fn a_producers_odd_names_still_make_valid_attributes() {
    let mut event = event("ObjectCreated:Put\\n\\u0001 é", "k");
    event.raw = RawValue::from_string(r#"{"eventSource":"My NooBaa {1}:s3"}"#.to_owned()).expect("JSON");
    event.region = None;
    let encoded = encode(Format::CloudEventsBinary, &instance(), &claim(vec![event]));
    assert_eq!(header(&encoded, "ce-source"), Some("My%2520NooBaa%2520%257B1%257D:s3.b"));
    assert_eq!(header(&encoded, "ce-type"), Some("com.amazonaws.s3.ObjectCreated:Put%250A%2501%20%C3%A9"));
}

#[test]
fn a_generic_event_is_a_cloudevent_of_its_topic() {
    let event = normalize::generic("hello", &context());
    let body = json(&encode(Format::CloudEvents, &instance(), &claim(vec![event])));
    assert_eq!(body["type"], "com.amazonaws.sns.notification");
    assert_eq!(body["source"], "arn:aws:sns:us-east-1:123456789012:t");
    assert_eq!(body["subject"], "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324");
    assert_eq!(body["data"], "hello");
}

#[test]
fn raw_is_the_record_alone_or_several_under_records() {
    let record = |key| record_text("ObjectCreated:Put", key);
    let one = encode(Format::Raw, &instance(), &claim(vec![event("ObjectCreated:Put", "a")]));
    assert_eq!(text(&one), record("a"));
    let two = claim(vec![event("ObjectCreated:Put", "a"), event("ObjectCreated:Put", "b")]);
    assert_eq!(
        text(&encode(Format::Raw, &instance(), &two)),
        format!(r#"{{"Records":[{},{}]}}"#, record("a"), record("b"))
    );
    assert_eq!(encode(Format::Sns, &instance(), &two), encode(Format::Raw, &instance(), &two));
}

/// The callback of a MinIO event said that it came from the topic `s3http`: an app that has SNS's library looked for a signature.
#[test]
fn sns_names_no_topic_where_none_published() {
    let mut event = event("ObjectCreated:Put", "a");
    event.notification = Some(r#"{"Records":[{}]}"#.into());
    for (origin, topic, expected) in [
        (Origin::Mcs, "mcs", Some("Notification")),
        (Origin::S3http, "s3http", None),
        (Origin::Sqs, "arn:aws:sqs:us-east-1:123456789012:q", None),
        (Origin::S3http, "arn:aws:sns:us-east-1:123456789012:t", Some("Notification")),
    ] {
        (event.origin, event.topic) = (origin, Some(topic.to_owned()));
        let encoded = encode(Format::Sns, &instance(), &claim(vec![event.clone()]));
        assert_eq!(text(&encoded), r#"{"Records":[{}]}"#);
        assert_eq!(header(&encoded, "x-amz-sns-message-type"), expected, "{topic}");
        let is_arn = topic.contains(":sns:");
        assert_eq!(header(&encoded, "x-amz-sns-topic-arn"), is_arn.then_some(topic));
        assert_eq!(header(&encoded, "x-amz-sns-message-id").is_some(), is_arn);
    }
}

#[test]
fn sns_is_the_notification_as_it_came_or_else_the_record() {
    let mut event = event("ObjectCreated:Put", "a");
    let without = encode(Format::Sns, &instance(), &claim(vec![event.clone()]));
    assert_eq!(text(&without), record_text("ObjectCreated:Put", "a"));
    assert!(without.headers.is_empty());
    let notification = "{\n  \"Type\" : \"Notification\", \"Subject\" : null }";
    event.notification = Some(notification.into());
    let with = encode(Format::Sns, &Instance { filter_nulls: Some(true), ..instance() }, &claim(vec![event]));
    assert_eq!(text(&with), notification);
    assert_eq!(header(&with, "x-amz-sns-message-type"), Some("Notification"));
    assert_eq!(header(&with, "x-amz-sns-message-id"), Some("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"));
    assert_eq!(header(&with, "x-amz-sns-topic-arn"), Some("arn:aws:sns:us-east-1:123456789012:t"));
}

#[test]
fn formats_that_describe_one_thing_do_not_batch() {
    assert_eq!(Format::CloudElements.max_events(), 20);
    assert_eq!(Format::CloudEventsBinary.max_events(), 1);
    assert_eq!(Format::Sns.max_events(), 1);
}

/// Whether an object anywhere in `value` has a null member.
fn has_null_member(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.values().any(|v| v.is_null() || has_null_member(v)),
        Value::Array(items) => items.iter().any(has_null_member),
        _ => false,
    }
}

proptest! {
    #[test]
    fn every_event_is_encoded_in_every_format_the_same_way_each_time(
        key in "\\PC{0,12}|[\\x00-\\x7f]{1,12}|.{1,12}", bucket in ".{0,6}", name in ".{0,12}",
        region in prop::option::of(".{0,6}"), raw in normalize::tests::arbitrary_json(), asked in any::<Option<bool>>()
    ) {
        let mut event = event("ObjectCreated:Put", "k");
        event.raw = RawValue::from_string(raw.to_string()).expect("JSON");
        (event.key, event.bucket, event.event_name, event.region) = (key.clone(), bucket, name, region);
        let instance = Instance { filter_nulls: asked, ..instance() };
        for events in [vec![event.clone()], vec![event.clone(), event]] {
            let claim = claim(events);
            for format in [Format::CloudElements, Format::CloudEvents, Format::CloudEventsBinary, Format::Raw, Format::Sns] {
                let encoded = encode(format, &instance, &claim);
                prop_assert_eq!(&encoded, &encode(format, &instance, &claim));
                let body = json(&encoded);
                if asked == Some(true) {
                    prop_assert!(!has_null_member(&body));
                }
                if format == Format::CloudElements {
                    prop_assert_eq!(&body["message"]["events"][0]["objectId"], &Value::from(key.clone()));
                }
                if format == Format::CloudEventsBinary && claim.items.len() == 1 {
                    let required = ["ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"];
                    prop_assert!(required.iter().all(|name| header(&encoded, name).is_some_and(|v| !v.is_empty())));
                }
            }
        }
    }
}
