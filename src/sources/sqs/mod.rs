//! Amazon SQS: S3 -> SQS, S3 -> SNS -> SQS, EventBridge -> SQS, and the dead-letter queue of an SNS subscription.
//!
//! A message is deleted only after all that it says is durable here, so that a kill at any moment loses nothing; what was stored and
//! not yet deleted comes again and is a duplicate by the ids of its events. What can never be taken is set aside among the dead
//! letters, with the reason, before it is deleted: nothing loops, and nothing vanishes. Nothing here assumes to be alone: any
//! number of replicas may drain the same queue.

mod batches;
mod drain;
mod held;
mod judge;
mod pace;
mod recognise;
mod report;
mod room;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use url::Url;

use self::batches::{Batcher, Call, batches};
use self::drain::Drain;
use self::held::Held;
use self::judge::Judge;
use self::report::Report;
use self::room::{Crew, Room};
use self::waiting::Waiting;
use crate::aws::Aws;
use crate::aws::sqs::QueuePlace;
use crate::clock::Clock;
use crate::config::{Instance, SqsConfig};
use crate::health::Health;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::sources::sns::verifier::Verifier;
use crate::telemetry::Metrics;

/// What is left of the time to stop: a deletion that is on its way may end.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Until SQS has noticed that its long polls are no longer waited for: it would hand them what goes back.
const HANG_UP: Duration = Duration::from_millis(300);

/// What draining one instance's queues needs.
pub struct Setup {
    /// Whose queues they are; enabled.
    pub instance: Arc<Instance>,
    /// The queues.
    pub config: SqsConfig,
    /// The operator's AWS.
    pub aws: Arc<Aws>,
    /// Proves SNS envelopes.
    pub verifier: Arc<Verifier>,
    /// `POSTERN_SNS_ENDPOINT_URL`: then records have no sequencer to rely on (hard case 1).
    pub sns_endpoint: Option<Url>,
    /// Where what was taken goes.
    pub desk: Arc<Desk>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Metrics,
    /// Conditions, named `sqs <instance>`.
    pub health: Arc<Health>,
}

/// Drains the queues until [`Phase::Draining`], then finishes what it holds: what is durable is deleted, what the store does not
/// take goes back at once. It ends when nothing is held any more, and soon after [`Phase::Stopping`] at the latest.
pub async fn run(setup: Setup, mut shutdown: Shutdown) {
    let report = Arc::new(Report::new(&setup.instance.name, Arc::clone(&setup.health), setup.metrics.clone()));
    let tasks = TaskTracker::new();
    let closed = watch::Sender::new(false);
    let (mut consumers, mut helpers) = (JoinSet::new(), JoinSet::new());
    for url in &setup.config.queues {
        let (drain, batchers) = open(&setup, url, &report, &tasks, &closed).await;
        for batcher in batchers {
            helpers.spawn(batcher.run(Arc::clone(&drain.queue)));
        }
        let heart = Arc::clone(&drain);
        helpers.spawn(async move { heart.held.beat(&heart.queue, &heart.name, &heart.report).await });
        let (consuming, mut shutdown) = (setup.config.consumers, shutdown.clone());
        consumers.spawn(async move {
            // Asked first, so that the first messages are already hidden for the queue's own time.
            tokio::select! {
                () = shutdown.reached(Phase::Draining) => return,
                () = drain.held.look_up(&drain.queue, &drain.name) => {}
            }
            let mut all = JoinSet::new();
            for index in 0..consuming {
                all.spawn(Arc::clone(&drain).consume(index == 0, shutdown.clone()));
            }
            tokio::select! {
                () = async { while all.join_next().await.is_some() {} } => {}
                () = drain.held.look_up_again(&drain.queue, &drain.name) => {}
            }
        });
    }
    tracing::info!(
        instance = &*setup.instance.name,
        queues = setup.config.queues.len(),
        consumers = setup.config.consumers,
        verify = setup.config.verify,
        "draining SQS"
    );
    while consumers.join_next().await.is_some() {}
    tokio::time::sleep(HANG_UP).await;
    closed.send_replace(true);
    tasks.close();
    let held = tasks.len();
    tokio::select! {
        () = tasks.wait() => tracing::debug!(held, "nothing of SQS is held any more"),
        () = async {
            shutdown.reached(Phase::Stopping).await;
            tokio::time::sleep(LAST_CALLS).await;
        } => tracing::warn!(held = tasks.len(), "messages of SQS are left to come again: there was no time to delete or return them"),
    }
}

/// One queue, and what carries out its calls.
async fn open(
    setup: &Setup,
    url: &Url,
    report: &Arc<Report>,
    tasks: &TaskTracker,
    closed: &watch::Sender<bool>,
) -> (Arc<Drain>, [Batcher; 2]) {
    let place = QueuePlace::of(url);
    let consumers = setup.config.consumers.max(1);
    let (deletes, deleting) = batches(Call::Delete, 2 * consumers);
    let (returns, returning) = batches(Call::Return, consumers);
    let drain = Drain {
        queue: Arc::new(setup.aws.sqs_queue(url).await),
        name: place.name,
        is_fifo: place.is_fifo,
        judge: Judge::new(setup, url),
        held: Arc::new(Held::default()),
        deletes,
        returns,
        report: Arc::clone(report),
        tasks: tasks.clone(),
        room: Room::for_consumers(consumers),
        store_takes: watch::Sender::new(true),
        closed: closed.clone(),
        unproven: Waiting::default(),
        too_large: Waiting::default(),
        waiting: AtomicUsize::new(0),
        crew: Crew::default(),
        undeleted: AtomicU32::new(0),
    };
    (Arc::new(drain), [deleting, returning])
}
