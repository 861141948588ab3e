//! Outgoing HTTP: one client for certificates, confirmations and callbacks.
//!
//! It honours `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, trusts the system's authorities (those bundled where the system has none) and
//! `POSTERN_EGRESS_CA_FILE`, reuses connections, bounds time and bytes, and never follows a redirect (hard case 22).

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method, StatusCode};

use crate::config::CallbackUrl;

/// An outgoing HTTP/1.1 client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client;

/// What the client is made from.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// PEM files of further authorities for outgoing TLS.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// Idle connections kept per host.
    pub idle_per_host: usize,
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
    /// Time ran out; says in which phase.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// TLS could not be agreed on, or the certificate is not acceptable.
    #[error("TLS failed: {0}")]
    Tls(String),
}
