//! What stands between a producer and the sidecar in a cluster: an ingress. It passes each POST on, answers 502 where the sidecar is
//! away, and keeps a ledger of both.
//!
//! It takes its time over a refusal, as the gateway of Ceph needs: that one sends again at once and without end, and its persistent
//! queue stands still for good when an answer, or "connection refused", comes before it waits for it: with 16.2 after some 270
//! refused connections, a fifth of a second. (`RGWHTTPClient::wait` looked whether the request was done without the lock under which that
//! is noted; mended in May 2024 by ceph/ceph#57632.)

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::aws::try_call;
use super::wait::PATIENCE;

const ACCEPTED_AFTER: Duration = Duration::from_millis(20);
const REFUSED_AFTER: Duration = Duration::from_millis(300);

/// A front door on a free port; it ends with its runtime.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The origin behind it.
    behind: Mutex<Option<String>>,
    ledger: Mutex<Vec<(StatusCode, Bytes)>>,
}

impl Front {
    /// One with nothing behind it yet.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| pass(request, Arc::clone(&state)));
                    // A producer that goes away is not the door's affair.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, state }
    }

    /// Its origin.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes on to `origin` from now on; with `None` to nobody.
    pub(crate) fn lead_to(&self, origin: Option<&str>) {
        *self.state.behind.lock().expect("no panic") = origin.map(str::to_owned);
    }

    /// The bodies of the POSTs that were answered with `status`, each time they came.
    pub(crate) fn answered(&self, status: StatusCode) -> Vec<Bytes> {
        let ledger = self.state.ledger.lock().expect("no panic");
        ledger.iter().filter(|(answered, _)| *answered == status).map(|(_, body)| body.clone()).collect()
    }

    /// Waits until so many were answered with `status`. The gateway of Ceph looks for new topics only every half minute.
    pub(crate) async fn wait_for(&self, status: StatusCode, least: usize) {
        let deadline = Instant::now() + PATIENCE * 3;
        while self.answered(status).len() < least {
            assert!(Instant::now() < deadline, "waited in vain for {least} POSTs that are answered with {status}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}

async fn pass(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let behind = state.behind.lock().expect("no panic").clone();
    let text = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    };
    let ours = ["connection", "content-length", "transfer-encoding", "host"];
    let headers: Vec<_> =
        head.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).filter_map(text).collect();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let reply = match behind {
        Some(origin) if head.method == Method::POST => {
            try_call(Method::POST, &format!("{origin}{}", head.uri.path()), &headers, body.clone()).await
        }
        _ => None,
    };
    let status = reply.as_ref().map_or(StatusCode::BAD_GATEWAY, |reply| reply.status);
    state.ledger.lock().expect("no panic").push((status, body));
    tokio::time::sleep(if status.is_success() { ACCEPTED_AFTER } else { REFUSED_AFTER }).await;
    let mut response = Response::new(Full::new(reply.map(|reply| reply.body).unwrap_or_default()));
    *response.status_mut() = status;
    Ok(response)
}
