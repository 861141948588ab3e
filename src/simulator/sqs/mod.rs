//! A stand-in of Amazon SQS: one queue behind its JSON protocol, with faults on demand and a ledger of what was asked.
//!
//! It knows the four calls that draining takes. Messages are handed out oldest first, hidden for their visibility timeout and handed out
//! again after it, as SQS does; in a FIFO queue a group is locked while one of its messages is in flight. Nothing checks signatures.

mod serve;
mod state;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use url::Url;

use self::state::State;

/// How the queue is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Its visibility timeout; 30 s.
    pub visibility: Duration,
    /// Whether messages of a group come in order (the URL then ends in `.fifo`).
    pub fifo: bool,
    /// For how long a long poll goes on, and takes messages, after its connection was cut; not at all.
    pub lingering: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { visibility: Duration::from_secs(30), fifo: false, lingering: Duration::ZERO }
    }
}

/// A call of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `ChangeMessageVisibilityBatch`.
    ChangeVisibility,
    /// `DeleteMessageBatch`.
    Delete,
    /// `GetQueueAttributes`.
    Attributes,
    /// `ReceiveMessage`.
    Receive,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A policy denies it: 400 with `AccessDeniedException`.
    Denied,
    /// 200 with an answer that breaks off in the middle.
    Half,
    /// Every entry of a batch but the first fails with an error of the server's own.
    Partial,
    /// The connection is cut.
    Reset,
    /// This status, without an answer of SQS.
    Status(u16),
    /// 400 with `ThrottlingException`.
    Throttled,
    /// There is no such queue.
    Unknown,
}

/// What was asked, and what is left.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Calls of each kind, failed ones included.
    pub receives: u64,
    /// Calls of `DeleteMessageBatch`.
    pub deletes: u64,
    /// Long polls whose connection was cut before there was an answer.
    pub hung_up: u64,
    /// Messages handed out, each time counted.
    pub handed_out: u64,
    /// Ids of deleted messages, in the order of their deletion.
    pub deleted: Vec<u64>,
    /// Visibility changes: id of the message, and the seconds.
    pub visibility: Vec<(u64, u64)>,
    /// `VisibilityTimeout` of the last receive, where it had one.
    pub wished: Option<u64>,
}

/// A running queue; it ends when this is dropped.
#[derive(Debug)]
pub struct Queue {
    address: SocketAddr,
    fifo: bool,
    shared: Arc<Shared>,
    server: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Queue {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// What the system says when there is no port.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { state: Mutex::new(State::new(options)), arrived: Notify::new() });
        let server = tokio::spawn(serve::run(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, fifo: options.fifo, shared, server })
    }

    /// Its URL, as `POSTERN_SQS_QUEUE_URL` takes it.
    pub fn url(&self) -> Url {
        let name = if self.fifo { "queue.fifo" } else { "queue" };
        // An address and a literal path always make a URL.
        Url::parse(&format!("http://{}/000000000000/{name}", self.address)).expect("an address and a path make a URL")
    }

    /// Sends a message; its number, from 1.
    pub fn send(&self, body: impl Into<String>) -> u64 {
        self.send_in("", body)
    }

    /// Sends a message as if it had been received so often already; its number.
    pub fn send_again(&self, receives: u32, body: impl Into<String>) -> u64 {
        let number = self.shared.state().send_again(receives, body.into());
        self.shared.arrived.notify_waiters();
        number
    }

    /// Sends a message of a group; its number.
    pub fn send_in(&self, group: &str, body: impl Into<String>) -> u64 {
        let number = self.shared.state().send(group, body.into());
        self.shared.arrived.notify_waiters();
        number
    }

    /// Lets the next `times` calls of this kind fail.
    pub fn fail(&self, call: Call, fault: Fault, times: u32) {
        self.shared.state().faults.insert(call, (fault, times));
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// Messages that are not deleted.
    pub fn left(&self) -> usize {
        self.shared.state().left()
    }

    /// Messages that are hidden at the moment.
    pub fn in_flight(&self) -> usize {
        self.shared.state().in_flight()
    }

    /// What was asked so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.state().ledger.clone()
    }
}
