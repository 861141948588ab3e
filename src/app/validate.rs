//! `validate.instance`: credentials, bucket and topic, checked at start (hard case 4).
//!
//! What is provably wrong keeps the sidecar not ready, with the reason. What cannot be checked keeps it not ready only until it was
//! found right once: a later start must not wait for S3 to be reachable. What is found on the way from the bucket to us (region,
//! notification, access policy, subscription and how it delivers) is only told, under a condition of its own: the confirmation
//! arrives through the very door that readiness opens.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::aws::{Aws, BadAuthorities, Finding, Pushed};
use crate::config::{Config, Instance, S3Config};
use crate::health::{Checked, Health, Status};
use crate::queue::Queue;
use crate::shutdown::{Phase, Shutdown};

/// The space of the queue's notes that holds what was found right.
const SPACE: &str = "validated";

/// First and longest wait between checks.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(5));

/// First and longest wait between looks at the way from the bucket to us. A subscription is confirmed within seconds; what else is
/// not as it should be waits for a person.
const LOOK: (Duration, Duration) = (Duration::from_secs(15), Duration::from_hours(1));

/// What is checked, and who is asked.
pub(super) struct Asked {
    pub(super) instance: Arc<Instance>,
    pub(super) aws: Aws,
    pub(super) s3: S3Config,
    /// Where its topics are subscribed, if that is known.
    pub(super) url: Option<Url>,
    /// Whom SNS must name itself as.
    pub(super) user: Option<String>,
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

/// A check that is to be run.
pub(super) struct Check {
    asked: Asked,
    queue: Arc<dyn Queue>,
    health: Arc<Health>,
    fingerprint: String,
    known: bool,
}

/// Says that an instance which was never found right is not ready. To be done before anybody can ask whether it is.
pub(super) async fn begin(asked: Asked, queue: Arc<dyn Queue>, health: Arc<Health>) -> Check {
    let fingerprint = fingerprint(&asked.instance);
    let notes = queue.notes(SPACE).await.unwrap_or_default();
    let known = notes.iter().any(|(key, value)| **key == *asked.instance.name && *value == fingerprint);
    if !known {
        health.blocked(&condition(&asked.instance), "validate.instance: not checked yet");
    }
    Check { asked, queue, health, fingerprint, known }
}

fn condition(instance: &Instance) -> String {
    format!("instance {}", instance.name)
}

/// Checks an instance until it is found right.
pub(super) async fn run(check_of: Check, mut shutdown: Shutdown) {
    let Check { asked, queue, health, fingerprint, known } = check_of;
    let instance = &asked.instance;
    let name = condition(instance);
    let mut wait = WAIT.0;
    loop {
        match check(&asked).await {
            Finding::Right(found) | Finding::Unseen(found) => {
                health.ok(&name, found);
                if !known && let Err(error) = queue.put_note(SPACE, &instance.name, fingerprint).await {
                    tracing::debug!(%error, "what was found right could not be written down; it is checked again at the next start");
                }
                break;
            }
            Finding::Wrong(what) => health.blocked(&name, format!("validate.instance: {what}")),
            Finding::Unknown(what) | Finding::Strange(what) if known => {
                health.degraded(&name, format!("validate.instance: {what}"))
            }
            Finding::Unknown(what) | Finding::Strange(what) => {
                health.blocked(&name, format!("validate.instance: {what}"))
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAIT.1),
            () = shutdown.reached(Phase::Leaving) => return,
        }
    }
    watch(&asked, &health, shutdown).await;
}

/// Tells what is found on the way from the bucket to us, until all of it is well.
async fn watch(asked: &Asked, health: &Health, mut shutdown: Shutdown) {
    let Asked { instance, aws, s3, url, user } = asked;
    if instance.topics.is_empty() && instance.sqs.is_none() {
        return;
    }
    let name = format!("instance {}: source", instance.name);
    let mut wait = LOOK.0;
    loop {
        let mut all = aws.check_push(Pushed { instance, s3, url: url.as_ref(), user: user.as_deref() }).await;
        if let Some(sqs) = &instance.sqs {
            let dead_letters = aws.dead_letter_targets(&instance.topics, url.as_ref()).await;
            for queue in &sqs.queues {
                all.extend(aws.check_queue(queue, &dead_letters).await);
            }
        }
        let Some(reason) = complaint(&all) else {
            health.ok(&name, "what is announced reaches this sidecar");
            return;
        };
        health.degraded(&name, reason);
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LOOK.1),
            () = shutdown.reached(Phase::Leaving) => return,
        }
    }
}

