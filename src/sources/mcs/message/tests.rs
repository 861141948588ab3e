use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn documented() -> Value {
    json!({
        "Timestamp": "2019-12-26T19:29:12+03:00",
        "Type": "SubscriptionConfirmation",
        "Message": "You have chosen to subscribe to the topic $topic. To confirm the subscription you need to response with calculated signature",
        "TopicArn": "mcs2883541269|bucketA|s3:ObjectCreated:Put",
        "SignatureVersion": 1,
        "Token": "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA"
    })
}

fn judge(value: &Value) -> Result<&'static str, Refused> {
    told(value.to_string().as_bytes())
}

fn told(body: &[u8]) -> Result<&'static str, Refused> {
    read(body).map(|message| match message {
        Message::Empty => "empty",
        Message::Handshake(_) => "handshake",
        Message::Notification(_) => "notification",
    })
}

#[test]
fn the_documented_handshake_is_read_byte_for_byte() {
    for text in [documented().to_string(), serde_json::to_string_pretty(&documented()).expect("JSON")] {
        let Ok(Message::Handshake(handshake)) = read(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(handshake.timestamp, "2019-12-26T19:29:12+03:00");
        assert_eq!(handshake.token, "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA");
        assert_eq!(handshake.topic.arn, "mcs2883541269|bucketA|s3:ObjectCreated:Put");
        assert!(!format!("{handshake:?}").contains("RPE5"), "the token is not shown");
    }
}

#[test]
fn a_topic_is_split_at_its_first_two_bars() {
    let topic = Topic::parse("mcs1|b|s3:ObjectCreated:*,s3:ObjectRemoved:*|x".into()).expect("a topic");
    assert_eq!(
        (topic.project(), topic.bucket(), topic.events()),
        ("mcs1", "b", "s3:ObjectCreated:*,s3:ObjectRemoved:*|x")
    );
    for wrong in ["", "mcs1", "mcs1|b", "mcs1|b|", "|b|e", "mcs1||e", "arn:aws:sns:us-east-1:1:t"] {
        assert_eq!(Topic::parse(wrong.into()), None, "{wrong}");
    }
}

#[test]
fn a_handshake_that_could_not_be_signed_is_refused() {
    for member in ["Token", "Timestamp", "TopicArn"] {
        for wrong in
            [json!(""), json!(null), json!(1), json!(true), json!(["x"]), json!({"a": 1}), json!("x".repeat(5000))]
        {
            let mut body = documented();
            body[member] = wrong.clone();
            assert_eq!(judge(&body), Err(Refused::BadHandshake), "{member} = {wrong}");
        }
        let mut body = documented();
        body.as_object_mut().expect("an object").remove(member);
        assert_eq!(judge(&body), Err(Refused::BadHandshake), "{member} is absent");
    }
}

#[test]
fn the_signature_version_is_the_number_one_or_its_digit() {
    for (version, expected) in [
        (json!(1), Ok("handshake")),
        (json!("1"), Ok("handshake")),
        (json!(2), Err(Refused::BadHandshake)),
        (json!("2"), Err(Refused::BadHandshake)),
        (json!(1.5), Err(Refused::BadHandshake)),
        (json!(-1), Err(Refused::BadHandshake)),
        (json!([1]), Err(Refused::BadHandshake)),
    ] {
        let mut body = documented();
        body["SignatureVersion"] = version.clone();
        assert_eq!(judge(&body), expected, "{version}");
    }
}

#[test]
fn amazons_messages_are_never_taken_for_those_of_mcs() {
    for member in ["SubscribeURL", "SigningCertURL", "Signature", "MessageId", "UnsubscribeURL", "SubscribeUrl"] {
        for mut body in [documented(), json!({"Records": [{}]})] {
            body[member] = "https://sns.us-east-1.amazonaws.com/".into();
            assert_eq!(judge(&body), Err(Refused::AmazonSns), "{member}");
        }
    }
    let envelope =
        json!({"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "{\"Records\":[]}"});
    assert_eq!(judge(&envelope), Err(Refused::AmazonSns));
    assert_eq!(judge(&json!({"Type": "UnsubscribeConfirmation"})), Err(Refused::AmazonSns));
}

#[test]
fn notifications_are_told_from_the_rest() {
    for (body, expected) in [
        (r#"{"Records":[{}]}"#, Ok("notification")),
        (" \r\n{\"Records\":[1]}\n", Ok("notification")),
        (r#"{"EventName":"x","Records":[{}]}"#, Ok("notification")),
        (r#"{"Type":"Notification","Records":[{}]}"#, Ok("notification")),
        (r#"{"Type":null,"Records":[{}]}"#, Ok("notification")),
        (r#"{"Service":"S3","Event":"s3:TestEvent","Bucket":"b"}"#, Ok("notification")),
        // As the list of events of MCS names it, which was refused as no notification.
        (r#"{"Service":"S3","Event":"TestEvent","Bucket":"b"}"#, Ok("notification")),
        (r#"{"Records":[]}"#, Ok("empty")),
        (r#"{"Records":{}}"#, Err(Refused::NoRecords)),
        (r#"{"Records":null}"#, Err(Refused::NoRecords)),
        (r#"{"Records":"x"}"#, Err(Refused::NoRecords)),
        (r#"{"Records":1.5}"#, Err(Refused::NoRecords)),
        (r#"{"records":[{}]}"#, Err(Refused::NoRecords)),
        (r#"{"Event":"s3:ObjectCreated:Put"}"#, Err(Refused::NoRecords)),
        (r#"{"Type":"subscriptionconfirmation"}"#, Err(Refused::NoRecords)),
        ("{}", Err(Refused::NoRecords)),
        (r#"{"Type":1,"Records":[{}]}"#, Err(Refused::BadJson)),
        (r#"{"Records":[{}],"Records":[{}]}"#, Err(Refused::BadJson)),
        (r#"{"Type":"SubscriptionConfirmation","Type":"Notification"}"#, Err(Refused::BadJson)),
        (r#"[{"Records":[{}]}]"#, Err(Refused::BadJson)),
        (r#"{"Records":[{}]} x"#, Err(Refused::BadJson)),
        (r#"{"Records":[{}]"#, Err(Refused::BadJson)),
        ("hello", Err(Refused::BadJson)),
        ("", Err(Refused::BadJson)),
    ] {
        assert_eq!(told(body.as_bytes()), expected, "{body}");
    }
    let both = r#"{"Type":"SubscriptionConfirmation","Token":"t","Timestamp":"t","TopicArn":"p|b|e","Records":[]}"#;
    assert_eq!(told(both.as_bytes()), Err(Refused::BadHandshake));
    assert_eq!(told(b"{\"Records\":[\"\xff\"]}"), Err(Refused::BadJson));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"Records\":[{}{}]}}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(told(nested(90).as_bytes()), Ok("notification"));
    assert_eq!(told(nested(100_000).as_bytes()), Err(Refused::BadJson));
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body);
    }

    #[test]
    fn no_members_make_it_panic(kind in ".*", token in ".*", arn in ".*") {
        let mut body = documented();
        body["Type"] = kind.into();
        body["Token"] = token.into();
        body["TopicArn"] = arn.into();
        let _ = judge(&body);
    }
}
