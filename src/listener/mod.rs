//! The intake listener: where strangers knock.
//!
//! It owns the socket, TLS, and every bound on connections, bytes and time; it knows nothing of what is received. Paths
//! belong to an [`Intake`], which `app` makes from the sources.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};

use crate::queue::Pending;

mod budget;
mod connection;
mod files;
mod framing;
mod limits;
mod peer;
mod refusals;
mod request;
mod serve;
#[cfg(test)]
mod tests;
pub mod tls;

pub use limits::Limits;
pub use serve::{BindError, Listener, bind};

/// Largest body that is read: 256 KiB is the largest SNS message over HTTPS, JSON escaping doubles quotes (`sns.md` 1.6).
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// What is behind the listener.
pub trait Intake: Send + Sync + 'static {
    /// The source that owns `path`, or `None` for 404. Called before the body is read.
    fn route(&self, path: &str) -> Option<Arc<dyn Source>>;

    /// Why nothing is accepted at the moment (shutting down), if so: 503 with `Retry-After`.
    fn refusing(&self) -> Option<&'static str>;
}

/// One way in.
pub trait Source: Send + Sync + 'static {
    /// Name in metrics and logs.
    fn name(&self) -> &'static str;

    /// Judges one request, whose body was read within the bounds. Answers only when what is answered with 200 is durable.
    fn receive(&self, request: Request) -> Pending<'_, Answer>;
}

/// A POST whose body was read.
pub struct Request {
    /// Path and query as they came in the request line. May hold a secret: never logged.
    pub target: Box<str>,
    /// Headers as they came.
    pub headers: HeaderMap,
    /// The whole body, at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
    /// The caller's address; the forwarded one behind a trusted proxy.
    pub peer: IpAddr,
}

/// What the caller is told. The reason goes to logs and metrics only.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Body; empty for most.
    pub body: Bytes,
    /// Media type of a body that is not empty.
    pub content_type: Option<&'static str>,
    /// Seconds for `Retry-After`, with 503 and 429.
    pub retry_after: Option<u32>,
    /// Realm of a Basic challenge, with 401.
    pub challenge: Option<&'static str>,
    /// The word of the attack table, for logs and metrics: `accepted`, `duplicate`, `bad_signature`, ...
    pub reason: &'static str,
}

impl Answer {
    /// An answer without a body.
    pub fn plain(status: StatusCode, reason: &'static str) -> Self {
        Self { status, body: Bytes::new(), content_type: None, retry_after: None, challenge: None, reason }
    }

    /// Trouble of our own: 503, which producers retry.
    pub fn unavailable(reason: &'static str, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::plain(StatusCode::SERVICE_UNAVAILABLE, reason) }
    }
}
