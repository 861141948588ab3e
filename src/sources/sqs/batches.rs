//! Calls about single messages, gathered into batches of ten.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::aws::sqs::{BATCH, Change, SqsError, SqsProblem, SqsQueue};

/// How long the first of a batch waits for others: a call costs money, and nobody waits for a deletion.
const LINGER: Duration = Duration::from_millis(20);

/// What is done to each message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Delete,
    Return,
}

#[derive(Debug)]
struct Job {
    receipt: Arc<str>,
    visible_in: i32,
    done: oneshot::Sender<Result<(), SqsError>>,
}

/// Where single calls are handed in.
#[derive(Clone, Debug)]
pub(super) struct Batches(mpsc::Sender<Job>);

/// What carries them out.
#[derive(Debug)]
pub(super) struct Batcher {
    jobs: mpsc::Receiver<Job>,
    call: Call,
    /// Calls in flight at most.
    permits: Arc<Semaphore>,
}

/// Batches of `call`, at most `in_flight` at a time.
pub(super) fn batches(call: Call, in_flight: usize) -> (Batches, Batcher) {
    let (sender, jobs) = mpsc::channel(BATCH * 4);
    (Batches(sender), Batcher { jobs, call, permits: Arc::new(Semaphore::new(in_flight)) })
}

impl Batches {
    /// Does it to one message and tells how that went. Nothing is repeated.
    pub(super) async fn call(&self, receipt: &Arc<str>, visible_in: i32) -> Result<(), SqsError> {
        let ended =
            || SqsError { call: "SQS", problem: SqsProblem::Unreachable, text: "draining has ended".to_owned() };
        let (done, result) = oneshot::channel();
        let job = Job { receipt: Arc::clone(receipt), visible_in, done };
        self.0.send(job).await.map_err(|_| ended())?;
        result.await.unwrap_or_else(|_| Err(ended()))
    }
}

impl Batcher {
    /// Carries calls out until nobody can hand in more, or it is dropped.
    pub(super) async fn run(mut self, queue: Arc<SqsQueue>) {
        let mut calls = tokio::task::JoinSet::new();
        while let Some(first) = self.jobs.recv().await {
            let mut batch = vec![first];
            let limit = Instant::now() + LINGER;
            while batch.len() < BATCH {
                let Ok(Some(job)) = timeout_at(limit, self.jobs.recv()).await else { break };
                batch.push(job);
            }
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { break };
            while calls.try_join_next().is_some() {}
            let (queue, call) = (Arc::clone(&queue), self.call);
            calls.spawn(async move {
                carry_out(&queue, call, batch).await;
                drop(permit);
            });
        }
        while calls.join_next().await.is_some() {}
    }
}

async fn carry_out(queue: &SqsQueue, call: Call, batch: Vec<Job>) {
    let changes: Vec<_> =
        batch.iter().map(|job| Change { receipt: &job.receipt, visible_in: job.visible_in }).collect();
    let results = match call {
        Call::Delete => queue.delete(&changes).await,
        Call::Return => queue.change_visibility(&changes).await,
    };
    let results = results.unwrap_or_else(|error| vec![Err(error); batch.len()]);
    for (job, result) in batch.into_iter().zip(results) {
        // Whoever asked may have stopped waiting.
        let _ = job.done.send(result);
    }
}
