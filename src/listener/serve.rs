//! The accept loop: a permit before each connection, a bound on all, and a graceful end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::Intake;
use super::connection;
use super::files::connections_within_limit;
use super::limits::Limits;
use super::request::Front;
use super::tls::TlsAcceptorHandle;
use crate::config::Cidr;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Outcome;

/// The intake's socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (POSTERN_LISTEN): {cause}; {advice}")]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
    advice: &'static str,
}

impl BindError {
    fn new(address: SocketAddr, cause: io::Error) -> Self {
        let advice = match cause.kind() {
            io::ErrorKind::AddrInUse => "another process has this port: stop it, or choose another port",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address: use 0.0.0.0 or [::] for all",
            io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose one above, such as 8443",
            _ => "choose another address",
        };
        Self { address, cause, advice }
    }
}

/// The intake's socket, open but not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    limits: Limits,
}

/// Opens the intake's socket, before anything runs.
///
/// # Errors
/// [`BindError`] with the variable's name and what to do.
pub async fn bind(address: SocketAddr) -> Result<Listener, BindError> {
    let socket = TcpListener::bind(address).await.map_err(|cause| BindError::new(address, cause))?;
    let address = socket.local_addr().map_err(|cause| BindError::new(address, cause))?;
    let usual = Limits::default();
    let limits = Limits { connections: connections_within_limit(usual.connections), ..usual };
    Ok(Listener { socket, address, limits })
}

impl Listener {
    /// The address that was opened; port 0 is resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Other bounds than the usual.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Accepts until [`Phase::Draining`], then lets requests in flight finish; whatever is left at [`Phase::Stopping`] is
    /// cut. Returns when no connection is left. Without `tls` it speaks plain HTTP.
    pub async fn serve(
        self,
        tls: Option<TlsAcceptorHandle>,
        intake: Arc<dyn Intake>,
        metrics: Metrics,
        trusted_proxies: Vec<Cidr>,
        shutdown: Shutdown,
    ) {
        let Self { socket, limits, .. } = self;
        let front = Arc::new(Front::new(intake, limits.clone(), metrics.clone(), trusted_proxies, shutdown.clone()));
        let slots = Slots::new(limits, metrics);
        let tracker = TaskTracker::new();
        let mut draining = shutdown.clone();
        tokio::select! {
            () = accept(&socket, &slots, |stream, peer, slot| {
                let (tls, front, shutdown) = (tls.clone(), Arc::clone(&front), shutdown.clone());
                tracker.spawn(connect(stream, peer, slot, tls, front, shutdown));
            }) => {}
            () = draining.reached(Phase::Draining) => {}
        }
        // Closing the socket first makes the kernel refuse newcomers, who then find another endpoint.
        drop(socket);
        tracker.close();
        tracker.wait().await;
    }
}

/// Takes a permit, then a connection, for ever.
async fn accept(socket: &TcpListener, slots: &Arc<Slots>, mut spawn: impl FnMut(TcpStream, SocketAddr, Slot)) {
    let mut backoff = MIN_BACKOFF;
    loop {
        let slot = slots.take().await;
        match socket.accept().await {
            Ok((stream, peer)) => {
                backoff = MIN_BACKOFF;
                spawn(stream, peer, slot.opened());
            }
            // The connection was gone before we took it: its own affair.
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            // Out of file descriptors or memory: accept would fail again at once, so wait for connections to end.
            Err(error) => {
                slots.cut("accept_error");
                tracing::warn!(%error, retry_in = ?backoff, "cannot accept connections; raise the limit of open files if this lasts");
                drop(slot);
                sleep(backoff).await;
                backoff = (backoff * 2).min(MAX_BACKOFF);
            }
        }
    }
}

const MIN_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// One accepted connection: the TLS handshake, then HTTP.
async fn connect(
    stream: TcpStream,
    peer: SocketAddr,
    slot: Slot,
    tls: Option<TlsAcceptorHandle>,
    front: Arc<Front>,
    mut shutdown: Shutdown,
) {
    // Answers are small and complete: waiting to fill a segment only adds latency. A failure shows in the next operation.
    let _ = stream.set_nodelay(true);
    let crowded = slot.slots.crowded.subscribe();
    let limits = &slot.slots.limits;
    let Some(tls) = tls else {
        slot.note(connection::serve(stream, peer.ip(), front, crowded, shutdown).await);
        return;
    };
    let handshake = tokio::select! {
        handshake = timeout(limits.handshake, tls.acceptor().accept(stream)) => handshake,
        () = shutdown.reached(Phase::Draining) => return slot.note(Some("stopping")),
    };
    match handshake {
        Ok(Ok(stream)) => slot.note(connection::serve(stream, peer.ip(), front, crowded, shutdown).await),
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %peer.ip(), "a TLS handshake failed");
            slot.note(Some("handshake_failed"));
        }
        Err(_) => slot.note(Some("handshake_timeout")),
    }
}

/// The places for connections.
struct Slots {
    permits: Arc<Semaphore>,
    limits: Limits,
    metrics: Metrics,
    /// Whether idle connections should make room.
    crowded: watch::Sender<bool>,
}

impl Slots {
    fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(limits.connections));
        Arc::new(Self { permits, limits, metrics, crowded: watch::Sender::new(false) })
    }

    /// Waits for a free place.
    async fn take(self: &Arc<Self>) -> Slot {
        // The semaphore is never closed; should it be, no place is ever free.
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return std::future::pending().await;
        };
        self.weigh();
        Slot { slots: Arc::clone(self), permit: Some(permit), open: false }
    }

    fn weigh(&self) {
        let taken = self.limits.connections.saturating_sub(self.permits.available_permits());
        self.crowded.send_if_modified(|crowded| {
            let now = if *crowded { taken > self.limits.crowded_until() } else { taken >= self.limits.crowded_from() };
            std::mem::replace(crowded, now) != now
        });
    }

    fn cut(&self, outcome: &'static str) {
        self.metrics.connections_cut.get_or_create(&Outcome { outcome }).inc();
    }
}

/// One connection's place, free again when dropped.
struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
    open: bool,
}

impl Slot {
    fn opened(mut self) -> Self {
        self.slots.metrics.connections.inc();
        self.open = true;
        self
    }

    fn note(&self, cut: Option<&'static str>) {
        if let Some(outcome) = cut {
            self.slots.cut(outcome);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.open {
            self.slots.metrics.connections.dec();
        }
        self.slots.weigh();
    }
}
