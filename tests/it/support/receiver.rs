//! The app at the other end: records what it is sent and answers what it is told to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::wait::wait_until;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Received {
    /// A header's text; empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// Whether `Elements-Webhook-Signature` is that of `key` over these bytes.
    pub(crate) fn is_signed_with(&self, key: &str) -> bool {
        let Some(tag) = self.header("elements-webhook-signature").strip_prefix("sha256=") else { return false };
        let Ok(tag) = STANDARD.decode(tag) else { return false };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        ring::hmac::verify(&key, &self.body, &tag).is_ok()
    }
}

/// A server on a free port; it ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    status: AtomicU16,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    /// Starts one that answers 200.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State { status: AtomicU16::new(200), received: Mutex::default() });
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| receive(request, Arc::clone(&state)));
                    // A client that goes away ends its connection with an error, which is not the receiver's affair.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    /// Its URL with `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What it answers from now on.
    pub(crate) fn answer(&self, status: StatusCode) {
        self.state.status.store(status.as_u16(), Ordering::SeqCst);
    }

    /// Everything so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.received.lock().expect("no receiver task panicked").clone()
    }

    /// Waits for the first request that `fits`.
    pub(crate) async fn wait_for(&self, what: &str, fits: impl Fn(&Received) -> bool) -> Received {
        wait_until(what, || async { self.received().into_iter().find(&fits) }).await
    }
}

async fn receive(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Ok(body) = body.collect().await {
        state.received.lock().expect("no receiver task panicked").push(Received {
            method: head.method,
            path: head.uri.path().to_owned(),
            headers: head.headers,
            body: body.to_bytes(),
        });
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() =
        StatusCode::from_u16(state.status.load(Ordering::SeqCst)).expect("a status that was a StatusCode");
    Ok(response)
}
