//! The dispatcher: everything that is owed, over all instances, within one bound on attempts in flight.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ring::rand::SystemRandom;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::attempt::Attempter;
use super::relay::{Gate, Relay};
use super::retry::Policy;
use crate::clock::Clock;
use crate::config::{DispatchConfig, Instance};
use crate::egress::Client;
use crate::health::Health;
use crate::queue::Queue;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::Metrics;

/// How often [`Progress`] is looked at while shutting down.
const LOOK: Duration = Duration::from_millis(50);

/// Settlements in flight at least; attempts go on while these are being made durable.
const SETTLING: usize = 256;

/// How far delivering what is owed has come: what a drain waits for (hard case 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Deliveries that are attempted or whose outcome is not durable yet.
    pub in_flight: usize,
    /// Deliveries owed to configured instances.
    pub owed: u64,
    /// Something is owed, and each callback that is owed something cannot be connected to: the app has gone.
    pub all_paused_by_connect: bool,
}

impl Progress {
    /// Whether waiting longer brings nothing: all is delivered, or the app has gone.
    pub fn is_over(&self) -> bool {
        self.in_flight == 0 && (self.owed == 0 || self.all_paused_by_connect)
    }
}

/// What all instances share.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
    pub(super) policy: Policy,
    pub(super) batch: usize,
    pub(super) random: SystemRandom,
    /// One permit for each attempt in flight.
    pub(super) attempts: Semaphore,
    /// One more for each of them that is a retry; the last quarter is for first attempts alone (hard case 16).
    pub(super) retries: Arc<Semaphore>,
    pub(super) retries_at_most: usize,
    /// One permit for each settlement that is not durable. An attempt keeps its own permits until it has one of these, so that
    /// a store which refuses stops attempts and nothing grows.
    pub(super) settling: Semaphore,
    /// A permit of any kind was given back.
    pub(super) freed: Notify,
    pub(super) in_flight: AtomicUsize,
}

/// Delivers what is owed, until it is told to stop.
pub struct Dispatcher {
    shared: Arc<Shared>,
    relays: Vec<Arc<Relay>>,
    progress: watch::Sender<Progress>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("instances", &self.relays.len()).finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// A dispatcher for `instances`; also those that are not enabled get what they are owed. It does nothing before [`Self::run`].
    pub fn new(
        config: &DispatchConfig,
        instances: &[Arc<Instance>],
        queue: Arc<dyn Queue>,
        client: Client,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        health: Arc<Health>,
    ) -> Self {
        let concurrency = config.concurrency.clamp(1, Semaphore::MAX_PERMITS / 8);
        let retries_at_most = (concurrency - concurrency / 4).max(1);
        let own = if instances.len() > 1 { (concurrency / 2).max(1) } else { concurrency };
        let shared = Arc::new(Shared {
            queue,
            clock,
            metrics,
            health,
            policy: Policy::from(config),
            batch: config.max_events_per_callback.max(1),
            random: SystemRandom::new(),
            attempts: Semaphore::new(concurrency),
            retries: Arc::new(Semaphore::new(retries_at_most)),
            retries_at_most,
            settling: Semaphore::new((4 * concurrency).max(SETTLING)),
            freed: Notify::new(),
            in_flight: AtomicUsize::new(0),
        });
        let relays: Vec<_> = instances
            .iter()
            .map(|instance| {
                let timeout = config.attempt_timeout;
                Arc::new(Relay {
                    shared: shared.clone(),
                    name: instance.name.clone(),
                    attempter: Attempter::new(instance.clone(), config.format, timeout, client.clone()),
                    own: Arc::new(Semaphore::new(own)),
                    own_at_most: own,
                    gate: Mutex::new(Gate::new(shared.queue.paused(&instance.name))),
                    changed: Notify::new(),
                })
            })
            .collect();
        let (progress, _) = watch::channel(look(&shared, &relays));
        Self { shared, relays, progress }
    }

    /// How far it has come, looked at again and again from [`Phase::Leaving`] on; before, it is what was so when this was made.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Delivers until [`Phase::Stopping`]; then cuts off what is in flight, without counting it, and answers when the queue
    /// has been told of all that was claimed.
    pub async fn run(self, shutdown: Shutdown) {
        let tasks = TaskTracker::new();
        for relay in &self.relays {
            relay.show_open();
            tasks.spawn(relay.clone().run(tasks.clone(), shutdown.clone()));
        }
        let mut stopping = shutdown.clone();
        tokio::select! {
            () = stopping.reached(Phase::Stopping) => {}
            () = self.watch(shutdown) => {}
        }
        tasks.close();
        tasks.wait().await;
        self.progress.send_replace(look(&self.shared, &self.relays));
    }

    async fn watch(&self, mut shutdown: Shutdown) {
        shutdown.reached(Phase::Leaving).await;
        loop {
            // Sent also when nothing is different: whoever waits for a change knows that what it reads was seen after it asked.
            self.progress.send_replace(look(&self.shared, &self.relays));
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn look(shared: &Shared, relays: &[Arc<Relay>]) -> Progress {
    // In flight is read first: what is settled between the two readings is then seen as in flight rather than not at all.
    let in_flight = shared.in_flight.load(Ordering::SeqCst);
    let stats = shared.queue.stats();
    let owed_to = |relay: &Relay| {
        stats
            .instances
            .iter()
            .filter(|instance| *instance.name == *relay.name)
            .map(|instance| instance.owed)
            .sum::<u64>()
    };
    let waiting: Vec<&Arc<Relay>> = relays.iter().filter(|relay| owed_to(relay) > 0).collect();
    Progress {
        in_flight,
        owed: waiting.iter().map(|relay| owed_to(relay)).sum(),
        all_paused_by_connect: !waiting.is_empty() && waiting.iter().all(|relay| relay.is_gone()),
    }
}
