use super::*;

const MCS: &str = r#"{"Records":[{"s3":{"object":{"eTag":"aed563ecafb4bcc5654c597a421547b2","sequencer":1577453615,"key":"some-file-to-bucket","size":100},
 "configurationId":"1","bucket":{"name":"bucketA","ownerIdentity":{"principalId":"mcs2883541269"}},"s3SchemaVersion":"1.0"},
 "eventVersion":"1.0","requestParameters":{"sourceIPAddress":"185.6.245.156"},"userIdentity":{"principalId":"2407013e"},
 "eventName":"s3:ObjectCreated:Put","awsRegion":"ru-msk","eventSource":"aws:s3","responseElements":{"x-amz-request-id":"VGJR5rtJ"}}]}"#;

/// A record with `members` added to its object and `top` to itself.
fn message(top: &str, members: &str) -> String {
    format!(
        r#"{{"Records":[{{"eventVersion":"2.1","eventName":"ObjectCreated:Put"{top},"s3":{{"bucket":{{"name":"b"}},"object":{{"key":"k"{members}}}}}}}]}}"#
    )
}

fn records(message: &str) -> Vec<Result<Record<'_>, Malformed>> {
    match parse(message).expect("records") {
        Body::Records(records) => records,
        Body::TestEvent(test) => panic!("a test event: {test:?}"),
    }
}

fn one(message: &str) -> Record<'_> {
    records(message).remove(0).expect("a good record")
}

