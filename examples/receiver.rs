//! Receives Postern's callbacks and believes only those that are signed.
//!
//!     PORT=8080 EVENT_NOTIFICATION_SIGNATURE_KEY=... cargo run --example receiver
//!
//! The key may be several, one a line. To change it without a gap: give the receiver both, then Postern the new one, then
//! take the old one from the receiver.
//!
//! Answers 200 for what is proven and printed, 401 for what is not; Postern sends again whatever was not answered with 2xx.
//! It uses nothing of Postern, only hyper, ring, base64 and serde_json.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;

/// Twenty events of the largest notification, and room.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// Seconds, in both directions: an older callback is a replay.
const MAX_AGE: u64 = 5 * 60;
/// Ids; Postern delivers at least once, so the same id can come again.
const REMEMBERED: usize = 10_000;

struct Receiver {
    keys: Vec<hmac::Key>,
    seen: Mutex<Seen>,
}

/// The last ids that were handled. An app keeps them where it keeps what it did, in one transaction.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    oldest_first: VecDeque<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::var("EVENT_NOTIFICATION_SIGNATURE_KEY").unwrap_or_default();
    let keys: Vec<hmac::Key> = given
        .split('\n')
        .filter(|key| !key.is_empty())
        .map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()))
        .collect();
    if keys.is_empty() {
        return Err("set EVENT_NOTIFICATION_SIGNATURE_KEY to the key that Postern signs with".into());
    }
    let receiver = Arc::new(Receiver { keys, seen: Mutex::default() });
    let port: u16 = std::env::var("PORT").map_or(Ok(8080), |port| port.parse())?;
    // Postern is beside the app: nobody else needs to reach this port.
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let receiver = Arc::clone(&receiver);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let receiver = Arc::clone(&receiver);
                async move {
                    let mut response = Response::new(Empty::<Bytes>::new());
                    *response.status_mut() = receiver.receive(request).await;
                    Ok::<_, Infallible>(response)
                }
            });
            // A connection that breaks is Postern's to notice: it sends again.
            drop(http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

impl Receiver {
    async fn receive(&self, request: Request<Incoming>) -> StatusCode {
        if request.method() != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED;
        }
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else {
            return StatusCode::PAYLOAD_TOO_LARGE;
        };
        let body = body.to_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !self.is_genuine(&head.headers, &body, now) {
            return StatusCode::UNAUTHORIZED;
        }
        match self.handle_once(header(&head.headers, "webhook-id"), || print_events(&body)) {
            Some(()) => StatusCode::OK,
            None => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether both signatures are right. `body` must be the bytes as they came: never parse and print them before.
    fn is_genuine(&self, headers: &HeaderMap, body: &[u8], now: u64) -> bool {
        // Cloud Elements' signature covers the body alone.
        let tag = header(headers, "elements-webhook-signature");
        if !self.keys.iter().any(|key| is_signed(key, body, tag)) {
            return false;
        }
        // Standard Webhooks' covers id and time too, which is what stops replays. There is one for each key of Postern's.
        let (id, timestamp) = (header(headers, "webhook-id"), header(headers, "webhook-timestamp"));
        if !timestamp.parse::<u64>().is_ok_and(|timestamp| now.abs_diff(timestamp) <= MAX_AGE) {
            return false;
        }
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        header(headers, "webhook-signature")
            .split(' ')
            .filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .any(|tag| self.keys.iter().any(|key| hmac::verify(key, &signed, &tag).is_ok()))
    }

    /// Handles an id once. A handler that fails leaves no trace, and the event comes again.
    fn handle_once(&self, id: &str, handle: impl FnOnce() -> Option<()>) -> Option<()> {
        // Under the lock, so that the same id that comes twice at once is handled once.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.ids.contains(id) {
            return Some(());
        }
        handle()?;
        seen.ids.insert(id.to_owned());
        seen.oldest_first.push_back(id.to_owned());
        if seen.oldest_first.len() > REMEMBERED
            && let Some(oldest) = seen.oldest_first.pop_front()
        {
            seen.ids.remove(&oldest);
        }
        Some(())
    }
}

fn is_signed(key: &hmac::Key, body: &[u8], header: &str) -> bool {
    let Some(tag) = header.strip_prefix("sha256=").and_then(|tag| STANDARD.decode(tag).ok()) else { return false };
    hmac::verify(key, body, &tag).is_ok() // Compares in constant time.
}

fn print_events(body: &[u8]) -> Option<()> {
    let envelope: Value = serde_json::from_slice(body).ok()?;
    let message = &envelope["message"];
    let id = message["eventId"].as_str()?;
    let mut out = std::io::stdout().lock();
    for event in message["events"].as_array()? {
        let (kind, object) = (event["eventType"].as_str()?, event["objectType"].as_str()?);
        // Keys may hold anything, line breaks too: as JSON they stay on one line.
        writeln!(out, "{kind} {object} {} {id}", event["objectId"]).ok()?;
    }
    Some(())
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
