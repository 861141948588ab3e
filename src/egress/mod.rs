//! Outgoing HTTP: one client for certificates, confirmations and callbacks.
//!
//! It honours `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, trusts the system's authorities (those bundled where the system has none) and
//! `POSTERN_EGRESS_CA_FILE`, reuses connections, bounds time and bytes, and never follows a redirect (hard case 22).

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, PROXY_AUTHORIZATION, TRANSFER_ENCODING};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;

use crate::config::CallbackUrl;

mod connector;
mod failure;
mod proxy;
#[cfg(test)]
pub(crate) mod receiver;
mod target;
#[cfg(test)]
mod tests;
mod tls;

pub use proxy::ProxySettings;

use connector::{Connector, Link};
use proxy::Proxies;
use target::Target;
use tls::Tls;

/// How long an idle connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);

/// Bound on the head of an answer, and on what is buffered of a connection.
const MAX_HEAD: usize = 64 * 1024;

/// An outgoing HTTP/1.1 client. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    pooled: legacy::Client<Connector, Full<Bytes>>,
    /// Without a pool: for the second try of a request whose reused connection had gone stale.
    fresh: legacy::Client<Connector, Full<Bytes>>,
    proxies: Proxies,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

/// What the client is made from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// PEM files of further authorities for outgoing TLS.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// Idle connections kept per host.
    pub idle_per_host: usize,
    /// Proxies; by default none.
    pub proxy: ProxySettings,
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// An extra authority cannot be read. Counted from 1.
    #[error("authority file {index} for outgoing TLS (POSTERN_EGRESS_CA_FILE): {problem}")]
    ExtraCa {
        /// Which file.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A proxy setting is not usable. Its value is not shown: it may hold a password.
    #[error("{variable} is not an http:// or https:// URL of a proxy")]
    Proxy {
        /// Name of the variable.
        variable: &'static str,
    },
}

/// A request; its body is sent with `Content-Length`.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Method.
    pub method: Method,
    /// Where to.
    pub url: &'a CallbackUrl,
    /// Headers besides Host and framing.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Bound on everything: connect, send, and read the answer.
    pub timeout: Duration,
    /// Bytes of the answer that are read at most.
    pub max_answer: usize,
    /// What a longer answer is: `false` cuts it off and forgets the connection, `true` is [`CallError::AnswerTooLarge`].
    pub refuse_longer: bool,
}

/// An answer whose body was read within bounds.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, cut at the bound.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The answer is longer than was asked for.
    #[error("the answer is longer than {0} bytes")]
    AnswerTooLarge(usize),
    /// Nobody listens there, or no route leads there.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The name does not resolve.
    #[error("cannot resolve the name: {0}")]
    Dns(String),
    /// The connection broke after it was made.
    #[error("the connection broke: {0}")]
    Reset(String),
    /// Time ran out on a connection that stood. Before that it is [`CallError::Connect`].
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// TLS could not be agreed on, or the certificate is not acceptable.
    #[error("TLS failed: {0}")]
    Tls(String),
}

/// An answer whose head has come and whose body has not been read.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    deadline: Instant,
    timeout: Duration,
}

impl Client {
    /// A client; it opens and reads nothing yet. The system's authorities are loaded with the first `https` request.
    ///
    /// # Errors
    /// [`OptionsError`] when an extra authority or a proxy setting is not usable.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        let proxies = Proxies::new(&options.proxy)?;
        let connector = Connector::new(Tls::new(&options.extra_ca_pem)?, proxies.clone());
        let client = |idle| {
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .http1_max_buf_size(MAX_HEAD)
                .build(connector.clone())
        };
        Ok(Self { pooled: client(options.idle_per_host), fresh: client(0), proxies })
    }

    /// Sends a request and reads the answer within the bounds of `call`. A redirect is an answer like any other.
    ///
    /// # Errors
    /// [`CallError`] when there is no whole answer. The request may have arrived nevertheless.
    pub async fn call(&self, call: Call<'_>) -> Result<Reply, CallError> {
        let (max, refuse_longer) = (call.max_answer, call.refuse_longer);
        let answer = self.send(call).await?;
        let (status, headers, deadline) = (answer.status, answer.headers.clone(), answer.deadline);
        let (body, whole) = answer.read(max, deadline).await?;
        if !whole && refuse_longer {
            return Err(CallError::AnswerTooLarge(max));
        }
        Ok(Reply { status, headers, body })
    }

    /// Sends a request and waits for the head of the answer, for those to whom the status is what matters.
    ///
    /// A connection that the peer closed while it was idle is no failure: the request is then sent once more, on a new
    /// connection. The peer may so see it twice, which at-least-once delivery allows.
    ///
    /// # Errors
    /// [`CallError`] when no head of an answer came. The request may have arrived nevertheless.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let deadline = Instant::now() + call.timeout;
        let target = Target::of(call.url)?;
        match self.exchange(&self.pooled, &target, &call, deadline).await {
            Err((_, Some(link))) if link.went_stale() => self.exchange(&self.fresh, &target, &call, deadline).await,
            other => other,
        }
        .map_err(|(error, _)| error)
    }

    async fn exchange(
        &self,
        client: &legacy::Client<Connector, Full<Bytes>>,
        target: &Target,
        call: &Call<'_>,
        deadline: Instant,
    ) -> Result<Answer, (CallError, Option<Link>)> {
        let mut request = self.request(target, call);
        let captured = capture_connection(&mut request);
        let answer = match tokio::time::timeout_at(deadline, client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err((failure::classify(&error), Link::of(&error))),
            Err(_) if captured.connection_metadata().is_none() => {
                return Err((CallError::Connect(format!("no connection within {:?}", call.timeout)), None));
            }
            Err(_) => return Err((CallError::Timeout(call.timeout), None)),
        };
        let (head, body) = Response::into_parts(answer);
        Ok(Answer { status: head.status, headers: head.headers, body, deadline, timeout: call.timeout })
    }

    fn request(&self, target: &Target, call: &Call<'_>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = target.uri.clone();
        let mut headers = call.headers.clone();
        for framing in [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING] {
            headers.remove(framing);
        }
        headers.insert(HOST, target.host.clone());
        if call.body.is_empty() && call.method == Method::POST {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if let Some(authorization) = self.proxies.plain_authorization(&target.uri) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        *request.headers_mut() = headers;
        request
    }
}

impl Answer {
    /// Reads at most `max` bytes of the body until `until`, or the request's own deadline where that is earlier. Whether that
    /// was the whole body is the second part; the connection of a body that was not read to its end is closed.
    ///
    /// # Errors
    /// [`CallError::Timeout`] or [`CallError::Reset`] when the body did not end well in time.
    pub async fn read(self, max: usize, until: Instant) -> Result<(Bytes, bool), CallError> {
        let Self { mut body, deadline, timeout, .. } = self;
        let mut read = Vec::new();
        let reading = async {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| failure::broken(&error))?;
                let Some(data) = frame.data_ref() else { continue };
                let room = max - read.len();
                read.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        match tokio::time::timeout_at(deadline.min(until), reading).await {
            Ok(whole) => whole.map(|whole| (Bytes::from(read), whole)),
            Err(_) => Err(CallError::Timeout(timeout)),
        }
    }
}
