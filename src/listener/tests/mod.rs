//! The listener over real sockets, with raw bytes where it matters.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::tls::TlsAcceptorHandle;
use super::{Answer, Intake, Limits, Request, Source, bind};
use crate::config::Cidr;
use crate::queue::Pending;
use crate::shutdown::{Conductor, channel};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Outcome, Received};

mod http;
mod life;
mod tls;

/// Far beyond anything that a working listener needs, also on a slow and busy machine; a test that hangs fails by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source whose answers hang on the body.
struct Script {
    seen: Mutex<Vec<Request>>,
    refusing: AtomicBool,
    entered: Notify,
    gate: Semaphore,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            seen: Mutex::default(),
            refusing: AtomicBool::new(false),
            entered: Notify::new(),
            gate: Semaphore::new(0),
        }
    }
}

impl Source for Script {
    fn name(&self) -> &'static str {
        "sns"
    }

    fn receive(&self, request: Request) -> Pending<'_, Answer> {
        Box::pin(async move {
            let body = request.body.clone();
            self.seen.lock().expect("not poisoned").push(request);
            match body.as_ref() {
                b"forged" => Answer::plain(StatusCode::FORBIDDEN, "bad_signature"),
                b"full" => Answer::unavailable("full", 7),
                b"panic" => panic!("on purpose"),
                b"challenge" => {
                    Answer { challenge: Some("postern"), ..Answer::plain(StatusCode::UNAUTHORIZED, "auth_challenge") }
                }
                b"handshake" => Answer {
                    body: Bytes::from_static(b"{\"signature\":\"ab\"}"),
                    content_type: Some("application/json"),
                    ..Answer::plain(StatusCode::OK, "handshake")
                },
                b"wait" => {
                    self.entered.notify_one();
                    self.gate.acquire().await.expect("never closed").forget();
                    Answer::plain(StatusCode::OK, "accepted")
                }
                _ => Answer::plain(StatusCode::OK, "accepted"),
            }
        })
    }
}

struct Paths(Arc<Script>);

impl Intake for Paths {
    fn route(&self, path: &str) -> Option<Arc<dyn Source>> {
        (path == "/sns").then(|| Arc::clone(&self.0) as Arc<dyn Source>)
    }

    fn refusing(&self) -> Option<&'static str> {
        self.0.refusing.load(Ordering::SeqCst).then_some("closing")
    }
}

/// A served listener.
struct Rig {
    address: SocketAddr,
    script: Arc<Script>,
    metrics: Metrics,
    conductor: Conductor,
    task: JoinHandle<()>,
}

async fn rig(limits: Limits) -> Rig {
    rig_with(limits, None, Vec::new()).await
}

async fn rig_with(limits: Limits, tls: Option<TlsAcceptorHandle>, trusted: Vec<Cidr>) -> Rig {
    let listener = bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port").with_limits(limits);
    let address = listener.address();
    let script = Arc::new(Script::default());
    let metrics = Metrics::register(&mut Registry::default());
    let (conductor, shutdown) = channel();
    let intake = Arc::new(Paths(Arc::clone(&script)));
    let task = tokio::spawn(listener.serve(tls, intake, metrics.clone(), trusted, shutdown));
    Rig { address, script, metrics, conductor, task }
}

impl Rig {
    async fn connect(&self) -> TcpStream {
        timeout(PATIENCE, TcpStream::connect(self.address)).await.expect("in time").expect("a connection")
    }

    /// Sends raw bytes on a new connection and reads until the other side closes.
    async fn exchange(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("sent");
        read_all(&mut stream).await
    }

    /// One request on its own connection.
    async fn post(&self, headers: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "POST /sns HTTP/1.1\r\nHost: p\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        );
        self.exchange(request.as_bytes()).await
    }

    fn received(&self, source: &'static str, reason: &'static str, status: u16) -> u64 {
        self.metrics.received.get_or_create(&Received { source, reason, status }).get()
    }

    fn cut(&self, outcome: &'static str) -> u64 {
        self.metrics.connections_cut.get_or_create(&Outcome { outcome }).get()
    }

    fn seen(&self) -> usize {
        self.script.seen.lock().expect("not poisoned").len()
    }
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the connection ends in time");
    String::from_utf8(answer).expect("text")
}

/// Reads one answer whose body has a Content-Length, and leaves the connection open.
async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("an answer");
        answer.push(byte.into());
    }
    let length =
        answer.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().expect("a number"));
    let mut body = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("in time").expect("a body");
    answer + &String::from_utf8(body).expect("text")
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    timeout(PATIENCE, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it becomes true in time");
}
