//! What an attack needs: Amazon's stand-in, the real sidecar as a process, an app, and messages to twist.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postern::simulator::authority::{Authority, Leaf};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::amazon::{Amazon, Script};
use super::app::{App, receive};
use crate::support::wait::PATIENCE;

pub(crate) const TOPIC: &str = "arn:aws:sns:us-west-2:123456789012:postern-test";
pub(crate) const HOST: &str = "https://sns.us-west-2.amazonaws.com";
pub(crate) const CERT_URL: &str =
    "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem";

/// A message as a list of members, so that any of them can be twisted, doubled or left out.
#[derive(Clone)]
pub(crate) struct Message(pub(crate) Vec<(String, Value)>);

impl Message {
    pub(crate) fn notification(text: &str) -> Self {
        Self::of(json!([
            ["Type", "Notification"],
            ["MessageId", uuid()],
            ["TopicArn", TOPIC],
            ["Subject", "Amazon S3 Notification"],
            ["Message", text],
            ["Timestamp", timestamp(0)],
            ["SignatureVersion", "1"],
            ["Signature", ""],
            ["SigningCertURL", CERT_URL],
            ["UnsubscribeURL", format!("{HOST}/?Action=Unsubscribe&SubscriptionArn={TOPIC}:1")],
        ]))
    }

    /// A notification of one created object.
    pub(crate) fn created(key: &str) -> Self {
        Self::notification(&record(key))
    }

    pub(crate) fn confirmation(kind: &str) -> Self {
        let token = format!("{}{}", hex(64), hex(64)).repeat(2)[..256].to_owned();
        Self::of(json!([
            ["Type", kind],
            ["MessageId", uuid()],
            ["Token", token],
            ["TopicArn", TOPIC],
            [
                "Message",
                "You have chosen to subscribe to the topic.\nTo confirm the subscription, visit the SubscribeURL."
            ],
            ["SubscribeURL", format!("{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}")],
            ["Timestamp", timestamp(0)],
            ["SignatureVersion", "1"],
            ["Signature", ""],
            ["SigningCertURL", CERT_URL],
        ]))
    }

    fn of(members: Value) -> Self {
        let members = members.as_array().expect("an array").iter();
        Self(members.map(|m| (m[0].as_str().expect("a name").to_owned(), m[1].clone())).collect())
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(n, _)| n == name).and_then(|(_, v)| v.as_str()).unwrap_or_default()
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(n, _)| n != name);
        self
    }

    /// The string to sign of `sns.md` 1.2, written here once more, apart from the code under test.
    pub(crate) fn canonical(&self) -> String {
        let names: &[&str] = if self.get("Type") == "Notification" {
            &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        } else {
            &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        };
        names
            .iter()
            .filter(|name| self.0.iter().any(|(n, v)| n == *name && v.is_string()))
            .map(|name| format!("{name}\n{}\n", self.get(name)))
            .collect()
    }

    pub(crate) fn signed(self, bench: &Bench) -> Self {
        let version = if self.get("SignatureVersion") == "2" { 2 } else { 1 };
        let signature = bench.authority.signer().sign(version, self.canonical().as_bytes());
        self.with("Signature", signature)
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let members: Vec<String> =
            self.0.iter().map(|(n, v)| format!("  {} : {}", Value::from(n.as_str()), v)).collect();
        format!("{{\n{}\n}}", members.join(",\n")).into_bytes()
    }
}

pub(crate) fn record(key: &str) -> String {
    record_of("postern-bucket", key, "2.1")
}

pub(crate) fn record_of(bucket: &str, key: &str, version: &str) -> String {
    json!({"Records": [{
        "eventVersion": version, "eventSource": "aws:s3", "awsRegion": "us-west-2", "eventTime": timestamp(0),
        "eventName": "ObjectCreated:Put", "userIdentity": {"principalId": "AIDA"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": hex(16), "x-amz-id-2": "x"},
        "s3": {"s3SchemaVersion": "1.0", "configurationId": "c",
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "A"}, "arn": format!("arn:aws:s3:::{bucket}")},
            "object": {"key": key, "size": 1, "eTag": hex(32), "sequencer": format!("00{}", hex(16).to_uppercase())}}
    }]})
    .to_string()
}

/// Now plus `seconds`, in the form of SNS.
pub(crate) fn timestamp(seconds: i64) -> String {
    let at = OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    postern::clock::UnixMillis((at.unix_timestamp_nanos() / 1_000_000) as i64).to_iso_millis()
}

