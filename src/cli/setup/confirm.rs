//! The last step at Amazon: the sidecar confirms its subscription.

use std::time::Duration;

use tokio::time::Instant;

use super::amazon::{STEPS, Site, failed};
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use super::subscription::{Pending, complete, end};
use crate::aws::setup::Attributes;

const STEP: &str = STEPS[5];
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long a confirmation is waited for from a sidecar that this machine cannot reach.
const UNSEEN_WAIT: Duration = Duration::from_secs(5);

/// Waits until the sidecar has confirmed, and says so, or what remains.
pub(super) async fn confirmed(
    context: &Context<'_>,
    site: &Site,
    pending: Option<Pending>,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
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
        let is = |all: &Attributes| all.get("PendingConfirmation").is_some_and(|pending| pending == "false");
        if let Some(attributes) = found.filter(is) {
            report.step(Verdict::Ok, STEP, "the sidecar has confirmed the subscription");
            complete(&site.amazon, arn, &attributes, queue, report).await?;
            return end(&site.amazon, &pending.instead_of, report).await;
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
