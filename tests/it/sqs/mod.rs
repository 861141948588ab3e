//! The SQS source: the real sidecar before a stand-in of SQS with faults, before LocalStack, and through a fault proxy.

mod counterparts;
mod faults;
mod instances;
mod kills;
mod letters;
mod poison;
mod shapes;

use postern::simulator::dice::Dice;
use postern::simulator::sns::records;
use postern::simulator::sqs::{Options, Queue};
use serde_json::Value;

use crate::hard_cases::stand::{Stand, created};

/// Settings that every sidecar here needs: nobody is to look for a metadata service.
const CREDENTIALS: [(&str, &str); 3] = [
    ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test"),
    ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
];

async fn queue(options: Options) -> Queue {
    Queue::start(options).await.expect("a queue")
}

/// A sidecar that drains `queue`, not yet begun.
async fn prepared(queue: &Queue, extra: &[(&str, &str)]) -> Stand {
    let url = queue.url().to_string();
    let mut settings = CREDENTIALS.to_vec();
    settings.push(("POSTERN_SQS_QUEUE_URL", url.as_str()));
    settings.extend_from_slice(extra);
    Stand::prepare(&settings).await
}

/// A running one.
async fn draining(queue: &Queue, extra: &[(&str, &str)]) -> Stand {
    let mut stand = prepared(queue, extra).await;
    stand.begin().await;
    stand
}

/// What S3 sends about a created object.
fn bare(key: &str) -> String {
    records::message(&[created(key)])
}

/// Waits until nothing is left in the queue.
async fn emptied(stand: &Stand, queue: &Queue) {
    stand.eventually("the queue is empty", async |_| queue.left() == 0).await;
}

/// The value of a sample whose line holds all of `parts`; 0 where there is none.
async fn sample(stand: &Stand, parts: &[&str]) -> f64 {
    let metrics =
        crate::hard_cases::stand::get(stand.admin, "/metrics").await.map_or(String::new(), |reply| reply.body);
    let line = metrics.lines().find(|line| parts.iter().all(|part| line.contains(part)));
    line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0.0)
}

/// The reason of the condition `sqs default`, where it is not well.
async fn trouble(stand: &Stand) -> Option<String> {
    let ready = crate::hard_cases::stand::get(stand.admin, "/ready").await?;
    let ready: Value = serde_json::from_str(&ready.body).ok()?;
    let conditions = ready["conditions"].as_object()?;
    let (_, condition) = conditions.iter().find(|(name, _)| name.starts_with("sqs "))?;
    (condition["ok"] == false).then(|| condition["reason"].as_str().unwrap_or_default().to_owned())
}

/// The reasons of dead letters, sorted.
async fn dead_reasons(stand: &Stand) -> Vec<String> {
    let rows = stand.rows(&["--state", "dead", "--limit", "1000"]).await;
    let word =
        |row: &Value| row["reason"].as_str().and_then(|text| text.split(':').next()).unwrap_or_default().to_owned();
    let mut reasons: Vec<_> = rows.iter().map(word).collect();
    reasons.sort();
    reasons
}

fn dice() -> Dice {
    Dice::new()
}
