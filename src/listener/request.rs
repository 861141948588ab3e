//! One request: which source, what is refused before the body is read, reading within bounds, and the answer.

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::budget::RefusalBudget;
use super::connection::Activity;
use super::limits::Limits;
use super::peer::{Caller, caller};
use super::refusals::RefusalLog;
use super::{Answer, Intake, Request, Source};
use crate::config::Cidr;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Received;

/// Name of the listener itself where a refusal is no source's.
const SELF: &str = "listener";
/// Seconds in `Retry-After` of our own refusals: SNS waits 20 s by default anyway.
const RETRY_AFTER: u32 = 10;

/// What all connections of the listener share.
pub(super) struct Front {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) limits: Limits,
    metrics: Metrics,
    trusted_proxies: Vec<Cidr>,
    budget: RefusalBudget,
    refusals: RefusalLog,
    /// Bytes of bodies that may still be taken into memory.
    body_bytes: Semaphore,
    shutdown: Shutdown,
}

/// An answer, and whether the connection must end because the request was not read to its end.
struct Reply {
    source: &'static str,
    answer: Answer,
    allow: Option<&'static str>,
    close: bool,
}

impl Reply {
    fn early(source: &'static str, answer: Answer) -> Self {
        Self { source, answer, allow: None, close: false }
    }
}

impl Front {
    pub(super) fn new(
        intake: Arc<dyn Intake>,
        limits: Limits,
        metrics: Metrics,
        trusted_proxies: Vec<Cidr>,
        shutdown: Shutdown,
    ) -> Self {
        let body_bytes = Semaphore::new(limits.bodies_bytes);
        let (budget, refusals) = (RefusalBudget::default(), RefusalLog::default());
        Self { intake, limits, metrics, trusted_proxies, budget, refusals, body_bytes, shutdown }
    }

    /// Answers one request, counts and logs it. One that is not `is_framed` unambiguously is refused, and nothing after it
    /// is believed to be a request.
    pub(super) async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        is_framed: bool,
        socket: IpAddr,
        activity: &Activity,
    ) -> Response<Full<Bytes>> {
        let caller = caller(socket, request.headers(), &self.trusted_proxies);
        let (head, body) = request.into_parts();
        let has_credentials = head.headers.contains_key(header::AUTHORIZATION);
        let mut body = Some(body);
        let mut reply = match self.before_body(&head, is_framed, caller) {
            ControlFlow::Continue((source, length_hint)) => {
                self.through(source, &head.uri, head.headers, &mut body, length_hint, caller.address).await
            }
            ControlFlow::Break(reply) => reply,
        };
        // What nobody read is still on its way; the next request cannot be told from it.
        if body.is_some_and(|body| !body.is_end_stream()) || activity.lost_in_body() {
            reply.close = true;
        }
        if reply.close {
            activity.left_unread();
        }
        self.note(&reply, caller, has_credentials);
        respond(reply, self.shutdown.phase() >= Phase::Leaving)
    }

    /// Everything that can be said without the body, cheapest first. Beside ambiguous framing (A07), a path that nobody has is 404 before anything else; its
    /// body is the same as that of a refusal (A02).
    fn before_body(
        &self,
        head: &hyper::http::request::Parts,
        is_framed: bool,
        caller: Caller,
    ) -> ControlFlow<Reply, (Arc<dyn Source>, usize)> {
        if !is_framed {
            let reply = Reply::early(SELF, Answer::plain(StatusCode::BAD_REQUEST, "smuggling"));
            return ControlFlow::Break(Reply { close: true, ..reply });
        }
        let path = head.uri.path();
        let probe = head.method == Method::GET || head.method == Method::HEAD;
        let Some(source) = self.intake.route(path) else {
            if path != "/" {
                return ControlFlow::Break(Reply::early(SELF, Answer::plain(StatusCode::NOT_FOUND, "not_found")));
            }
            if probe {
                return ControlFlow::Break(Reply::early(SELF, Answer::plain(StatusCode::OK, "probe")));
            }
            let answer = Answer::plain(StatusCode::METHOD_NOT_ALLOWED, "method");
            return ControlFlow::Break(Reply { allow: Some("GET, HEAD"), ..Reply::early(SELF, answer) });
        };
        let refuse = |status, reason| Reply::early(source.name(), Answer::plain(status, reason));
        if probe {
            return ControlFlow::Break(refuse(StatusCode::OK, "probe"));
        }
        if head.method != Method::POST {
            let reply = refuse(StatusCode::METHOD_NOT_ALLOWED, "method");
            return ControlFlow::Break(Reply { allow: Some("GET, HEAD, POST"), ..reply });
        }
        if let Some(reason) = self.intake.refusing() {
            return ControlFlow::Break(Reply::early(source.name(), Answer::unavailable(reason, RETRY_AFTER)));
        }
        if caller.limited && self.budget.is_spent(caller.address, Instant::now()) {
            let mut reply = refuse(StatusCode::TOO_MANY_REQUESTS, "rate_limited");
            reply.answer.retry_after = Some(RETRY_AFTER);
            return ControlFlow::Break(reply);
        }
        if is_encoded(&head.headers) {
            return ControlFlow::Break(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding"));
        }
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let length = length.unwrap_or(0);
        if length > self.limits.body_bytes {
            return ControlFlow::Break(refuse(StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
        }
        ControlFlow::Continue((source, length))
    }

    /// Reads the body and has the source judge it.
    async fn through(
        &self,
        source: Arc<dyn Source>,
        uri: &hyper::Uri,
        headers: HeaderMap,
        incoming: &mut Option<Incoming>,
        length_hint: usize,
        peer: IpAddr,
    ) -> Reply {
        let name = source.name();
        let started = Instant::now();
        let Some(body) = incoming.take() else {
            return Reply::early(name, Answer::unavailable("internal", RETRY_AFTER));
        };
        let read = timeout(self.limits.body, self.read(body, length_hint)).await.unwrap_or(Err(Unread::Slow));
        let answer = match read {
            Ok((body, _held)) => {
                let target = uri.path_and_query().map_or("/", |target| target.as_str());
                // `POST http://host?query`, whole as a proxy gets it, has no slash in it.
                let target = if target.starts_with('?') { format!("/{target}").into() } else { target.into() };
                let request = Request { target, headers, body, peer };
                match timeout(self.limits.answer, caught(source, request)).await {
                    Ok(Some(answer)) => answer,
                    Ok(None) => Answer::unavailable("panic", RETRY_AFTER),
                    Err(_) => Answer::unavailable("timeout", RETRY_AFTER),
                }
            }
            Err(unread) => return Reply { close: true, ..Reply::early(name, unread.answer()) },
        };
        self.metrics.intake_seconds.observe(started.elapsed().as_secs_f64());
        Reply::early(name, answer)
    }

    /// Reads a body within [`Limits::body_bytes`] and what is left of [`Limits::bodies_bytes`], which it holds until the
    /// answer. Bytes are copied out of hyper's buffers: chunks of one byte each would otherwise keep those alive.
    async fn read(&self, mut body: Incoming, length_hint: usize) -> Result<(Bytes, Vec<SemaphorePermit<'_>>), Unread> {
        let mut bytes = Vec::with_capacity(length_hint.min(16 * 1024));
        let mut held: Vec<SemaphorePermit<'_>> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            if bytes.len() + data.len() > self.limits.body_bytes {
                return Err(Unread::TooLarge);
            }
            let count = u32::try_from(data.len()).map_err(|_| Unread::TooLarge)?;
            let permit = self.body_bytes.try_acquire_many(count).map_err(|_| Unread::NoMemory)?;
            match held.first_mut() {
                Some(first) => first.merge(permit),
                None => held.push(permit),
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.into(), held))
    }

    fn note(&self, reply: &Reply, caller: Caller, has_credentials: bool) {
        let Answer { status, reason, .. } = reply.answer;
        let labels = Received { source: reply.source, reason, status: status.as_u16() };
        self.metrics.received.get_or_create(&labels).inc();
        if status.is_client_error() || status.is_server_error() {
            self.refusals.note(reply.source, reason, status, caller.address);
        }
        // A 401 without credentials is how SNS asks for the challenge before every message, not a forgery.
        let counts = match status {
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => true,
            StatusCode::UNAUTHORIZED => has_credentials,
            _ => false,
        };
        if counts && caller.limited {
            self.budget.refused(caller.address, Instant::now());
        }
    }
}

