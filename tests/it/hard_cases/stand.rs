//! What a hard case needs: an SNS, an app, and the real sidecar between them as a process that can be signalled and asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use postern::clock::{Clock as _, SystemClock};
use postern::simulator::dice::Dice;
use postern::simulator::receiver::{self, Callback, Listen, Receiver};
use postern::simulator::sns::envelope::Envelope;
use postern::simulator::sns::records::{self, Change};
use postern::simulator::sns::{self, Simulator};
use postern::simulator::wire::{Connection, Target};
use serde_json::Value;
use tempfile::TempDir;

use crate::attacks::bench::{Reply, exchange, free_port};
pub(crate) use crate::support::wait::PATIENCE;

pub(crate) const KEY: &str = "the key of the hard cases";
pub(crate) const BUCKET: &str = "hard-cases";

pub(crate) struct Stand {
    pub(crate) simulator: Simulator,
    pub(crate) app: Receiver,
    pub(crate) intake: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
    settings: BTreeMap<String, String>,
    child: Option<Child>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An app that checks signatures with [`KEY`].
pub(crate) async fn app() -> Receiver {
    app_at(Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))).await
}

pub(crate) async fn app_at(listen: Listen) -> Receiver {
    let options = receiver::Options { listen, keys: vec![KEY.to_owned()], ..receiver::Options::default() };
    Receiver::start(options).await.expect("an app")
}

/// A record of a created object with an id of its own.
pub(crate) fn created(key: &str) -> Value {
    record("ObjectCreated:Put", key, 1)
}

pub(crate) fn record(event: &str, key: &str, order: u32) -> Value {
    let change = Change { event, bucket: BUCKET, key, region: "us-east-1", time: SystemClock.now(), order };
    records::record(&change, &mut Dice::new())
}

impl Stand {
    /// A running sidecar before an app that takes everything; `extra` wins over what is set here, and empty unsets.
    pub(crate) async fn start(extra: &[(&str, &str)]) -> Self {
        let mut stand = Self::prepare(extra).await;
        stand.begin().await;
        stand
    }

