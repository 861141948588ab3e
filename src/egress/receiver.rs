//! A receiver for tests that does what a script says, also what no honest server does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Number of the connection, from 0.
    pub(crate) connection: usize,
    /// Number of the request on it, from 0.
    pub(crate) request: usize,
    /// Request line and headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What the script says to do.
pub(crate) enum Act {
    /// Answer, and keep the connection.
    Answer(String),
    /// Close without an answer.
    Close,
    /// Say nothing.
    Hang,
    /// Answer with a body that never ends.
    Drip(String),
}

impl Act {
    pub(crate) fn status(status: &str) -> Self {
        Self::with(status, "", "")
    }

    pub(crate) fn with(status: &str, headers: &str, body: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    }
}

type Script = dyn Fn(&Seen) -> Act + Send + Sync;

#[derive(Clone)]
pub(crate) struct Receiver {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    pub(crate) fn new(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default(), connections: Arc::default() }
    }

    /// Starts one on a port of its own.
    pub(crate) async fn start(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let this = Self::new(script);
        let accepting = this.clone();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().serve(io));
            }
        });
        (this, address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic before").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) async fn serve(self, mut io: impl AsyncRead + AsyncWrite + Unpin) {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst);
        for request in 0.. {
            let Some((head, body)) = read_request(&mut io).await else { return };
            let seen = Seen { connection, request, head, body };
            self.seen.lock().expect("no panic before").push(seen.clone());
            match (self.script)(&seen) {
                Act::Answer(text) => {
                    if io.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Act::Close => return,
                Act::Hang => std::future::pending().await,
                Act::Drip(head) => {
                    let _ = io.write_all(head.as_bytes()).await;
                    while io.write_all(b"1\r\nx\r\n").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    return;
                }
            }
        }
    }
}

/// One request with `Content-Length`; `None` at the end of the connection.
async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a readable head");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    io.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).expect("a readable body")))
}