/// Why a body was not read to its end.
enum Unread {
    Broken,
    NoMemory,
    Slow,
    TooLarge,
}

impl Unread {
    fn answer(&self) -> Answer {
        match self {
            Self::Broken => Answer::plain(StatusCode::BAD_REQUEST, "bad_body"),
            Self::NoMemory => Answer::unavailable("busy", RETRY_AFTER),
            Self::Slow => Answer::plain(StatusCode::REQUEST_TIMEOUT, "timeout"),
            Self::TooLarge => Answer::plain(StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        }
    }
}

/// The source's answer, or `None` when it panicked: one bad request must not end the connection of the others in a way that
/// looks like the network's fault, and 503 makes SNS try again.
async fn caught(source: Arc<dyn Source>, request: Request) -> Option<Answer> {
    let name = source.name();
    let mut judged = pin!(async move { source.receive(request).await });
    // The future is dropped after a panic and never polled again, so no broken state of its own is seen; what it shares with
    // others is behind locks that tolerate poisoning.
    let outcome = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| judged.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => std::task::Poll::Ready(None),
    })
    .await;
    if outcome.is_none() {
        tracing::error!(
            source = name,
            "a source panicked; the request was answered 503. This is a bug: please report it"
        );
    }
    outcome
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(header::CONTENT_ENCODING).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

/// Bodies are uniform: a stranger learns the class of a refusal and nothing of its reason.
fn respond(reply: Reply, leaving: bool) -> Response<Full<Bytes>> {
    let Reply { answer, allow, close, .. } = reply;
    let Answer { status, body, content_type, retry_after, challenge, .. } = answer;
    let (body, content_type) = match status {
        _ if !body.is_empty() => (body, content_type),
        StatusCode::TOO_MANY_REQUESTS => (Bytes::from_static(b"{\"error\":\"unavailable\"}"), Some("application/json")),
        _ if status.is_server_error() => (Bytes::from_static(b"{\"error\":\"unavailable\"}"), Some("application/json")),
        _ if status.is_client_error() => (Bytes::from_static(b"{\"error\":\"refused\"}"), Some("application/json")),
        _ => (body, None),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(Ok(value)) = challenge.map(|realm| HeaderValue::try_from(format!("Basic realm=\"{realm}\""))) {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
    if close || leaving {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