    /// The same, not yet begun.
    pub(crate) async fn prepare(extra: &[(&str, &str)]) -> Self {
        let simulator = Simulator::start(sns::Options::default()).await.expect("a simulator");
        let app = app().await;
        let dir = tempfile::tempdir().expect("a directory");
        let anchor = dir.path().join("anchor.pem");
        std::fs::write(&anchor, simulator.anchor_pem()).expect("a file");
        let (intake, admin) = (free_port(), free_port());
        let text = |path: &Path| path.to_str().expect("a path").to_owned();
        let settings = [
            ("POSTERN_LISTEN", intake.to_string()),
            ("POSTERN_ADMIN_LISTEN", admin.to_string()),
            ("POSTERN_TLS", "off".to_owned()),
            ("POSTERN_DATA_DIR", text(&dir.path().join("store"))),
            ("POSTERN_LOG_FORMAT", "text".to_owned()),
            ("POSTERN_SNS_ENDPOINT_URL", simulator.endpoint_url().as_str().trim_end_matches('/').to_owned()),
            ("POSTERN_SNS_TRUST_ANCHOR_FILE", text(&anchor)),
            ("EVENT_SNS_TOPIC_ARN", simulator.topic_arn().to_owned()),
            ("EVENT_NOTIFICATION_CALLBACK_URL", app.url()),
            ("EVENT_NOTIFICATION_SIGNATURE_KEY", KEY.to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        let mut stand = Self { simulator, app, intake, admin, dir, settings, child: None };
        for (name, value) in extra {
            stand.set(name, value);
        }
        stand
    }

    /// As [`Stand::prepare`], and nothing of SNS: no topic, no endpoint, no anchor.
    pub(crate) async fn prepare_without_sns(extra: &[(&str, &str)]) -> Self {
        let unset = ["POSTERN_SNS_ENDPOINT_URL", "POSTERN_SNS_TRUST_ANCHOR_FILE", "EVENT_SNS_TOPIC_ARN"];
        let unset = unset.map(|name| (name, ""));
        Self::prepare(&[&unset[..], extra].concat()).await
    }

    /// Sets a variable for the next start; an empty value unsets it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.remove(name);
        if !value.is_empty() {
            self.settings.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A file in the directory of the test; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    }

    /// `postern` with these arguments, in the environment of the sidecar.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments).env_clear().envs(&self.settings).stdin(Stdio::null());
        command
    }

    /// Starts the sidecar and waits until it is ready.
    pub(crate) async fn begin(&mut self) {
        let log = self.dir.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let child = self.command(&[]).stdout(Stdio::null()).stderr(log).spawn().expect("the sidecar starts");
        let child = self.child.insert(child);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if get(self.admin, "/ready").await.is_some_and(|reply| reply.status == 200) {
                return;
            }
            if let Ok(Some(status)) = child.try_wait() {
                panic!("the sidecar ended with {status}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the sidecar does not become ready:\n{}", self.log());
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("a running sidecar");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Sends a signal such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("a running sidecar").id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill works");
    }

    /// Waits until the sidecar has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a running sidecar");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().expect("a child") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.child = Some(child);
        panic!("the sidecar does not end:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Runs a command of the operator to its end, off the runtime: it may talk to the sidecar.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        run(self.command(arguments)).await
    }

    /// The rows of `postern events --json` with these arguments, newest first.
    pub(crate) async fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        rows(self.command(&[&["events", "--json"], arguments].concat())).await
    }

    /// Waits until as many rows fit.
    pub(crate) async fn wait_rows(&self, arguments: &[&str], count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let rows = self.rows(arguments).await;
            if rows.len() == count {
                return rows;
            }
            assert!(begun.elapsed() < PATIENCE, "{arguments:?}: never {count} rows but {rows:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until `what` holds.
    pub(crate) async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn envelope(&self, records: &[Value]) -> Envelope {
        self.simulator.s3_notification(records, &mut Dice::new())
    }

    /// Posts an envelope; the status.
    pub(crate) async fn post(&self, envelope: &Envelope) -> u16 {
        let url = format!("http://{}/sns", self.intake).parse().expect("a URL");
        let target = Arc::new(Target::new(&url, None).expect("a target"));
        let mut connection = Connection::new(target).with_timeout(PATIENCE);
        let reply = connection.post(envelope.headers(), Bytes::from(envelope.to_body())).await;
        let reply = reply.unwrap_or_else(|error| panic!("no answer ({error}):\n{}", self.log()));
        reply.status.as_u16()
    }

    /// One notification of these records; the status.
    pub(crate) async fn notify(&self, records: &[Value]) -> u16 {
        self.post(&self.envelope(records)).await
    }

    /// One accepted notification for each key.
    pub(crate) async fn create(&self, keys: &[&str]) {
        for key in keys {
            assert_eq!(self.notify(&[created(key)]).await, 200, "{key}\n{}", self.log());
        }
    }

    /// Waits until the app has taken an event about each of the keys.
    pub(crate) async fn delivered(&self, keys: &[&str]) {
        self.delivered_to(&self.app, keys).await;
    }

    pub(crate) async fn delivered_to(&self, app: &Receiver, keys: &[&str]) {
        let all = app.wait_until(PATIENCE, |ledger| keys.iter().all(|key| ledger.objects.contains_key(*key))).await;
        let known = app.ledger(|ledger| ledger.objects.keys().cloned().collect::<Vec<_>>());
        assert!(all, "the app knows {known:?} and not all of {keys:?}\n{}", self.log());
    }

    /// Waits until the app was asked so often.
    pub(crate) async fn asked(&self, times: u64) {
        let asked = self.app.wait_until(PATIENCE, |ledger| ledger.requests >= times).await;
        assert!(asked, "asked {} times\n{}", self.app.ledger(|l| l.requests), self.log());
    }
}

/// The last callbacks of `app`, oldest first.
pub(crate) fn calls(app: &Receiver) -> Vec<Callback> {
    app.ledger(|ledger| ledger.last.iter().cloned().collect())
}

pub(crate) fn header(call: &Callback, name: &str) -> String {
    call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

pub(crate) fn body(call: &Callback) -> Value {
    serde_json::from_slice(&call.body).expect("JSON")
}

/// The object ids of a callback in the Cloud Elements format.
pub(crate) fn objects(call: &Callback) -> Vec<String> {
    let body = body(call);
    let events = body["message"]["events"].as_array().expect("events");
    events.iter().map(|event| event["objectId"].as_str().expect("an id").to_owned()).collect()
}

pub(crate) async fn get(admin: SocketAddr, path: &str) -> Option<Reply> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    exchange(admin, request.as_bytes()).await.ok()
}

pub(crate) async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread");
    output.expect("the command runs")
}

pub(crate) async fn rows(command: Command) -> Vec<Value> {
    let output = run(command).await;
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The outcomes and statuses of a row's attempts, oldest first: `500` for an answer, else the word.
pub(crate) fn attempts(row: &Value) -> Vec<String> {
    let log = row["log"].as_array().expect("a log");
    let word = |attempt: &Value| match attempt["status"].as_u64() {
        Some(status) => status.to_string(),
        None => attempt["outcome"].as_str().unwrap_or_default().to_owned(),
    };
    log.iter().map(word).collect()
}
