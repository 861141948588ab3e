//! An app: it takes callbacks, checks their signatures as any app would, and keeps a ledger of what it was handed.
//!
//! It can be told to misbehave in the ways apps do: wrong answers, slow ones, a broken connection, a redirect, a body that never
//! ends, and keys that it can never stomach.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub mod check;
pub mod ledger;
mod serve;

pub use check::{Checked, check};
pub use ledger::{Callback, Ledger};

/// How the app is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: Listen,
    /// Keys that it accepts signatures of; empty: signatures are counted as absent.
    pub keys: Vec<String>,
    /// Objects and callbacks that are remembered at most; beyond that there are only counts.
    pub remember: usize,
    /// Only one callback of so many is checked and read, the others are just counted: for benches, where the app must not take the
    /// processor away from what is measured. 1 is all, and 0 is taken as 1.
    pub look_at_one_in: u64,
}

/// Where the app listens.
#[derive(Clone, Debug)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket at this path.
    Unix(PathBuf),
}

impl Default for Options {
    fn default() -> Self {
        let listen = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { listen, keys: Vec::new(), remember: 1_000_000, look_at_one_in: 1 }
    }
}

/// What the app does with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers 200 after a while.
    Slow(Duration),
    /// Sends the answer byte by byte, for ever.
    Drip,
    /// Answers 302 to elsewhere.
    Redirect(String),
    /// Breaks the connection without an answer.
    Reset,
    /// Answers with this status; from 200 to 299 it has taken the event.
    Status(u16),
    /// Answers with this status and `Retry-After` of so many seconds.
    StatusRetryAfter(u16, u32),
}

/// A running app. Serves until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    bound: Bound,
    _server: JoinSet<Infallible>,
}

#[derive(Debug)]
enum Bound {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug)]
struct Shared {
    keys: Vec<String>,
    look_at_one_in: u64,
    state: Mutex<State>,
    /// Callbacks taken so far; what waits is told by this.
    taken: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    script: VecDeque<Behaviour>,
    always: Behaviour,
    failing_keys: HashMap<String, u16>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Receiver {
    /// Binds and serves, answering 200 to everything.
    ///
    /// # Errors
    /// What the system says when the address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let state = State {
            ledger: Ledger::new(options.remember),
            script: VecDeque::new(),
            always: Behaviour::Status(200),
            failing_keys: HashMap::new(),
        };
        let shared = Arc::new(Shared {
            keys: options.keys,
            look_at_one_in: options.look_at_one_in.max(1),
            state: Mutex::new(state),
            taken: watch::channel(0).0,
        });
        let mut server = JoinSet::new();
        let bound = match options.listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let bound = listener.local_addr()?;
                server.spawn(serve::run(serve::Listener::Tcp(listener), Arc::clone(&shared)));
                Bound::Tcp(bound)
            }
            Listen::Unix(path) => {
                let listener = UnixListener::bind(&path)?;
                server.spawn(serve::run(serve::Listener::Unix(listener), Arc::clone(&shared)));
                Bound::Unix(path)
            }
        };
        Ok(Self { shared, bound, _server: server })
    }

    /// The callback URL, in the form of `event.notification.callback.url`.
    pub fn url(&self) -> String {
        match &self.bound {
            Bound::Tcp(address) => format!("http://{address}/events"),
            Bound::Unix(path) => format!("unix:{}:/events", path.display()),
        }
    }

    /// What the next requests meet, one each; afterwards it is as [`Receiver::always`] says.
    pub fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.shared.state().script.extend(behaviours);
    }

    /// What requests meet from now on.
    pub fn always(&self, behaviour: Behaviour) {
        self.shared.state().always = behaviour;
    }

    /// Answers `status` to everything about `object_id`; 200 ends that.
    pub fn fail_key(&self, object_id: &str, status: u16) {
        self.shared.state().failing_keys.insert(object_id.to_owned(), status);
    }

    /// Looks into the ledger.
    pub fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.shared.state().ledger)
    }

    /// Waits until the ledger is as `wanted`, looking after each callback; false when that did not happen within `patience`.
    pub async fn wait_until(&self, patience: Duration, wanted: impl Fn(&Ledger) -> bool) -> bool {
        let mut taken = self.shared.taken.subscribe();
        let waiting = async {
            loop {
                taken.borrow_and_update();
                if self.ledger(&wanted) {
                    return true;
                }
                if taken.changed().await.is_err() {
                    return false;
                }
            }
        };
        let in_time = tokio::time::timeout(patience, waiting).await;
        in_time.unwrap_or_else(|_| self.ledger(&wanted))
    }
}

#[cfg(test)]
mod tests;