/// What is not as it should be, the worse first; `None` when all is.
fn complaint(all: &[Checked]) -> Option<String> {
    let of = |status: Status| all.iter().filter(move |one| one.status == status);
    let words: Vec<String> = of(Status::Fail)
        .chain(of(Status::Warn))
        .map(|one| format!("{}: {}; {}", one.name, one.found, one.advice))
        .collect();
    (!words.is_empty()).then(|| format!("validate.instance: {}", words.join(". ")))
}

async fn check(Asked { instance, aws, s3, .. }: &Asked) -> Finding {
    // Amazon would say of an MCS bucket that it does not exist, or worse, that somebody else has it.
    if instance.element_key == "mcss3" && s3.endpoint.is_none() {
        return Finding::Wrong(
            "the instance is of MCS S3 and POSTERN_S3_ENDPOINT_URL does not say where that is: set it, such as https://hb.ru-msk.vkcloud-storage.ru"
                .to_owned(),
        );
    }
    if !aws.has_credentials().await {
        return Finding::Wrong(
            "there are no AWS credentials: set filemanagement.provider.access_key and .secret_key, give the pod a role, or set validate.instance to false"
                .to_owned(),
        );
    }
    let bucket = async {
        match &instance.bucket {
            Some(bucket) => Some(aws.check_bucket(bucket, s3).await),
            None => None,
        }
    };
    let topics = async {
        let mut all = Vec::new();
        for topic in &instance.topics {
            all.push(aws.check_topic(topic).await);
        }
        all
    };
    let (bucket, topics) = tokio::join!(bucket, topics);
    whole(bucket.into_iter().chain(topics))
}

/// All that was found as one: what is wrong counts most, then what could not be checked, and all that is not right is told at once.
fn whole(all: impl Iterator<Item = Finding>) -> Finding {
    let (mut right, mut wrong, mut open) = (Vec::new(), Vec::new(), Vec::new());
    let mut strange = false;
    for finding in all {
        match finding {
            Finding::Right(what) | Finding::Unseen(what) => right.push(what),
            Finding::Wrong(what) => wrong.push(what),
            Finding::Unknown(what) => open.push(what),
            Finding::Strange(what) => {
                strange = true;
                open.push(what);
            }
        }
    }
    // Credentials that are refused are refused everywhere, in the same words.
    wrong.dedup();
    match (wrong.is_empty(), open.is_empty()) {
        (true, true) => Finding::Right(right.join("; ")),
        (false, _) => Finding::Wrong(wrong.into_iter().chain(open).collect::<Vec<_>>().join("; ")),
        (true, false) if strange => Finding::Strange(open.join("; ")),
        (true, false) => Finding::Unknown(open.join("; ")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Once only the bucket was named, and the topic's mistake came to light after it was corrected and the pod started again.
    #[test]
    fn all_that_is_wrong_is_told_at_once_and_outweighs_what_is_only_unknown() {
        let wrong = |what: &str| Finding::Wrong(what.to_owned());
        let unknown = Finding::Unknown("topic t cannot be asked about".to_owned());
        assert_eq!(whole([wrong("no bucket"), wrong("no topic")].into_iter()), wrong("no bucket; no topic"));
        assert_eq!(whole([wrong("refused"), wrong("refused")].into_iter()), wrong("refused"));
        let both = whole([unknown.clone(), wrong("no bucket")].into_iter());
        assert_eq!(both, wrong("no bucket; topic t cannot be asked about"));
        assert_eq!(whole([Finding::Right("well".to_owned()), unknown.clone()].into_iter()), unknown);
        assert_eq!(whole(std::iter::empty()), Finding::Right(String::new()));
    }

    #[test]
    fn failures_are_told_before_warnings_and_nothing_is_told_of_what_is_well() {
        assert_eq!(
            complaint(&[Checked::ok("topic_policy", "well"), Checked::skip("bucket_region", "not Amazon's")]),
            None
        );
        let all = [
            Checked::warn("delivery_policy", "short", "stretch it"),
            Checked::ok("topic_policy", "well"),
            Checked::fail("raw_delivery", "on", "turn it off"),
        ];
        let said = complaint(&all).expect("a complaint");
        assert_eq!(said, "validate.instance: raw_delivery: on; turn it off. delivery_policy: short; stretch it");
    }
}
