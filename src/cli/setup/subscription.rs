//! The subscription of our endpoint: found again, repaired, or made; never twice.

use url::Url;

use super::amazon::{STEPS, failed};
use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use crate::aws::setup::policy;
use crate::aws::setup::{Amazon, Attributes, Trouble};
use crate::config::Basic;

const STEP: &str = STEPS[3];

/// A subscription of our endpoint.
pub(super) struct One {
    pub(super) arn: String,
    /// As SNS lists it, with a masked password.
    endpoint: String,
    attributes: Attributes,
}

impl One {
    fn is_confirmed(&self) -> bool {
        self.attributes.get("PendingConfirmation").is_none_or(|pending| pending != "true")
    }

    pub(super) fn dead_letter_target(&self) -> Option<String> {
        self.attributes.get("RedrivePolicy").and_then(|text| policy::dead_letter_target(text))
    }
}

/// The subscriptions of our endpoint, with whatever credentials, those that are confirmed first.
#[derive(Default)]
pub(super) struct Ours {
    pub(super) all: Vec<One>,
    /// There is one, not confirmed, that SNS lists without its ARN.
    pub(super) nameless: bool,
}

impl Ours {
    /// The queue that gets what ours gives up on.
    pub(super) fn dead_letter_target(&self) -> Option<String> {
        self.all.iter().find_map(One::dead_letter_target)
    }
}

/// Finds ours, and tells of those that will never be confirmed.
pub(super) async fn find(
    amazon: &Amazon,
    topic: &str,
    endpoint: &str,
    report: &mut Report<'_>,
) -> Result<Ours, Failed> {
    let mut ours = Ours::default();
    for one in amazon.subscriptions(topic).await.map_err(|trouble| failed(STEP, trouble))? {
        let is_ours = door::is_same(&one.endpoint, endpoint);
        match one.arn {
            None if is_ours => ours.nameless = true,
            None => {
                let who = door::shown(&one.endpoint);
                let text = format!(
                    "{who} has never confirmed its subscription; SNS forgets it by itself, and it is left alone"
                );
                report.step(Verdict::Note, STEP, &text);
            }
            Some(_) if !is_ours => {}
            Some(arn) => {
                let attributes = amazon.subscription(&arn).await.map_err(|trouble| failed(STEP, trouble))?;
                ours.all.extend(attributes.map(|attributes| One { arn, endpoint: one.endpoint, attributes }));
            }
        }
    }
    ours.all.sort_by_key(|one| !one.is_confirmed());
    Ok(ours)
}

/// Who subscribes to what.
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) public: &'a Url,
    /// What stands in `endpoint` as user information.
    pub(super) basic: Option<&'a Basic>,
}

/// What is left to wait for: a subscription that is not confirmed.
pub(super) struct Pending {
    pub(super) arn: Option<String>,
    pub(super) unreachable: Option<String>,
    /// Subscriptions of our endpoint with other credentials, which are of no use once this one is confirmed.
    pub(super) instead_of: Vec<String>,
}

