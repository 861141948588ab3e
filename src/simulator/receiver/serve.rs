//! The app's server.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderValue, LOCATION, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Interval;

use super::ledger::{self, Callback};
use super::{Behaviour, Shared, check};
use crate::clock::{Clock as _, SystemClock};

/// Bodies are read up to this many bytes; the largest callback is far smaller.
const MAX_BODY: usize = 16 << 20;

/// Pause between the bytes of an answer that never ends.
const DRIP: Duration = Duration::from_millis(200);

pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts until it is dropped, and its connections with it.
pub(super) async fn run(listener: Listener, shared: Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Socket::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
        };
        while connections.try_join_next().is_some() {}
        if let Ok(socket) = accepted {
            connections.spawn(converse(socket, Arc::clone(&shared)));
        } else {
            // Out of descriptors, most likely: they come back when connections end.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn converse(socket: Socket, shared: Arc<Shared>) {
    if let Socket::Tcp(stream) = &socket {
        let _ = stream.set_nodelay(true);
    }
    let reset = Arc::new(AtomicBool::new(false));
    let stream = Resettable { socket, reset: Arc::clone(&reset) };
    let service = service_fn(move |request| answer(request, Arc::clone(&shared), Arc::clone(&reset)));
    let mut server = hyper::server::conn::http1::Builder::new();
    let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    reset: Arc<AtomicBool>,
) -> Result<Response<Answer>, io::Error> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Err(io::Error::other(error)),
    };
    let looked_at = shared.state().ledger.requests.is_multiple_of(shared.look_at_one_in);
    let (checked, reading) = if looked_at {
        (Some(check(&head.headers, &body, &shared.keys, SystemClock.now())), ledger::read(&body))
    } else {
        (None, None)
    };
    let behaviour = {
        let mut state = shared.state();
        let failing =
            reading.iter().flat_map(|reading| &reading.objects).find_map(|(id, _)| state.failing_keys.get(id));
        match failing {
            Some(status) if *status != 200 => Behaviour::Status(*status),
            _ => state.script.pop_front().unwrap_or_else(|| state.always.clone()),
        }
    };
    if let Behaviour::Slow(delay) = behaviour {
        tokio::time::sleep(delay).await;
    }
    let mut response = Response::new(Answer::Empty);
    let mut status = Some(200);
    match behaviour {
        Behaviour::Slow(_) => {}
        // The answer has begun with 200, but an answer that never ends is none.
        Behaviour::Drip => {
            status = None;
            *response.body_mut() = Answer::Drip(tokio::time::interval(DRIP));
        }
        Behaviour::Redirect(to) => {
            status = Some(302);
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(LOCATION, to);
            }
        }
        Behaviour::Reset => status = None,
        Behaviour::Status(code) => status = Some(code),
        Behaviour::StatusRetryAfter(code, seconds) => {
            status = Some(code);
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
    }
    let broken = status.is_none() && matches!(response.body(), Answer::Empty);
    shared.state().ledger.enter(Callback { headers: head.headers, body, checked, status }, reading);
    shared.taken.send_modify(|count| *count += 1);
    if broken {
        reset.store(true, Ordering::Relaxed);
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    if let Some(code) = status.and_then(|code| StatusCode::from_u16(code).ok()) {
        *response.status_mut() = code;
    }
    Ok(response)
}

/// The body of an answer.
enum Answer {
    Drip(Interval),
    Empty,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Drip(interval) => {
                interval.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b".")))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that can end with a reset instead of a proper close.
struct Resettable {
    socket: Socket,
    reset: Arc<AtomicBool>,
}

impl Drop for Resettable {
    fn drop(&mut self) {
        if let (true, Socket::Tcp(stream)) = (self.reset.load(Ordering::Relaxed), &self.socket) {
            let _ = stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Resettable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Resettable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
