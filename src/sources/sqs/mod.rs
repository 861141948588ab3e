//! Amazon SQS: S3 -> SQS, S3 -> SNS -> SQS, EventBridge -> SQS, and the dead-letter queue of an SNS subscription.

use std::sync::Arc;

use url::Url;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::{Instance, SqsConfig};
use crate::health::Health;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::sources::sns::verifier::Verifier;
use crate::telemetry::Metrics;

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

/// Drains the queues until [`Phase::Draining`], then finishes what it holds.
pub async fn run(setup: Setup, mut shutdown: Shutdown) {
    let _ = setup;
    shutdown.reached(Phase::Draining).await;
}
