//! `postern setup --remove` at Amazon: takes away what setup made, from the bucket to the topic, and only that.
//!
//! What others came to lean on stays: the leave to publish while the bucket announces to the topic by another configuration, the queue
//! while another subscription has it or messages are in it, the topic while others subscribe to it.

use super::amazon::{Site, site};
use super::announce::replace;
use super::dead_letters::queue_name;
use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{One, find, pretty};
use crate::aws::setup::{Amazon, Listed, Trouble, policy};
use crate::config::SetupInstance;

/// The steps, for what remains after a failure.
const STEPS: [&str; 5] = ["bucket notification", "subscription", "dead-letter queue", "access policy", "topic"];

fn failed(step: &'static str, what: impl ToString) -> Failed {
    let after = STEPS.iter().position(|one| *one == step).map_or(STEPS.len(), |at| at + 1);
    Failed { step, what: what.to_string(), remains: STEPS[after..].to_vec() }
}

/// A failure of a step that setting up has as well, with what remains here.
fn here(error: Failed) -> Failed {
    failed(error.step, error.what)
}

/// Takes everything away. What is not there is fine.
pub(super) async fn remove(
    context: &Context<'_>,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let site = site(context, instance).await?;
    let topic = match (instance.topics.first(), &instance.topic_name) {
        (Some(arn), _) => Some(arn.clone()),
        (None, Some(name)) => site.amazon.find_topic(name).await.map_err(|trouble| failed("topic", trouble))?,
        (None, None) => None,
    };
    let attributes = match &topic {
        Some(arn) => site.amazon.topic(arn).await.map_err(|trouble| failed("topic", trouble))?,
        None => None,
    };
    // Without a topic, S3 is not told whose the bucket is; it is ours by our Id.
    let owner = context.args.account.clone().or_else(|| topic.as_deref().map(|arn| policy::account(arn).to_owned()));
    let mut announced_by_others = Vec::new();
    for bucket in &site.buckets {
        let topic = topic.as_deref();
        if notification(context, &site, bucket, owner.as_deref().unwrap_or_default(), topic, report).await? {
            announced_by_others.push(bucket.as_str());
        }
    }
    let (Some(topic), Some(attributes)) = (topic, attributes) else {
        report.step(Verdict::Ok, STEPS[4], "it is not there, nor is a subscription or policy of it");
        // The queue outlives its topic while messages are in it.
        let name = instance.topics.first().or(instance.topic_name.as_ref());
        return match name {
            Some(name) => own_queue(context, &site.amazon, name, false, report).await,
            None => Ok(()),
        };
    };
    let queues = subscriptions(context, &site.amazon, &topic, report).await?;
    own_queue(context, &site.amazon, &topic, true, report).await?;
    for arn in queues {
        other_queue(context, &site.amazon, &topic, &arn, report).await?;
    }
    let text = attributes.get("Policy").cloned().unwrap_or_default();
    access_policy(context, &site, &topic, text, &announced_by_others, report).await?;
    whole_topic(context, &site.amazon, &topic, report).await
}

/// Takes our notification from `bucket`; whether others of it announce to `topic`.
async fn notification(
    context: &Context<'_>,
    site: &Site,
    bucket: &str,
    account: &str,
    topic: Option<&str>,
    report: &mut Report<'_>,
) -> Result<bool, Failed> {
    const STEP: &str = STEPS[0];
    let no = |trouble: Trouble| failed(STEP, trouble);
    let found = match site.amazon.announcements(bucket, account).await {
        // The topic of a plan that came to nothing is not there either.
        Err(trouble) if trouble.code == "NoSuchBucket" => {
            report.step(Verdict::Ok, STEP, &format!("{bucket} is not there"));
            return Ok(false);
        }
        found => found.map_err(no)?,
    };
    let others = found.entries_of_others(&site.id).iter().any(|other| Some(other.target.as_str()) == topic);
    if !found.has_id(&site.id) {
        report.step(Verdict::Ok, STEP, &format!("{bucket} has none called {}", site.id));
        return Ok(others);
    }
    found.replaceable().map_err(no)?;
    let rest = found.without(&site.id);
    report.exact(&format!("s3:PutBucketNotificationConfiguration of {bucket}"), &format!("{:#}", rest.json()));
    if !context.args.dry_run {
        replace(site, bucket, account, &found, rest).await.map_err(here)?;
    }
    report.step(Verdict::Remove, STEP, &format!("{} of {bucket}; all others stay", site.id));
    if let Some(topic) = topic.filter(|_| !others) {
        let ours = own_endpoint(context);
        let all = site.amazon.subscriptions(topic).await.map_err(no)?;
        let is_ours = |one: &&Listed| ours.as_deref().is_some_and(|ours| door::is_same(&one.endpoint, ours));
        let count = all.iter().filter(|one| !is_ours(one)).count();
        if count > 0 {
            let text = format!("{count} other subscriptions of the topic hear no more of {bucket}");
            report.step(Verdict::Note, STEP, &text);
        }
    }
    Ok(others)
}

