//! `postern simulate` in every dialect against the real sidecar: what it calls genuine arrives once, what it forges never does.

use std::collections::BTreeSet;
use std::process::Output;

use crate::hard_cases::stand::{PATIENCE, Stand, stderr, stdout};

const SECRET: &str = "a-secret-part-of-the-path";
const COUNT: usize = 60;

/// The arguments that every run has: each message of its own key, some of them twice, some late, some forged.
const RUN: [&str; 12] = [
    "--count",
    "60",
    "--keys",
    "1000000",
    "--duplicates",
    "30",
    "--reorder",
    "30",
    "--forge",
    "60",
    "--bucket",
    "simulated",
];

async fn simulate(stand: &Stand, target: &str, more: &[&str]) -> Output {
    let url = format!("http://{}{target}", stand.intake);
    stand.cli(&[&["simulate", "--target", &url][..], more].concat()).await
}

/// Every key of the run was taken, each with one event, and no other.
async fn exact(stand: &Stand, what: &str) {
    let expected: BTreeSet<String> = (0..COUNT).map(|number| format!("simulated/object {number:06}.txt")).collect();
    let all = stand.app.wait_until(PATIENCE, |ledger| ledger.objects.len() >= COUNT).await;
    assert!(all, "{what}: {} of {COUNT}\n{}", stand.app.ledger(|ledger| ledger.objects.len()), stand.log());
    // What is owed has been delivered: a forgery that was taken would be among it.
    stand.wait_rows(&["--state", "owed"], 0).await;
    stand.app.ledger(|ledger| {
        let keys: BTreeSet<String> = ledger.objects.keys().cloned().collect();
        assert_eq!(keys, expected, "{what}");
        assert!(ledger.objects.values().all(|object| object.events.len() == 1), "{what}: twice");
        assert!(ledger.is_clean() && ledger.repeated == 0, "{what}: {ledger:?}");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_of_mcs_is_saved_and_its_notifications_arrive_once() {
    let mut stand = Stand::prepare_without_sns(&[("POSTERN_MCS_TOPICS", "mcs1|simulated")]).await;
    let path = format!("/in?key={SECRET}");
    let url = format!("http://{}{path}", stand.intake);
    stand.set("POSTERN_MCS_URL", &url);
    stand.begin().await;
    let run = [&RUN[..], &["--dialect", "mcs", "--project", "mcs1", "--event", "mix"]].concat();
    let output = simulate(&stand, &path, &run).await;
    let said = stdout(&output);
    assert!(output.status.success(), "{said}{}\n{}", stderr(&output), stand.log());
    assert!(
        said.contains(&format!("POSTERN_MCS_URL='{url}'\n")) && said.contains("POSTERN_MCS_TOPICS='mcs1|simulated'\n"),
        "{said}"
    );
    assert!(said.contains("the signature is right") && said.contains(" 0 ACCEPTED"), "{said}");
    exact(&stand, "mcs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_the_cloud_would_not_accept_is_explained() {
    let mut stand = Stand::prepare_without_sns(&[("POSTERN_MCS_TOPICS", "mcs1|simulated")]).await;
    // The same path as the one it listens on, and another text: as behind an ingress that was named differently in the panel.
    stand.set("POSTERN_MCS_URL", &format!("https://{}/webhook", stand.intake));
    stand.begin().await;
    let run = [&RUN[..], &["--dialect", "mcs", "--project", "mcs1"]].concat();
    let output = simulate(&stand, "/webhook", &run).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("byte for byte") && stderr(&output).contains("over https://"),
        "{}",
        stderr(&output)
    );

    let foreign = [&RUN[..], &["--dialect", "mcs", "--project", "mcs2"]].concat();
    let output = simulate(&stand, "/webhook", &foreign).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("POSTERN_MCS_TOPICS"), "{}", stderr(&output));
    assert!(stand.log().contains("\"mcs2|simulated\""), "{}", stand.log());
    stand.app.ledger(|ledger| assert_eq!(ledger.requests, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bare_dialect_arrives_once_and_its_forgeries_never() {
    for (dialect, auth) in [
        ("minio", "a-token-of-minio"),
        ("rustfs", "Bearer a-token-of-rustfs"),
        ("ceph", "opaqueData=iamopaque"),
        ("noobaa", "Basic user:password"),
        ("versitygw", ""),
        ("b2", "super-secret-signing-key-from-b2"),
        ("eventbridge", "X-Api-Key: a key of an API destination"),
        ("sns-raw", ""),
    ] {
        let mut stand = Stand::prepare_without_sns(&[
            ("POSTERN_S3HTTP_SECRET", SECRET),
            ("POSTERN_S3HTTP_PRESET", dialect),
            ("POSTERN_S3HTTP_AUTH", auth),
            ("POSTERN_BUCKETS", "simulated"),
            ("POSTERN_INSTANCE_NAME", "simulated"),
        ])
        .await;
        stand.begin().await;
        let mut run = [&RUN[..], &["--dialect", dialect, "--event", "mix"]].concat();
        if !auth.is_empty() {
            run.extend(["--auth", auth]);
        }
        let output = simulate(&stand, &format!("/s3/{SECRET}"), &run).await;
        let said = stdout(&output);
        assert!(output.status.success(), "{dialect}: {said}{}\n{}", stderr(&output), stand.log());
        assert!(said.contains(&format!("POSTERN_S3HTTP_PRESET={dialect}\n")), "{said}");
        exact(&stand, dialect).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_fails_the_run() {
    let mut stand = Stand::prepare_without_sns(&[
        ("POSTERN_S3HTTP_SECRET", SECRET),
        ("POSTERN_S3HTTP_PRESET", "minio"),
        ("POSTERN_S3HTTP_AUTH", "the-token"),
        ("POSTERN_INSTANCE_NAME", "simulated"),
    ])
    .await;
    stand.begin().await;
    let run = ["--dialect", "minio", "--auth", "another-token", "--count", "5"];
    let output = simulate(&stand, &format!("/s3/{SECRET}"), &run).await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stdout(&output).contains("NOT accepted: 5"), "{}", stdout(&output));
}

#[test]
fn what_does_not_go_together_is_said_before_anything_is_sent() {
    for (arguments, why) in [
        (&["--dialect", "b2"][..], "signing secret"),
        (&["--dialect", "mcs", "--auth", "x"], "--auth"),
        (&["--dialect", "sns", "--auth", "x"], "--auth"),
        (&["--dialect", "sns", "--project", "mcs2883541269"], "--project"),
        (&["--dialect", "eventbridge", "--records", "2"], "--records"),
        (&["--dialect", "ceph", "--event", "ObjectTagging:Put"], "ObjectCreated:Put"),
        (&["--dialect", "minio", "--confirm"], "--confirm is for sns"),
        (&["--dialect", "minio", "--topic", "arn:aws:sns:us-east-1:123456789012:postern-demo"], "--topic is for sns"),
        (&["--dialect", "mcs", "--listen", "127.0.0.1:9911"], "--listen is for sns"),
        (&["--dialect", "ceph", "--anchor-out", "anchor.pem"], "--anchor-out is for sns"),
        (&["--dialect", "b2", "--auth", "x", "--signing-key", "key.pem"], "--signing-key is for sns"),
        (&["--dialect", "sns-raw", "--signature-version", "2"], "--signature-version is for sns"),
        (&["--dialect", "b2", "--auth", " "], "no value"),
        (&["--dialect", "minio", "--auth", "Bearer "], "no value"),
        (&["--dialect", "ceph", "--auth", "opaqueData="], "no value"),
        (&["--dialect", "eventbridge", "--auth", "opaqueData=x"], "opaqueData"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_postern"))
            .args(["simulate", "--target", "http://127.0.0.1:9/s3/x", "--wait", "0s"])
            .args(arguments)
            .output()
            .expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
    }
}
