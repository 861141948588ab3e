//! Amazon: topic, access policy, dead-letter queue, subscription, bucket notification, confirmation; in this order, because S3
//! tries the topic while it takes the notification. Before the first change the topic and every bucket are looked at, so that what
//! cannot be done is said while nothing is half made.

use url::Url;

use super::announce::{Bucket, announce};
use super::confirm::confirmed;
use super::dead_letters::dead_letters;
use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{Ours, Place, find, pretty, subscribe};
use crate::aws::setup::policy::{self, Merged};
use crate::aws::setup::wanted::{self, Store};
use crate::aws::setup::{Amazon, Attributes, Trouble, Wanted};
use crate::aws::{Aws, is_amazons, judge_topic_policy, lets_everybody};
use crate::config::{SetupInstance, partition_of, topic_region};
use crate::health::Status;

/// The steps, for what remains after a failure.
pub(super) const STEPS: [&str; 6] =
    ["topic", "access policy", "dead-letter queue", "subscription", "bucket notification", "confirmation"];

/// What all steps need.
pub(super) struct Site {
    pub(super) aws: Aws,
    pub(super) amazon: Amazon,
    pub(super) region: String,
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
    let is_elsewhere = |endpoint: &Option<Url>| endpoint.as_ref().is_some_and(|endpoint| !is_amazons(endpoint));
    if is_elsewhere(&config.sns_endpoint) != is_elsewhere(&config.s3.endpoint) {
        return Err(failed(
            "topic",
            "POSTERN_SNS_ENDPOINT_URL and POSTERN_S3_ENDPOINT_URL belong together: the one would be set up at Amazon and the other elsewhere; set both or none",
        ));
    }
    let region = instance.topics.first().and_then(|arn| topic_region(arn)).or(instance.region.as_deref());
    let Some(region) = region else {
        return Err(failed("topic", "no region is named: set filemanagement.provider.region_name"));
    };
    if let (Some(arn), Some(own)) = (instance.topics.first(), &instance.region)
        && own != region
    {
        return Err(failed(
            "topic",
            format!(
                "{arn} is in {region}, and filemanagement.provider.region_name says {own}: S3 announces only to a topic of the bucket's own region; correct the one or the other"
            ),
        ));
    }
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
        aws,
        region: region.to_owned(),
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
    let basic = context.config.sns_basic.as_ref();
    let endpoint = door::sns_endpoint(public, basic).map_err(|what| failed("topic", what))?;
    let site = site(context, instance).await?;
    let place = locate(&site, instance).await.map_err(|trouble| failed("topic", trouble))?;
    let owner =
        context.args.account.clone().or_else(|| place.arn.as_deref().map(|arn| policy::account(arn).to_owned()));
    // Nothing is made yet, so that all of it remains.
    let early = |what: String| Failed { remains: STEPS.to_vec(), ..failed(STEPS[4], what) };
    let mut buckets = Vec::new();
    for name in &site.buckets {
        let found = site.amazon.announcements(name, owner.as_deref().unwrap_or_default()).await;
        let found = found.map_err(|trouble| early(format!("{name}: {trouble}")))?;
        buckets.push(Bucket { name, found });
    }
    let mut wanted = Wanted {
        id: site.id.clone(),
        topic: place.arn.clone().unwrap_or_default(),
        events: wanted::events(&instance.objects, Store::Amazon),
        keys: wanted::keys(&instance.objects, Store::Amazon),
    };
    for bucket in &buckets {
        bucket.refusal(&wanted).map_err(early)?;
    }
    let is_new = context.args.dry_run && place.attributes.is_none();
    let (topic, attributes) = topic(context, &site, place, report).await?;
    wanted.topic.clone_from(&topic);
    let account = context.args.account.clone().unwrap_or_else(|| policy::account(&topic).to_owned());
    access_policy(context, &site, &topic, &account, attributes.get("Policy"), report).await?;
    // A topic that would only be made has no subscriptions, and cannot be asked for them.
    let ours = if is_new { Ours::default() } else { find(&site.amazon, &topic, &endpoint, report).await? };
    let queue = dead_letters(context, &site, &topic, &ours, report).await?;
    let place = Place { topic: &topic, endpoint: &endpoint, public, basic };
    let pending = subscribe(context, &site.amazon, place, ours, queue.as_deref(), report).await?;
    for bucket in buckets {
        announce(context, &site, bucket, &account, &wanted, report).await?;
    }
    confirmed(context, &site, pending, queue.as_deref(), report).await
}

