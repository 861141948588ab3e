//! A09 to A13, A17 to A39, A61 to A69: the message itself.

use serde_json::{Value, json};

use super::bench::{Bench, HOST, Message, TOPIC, record, timestamp, uuid};

#[tokio::test]
async fn a09_a_missing_type_header_is_accepted() {
    let bench = Bench::start().await;
    assert_eq!(bench.send(&Message::created("a").signed(&bench)).await, 200);
    bench.app_knows_only(&["a"]).await;
}

#[tokio::test]
async fn a10_a11_headers_that_contradict_the_body_are_refused() {
    let bench = Bench::start().await;
    let body = Message::created("a").signed(&bench).body();
    bench.refuses(&body, &[("x-amz-sns-message-type", "SubscriptionConfirmation")], 400, "type_header_mismatch").await;
    bench
        .refuses(
            &body,
            &[("x-amz-sns-topic-arn", "arn:aws:sns:us-west-2:123456789012:other")],
            400,
            "topic_header_mismatch",
        )
        .await;
    let agreeing = [("x-amz-sns-message-type", "Notification"), ("x-amz-sns-topic-arn", TOPIC)];
    assert_eq!(bench.post_with(&body, &agreeing).await.status, 200);
    bench.app_knows_only(&["a"]).await;
}

#[tokio::test]
async fn a12_a13_raw_delivery_and_bare_events_are_refused() {
    let bench = Bench::start().await;
    let bare = record("a").into_bytes();
    bench.refuses(&bare, &[("x-amz-sns-rawdelivery", "true")], 403, "raw_delivery").await;
    let reply = bench.post(&bare).await;
    assert_eq!(reply.status, 400);
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a17_a18_what_is_not_one_json_object_in_utf_8_is_refused() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench).body();
    let text = String::from_utf8(genuine.clone()).expect("UTF-8");
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let bodies: Vec<Vec<u8>> = vec![
        [b"\xef\xbb\xbf".as_slice(), &genuine].concat(),
        utf16,
        text.replacen("Notification", "Notif\u{fffd}", 1)
            .into_bytes()
            .iter()
            .map(|b| if *b == 0xbd { 0xff } else { *b })
            .collect(),
        [genuine.as_slice(), b"x"].concat(),
        [genuine.as_slice(), &genuine].concat(),
        [b"[".as_slice(), &genuine, b"]"].concat(),
        serde_json::to_vec(&text).expect("JSON"),
        [b"/* a */".as_slice(), &genuine].concat(),
        text.replacen('{', "{\"x\": NaN,", 1).into_bytes(),
        Vec::new(),
        b"null".to_vec(),
    ];
    for body in bodies {
        let reply = bench.post(&body).await;
        assert_eq!(reply.status, 400, "{}", String::from_utf8_lossy(&body));
    }
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a19_duplicate_members_are_refused_also_when_escaped() {
    let bench = Bench::start().await;
    let text = String::from_utf8(Message::created("a").signed(&bench).body()).expect("UTF-8");
    for extra in ["\"Message\":\"x\",", "\"\\u004dessage\":\"x\",", "\"Type\":\"Notification\",", "\"q\":1,\"q\":1,"] {
        bench.refuses(text.replacen('{', &format!("{{{extra}"), 1).as_bytes(), &[], 400, "duplicate_key").await;
    }
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a20_a21_a22_depth_lone_surrogates_and_monstrous_numbers_do_no_harm() {
    let bench = Bench::start().await;
    let text = String::from_utf8(Message::created("a").signed(&bench).body()).expect("UTF-8");
    let with = |member: &str| text.replacen('{', &format!("{{\"q\":{member},"), 1).into_bytes();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(bench.post(&with(&deep)).await.status, 400, "depth");
    for lone in ["\"\\ud800\"", "[\"\\udc00\"]", "{\"\\ud800x\":1}", "\"\\ud800\\u0041\""] {
        assert_eq!(bench.post(&with(lone)).await.status, 400, "{lone}");
    }
    let huge = "9".repeat(400);
    for number in ["1e999999", huge.as_str(), "-0.0"] {
        let status = bench.post(&with(number)).await.status;
        assert!(matches!(status, 200 | 400), "{number}: {status}");
    }
    bench.eventually("alive", async |b| b.admin_get("/live").await.status == 200).await;
}

#[tokio::test]
async fn a23_a25_required_members_must_be_present_strings() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench);
    for name in
        ["Type", "MessageId", "TopicArn", "Message", "Timestamp", "SignatureVersion", "Signature", "SigningCertURL"]
    {
        let reply = bench.post(&genuine.clone().without(name).body()).await;
        assert_eq!(reply.status, 400, "without {name}");
        for value in [Value::Null, json!([]), json!({}), json!(1), json!(true)] {
            let reply = bench.post(&genuine.clone().with(name, value.clone()).body()).await;
            assert_eq!(reply.status, 400, "{name} is {value}");
        }
    }
    bench.refuses(&genuine.clone().without("MessageId").body(), &[], 400, "missing_MessageId").await;
    bench.refuses(&genuine.with("Message", json!({"Records": []})).body(), &[], 400, "not_string_Message").await;
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a24_an_unknown_type_is_refused() {
    let bench = Bench::start().await;
    for kind in ["notification", "UnsubscriptionConfirmation", "Notification ", "Notification\n", ""] {
        let message = Message::created("a").with("Type", kind).signed(&bench);
        bench.refuses(&message.body(), &[], 400, "bad_type").await;
    }
}

