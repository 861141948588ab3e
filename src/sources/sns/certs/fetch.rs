//! The seam to the network: how certificates are fetched, whatever client does it.

use std::time::Duration;

use url::Url;

use crate::clock::UnixMillis;
use crate::queue::Pending;

/// What a GET brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// HTTP status; a redirect is handed out as it is, never followed.
    pub status: u16,
    /// The body, at most as long as was asked for.
    pub body: Vec<u8>,
    /// When the answer left its server: `Date`, plus `Age` where a cache on the way added one.
    pub date: Option<UnixMillis>,
}

/// Why a GET brought nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer: name, connection, TLS, time. Holds the words for the log.
    #[error("{0}")]
    Failed(String),
    /// The body is longer than was asked for.
    #[error("the answer is too long")]
    TooLarge,
}

/// A way to fetch certificates.
pub trait Fetch: Send + Sync + 'static {
    /// GETs `url` without following redirects, within `timeout` for everything and `max_bytes` of body.
    fn get<'a>(&'a self, url: &'a Url, max_bytes: usize, timeout: Duration)
    -> Pending<'a, Result<Fetched, FetchError>>;
}
