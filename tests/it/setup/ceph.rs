//! Ceph RGW: real SigV4, its own dialect, and topics that keep what they cannot deliver.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::{Method, StatusCode};
use postern::simulator::process::Sidecar;

use super::setup;
use crate::support::ceph::Ceph;
use crate::support::front::Front;
use crate::support::receiver::{Received, Receiver};
use crate::support::sidecar::KEY;
use crate::support::tool;
use crate::support::wait::{PATIENCE, wait_until};

const SECRET: &str = "hush-hush-hush-hush-hush";
const ODD: &str = "a b+c%20ü.txt";

/// Event name, key and eTag of each event that the app was given, by event id: once, however often it was sent.
fn told(app: &Receiver) -> BTreeMap<String, (String, String, String)> {
    let told = |received: &Received| {
        assert!(received.is_signed_with(KEY));
        let body = received.json();
        let record = &body["message"]["raw"]["Records"][0];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let key = text(&body["message"]["events"][0]["objectId"]);
        assert_eq!(key, text(&record["s3"]["object"]["key"]), "Ceph's keys are as they are");
        (text(&body["message"]["eventId"]), (text(&record["eventName"]), key, text(&record["s3"]["object"]["eTag"])))
    };
    app.received().iter().map(told).collect()
}

/// The eTags of the creations of `key` that the app was told of, in order.
fn heard(app: &Receiver, key: &str) -> Vec<String> {
    let body = |received: &Received| received.json()["message"]["raw"]["Records"][0].clone();
    let all = app.received().iter().map(body).filter(|record| record["s3"]["object"]["key"] == key).collect::<Vec<_>>();
    all.iter().map(|record| record["s3"]["object"]["eTag"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ceph_is_set_up_and_sends_again_until_all_is_taken_while_the_sidecar_is_away_killed_or_full() {
    let test = "ceph_is_set_up_and_sends_again_until_all_is_taken_while_the_sidecar_is_away_killed_or_full";
    if tool(test, "POSTERN_TEST_CEPH").is_none() {
        return;
    }
    let (ceph, app, front) = (Ceph::start().await, Receiver::start().await, Front::start().await);
    ceph.bucket("photos").await;
    let public = front.origin();
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
    assert!(said.out.contains("retry_sleep_duration"), "newer gateways are asked for patience: {}", said.out);
    assert!(!ceph.call(Method::GET, "photos", "notification", "").await.body.contains("postern"));
    let said = setup(&ours, &[]).await;
    assert_eq!((said.code, said.verdicts("create").len()), (0, 2), "{}{}", said.out, said.err);
    let said = setup(&ours, &[]).await;
    assert_eq!((said.code, said.verdicts("ok").len()), (0, 2), "a second run changes nothing: {}", said.out);

    // The sidecar is away: the topic keeps the changes and sends them again.
    let first = ceph.put("photos", ODD, "one").await;
    let second = ceph.put("photos", ODD, "two").await;
    front.wait_for(StatusCode::BAD_GATEWAY, 3).await;
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = Sidecar::new(Path::new(env!("CARGO_BIN_EXE_postern")), folder.path())
        .expect("ports")
        .with("EVENT_NOTIFICATION_CALLBACK_URL", app.url("/events"))
        .with("EVENT_NOTIFICATION_SIGNATURE_KEY", KEY);
    let sidecar = ours[..4].iter().fold(sidecar, |sidecar, (name, value)| sidecar.with(name, *value));
    // Some thirty events.
    let sidecar = sidecar.with("POSTERN_QUEUE_MAX_BYTES", "64KiB");
    let origin = sidecar.url("").origin().ascii_serialization();
    let (running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    front.lead_to(Some(&origin));
    // The gateway sends what waits side by side: the first may come after the second, and the app does not hear of it then.
    wait_until("the newer state is told", || async { heard(&app, ODD).last().filter(|tag| **tag == second).map(drop) })
        .await;
    assert!(heard(&app, ODD).iter().all(|tag| *tag == first || *tag == second), "{:?}", heard(&app, ODD));
    ceph.delete("photos", ODD).await;
    let removal = || told(&app).into_values().any(|(name, key, _)| name == "ObjectRemoved:Delete" && key == ODD);
    wait_until("the removal is told", || async { removal().then_some(()) }).await;

    // The app takes nothing, so that the sidecar fills; then it is killed, and comes back.
    app.answer(StatusCode::SERVICE_UNAVAILABLE);
    let keys: Vec<String> = (0..60).map(|n| format!("many/{n:02} ü")).collect();
    for key in &keys {
        ceph.put("photos", key, key).await;
    }
    front.wait_for(StatusCode::SERVICE_UNAVAILABLE, 3).await;
    running.kill();
    let (_running, _) = sidecar.start(PATIENCE).await.expect("the sidecar starts");
    app.answer(StatusCode::OK);
    let many = || told(&app).into_values().filter(|(_, key, _)| key.starts_with("many/")).collect::<Vec<_>>();
    wait_until("all is told", || async { (many().len() >= keys.len()).then_some(()) }).await;

    // Nobody without the opaqueData gets in.
    let forged = r#"{"Records":[{"eventVersion":"2.2","eventSource":"ceph:s3","eventName":"ObjectCreated:Put","eventTime":"2026-01-01T00:00:00Z",
        "s3":{"bucket":{"name":"photos"},"object":{"key":"forged","size":1}},"opaqueData":"guess"}]}"#;
    let reply = crate::support::aws::call(Method::POST, &format!("{origin}/s3/{SECRET}"), &[], forged).await;
    assert!(matches!(reply.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED), "{reply:?}");

    // What is sent last is told last, so that nothing else is under way: each change was told once, under one id.
    ceph.put("photos", "last", "last").await;
    let last = || told(&app).into_values().any(|(_, key, _)| key == "last");
    wait_until("the last is told", || async { last().then_some(()) }).await;
    let mut told_keys: Vec<String> = many().into_iter().map(|(_, key, _)| key).collect();
    told_keys.sort();
    assert_eq!(told_keys, keys, "each once");
    assert!(!told(&app).into_values().any(|(_, key, _)| key == "forged"));

    let said = setup(&ours, &["--remove"]).await;
    assert_eq!((said.code, said.verdicts("remove").len()), (0, 2), "{}", said.out);
    let said = setup(&ours, &["--remove"]).await;
    assert_eq!((said.code, said.verdicts("ok").len()), (0, 2), "{}", said.out);
}