pub(crate) fn hex(digits: usize) -> String {
    let mut bytes = vec![0; digits.div_ceil(2)];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).expect("randomness");
    let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    text[..digits].to_owned()
}

pub(crate) fn uuid() -> String {
    format!("{}-{}-{}-{}-{}", hex(8), hex(4), hex(4), hex(4), hex(12))
}

/// An answer of the sidecar.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct Bench {
    pub(crate) amazon: Amazon,
    pub(crate) authority: Authority,
    pub(crate) app: App,
    pub(crate) intake: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) dir: TempDir,
    settings: HashMap<String, String>,
    child: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A sidecar with the settings of production but for addresses and authorities; `extra` wins.
    pub(crate) async fn with(extra: &[(&str, &str)]) -> Self {
        let amazon = Amazon::start().await;
        let authority =
            Authority::new(&Leaf::named("sns.amazonaws.com", OffsetDateTime::now_utc())).expect("an authority");
        amazon.script(CERT_URL, Script::Body(200, authority.leaf_pem().into()));
        let app = App::default();
        let callback = receive(app.clone()).await;
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.to_str().expect("a path").to_owned()
        };
        let (intake, admin) = (free_port(), free_port());
        let mut settings: HashMap<String, String> = [
            ("POSTERN_TLS", "off".to_owned()),
            ("POSTERN_LISTEN", intake.to_string()),
            ("POSTERN_ADMIN_LISTEN", admin.to_string()),
            ("POSTERN_DATA_DIR", dir.path().join("data").to_str().expect("a path").to_owned()),
            ("POSTERN_LOG", "info".to_owned()),
            ("EVENT_SNS_TOPIC_ARN", TOPIC.to_owned()),
            ("EVENT_SNS_TOPIC_NAME", "postern-test".to_owned()),
            ("EVENT_NOTIFICATION_CALLBACK_URL", format!("http://{callback}/events")),
            ("EVENT_NOTIFICATION_SIGNATURE_KEY", "test key".to_owned()),
            ("POSTERN_SNS_TRUST_ANCHOR_FILE", file("anchor.pem", authority.root_pem())),
            ("POSTERN_EGRESS_CA_FILE", file("egress.pem", &amazon.ca_pem)),
            ("HTTPS_PROXY", format!("http://{}", amazon.proxy)),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            // Nothing in a test may look for a cloud's metadata service.
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (name, value) in extra {
            settings.insert((*name).to_owned(), (*value).to_owned());
        }
        settings.retain(|_, value| !value.is_empty());
        let child = spawn(&settings, &dir);
        let mut bench = Self { amazon, authority, app, intake, admin, dir, settings, child };
        bench.wait_live().await;
        bench
    }

    async fn wait_live(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(reply) = exchange(self.admin, b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await
                && reply.status == 200
            {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the sidecar ended with {status}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the sidecar does not come alive:\n{}", self.log());
    }

    /// SIGKILL, then the same sidecar on the same directory.
    pub(crate) async fn crash_and_restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.settings, &self.dir);
        self.wait_live().await;
    }

    /// SIGTERM, as Kubernetes sends it.
    pub(crate) fn terminate(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill works");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Posts a body to `/sns` with the headers of SNS.
    pub(crate) async fn post(&self, body: &[u8]) -> Reply {
        self.post_with(body, &[]).await
    }

    pub(crate) async fn post_with(&self, body: &[u8], headers: &[(&str, &str)]) -> Reply {
        let mut head = format!(
            "POST /sns HTTP/1.1\r\nhost: hooks.example.com\r\nuser-agent: Amazon Simple Notification Service Agent\r\n\
             content-type: text/plain; charset=UTF-8\r\ncontent-length: {}\r\nconnection: close\r\n",
            body.len()
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat()).await
    }

    pub(crate) async fn raw(&self, bytes: &[u8]) -> Reply {
        exchange(self.intake, bytes).await.unwrap_or_else(|error| panic!("no answer ({error}):\n{}", self.log()))
    }

    pub(crate) async fn send(&self, message: &Message) -> u16 {
        self.post(&message.body()).await.status
    }

    /// The same where it may be that nobody is there any more.
    pub(crate) async fn try_send(&self, message: &Message) -> Option<u16> {
        let body = message.body();
        let length = body.len();
        let head = format!("POST /sns HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        exchange(self.intake, &[head.as_bytes(), &body].concat()).await.ok().map(|reply| reply.status)
    }

    /// Whether it says so; also while it has gone.
    pub(crate) async fn is_not_ready(&self) -> bool {
        let ready = exchange(self.admin, b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        ready.map_or(true, |reply| reply.status == 503)
    }

    /// Asserts that `body` is refused with `status`, that nobody was asked anything, and that nothing of it was queued.
    pub(crate) async fn refuses(&self, body: &[u8], headers: &[(&str, &str)], status: u16, reason: &str) {
        let before = self.amazon.requests().len();
        let reply = self.post_with(body, headers).await;
        assert_eq!(reply.status, status, "{reason}: {}\n{}", String::from_utf8_lossy(body), self.log());
        assert_eq!(self.amazon.requests().len(), before, "{reason}: no outbound request\n{}", self.log());
        assert!(!reply.body.contains(reason), "the reason is not told to strangers");
        assert!(self.refusals(reason).await >= 1, "counted as {reason}\n{}", self.log());
    }

    /// How often the intake counted `reason`.
    pub(crate) async fn refusals(&self, reason: &str) -> u64 {
        self.metric(&format!("reason=\"{reason}\"")).await
    }

    /// The sum of the intake's counters whose labels hold `label`.
    pub(crate) async fn metric(&self, label: &str) -> u64 {
        let text = self.admin_get("/metrics").await.body;
        text.lines()
            .filter(|line| line.starts_with("postern_") && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>() as u64
    }

    pub(crate) async fn admin_get(&self, path: &str) -> Reply {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(self.admin, request.as_bytes()).await.expect("an answer of the admin listener")
    }

    /// Sends a genuine marker and asserts that the app then knows exactly `expected` and the marker.
    pub(crate) async fn app_knows_only(&self, expected: &[&str]) {
        let marker = format!("marker-{}", hex(8));
        let message = Message::created(&marker).signed(self);
        assert_eq!(self.send(&message).await, 200, "the marker is genuine\n{}", self.log());
        self.wait_for(&marker).await;
        let mut known: Vec<String> = self.app.objects.lock().expect("a lock").clone();
        known.retain(|object| !object.starts_with("marker-"));
        known.sort();
        let mut expected: Vec<String> = expected.iter().map(|e| (*e).to_owned()).collect();
        expected.sort();
        assert_eq!(known, expected, "{}", self.log());
    }

    /// Waits until the app has `object` and the store knows it: after a kill in between it is delivered again, and rightly so.
    pub(crate) async fn wait_settled(&self, object: &str) {
        self.wait_for(object).await;
        self.eventually("settled", async |bench| bench.metric("postern_queue_owed{").await == 0).await;
    }

    pub(crate) async fn wait_for(&self, object: &str) {
        let knows = |bench: &Self| bench.app.objects.lock().expect("a lock").iter().any(|known| known == object);
        self.eventually(&format!("the app hears of {object}"), async |bench| knows(bench)).await;
    }

    /// Waits until `what` holds.
    pub(crate) async fn eventually(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

/// A setting of the bench: the limit of open files that the sidecar runs with.
pub(crate) const OPEN_FILES: &str = "BENCH_OPEN_FILES";

fn spawn(settings: &HashMap<String, String>, dir: &TempDir) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).expect("a log file");
    let binary = env!("CARGO_BIN_EXE_postern");
    let mut command = Command::new("sh");
    match settings.get(OPEN_FILES) {
        Some(limit) => command.args(["-c", "ulimit -n \"$0\" && exec \"$1\"", limit, binary]),
        None => command.args(["-c", "exec \"$0\"", binary]),
    };
    command
        .env_clear()
        .envs(settings)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the sidecar starts")
}

pub(crate) fn free_port() -> SocketAddr {
    postern::simulator::ports::unused().expect("a free port")
}

/// Sends bytes and reads one answer until the peer closes or it is complete.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(to).await?;
    // The peer may refuse before it has read everything: its answer is then still there to be read.
    let _ = stream.write_all(bytes).await;
    read_reply(&mut stream).await
}

pub(crate) async fn read_reply(stream: &mut TcpStream) -> std::io::Result<Reply> {
    let mut all = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        let n = match read.map_err(|_| std::io::ErrorKind::TimedOut)? {
            Ok(n) => n,
            Err(error) if all.is_empty() => return Err(error),
            Err(_) => 0,
        };
        all.extend_from_slice(&buffer[..n]);
        let text = String::from_utf8_lossy(&all).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if n == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let length =
            head.to_ascii_lowercase().lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
        if n == 0 || length.is_some_and(|length: usize| body.len() >= length) {
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            return Ok(Reply { status, head: head.to_owned(), body: body.to_owned() });
        }
    }
}