/// The topic as it was found.
struct Located {
    /// Its ARN, where it is configured or was found by name.
    arn: Option<String>,
    name: String,
    /// `None` where it is not there.
    attributes: Option<Attributes>,
}

async fn locate(site: &Site, instance: &SetupInstance) -> Result<Located, Trouble> {
    let configured = instance.topics.first();
    let name = instance.topic_name.as_deref().or_else(|| configured.and_then(|arn| arn.rsplit(':').next()));
    let name = name.unwrap_or_default().to_owned();
    let arn = match configured {
        Some(arn) => Some(arn.clone()),
        None => site.amazon.find_topic(&name).await?,
    };
    let attributes = match &arn {
        Some(arn) => site.amazon.topic(arn).await?,
        None => None,
    };
    Ok(Located { arn, name, attributes })
}

async fn topic(
    context: &Context<'_>,
    site: &Site,
    Located { arn: found, name, attributes }: Located,
    report: &mut Report<'_>,
) -> Result<(String, Attributes), Failed> {
    const STEP: &str = STEPS[0];
    let no = |trouble: Trouble| failed(STEP, trouble);
    if let (Some(arn), Some(attributes)) = (&found, attributes) {
        if attributes.get("FifoTopic").is_some_and(|fifo| fifo == "true") {
            return Err(failed(
                STEP,
                format!("{arn} is a FIFO topic, to which S3 cannot publish; make a standard one"),
            ));
        }
        report.step(Verdict::Ok, STEP, arn);
        if attributes.get("KmsMasterKeyId").is_some_and(|key| !key.is_empty()) {
            report.step(
                Verdict::Note,
                STEP,
                "it is encrypted: its key must be one of your own whose policy lets s3.amazonaws.com use kms:GenerateDataKey and kms:Decrypt; alias/aws/sns does not",
            );
        }
        return Ok((arn.clone(), attributes));
    }
    if context.args.dry_run {
        let arn = match found {
            Some(arn) => arn,
            None => {
                let account = context.account_of(&site.aws).await;
                let partition = partition_of(&site.region).name;
                format!("arn:{partition}:sns:{}:{}:{name}", site.region, account.as_deref().unwrap_or("ACCOUNT"))
            }
        };
        report.step(Verdict::Create, STEP, &arn);
        // What SNS gives a new topic is what the plan is made of too.
        let policy = policy::owner_policy(&arn, policy::account(&arn));
        return Ok((arn, Attributes::from([("Policy".to_owned(), policy)])));
    }
    let made = site.amazon.create_topic(&name).await.map_err(no)?;
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
    for bucket in &site.buckets {
        let judged = judge_topic_policy(Some(&merged.text), topic, bucket);
        if judged.status == Status::Fail {
            // Ours is in it, so that only a Deny can be in the way; S3 would refuse the notification without saying which.
            return Err(failed(STEP, format!("{}; {}", judged.found, judged.advice)));
        }
    }
    let buckets = site.buckets.join(", ");
    if let Some(open) = lets_everybody(&merged.text, topic) {
        let text =
            format!("{open} lets S3 publish for every bucket of everybody; it is not of setup: narrow or remove it");
        report.step(Verdict::Note, STEP, &text);
    }
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
        &format!("a statement lets S3 publish for {buckets} of account {account}; all other statements stay"),
    );
    Ok(())
}
