//! Amazon: topic, access policy, dead-letter queue, subscription, bucket notification, confirmation; in this order, because S3
//! tries the topic while it takes the notification.

use std::time::Duration;

use tokio::time::Instant;

use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{Found, Pending, Place, find, pretty, subscribe};
use crate::aws::Aws;
use crate::aws::setup::policy::{self, Merged};
use crate::aws::setup::wanted::{self, Store};
use crate::aws::setup::{Amazon, Attributes, DeadLetterQueue, Trouble, Wanted};
use crate::config::{SetupInstance, topic_region};

/// The steps, for what remains after a failure.
const STEPS: [&str; 6] =
    ["topic", "access policy", "dead-letter queue", "subscription", "bucket notification", "confirmation"];

const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a confirmation is waited for from a sidecar that this machine cannot reach.
const UNSEEN_WAIT: Duration = Duration::from_secs(5);

/// What all steps need.
pub(super) struct Site {
    pub(super) amazon: Amazon,
    pub(super) buckets: Vec<String>,
    /// What is ours in the buckets' notifications.
    pub(super) id: String,
}

/// A failed step of this list, with what comes after it.
pub(super) fn failed(step: &'static str, what: impl ToString) -> Failed {
    let after = STEPS.iter().position(|one| *one == step).map_or(STEPS.len(), |at| at + 1);
    Failed { step, what: what.to_string(), remains: STEPS[after..].to_vec() }
}

/// Settings that all steps depend on, and the clients.
pub(super) async fn site(context: &Context<'_>, instance: &SetupInstance) -> Result<Site, Failed> {
    let config = context.config;
    if instance.topics.len() > 1 {
        return Err(failed(
            "topic",
            "event.sns.topic.arn names several topics, and it is not said which bucket publishes to which; name one, or one instance for each",
        ));
    }
    if instance.buckets.is_empty() {
        return Err(failed("topic", "no bucket is named: set filemanagement.provider.bucket_name"));
    }
    if config.sns_endpoint.is_some() != config.s3.endpoint.is_some() {
        return Err(failed(
            "topic",
            "POSTERN_SNS_ENDPOINT_URL and POSTERN_S3_ENDPOINT_URL belong together: the one would be set up at Amazon and the other elsewhere; set both or none",
        ));
    }
    let region = instance.topics.first().and_then(|arn| topic_region(arn)).or(instance.region.as_deref());
    let Some(region) = region else {
        return Err(failed("topic", "no region is named: set filemanagement.provider.region_name"));
    };
    let endpoint = config.sns_endpoint.as_ref();
    let aws = Aws::for_setup(instance.credentials.clone(), region, endpoint, context.extra_ca_pem);
    let aws = aws.map_err(|error| failed("topic", error))?;
    if aws.keys().await.is_none() {
        return Err(failed(
            "topic",
            "there are no AWS credentials: set filemanagement.provider.access_key and .secret_key, or give this shell a profile",
        ));
    }
    Ok(Site {
        amazon: aws.amazon(&config.s3).await,
        buckets: instance.buckets.clone(),
        id: wanted::our_id(&instance.name),
    })
}

/// Does all steps.
pub(super) async fn set_up(
    context: &Context<'_>,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let public = context.config.public_url.as_ref();
    let public = public
        .ok_or_else(|| failed("topic", "POSTERN_PUBLIC_URL is not set: SNS must be told where the sidecar is"))?;
    let endpoint =
        door::sns_endpoint(public, context.config.sns_basic.as_ref()).map_err(|what| failed("topic", what))?;
    let site = site(context, instance).await?;
    let (topic, attributes) = topic(context, &site, instance, report).await?;
    let account = context.args.account.clone().unwrap_or_else(|| policy::account(&topic).to_owned());
    access_policy(context, &site, &topic, &account, attributes.get("Policy"), report).await?;
    let subscription =
        if attributes.is_empty() { Found::None } else { find(&site.amazon, &topic, &endpoint, report).await? };
    let queue = dead_letters(context, &site, &topic, &subscription, report).await?;
    let pending = subscribe(
        context,
        &site.amazon,
        Place { topic: &topic, endpoint: &endpoint, public },
        subscription,
        queue.as_deref(),
        report,
    )
    .await?;
    for bucket in &site.buckets {
        let wanted = Wanted {
            id: site.id.clone(),
            topic: topic.clone(),
            events: wanted::events(&instance.objects, Store::Amazon),
            keys: wanted::keys(&instance.objects),
        };
        announce(context, &site, bucket, &account, &wanted, report).await?;
    }
    confirmed(context, &site, pending, report).await
}

