//! A stand-in for Amazon's hosts: an HTTPS proxy that answers `CONNECT` itself, with certificates of a test authority, so that the
//! sidecar runs with the settings and the host names of production.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Script {
    Body(u16, Vec<u8>),
    Redirect(String),
    /// Takes the request and never answers.
    Silence,
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Script>,
    requests: Vec<String>,
    /// Seconds by which its clock is ahead.
    ahead: i64,
    /// Whether it takes connections.
    gone: bool,
}

pub(crate) struct Amazon {
    pub(crate) proxy: SocketAddr,
    pub(crate) ca_pem: String,
    state: Arc<Mutex<State>>,
}

impl Amazon {
    pub(crate) async fn start() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Postern test TLS authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca_pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Arc::new(Issuer::new(params, key));
        let state = Arc::new(Mutex::new(State::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let proxy = listener.local_addr().expect("an address");
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, Arc::clone(&issuer), Arc::clone(&shared)));
            }
        });
        Self { proxy, ca_pem, state }
    }

    /// Sets what `https://host/path` answers.
    pub(crate) fn script(&self, url: &str, script: Script) {
        self.state.lock().expect("a lock").scripts.insert(url.to_owned(), script);
    }

    /// Sets its clock by `seconds` ahead of ours.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.state.lock().expect("a lock").ahead = seconds;
    }

    /// Cuts the network off: connections are closed without an answer.
    pub(crate) fn go_away(&self) {
        self.state.lock().expect("a lock").gone = true;
    }

    /// Every URL that was asked for, in order.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().expect("a lock").requests.clone()
    }
}

async fn tunnel(mut stream: TcpStream, issuer: Arc<Issuer<'static, KeyPair>>, state: Arc<Mutex<State>>) -> Option<()> {
    if state.lock().expect("a lock").gone {
        return None;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8192 {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    let mut words = text.split_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    if method != "CONNECT" {
        // Plain http through a proxy: issuers of certificates.
        let path = target.to_owned();
        let script = answer(&state, &path);
        let (status, body) = match script {
            Some(Script::Body(status, body)) => (status, body),
            _ => (404, Vec::new()),
        };
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body).await.ok()?;
        return Some(());
    }
    let host = target.rsplit_once(':')?.0.to_owned();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
    let params = CertificateParams::new(vec![host.clone()]).ok()?;
    let key = KeyPair::generate().ok()?;
    let certificate = params.signed_by(&key, &issuer).ok()?;
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().ok()?)
        .ok()?;
    let tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
    let service = service_fn(move |request: Request<Incoming>| {
        let url = format!("https://{host}{}", request.uri());
        let script = answer(&state, &url);
        let ahead = state.lock().expect("a lock").ahead;
        async move {
            let response = match script {
                Some(Script::Body(status, body)) => Response::builder()
                    .status(status)
                    .header("date", http_date(ahead))
                    .body(Full::new(Bytes::from(body))),
                Some(Script::Redirect(to)) => {
                    Response::builder().status(302).header("location", to).body(Full::default())
                }
                Some(Script::Silence) => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Response::builder().status(500).body(Full::default())
                }
                None => Response::builder().status(404).body(Full::default()),
            };
            Ok::<_, Infallible>(response.expect("a response"))
        }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await.ok()
}

fn answer(state: &Mutex<State>, url: &str) -> Option<Script> {
    let mut state = state.lock().expect("a lock");
    state.requests.push(url.to_owned());
    // Query strings hold tokens: a script may be set for the address without it.
    let bare = url.split('?').next().unwrap_or(url);
    state.scripts.get(url).or_else(|| state.scripts.get(bare)).cloned()
}

fn http_date(ahead: i64) -> String {
    let now = time::OffsetDateTime::now_utc() + time::Duration::seconds(ahead);
    now.format(time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    ))
    .expect("a date")
}
