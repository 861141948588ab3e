//! Hard case 4: `validate.instance` keeps the sidecar not ready while credentials, bucket or topic are provably wrong, says what is
//! wrong, and never waits for a subscription.

use super::amazon::Script;
use super::bench::{Bench, HOST};

const BUCKET_URL: &str = "https://postern-bucket.s3.us-west-2.amazonaws.com/";

async fn bench() -> Bench {
    Bench::with(&[
        ("VALIDATE_INSTANCE", "true"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDTEST"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "very-secret"),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "postern-bucket"),
        ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-west-2"),
    ])
    .await
}

fn error(status: u16, code: &str) -> Script {
    Script::Body(
        status,
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>").into(),
    )
}

fn topic() -> Script {
    let entry = |key: &str, value: u8| format!("<entry><key>{key}</key><value>{value}</value></entry>");
    let entries = entry("SubscriptionsConfirmed", 2) + &entry("SubscriptionsPending", 1);
    Script::Body(
        200,
        format!(
            "<GetTopicAttributesResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><GetTopicAttributesResult>\
             <Attributes>{entries}</Attributes></GetTopicAttributesResult></GetTopicAttributesResponse>"
        )
        .into(),
    )
}

async fn says(bench: &Bench, status: u16, words: &str) {
    bench
        .eventually(words, async |b| {
            let ready = b.admin_get("/ready").await;
            ready.status == status && ready.body.contains(words)
        })
        .await;
}

#[tokio::test]
async fn a_missing_bucket_keeps_it_not_ready_until_it_is_there() {
    let bench = bench().await;
    bench.amazon.script(BUCKET_URL, error(404, "NoSuchBucket"));
    bench.amazon.script(&format!("{HOST}/"), topic());
    says(&bench, 503, "bucket postern-bucket does not exist").await;
    bench.amazon.script(BUCKET_URL, Script::Body(200, b"<ListBucketResult/>".to_vec()));
    // What is found about subscriptions is told and asks nothing of readiness.
    says(&bench, 200, "2 confirmed and 1 pending subscriptions").await;
    assert!(!bench.log().contains("very-secret"));
}

/// It was ready until the task that checks had said otherwise: whoever asked in between was told 200, and a pod with a wrong bucket
/// was sent traffic. The socket takes questions before anything else begins, so this one is the first to be answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_question_after_a_start_finds_it_not_ready() {
    let nobody = format!("http://{}", super::bench::free_port());
    for _ in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = [
            ("POSTERN_TLS", "off"),
            ("POSTERN_LISTEN", "127.0.0.1:0"),
            ("POSTERN_ADMIN_LISTEN", "127.0.0.1:0"),
            ("POSTERN_DATA_DIR", folder.path().to_str().expect("a path")),
            ("POSTERN_INSTANCE_NAME", "photos"),
            ("POSTERN_S3HTTP_SECRET", "a-secret-part-of-the-path"),
            ("POSTERN_S3_ENDPOINT_URL", nobody.as_str()),
            ("EVENT_NOTIFICATION_CALLBACK_URL", nobody.as_str()),
            ("VALIDATE_INSTANCE", "true"),
            ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDTEST"),
            ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "very-secret"),
            ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
            ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-west-2"),
        ];
        let env: std::collections::BTreeMap<String, String> =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let app = postern::app::bind(postern::config::load(&env).expect("a configuration")).await.expect("it starts");
        let admin = app.admin_addr();
        let asked = tokio::spawn(async move {
            let request = b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            super::bench::exchange(admin, request).await.expect("an answer")
        });
        let (end, endings) = tokio::sync::mpsc::channel(1);
        let running = tokio::spawn(app.run(endings));
        let first = asked.await.expect("no panic");
        assert_eq!(first.status, 503, "{}", first.body);
        end.send(postern::app::Ending::AtOnce).await.expect("it runs");
        running.await.expect("no panic").expect("a clean end");
    }
}

#[tokio::test]
async fn wrong_credentials_keep_it_not_ready_and_are_named() {
    let bench = bench().await;
    bench.amazon.script(BUCKET_URL, error(403, "InvalidAccessKeyId"));
    says(&bench, 503, "the AWS credentials are refused (InvalidAccessKeyId)").await;
    // Not ready is a word to Kubernetes; what is genuine is taken all the same.
    bench.app_knows_only(&[]).await;
}

#[tokio::test]
async fn credentials_without_permission_to_look_do_not_hold_a_start() {
    let bench = bench().await;
    bench.amazon.script(BUCKET_URL, error(403, "AccessDenied"));
    bench.amazon.script(&format!("{HOST}/"), topic());
    says(&bench, 200, "allow s3:ListBucket").await;
}