/// Ends the subscriptions of our endpoint; the queues of somebody else that they had.
async fn subscriptions(
    context: &Context<'_>,
    amazon: &Amazon,
    topic: &str,
    report: &mut Report<'_>,
) -> Result<Vec<String>, Failed> {
    const STEP: &str = STEPS[1];
    let Some(public) = &context.config.public_url else {
        report.step(Verdict::Note, STEP, "POSTERN_PUBLIC_URL is not set, so that ours is not known; it is left alone");
        return Ok(Vec::new());
    };
    let endpoint = door::sns_endpoint(public, context.config.sns_basic.as_ref()).map_err(|what| failed(STEP, what))?;
    let ours = find(amazon, topic, &endpoint, report).await.map_err(here)?;
    for one in &ours.all {
        if !context.args.dry_run {
            amazon.unsubscribe(&one.arn).await.map_err(|trouble| failed(STEP, trouble))?;
        }
        report.step(Verdict::Remove, STEP, &endpoint);
    }
    if ours.nameless {
        let text = "one is not confirmed; SNS forgets it by itself and offers no way to end it";
        report.step(Verdict::Note, STEP, text);
    } else if ours.all.is_empty() {
        report.step(Verdict::Ok, STEP, "there is none of our endpoint");
    }
    let own = queue_name(topic);
    let mut queues: Vec<String> = ours.all.iter().filter_map(One::dead_letter_target).collect();
    queues.retain(|arn| arn.rsplit(':').next() != Some(own.as_str()));
    queues.sort();
    queues.dedup();
    Ok(queues)
}

/// How many subscriptions of others have the queue of this ARN behind them.
async fn users(context: &Context<'_>, amazon: &Amazon, topic: &str, queue: &str) -> Result<usize, Failed> {
    const STEP: &str = STEPS[2];
    let ours = own_endpoint(context);
    let mut count = 0;
    for one in amazon.subscriptions(topic).await.map_err(|trouble| failed(STEP, trouble))? {
        let Some(arn) = one.arn.filter(|_| !ours.as_deref().is_some_and(|ours| door::is_same(&one.endpoint, ours)))
        else {
            continue;
        };
        let attributes = amazon.subscription(&arn).await.map_err(|trouble| failed(STEP, trouble))?;
        let target = attributes.and_then(|all| policy::dead_letter_target(all.get("RedrivePolicy")?));
        count += usize::from(target.as_deref() == Some(queue));
    }
    Ok(count)
}

/// Our queue goes only when it is empty, for what is in it exists nowhere else, and when nobody else has it.
async fn own_queue(
    context: &Context<'_>,
    amazon: &Amazon,
    topic: &str,
    is_there: bool,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[2];
    let name = queue_name(topic);
    let Some(queue) = amazon.queue(&name, None).await.map_err(|trouble| failed(STEP, trouble))? else {
        report.step(Verdict::Ok, STEP, &format!("there is none called {name}"));
        return Ok(());
    };
    let users = if is_there { users(context, amazon, topic, &queue.arn).await? } else { 0 };
    if users > 0 {
        report.step(Verdict::Note, STEP, &format!("{name} is kept: {users} other subscriptions of the topic have it"));
    } else if queue.messages > 0 {
        let text = format!(
            "{name} holds about {} messages and is kept: drain it (POSTERN_SQS_QUEUE_URL={}), then run this again",
            queue.messages, queue.url
        );
        report.step(Verdict::Note, STEP, &text);
    } else {
        if !context.args.dry_run {
            amazon.delete_queue(&queue.url).await.map_err(|trouble| failed(STEP, trouble))?;
        }
        report.step(Verdict::Remove, STEP, &name);
    }
    Ok(())
}