/// The cases of really signed messages, where the machine has them.
pub(crate) fn cases(file: &str) -> Option<serde_json::Value> {
    let Ok(dir) = std::env::var("POSTERN_REAL_SNS_DIR") else {
        eprintln!("skipped {file}: POSTERN_REAL_SNS_DIR is not set");
        return None;
    };
    let path = std::path::Path::new(&dir).join("cases").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Some(serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn a_record_keeps_its_own_text_byte_for_byte() {
    let text = r#"{ "eventVersion" : "2.1", "eventName":"ObjectCreated:Put","zz":[1e999999, 10000000000000000000000000, "\ud800"],
      "s3":{"bucket":{"name":"b"},"object":{"key":"k"}} }"#;
    assert_eq!(one(&format!(r#"{{"x":1,"Records": [ {text} ]}}"#)).raw.get(), text);
}

#[test]
fn an_mcs_record_is_read_without_time_and_with_its_integer_sequencer() {
    let record = one(MCS);
    assert_eq!(record.event_name, "ObjectCreated:Put");
    assert_eq!(record.event_time, None);
    assert_eq!(record.sequencer, Some(SentSequencer::Integer(1_577_453_615)));
    assert_eq!(record.size, Some(100));
    assert_eq!(record.request_id.as_deref(), Some("VGJR5rtJ"));
    assert_eq!(record.region.as_deref(), Some("ru-msk"));
}

#[test]
fn absent_null_and_empty_mean_the_same() {
    for members in [
        "",
        r#","versionId":null,"eTag":null,"size":null,"sequencer":null"#,
        r#","versionId":"","eTag":"","sequencer":"""#,
    ] {
        let text = message(r#","eventTime":null,"awsRegion":"","responseElements":null"#, members);
        let record = one(&text);
        assert_eq!(record.version_id, None, "{members}");
        assert_eq!(record.e_tag, None, "{members}");
        assert_eq!(record.size, None, "{members}");
        assert_eq!(record.sequencer, None, "{members}");
        assert_eq!((record.event_time, record.region, record.request_id), (None, None, None), "{members}");
    }
}

#[test]
fn sizes_come_as_number_or_text_and_anything_else_is_unsaid() {
    for (sent, size) in [
        ("0", Some(0)),
        ("\"1024\"", Some(1024)),
        ("-1", None),
        ("1.5", None),
        ("\"x\"", None),
        ("[]", None),
        ("{}", None),
    ] {
        assert_eq!(one(&message("", &format!(r#","size":{sent}"#))).size, size, "{sent}");
    }
}

#[test]
fn versions_of_major_1_and_2_are_read_and_others_are_set_aside() {
    for version in ["\"1.0\"", "\"2.0\"", "\"2.1\"", "\"2.9\"", "\"2.31\"", "null"] {
        let text = MCS.replace(r#""1.0","requestParameters"#, &format!(r#"{version},"requestParameters"#));
        assert!(parse(&text).is_ok(), "{version}");
    }
    for version in ["\"3.0\"", "\"0.9\"", "\"2\"", "\"2.\"", "\"22.1\"", "\"two\"", "2.1", "3", "\"\"", "[]"] {
        let text = MCS.replace(r#""1.0","requestParameters"#, &format!(r#"{version},"requestParameters"#));
        let malformed = parse(&text).expect_err(version);
        assert_eq!(malformed.reason(), "unsupported_version", "{version}");
        assert!(!malformed.is_foreign());
    }
}

#[test]
fn what_a_record_must_have_is_demanded_in_its_type() {
    let good = r#"{"Records":[{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#;
    assert!(parse(good).is_ok());
    for (from, to) in [
        (r#""key":"k""#, r#""key":"""#),
        (r#""key":"k""#, r#""key":7"#),
        (r#""key":"k""#, r#""kei":"k""#),
        (r#""key":"k""#, r#""key":"k","key":"other""#),
        (r#""key":"k""#, r#""key":"\ud800""#),
        (r#"{"key":"k"}"#, r#"["k"]"#),
        (r#""name":"b""#, r#""name":"""#),
        (r#""name":"b""#, r#""name":null"#),
        (r#""bucket":{"name":"b"},"#, ""),
        (r#""eventName":"ObjectCreated:Put","#, ""),
        (r#""ObjectCreated:Put""#, r#""""#),
        (r#""ObjectCreated:Put""#, r#""s3:""#),
        (r#"{"eventName""#, r#"{"eventVersion":"2.1","eventVersion":"3.0","eventName""#),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        let malformed = parse(&text).expect_err(&text);
        assert_eq!(malformed.reason(), "bad_payload", "{text}");
        assert!(matches!(malformed, Malformed::BadRecord { index: 0, .. }), "{text}: {malformed:?}");
    }
}

#[test]
fn a_bad_record_does_not_take_its_neighbours_along() {
    let text = r#"{"Records":[{"eventVersion":"3.0","eventName":"x","s3":{}},
        {"eventName":"ObjectRemoved:Delete","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}, 5]}"#;
    let records = records(text);
    assert!(matches!(records[0], Err(Malformed::UnsupportedVersion { index: 0, .. })));
    assert_eq!(records[1].as_ref().expect("good").event_name, "ObjectRemoved:Delete");
    assert!(matches!(records[2], Err(Malformed::BadRecord { index: 2, .. })));
}

#[test]
fn test_events_are_known_flat_and_among_records() {
    let flat = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z","Bucket":"bucketname","RequestId":"5582815E1AEA5ADF","HostId":"8c"}"#;
    let among = format!(r#"{{"Records":[{flat}]}}"#);
    for text in [flat, &among] {
        match parse(text).expect("understood") {
            Body::TestEvent(test) => assert_eq!(test.bucket, "bucketname"),
            Body::Records(records) => panic!("{records:?}"),
        }
    }
    let beside = among
        .replace("]}", r#",{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#);
    assert_eq!(records(&beside).len(), 1, "the change counts and the greeting is skipped");
}

#[test]
fn what_is_no_s3_event_is_foreign_and_a_broken_one_is_not() {
    for text in ["hello", "", "[1]", "\"x\"", "5", "{", r#"{"a":1}"#, r#"{"Records":null}"#, "{\"a\":\"\u{1}\"}"] {
        let malformed = parse(text).expect_err(text);
        assert!(malformed.is_foreign(), "{text}: {malformed:?}");
        assert_eq!(malformed.reason(), "bad_payload");
    }
    let lambda_sns =
        r#"{"Records":[{"EventVersion":"1.0","EventSource":"aws:sns","Sns":{"Type":"Notification","Message":"{}"}}]}"#;
    let lambda_sqs = r#"{"Records":[{"messageId":"1","body":"{\"Records\":[]}","eventSource":"aws:sqs"}]}"#;
    for text in [lambda_sns, lambda_sqs] {
        assert!(matches!(parse(text), Err(Malformed::NotS3(_))), "{text}");
    }
    for text in [r#"{"Records":[]}"#, r#"{"Records":"x"}"#, r#"{"Records":[],"Records":[]}"#] {
        assert!(!parse(text).expect_err(text).is_foreign(), "{text}");
    }
}

#[test]
fn a_message_is_bounded_in_records_and_depth() {
    let record = r#"{"eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}"#;
    let many = |n: usize| format!(r#"{{"Records":[{}]}}"#, vec![record; n].join(","));
    assert_eq!(records(&many(MAX_RECORDS)).len(), MAX_RECORDS);
    assert_eq!(parse(&many(MAX_RECORDS + 1)).expect_err("too many"), Malformed::TooManyRecords);

    let nested = |n: usize| format!(r#"{{"x":{}{},{}"#, "[".repeat(n), "]".repeat(n), &many(1)[1..]);
    assert!(parse(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH)).expect_err("too deep"), Malformed::TooDeep);
    assert_eq!(parse(&nested(100_000)).expect_err("too deep"), Malformed::TooDeep);
    assert!(
        parse(&format!(r#"{{"x":"{}\"[",{}"#, "[".repeat(500), &many(1)[1..])).is_ok(),
        "brackets in text do not nest"
    );
}

#[test]
fn escaped_members_are_read_as_what_they_say() {
    let record = r#"{"event\u004eame":"s3:Object\u0043reated:Put","s3":{"bucket":{"name":"\u0062"},"object":{"key":"a\u002Bb","eTag":"\"x\""}}}"#;
    let text = format!(r#"{{"Records":[{record}]}}"#);
    let record = one(&text);
    assert_eq!((&*record.event_name, &*record.bucket, &*record.key), ("ObjectCreated:Put", "b", "a+b"));
    assert_eq!(record.e_tag.as_deref(), Some("x"));
}

#[test]
fn a_complaint_quotes_a_bounded_part_of_the_message() {
    let text = format!(r#"{{"Records":[{{"s3":"{}"}}]}}"#, "é".repeat(5000));
    let detail = parse(&text).expect_err("no object").to_string();
    assert!(detail.chars().count() < 300, "{detail}");
    assert!(detail.starts_with("Records[0]: invalid type: string"), "{detail}");
}

#[test]
fn records_of_other_producers_are_read() {
    // Shapes of s3-dialects.md 2.1, 2.2, 2.4 and 2.5, with what each does differently.
    let minio = r#"{"EventName":"s3:ObjectCreated:Put","Key":"images/a/b c.jpg","Records":[{"eventVersion":"2.0","eventSource":"minio:s3","awsRegion":"",
        "eventTime":"2019-09-10T17:41:54Z","eventName":"s3:ObjectCreated:Put","responseElements":{"x-amz-request-id":"15C3249451E12784"},
        "s3":{"bucket":{"name":"images"},"object":{"key":"a%2Fb+c.jpg","userMetadata":{"content-type":"image/jpeg"},"versionId":"1","sequencer":"15C32494527B46C5"}},"source":{"port":""}}]}"#;
    let ceph = r#"{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"my-store","eventTime":"2024-02-15T10:34:23.904497Z","eventName":"ObjectCreated:Put",
        "responseElements":{"x-amz-request-id":"87b29a21"},"s3":{"bucket":{"name":"images","id":"87"},
        "object":{"key":"a/b+100%.jpg","size":6,"eTag":"9a7f","versionId":"","sequencer":"AFE8CD6506C2FD36","metadata":[],"tags":[]}},"eventId":"1","opaqueData":"x"}]}"#;
    let noobaa = r#"{"Records":[{"eventVersion":"2.3","eventSource":"noobaa:s3","eventTime":"2024-02-15T10:34:23.904Z","eventName":"ObjectRemoved:Delete",
        "s3":{"bucket":{"name":"images"},"object":{"key":"a/b+100%.jpg","size":"6","sequencer":"18dad5"}}}]}"#;
    let versitygw = r#"{"Records":[{"eventVersion":"2.2","eventSource":"aws:s3","eventTime":"2024-02-15T12:34:23+02:00","eventName":"s3:ObjectRemoved:DeleteObjects",
        "userIdentity":{"PrincipalId":"x"},"glacierEventData":{"restoreEventData":{}},"s3":{"bucket":{"name":"images","ownerIdentity":{"PrincipalId":"x"},"arn":"arn:aws:s3:::/images/a"},
        "object":{"key":"a/b+100%.jpg","size":0,"eTag":null,"versionId":null,"sequencer":"1"}}}]}"#;
    for (text, dialect, name, key, size, comparable) in [
        (minio, Dialect::MINIO, "ObjectCreated:Put", "a/b c.jpg", None, true),
        (ceph, Dialect::CEPH, "ObjectCreated:Put", "a/b+100%.jpg", Some(6), true),
        (noobaa, Dialect::NOOBAA, "ObjectRemoved:Delete", "a/b+100%.jpg", Some(6), false),
        (versitygw, Dialect::VERSITYGW, "ObjectRemoved:DeleteObjects", "a/b+100%.jpg", Some(0), false),
    ] {
        let record = one(text);
        assert_eq!(record.event_name, name);
        assert_eq!(record.bucket, "images");
        assert_eq!(dialect.key_coding.decode(&record.key).as_deref(), Some(key));
        assert_eq!(record.size, size);
        let sequencer = record.sequencer.as_ref().and_then(|sent| dialect.sequencer.read(sent));
        assert_eq!(sequencer.is_some_and(|s| s.compare(&s) == Some(std::cmp::Ordering::Equal)), comparable, "{text}");
    }
}

#[test]
fn keys_are_decoded_once_and_strictly() {
    use KeyCoding::{Form, Percent, Raw};
    for (coding, sent, decoded) in [
        (Form, "red+flower.jpg", Some("red flower.jpg")),
        (Form, "a%2Bb%255B", Some("a+b%5B")),
        (Form, "%D0%BF%F0%9F%8D%8C", Some("п🍌")),
        (Form, "a%0Ab%00", Some("a\nb\0")),
        (Form, "%e2%82%ac", Some("€")),
        (Form, "%zz", None),
        (Form, "%2", None),
        (Form, "%", None),
        (Form, "%+1", None),
        (Form, "%E2%82", None),
        (Form, "a%C0%80", None),
        (Percent, "red+flower%20jpg", Some("red+flower jpg")),
        (Percent, "%zz", None),
        (Raw, "100%+zz", Some("100%+zz")),
        (Raw, "п", Some("п")),
    ] {
        assert_eq!(coding.decode(sent).as_deref(), decoded, "{coding:?} {sent}");
    }
}

#[test]
fn the_collected_keys_decode_as_the_cases_say() {
    let Some(cases) = cases("s3-keys.json") else { return };
    for case in cases["cases"].as_array().expect("cases") {
        let sent = case["raw"].as_str().expect("raw");
        let decoded = if sent.is_empty() { None } else { KeyCoding::Form.decode(sent) };
        assert_eq!(decoded.as_deref(), case["decoded"].as_str(), "{case}");
        let text = format!(
            r#"{{"Records":[{{"eventName":"x","s3":{{"bucket":{{"name":"b"}},"object":{{"key":"{sent}"}}}}}}]}}"#
        );
        assert_eq!(parse(&text).is_ok(), !sent.is_empty(), "{case}");
    }
}

#[test]
fn the_collected_event_names_lose_their_prefix() {
    let Some(cases) = cases("s3-event-names.json") else { return };
    for case in cases["cases"].as_array().expect("cases") {
        let text = message("", "").replace("ObjectCreated:Put", case["input"].as_str().expect("input"));
        match (parse(&text), case["canonical"].as_str()) {
            (Ok(Body::Records(records)), Some(name)) => assert_eq!(records[0].as_ref().expect("good").event_name, name),
            // No change of anything, whatever it carries besides.
            (Ok(Body::TestEvent(_)), Some("TestEvent")) => {}
            // A prefix in another case is none: the name stays as it is, and is of no known type.
            (Ok(Body::Records(records)), None) => {
                assert!(records[0].as_ref().expect("good").event_name.starts_with("S3:"))
            }
            (Err(_), None) => {}
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
}

#[test]
fn the_collected_sequencers_compare_as_the_cases_say() {
    let Some(cases) = cases("s3-sequencer.json") else { return };
    let read = |value: &serde_json::Value| {
        let text = message("", &format!(r#","sequencer":{value}"#));
        one(&text).sequencer.and_then(|sent| SequencerKind::Aws.read(&sent))
    };
    for case in cases["cases"].as_array().expect("cases") {
        let order = read(&case["a"]).zip(read(&case["b"])).and_then(|(a, b)| a.compare(&b));
        let expected = match case["expect"].as_str().expect("expect") {
            "equal" => Some(std::cmp::Ordering::Equal),
            "less" => Some(std::cmp::Ordering::Less),
            "greater" => Some(std::cmp::Ordering::Greater),
            _ => None,
        };
        assert_eq!(order, expected, "{case}");
    }
}

#[test]
fn a_sequencer_of_another_type_than_its_kind_orders_nothing() {
    use crate::event::Sequencer;
    let text = SentSequencer::Text("0055".into());
    let number = SentSequencer::Integer(7);
    assert_eq!(SequencerKind::Aws.read(&text), Some(Sequencer::Aws("0055".into())));
    assert_eq!(SequencerKind::Aws.read(&number), None);
    assert_eq!(SequencerKind::CephLe.read(&text), Some(Sequencer::CephLe("0055".into())));
    assert_eq!(SequencerKind::Integer.read(&number), Some(Sequencer::Integer(7)));
    assert_eq!(SequencerKind::Integer.read(&text), Some(Sequencer::Integer(55)));
    assert_eq!(SequencerKind::None.read(&text), None);
}

#[test]
fn an_event_named_test_changes_nothing_whatever_else_it_carries() {
    for (text, bucket) in [
        (r#"{"Records":[{"eventName":"s3:TestEvent","s3":{"bucket":{"name":"b"}}}]}"#, "b"),
        (r#"{"Records":[{"eventName":"s3:TestEvent","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}]}"#, "b"),
        (r#"{"Records":[{"eventName":"TestEvent"}]}"#, ""),
    ] {
        let Ok(Body::TestEvent(test)) = parse(text) else { panic!("{text}") };
        assert_eq!(test.bucket, bucket, "{text}");
    }
}
