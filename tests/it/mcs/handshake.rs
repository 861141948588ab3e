//! The handshake: what is signed, for whom, and how often (`s3-dialects.md` 1.2 to 1.4; hard cases 14 and 15).

use serde_json::{Value, json};

use super::{SECRET, confirmation, metric, path, post, prepare, stand};
use crate::hard_cases::stand::{Stand, get};

/// The answer's signature, checked to be all there is in it.
async fn signed(stand: &Stand, target: &str, headers: &[&str], body: &Value) -> String {
    let reply = post(stand, target, headers, body.to_string().as_bytes()).await;
    assert_eq!(reply.status, 200, "{}\n{}", reply.body, stand.log());
    assert!(reply.head.to_ascii_lowercase().contains("content-type: application/json\r\n"), "{}", reply.head);
    let answer: Value = serde_json::from_str(&reply.body).expect("JSON");
    let signature = answer["signature"].as_str().expect("a signature");
    assert_eq!(reply.body, format!("{{\"signature\":\"{signature}\"}}"), "one member and nothing else");
    signature.to_owned()
}

#[tokio::test]
async fn the_signature_is_over_the_url_as_configured_and_never_over_the_host() {
    let vectors = [
        ("http://test.com", "/", "ea3fce4bb15c6de4fec365d36bcebbc34ccddf54616d5ca12e1972f82b6d37af"),
        ("http://test.com/", "/", "8af7165b23eae47d21a601fbb6dd7d9258a3319aeb29956bdc0c09cfc4243767"),
        ("https://test.com", "/", "adee145c03d5f892069a7485357f9eae756c945a9f612f338a33441f0443f490"),
        (
            "https://hooks.example.com/mcs/s3?src=a",
            "/mcs/s3?src=a",
            "410b4cc54426c3b10ea12a5ee2e33d315d446442f60a5d9995f1cbd6acfa43a6",
        ),
    ];
    for (url, target, expected) in vectors {
        let stand = stand(&[("POSTERN_MCS_URL", url)]).await;
        for headers in [
            &[][..],
            &["host: evil.example", "x-forwarded-host: evil.example", "x-forwarded-proto: gopher"],
            &["X-Amz-Sns-Message-Type: Notification"],
            &["x-amz-sns-messages-type: SubscriptionConfirmation", "content-type: text/csv"],
        ] {
            assert_eq!(signed(&stand, target, headers, &confirmation()).await, expected, "{url} {headers:?}");
        }
        assert_eq!(get(stand.intake, target).await.map(|reply| reply.status), Some(200), "a probe of {url}");
    }
}

#[tokio::test]
async fn another_bucket_of_the_list_is_answered_with_its_own_signature() {
    let stand = stand(&[("POSTERN_MCS_URL", "http://89.208.199.220/webhook")]).await;
    let live = json!({"Type": "SubscriptionConfirmation", "Timestamp": "2020-06-05T11:11:47+03:00", "SignatureVersion": "1",
        "TopicArn": "mcs5259999770|myfiles-ash|s3:ObjectCreated:*,s3:ObjectRemoved:*",
        "Token": "LfaTdS1ZRSf7thpdQQKTw3GywfjheZ2XCa2njUN1v9UsnuSd"});
    let signature = signed(&stand, "/webhook", &[], &live).await;
    assert_eq!(signature, "49f8df134f4aabbeed36e83efd38b466af32b2cd32cc9ade3fa7dde7c8677c2c");
    let log = stand.log();
    assert!(
        log.contains("mcs5259999770") && log.contains("myfiles-ash") && log.contains("s3:ObjectRemoved:*"),
        "{log}"
    );
    assert!(!log.contains("LfaTdS1Z") && !log.contains(&signature), "neither token nor signature: {log}");
}

#[tokio::test]
async fn a_pair_that_nobody_listed_is_refused_and_named_to_the_operator() {
    let stand = stand(&[]).await;
    for arn in
        ["mcs1|bucketA|s3:*", "mcs2883541269|bucketB|s3:*", "mcs5259999770|bucketA|s3:*", "MCS2883541269|bucketA|e"]
    {
        let mut body = confirmation();
        body["TopicArn"] = arn.into();
        let reply = post(&stand, &path(), &[], body.to_string().as_bytes()).await;
        assert_eq!(reply.status, 403, "{arn}");
        assert!(!reply.body.contains("signature"), "{}", reply.body);
        let pair = arn.rsplit_once('|').expect("three parts").0;
        assert!(stand.log().contains(&format!("\"{pair}\"")), "{arn}\n{}", stand.log());
    }
    let mut body = confirmation();
    body["TopicArn"] = format!("mcs1\u{1b}[2J|b\r\nforged: line|{}", "e".repeat(3000)).into();
    assert_eq!(post(&stand, &path(), &[], body.to_string().as_bytes()).await.status, 403);
    let log = stand.log();
    assert!(!log.contains('\u{1b}') && !log.contains("\nforged") && !log.contains(&"e".repeat(300)), "{log}");
    assert!(log.contains("POSTERN_MCS_TOPICS"));
}