/// From a queue of somebody else only our statement is taken.
async fn other_queue(
    context: &Context<'_>,
    amazon: &Amazon,
    topic: &str,
    arn: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[2];
    let name = arn.rsplit(':').next().unwrap_or_default();
    let queue = amazon.queue(name, Some(policy::account(arn))).await.map_err(|trouble| failed(STEP, trouble))?;
    let Some(queue) = queue else { return Ok(()) };
    let less = policy::without(Some(&queue.policy), &policy::send_statement(arn, topic));
    let less = less.map_err(|what| failed(STEP, format!("the policy of {arn} is left alone: {what}")))?;
    if !less.changed || users(context, amazon, topic, arn).await? > 0 {
        return Ok(());
    }
    report.exact(&format!("sqs:SetQueueAttributes Policy of {arn}"), &pretty(&less.text));
    if !context.args.dry_run {
        amazon.set_queue(&queue.url, &less.text, false).await.map_err(|trouble| failed(STEP, trouble))?;
    }
    report.step(Verdict::Remove, STEP, &format!("our statement in the policy of {arn}, which is kept"));
    Ok(())
}

async fn access_policy(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    mut text: String,
    announced_by_others: &[&str],
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[3];
    let account = policy::account(topic);
    let mut changed = false;
    for bucket in &site.buckets {
        let less = policy::without(Some(&text), &policy::publish_statement(topic, bucket, account));
        let less = less.map_err(|what| failed(STEP, what))?;
        if less.changed && announced_by_others.contains(&bucket.as_str()) {
            let what =
                format!("S3 may still publish for {bucket}, which announces to the topic by another configuration");
            report.step(Verdict::Note, STEP, &what);
            continue;
        }
        changed |= less.changed;
        text = if less.text.is_empty() { policy::owner_policy(topic, account) } else { less.text };
    }
    if !changed {
        report.step(Verdict::Ok, STEP, "no statement of ours is left to be taken away");
        return Ok(());
    }
    report.exact("sns:SetTopicAttributes Policy", &pretty(&text));
    if !context.args.dry_run {
        site.amazon.set_topic_policy(topic, &text).await.map_err(|trouble| failed(STEP, trouble))?;
    }
    report.step(Verdict::Remove, STEP, "S3 may no longer publish by a statement of ours; all other statements stay");
    Ok(())
}

/// The endpoint of our subscription, where it is known.
fn own_endpoint(context: &Context<'_>) -> Option<String> {
    let public = context.config.public_url.as_ref()?;
    door::sns_endpoint(public, context.config.sns_basic.as_ref()).ok()
}

async fn whole_topic(
    context: &Context<'_>,
    amazon: &Amazon,
    topic: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = STEPS[4];
    let no = |trouble: Trouble| failed(STEP, trouble);
    if !context.args.remove_topic {
        report.step(Verdict::Note, STEP, &format!("{topic} is kept; --remove-topic deletes it too"));
        return Ok(());
    }
    let endpoint = own_endpoint(context);
    let others = amazon.subscriptions(topic).await.map_err(no)?;
    let others =
        others.iter().filter(|one| !endpoint.as_deref().is_some_and(|ours| door::is_same(&one.endpoint, ours))).count();
    if others > 0 {
        report.step(Verdict::Note, STEP, &format!("{topic} is kept: {others} others subscribe to it"));
        return Ok(());
    }
    if !context.args.dry_run {
        amazon.delete_topic(topic).await.map_err(no)?;
    }
    report.step(Verdict::Remove, STEP, topic);
    Ok(())
}