#[tokio::test]
async fn a26_the_mcs_handshake_is_never_answered_here() {
    let bench = Bench::start().await;
    let handshake = json!({
        "Timestamp": "2019-12-26T19:29:12+03:00", "Type": "SubscriptionConfirmation", "Message": "You have chosen $topic",
        "TopicArn": "mcs2883541269|bucketA|s3:ObjectCreated:Put", "SignatureVersion": 1,
        "Token": "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA"
    });
    let reply = bench.post(handshake.to_string().as_bytes()).await;
    assert_eq!(reply.status, 400);
    assert!(!reply.body.contains("signature"));
}

/// Fields that swallow their neighbours keep the canonical string, and with it the genuine signature.
#[tokio::test]
async fn a27_to_a34_no_field_can_swallow_another() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench);
    let (id, subject, time, topic) =
        (genuine.get("MessageId"), genuine.get("Subject"), genuine.get("Timestamp"), genuine.get("TopicArn"));
    let text = genuine.get("Message");
    let twisted = [
        ("bad_message_id", genuine.clone().with("MessageId", format!("{id}\nSubject\n{subject}")).without("Subject")),
        ("missing_MessageId", genuine.clone().with("Message", format!("{text}\nMessageId\n{id}")).without("MessageId")),
        (
            "missing_MessageId",
            Message(vec![
                ("Type".into(), "Notification".into()),
                (
                    "Message".into(),
                    format!("{text}\nMessageId\n{id}\nSubject\n{subject}\nTimestamp\n{time}\nTopicArn\n{topic}").into(),
                ),
                ("SignatureVersion".into(), "1".into()),
                ("Signature".into(), genuine.get("Signature").into()),
                ("SigningCertURL".into(), genuine.get("SigningCertURL").into()),
            ]),
        ),
        (
            "missing_Timestamp",
            genuine.clone().with("Subject", format!("{subject}\nTimestamp\n{time}")).without("Timestamp"),
        ),
        (
            "missing_TopicArn",
            genuine.clone().with("Timestamp", format!("{time}\nTopicArn\n{topic}")).without("TopicArn"),
        ),
    ];
    for (reason, message) in twisted {
        let reply = bench.post(&message.body()).await;
        assert_eq!(reply.status, 400, "{reason}");
    }
    let swallowed_type = genuine.clone().with("TopicArn", format!("{topic}\nType\nNotification")).without("Type");
    assert_eq!(bench.send(&swallowed_type).await, 400);
    for subject in ["a\nb", "a\u{7}b", "", "\u{2028}\r"] {
        let message = Message::created("a").with("Subject", subject).signed(&bench);
        bench.refuses(&message.body(), &[], 400, "bad_subject").await;
    }
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a35_a_null_subject_is_absent() {
    let bench = Bench::start().await;
    let message = Message::created("a").without("Subject").signed(&bench).with("Subject", Value::Null);
    assert_eq!(bench.send(&message).await, 200);
    bench.app_knows_only(&["a"]).await;
}

