//! The subscription of our endpoint: found again, repaired, or made; never twice.

use url::Url;

use super::amazon::failed;
use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use crate::aws::setup::policy;
use crate::aws::setup::{Amazon, Attributes, Trouble};

const STEP: &str = "subscription";

/// The subscription of our endpoint.
pub(super) enum Found {
    /// There is none.
    None,
    /// There is one, not confirmed, that SNS lists without its ARN.
    Nameless,
    /// There is one.
    One { arn: String, attributes: Attributes },
}

/// Finds ours, and tells of those that will never be confirmed.
pub(super) async fn find(
    amazon: &Amazon,
    topic: &str,
    endpoint: &str,
    report: &mut Report<'_>,
) -> Result<Found, Failed> {
    let listed = amazon.subscriptions(topic).await.map_err(|trouble| failed(STEP, trouble))?;
    let mut found = Found::None;
    for one in listed {
        let ours = door::is_same(&one.endpoint, endpoint);
        match one.arn {
            None if ours => found = if matches!(found, Found::None) { Found::Nameless } else { found },
            None => report.step(
                Verdict::Note,
                STEP,
                &format!(
                    "{} has never confirmed its subscription; SNS forgets it by itself, and it is left alone",
                    one.endpoint
                ),
            ),
            Some(_) if !ours => {}
            Some(arn) => {
                let attributes = amazon.subscription(&arn).await.map_err(|trouble| failed(STEP, trouble))?;
                if matches!(found, Found::One { .. }) {
                    report.step(
                        Verdict::Note,
                        STEP,
                        &format!("{arn} is a second subscription of the same endpoint; unsubscribe one of them"),
                    );
                } else if let Some(attributes) = attributes {
                    found = Found::One { arn, attributes };
                }
            }
        }
    }
    Ok(found)
}

/// Who subscribes to what.
pub(super) struct Place<'a> {
    pub(super) topic: &'a str,
    pub(super) endpoint: &'a str,
    pub(super) public: &'a Url,
}

/// What is left to wait for: the ARN of a subscription that is not confirmed.
pub(super) struct Pending {
    pub(super) arn: Option<String>,
    pub(super) unreachable: Option<String>,
}

/// Subscribes our endpoint, or repairs its subscription.
pub(super) async fn subscribe(
    context: &Context<'_>,
    amazon: &Amazon,
    place: Place<'_>,
    found: Found,
    queue: Option<&str>,
    report: &mut Report<'_>,
) -> Result<Option<Pending>, Failed> {
    let no = |trouble: Trouble| failed(STEP, trouble);
    let dry = context.args.dry_run;
    let existing = if let Found::One { attributes, .. } = &found { attributes.clone() } else { Attributes::new() };
    let delivery = policy::delivery_policy(existing.get("DeliveryPolicy").map(String::as_str))
        .map_err(|what| failed(STEP, format!("its delivery policy is not understood: {what}")))?;
    let mut wanted = Attributes::from([("RawMessageDelivery".to_owned(), "false".to_owned())]);
    if delivery.changed {
        wanted.insert("DeliveryPolicy".to_owned(), delivery.text);
    }
    if let Some(queue) = queue {
        wanted.insert("RedrivePolicy".to_owned(), policy::redrive_policy(queue));
    }
    let raw = existing.get("RawMessageDelivery").is_none_or(|raw| raw == "false");
    let same_queue =
        existing.get("RedrivePolicy").and_then(|text| policy::dead_letter_target(text)).as_deref() == queue;
    if matches!(found, Found::One { .. }) {
        wanted.retain(|name, _| !(name == "RawMessageDelivery" && raw || name == "RedrivePolicy" && same_queue));
    }
    let opens = door::opens(&context.client, &door::url(place.public, "/sns")).await;
    let retries = format!("{} more tries over {} s", policy::RETRIES, policy::RETRY_SECONDS);
    match found {
        Found::One { arn, attributes } => {
            for (name, value) in &wanted {
                report.exact(&format!("sns:SetSubscriptionAttributes {name}"), &pretty(value));
                if !dry {
                    amazon.set_subscription(&arn, name, value).await.map_err(no)?;
                }
            }
            let verdict = if wanted.is_empty() { Verdict::Ok } else { Verdict::Change };
            let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
            let changed = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            report.step(verdict, STEP, &format!("{}{changed}: {retries}", place.endpoint));
            if attributes.get("FilterPolicy").is_some_and(|filter| filter.len() > 2) {
                report.step(
                    Verdict::Note,
                    STEP,
                    "it has a filter policy, which S3's messages (they carry no attributes) may not pass; remove it",
                );
            }
            if attributes.get("PendingConfirmation").is_none_or(|pending| pending != "true") {
                return Ok(None);
            }
            again(context, amazon, &place, opens, Some(arn), report).await.map(Some)
        }
        Found::Nameless => again(context, amazon, &place, opens, None, report).await.map(Some),
        Found::None => {
            let shown: serde_json::Value = wanted
                .iter()
                .map(|(name, value)| (name.clone(), serde_json::from_str(value).unwrap_or_default()))
                .collect::<serde_json::Map<_, _>>()
                .into();
            report.exact(
                &format!("sns:Subscribe {} with Attributes (each as a string)", place.endpoint),
                &format!("{shown:#}"),
            );
            let mut arn = None;
            if !dry {
                let made = amazon.subscribe(place.topic, place.endpoint, &wanted).await.map_err(no)?;
                arn = Some(made).filter(|arn| arn.starts_with("arn:"));
            }
            report.step(Verdict::Create, STEP, &format!("{}: {retries}", place.endpoint));
            Ok(Some(Pending { arn, unreachable: opens.err() }))
        }
    }
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
        return Ok(Pending { arn, unreachable: Some(what) });
    }
    if context.args.dry_run {
        report.step(Verdict::Change, STEP, "it is not confirmed: SNS is asked to send its token again");
        return Ok(Pending { arn, unreachable: None });
    }
    let sent = amazon.subscribe(place.topic, place.endpoint, &Attributes::new()).await;
    let sent = sent.map_err(|trouble| failed(STEP, trouble))?;
    report.step(Verdict::Change, STEP, "it was not confirmed: SNS was asked to send its token again");
    Ok(Pending { arn: arn.or_else(|| Some(sent).filter(|arn| arn.starts_with("arn:"))), unreachable: None })
}

/// JSON for people; what is none stays as it is.
pub(super) fn pretty(text: &str) -> String {
    serde_json::from_str::<serde_json::Value>(text).map_or_else(|_| text.to_owned(), |value| format!("{value:#}"))
}
