//! Ceph RGW: real SigV4, its own dialect, and topics that keep what they cannot deliver.

use hyper::{Method, StatusCode};

use super::setup;
use crate::support::ceph::Ceph;
use crate::support::process::free_port;
use crate::support::receiver::{Received, Receiver};
use crate::support::sidecar::{KEY, Sidecar};
use crate::support::tool;

const SECRET: &str = "hush-hush-hush-hush-hush";

fn about(received: &Received) -> (String, String) {
    let body = received.json();
    let record = &body["message"]["raw"]["Records"][0];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    (
        text(&record["eventName"]),
        text(&body["message"]["events"][0]["elementKey"]) + &text(&record["s3"]["object"]["key"]),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_is_set_up_delivers_odd_keys_in_order_and_loses_nothing_while_the_sidecar_is_away() {
    let test = "ceph_is_set_up_delivers_odd_keys_in_order_and_loses_nothing_while_the_sidecar_is_away";
    if tool(test, "POSTERN_TEST_CEPH").is_none() {
        return;
    }
    let ceph = Ceph::start();
    ceph.call(Method::PUT, "photos", "", "").await;
    let receiver = Receiver::start().await;
    let intake = free_port();
    let (listen, public) = (format!("127.0.0.1:{intake}"), format!("http://127.0.0.1:{intake}"));
    let ours = [
        ("POSTERN_S3HTTP_PRESET", "ceph"),
        ("POSTERN_S3HTTP_SECRET", SECRET),
        ("POSTERN_S3HTTP_AUTH", "opaqueData=hush a+b"),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("POSTERN_S3_ENDPOINT_URL", ceph.endpoint()),
        ("POSTERN_S3_PATH_STYLE", "true"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "testsecret"),
    ];
    let said = setup(&ours, &["--dry-run"]).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(!ceph.call(Method::GET, "photos", "notification", "").await.body.contains("postern"));
    let said = setup(&ours, &[]).await;
    assert_eq!((said.code, said.verdicts("create").len()), (0, 2), "{}{}", said.out, said.err);
    let said = setup(&ours, &[]).await;
    assert_eq!((said.code, said.verdicts("ok").len()), (0, 2), "a second run changes nothing: {}", said.out);

    // The sidecar is not there yet: the topic keeps the changes.
    let key = "a%20b%2Bc%2520%C3%BC.txt";
    ceph.call(Method::PUT, &format!("photos/{key}"), "", "one").await;
    ceph.call(Method::PUT, &format!("photos/{key}"), "", "two").await;
    let arn = "arn:aws:sns:us-east-1:000000000000:unused";
    let mut settings: Vec<(&str, &str)> = ours[..4].to_vec();
    settings.push(("POSTERN_LISTEN", &listen));
    let sidecar = Sidecar::start(arn, &receiver.url("/events"), &settings).await;
    // The gateway looks for new topics, and at one that nobody answered for, only every half minute or so; on a
    // busy machine it was once seen to miss several turns.
    for _ in 0..1200 {
        if receiver.received().len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    receiver.wait_for("the first two are delivered", |_| receiver.received().len() >= 2).await;
    ceph.call(Method::DELETE, &format!("photos/{key}"), "", "").await;
    let is_removal = |received: &Received| about(received).0 == "ObjectRemoved:Delete";
    receiver.wait_for("the removal is delivered", is_removal).await;
    let all = receiver.received();
    assert!(
        all.iter().all(|received| received.is_signed_with(KEY) && about(received).1.ends_with("a b+c%20ü.txt")),
        "{all:?}"
    );
    assert_eq!(
        all.last().map(|received| about(received).0).as_deref(),
        Some("ObjectRemoved:Delete"),
        "the removal came last"
    );

    // Nobody without the opaqueData gets in.
    let forged = r#"{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","eventName":"ObjectCreated:Put","eventTime":"2026-01-01T00:00:00Z",
        "s3":{"bucket":{"name":"photos"},"object":{"key":"forged","size":1}},"opaqueData":"guess"}]}"#;
    let reply = crate::support::aws::call(Method::POST, &format!("{public}/s3/{SECRET}"), &[], forged).await;
    assert!(matches!(reply.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED), "{reply:?}");
    assert_eq!(receiver.received().len(), 3);
    drop(sidecar);

    let said = setup(&ours, &["--remove"]).await;
    assert_eq!((said.code, said.verdicts("remove").len()), (0, 2), "{}", said.out);
    let said = setup(&ours, &["--remove"]).await;
    assert_eq!((said.code, said.verdicts("ok").len()), (0, 2), "{}", said.out);
}
