//! The listener's bounds, each with its reason.

use std::time::Duration;

use super::MAX_BODY_BYTES;

/// Every number that bounds a stranger. Tests shorten the times; production uses [`Limits::default`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections at most. SNS keeps a few dozen per endpoint; 1,024 leaves room for bursts and probes, and with the
    /// buffers below stays within some 100 MiB whatever strangers do.
    pub connections: usize,
    /// TLS handshakes take milliseconds, over a bad line seconds.
    pub handshake: Duration,
    /// From the first byte of a request (or the opening of the connection) to the end of its headers. SNS itself gives up
    /// after 15 s, so nobody genuine is slower.
    pub head: Duration,
    /// Between requests. Above 60 s, at which common load balancers drop idle connections: the other side should be the
    /// first to close, so that it never sends a request into a closing connection.
    pub idle: Duration,
    /// Replaces `head` while connections are crowded.
    pub crowded_head: Duration,
    /// Replaces `idle` while connections are crowded, so that idle ones never lock out new ones.
    pub crowded_idle: Duration,
    /// The whole body.
    pub body: Duration,
    /// From the end of the body to the answer of the source. Longer than SNS waits (15 s), so a slow disk shows up as their
    /// retry and not as our cut.
    pub answer: Duration,
    /// For the other side to take our answer.
    pub write: Duration,
    /// For the other side to notice that we closed while it was still sending; without it the reset may overtake our answer.
    pub linger: Duration,
    /// Bytes of a request's line and headers: SNS sends less than 2 KiB, proxies add some.
    pub head_bytes: usize,
    /// Header lines.
    pub headers: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of bodies in memory over all connections. The sidecar lives in a small container: past this, 503.
    pub bodies_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(90),
            crowded_head: Duration::from_secs(3),
            crowded_idle: Duration::from_secs(2),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            write: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            head_bytes: 16 * 1024,
            headers: 64,
            body_bytes: MAX_BODY_BYTES,
            bodies_bytes: 64 * 1024 * 1024,
        }
    }
}

/// hyper's buffer per connection: the longest head and some body. Its own default of 400 KiB times 1,024 is too much here.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;

impl Limits {
    /// Connections from which on they are crowded: three quarters.
    pub(super) fn crowded_from(&self) -> usize {
        self.connections.saturating_mul(3).div_ceil(4)
    }

    /// Connections at which crowding ends: half, so that it does not flicker.
    pub(super) fn crowded_until(&self) -> usize {
        self.connections / 2
    }
}
