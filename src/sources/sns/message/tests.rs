use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:t";

fn notification() -> Map<String, Value> {
    object(json!({
        "Type": "Notification",
        "MessageId": "26858270-545e-5848-82a2-e05566af3dcf",
        "TopicArn": TOPIC,
        "Subject": "Amazon S3 Notification",
        "Message": "line one\nline two",
        "Timestamp": "2026-03-06T19:53:21.424Z",
        "SignatureVersion": "1",
        "Signature": "c2ln",
        "SigningCertURL": "https://sns.us-east-1.amazonaws.com/x.pem",
        "UnsubscribeURL": "https://example.com/",
    }))
}

fn confirmation() -> Map<String, Value> {
    let mut members = notification();
    members.remove("Subject");
    members.insert("Type".into(), "SubscriptionConfirmation".into());
    members.insert("Token".into(), "ab".repeat(32).into());
    members.insert("SubscribeURL".into(), "https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription".into());
    members
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

fn reason_of(body: &str) -> &'static str {
    parse(body.as_bytes(), &Hints::default()).map_or_else(|refusal| refusal.reason.as_str(), |_| "ok")
}

fn reason_with(mut members: Map<String, Value>, name: &str, value: Option<Value>) -> &'static str {
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.remove(name),
    };
    reason_of(&Value::Object(members).to_string())
}

#[test]
fn signed_members_are_joined_in_byte_order_with_their_decoded_values() {
    let body = Value::Object(notification()).to_string();
    let envelope = parse(body.as_bytes(), &Hints::default()).expect("well-formed");
    assert_eq!(
        envelope.canonical_string(),
        format!(
            "Message\nline one\nline two\nMessageId\n26858270-545e-5848-82a2-e05566af3dcf\nSubject\nAmazon S3 Notification\n\
             Timestamp\n2026-03-06T19:53:21.424Z\nTopicArn\n{TOPIC}\nType\nNotification\n"
        )
    );
    let body = Value::Object(confirmation()).to_string();
    let envelope = parse(body.as_bytes(), &Hints::default()).expect("well-formed");
    assert_eq!(
        envelope.canonical_string(),
        format!(
            "Message\nline one\nline two\nMessageId\n26858270-545e-5848-82a2-e05566af3dcf\n\
             SubscribeURL\nhttps://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription\n\
             Timestamp\n2026-03-06T19:53:21.424Z\nToken\n{}\nTopicArn\n{TOPIC}\nType\nSubscriptionConfirmation\n",
            "ab".repeat(32)
        )
    );
}

