//! The sources that fetch instead of listening: queues and listings, each instance's with its own credentials.

use std::sync::Arc;

use crate::aws::{Aws, BadAuthorities};
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Health;
use crate::shutdown::Shutdown;
use crate::sources::intake::Desk;
use crate::sources::sns::verifier::Verifier;
use crate::sources::{listing, sqs};
use crate::telemetry::Metrics;

/// What all of them share.
pub(super) struct Shared {
    pub(super) verifier: Arc<Verifier>,
    pub(super) desk: Arc<Desk>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) health: Arc<Health>,
}

/// One of them.
pub(super) enum Fetching {
    Listing(listing::Setup),
    Sqs(sqs::Setup),
    /// Forgetting what is listed no more.
    Tidy(Arc<listing::Snapshots>, Vec<Arc<str>>),
}

impl Fetching {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Listing(_) | Self::Tidy(..) => "listing",
            Self::Sqs(_) => "sqs",
        }
    }

    pub(super) async fn run(self, shutdown: Shutdown) {
        match self {
            Self::Listing(setup) => listing::run(setup, shutdown).await,
            Self::Sqs(setup) => sqs::run(setup, shutdown).await,
            Self::Tidy(snapshots, listing) => listing::tidy(snapshots, listing, shutdown).await,
        }
    }
}

/// Those of all enabled instances.
///
/// # Errors
/// [`BadAuthorities`] when `extra_ca_pem` holds something else than certificates.
pub(super) fn all(config: &Config, extra_ca_pem: &[Vec<u8>], shared: &Shared) -> Result<Vec<Fetching>, BadAuthorities> {
    let endpoint = config.sns.endpoint.as_ref().map(|endpoint| &endpoint.url);
    let snapshots = Arc::new(listing::Snapshots::new(&config.data_dir));
    let listing = config.instances.iter().filter(|instance| instance.listing.is_some());
    let listing = listing.map(|instance| Arc::clone(&instance.name)).collect();
    let mut all = vec![Fetching::Tidy(Arc::clone(&snapshots), listing)];
    for instance in config.instances.iter().filter(|instance| instance.enabled) {
        if instance.sqs.is_none() && instance.listing.is_none() {
            continue;
        }
        let aws = Arc::new(Aws::new(instance, endpoint, extra_ca_pem)?);
        if let Some(sqs) = &instance.sqs {
            all.push(Fetching::Sqs(sqs::Setup {
                instance: Arc::clone(instance),
                config: sqs.clone(),
                aws: Arc::clone(&aws),
                verifier: Arc::clone(&shared.verifier),
                sns_endpoint: endpoint.cloned(),
                desk: Arc::clone(&shared.desk),
                clock: Arc::clone(&shared.clock),
                metrics: shared.metrics.clone(),
                health: Arc::clone(&shared.health),
            }));
        }
        if let Some(listing) = &instance.listing {
            all.push(Fetching::Listing(listing::Setup {
                instance: Arc::clone(instance),
                config: listing.clone(),
                aws,
                s3: config.s3.clone(),
                snapshots: Arc::clone(&snapshots),
                desk: Arc::clone(&shared.desk),
                clock: Arc::clone(&shared.clock),
                metrics: shared.metrics.clone(),
                health: Arc::clone(&shared.health),
            }));
        }
    }
    Ok(all)
}
