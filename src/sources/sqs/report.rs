//! What goes wrong while queues are drained: counted, and told as the one condition `sqs <instance>`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::aws::sqs::{SqsError, SqsProblem};
use crate::health::Health;
use crate::telemetry::Metrics;

/// Failures in a row before trouble that passes by itself is told: one 503 is no news.
const NEWS: u32 = 3;

/// What a trouble is about. Each is told, and over, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Aspect {
    Delete,
    Heartbeat,
    Proof,
    Receive,
    Size,
    Store,
}

/// By queue and aspect: the word for it, and the text. The text of the first of a kind stays: numbers in it would make each of them
/// news.
type Troubles = BTreeMap<(String, Aspect), (&'static str, String)>;

/// The troubles of all queues of one instance.
#[derive(Debug)]
pub(super) struct Report {
    instance: Arc<str>,
    condition: String,
    health: Arc<Health>,
    metrics: Metrics,
    troubles: Mutex<Troubles>,
    /// Whether there is any: what every message asks must not cost a lock.
    any: AtomicBool,
}

impl Report {
    pub(super) fn new(instance: &Arc<str>, health: Arc<Health>, metrics: Metrics) -> Self {
        let condition = format!("sqs {instance}");
        health.ok(&condition, "draining");
        Self {
            instance: Arc::clone(instance),
            condition,
            health,
            metrics,
            troubles: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    /// Counts a message by what became of it.
    pub(super) fn message(&self, outcome: &'static str) {
        Metrics::count(&self.metrics.sqs_messages, &self.instance, outcome, 1);
    }

    /// Counts a failed call, and tells it when it is the `failures`th in a row and news.
    pub(super) fn failed(&self, queue: &str, aspect: Aspect, error: &SqsError, failures: u32) {
        Metrics::count(&self.metrics.sqs_failures, &self.instance, error.problem.as_str(), 1);
        tracing::debug!(instance = &*self.instance, queue, %error, "a call of SQS failed");
        if error.problem.needs_a_person() || failures >= NEWS {
            self.trouble(queue, aspect, error.problem.as_str(), &format!("{error}; {}", advice(error)));
        }
    }

    /// Tells a trouble of the kind `word`.
    pub(super) fn trouble(&self, queue: &str, aspect: Aspect, word: &'static str, text: &str) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (queue.to_owned(), aspect);
        if troubles.get(&place).is_some_and(|(known, _)| *known == word) {
            return;
        }
        troubles.insert(place, (word, text.to_owned()));
        self.any.store(true, Ordering::SeqCst);
        self.publish(&troubles);
    }

    /// Tells that a trouble is over, if there was one.
    pub(super) fn well(&self, queue: &str, aspect: Aspect) {
        if !self.any.load(Ordering::SeqCst) {
            return;
        }
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if troubles.remove(&(queue.to_owned(), aspect)).is_some() {
            self.any.store(!troubles.is_empty(), Ordering::SeqCst);
            self.publish(&troubles);
        }
    }

    fn publish(&self, troubles: &Troubles) {
        if troubles.is_empty() {
            return self.health.ok(&self.condition, "draining");
        }
        let mut reason = String::new();
        for ((queue, _), (_, text)) in troubles {
            // Writing to a String cannot fail.
            let _ = write!(reason, "{}{queue}: {text}", if reason.is_empty() { "" } else { "; " });
        }
        self.health.degraded(&self.condition, reason);
    }
}

/// What to do about it.
fn advice(error: &SqsError) -> String {
    match error.problem {
        SqsProblem::Credentials => {
            "give the pod a role (IRSA, pod identity) or set filemanagement.provider.access_key \
             and .secret_key"
                .to_owned()
        }
        SqsProblem::Denied => format!(
            "allow sqs:{} on this queue; draining needs sqs:ReceiveMessage, sqs:DeleteMessage, \
             sqs:ChangeMessageVisibility and sqs:GetQueueAttributes, and kms:Decrypt where the queue has a key",
            error.call
        ),
        SqsProblem::Missing => "check account, name and region in POSTERN_SQS_QUEUE_URL".to_owned(),
        SqsProblem::Rejected => "check POSTERN_SQS_QUEUE_URL; what SQS says tells what it does not take".to_owned(),
        SqsProblem::Unreachable | SqsProblem::Timeout => {
            "check the network policy, HTTPS_PROXY and NO_PROXY; it is tried again by itself".to_owned()
        }
        SqsProblem::Gone | SqsProblem::Server | SqsProblem::Throttled => "it is tried again by itself".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn error(problem: SqsProblem) -> SqsError {
        SqsError { call: "ReceiveMessage", problem, text: "403 AccessDenied: no".to_owned() }
    }

    #[test]
    fn what_a_person_has_to_mend_is_told_at_once_and_what_passes_only_when_it_lasts() {
        let health = Arc::new(Health::default());
        let report = Report::new(&"a".into(), Arc::clone(&health), Metrics::register(&mut Registry::default()));
        let condition = || health.snapshot()["sqs a"].clone();
        for failures in 1..NEWS {
            report.failed("q", Aspect::Receive, &error(SqsProblem::Throttled), failures);
            assert!(condition().ok);
        }
        report.failed("q", Aspect::Receive, &error(SqsProblem::Throttled), NEWS);
        assert!(!condition().ok && !condition().blocks, "degraded, and never in the way of readiness");
        report.failed("p", Aspect::Delete, &error(SqsProblem::Denied), 1);
        assert!(condition().reason.contains("allow sqs:ReceiveMessage"), "{:?}", condition());
        report.well("q", Aspect::Receive);
        assert!(!condition().ok && condition().reason.starts_with("p: "), "{:?}", condition());
        report.well("p", Aspect::Delete);
        assert!(condition().ok);
    }
}
