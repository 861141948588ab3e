//! `postern setup --remove` at Amazon: takes away what setup made, from the bucket to the topic, and only that.

use super::amazon::{failed, queue_name, site};
use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{Found, find};
use crate::aws::setup::{Trouble, policy};
use crate::config::SetupInstance;

/// Takes everything away. What is not there is fine.
pub(super) async fn remove(
    context: &Context<'_>,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let fail = |step: &'static str| move |trouble: Trouble| Failed { remains: Vec::new(), ..failed(step, trouble) };
    let dry = context.args.dry_run;
    let site = site(context, instance).await?;
    let topic = match (instance.topics.first(), &instance.topic_name) {
        (Some(arn), _) => Some(arn.clone()),
        (None, Some(name)) => site.amazon.find_topic(name).await.map_err(fail("topic"))?,
        (None, None) => None,
    };
    let attributes = match &topic {
        Some(arn) => site.amazon.topic(arn).await.map_err(fail("topic"))?,
        None => None,
    };
    let owner = context.args.account.clone().or_else(|| topic.as_deref().map(|arn| policy::account(arn).to_owned()));
    if let Some(account) = &owner {
        for bucket in &site.buckets {
            let found = site.amazon.announcements(bucket, account).await.map_err(fail("bucket notification"))?;
            if !found.has_id(&site.id) {
                report.step(Verdict::Ok, "bucket notification", &format!("{bucket} has none called {}", site.id));
                continue;
            }
            found.replaceable().map_err(fail("bucket notification"))?;
            let rest = found.without(&site.id);
            report.exact(&format!("s3:PutBucketNotificationConfiguration of {bucket}"), &format!("{:#}", rest.json()));
            if !dry {
                if site.amazon.announcements(bucket, account).await.map_err(fail("bucket notification"))? != found {
                    let what = format!(
                        "the notifications of {bucket} were changed by somebody else at this moment; run this again"
                    );
                    return Err(Failed { step: "bucket notification", what, remains: Vec::new() });
                }
                site.amazon.announce(bucket, account, rest).await.map_err(fail("bucket notification"))?;
            }
            report.step(Verdict::Remove, "bucket notification", &format!("{} of {bucket}; all others stay", site.id));
        }
    }
    let (Some(topic), Some(attributes)) = (topic, attributes) else {
        report.step(Verdict::Ok, "topic", "it is not there, nor is a subscription or policy of it");
        return Ok(());
    };
    subscription(context, &site.amazon, &topic, report).await?;
    queue(context, &site.amazon, &topic, report).await?;
    let account = policy::account(&topic);
    let mut text = attributes.get("Policy").cloned().unwrap_or_default();
    let mut changed = false;
    for bucket in &site.buckets {
        let less = policy::without(Some(&text), &policy::publish_statement(&topic, bucket, account));
        let less = less.map_err(|what| Failed { step: "access policy", what, remains: Vec::new() })?;
        changed |= less.changed;
        text = if less.text.is_empty() { policy::owner_policy(&topic, account) } else { less.text };
    }
    if changed && !dry {
        site.amazon.set_topic_policy(&topic, &text).await.map_err(fail("access policy"))?;
    }
    let verdict = if changed { Verdict::Remove } else { Verdict::Ok };
    report.step(verdict, "access policy", "S3 may no longer publish by a statement of ours; all other statements stay");
    whole_topic(context, &site.amazon, &topic, report).await
}

async fn subscription(
    context: &Context<'_>,
    amazon: &crate::aws::setup::Amazon,
    topic: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = "subscription";
    let no = |what: String| Failed { step: STEP, what, remains: Vec::new() };
    let Some(public) = &context.config.public_url else {
        report.step(Verdict::Note, STEP, "POSTERN_PUBLIC_URL is not set, so that ours is not known; it is left alone");
        return Ok(());
    };
    let endpoint = door::sns_endpoint(public, context.config.sns_basic.as_ref()).map_err(no)?;
    match find(amazon, topic, &endpoint, report).await? {
        Found::One { arn, .. } => {
            if !context.args.dry_run {
                amazon.unsubscribe(&arn).await.map_err(|trouble| no(trouble.to_string()))?;
            }
            report.step(Verdict::Remove, STEP, &endpoint);
        }
        Found::Nameless => {
            report.step(
                Verdict::Note,
                STEP,
                "it is not confirmed; SNS forgets it by itself and offers no way to end it",
            );
        }
        Found::None => report.step(Verdict::Ok, STEP, "there is none of our endpoint"),
    }
    Ok(())
}

/// Our queue goes only when it is empty: what is in it exists nowhere else.
async fn queue(
    context: &Context<'_>,
    amazon: &crate::aws::setup::Amazon,
    topic: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = "dead-letter queue";
    let no = |trouble: Trouble| Failed { step: STEP, what: trouble.to_string(), remains: Vec::new() };
    let name = queue_name(topic);
    match amazon.queue(&name, None).await.map_err(no)? {
        None => report.step(Verdict::Ok, STEP, &format!("there is none called {name}")),
        Some(queue) if queue.messages > 0 => report.step(
            Verdict::Note,
            STEP,
            &format!(
                "{name} holds about {} messages and is kept: drain it (POSTERN_SQS_QUEUE_URL={}), then run this again",
                queue.messages, queue.url
            ),
        ),
        Some(queue) => {
            if !context.args.dry_run {
                amazon.delete_queue(&queue.url).await.map_err(no)?;
            }
            report.step(Verdict::Remove, STEP, &name);
        }
    }
    Ok(())
}

async fn whole_topic(
    context: &Context<'_>,
    amazon: &crate::aws::setup::Amazon,
    topic: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    const STEP: &str = "topic";
    let no = |trouble: Trouble| Failed { step: STEP, what: trouble.to_string(), remains: Vec::new() };
    if !context.args.remove_topic {
        report.step(Verdict::Note, STEP, &format!("{topic} is kept; --remove-topic deletes it too"));
        return Ok(());
    }
    let endpoint = context
        .config
        .public_url
        .as_ref()
        .and_then(|url| door::sns_endpoint(url, context.config.sns_basic.as_ref()).ok());
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
