//! Listings of buckets: polling, and reconciliation of what push missed (hard case 20).
//!
//! Each range of an instance (a bucket, or a prefix in it) is walked from time to time; one walk at a time, whichever is due first. A
//! walk is a page of the listing against what is remembered of the same keys, page after page (`merge`, `walk`); what is remembered
//! is on disk (`store`), so memory does not grow with the bucket.
//!
//! A walk that fails goes on at the same position later. Nothing but a complete walk says that an object is gone.

use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use crate::aws::Aws;
use crate::clock::Clock;
use crate::config::{Instance, ListingConfig, S3Config};
use crate::health::Health;
use crate::shutdown::{Phase, Shutdown};
use crate::sources::intake::Desk;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::OfInstance;
use schedule::Schedule;
use store::{Range, StoreError};
use walk::{Trouble, Walked, Walker};

mod asked;
mod merge;
mod schedule;
mod store;
mod walk;

pub use store::Snapshots;

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
    /// What is remembered of buckets; the same for all instances.
    pub snapshots: Arc<Snapshots>,
    /// Where what was found goes.
    pub desk: Arc<Desk>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Metrics,
    /// Conditions, named `listing <instance>`.
    pub health: Arc<Health>,
}

/// How often it is looked whether there is something to tidy up.
const TIDY: Duration = Duration::from_secs(600);

/// Forgets what `snapshots` hold for instances other than `listing`, those for which buckets are listed, or would be if they were
/// enabled; from then on takes out what is forgotten and gives space back, in small steps between the walks, until [`Phase::Leaving`].
pub async fn tidy(snapshots: Arc<Snapshots>, listing: Vec<Arc<str>>, mut shutdown: Shutdown) {
    let mut kept = snapshots.keep(listing.clone()).await;
    loop {
        let more = match kept {
            Ok(()) => snapshots.tidy().await,
            Err(error) => Err(error),
        };
        let pause = match &more {
            Ok(true) => Duration::from_millis(1),
            Ok(false) => TIDY,
            Err(error) => {
                tracing::debug!(%error, "the memory of listings is not tidied up for now");
                TIDY
            }
        };
        if !pause_ended(pause, &mut shutdown).await {
            return;
        }
        kept = if more.is_err() { snapshots.keep(listing.clone()).await } else { Ok(()) };
    }
}

/// Walks the buckets until [`Phase::Leaving`]. A walk that is cut off goes on at the next start where it was.
pub async fn run(setup: Setup, mut shutdown: Shutdown) {
    let Setup { instance, config, aws, s3, snapshots, desk, clock, metrics, health } = setup;
    let condition = format!("listing {}", instance.name);
    let walker = Walker { instance, config, snapshots, desk, clock, metrics };
    let mut random = Random(SystemRandom::new());
    let mut failures = 0;
    'anew: loop {
        let mut ranges = match walker.ranges().await {
            Ok(ranges) => ranges,
            Err(error) => {
                health.degraded(&condition, error.to_string());
                failures += 1;
                let pause = schedule::backoff(failures, random.draw());
                if pause_ended(pause, &mut shutdown).await {
                    continue;
                }
                return;
            }
        };
        failures = 0;
        let mut schedule = Schedule::new(
            ranges.len(),
            &walker.config,
            Instant::now() + schedule::first(&walker.config, random.draw()),
        );
        loop {
            let Some((at, due)) = schedule.next() else {
                // No bucket: the configuration does not allow that.
                return shutdown.reached(Phase::Leaving).await;
            };
            if !pause_ended(due.saturating_duration_since(Instant::now()), &mut shutdown).await {
                return;
            }
            let Some(range) = ranges.get_mut(at) else { continue 'anew };
            // A walk that a restart or a failure interrupted began earlier than it goes on.
            let began = range.began.map_or(Duration::ZERO, |began| walker.clock.now().since(began));
            let begun = Instant::now().checked_sub(began).unwrap_or_else(Instant::now);
            let lister = aws.lister(&s3).await;
            let from = range.position.clone();
            match walker.walk(&lister, range, &mut shutdown).await {
                Ok(Walked::CutOff) => return,
                Ok(Walked::Complete { missing }) => {
                    walker.completed();
                    schedule.completed(at, begun, missing);
                }
                Ok(Walked::Emptied) => schedule.emptied(at, Instant::now()),
                Err(trouble) => {
                    walker.failed(&trouble);
                    let got_on = range.position > from;
                    schedule.failed(at, Instant::now(), random.draw(), (trouble.to_string(), got_on));
                    if matches!(trouble, Trouble::Store(StoreError::Damaged | StoreError::Stale)) {
                        health.degraded(&condition, trouble.to_string());
                        continue 'anew;
                    }
                }
            }
            report(&health, &condition, &schedule, &ranges);
            // A walk that takes longer than its interval begins again at once; others are to have their turn in between.
            tokio::task::yield_now().await;
        }
    }
}

impl Walker {
    /// The ranges that are configured, as they are remembered.
    async fn ranges(&self) -> Result<Vec<Range>, StoreError> {
        let whole = [String::new()];
        let prefixes = if self.config.prefixes.is_empty() { &whole[..] } else { &self.config.prefixes };
        let mut wanted: Vec<(String, String)> = Vec::new();
        for bucket in &self.config.buckets {
            for prefix in prefixes {
                let range = (bucket.clone(), prefix.clone());
                if !wanted.contains(&range) {
                    wanted.push(range);
                }
            }
        }
        self.snapshots.ranges(Arc::clone(&self.instance.name), wanted).await
    }

    fn completed(&self) {
        Metrics::count(&self.metrics.listing_walks, &self.instance.name, "complete", 1);
        let labels = OfInstance { instance: self.instance.name.to_string() };
        self.metrics.listing_completed.get_or_create(&labels).set(self.clock.now().0 / 1000);
    }

    fn failed(&self, trouble: &Trouble) {
        Metrics::count(&self.metrics.listing_walks, &self.instance.name, trouble.label(), 1);
        tracing::debug!(instance = &*self.instance.name, %trouble, "a walk does not go on for now");
    }
}

/// One condition for all ranges of an instance; the first trouble is told, with how many there are.
fn report(health: &Health, condition: &str, schedule: &Schedule, ranges: &[Range]) {
    let mut troubles = schedule.troubles();
    match (troubles.next(), troubles.count()) {
        (Some(trouble), 0) => health.degraded(condition, trouble),
        (Some(trouble), more) => health.degraded(condition, format!("{trouble} (and {more} more of {})", ranges.len())),
        (None, _) if ranges.iter().any(|range| !range.baselined) => {
            health.ok(condition, "a first walk is under way; changes are told from its end on");
        }
        (None, _) => health.ok(condition, "walks complete"),
    }
}

/// Waits; `false` when the sidecar leaves meanwhile.
async fn pause_ended(pause: Duration, shutdown: &mut Shutdown) -> bool {
    tokio::select! {
        biased;
        () = shutdown.reached(Phase::Leaving) => false,
        () = tokio::time::sleep(pause) => true,
    }
}

/// For jitter. Without randomness there is none, and no harm.
struct Random(SystemRandom);

impl Random {
    fn draw(&mut self) -> u64 {
        let mut bytes = [0; 8];
        let _ = self.0.fill(&mut bytes);
        u64::from_ne_bytes(bytes)
    }
}
