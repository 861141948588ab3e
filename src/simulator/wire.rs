//! A small HTTP/1.1 client for the stand-ins: one kept-alive connection, used again until it breaks.
//!
//! It is not the sidecar's own client on purpose: load must not share a pool, a limit or a bug with what is measured.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpStream, UnixStream};
use url::Url;

/// SNS gives up on an answer after 15 s (`sns.md` 1.6).
pub const TIMEOUT: Duration = Duration::from_secs(15);

/// Answers are read up to this many bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    route: Route,
    authority: HeaderValue,
    path: String,
}

#[derive(Clone, Debug)]
enum Route {
    Tcp { host: String, port: u16, tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)> },
    Unix(PathBuf),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection could not be made.
    #[error("cannot connect to {to}: {error}")]
    Connect {
        /// Host and port, or the socket's path.
        to: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// The connection broke, or the answer is no HTTP.
    #[error("no answer: {0}")]
    Exchange(String),
    /// Time ran out.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The URL cannot be used.
    #[error("{0}")]
    Url(String),
}

impl Target {
    /// Reads an `http://` or `https://` URL; for the latter `ca_pem` replaces the system's authorities.
    ///
    /// # Errors
    /// [`WireError::Url`] when the URL has another scheme, no host, or the authorities are unusable.
    pub fn new(url: &Url, ca_pem: Option<&[u8]>) -> Result<Self, WireError> {
        let wrong = |why: &str| WireError::Url(format!("{url}: {why}"));
        let host = url.host_str().ok_or_else(|| wrong("no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| wrong("no port"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|_| wrong("the host is no name for TLS"))?;
                Some((Arc::new(client_config(ca_pem).map_err(|why| wrong(&why))?), name))
            }
            _ => return Err(wrong("only http and https are spoken here")),
        };
        let authority = HeaderValue::from_str(&url[url::Position::BeforeHost..url::Position::AfterPort])
            .map_err(|_| wrong("the host cannot stand in a header"))?;
        let path = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        Ok(Self { route: Route::Tcp { host: bare, port, tls }, authority, path })
    }

    /// Requests to `path` over the unix socket at `socket`.
    pub fn unix(socket: PathBuf, path: &str) -> Self {
        Self { route: Route::Unix(socket), authority: HeaderValue::from_static("localhost"), path: path.to_owned() }
    }

    /// Whether requests cannot leave this machine.
    pub fn is_loopback(&self) -> bool {
        match &self.route {
            Route::Unix(_) => true,
            Route::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

/// Trusts `ca_pem`, or the system's authorities without it.
fn client_config(ca_pem: Option<&[u8]>) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| format!("the authorities are no PEM: {error}"))?;
                roots.add(certificate).map_err(|error| format!("an authority is unusable: {error}"))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

/// One connection to a target, made when it is needed.
#[derive(Debug)]
pub struct Connection {
    target: Arc<Target>,
    sender: Option<SendRequest<Full<Bytes>>>,
    timeout: Duration,
}

impl Connection {
    /// A connection that is not made yet.
    pub fn new(target: Arc<Target>) -> Self {
        Self { target, sender: None, timeout: TIMEOUT }
    }

    /// The same with another bound on connecting, sending and reading together.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// POSTs `body` to the target's path.
    ///
    /// # Errors
    /// [`WireError`] when there is no whole answer; whether the target acted on the request is then unknown.
    pub async fn post(&mut self, headers: HeaderMap, body: Bytes) -> Result<Reply, WireError> {
        let target = Arc::clone(&self.target);
        self.send(Method::POST, &target.path, headers, body).await
    }

    /// Sends a request for `path` (with its query) at the target's host.
    ///
    /// # Errors
    /// As [`Connection::post`].
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Reply, WireError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| WireError::Url(format!("{path}: {error}")))?;
        *request.headers_mut() = headers;
        request.headers_mut().entry(HOST).or_insert_with(|| self.target.authority.clone());
        let timeout = self.timeout;
        let outcome = tokio::time::timeout(timeout, self.exchange(request)).await;
        let reply = outcome.unwrap_or(Err(WireError::Timeout(timeout)));
        if reply.is_err() {
            self.sender = None;
        }
        reply
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, WireError> {
        let broken = |error: &dyn std::fmt::Display| WireError::Exchange(error.to_string());
        // An idle connection that the other side has closed meanwhile is noticed here, before anything is sent on it.
        let alive = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            self.sender = Some(connect(&self.target.route).await?);
        }
        let Some(sender) = &mut self.sender else { return Err(broken(&"not connected")) };
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| broken(&error))?.to_bytes();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

async fn connect(route: &Route) -> Result<SendRequest<Full<Bytes>>, WireError> {
    match route {
        Route::Unix(path) => {
            let failed = |error| WireError::Connect { to: path.display().to_string(), error };
            handshake(UnixStream::connect(path).await.map_err(failed)?).await
        }
        Route::Tcp { host, port, tls } => {
            let failed = |error| WireError::Connect { to: format!("{host}:{port}"), error };
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match tls {
                None => handshake(stream).await,
                Some((config, name)) => {
                    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                    handshake(connector.connect(name.clone(), stream).await.map_err(failed)?).await
                }
            }
        }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, WireError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| WireError::Exchange(error.to_string()))?;
    // Ends by itself when the sender is dropped or the other side closes.
    tokio::spawn(connection);
    Ok(sender)
}