async fn topic(
    context: &Context<'_>,
    site: &Site,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(String, Attributes), Failed> {
    const STEP: &str = STEPS[0];
    let no = |trouble: Trouble| failed(STEP, trouble);
    let name =
        instance.topic_name.as_deref().or_else(|| instance.topics.first().and_then(|arn| arn.rsplit(':').next()));
    let name = name.unwrap_or_default();
    let found = match instance.topics.first() {
        Some(arn) => Some(arn.clone()),
        None => site.amazon.find_topic(name).await.map_err(no)?,
    };
    if let Some(arn) = &found
        && let Some(attributes) = site.amazon.topic(arn).await.map_err(no)?
    {
        if attributes.get("FifoTopic").is_some_and(|fifo| fifo == "true") {
            return Err(failed(
                STEP,
                format!("{arn} is a FIFO topic, to which S3 cannot publish; make a standard one"),
            ));
        }
        report.step(Verdict::Ok, STEP, arn);
        if attributes.contains_key("KmsMasterKeyId") {
            report.step(
                Verdict::Note,
                STEP,
                "it is encrypted: the key's policy must let s3.amazonaws.com use kms:GenerateDataKey and kms:Decrypt",
            );
        }
        return Ok((arn.clone(), attributes));
    }
    if context.args.dry_run {
        let account = context.args.account.as_deref().unwrap_or("ACCOUNT");
        let region = instance.region.as_deref().unwrap_or("REGION");
        let arn = found.unwrap_or_else(|| format!("arn:aws:sns:{region}:{account}:{name}"));
        report.step(Verdict::Create, STEP, &arn);
        return Ok((arn, Attributes::new()));
    }
    let made = site.amazon.create_topic(name).await.map_err(no)?;
    if found.is_some_and(|wanted| wanted != made) {
        report.step(Verdict::Create, STEP, &made);
        return Err(failed(
            STEP,
            format!(
                "the topic was not there, and these credentials make it as {made}, which is not event.sns.topic.arn: use those of the topic's account, or delete it again and correct the ARN"
            ),
        ));
    }
    report.step(Verdict::Create, STEP, &made);
    let attributes = site.amazon.topic(&made).await.map_err(no)?.unwrap_or_default();
    Ok((made, attributes))
}

async fn access_policy(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    account: &str,
    existing: Option<&String>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[1];
    let mut merged = Merged { text: existing.cloned().unwrap_or_default(), changed: false };
    for bucket in &site.buckets {
        let ours = policy::publish_statement(topic, bucket, account);
        let next = policy::merge(Some(&merged.text), &ours)
            .map_err(|what| failed(STEP, format!("the topic's policy is not understood and is left alone: {what}")))?;
        merged = Merged { changed: merged.changed || next.changed, ..next };
    }
    let buckets = site.buckets.join(", ");
    if !merged.changed {
        report.step(Verdict::Ok, STEP, &format!("S3 may publish for {buckets} of account {account}"));
        return Ok(());
    }
    report.exact("sns:SetTopicAttributes Policy", &pretty(&merged.text));
    if !context.args.dry_run {
        site.amazon.set_topic_policy(topic, &merged.text).await.map_err(|trouble| failed(STEP, trouble))?;
    }
    report.step(
        Verdict::Change,
        STEP,
        &format!("lets S3 publish for {buckets} of account {account}, and nobody else's buckets"),
    );
    Ok(())
}

/// The name of the queue that is ours.
pub(super) fn queue_name(topic: &str) -> String {
    let name = topic.rsplit(':').next().unwrap_or_default();
    // SQS allows 80 characters; topics have up to 256 of the same kind.
    let cut: String = name.chars().take(80 - "-postern-dlq".len()).collect();
    format!("{cut}-postern-dlq")
}

/// The ARN of the queue behind the subscription; `None` where none is wanted.
async fn dead_letters(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    subscription: &Found,
    report: &mut Report<'_>,
) -> Result<Option<String>, Failed> {
    const STEP: &str = STEPS[2];
    let no = |trouble: Trouble| failed(STEP, trouble);
    if context.args.no_dlq {
        report.step(Verdict::Note, STEP, "none, as asked: what SNS cannot deliver within the hour is lost");
        return Ok(None);
    }
    let theirs = match subscription {
        Found::One { attributes, .. } => {
            attributes.get("RedrivePolicy").and_then(|text| policy::dead_letter_target(text))
        }
        Found::None | Found::Nameless => None,
    };
    let name =
        theirs.as_deref().and_then(|arn| arn.rsplit(':').next()).map_or_else(|| queue_name(topic), str::to_owned);
    let is_ours = name == queue_name(topic);
    let account = theirs.as_deref().map(policy::account);
    let (verdict, queue) = match site.amazon.queue(&name, account).await.map_err(no)? {
        Some(queue) => (Verdict::Change, queue),
        None if context.args.dry_run => {
            let mut parts = topic.split(':').collect::<Vec<_>>();
            parts[2] = "sqs";
            *parts.last_mut().unwrap_or(&mut "") = &name;
            let arn = parts.join(":");
            (
                Verdict::Create,
                DeadLetterQueue { url: String::new(), arn, policy: String::new(), retention: 0, messages: 0 },
            )
        }
        None => (Verdict::Create, site.amazon.create_queue(&name).await.map_err(no)?),
    };
    let merged = policy::merge(Some(&queue.policy), &policy::send_statement(&queue.arn, topic))
        .map_err(|what| failed(STEP, format!("the policy of {name} is not understood and is left alone: {what}")))?;
    let retention = is_ours && queue.retention != 1_209_600;
    if merged.changed || retention {
        report.exact("sqs:SetQueueAttributes Policy", &pretty(&merged.text));
        if !context.args.dry_run {
            site.amazon.set_queue(&queue.url, &merged.text, retention).await.map_err(no)?;
        }
    }
    let verdict = if merged.changed || retention || verdict == Verdict::Create { verdict } else { Verdict::Ok };
    let waiting =
        if queue.messages > 0 { format!("; about {} messages wait in it", queue.messages) } else { String::new() };
    report.step(verdict, STEP, &format!("{name}, which keeps for 14 days what SNS could not deliver{waiting}"));
    if verdict == Verdict::Create && !queue.url.is_empty() {
        report.step(Verdict::Note, STEP, &format!("the sidecar drains it with POSTERN_SQS_QUEUE_URL={}", queue.url));
    }
    Ok(Some(queue.arn))
}

async fn announce(
    context: &Context<'_>,
    site: &Site,
    bucket: &str,
    account: &str,
    wanted: &Wanted,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[4];
    let no = |trouble: Trouble| failed(STEP, trouble);
    let found = site.amazon.announcements(bucket, account).await.map_err(no)?;
    let others = match found.others(&wanted.id) {
        0 => String::new(),
        count => format!("; {count} other configurations of this bucket stay as they are"),
    };
    let text = format!("{bucket} announces {} to the topic{others}", wanted.events.join(", "));
    if found.has(wanted) {
        report.step(Verdict::Ok, STEP, &text);
        return Ok(());
    }
    let verdict = if found.has_id(&wanted.id) { Verdict::Change } else { Verdict::Create };
    found.replaceable().map_err(no)?;
    let merged = found.with(wanted);
    report.exact(&format!("s3:PutBucketNotificationConfiguration of {bucket}"), &format!("{:#}", merged.json()));
    if !context.args.dry_run {
        // A PUT replaces everything: what somebody else changed meanwhile must not be undone.
        if site.amazon.announcements(bucket, account).await.map_err(no)? != found {
            return Err(failed(
                STEP,
                format!("the notifications of {bucket} were changed by somebody else at this moment; run this again"),
            ));
        }
        site.amazon.announce(bucket, account, merged).await.map_err(no)?;
    }
    report.step(verdict, STEP, &text);
    Ok(())
}

/// Waits until the sidecar has confirmed, and says so, or what remains.
async fn confirmed(
    context: &Context<'_>,
    site: &Site,
    pending: Option<Pending>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[5];
    let Some(pending) = pending else {
        report.step(Verdict::Ok, STEP, "the subscription is confirmed");
        return Ok(());
    };
    if context.args.dry_run {
        report.step(Verdict::Open, STEP, "the sidecar confirms the subscription by itself when SNS sends its token");
        return Ok(());
    }
    // Nobody answers from here: it is not worth the whole wait, though SNS may see more than this machine does.
    let wait = if pending.unreachable.is_some() { context.args.wait.min(UNSEEN_WAIT) } else { context.args.wait };
    let until = Instant::now() + wait;
    while let Some(arn) = &pending.arn {
        let found = site.amazon.subscription(arn).await.map_err(|trouble| failed(STEP, trouble))?;
        if found.is_some_and(|all| all.get("PendingConfirmation").is_some_and(|pending| pending == "false")) {
            report.step(Verdict::Ok, STEP, "the sidecar has confirmed the subscription");
            return Ok(());
        }
        if Instant::now() >= until {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    let why = match &pending.unreachable {
        Some(what) => format!(
            "not confirmed, and the sidecar cannot be reached from here ({what}): start it at POSTERN_PUBLIC_URL and run this again, which has SNS send the token again; the token is good for two days"
        ),
        None => format!(
            "not confirmed within {}: look at the sidecar's log and at its event.sns.topic.arn, and run this again",
            humantime::format_duration(context.args.wait)
        ),
    };
    Err(failed(STEP, why))
}
