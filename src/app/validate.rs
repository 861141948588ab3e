//! `validate.instance`: credentials, bucket and topic, checked at start (hard case 4).
//!
//! What is provably wrong keeps the sidecar not ready, with the reason. What cannot be checked keeps it not ready only until it was
//! found right once: a later start must not wait for S3 to be reachable. What is found about subscriptions is only told.

use std::sync::Arc;
use std::time::Duration;

use crate::aws::{Aws, BadAuthorities, Finding};
use crate::config::{Config, Instance, S3Config};
use crate::health::Health;
use crate::queue::Queue;
use crate::shutdown::{Phase, Shutdown};

/// The space of the queue's notes that holds what was found right.
const SPACE: &str = "validated";

/// First and longest wait between checks.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// What is checked, and who is asked.
pub(super) struct Asked {
    pub(super) instance: Arc<Instance>,
    pub(super) aws: Aws,
    pub(super) s3: S3Config,
}

/// The instances that want to be checked.
///
/// # Errors
/// [`BadAuthorities`] when `extra_ca_pem` holds something else than certificates.
pub(super) fn all(config: &Config, extra_ca_pem: &[Vec<u8>]) -> Result<Vec<(Arc<Instance>, Aws)>, BadAuthorities> {
    let endpoint = config.sns.endpoint.as_ref().map(|endpoint| &endpoint.url);
    config
        .instances
        .iter()
        .filter(|instance| instance.validate && instance.enabled)
        .map(|instance| Ok((Arc::clone(instance), Aws::new(instance, endpoint, extra_ca_pem)?)))
        .collect()
}

/// Checks an instance until it is found right.
pub(super) async fn run(asked: Asked, queue: Arc<dyn Queue>, health: Arc<Health>, mut shutdown: Shutdown) {
    let instance = &asked.instance;
    let name = format!("instance {}", instance.name);
    let fingerprint = fingerprint(instance);
    let known = queue
        .notes(SPACE)
        .await
        .unwrap_or_default()
        .iter()
        .any(|(key, value)| **key == *instance.name && *value == fingerprint);
    if !known {
        health.blocked(&name, "validate.instance: not checked yet");
    }
    let mut wait = WAIT.0;
    loop {
        match check(&asked).await {
            Finding::Right(found) => {
                health.ok(&name, found);
                if !known && let Err(error) = queue.put_note(SPACE, &instance.name, fingerprint).await {
                    tracing::debug!(%error, "what was found right could not be written down; it is checked again at the next start");
                }
                return;
            }
            Finding::Wrong(what) => health.blocked(&name, format!("validate.instance: {what}")),
            Finding::Unknown(what) if known => health.degraded(&name, format!("validate.instance: {what}")),
            Finding::Unknown(what) => health.blocked(&name, format!("validate.instance: {what}")),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
            () = shutdown.reached(Phase::Leaving) => return,
        }
    }
}

async fn check(Asked { instance, aws, s3 }: &Asked) -> Finding {
    if !aws.has_credentials().await {
        return Finding::Wrong(
            "there are no AWS credentials: set filemanagement.provider.access_key and .secret_key, give the pod a role, or set validate.instance to false"
                .to_owned(),
        );
    }
    let mut found = Vec::new();
    if let Some(bucket) = &instance.bucket {
        match aws.check_bucket(bucket, s3).await {
            Finding::Right(what) => found.push(what),
            other => return other,
        }
    }
    for topic in &instance.topics {
        match aws.check_topic(topic).await {
            Finding::Right(what) => found.push(what),
            other => return other,
        }
    }
    Finding::Right(found.join("; "))
}

/// What the checks depend on, without a secret: a changed bucket or key id is checked anew.
fn fingerprint(instance: &Instance) -> String {
    format!(
        "{} {} {} {}",
        instance.bucket.as_deref().unwrap_or_default(),
        instance.region.as_deref().unwrap_or_default(),
        instance.credentials.as_ref().map_or("", |c| c.access_key.as_str()),
        instance.topics.join(",")
    )
}
