//! What a request must carry: right, wrong, missing and doubled; and that nothing signed is ever taken unsigned.

use postern::simulator::dice::Dice;
use serde_json::{Value, json};

use super::{SECRET, created, metric, path, post, prepare, record, send, stand};
use crate::attacks::bench::Message;
use crate::hard_cases::stand::Stand;

/// Statuses of requests with these header lines.
async fn statuses(auth: &str, body: &Value, lines: &[&[&str]]) -> Vec<u16> {
    let stand = stand(&[("POSTERN_S3HTTP_AUTH", auth)]).await;
    let mut statuses = Vec::new();
    for headers in lines {
        statuses.push(send(&stand, headers, body).await);
    }
    let refused = statuses.iter().filter(|status| **status == 403).count();
    assert_eq!(metric(&stand, &["\"s3http\"", "\"auth\""]).await, refused as u64, "{}", stand.log());
    assert!(!stand.log().contains("s3cret"), "{}", stand.log());
    statuses
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorization_is_asked_for_exactly_once_and_exactly_so() {
    let got = statuses(
        "Bearer s3cret",
        &created("a"),
        &[
            &["authorization: Bearer s3cret"],
            &["Authorization: bearer s3cret"],
            &["authorization: Bearer S3CRET"],
            &["authorization: Bearer s3cret2"],
            &["authorization: Basic s3cret"],
            &[],
            &["authorization: Bearer s3cret", "authorization: Bearer s3cret"],
            &["authorization: Bearer wrong", "authorization: Bearer s3cret"],
        ],
    )
    .await;
    assert_eq!(got, [200, 200, 403, 403, 403, 403, 403, 403]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_basic_password_is_asked_for_and_a_wrong_one_refused() {
    let stand = stand(&[("POSTERN_S3HTTP_AUTH", "Basic dXNlcjpwYXNz")]).await;
    let body = created("a").to_string();
    let asked = post(&stand, &path(), &[], body.as_bytes()).await;
    assert_eq!(asked.status, 401);
    assert!(asked.head.to_ascii_lowercase().contains("www-authenticate: basic realm="), "{}", asked.head);
    let wrong = post(&stand, &path(), &["authorization: Basic dXNlcjp3cm9uZw=="], body.as_bytes()).await;
    assert_eq!(wrong.status, 403);
    assert!(!wrong.head.to_ascii_lowercase().contains("www-authenticate"), "{}", wrong.head);
    assert_eq!(post(&stand, &path(), &["authorization: Basic dXNlcjpwYXNz"], body.as_bytes()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_of_ones_own_is_asked_for() {
    let good = "x-postern-token: s3cret";
    let got =
        statuses("X-Postern-Token: s3cret", &created("a"), &[&[good], &["x-postern-token: s3cre"], &[], &[good, good]])
            .await;
    assert_eq!(got, [200, 403, 403, 403]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_of_ceph_carries_the_opaque_data() {
    let spaced =
        stand(&[("POSTERN_S3HTTP_PRESET", "ceph"), ("POSTERN_S3HTTP_AUTH", "opaqueData=i am+op/a%20que")]).await;
    // What a gateway 16.2.15 made of that attribute; it was refused, and the gateway's queue sent it again 850 times a second.
    for (opaque, status) in [("i+am+op/a%20que", 200), ("i am+op/a%20que", 200), ("i am op/a que", 403)] {
        let mut record = created("k")["Records"][0].clone();
        record["opaqueData"] = opaque.into();
        assert_eq!(send(&spaced, &[], &json!({"Records": [record]})).await, status, "{opaque}");
    }
    let stand = stand(&[("POSTERN_S3HTTP_PRESET", "ceph"), ("POSTERN_S3HTTP_AUTH", "opaqueData=s3cret")]).await;
    let with = |opaque: Value| {
        let mut record = created("k")["Records"][0].clone();
        record["opaqueData"] = opaque;
        record
    };
    let bare = created("k")["Records"][0].clone();
    for (records, status) in [
        (vec![with("s3cret".into())], 200),
        (vec![with("s3cret".into()), with("s3cret".into())], 200),
        (vec![bare.clone()], 403),
        (vec![with("other".into())], 403),
        (vec![with("s3cret".into()), bare], 403),
        (vec![with(json!(["s3cret"]))], 403),
        (vec![], 403),
    ] {
        assert_eq!(send(&stand, &[], &json!({"Records": records})).await, status, "{records:?}");
    }
    assert_eq!(post(&stand, &path(), &[], b"hello").await.status, 403, "and nothing else is looked at");
    let headers = ["authorization: Bearer s3cret", "opaquedata: s3cret"];
    assert_eq!(send(&stand, &headers, &created("k")).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b2_is_believed_by_its_signature_over_the_body_alone() {
    let stand =
        stand(&[("POSTERN_S3HTTP_PRESET", "b2"), ("POSTERN_S3HTTP_AUTH", "super-secret-signing-key-from-b2")]).await;
    let body = r#"{"events":[{"accountId":"acct123","bucketId":"b1","bucketName":"my-bucket","eventId":"evt-1","eventTimestamp":1700000000000,"eventType":"b2:ObjectCreated:Upload","eventVersion":1,"matchedRuleName":"upload-rule","objectName":"photos/dog.jpg","objectSize":4096,"objectVersionId":"v-1"}]}"#;
    let digest = "c16863fa075492853d6fe17abce6793634f7dbff7285f7373bb838b3217ba358";
    let line = |value: String| format!("X-Bz-Event-Notification-Signature: {value}");
    let good = line(format!("v1={digest}"));
    let wrong = [
        vec![],
        vec![good.clone(), good.clone()],
        vec![line(format!("v1={}", digest.to_uppercase()))],
        vec![line(format!("v2={digest}"))],
        vec![line(digest.to_owned())],
        vec![line(format!("v1={}", "0".repeat(64)))],
    ];
    for lines in wrong {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(post(&stand, &path(), &lines, body.as_bytes()).await.status, 403, "{lines:?}");
    }
    let changed = body.replace("4096", "4097");
    assert_eq!(post(&stand, &path(), &[&good], changed.as_bytes()).await.status, 403, "another body");
    assert_eq!(post(&stand, &path(), &[&good], body.as_bytes()).await.status, 200);
    stand.delivered(&["photos/dog.jpg"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_rotation_both_secrets_open_and_a_third_never_did() {
    let mut stand = prepare(&[("POSTERN_S3HTTP_SECRET", "")]).await;
    let file = stand.file("secret", "the-new-secret-of-the-path\nthe-old-secret-of-the-path\n");
    stand.set("POSTERN_S3HTTP_SECRET_FILE", &file);
    stand.begin().await;
    let body = created("a").to_string();
    for (target, status) in [
        ("/s3/the-new-secret-of-the-path", 200),
        ("/s3/the-old-secret-of-the-path", 200),
        ("/s3/the-old-secret-of-the-path/", 404),
        ("/s3/the-old-secret-of-the-pat", 404),
        ("/s3/", 404),
        ("/s3", 404),
        ("/S3/the-old-secret-of-the-path", 404),
        (&format!("/s3/{SECRET}"), 404),
    ] {
        assert_eq!(post(&stand, target, &[], body.as_bytes()).await.status, status, "{target}");
    }
    assert!(!stand.log().contains("secret-of-the-path"), "{}", stand.log());
}

/// Made by another program over `{"events":[]}`.
const NEW_HMAC: &str =
    "x-bz-event-notification-signature: v1=8db06822365ee5c27d9568f3ebbcebdce600e6a7b113d7dc4539af6c1182c45f";
const OLD_HMAC: &str =
    "x-bz-event-notification-signature: v1=e44639bbf489e1ee7cb556c03a92641bda23ca67ed5b3991476523b5188e7030";

/// Only one token was known: a store that was given the new one before the sidecar was, or after, lost what it sent meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_rotation_the_new_and_the_old_token_are_taken() {
    let body = created("a").to_string();
    let ceph = |data: &str| {
        let mut record = record("ObjectCreated:Put", "images", "a", "AFE8CD6506C2FD36");
        record["opaqueData"] = data.into();
        super::body(&[record]).to_string()
    };
    // Preset, file, and what is sent: a header line, a body, the answer.
    type Case<'a> = (&'a str, &'a str, Vec<(&'a str, String, u16)>);
    let cases: [Case<'_>; 4] = [
        (
            "minio",
            "Bearer new-t0ken\r\nBearer old-t0ken\r\n",
            vec![
                ("authorization: Bearer new-t0ken", body.clone(), 200),
                ("authorization: Bearer old-t0ken", body.clone(), 200),
                ("authorization: Bearer new-t0ken\r\nauthorization: Bearer old-t0ken", body.clone(), 403),
                ("authorization: Bearer t0ken", body.clone(), 403),
                ("x: y", body.clone(), 403),
            ],
        ),
        // To Basic from a header of the operator's own.
        (
            "noobaa",
            "Basic user:new-t0ken\nX-Key: old-t0ken\n",
            vec![
                ("authorization: Basic dXNlcjpuZXctdDBrZW4=", body.clone(), 200),
                ("x-key: old-t0ken", body.clone(), 200),
                ("x: y", body.clone(), 401),
                ("x-key: old", body.clone(), 401),
                ("authorization: Basic dXNlcjpvbGQ=", body.clone(), 403),
            ],
        ),
        (
            "ceph",
            "opaqueData=new-t0ken\n\nopaqueData=old-t0ken",
            vec![("x: y", ceph("new-t0ken"), 200), ("x: y", ceph("old-t0ken"), 200), ("x: y", ceph("other"), 403)],
        ),
        (
            "b2",
            "new-t0ken\nold-t0ken",
            vec![
                (
                    "x-bz-event-notification-signature: v1=ee1e7c0ae38bb72f4b5b1d34fbf1d17d4e3d2c16f12bb64f8f1bd1f4d8b0c3f0",
                    r#"{"events":[]}"#.to_owned(),
                    403,
                ),
                (NEW_HMAC, r#"{"events":[]}"#.to_owned(), 200),
                (OLD_HMAC, r#"{"events":[]}"#.to_owned(), 200),
            ],
        ),
    ];
    for (preset, lines, sent) in cases {
        let mut stand = prepare(&[("POSTERN_S3HTTP_PRESET", preset)]).await;
        let file = stand.file("auth", lines);
        stand.set("POSTERN_S3HTTP_AUTH_FILE", &file);
        stand.begin().await;
        for (line, body, status) in sent {
            let reply = post(&stand, &path(), &[line], body.as_bytes()).await;
            assert_eq!(reply.status, status, "{preset}: {line}: {body}");
        }
        assert!(!stand.log().contains("t0ken"), "{}", stand.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_dialect_is_never_taken_unsigned() {
    for (preset, auth) in [("", ""), ("minio", ""), ("sns-raw", ""), ("eventbridge", "")] {
        let stand = stand(&[("POSTERN_S3HTTP_PRESET", preset), ("POSTERN_S3HTTP_AUTH", auth)]).await;
        let envelope = Message::notification(&created("forged").to_string()).body();
        for _ in 0..2 {
            let reply = post(&stand, &path(), &["x-amz-sns-message-type: Notification"], &envelope).await;
            assert_eq!(reply.status, 403, "{preset}");
        }
        let confirm = Message::confirmation("SubscriptionConfirmation").body();
        assert_eq!(post(&stand, &path(), &[], &confirm).await.status, 403, "{preset}");
        assert_eq!(metric(&stand, &["\"s3http\"", "\"envelope\""]).await, 3, "{preset}");
        let log = stand.log();
        assert_eq!(log.matches("subscribe the topic to /sns").count(), 1, "the operator is told once: {log}");

        let mcs = json!({"Timestamp": "2019-12-26T19:29:12+03:00", "Type": "SubscriptionConfirmation", "Message": "m",
            "TopicArn": "mcs2883541269|bucketA|s3:ObjectCreated:Put", "SignatureVersion": 1, "Token": "t"});
        let reply = post(&stand, &path(), &[], mcs.to_string().as_bytes()).await;
        assert_eq!(reply.status, 403, "{preset}");
        assert!(!reply.body.contains("signature"), "{}", reply.body);
        assert!(stand.rows(&[]).await.is_empty(), "{preset}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_delivery_of_sns_comes_only_where_it_is_expected_and_from_the_topic_that_is() {
    let ours = "arn:aws:sns:us-east-1:123456789012:ours";
    let raw =
        |topic: &str| format!("x-amz-sns-rawdelivery: true\r\nx-amz-sns-message-id: m\r\nx-amz-sns-topic-arn: {topic}");
    let body = created("k");
    for preset in ["minio", "ceph", "noobaa"] {
        let stand = stand(&[("POSTERN_S3HTTP_PRESET", preset)]).await;
        assert_eq!(send(&stand, &[&raw(ours)], &body).await, 403, "{preset}");
        assert_eq!(metric(&stand, &["\"s3http\"", "\"raw_delivery\""]).await, 1, "{preset}");
    }
    let stand =
        stand(&[("POSTERN_S3HTTP_PRESET", "sns-raw"), ("EVENT_SNS_TOPIC_ARN", ours), ("POSTERN_SNS_CHAIN", "off")])
            .await;
    assert_eq!(send(&stand, &[&raw("arn:aws:sns:us-east-1:123456789012:other")], &body).await, 403);
    assert_eq!(send(&stand, &["x-amz-sns-rawdelivery: true"], &body).await, 403, "and one that names none");
    assert_eq!(send(&stand, &[&raw(ours)], &body).await, 200);
    assert_eq!(send(&stand, &[&raw(ours)], &created("another")).await, 200, "its id was heard before");
    stand.delivered(&["k"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 1);
    assert_eq!(post(&stand, "/sns", &[&raw(ours)], body.to_string().as_bytes()).await.status, 403, "raw at /sns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_off_takes_nothing() {
    let stand = stand(&[("EVENT_NOTIFICATION_ENABLED", "false")]).await;
    assert_eq!(send(&stand, &[], &created("a")).await, 403, "{}", stand.log());
    assert!(stand.rows(&[]).await.is_empty());
}

/// A subscription with raw delivery begins with a confirmation that is not raw and comes to the same URL: it was refused there, and
/// no such subscription could ever be confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_confirmation_of_a_raw_subscription_is_judged_as_at_its_own_route() {
    let settings = [("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_PRESET", "sns-raw")];
    let stand = Stand::start(&settings).await;
    let confirmation = stand.simulator.subscription_confirmation(&mut Dice::new());
    let forged = confirmation.to_body().replacen("SubscriptionConfirmation", "UnsubscribeConfirmation", 1);
    assert_eq!(post(&stand, &path(), &[], forged.as_bytes()).await.status, 403, "{}", stand.log());
    let signed = stand.envelope(&[crate::hard_cases::stand::created("k")]).to_body();
    assert_eq!(post(&stand, &path(), &[], signed.as_bytes()).await.status, 403, "a notification belongs to /sns");
    assert!(stand.simulator.confirmed().is_empty());
    assert_eq!(post(&stand, &path(), &[], confirmation.to_body().as_bytes()).await.status, 200, "{}", stand.log());
    stand.eventually("it is confirmed", async |stand| !stand.simulator.confirmed().is_empty()).await;
    let headers = format!("x-amz-sns-rawdelivery: true\r\nx-amz-sns-topic-arn: {}", stand.simulator.topic_arn());
    assert_eq!(send(&stand, &[&headers], &created("k")).await, 200);
    stand.delivered(&["k"]).await;
}