#[tokio::test]
async fn a36_a38_a39_only_exact_topics_are_accepted_and_impossible_ones_are_malformed() {
    let bench = Bench::start().await;
    let cases = [
        ("arn:aws:sns:us-west-2:999999999999:postern-test", 403),
        ("arn:aws:sns:us-west-2:123456789012:postern-tes", 403),
        ("arn:aws:sns:us-west-2:123456789012:postern-test2", 403),
        ("arn:aws:sns:us-west-2:123456789012:Postern-Test", 403),
        ("arn:aws:sns:eu-west-1:123456789012:postern-test", 403),
        ("arn:aws:sns:us-west-2:123456789012:postern-test:6b0e71bd-7e97-4d97-80ce-4a0994e55286", 400),
        ("ARN:aws:sns:us-west-2:123456789012:postern-test", 400),
        ("arn:aws-cn:sns:us-east-1:123456789012:postern-test", 400),
        ("arn:aws:sns:cn-north-1:123456789012:postern-test", 400),
        ("arn:aws:sns:us-west-2:12345:postern-test", 400),
        ("arn:aws:sns:us-west-2:123456789012:postern test", 400),
    ];
    for (arn, status) in cases {
        let message = Message::created("a").with("TopicArn", arn).signed(&bench);
        let reason = if status == 403 { "topic_not_allowed" } else { "bad_topic_arn" };
        bench.refuses(&message.body(), &[], status, reason).await;
    }
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a61_signature_versions_other_than_the_strings_1_and_2_are_refused() {
    let bench = Bench::start().await;
    for version in [json!("3"), json!(""), json!("01"), json!(" 1"), json!("0")] {
        let message = Message::created("a").signed(&bench).with("SignatureVersion", version);
        bench.refuses(&message.body(), &[], 400, "bad_signature_version").await;
    }
    let number = Message::created("a").signed(&bench).with("SignatureVersion", json!(1));
    assert_eq!(bench.send(&number).await, 400);
}

#[tokio::test]
async fn a62_a_swapped_signature_version_does_not_verify() {
    let bench = Bench::start().await;
    let two = Message::created("two").with("SignatureVersion", "2").signed(&bench);
    assert_eq!(bench.send(&two.clone().with("SignatureVersion", "1")).await, 403);
    assert_eq!(bench.send(&Message::created("a").signed(&bench).with("SignatureVersion", "2")).await, 403);
    assert_eq!(bench.send(&two).await, 200);
    bench.app_knows_only(&["two"]).await;
}

#[tokio::test]
async fn a63_a_floor_of_version_2_refuses_a_genuine_version_1() {
    let bench = Bench::with(&[("POSTERN_SNS_MIN_SIGNATURE_VERSION", "2")]).await;
    let message = Message::created("a").signed(&bench);
    bench.refuses(&message.body(), &[], 403, "signature_version_too_low").await;
    assert_eq!(bench.send(&Message::created("b").with("SignatureVersion", "2").signed(&bench)).await, 200);
}

#[tokio::test]
async fn a64_a65_signatures_in_another_form_are_refused() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench);
    let good = genuine.get("Signature").to_owned();
    let forms = [
        String::new(),
        good.trim_end_matches('=').to_owned(),
        good.replacen(&good[10..12], &format!("{}\n{}", &good[10..11], &good[11..12]), 1),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{}-_", &good[..342]),
    ];
    for form in forms {
        let status = bench.send(&genuine.clone().with("Signature", form.as_str())).await;
        assert_eq!(status, 400, "{form:?}");
    }
    // base64 of 256 zero bytes, of 256 0xff, of 1, and of 257 bytes
    let zeros = format!("{}==", "A".repeat(342));
    let ones = format!("{}w==", "/".repeat(341));
    let one = format!("{}AQ==", "A".repeat(340));
    for form in [zeros, ones, one] {
        let status = bench.send(&genuine.clone().with("Signature", form.as_str())).await;
        assert_eq!(status, 403, "{form:?}");
    }
    let long = format!("{}A", "A".repeat(343));
    assert!(matches!(bench.send(&genuine.with("Signature", long.as_str())).await, 400 | 403));
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a66_any_changed_signed_member_is_refused() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench);
    for (name, value) in [
        ("Message", record("b")),
        ("MessageId", uuid()),
        ("Subject", "Amazon S3 Notificatiom".to_owned()),
        ("Timestamp", timestamp(-1)),
    ] {
        assert_eq!(bench.send(&genuine.clone().with(name, value)).await, 403, "{name}");
    }
    assert_eq!(bench.send(&genuine.without("Subject")).await, 403, "Subject removed");
    assert!(bench.refusals("bad_signature").await >= 5);
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn a67_unsigned_members_may_say_anything_and_are_not_used() {
    let bench = Bench::start().await;
    let message = Message::created("a")
        .signed(&bench)
        .with("UnsubscribeURL", "http://169.254.169.254/latest/meta-data")
        .with("MessageAttributes", json!({"x": {"Type": "String", "Value": "y"}}));
    let asked = bench.amazon.requests().len();
    assert_eq!(bench.send(&message).await, 200);
    assert!(bench.amazon.requests().len() <= asked + 1, "only the certificate is fetched");
    assert!(!bench.log().contains("169.254.169.254"), "an UnsubscribeURL is never logged");
    bench.app_knows_only(&["a"]).await;
}

