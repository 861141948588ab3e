//! Polling and reconciliation end to end: the real binary against a stand-in for S3, and against real ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use postern::clock::{Clock as _, SystemClock, UnixMillis};
use postern::simulator::process::{Running, Sidecar};

use crate::support::receiver::Receiver;
use crate::support::s3::S3;
use crate::support::sidecar::KEY;
use crate::support::wait::{PATIENCE, wait_until};

mod ceph;
mod kills;
mod million;
mod polling;
mod real;
mod reconcile;
mod troubles;
mod unsteady;

/// A stand-in for S3, an app, and a sidecar between them that is not running yet.
struct Bench {
    s3: S3,
    app: Receiver,
    sidecar: Sidecar,
    folder: tempfile::TempDir,
}

/// A sidecar that lists the bucket `photos` at `endpoint`.
fn listing_sidecar(folder: &Path, endpoint: &str, app: &Receiver) -> Sidecar {
    Sidecar::new(Path::new(env!("CARGO_BIN_EXE_postern")), folder)
        .expect("ports")
        .with("EVENT_NOTIFICATION_CALLBACK_URL", app.url("/events"))
        .with("EVENT_NOTIFICATION_SIGNATURE_KEY", KEY)
        .with("POSTERN_INSTANCE_NAME", "photos")
        .with("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos")
        .with("FILEMANAGEMENT_PROVIDER_REGION_NAME", "us-east-1")
        .with("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "test")
        .with("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "test-secret")
        .with("POSTERN_S3_ENDPOINT_URL", endpoint)
        .with("POSTERN_S3_PATH_STYLE", "true")
        .with("NO_PROXY", "127.0.0.1,localhost")
}

fn polling_sidecar(folder: &Path, endpoint: &str, app: &Receiver) -> Sidecar {
    listing_sidecar(folder, endpoint, app)
        .with("EVENT_VENDOR_TYPE", "polling")
        .with("EVENT_POLLER_REFRESH_INTERVAL", "1s")
}

impl Bench {
    async fn polling() -> Self {
        let (s3, app) = (S3::start().await, Receiver::start().await);
        let folder = tempfile::tempdir().expect("a folder");
        let sidecar = polling_sidecar(folder.path(), &s3.endpoint(), &app);
        Self { s3, app, sidecar, folder }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.sidecar = self.sidecar.with(name, value);
        self
    }

    async fn start(&self) -> Running {
        self.sidecar.start(PATIENCE).await.expect("the sidecar starts").0
    }

    /// Starts it and waits for the first walk.
    async fn start_with_baseline(&self) -> Running {
        let mut running = self.start().await;
        walks(&mut running, 1.0).await;
        running
    }

    /// What the app was told, as (event id, key, event type), each event once.
    fn told(&self) -> BTreeSet<(String, String, String)> {
        told(&self.app)
    }

    /// Waits until the app was told all of `expected`, and nothing else.
    async fn is_told(&self, expected: &[(&str, &str)]) {
        is_told(&self.app, expected).await;
    }
}

fn told(app: &Receiver) -> BTreeSet<(String, String, String)> {
    let read = |body: serde_json::Value| {
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        let event = &body["message"]["events"][0];
        (text(&body["message"]["eventId"]), text(&event["objectId"]), text(&event["eventType"]))
    };
    app.received().iter().map(|received| read(received.json())).collect()
}

async fn is_told(app: &Receiver, expected: &[(&str, &str)]) {
    let mut expected: Vec<(String, String)> =
        expected.iter().map(|(key, kind)| ((*key).to_owned(), (*kind).to_owned())).collect();
    expected.sort();
    let what = format!("the app was told {expected:?}");
    let now = || {
        let mut all: Vec<_> = told(app).into_iter().map(|(_, key, kind)| (key, kind)).collect();
        all.sort();
        all
    };
    wait_until(&what, || async { (now().len() >= expected.len()).then_some(()) }).await;
    assert_eq!(now(), expected);
}

/// The sum of the samples of `name` whose labels hold `label`.
async fn metric(running: &mut Running, name: &str, label: &str) -> f64 {
    let (_, text) = running.ask("/metrics").await.expect("metrics");
    let sample = |line: &str| {
        let (sample, value) = line.rsplit_once(' ')?;
        (sample.split('{').next() == Some(name) && sample.contains(label)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(sample).sum()
}

/// Waits for so many complete walks since the sidecar began.
async fn walks(running: &mut Running, least: f64) {
    let deadline = std::time::Instant::now() + PATIENCE * 4;
    while metric(running, "postern_listing_walks_total", "complete").await < least {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {least} walks");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits for so many more complete walks that began after this was called.
async fn more_walks(running: &mut Running, more: f64) {
    let now = metric(running, "postern_listing_walks_total", "complete").await;
    walks(running, now + more + 1.0).await;
}

/// Waits until the condition of the listing is not well and says `text`.
async fn complains(running: &mut Running, text: &str) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (status, body) = running.ask("/ready").await.expect("an answer");
        let ready: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let condition = &ready["conditions"]["listing photos"];
        if condition["ok"] == false && condition["reason"].as_str().expect("a reason").contains(text) {
            assert_eq!(status, 200, "a listing that does not go on makes nobody not ready: {body}");
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no {text:?} in {body}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// A time before the sidecar was started.
fn long_ago() -> UnixMillis {
    SystemClock.now().minus(Duration::from_secs(3600))
}

fn now() -> UnixMillis {
    SystemClock.now()
}
