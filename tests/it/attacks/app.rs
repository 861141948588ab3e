//! The app beside an attacked sidecar.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// Remembers the object ids that it was told.
#[derive(Clone, Default)]
pub(crate) struct App {
    pub(crate) objects: Arc<Mutex<Vec<String>>>,
}

/// Starts it on a port of its own.
pub(super) async fn receive(app: App) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let app = app.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let app = app.clone();
                async move {
                    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
                    for event in value["message"]["events"].as_array().into_iter().flatten() {
                        let object = event["objectId"].as_str().unwrap_or_default().to_owned();
                        app.objects.lock().expect("a lock").push(object);
                    }
                    Ok::<_, Infallible>(
                        Response::builder().status(StatusCode::OK).body(Full::<Bytes>::default()).expect("a response"),
                    )
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}