#[test]
fn a_required_member_that_is_absent_or_no_string_is_named() {
    for name in ["MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL"] {
        assert_eq!(reason_with(notification(), name, None), format!("missing_{name}"));
        for value in [Value::Null, json!(1), json!(true), json!(1.5), json!({"a": 1}), json!(["x"])] {
            assert_eq!(reason_with(notification(), name, Some(value)), format!("not_string_{name}"));
        }
    }
    for name in ["Token", "SubscribeURL"] {
        assert_eq!(reason_with(confirmation(), name, None), format!("missing_{name}"));
        assert_eq!(reason_with(confirmation(), name, Some(json!([]))), format!("not_string_{name}"));
    }
    assert_eq!(reason_with(notification(), "Type", None), "bad_type");
    assert_eq!(reason_with(notification(), "Type", Some(json!(1))), "not_string_Type");
    assert_eq!(reason_of(r#"{"Records":[{"eventVersion":"2.1"}]}"#), "bad_type");
}

#[test]
fn each_member_has_one_grammar() {
    for (name, value, reason) in [
        ("Type", "notification", "bad_type"),
        ("Type", "UnsubscriptionConfirmation", "bad_type"),
        ("Type", "Notification\n", "bad_type"),
        ("MessageId", "26858270-545E-5848-82a2-e05566af3dcf", "bad_message_id"),
        ("MessageId", "26858270-545e-5848-82a2-e05566af3dcf\nSubject\nx", "bad_message_id"),
        ("MessageId", "26858270-545e-5848-82a2-e05566af3dc", "bad_message_id"),
        ("MessageId", "2685827é-545e-5848-82a2-e05566af3dcf", "bad_message_id"),
        ("Subject", "", "bad_subject"),
        ("Subject", "a\nTimestamp\nb", "bad_subject"),
        ("Subject", "a\u{7f}", "bad_subject"),
        ("Timestamp", "2026-03-06T19:53:21Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T19:53:21.42Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T19:53:21.424+00:00", "bad_timestamp"),
        ("Timestamp", "2026-03-06 19:53:21.424Z", "bad_timestamp"),
        ("Timestamp", "2026-02-30T19:53:21.424Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T24:00:00.000Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T19:53:60.000Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T19:53:21.4٢Z", "bad_timestamp"),
        ("Timestamp", "2026-03-06T19:53:21.424Z\n", "bad_timestamp"),
        ("SignatureVersion", "3", "bad_signature_version"),
        ("SignatureVersion", "", "bad_signature_version"),
        ("SignatureVersion", "01", "bad_signature_version"),
        ("TopicArn", "a|b|c", "bad_topic_arn"),
        ("TopicArn", "arn:aws:sns:us-east-1:123456789012:t\nType\nNotification", "bad_topic_arn"),
    ] {
        assert_eq!(reason_with(notification(), name, Some(value.into())), reason, "{name} {value:?}");
    }
    for token in ["../../x", "AB".repeat(32).as_str(), "ab".repeat(15).as_str(), "ab".repeat(513).as_str(), ""] {
        assert_eq!(reason_with(confirmation(), "Token", Some(token.into())), "bad_token");
    }
    assert_eq!(reason_with(confirmation(), "SubscribeURL", Some("a\nb".into())), "subscribe_url_untrusted");
    assert_eq!(reason_with(notification(), "Subject", Some(Value::Null)), "ok");
}

#[test]
fn only_one_strict_json_object_is_read() {
    let good = Value::Object(notification()).to_string();
    assert_eq!(reason_of(&good), "ok");
    assert_eq!(reason_of(&format!(" \r\n\t{good}\n")), "ok");
    let with = |extra: &str| format!("{},{extra}}}", &good[..good.len() - 1]);
    for (body, reason) in [
        (String::new(), "bad_json"),
        (format!("\u{feff}{good}"), "bad_json"),
        (format!("{good}{good}"), "bad_json"),
        (format!("{good} x"), "bad_json"),
        (format!("[{good}]"), "bad_json"),
        (Value::String(good.clone()).to_string(), "bad_json"),
        ("null".to_owned(), "bad_json"),
        (format!("/**/{good}"), "bad_json"),
        (with(r#""x":NaN"#), "bad_json"),
        (with(r#""x":"\ud800""#), "bad_json"),
        (with(r#""x":"\udc00\ud800""#), "bad_json"),
        (with(r#""x":{"\ud800":1}"#), "bad_json"),
        (with(r#""\ud800":1"#), "bad_json"),
        (with(r#""x":["a",{"b":"\ud83dx"}]"#), "bad_json"),
        (with("\"x\":\"a\nb\""), "bad_json"),
        (with(&format!(r#""x":{}"#, "[".repeat(100_000))), "bad_json"),
        (with(r#""Message":"again""#), "duplicate_key"),
        (with(r#""\u004dessage":"again""#), "duplicate_key"),
        (with(r#""x":1,"\u0078":2"#), "duplicate_key"),
        (with(r#""SigningCertUrl":"https://sns.us-east-1.amazonaws.com/x.pem""#), "duplicate_key"),
        (good.replace("SigningCertURL", "SigningCertUrl"), "missing_SigningCertURL"),
        (with(r#""MessageAttributes":{"a":{"Type":"String","Value":"b"}},"x":[1,{"a":null}]"#), "ok"),
        (with(r#""x":"\ud83d\ude00""#), "ok"),
        (with(&format!(r#""x":{}"#, "9".repeat(300))), "ok"),
    ] {
        assert_eq!(reason_of(&body), reason, "{:.300}", body);
    }
    let mut latin = good.into_bytes();
    let last = latin.len() - 2;
    latin[last] = 0xe9;
    assert_eq!(parse(&latin, &Hints::default()).map_err(|r| r.reason), Err(Reason::NotUtf8));
    let many = (0..100).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
    assert_eq!(reason_of(&format!("{{{many}}}")), "bad_json");
}

#[test]
fn headers_can_make_us_refuse_but_never_accept() {
    let body = Value::Object(notification()).to_string();
    let with = |hints: Hints<'_>| parse(body.as_bytes(), &hints).map_or_else(|r| r.reason.as_str(), |_| "ok");
    assert_eq!(with(Hints { message_type: Some("Notification"), topic_arn: Some(TOPIC), raw_delivery: false }), "ok");
    let other = Hints { message_type: Some("SubscriptionConfirmation"), ..Hints::default() };
    assert_eq!(with(other), "type_header_mismatch");
    assert_eq!(with(Hints { message_type: Some(""), ..Hints::default() }), "type_header_mismatch");
    assert_eq!(with(Hints { topic_arn: Some("arn:other"), ..Hints::default() }), "topic_header_mismatch");
    assert_eq!(with(Hints { raw_delivery: true, ..Hints::default() }), "raw_delivery");
}

#[test]
fn signatures_are_canonical_base64() {
    let decode = |text: &str| {
        let mut members = notification();
        members.insert("Signature".into(), text.into());
        let body = Value::Object(members).to_string();
        parse(body.as_bytes(), &Hints::default()).expect("well-formed").signature().map_err(|r| r.reason)
    };
    assert_eq!(decode("c2ln"), Ok(b"sig".to_vec()));
    assert_eq!(decode("/+8="), Ok(vec![0xff, 0xef]));
    for text in ["", "c2l", "c2lnIQ", "c2lnIR==", "_-8=", " c2ln", "c2ln\n", "c2\nln", "c2ln====", "*"] {
        assert_eq!(decode(text), Err(Reason::BadSignatureEncoding), "{text:?}");
    }
}

#[test]
fn what_is_printed_for_debugging_holds_no_token_and_no_signature() {
    let body = Value::Object(confirmation()).to_string();
    let printed = format!("{:?}", parse(body.as_bytes(), &Hints::default()).expect("well-formed"));
    assert!(!printed.contains("abab") && !printed.contains("c2ln") && printed.contains(TOPIC));
}

#[test]
fn timestamps_mean_what_the_calendar_says() {
    for text in
        ["2026-03-06T19:53:21.424Z", "2024-02-29T23:59:59.999Z", "1970-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z"]
    {
        assert_eq!(parse_timestamp(text), UnixMillis::parse_rfc3339(text), "{text}");
    }
}

/// Texts made of the pieces from which an attacker would build a second reading.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("Message\n".to_owned()),
        Just("\nMessageId\n26858270-545e-5848-82a2-e05566af3dcf\n".to_owned()),
        Just("MessageId".to_owned()),
        Just("Subject\n".to_owned()),
        Just("\nTimestamp\n2026-03-06T19:53:21.424Z\n".to_owned()),
        Just("TopicArn\narn:aws:sns:us-east-1:123456789012:t\n".to_owned()),
        Just("Type\nNotification\n".to_owned()),
        Just("Token\n".to_owned()),
        Just("SubscribeURL\n".to_owned()),
        "[a-z]{0,3}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn any_message() -> impl Strategy<Value = String> {
    (
        prop_oneof![Just("Notification"), Just("SubscriptionConfirmation"), Just("UnsubscribeConfirmation")],
        prop_oneof![Just("26858270-545e-5848-82a2-e05566af3dcf".to_owned()), hostile()],
        hostile(),
        prop::option::of(prop_oneof![Just("Subject".to_owned()), Just("MessageId".to_owned()), hostile()]),
        prop_oneof![Just("2026-03-06T19:53:21.424Z".to_owned()), hostile()],
        prop_oneof![Just("http://a/".to_owned()), hostile()],
    )
        .prop_map(|(kind, id, message, subject, timestamp, url)| {
            let mut members = confirmation();
            members.insert("Type".into(), kind.into());
            members.insert("MessageId".into(), id.into());
            members.insert("Message".into(), message.into());
            members.insert("Timestamp".into(), timestamp.into());
            members.insert("SubscribeURL".into(), url.into());
            if let Some(subject) = subject {
                members.insert("Subject".into(), subject.into());
            }
            Value::Object(members).to_string()
        })
}

/// Reads a canonical string back from its end (`sns.md` 2.3): the proof that it has one meaning.
fn read_back(text: &str) -> (String, String, Option<String>, Vec<String>) {
    let mut rest: Vec<&str> = text.strip_suffix('\n').expect("ends with a line feed").split('\n').collect();
    let mut fields = Vec::new();
    let pop = |rest: &mut Vec<&str>| {
        let value = rest.pop().expect("a value").to_owned();
        (rest.pop().expect("a name").to_owned(), value)
    };
    let mut subject = None;
    let id = loop {
        let (name, value) = pop(&mut rest);
        match name.as_str() {
            "MessageId" => break value,
            "Subject" => subject = Some(value),
            _ => fields.push(value),
        }
    };
    (rest.join("\n").strip_prefix("Message\n").expect("Message is first").to_owned(), id, subject, fields)
}

proptest! {
    // A counterexample belongs in a test of its own, not in a file beside the sources.
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in any_message(), cut in any::<prop::sample::Index>()) {
        let _ = parse(&bytes, &Hints::default());
        let _ = parse(&text.as_bytes()[..cut.index(text.len())], &Hints::default());
    }

    #[test]
    fn a_canonical_string_has_one_meaning(body in any_message()) {
        if let Ok(envelope) = parse(body.as_bytes(), &Hints::default()) {
            let (message, id, subject, fields) = read_back(&envelope.canonical_string());
            prop_assert_eq!(message, envelope.message());
            prop_assert_eq!(id, envelope.message_id());
            prop_assert_eq!(subject.as_deref(), envelope.subject());
            prop_assert_eq!(&fields[0], envelope.kind().as_str());
            prop_assert_eq!(fields.last().map(String::as_str), Some(envelope.subscribe_url().unwrap_or_else(|| envelope.timestamp_text())));
        }
    }

    #[test]
    fn two_different_accepted_messages_never_share_a_string(a in any_message(), b in any_message()) {
        if let (Ok(a), Ok(b)) = (parse(a.as_bytes(), &Hints::default()), parse(b.as_bytes(), &Hints::default())) {
            prop_assert_eq!(a == b, a.canonical_string() == b.canonical_string());
        }
    }
}