#[tokio::test]
async fn what_mcs_does_not_send_is_never_signed() {
    let stand = stand(&[]).await;
    let with = |name: &str, value: Value| {
        let mut body = confirmation();
        body[name] = value;
        body.to_string()
    };
    let amazon = json!({"Type": "SubscriptionConfirmation", "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
        "Token": "2336412f37", "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic", "Message": "…",
        "SubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription", "Timestamp": "2012-04-26T20:45:04.751Z",
        "SignatureVersion": "1", "Signature": "EXAMPLE", "SigningCertURL": "https://sns.us-west-2.amazonaws.com/x.pem"});
    let envelope = json!({"Type": "Notification", "MessageId": "m", "TopicArn": "mcs2883541269|bucketA|e",
        "Message": "{\"Records\":[]}", "Timestamp": "t", "SignatureVersion": "1", "Signature": "s", "SigningCertURL": "u"});
    for (body, status) in [
        (amazon.to_string(), 403),
        (with("SubscribeURL", "https://sns.us-west-2.amazonaws.com/".into()), 403),
        (with("SigningCertURL", Value::Null), 403),
        (envelope.to_string(), 403),
        (with("Token", "".into()), 400),
        (with("Token", 7.into()), 400),
        (with("Timestamp", Value::Null), 400),
        (with("TopicArn", "bucketA".into()), 400),
        (with("SignatureVersion", 2.into()), 400),
        (with("Records", json!([])), 400),
        (with("Type", "Something".into()), 400),
        (confirmation().to_string().replacen('{', "{\"Token\":\"other\",", 1), 400),
        ("hello".to_owned(), 400),
        ("{}".to_owned(), 400),
    ] {
        let reply = post(&stand, &path(), &[], body.as_bytes()).await;
        assert_eq!(reply.status, status, "{body}");
        assert!(!reply.body.contains("signature"), "{}", reply.body);
    }
}

#[tokio::test]
async fn only_the_whole_secret_opens() {
    let stand = stand(&[]).await;
    let body = confirmation().to_string();
    let near = format!("{}x", &SECRET[..SECRET.len() - 1]);
    for target in [
        "/mcs",
        "/mcs/",
        "/",
        "/mcs/wrong",
        &format!("/mcs/{near}"),
        &format!("/mcs/{SECRET}/"),
        &format!("/mcs/{SECRET}x"),
    ] {
        let expected = if target == "/" { 405 } else { 404 };
        assert_eq!(post(&stand, target, &[], body.as_bytes()).await.status, expected, "{target}");
    }
    assert_eq!(post(&stand, &path(), &[], body.as_bytes()).await.status, 200);
    assert!(!stand.log().contains(SECRET), "{}", stand.log());
}

/// The secret may stand in the query: the path alone, which the router compares, must then open nothing.
#[tokio::test]
async fn a_query_of_the_url_is_compared_too() {
    let url = format!("https://hooks.example.com/in?key={SECRET}");
    let stand = stand(&[("POSTERN_MCS_URL", &url)]).await;
    let body = confirmation().to_string();
    for target in ["/in", "/in?", "/in?key=wrong", &format!("/in?key={SECRET}&more"), &format!("/in?Key={SECRET}")] {
        assert_eq!(post(&stand, target, &[], body.as_bytes()).await.status, 404, "{target}");
        assert_eq!(get(stand.intake, target).await.map(|reply| reply.status), Some(200), "a probe of {target}");
    }
    assert_eq!(post(&stand, &format!("/in?key={SECRET}"), &[], body.as_bytes()).await.status, 200);
}

