//! The dead-letter queue behind our subscription: one of somebody's that it has already, or ours (hard case 21).

use super::amazon::{STEPS, Site, failed};
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{Ours, pretty};
use crate::aws::setup::{DeadLetterQueue, Trouble, policy};

const STEP: &str = STEPS[2];
/// 14 days, the longest that SQS keeps a message.
const RETENTION: u64 = 1_209_600;

/// The name of the queue that is ours.
pub(super) fn queue_name(topic: &str) -> String {
    let name = topic.rsplit(':').next().unwrap_or_default();
    // SQS allows 80 characters; topics have up to 256 of the same kind.
    let cut: String = name.chars().take(80 - "-postern-dlq".len()).collect();
    format!("{cut}-postern-dlq")
}

/// The name in an ARN of a queue, and its account.
fn parts(arn: &str) -> (&str, &str) {
    (arn.rsplit(':').next().unwrap_or_default(), policy::account(arn))
}

/// The ARN of the queue behind the subscription; `None` where none is wanted.
pub(super) async fn dead_letters(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    ours: &Ours,
    report: &mut Report<'_>,
) -> Result<Option<String>, Failed> {
    let no = |trouble: Trouble| {
        let way_out = if trouble.code.is_empty() { "" } else { "; --no-dlq does without" };
        failed(STEP, format!("{trouble}{way_out}"))
    };
    let theirs = ours.dead_letter_target();
    if context.args.no_dlq {
        let text = match &theirs {
            Some(arn) => format!("{arn}, which the subscription has, stays; none is made, as asked"),
            None => "none, as asked: what SNS cannot deliver within the hour is lost".to_owned(),
        };
        report.step(Verdict::Note, STEP, &text);
        return Ok(theirs);
    }
    if let Some(arn) = theirs.filter(|arn| parts(arn).0 != queue_name(topic)) {
        let (name, account) = parts(&arn);
        if let Some(queue) = site.amazon.queue(name, Some(account)).await.map_err(no)? {
            return theirs_stays(context, site, topic, queue, report).await.map(Some);
        }
        let gone = format!(
            "{arn}, which the subscription has, is not there: what SNS cannot deliver would be lost; ours takes its place"
        );
        report.step(Verdict::Note, STEP, &gone);
    }
    own(context, site, topic, report).await.map(Some)
}

/// A queue of somebody else, to which only our leave to send is added.
async fn theirs_stays(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    queue: DeadLetterQueue,
    report: &mut Report<'_>,
) -> Result<String, Failed> {
    let changed = lets_send(context, site, topic, &queue, false, report).await?;
    let days = queue.retention / 86_400;
    let text = format!("{}, which the subscription has already; it keeps messages for {days} days", queue.arn);
    report.step(if changed { Verdict::Change } else { Verdict::Ok }, STEP, &text);
    encrypted(&queue, report);
    Ok(queue.arn)
}

async fn own(context: &Context<'_>, site: &Site, topic: &str, report: &mut Report<'_>) -> Result<String, Failed> {
    let no = |trouble: Trouble| failed(STEP, format!("{trouble}; --no-dlq does without"));
    let name = queue_name(topic);
    let (is_new, queue) = match site.amazon.queue(&name, None).await.map_err(no)? {
        Some(queue) => (false, queue),
        None if context.args.dry_run => {
            let mut parts = topic.split(':').collect::<Vec<_>>();
            parts[2] = "sqs";
            *parts.last_mut().unwrap_or(&mut "") = &name;
            let queue = DeadLetterQueue { arn: parts.join(":"), retention: RETENTION, ..DeadLetterQueue::default() };
            (true, queue)
        }
        None => (true, site.amazon.create_queue(&name).await.map_err(no)?),
    };
    let retention = queue.retention != RETENTION;
    let changed = lets_send(context, site, topic, &queue, retention, report).await?;
    let verdict = match (is_new, changed) {
        (true, _) => Verdict::Create,
        (false, true) => Verdict::Change,
        (false, false) => Verdict::Ok,
    };
    let waiting =
        if queue.messages > 0 { format!("; about {} messages wait in it", queue.messages) } else { String::new() };
    report.step(verdict, STEP, &format!("{name}, which keeps for 14 days what SNS could not deliver{waiting}"));
    encrypted(&queue, report);
    if !queue.url.is_empty() && (is_new || queue.messages > 0) {
        report.step(Verdict::Note, STEP, &format!("the sidecar drains it with POSTERN_SQS_QUEUE_URL={}", queue.url));
    }
    Ok(queue.arn)
}

/// Lets SNS put into `queue` what it cannot deliver of `topic`; whether something was to be changed.
async fn lets_send(
    context: &Context<'_>,
    site: &Site,
    topic: &str,
    queue: &DeadLetterQueue,
    retention: bool,
    report: &mut Report<'_>,
) -> Result<bool, Failed> {
    let merged = policy::merge(Some(&queue.policy), &policy::send_statement(&queue.arn, topic)).map_err(|what| {
        failed(STEP, format!("the policy of {} is not understood and is left alone: {what}", queue.arn))
    })?;
    if !merged.changed && !retention {
        return Ok(false);
    }
    report.exact(&format!("sqs:SetQueueAttributes Policy of {}", queue.arn), &pretty(&merged.text));
    if retention {
        report.exact("sqs:SetQueueAttributes MessageRetentionPeriod", &RETENTION.to_string());
    }
    if !context.args.dry_run {
        let set = site.amazon.set_queue(&queue.url, &merged.text, retention).await;
        set.map_err(|trouble| failed(STEP, trouble))?;
    }
    Ok(true)
}

fn encrypted(queue: &DeadLetterQueue, report: &mut Report<'_>) {
    if !queue.key.is_empty() {
        report.step(
            Verdict::Note,
            STEP,
            "it is encrypted by KMS: the key must be one of your own whose policy lets sns.amazonaws.com use kms:GenerateDataKey and kms:Decrypt; alias/aws/sqs does not",
        );
    }
}