/// Subscribes our endpoint, or repairs its subscription.
pub(super) async fn subscribe(
    context: &Context<'_>,
    amazon: &Amazon,
    place: Place<'_>,
    Ours { mut all, nameless }: Ours,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<Option<Pending>, Failed> {
    let dry = context.args.dry_run;
    let opens = door::opens(&context.client, &door::url(place.public, "/sns")).await;
    if all.is_empty() && nameless {
        return again(context, amazon, &place, opens, None, report).await.map(Some);
    }
    // Which one has our credentials, SNS does not show; but it has one subscription of each endpoint, password included.
    let mut asked = false;
    if place.basic.is_some() && !all.is_empty() {
        if dry {
            tell_of_credentials(&place, &all[0], report);
        } else {
            let wanted = wanted(&Attributes::new(), queue)?;
            let arn = match amazon.subscribe(place.topic, place.endpoint, &wanted).await {
                Ok(arn) => Some(arn),
                // It has this very endpoint, and does not say which of several it is.
                Err(trouble) if trouble.is_subscribed_already() => None,
                Err(trouble) => return Err(failed(STEP, trouble)),
            };
            asked = arn.is_some();
            let at = match &arn {
                Some(arn) => all.iter().position(|one| one.arn == *arn),
                None => match only_of_our_user(&all, place.endpoint) {
                    Some(at) => Some(at),
                    None => return unclear(context, amazon, &place, opens, &all, queue, report).await,
                },
            };
            let Some(at) = at else {
                let text = format!(
                    "{}: it was subscribed with other credentials, and is anew with those of POSTERN_SNS_BASIC_USERNAME and _PASSWORD",
                    place.endpoint
                );
                report.step(Verdict::Create, STEP, &text);
                let instead_of = all.into_iter().map(|one| one.arn).collect();
                return Ok(Some(Pending { arn, unreachable: opens.err(), instead_of }));
            };
            all.swap(0, at);
        }
    }
    let mut all = all.into_iter();
    let Some(main) = all.next() else { return fresh(context, amazon, &place, opens, queue, report).await.map(Some) };
    let others: Vec<String> = all.map(|one| one.arn).collect();
    repair(context, amazon, &main, place.endpoint, queue, report).await?;
    if asked {
        if !main.is_confirmed() {
            report.step(Verdict::Change, STEP, "it was not confirmed: SNS was asked to send its token again");
            return Ok(Some(Pending { arn: Some(main.arn), unreachable: opens.err(), instead_of: others }));
        }
        end(amazon, &others, report).await?;
    } else if !others.is_empty() && (place.basic.is_none() || !dry) {
        let text = format!(
            "there are more subscriptions of the same endpoint, so that every message comes as often; unsubscribe {}",
            others.join(", ")
        );
        report.step(Verdict::Note, STEP, &text);
    }
    if main.is_confirmed() {
        return Ok(None);
    }
    again(context, amazon, &place, opens, Some(main.arn), report).await.map(Some)
}

/// Which of `all` must have our credentials where SNS does not say it: the only one, or the only one with our user name.
fn only_of_our_user(all: &[One], endpoint: &str) -> Option<usize> {
    let mut fit = (0..all.len()).filter(|at| all.len() == 1 || door::has_user_of(&all[*at].endpoint, endpoint));
    fit.next().filter(|_| fit.next().is_none())
}

/// Repairs all subscriptions of our endpoint, because one of them has our credentials and SNS does not say which. None is named to be
/// ended: it may be the good one, the others being left of a password that was changed before its confirmation came.
async fn unclear(
    context: &Context<'_>,
    amazon: &Amazon,
    place: &Place<'_>,
    opens: Result<(), String>,
    all: &[One],
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<Option<Pending>, Failed> {
    for one in all {
        repair(context, amazon, one, place.endpoint, queue, report).await?;
    }
    let text = format!(
        "there are {} subscriptions of this endpoint, and which of them has the password of POSTERN_SNS_BASIC_PASSWORD is unknown: SNS masks it; none is ended. What comes by the others is answered 401 (the sidecar's log shows it). To be left with one, set a new password and run this again: it is subscribed anew, and once that is confirmed all others are ended",
        all.len()
    );
    report.step(Verdict::Note, STEP, &text);
    // Ours may be any of them, so that all are to be confirmed.
    let pending = all.iter().find(|one| !one.is_confirmed());
    Ok(pending.map(|one| Pending { arn: Some(one.arn.clone()), unreachable: opens.err(), instead_of: Vec::new() }))
}

/// Ends subscriptions of our endpoint whose credentials the sidecar refuses.
pub(super) async fn end(amazon: &Amazon, arns: &[String], report: &mut Report<'_>) -> Result<(), Failed> {
    for arn in arns {
        amazon.unsubscribe(arn).await.map_err(|trouble| failed(STEP, trouble))?;
        report.step(Verdict::Remove, STEP, &format!("{arn}, of the same endpoint with other credentials"));
    }
    Ok(())
}

/// What a dry run can know of the credentials in the endpoint.
fn tell_of_credentials(place: &Place<'_>, one: &One, report: &mut Report<'_>) {
    if door::has_user_of(&one.endpoint, place.endpoint) {
        let text = "SNS masks its password: whether it is that of POSTERN_SNS_BASIC_PASSWORD shows only without --dry-run; another one is subscribed anew, and the old subscription then ended";
        report.step(Verdict::Note, STEP, text);
    } else {
        let text = "it has another user name than POSTERN_SNS_BASIC_USERNAME: it is subscribed anew, and the old subscription ended once the new one is confirmed";
        report.step(Verdict::Change, STEP, text);
    }
}

/// What a subscription must be told that has `existing`.
fn wanted(existing: &Attributes, queue: Option<&str>) -> Result<Attributes, Failed> {
    let delivery = policy::delivery_policy(existing.get("DeliveryPolicy").map(String::as_str))
        .map_err(|what| failed(STEP, format!("its delivery policy is not understood: {what}")))?;
    let mut wanted = Attributes::new();
    if existing.get("RawMessageDelivery").is_none_or(|raw| raw != "false") && !existing.is_empty() {
        wanted.insert("RawMessageDelivery".to_owned(), "false".to_owned());
    }
    if delivery.changed {
        wanted.insert("DeliveryPolicy".to_owned(), delivery.text);
    }
    let current = existing.get("RedrivePolicy").and_then(|text| policy::dead_letter_target(text));
    if let Some(queue) = queue.filter(|queue| current.as_deref() != Some(*queue)) {
        wanted.insert("RedrivePolicy".to_owned(), policy::redrive_policy(queue));
    }
    Ok(wanted)
}

fn retries() -> String {
    format!("{} more tries over {} s", policy::RETRIES, policy::RETRY_SECONDS)
}

/// Changes what differs of a subscription that is there.
async fn repair(
    context: &Context<'_>,
    amazon: &Amazon,
    one: &One,
    endpoint: &str,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let wanted = wanted(&one.attributes, queue)?;
    for (name, value) in &wanted {
        report.exact(&format!("sns:SetSubscriptionAttributes {name}"), &pretty(value));
        if !context.args.dry_run {
            amazon.set_subscription(&one.arn, name, value).await.map_err(|trouble| failed(STEP, trouble))?;
        }
    }
    let verdict = if wanted.is_empty() { Verdict::Ok } else { Verdict::Change };
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let changed = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    report.step(verdict, STEP, &format!("{endpoint}{changed}: {}", retries()));
    if one.attributes.get("FilterPolicy").is_some_and(|filter| filter.trim().len() > 2) {
        let body = one.attributes.get("FilterPolicyScope").is_some_and(|scope| scope == "MessageBody");
        let why = if body { "" } else { ", and S3's messages carry no attributes" };
        let text = format!("it has a filter policy: SNS sends only what passes it{why}; remove it unless it is meant");
        report.step(Verdict::Note, STEP, &text);
    }
    Ok(())
}

/// What a subscription that was not there, or not confirmed, still lacks now that it is.
pub(super) async fn complete(
    amazon: &Amazon,
    arn: &str,
    attributes: &Attributes,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let wanted = wanted(attributes, queue)?;
    for (name, value) in &wanted {
        amazon.set_subscription(arn, name, value).await.map_err(|trouble| failed(STEP, trouble))?;
    }
    if !wanted.is_empty() {
        let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
        report.step(Verdict::Change, STEP, &format!("({}): {}", names.join(", "), retries()));
    }
    Ok(())
}

/// A subscription of what nobody has subscribed.
async fn fresh(
    context: &Context<'_>,
    amazon: &Amazon,
    place: &Place<'_>,
    opens: Result<(), String>,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<Pending, Failed> {
    let wanted = wanted(&Attributes::new(), queue)?;
    let shown: serde_json::Value = wanted
        .iter()
        .map(|(name, value)| (name.clone(), serde_json::from_str(value).unwrap_or_default()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let what = format!("sns:Subscribe {} with Attributes (each as a string)", place.endpoint);
    report.exact(&what, &format!("{shown:#}"));
    let mut arn = None;
    if !context.args.dry_run {
        let made = amazon.subscribe(place.topic, place.endpoint, &wanted).await;
        arn = Some(made.map_err(|trouble: Trouble| failed(STEP, trouble))?).filter(|arn| arn.starts_with("arn:"));
    }
    report.step(Verdict::Create, STEP, &format!("{}: {}", place.endpoint, retries()));
    Ok(Pending { arn, unreachable: opens.err(), instead_of: Vec::new() })
}

/// A subscription that is not confirmed gets another token, if there is somebody to take it.
async fn again(
    context: &Context<'_>,
    amazon: &Amazon,
    place: &Place<'_>,
    opens: Result<(), String>,
    arn: Option<String>,
    report: &mut Report<'_>,
) -> Result<Pending, Failed> {
    if let Err(what) = opens {
        return Ok(Pending { arn, unreachable: Some(what), instead_of: Vec::new() });
    }
    if context.args.dry_run {
        report.step(Verdict::Change, STEP, "it is not confirmed: SNS is asked to send its token again");
        return Ok(Pending { arn, unreachable: None, instead_of: Vec::new() });
    }
    let sent = amazon.subscribe(place.topic, place.endpoint, &Attributes::new()).await;
    let sent = sent.map_err(|trouble| failed(STEP, trouble))?;
    report.step(Verdict::Change, STEP, "it was not confirmed: SNS was asked to send its token again");
    let arn = arn.or_else(|| Some(sent).filter(|arn| arn.starts_with("arn:")));
    Ok(Pending { arn, unreachable: None, instead_of: Vec::new() })
}

/// JSON for people; what is none stays as it is.
pub(super) fn pretty(text: &str) -> String {
    serde_json::from_str::<serde_json::Value>(text).map_or_else(|_| text.to_owned(), |value| format!("{value:#}"))
}

#[cfg(test)]
#[path = "subscription_tests.rs"]
mod tests;