/// The router once knew one source for a path: of two URLs that differ in their query alone the first answered 404, and during a
/// rotation the bucket's webhook was lost.
#[tokio::test]
async fn two_urls_may_differ_in_their_query_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("urls");
    let urls = ["http://test.com/hook?k=the-older-secret-1", "http://test.com/hook?k=the-newer-secret-2"];
    std::fs::write(&file, urls.join("\n")).expect("written");
    let stand = stand(&[("POSTERN_MCS_SECRET", ""), ("POSTERN_MCS_URL_FILE", file.to_str().expect("text"))]).await;
    let [first, second] = [urls[0], urls[1]].map(|url| url.trim_start_matches("http://test.com"));
    let signatures = [
        signed(&stand, first, &[], &confirmation()).await,
        signed(&stand, second, &[], &confirmation()).await,
        signed(&stand, urls[0], &[], &confirmation()).await,
    ];
    assert!(signatures[0] != signatures[1] && signatures[0] == signatures[2], "each signs its own URL: {signatures:?}");
    for wrong in ["/hook", "/hook?k=", "/hook?k=the-older-secret-1&k=the-newer-secret-2"] {
        assert_eq!(post(&stand, wrong, &[], confirmation().to_string().as_bytes()).await.status, 404, "{wrong}");
    }
}

/// A whole URL in the request line, as a proxy is given it, has no slash before its query.
#[tokio::test]
async fn a_whole_url_without_a_path_is_the_one_that_was_configured() {
    let stand = stand(&[("POSTERN_MCS_URL", "http://test.com?k=a-secret-in-the-query-1")]).await;
    for target in ["http://test.com?k=a-secret-in-the-query-1", "/?k=a-secret-in-the-query-1"] {
        signed(&stand, target, &[], &confirmation()).await;
    }
}

/// Hard case 14: the path of the URL is routed, also where the public URL has one that nobody removes on the way.
#[tokio::test]
async fn the_path_of_a_public_url_is_known_whole_and_without_its_beginning() {
    let stand = stand(&[("POSTERN_PUBLIC_URL", "https://hooks.example.com/events/in/")]).await;
    let expected = signed(&stand, &path(), &[], &confirmation()).await;
    let whole = format!("/events/in{}", path());
    assert_eq!(signed(&stand, &whole, &[], &confirmation()).await, expected);
    for wrong in [format!("/events{}", path()), format!("{whole}/"), format!("/in{}", path())] {
        let reply = post(&stand, &wrong, &[], confirmation().to_string().as_bytes()).await;
        assert_eq!(reply.status, 404, "{wrong}");
    }
    assert!(!stand.log().contains(SECRET), "{}", stand.log());
}

#[tokio::test]
async fn two_secrets_open_during_a_rotation_and_each_signs_its_own_url() {
    let mut stand = prepare(&[("POSTERN_MCS_SECRET", "")]).await;
    let file = stand.file("secrets", "the-old-secret-of-the-path\nthe-new-secret-of-the-path\n");
    stand.set("POSTERN_MCS_SECRET_FILE", &file);
    stand.begin().await;
    let old = signed(&stand, "/mcs/the-old-secret-of-the-path", &[], &confirmation()).await;
    let new = signed(&stand, "/mcs/the-new-secret-of-the-path", &[], &confirmation()).await;
    assert_ne!(old, new, "the URL is part of what is signed");
}

#[tokio::test]
async fn somebody_who_knows_the_url_gets_only_so_many_signatures() {
    let stand = stand(&[]).await;
    let body = confirmation().to_string();
    let (mut answered, mut refused) = (0, None);
    let begun = std::time::Instant::now();
    let path = path();
    let ask = || post(&stand, &path, &[], body.as_bytes());
    // Sixty at once and one more a second: asked for by four at a time, also on a slow machine, at last one is refused.
    while refused.is_none() {
        let replies: [_; 4] = tokio::join!(ask(), ask(), ask(), ask()).into();
        for reply in replies {
            match reply.status {
                200 => answered += 1,
                429 => refused = Some(reply),
                status => panic!("{status}"),
            }
        }
        assert!(answered <= 61 + begun.elapsed().as_secs(), "{answered} in {:?}", begun.elapsed());
    }
    assert!(answered >= 60, "{answered}");
    let refused = refused.expect("one is refused");
    assert!(refused.head.to_ascii_lowercase().contains("retry-after: "), "{}", refused.head);
    assert_eq!(metric(&stand, "reason=\"handshake\"").await, answered);
    // Notifications are not held up by that.
    assert_eq!(super::notify(&stand, &[super::record("s3:ObjectCreated:Put", "a", 1_577_453_615)]).await, 200);
}