#[tokio::test]
async fn a68_order_escapes_and_raw_text_do_not_matter() {
    let bench = Bench::start().await;
    let mut reordered = Message::created("reordered").signed(&bench);
    reordered.0.reverse();
    assert_eq!(bench.send(&reordered).await, 200);
    let escaped = Message::created("escaped").signed(&bench);
    let members: Vec<String> = escaped
        .0
        .iter()
        .map(|(name, value)| {
            let escape = |text: &str| text.encode_utf16().map(|u| format!("\\u{u:04x}")).collect::<String>();
            format!("\"{}\":\"{}\"", escape(name), escape(value.as_str().unwrap_or_default()))
        })
        .collect();
    assert_eq!(bench.post(format!("{{{}}}", members.join(",")).as_bytes()).await.status, 200);
    assert_eq!(bench.send(&Message::created("gr\u{fc}n-\u{1f34c}").signed(&bench)).await, 200);
    bench.app_knows_only(&["escaped", "gr\u{fc}n-\u{1f34c}", "reordered"]).await;
}

#[tokio::test]
async fn a69_a_timestamp_in_another_form_is_refused() {
    let bench = Bench::start().await;
    let now = timestamp(0);
    let bare = format!("{}Z", &now[..19]);
    let offset = now.replace('Z', "+00:00");
    for form in
        [bare, offset, now.replace('T', " "), now.to_lowercase(), format!("{now} "), "2026-02-30T00:00:00.000Z".into()]
    {
        let message = Message::created("a").with("Timestamp", form).signed(&bench);
        bench.refuses(&message.body(), &[], 400, "bad_timestamp").await;
    }
}

#[tokio::test]
async fn lambda_casing_is_refused_alone_and_beside_the_other() {
    let bench = Bench::start().await;
    let genuine = Message::created("a").signed(&bench);
    let url = genuine.get("SigningCertURL").to_owned();
    assert_eq!(bench.send(&genuine.clone().without("SigningCertURL").with("SigningCertUrl", url.as_str())).await, 400);
    assert_eq!(bench.send(&genuine.with("SigningCertUrl", format!("{HOST}/x.pem"))).await, 400);
}
