//! MCS S3 webhooks against the real sidecar: handshakes, notifications, and what stands between it and strangers.

mod handshake;
mod notification;
mod trouble;

use serde_json::{Value, json};

use crate::attacks::bench::{Reply, exchange};
use crate::hard_cases::stand::Stand;

const SECRET: &str = "a-secret-part-of-the-path";
const PROJECT: &str = "mcs2883541269";
const BUCKET: &str = "bucketA";

/// A sidecar whose webhook is `https://hooks.example.com/mcs/<SECRET>`; `extra` wins.
async fn stand(extra: &[(&str, &str)]) -> Stand {
    let mut stand = prepare(extra).await;
    stand.begin().await;
    stand
}

async fn prepare(extra: &[(&str, &str)]) -> Stand {
    let settings = [
        ("POSTERN_PUBLIC_URL", "https://hooks.example.com"),
        ("POSTERN_MCS_SECRET", SECRET),
        ("POSTERN_MCS_TOPICS", "mcs2883541269|bucketA, mcs5259999770|myfiles-ash"),
    ];
    Stand::prepare_without_sns(&[&settings[..], extra].concat()).await
}

fn path() -> String {
    format!("/mcs/{SECRET}")
}

/// POSTs `body` with these header lines besides framing.
async fn post(stand: &Stand, target: &str, headers: &[&str], body: &[u8]) -> Reply {
    let host =
        if headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) { "" } else { "host: x\r\n" };
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\n{host}{lines}content-length: {length}\r\nconnection: close\r\n\r\n");
    let reply = exchange(stand.intake, &[head.as_bytes(), body].concat()).await;
    reply.unwrap_or_else(|error| panic!("no answer ({error}):\n{}", stand.log()))
}

async fn notify(stand: &Stand, records: &[Value]) -> u16 {
    post(stand, &path(), &[], json!({"Records": records}).to_string().as_bytes()).await.status
}

/// A record as documented (`s3-dialects.md` 1.5).
fn record(event: &str, key: &str, sequencer: u64) -> Value {
    json!({"s3": {"object": {"eTag": "aed563ecafb4bcc5654c597a421547b2", "sequencer": sequencer, "key": key, "size": 100},
        "configurationId": "1", "bucket": {"name": BUCKET, "ownerIdentity": {"principalId": PROJECT}},
        "s3SchemaVersion": "1.0"},
        "eventVersion": "1.0", "requestParameters": {"sourceIPAddress": "185.6.245.156"},
        "userIdentity": {"principalId": "2407013e-cbc1-415f-9102-16fb9bd6946b"},
        "eventName": event, "awsRegion": "ru-msk", "eventSource": "aws:s3",
        "responseElements": {"x-amz-request-id": format!("R{key}{sequencer}")}})
}

/// The documented handshake.
fn confirmation() -> Value {
    json!({"Timestamp": "2019-12-26T19:29:12+03:00", "Type": "SubscriptionConfirmation",
        "Message": "You have chosen to subscribe to the topic $topic. To confirm the subscription you need to response with calculated signature",
        "TopicArn": "mcs2883541269|bucketA|s3:ObjectCreated:Put", "SignatureVersion": 1,
        "Token": "RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2aUQc99btJp3E49tA"})
}

async fn metric(stand: &Stand, label: &str) -> u64 {
    let scrape = crate::hard_cases::stand::get(stand.admin, "/metrics").await.expect("an answer").body;
    let values = scrape.lines().filter(|line| line.contains(label)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().unwrap_or(0.0) as u64).sum()
}
