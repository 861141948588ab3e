//! Makes connections: TCP, TLS over it, through a proxy, or a unix socket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tower_service::Service;

use super::failure::{Failure, chain};
use super::proxy::{Proxies, tunnel};
use super::target::socket_of;
use super::tls::Tls;

/// Bound on connecting to all addresses of a name together, so that one dead address leaves time for the next.
const CONNECT: Duration = Duration::from_secs(5);

/// A byte stream of any kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<Resolver>,
    tls: Arc<Tls>,
    proxies: Proxies,
}

impl Connector {
    pub(super) fn new(tls: Tls, proxies: Proxies) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        Self { tcp, tls: Arc::new(tls), proxies }
    }

    async fn connect(mut self, uri: Uri) -> Result<Stream, Failure> {
        if let Some(socket) = socket_of(&uri) {
            let stream = UnixStream::connect(&socket).await;
            let stream = stream.map_err(|error| Failure::Connect(format!("{}: {error}", socket.display())))?;
            return Ok(Stream::new(Box::new(stream), false));
        }
        let secure = uri.scheme_str() == Some("https");
        let Some(proxy) = self.proxies.intercept(&uri) else {
            let io = self.tcp(&uri).await?;
            return Ok(Stream::new(if secure { self.secure(&uri, io).await? } else { io }, false));
        };
        let mut io = self.tcp(proxy.uri()).await?;
        if proxy.uri().scheme_str() == Some("https") {
            io = self.secure(proxy.uri(), io).await?;
        }
        if !secure {
            return Ok(Stream::new(io, true));
        }
        let io = tunnel(io, &uri, proxy.basic_auth()).await?;
        Ok(Stream::new(self.secure(&uri, io).await?, false))
    }

    async fn tcp(&mut self, uri: &Uri) -> Result<Box<dyn Io>, Failure> {
        std::future::poll_fn(|cx| self.tcp.poll_ready(cx)).await.map_err(|error| unconnected(&error))?;
        let stream = self.tcp.call(uri.clone()).await.map_err(|error| unconnected(&error))?;
        Ok(Box::new(stream.into_inner()))
    }

    async fn secure(&self, uri: &Uri, io: Box<dyn Io>) -> Result<Box<dyn Io>, Failure> {
        Ok(Box::new(self.tls.connect(uri.host().unwrap_or_default(), io).await?))
    }
}

fn unconnected(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(this) = cause {
        if let Some(unresolved) = this.downcast_ref::<Unresolved>() {
            return Failure::Dns(unresolved.to_string());
        }
        cause = this.source();
    }
    Failure::Connect(chain(error))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.connect(uri).await.map(TokioIo::new) })
    }
}

/// The system's resolver, whose errors can be told from others.
#[derive(Clone)]
struct Resolver(GaiResolver);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unresolved(String);

impl Service<Name> for Resolver {
    type Response = <GaiResolver as Service<Name>>::Response;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        self.0.poll_ready(cx).map_err(|error| Unresolved(error.to_string()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let shown = name.to_string();
        let resolving = self.0.call(name);
        Box::pin(async move { resolving.await.map_err(|error| Unresolved(format!("{shown}: {error}"))) })
    }
}

/// What is known of a connection's exchanges. HTTP/1.1 without pipelining alternates: a request is written, an answer read.
#[derive(Clone, Debug)]
pub(super) struct Link(Arc<LinkState>);

#[derive(Debug, Default)]
struct LinkState {
    /// A request was written after an answer had been read: the connection is being reused.
    reused: AtomicBool,
    /// Something was read since the last write.
    answered: AtomicBool,
}

impl Link {
    /// The link of the connection on which `error` happened, if there was one.
    pub(super) fn of(error: &legacy::Error) -> Option<Self> {
        let mut extensions = Extensions::new();
        error.connect_info()?.get_extras(&mut extensions);
        extensions.remove()
    }

    /// Whether a reused connection ended before any byte of the present answer: the peer closed it while it was idle.
    pub(super) fn went_stale(&self) -> bool {
        self.0.reused.load(Ordering::Relaxed) && !self.0.answered.load(Ordering::Relaxed)
    }

    fn wrote(&self) {
        if self.0.answered.swap(false, Ordering::Relaxed) {
            self.0.reused.store(true, Ordering::Relaxed);
        }
    }

    fn read(&self) {
        self.0.answered.store(true, Ordering::Relaxed);
    }
}

/// A connection as the client sees it.
pub(super) struct Stream {
    io: Box<dyn Io>,
    /// The peer is a proxy that reads the requests: they name the whole URL.
    proxied: bool,
    link: Link,
}

impl Stream {
    fn new(io: Box<dyn Io>, proxied: bool) -> Self {
        Self { io, proxied, link: Link(Arc::default()) }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied).extra(self.link.clone())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.link.read();
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.link.wrote();
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.link.wrote();
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
