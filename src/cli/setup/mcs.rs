//! MCS S3: our webhook in the bucket's configuration, by GET, merge and PUT (`s3-dialects.md` 1.1 to 1.3).
//!
//! MCS answers the PUT only after its handshake with the sidecar. A PUT replaces everything, so that a GET that failed or was not
//! understood never leads to one.

use hyper::Method;

use super::door;
use super::kinds::Context;
use super::report::{Failed, Report, Verdict};
use crate::aws::Aws;
use crate::aws::setup::overlap::{self, Entry};
use crate::aws::setup::signed::SignedS3;
use crate::aws::setup::wanted::{self, Store};
use crate::aws::setup::xml::{Configuration, Hook, MCS};
use crate::config::SetupInstance;

const STEP: &str = "webhook";
const XML: &str = "application/xml";

pub(super) fn failed(step: &'static str, what: impl ToString) -> Failed {
    Failed { step, what: what.to_string(), remains: Vec::new() }
}

/// The S3 that the settings name, with `region` in its signatures where they name none.
pub(super) async fn signed(context: &Context<'_>, instance: &SetupInstance, region: &str) -> Result<SignedS3, Failed> {
    let s3 = &context.config.s3;
    let endpoint = s3.endpoint.clone().ok_or_else(|| {
        failed(
            "store",
            "POSTERN_S3_ENDPOINT_URL is not set: name the store's S3, such as https://hb.ru-msk.vkcloud-storage.ru",
        )
    })?;
    let region = instance.region.as_deref().unwrap_or(region);
    let aws = Aws::for_setup(instance.credentials.clone(), region, None, context.extra_ca_pem);
    let keys = aws.map_err(|error| failed("store", error))?.keys().await.ok_or_else(|| {
        failed("store", "there are no credentials: set filemanagement.provider.access_key and .secret_key")
    })?;
    let client = context.client.clone();
    Ok(SignedS3 { client, keys, region: region.to_owned(), endpoint, path_style: s3.path_style })
}

/// Sets up, or removes, the webhook of every bucket of the instance.
pub(super) async fn run(
    context: &Context<'_>,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let s3 = signed(context, instance, "ru-msk").await?;
    for topic in &instance.mcs_topics {
        let bucket = &topic.bucket;
        if context.args.remove {
            let id = wanted::our_id(&instance.name);
            let found = configuration(&s3, bucket).await?;
            if !found.has_id(&id) {
                report.step(Verdict::Ok, STEP, &format!("{bucket} has none called {id}"));
                continue;
            }
            let without = found.without(&id, MCS).map_err(|what| failed(STEP, what))?;
            replace(context, &s3, Replacement { bucket, found: &found, by: without, id: &id }, report).await?;
            report.step(Verdict::Remove, STEP, &format!("{id} of {bucket}; all others stay"));
        } else {
            webhook(context, &s3, instance, bucket, report).await?;
        }
    }
    Ok(())
}

