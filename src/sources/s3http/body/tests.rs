use super::*;

const RECORD: &str = r#"{"eventName":"s3:ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"k"}},"opaqueData":"iamopaque"}"#;

fn records(entries: &str) -> String {
    format!(r#"{{"EventName":"s3:ObjectCreated:Put","Key":"b/k","EventType":"x","Records":[{entries}]}}"#)
}

fn refused(shape: Shape, text: &str) -> Refused {
    match judge(shape, text) {
        Verdict::Refused(refused) => refused,
        other => panic!("{other:?}: {text}"),
    }
}

#[test]
fn records_and_test_events_are_taken_whatever_stands_around_them() {
    let top = r#"{"Bucket":"Test-Bucket","Event":"s3:TestEvent","Service":"S3","Time":"2024-02-15T12:34:23+02:00"}"#;
    let inside = records(r#"{"Service":"NooBaa","Event":"s3:TestEvent","Bucket":"b","RequestId":"r","HostId":"h"}"#);
    for text in [&records(RECORD), &records(&format!("{RECORD},{RECORD}")), top, &inside] {
        assert_eq!(judge(Shape::Records, text), Verdict::Shaped, "{text}");
    }
    assert_eq!(judge(Shape::Records, &records("")), Verdict::Empty);
}

#[test]
fn a_record_that_is_bad_is_for_the_desk() {
    for entry in [
        r#"{"eventName":"x","s3":{"bucket":{"name":"b"},"object":{"key":""}}}"#,
        r#"{"eventName":"x","eventVersion":"9.0","s3":{"bucket":{"name":"b"},"object":{"key":"k"}}}"#,
        "7",
    ] {
        assert_eq!(judge(Shape::Records, &records(entry)), Verdict::Shaped, "{entry}");
    }
    assert_eq!(judge(Shape::Records, &records(&vec!["0"; 1001].join(","))), Verdict::Shaped);
}

#[test]
fn what_is_not_of_the_configured_shape_is_refused() {
    let bridge =
        r#"{"source":"aws.s3","detail-type":"Object Created","detail":{"bucket":{"name":"b"},"object":{"key":"k"}}}"#;
    let b2 = r#"{"events":[{"eventType":"b2:ObjectCreated:Upload","bucketName":"b","objectName":"k"}]}"#;
    let bare = records(RECORD);
    let bodies = [(Shape::EventBridge, bridge), (Shape::B2, b2), (Shape::Records, bare.as_str())];
    for (shape, text) in bodies {
        for (configured, _) in bodies {
            if configured == shape {
                assert_eq!(judge(configured, text), Verdict::Shaped, "{configured:?} {text}");
            } else {
                assert_eq!(refused(configured, text), Refused::NotS3, "{configured:?} {text}");
            }
        }
    }
}

#[test]
fn what_lambda_functions_are_given_is_no_notification_of_s3() {
    let sqs = records(r#"{"messageId":"m","body":"{\"Records\":[]}","eventSource":"aws:sqs","eventSourceARN":"a"}"#);
    let sns = records(r#"{"EventVersion":"1.0","EventSource":"aws:sns","Sns":{"Type":"Notification","Message":"{}"}}"#);
    for text in [sqs, sns, "{}".to_owned(), r#"{"hello":"world"}"#.to_owned()] {
        assert_eq!(refused(Shape::Records, &text), Refused::NotS3, "{text}");
    }
}

#[test]
fn a_message_of_a_signed_dialect_is_refused_by_its_name_under_every_shape() {
    let notification = r#"{"Type":"Notification","MessageId":"m","TopicArn":"arn:aws:sns:us-east-1:1:t","Message":"{\"Records\":[]}","Timestamp":"t","SignatureVersion":"1","Signature":"s","SigningCertURL":"u"}"#;
    let confirm =
        r#"{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:us-east-1:1:t","Token":"x","SubscribeURL":"u"}"#;
    // Without its signature it is no more welcome.
    let stripped = r#"{"Type":"Notification","TopicArn":"arn:aws:sns:us-east-1:1:t","Message":"{\"Records\":[]}"}"#;
    let typeless = r#"{"Message":"{\"Records\":[]}","Signature":"s"}"#;
    let mcs = r#"{"Timestamp":"2019-12-26T19:29:12+03:00","Type":"SubscriptionConfirmation","Message":"m","TopicArn":"mcs2883541269|bucketA|s3:ObjectCreated:Put","SignatureVersion":1,"Token":"t"}"#;
    for shape in [Shape::B2, Shape::EventBridge, Shape::Records] {
        for text in [notification, stripped, typeless] {
            assert_eq!(refused(shape, text), Refused::Envelope, "{shape:?} {text}");
        }
        assert_eq!(refused(shape, confirm), Refused::Confirmation, "{shape:?}");
        let ended = confirm.replace("SubscriptionC", "UnsubscribeC");
        assert_eq!(refused(shape, &ended), Refused::Confirmation, "{shape:?}");
        let barred = confirm.replace("us-east-1:1:t", "us-east-1:1:t|x");
        assert_eq!(refused(shape, &barred), Refused::Confirmation, "a bar makes no handshake of it");
        assert_eq!(refused(shape, mcs), Refused::Handshake, "{shape:?}");
    }
    for refused in [Refused::Confirmation, Refused::Envelope, Refused::Handshake] {
        assert_eq!(refused.status(), 403);
    }
    assert!(Refused::Envelope.advice().expect("advice").contains("/sns"));
}

#[test]
fn what_is_no_clear_json_is_refused() {
    for text in ["", "  ", "null", "[]", "x=1&y=2", "{\"Records\":", &format!("{{\"Records\":{}", "[".repeat(5000))] {
        assert_eq!(refused(Shape::Records, text), Refused::BadJson, "{text}");
    }
    for text in [r#"{"Records":{}}"#, r#"{"Records":7}"#, r#"{"Records":[],"Records":[]}"#] {
        assert_eq!(refused(Shape::Records, text), Refused::BadShape, "{text}");
    }
}

#[test]
fn every_record_carries_the_opaque_data_or_none_is_believed() {
    let secret = [Secret::new("iamopaque")];
    let other = RECORD.replace("iamopaque", "iamopaquE");
    let bare = RECORD.replace(r#","opaqueData":"iamopaque""#, "");
    assert!(carries(&records(RECORD), &secret));
    assert!(carries(&records(&format!("{RECORD},{RECORD}")), &secret));
    for entries in [
        other.clone(),
        bare.clone(),
        String::new(),
        format!("{RECORD},{other}"),
        format!("{bare},{RECORD}"),
        format!("{RECORD},7"),
        RECORD.replace(r#","opaqueData""#, r#","opaqueData":"iamopaque","opaqueData""#),
    ] {
        assert!(!carries(&records(&entries), &secret), "{entries}");
    }
    assert!(!carries(r#"{"Event":"s3:TestEvent","opaqueData":"iamopaque"}"#, &secret));
    assert!(!carries("", &secret));
}
