use proptest::prelude::*;

use super::*;
use crate::record::{Body, parse};

const CONTEXT: Context<'static> = Context {
    instance_id: "7",
    origin: Origin::Sns,
    dialect: Dialect::AWS,
    topic: Some("arn:aws:sns:us-east-1:123456789012:t"),
    message_id: Some("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"),
    received_at: UnixMillis(1_700_000_000_000),
    notification: None,
};

const TOP: &str = r#""eventVersion":"2.1","awsRegion":"us-east-1","eventTime":"2024-05-24T19:36:44.379Z","responseElements":{"x-amz-request-id":"R1"}"#;

fn message(name: &str, object: &str) -> String {
    format!(r#"{{"Records":[{{{TOP},"eventName":"{name}","s3":{{"bucket":{{"name":"b"}},"object":{{{object}}}}}}}]}}"#)
}

fn of(message: &str, context: &Context<'_>) -> Event {
    match parse(message).expect("a message") {
        Body::Records(records) => event(records[0].as_ref().expect("a record"), context),
        Body::TestEvent(test) => panic!("{test:?}"),
    }
}

fn put(object: &str) -> Event {
    of(&message("ObjectCreated:Put", object), &CONTEXT)
}

#[test]
fn the_identity_is_laid_out_as_documented() {
    let event = put(r#""key":"a+b","versionId":"v","eTag":"e","sequencer":"0055""#);
    let mut bytes = Vec::new();
    for field in ["7", "b", "a b", "v", "ObjectCreated:Put", "e", "S", "0055"] {
        bytes.extend_from_slice(&(field.len() as u32).to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    let hash = digest::digest(&digest::SHA256, &bytes);
    assert_eq!(event.id.0, hash.as_ref()[..15]);
    assert_eq!(event.id.to_string().len(), 20);
}

#[test]
fn a_change_announced_again_is_the_same_event() {
    let object = r#""key":"k","eTag":"e","sequencer":"0055""#;
    let first = put(object);
    let again = Context { message_id: Some("other"), received_at: UnixMillis(1), topic: None, ..CONTEXT };
    let text = message("s3:ObjectCreated:Put", object)
        .replace("R1", "R2")
        .replace("44.379Z", "45.000Z")
        .replace(r#""awsRegion""#, r#""new":{"x":[1]},"awsRegion""#);
    assert_eq!(of(&text, &again).id, first.id);
}

#[test]
fn each_part_of_the_identity_tells_events_apart() {
    let base = r#""key":"k","versionId":"v","eTag":"e","sequencer":"0055""#;
    let mut ids = vec![
        put(base).id,
        put(&base.replace("\"k\"", "\"l\"")).id,
        put(&base.replace("\"v\"", "\"w\"")).id,
        put(&base.replace("\"e\"", "\"f\"")).id,
        put(&base.replace("0055", "0056")).id,
        of(&message("ObjectCreated:Copy", base), &CONTEXT).id,
        of(&message("ObjectCreated:Put", base).replace(r#""name":"b""#, r#""name":"c""#), &CONTEXT).id,
        of(&message("ObjectCreated:Put", base), &Context { instance_id: "8", ..CONTEXT }).id,
        // A value that moves to the neighbouring field is another event.
        put(r#""key":"kv","versionId":"","eTag":"e","sequencer":"0055""#).id,
        put(r#""key":"k","versionId":"","eTag":"ve","sequencer":"0055""#).id,
    ];
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[test]
fn without_a_reliable_sequencer_time_and_request_tell_changes_apart() {
    let object = r#""key":"k","sequencer":"0055AED6DCD90281E3""#;
    let localstack = Context { dialect: Dialect::LOCALSTACK, ..CONTEXT };
    let text = message("ObjectCreated:Put", object);
    let first = of(&text, &localstack).id;
    assert_eq!(of(&text, &localstack).id, first);
    assert_ne!(of(&text.replace("R1", "R2"), &localstack).id, first);
    assert_ne!(of(&text.replace("44.379Z", "45.379Z"), &localstack).id, first);
    assert_eq!(of(&text.replace("E3\"", "E4\""), &localstack).id, first, "its sequencer says nothing");
    // With Amazon's kind it is the other way round.
    assert_eq!(of(&text.replace("R1", "R2"), &CONTEXT).id, of(&text, &CONTEXT).id);
}

#[test]
fn with_nothing_else_the_raw_record_tells_changes_apart() {
    let text = message("ObjectTagging:Put", r#""key":"k""#)
        .replace(r#""eventTime":"2024-05-24T19:36:44.379Z","responseElements":{"x-amz-request-id":"R1"}"#, r#""n":1"#);
    let first = of(&text, &CONTEXT).id;
    assert_eq!(of(&text, &CONTEXT).id, first);
    assert_ne!(of(&text.replace(r#""n":1"#, r#""n":2"#), &CONTEXT).id, first, "in doubt a duplicate, never a drop");
}

#[test]
fn event_names_map_to_the_four_types() {
    use EventType::{Created, Deleted, Unknown, Updated};
    for (name, expected) in [
        ("ObjectCreated:Put", Created),
        ("ObjectCreated:Post", Created),
        ("ObjectCreated:Copy", Created),
        ("ObjectCreated:CompleteMultipartUpload", Created),
        ("ObjectCreated:SomethingNew", Created),
        ("ObjectCreated:PutTagging", Updated),
        ("ObjectRemoved:Delete", Deleted),
        ("ObjectRemoved:DeleteMarkerCreated", Deleted),
        ("LifecycleExpiration:Delete", Deleted),
        ("LifecycleExpiration:DeleteMarkerCreated", Deleted),
        ("ObjectLifecycle:Expiration:Current", Deleted),
        ("ObjectLifecycle:Transition:Current", Updated),
        ("ObjectRestore:Post", Updated),
        ("ObjectRestore:Completed", Updated),
        ("ObjectRestore:Delete", Updated),
        ("Replication:OperationFailedReplication", Updated),
        ("LifecycleTransition", Updated),
        ("IntelligentTiering", Updated),
        ("s3:IntelligentTiering:TransitionAccess", Updated),
        ("ObjectAcl:Put", Updated),
        ("ObjectTagging:Put", Updated),
        ("ObjectTagging:Delete", Updated),
        ("ObjectAnnotation:Put", Updated),
        ("ObjectRetention:Put", Updated),
        ("ReducedRedundancyLostObject", Unknown),
        ("ObjectAccessed:Get", Unknown),
        ("ObjectCreatedX:Put", Unknown),
        ("BucketCreated:*", Unknown),
        ("S3:ObjectCreated:Put", Unknown),
    ] {
        assert_eq!(of(&message(name, r#""key":"k""#), &CONTEXT).event_type, expected, "{name}");
    }
}

#[test]
fn a_key_that_cannot_be_decoded_goes_on_as_sent_and_never_supersedes() {
    let event = put(r#""key":"%zz/","sequencer":"0055""#);
    assert_eq!((event.key.as_str(), event.raw_key.as_deref()), ("%zz/", None));
    assert_eq!(event.sequencer, None);
    let event = put(r#""key":"photos%2F2024+05/","sequencer":"0055""#);
    assert_eq!(event.key, "photos/2024 05/");
    assert_eq!(event.raw_key.as_deref(), Some("photos%2F2024+05/"));
    assert_eq!(event.object_type, ObjectType::Folder);
    assert_eq!(event.sequencer, Some(Sequencer::Aws("0055".into())));
}

#[test]
fn the_producers_time_is_kept_and_ours_stands_in_where_there_is_none() {
    let time = |sent: &str| {
        of(&message("ObjectCreated:Put", r#""key":"k""#).replace("2024-05-24T19:36:44.379Z", sent), &CONTEXT).time
    };
    assert_eq!(time("2024-05-24T22:36:44+03:00"), UnixMillis::parse_rfc3339("2024-05-24T19:36:44Z").expect("a time"));
    assert_eq!(time("2024-02-15T10:34:23.904497Z").0 % 1000, 904);
    assert_eq!(time("yesterday"), CONTEXT.received_at);
    assert_eq!(time(""), CONTEXT.received_at);
}

#[test]
fn a_generic_event_carries_json_as_json_and_text_as_a_string() {
    let json = generic(" {\"a\": null, \"n\": 1e400} ", &CONTEXT);
    assert_eq!(json.raw.get(), "{\"a\": null, \"n\": 1e400}");
    assert_eq!(json.key, CONTEXT.message_id.expect("an id"));
    assert_eq!((json.bucket.as_str(), json.event_type), ("", EventType::Unknown));
    assert_eq!(generic("a \"b\"\n", &CONTEXT).raw.get(), r#""a \"b\"\n""#);
    assert_eq!(generic("{\"a\":", &CONTEXT).raw.get(), r#""{\"a\":""#);
    assert!(generic(&"[".repeat(5000), &CONTEXT).raw.get().starts_with('"'));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(generic(&deep, &CONTEXT).raw.get().starts_with('"'), "an app could not read it as JSON");
    assert_ne!(json.id, generic("other", &CONTEXT).id);
}

/// Any JSON, with the members of a record likelier than others.
pub(crate) fn arbitrary_json() -> impl Strategy<Value = serde_json::Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "Records",
            "s3",
            "bucket",
            "object",
            "key",
            "name",
            "eventName",
            "eventVersion",
            "eventTime",
            "sequencer",
            "size",
            "versionId",
            "eTag",
            "responseElements",
            "x-amz-request-id",
            "awsRegion",
            "Event",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        prop::sample::select(vec!["s3:ObjectCreated:Put", "2.1", "%zz", "s3:TestEvent", "a+b/", ""])
            .prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_without_panic(text in ".{0,200}") {
        drop(parse(&text));
        drop(generic(&text, &CONTEXT));
    }

    #[test]
    fn any_json_is_parsed_or_refused_without_panic(records in prop::collection::vec(arbitrary_json(), 0..3)) {
        let text = serde_json::json!({ "Records": records }).to_string();
        if let Ok(Body::Records(records)) = parse(&text) {
            for record in records.into_iter().flatten() {
                let made = event(&record, &CONTEXT);
                prop_assert_eq!(made.raw.get(), record.raw.get());
            }
        }
    }

    #[test]
    fn any_object_of_a_record_gives_an_event_with_the_records_text(extra in arbitrary_json(), sequencer in arbitrary_json(), key in ".{1,20}") {
        let record = serde_json::json!({ "eventName": "ObjectCreated:Put", "extra": extra,
            "s3": { "bucket": { "name": "b" }, "object": { "key": key, "sequencer": sequencer } } });
        let text = serde_json::json!({ "Records": [record] }).to_string();
        let made = of(&text, &CONTEXT);
        prop_assert_eq!(made.raw.get(), record.to_string());
    }

    #[test]
    fn the_order_of_members_and_unknown_ones_do_not_change_the_identity(
        order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(), unknown in arbitrary_json()
    ) {
        let members = [
            r#""eventVersion":"2.1""#.to_owned(),
            r#""eventName":"ObjectCreated:Put""#.to_owned(),
            r#""s3":{"object":{"sequencer":"0055","eTag":"e","key":"k"},"bucket":{"name":"b"}}"#.to_owned(),
            r#""eventTime":"2024-05-24T19:36:44.379Z""#.to_owned(),
            format!(r#""unknown":{unknown}"#),
        ];
        let body: Vec<&str> = order.iter().map(|&i| members[i].as_str()).collect();
        let text = format!(r#"{{"Records":[{{{}}}]}}"#, body.join(","));
        prop_assert_eq!(of(&text, &CONTEXT).id, put(r#""key":"k","eTag":"e","sequencer":"0055""#).id);
    }
}

const MCS: Context<'static> =
    Context { origin: Origin::Mcs, dialect: Dialect::MCS, topic: Some("mcs"), message_id: None, ..CONTEXT };

/// s3-dialects.md 1.5, as documented.
const OF_MCS: &str = r#"{"Records":[{"s3":{"object":{"eTag":"aed563ecafb4bcc5654c597a421547b2","sequencer":1577453615,"key":"some-file-to-bucket","size":100},"configurationId":"1","bucket":{"name":"bucketA","ownerIdentity":{"principalId":"mcs2883541269"}},"s3SchemaVersion":"1.0"},"eventVersion":"1.0","requestParameters":{"sourceIPAddress":"185.6.245.156"},"userIdentity":{"principalId":"2407013e-cbc1-415f-9102-16fb9bd6946b"},"eventName":"s3:ObjectCreated:Put","awsRegion":"ru-msk","eventSource":"aws:s3","responseElements":{"x-amz-request-id":"VGJR5rtJ"}}]}"#;

#[test]
fn the_documented_record_of_mcs_has_its_time_from_its_sequencer() {
    let made = of(OF_MCS, &MCS);
    assert_eq!(made.sequencer, Some(Sequencer::Integer(1_577_453_615)));
    assert_eq!(made.time.to_iso_seconds(), "2019-12-27T13:33:35Z");
    assert_eq!((made.event_name.as_str(), made.event_type), ("ObjectCreated:Put", EventType::Created));
    assert_eq!((made.bucket.as_str(), made.key.as_str(), made.size), ("bucketA", "some-file-to-bucket", Some(100)));
    let later = of(&OF_MCS.replace("1577453615", "1577453616"), &MCS);
    assert_eq!(later.id, made.id, "the request id tells changes apart, and not the seconds");
    let other = of(&OF_MCS.replace("VGJR5rtJ", "VGJR5rtK"), &MCS);
    assert_ne!(other.id, made.id);
}

#[test]
fn a_sequencer_that_is_no_plausible_time_is_none() {
    let time = |sequencer: &str| of(&OF_MCS.replace("1577453615", sequencer), &MCS).time;
    let received = MCS.received_at;
    for counter in ["0", "1", "1420070399", "1700086401", "18446744073709551615", "\"x\"", "null", "1.5", "-5", "[]"] {
        assert_eq!(time(counter), received, "{counter}");
    }
    assert_eq!(time("1420070400").to_iso_seconds(), "2015-01-01T00:00:00Z");
    assert_eq!(time("1700086400"), UnixMillis(1_700_086_400_000), "a clock may be ahead");
    assert_eq!(time("\"1577453615\"").to_iso_seconds(), "2019-12-27T13:33:35Z");
    let dated = OF_MCS.replace(r#""eventVersion""#, r#""eventTime":"2020-01-02T03:04:05Z","eventVersion""#);
    assert_eq!(of(&dated, &MCS).time.to_iso_seconds(), "2020-01-02T03:04:05Z");
}

#[test]
fn without_request_id_and_time_the_record_itself_is_the_identity() {
    let bare = OF_MCS.replace(r#","responseElements":{"x-amz-request-id":"VGJR5rtJ"}"#, "");
    assert_eq!(of(&bare, &MCS).id, of(&bare, &MCS).id);
    assert_ne!(of(&bare, &MCS).id, of(&bare.replace("1577453615", "1577453616"), &MCS).id);
}

/// Written, removed and written again as it was, all within the second that versitygw tells (`s3-dialects.md` 2.5): taken for the
/// first writing, the last would be dropped, and the app would hold the object for removed.
#[test]
fn without_a_request_id_a_counter_tells_changes_within_a_second_apart() {
    let versitygw = Context { origin: Origin::S3http, dialect: Dialect::VERSITYGW, ..CONTEXT };
    let written = |counter: &str| {
        let text = message("s3:ObjectCreated:Put", &format!(r#""key":"k","eTag":"e","sequencer":"{counter}""#));
        of(&text.replace("R1", "").replace("44.379Z", "44Z"), &versitygw)
    };
    assert_ne!(written("1").id, written("3").id);
    assert_eq!(written("1").id, written("1").id);
    assert_eq!(written("1").sequencer, None, "it orders nothing");
}
