//! One connection: what it is doing, how long it may, and how it ends.
//!
//! hyper knows one timeout, for headers, and counts the idle time between requests into it. Here each state of a connection
//! has its own bound, so that keep-alive may be long and a slow head, body or reader may not.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::framing::Framing;
use super::limits::{BUFFER_BYTES, Limits};
use super::request::Front;
use crate::shutdown::{Phase, Shutdown};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Sending the head of a request, or has just been opened.
    Head,
    /// Between requests.
    Idle,
    /// Waiting for us: the body is read under its own bound, then judged under its own.
    Judged,
    /// Taking our answer.
    Taking,
}

impl Doing {
    /// The word in `connections_cut`.
    fn outcome(self) -> &'static str {
        match self {
            Self::Head => "slow_head",
            Self::Idle => "idle",
            Self::Judged => "stuck",
            Self::Taking => "slow_reader",
        }
    }
}

/// The state that the connection's task, its stream and its requests share.
#[derive(Debug)]
pub(super) struct Activity {
    doing: Mutex<(Doing, Instant)>,
    unread: AtomicBool,
    /// Heads whose framing is unambiguous, counted as their bytes go to hyper, and requests that came out of it: hyper answers
    /// in order, so the n-th request is the n-th head.
    vouched: AtomicU64,
    begun: AtomicU64,
    lost_in_body: AtomicBool,
}

impl Activity {
    fn new() -> Self {
        Self {
            doing: Mutex::new((Doing::Head, Instant::now())),
            unread: AtomicBool::new(false),
            vouched: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            lost_in_body: AtomicBool::new(false),
        }
    }

    /// A request's head was read. Answers whether its framing can be read in one way only.
    pub(super) fn begin(&self) -> bool {
        self.set(Doing::Judged);
        self.begun.fetch_add(1, Ordering::Relaxed) < self.vouched.load(Ordering::Relaxed)
    }

    /// Whether nobody can say for sure where the next request begins.
    pub(super) fn lost_in_body(&self) -> bool {
        self.lost_in_body.load(Ordering::Relaxed)
    }

    /// A request's answer is ready.
    pub(super) fn answered(&self) {
        self.set(Doing::Taking);
    }

    /// The answer goes out although the request was not read to its end.
    pub(super) fn left_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    fn set(&self, doing: Doing) {
        *self.doing.lock().unwrap_or_else(PoisonError::into_inner) = (doing, Instant::now());
    }

    fn turn(&self, from: Doing, to: Doing) {
        let mut doing = self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        if doing.0 == from {
            *doing = (to, Instant::now());
        }
    }

    fn due(&self, limits: &Limits, crowded: bool) -> (Instant, Doing) {
        let (doing, since) = *self.doing.lock().unwrap_or_else(PoisonError::into_inner);
        let allowed = match doing {
            Doing::Head if crowded => limits.crowded_head,
            Doing::Head => limits.head,
            Doing::Idle if crowded => limits.crowded_idle,
            Doing::Idle => limits.idle,
            // Both parts of a request end by themselves; this is the net below them.
            Doing::Judged => limits.body + limits.answer + limits.linger,
            Doing::Taking => limits.write,
        };
        (since + allowed, doing)
    }
}

/// A stream that notes when a request begins, how it is framed, and when an answer is out.
#[derive(Debug)]
struct Watched<S> {
    stream: S,
    framing: Framing,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Some(new @ [_, ..]) = buf.filled().get(before..) {
            self.activity.turn(Doing::Idle, Doing::Head);
            self.framing.follow(new);
            self.activity.vouched.store(self.framing.vouched(), Ordering::Relaxed);
            self.activity.lost_in_body.store(self.framing.lost_in_body(), Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream only when its own buffer is empty, so a flush that is done means that the answer is out.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.activity.turn(Doing::Taking, Doing::Idle);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What happened next on a connection.
enum Step {
    Cut(&'static str),
    Crowding,
    Done(hyper::Result<()>),
    Phase,
}

/// Serves requests until the other side closes, a bound is passed or the process stops. Answers why it was cut, if it was.
pub(super) async fn serve<S>(
    stream: S,
    peer: std::net::IpAddr,
    front: Arc<Front>,
    mut crowded: watch::Receiver<bool>,
    mut shutdown: Shutdown,
) -> Option<&'static str>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let limits = front.limits.clone();
    let service = {
        let (activity, front) = (Arc::clone(&activity), Arc::clone(&front));
        service_fn(move |request: hyper::Request<Incoming>| {
            let (activity, front) = (Arc::clone(&activity), Arc::clone(&front));
            Box::pin(async move {
                let is_framed = activity.begin();
                let response = front.answer(request, is_framed, peer, &activity).await;
                activity.answered();
                Ok::<_, Infallible>(response)
            })
        })
    };
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        // A peer that has said all it wants to say is still listening; and work that was begun is not dropped halfway.
        .half_close(true)
        .max_headers(limits.headers)
        .max_header_size(limits.head_bytes)
        .max_buf_size(BUFFER_BYTES.max(limits.head_bytes))
        .serve_connection(
            TokioIo::new(Watched { stream, framing: Framing::new(), activity: Arc::clone(&activity) }),
            service,
        );

    let mut timer = std::pin::pin!(sleep_until(activity.due(&limits, false).0));
    let mut next_phase = Phase::Draining;
    let broken = loop {
        let is_crowded = *crowded.borrow_and_update();
        let step = tokio::select! {
            step = std::future::poll_fn(|cx| {
                if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
                    return Poll::Ready(Step::Done(result));
                }
                // Bounds mostly move away from now, so the timer is moved only when it must ring earlier or rang too early.
                let (due, doing) = activity.due(&limits, is_crowded);
                if due < timer.deadline() {
                    timer.as_mut().reset(due);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if timer.deadline() >= due {
                        return Poll::Ready(Step::Cut(doing.outcome()));
                    }
                    timer.as_mut().reset(due);
                }
                Poll::Pending
            }) => step,
            () = shutdown.reached(next_phase) => Step::Phase,
            Ok(()) = crowded.changed() => Step::Crowding,
        };
        match step {
            Step::Crowding => {}
            Step::Cut(outcome) => return Some(outcome),
            Step::Done(result) => break result.is_err(),
            Step::Phase if next_phase == Phase::Stopping || shutdown.phase() == Phase::Stopping => {
                return Some("stopping");
            }
            Step::Phase => {
                next_phase = Phase::Stopping;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let stream = connection.into_parts().io.into_inner().stream;
    close(stream, broken || activity.unread.load(Ordering::Relaxed), &limits).await;
    None
}

/// Bytes that are read and thrown away after an early answer: twice the largest body. More deserves a reset.
const LINGER_BYTES: u64 = 1024 * 1024;

/// Ends our side; where the other side may still be sending, waits a little for it to read our answer.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, unread: bool, limits: &Limits) {
    let _ = timeout(limits.linger, async {
        stream.shutdown().await?;
        if unread {
            tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await?;
        }
        io::Result::Ok(())
    })
    .await;
}