async fn webhook(
    context: &Context<'_>,
    s3: &SignedS3,
    instance: &SetupInstance,
    bucket: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let endpoint = context.config.mcs.first();
    let endpoint = endpoint.ok_or_else(|| {
        failed(
            STEP,
            "MCS must be told where the sidecar is: set POSTERN_MCS_SECRET, and POSTERN_PUBLIC_URL or POSTERN_MCS_URL",
        )
    })?;
    let url = endpoint.url.expose();
    let mut events = wanted::events(&instance.objects, Store::Mcs);
    events.sort();
    let mut hook = Hook {
        id: wanted::our_id(&instance.name),
        events,
        target: url.to_owned(),
        keys: wanted::keys(&instance.objects, Store::Mcs),
    };
    let found = configuration(s3, bucket).await?;
    let others = match found.others(&hook.id).count() {
        0 => String::new(),
        count => format!("; {count} others of this bucket stay as they are"),
    };
    // One that somebody added in the panel does as well as ours, and two would tell everything twice.
    let panel: Vec<Entry> = found
        .hooks(MCS)
        .filter(|other| other.id != hook.id)
        .map(|other| Entry {
            id: other.id.clone(),
            target: other.target.clone(),
            events: other.events.clone(),
            keys: other.keys.clone(),
        })
        .collect();
    let (by, left) = overlap::covered(&panel, url, &hook.events, &hook.keys);
    if !by.is_empty() {
        let ids: Vec<&str> = by.iter().map(|one| one.id.as_str()).collect();
        let text =
            format!("{bucket} announces to the same URL by {} already, which is not of this instance", ids.join(", "));
        report.step(Verdict::Note, STEP, &text);
    }
    if left.is_empty() {
        report.step(
            Verdict::Ok,
            STEP,
            &format!("{bucket} announces all that is wanted to {url}; nothing of ours is needed"),
        );
        return Ok(());
    }
    hook.events = left;
    let text = format!("{bucket} announces {} to {url}{others}", hook.events.join(", "));
    if found.has(&hook, MCS) {
        report.step(Verdict::Ok, STEP, &text);
        return Ok(());
    }
    let reachable = door::opens(&context.client, url).await;
    if let Err(what) = &reachable {
        report.step(
            Verdict::Note,
            STEP,
            &format!(
                "the sidecar does not answer from here ({what}); MCS shakes hands with it before it takes a webhook"
            ),
        );
    }
    let merged = found.with(&hook, MCS).map_err(|what| failed(STEP, what))?;
    let verdict = if found.has_id(&hook.id) { Verdict::Change } else { Verdict::Create };
    replace(context, s3, Replacement { bucket, found: &found, by: merged, id: &hook.id }, report).await?;
    if !context.args.dry_run && !configuration(s3, bucket).await?.has(&hook, MCS) {
        return Err(failed(
            STEP,
            format!("the store took the webhook of {bucket} and does not show it; look at it in the panel"),
        ));
    }
    report.step(verdict, STEP, &text);
    Ok(())
}

/// What the bucket has now.
async fn configuration(s3: &SignedS3, bucket: &str) -> Result<Configuration, Failed> {
    let answered = s3.send(Method::GET, Some(bucket), "notification", XML, String::new()).await;
    let text = answered.and_then(|answered| answered.success());
    let text = text.map_err(|what| {
        failed(STEP, format!("the webhooks of {bucket} cannot be read, and nothing was changed: {what}"))
    })?;
    Configuration::read(&text, MCS).map_err(|what| {
        failed(STEP, format!("the webhooks of {bucket} are not understood, and nothing was changed: {what}"))
    })
}

struct Replacement<'a> {
    bucket: &'a str,
    found: &'a Configuration,
    by: String,
    id: &'a str,
}

/// Replaces the whole configuration, if it is still what was found, and checks that nobody else's webhook went missing.
async fn replace(
    context: &Context<'_>,
    s3: &SignedS3,
    Replacement { bucket, found, by, id }: Replacement<'_>,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    // The URLs of others hold secrets of theirs.
    if !context.args.show_secrets {
        for target in found.targets_of_others(id) {
            let host = url::Url::parse(target).map_or(0, |url| url[..url::Position::BeforePath].len());
            let slash = target.get(host..).and_then(|path| path.find(|c| c != '/')).unwrap_or_default();
            let (place, path) = target.split_at_checked(host + slash).unwrap_or_default();
            report.hide(path);
            report.hide_at(place, path);
        }
    }
    report.exact(&format!("PUT /?notification of {bucket}"), &by);
    if context.args.dry_run {
        return Ok(());
    }
    if configuration(s3, bucket).await?.text() != found.text() {
        return Err(failed(
            STEP,
            format!(
                "the webhooks of {bucket} were changed by somebody else at this moment, and nothing was changed; run this again"
            ),
        ));
    }
    let answered =
        s3.send(Method::PUT, Some(bucket), "notification", XML, by).await.and_then(|answered| answered.success());
    answered.map_err(|what| {
        failed(STEP, format!("the store refused the webhook of {bucket}: {what}. It shakes hands with the sidecar first: that must run, be reachable at this very URL, have this bucket in POSTERN_MCS_TOPICS and the same POSTERN_MCS_SECRET"))
    })?;
    let after = configuration(s3, bucket).await?;
    if found.others(id).any(|other| !after.others(id).any(|kept| kept == other)) {
        // A store may write them anew; what matters is that each is still there.
        let (before, now) = (found.others(id).count(), after.others(id).count());
        if now < before {
            return Err(failed(
                STEP,
                format!(
                    "of the {before} other webhooks of {bucket} the store shows {now}; compare with: {}",
                    found.text()
                ),
            ));
        }
    }
    Ok(())
}
