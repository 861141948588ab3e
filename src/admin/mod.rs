//! The admin listener: health and metrics for everybody, the API for whoever has the token.
//!
//! | route | answer |
//! |---|---|
//! | `GET /live` | 200 while the process runs |
//! | `GET /ready` | 200 or 503 with each condition and its reason; it never waits for a subscription (hard case 4) |
//! | `GET /metrics` | OpenMetrics for those who ask for it, as Prometheus does; its older text format otherwise |
//! | `GET /instances` | the configured instances in the shape of Cloud Elements' call, secrets as `******` (token) |
//! | `GET /deliveries`, `GET /events` | what is owed, delivered, dead, newest first, in pages (token) |
//! | `POST /deliveries/replay`, `/deliveries/discard` | a filter as JSON; how many it was (token) |
//!
//! It speaks plain HTTP, one request a connection: probes and scrapes open new ones anyway, and so every connection is
//! bounded by one deadline and a peer that does not read cannot keep a place.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::config::Instance;
use crate::health::Health;
use crate::queue::Queue;
use crate::secret::Secret;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::Metrics;

mod api;
mod instances;
mod metrics;
mod routes;
#[cfg(test)]
mod tests;

/// Connections at once: a kubelet, a scraper or two and some people.
const CONNECTIONS: usize = 64;
/// From the first byte of a connection to the end of its headers.
const HEAD: Duration = Duration::from_secs(5);
/// One connection in all, a long listing from a slow disk included.
const CONNECTION: Duration = Duration::from_secs(30);
/// Bytes of a request's line and headers; listings have their filter in the query.
const HEAD_BYTES: usize = 16 * 1024;

/// What the admin listener shows and acts on.
pub struct Admin {
    /// Deliveries.
    pub queue: Arc<dyn Queue>,
    /// Conditions behind `/ready`.
    pub health: Arc<Health>,
    /// Where the metrics are registered.
    pub registry: Arc<Registry>,
    /// The metrics whose gauges are refreshed at each scrape.
    pub metrics: Metrics,
    /// Configured instances.
    pub instances: Vec<Arc<Instance>>,
    /// Bearer token of the API (`POSTERN_ADMIN_TOKEN`); without one the API answers 403.
    pub token: Option<Secret>,
    /// For ages.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admin")
    }
}

/// The admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} (POSTERN_ADMIN_LISTEN): {cause}; choose another address or port, or stop what has this one"
)]
pub struct BindError {
    address: SocketAddr,
    cause: io::Error,
}

/// The admin socket, open but not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Opens the admin socket, before anything runs.
///
/// # Errors
/// [`BindError`] with the variable's name.
pub async fn bind(address: SocketAddr) -> Result<Listener, BindError> {
    let error = |cause| BindError { address, cause };
    let socket = TcpListener::bind(address).await.map_err(error)?;
    let address = socket.local_addr().map_err(error)?;
    Ok(Listener { socket, address })
}

impl Listener {
    /// The address that was opened; port 0 is resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until [`Phase::Stopping`], so that a drain can be watched; then cuts what is left.
    pub async fn serve(self, admin: Admin, mut shutdown: Shutdown) {
        let state = Arc::new(State { admin, scrape: Mutex::new(()) });
        let mut connections = tokio::task::JoinSet::new();
        tokio::select! {
            () = accept(&self.socket, &state, &mut connections) => {}
            () = shutdown.reached(Phase::Stopping) => {}
        }
        connections.shutdown().await;
    }

    /// Like [`serve`](Self::serve), on a thread and runtime of its own: whatever blocks or floods the threads of the intake and of
    /// dispatch, probes and scrapes are answered. Returns when the thread is done, however it ended.
    pub async fn serve_apart(self, admin: Admin, shutdown: Shutdown) {
        let (running, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("admin".into()).spawn(move || {
            // Dropped at the end of the thread, also by a panic, which is what ends the wait.
            let _running = running;
            if let Err(error) = self.block_on(admin, shutdown) {
                tracing::error!(%error, "the admin listener cannot be served on a thread of its own");
            }
        });
        match thread {
            Ok(_) => drop(ended.await),
            Err(error) => tracing::error!(%error, "the system gives no thread for the admin listener"),
        }
    }

    fn block_on(self, admin: Admin, shutdown: Shutdown) -> io::Result<()> {
        // A listing reads the store on a blocking thread; two at once are plenty for people.
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
        let Self { socket, address } = self;
        let socket = socket.into_std()?;
        runtime.block_on(async {
            // A socket belongs to the runtime that it was made in.
            let socket = TcpListener::from_std(socket)?;
            Self { socket, address }.serve(admin, shutdown).await;
            io::Result::Ok(())
        })?;
        // A read of a store that hangs must not hold the end.
        runtime.shutdown_background();
        Ok(())
    }
}

/// What all connections share.
struct State {
    admin: Admin,
    /// One scrape at a time: it clears the gauges of instances before it fills them.
    scrape: Mutex<()>,
}

async fn accept(socket: &TcpListener, state: &Arc<State>, connections: &mut tokio::task::JoinSet<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed; should it be, nothing more is accepted.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections on the admin listener");
                sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let state = Arc::clone(state);
        connections.spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(routes::answer(&state, request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_header_size(HEAD_BYTES)
                .max_buf_size(2 * HEAD_BYTES)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let _ = timeout(CONNECTION, connection).await;
            drop(place);
        });
    }
}
