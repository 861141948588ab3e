//! Bare S3 records over HTTP against the real sidecar: each store, each proof, and what stands between them and strangers.

mod proof;
mod stores;
mod trouble;

use serde_json::{Value, json};

use crate::attacks::bench::{Reply, exchange};
use crate::hard_cases::stand::{Stand, get};

const SECRET: &str = "an-s3-secret-part-of-the-path";

/// A sidecar that takes records at `/s3/<SECRET>`; `extra` wins.
async fn stand(extra: &[(&str, &str)]) -> Stand {
    let mut stand = prepare(extra).await;
    stand.begin().await;
    stand
}

async fn prepare(extra: &[(&str, &str)]) -> Stand {
    let settings = [("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_INSTANCE_NAME", "store")];
    Stand::prepare_without_sns(&[&settings[..], extra].concat()).await
}

fn path() -> String {
    format!("/s3/{SECRET}")
}

/// POSTs `body` with these header lines besides framing.
async fn post(stand: &Stand, target: &str, headers: &[&str], body: &[u8]) -> Reply {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nhost: x\r\n{lines}content-length: {length}\r\nconnection: close\r\n\r\n");
    let reply = exchange(stand.intake, &[head.as_bytes(), body].concat()).await;
    reply.unwrap_or_else(|error| panic!("no answer ({error}):\n{}", stand.log()))
}

/// The status of a POST to the route of the stand.
async fn send(stand: &Stand, headers: &[&str], body: &Value) -> u16 {
    post(stand, &path(), headers, body.to_string().as_bytes()).await.status
}

/// A record as MinIO writes it.
fn record(event: &str, bucket: &str, key: &str, sequencer: &str) -> Value {
    json!({"eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventTime": "2026-09-10T17:41:54.000Z",
        "eventName": event, "responseElements": {"x-amz-request-id": format!("R{key}{sequencer}")},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "Config", "bucket": {"name": bucket},
        "object": {"key": key, "size": 6, "eTag": "9a7f", "sequencer": sequencer}}})
}

fn body(records: &[Value]) -> Value {
    json!({"EventName": "s3:ObjectCreated:Put", "Key": "images/x", "Records": records})
}

/// A new object of the bucket `images`.
fn created(key: &str) -> Value {
    body(&[record("s3:ObjectCreated:Put", "images", key, "15C32494527B46C5")])
}

/// The sum of the samples that hold all of `labels`.
async fn metric(stand: &Stand, labels: &[&str]) -> u64 {
    let scrape = get(stand.admin, "/metrics").await.expect("an answer").body;
    let fits = |line: &&str| labels.iter().all(|label| line.contains(label));
    let values = scrape.lines().filter(fits).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().unwrap_or(0.0) as u64).sum()
}

/// Everything that the app was handed was signed rightly.
fn assert_signed(stand: &Stand) {
    let (unsigned, bad) = stand.app.ledger(|ledger| (ledger.unsigned, ledger.bad_signatures));
    assert_eq!((unsigned, bad), (0, 0));
}
