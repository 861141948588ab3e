//! Ceph RGW: a persistent topic that pushes to `/s3/<secret>`, and the bucket's notification to it (`s3-dialects.md` 2.2).

use hyper::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::door;
use super::kinds::Context;
use super::mcs::{failed, signed};
use super::report::{Failed, Report, Verdict};
use crate::aws::setup::signed::SignedS3;
use crate::aws::setup::wanted::{self, Store};
use crate::aws::setup::xml::{CEPH, Configuration, Hook};
use crate::config::{S3HttpAuth, SetupInstance};

const TOPIC: &str = "topic";
const NOTIFICATION: &str = "bucket notification";
const FORM: &str = "application/x-www-form-urlencoded";
const XML: &str = "application/xml";
/// How many seconds a newer gateway waits before it sends again; an older one ignores this and sends again at once, hundreds of times a
/// second (16.2), as a newer one does to which nothing is said.
const PACE: (&str, &str) = ("retry_sleep_duration", "5");
/// RGW takes a `+` in a form for itself and not for a blank, so that everything is percent-encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Sets up, or removes, topic and notifications of the instance.
pub(super) async fn run(
    context: &Context<'_>,
    instance: &SetupInstance,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let s3 = signed(context, instance, "us-east-1").await?;
    if instance.buckets.is_empty() {
        return Err(failed(NOTIFICATION, "no bucket is named: set filemanagement.provider.bucket_name"));
    }
    let id = wanted::our_id(&instance.name);
    if context.args.remove {
        return remove(context, &s3, instance, &id, report).await;
    }
    let (arn, renewed) = topic(context, &s3, instance, &id, report).await?;
    let mut events = wanted::events(&instance.objects, Store::Ceph);
    events.sort();
    let hook = Hook { id, events, target: arn, keys: wanted::keys(&instance.objects, Store::Ceph) };
    for bucket in &instance.buckets {
        notification(context, &s3, bucket, &hook, renewed, report).await?;
    }
    Ok(())
}

/// The attributes of our topic, in the order in which they are sent.
fn attributes(context: &Context<'_>, instance: &SetupInstance) -> Result<Vec<(&'static str, String)>, Failed> {
    let public = context.config.public_url.as_ref();
    let public =
        public.ok_or_else(|| failed(TOPIC, "POSTERN_PUBLIC_URL is not set: Ceph must be told where the sidecar is"))?;
    let s3http = instance.s3http.as_ref();
    let secret = s3http.and_then(|s3http| s3http.secrets.first());
    let secret = secret.ok_or_else(|| {
        failed(TOPIC, "POSTERN_S3HTTP_SECRET is not set: it is the secret part of the URL that Ceph pushes to")
    })?;
    let mut all = vec![
        ("push-endpoint", door::url(public, &format!("/s3/{}", secret.expose()))),
        // Kept and sent again until the sidecar has it; without this a change is lost while the sidecar is away.
        ("persistent", "true".to_owned()),
        ("verify-ssl", "true".to_owned()),
    ];
    match s3http.and_then(|s3http| s3http.auth.as_ref()) {
        Some(S3HttpAuth::OpaqueData(value)) => all.push(("OpaqueData", value.expose().to_owned())),
        None => {}
        Some(_) => {
            return Err(failed(
                TOPIC,
                "POSTERN_S3HTTP_AUTH is of a kind that Ceph cannot send; use opaqueData=VALUE, or remove it",
            ));
        }
    }
    Ok(all)
}

async fn topic(
    context: &Context<'_>,
    s3: &SignedS3,
    instance: &SetupInstance,
    name: &str,
    report: &mut Report<'_>,
) -> Result<(String, bool), Failed> {
    let wanted = attributes(context, instance)?;
    let found = find(s3, name).await?;
    if let Some(found) = &found
        && found.is(&wanted)
    {
        report.step(Verdict::Ok, TOPIC, &found.arn);
        return Ok((found.arn.clone(), false));
    }
    let mut form = vec![("Action".to_owned(), "CreateTopic".to_owned()), ("Name".to_owned(), name.to_owned())];
    // Not one of those that are compared: a topic that somebody gave another pace keeps it.
    let pace = (PACE.0, PACE.1.to_owned());
    for (at, (key, value)) in wanted.iter().chain([&pace]).enumerate() {
        form.push((format!("Attributes.entry.{}.key", at + 1), (*key).to_owned()));
        form.push((format!("Attributes.entry.{}.value", at + 1), value.clone()));
    }
    let verdict = if found.is_some() { Verdict::Change } else { Verdict::Create };
    report.exact(
        "POST / (decoded)",
        &form.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n"),
    );
    let arn = if context.args.dry_run {
        found.map_or_else(|| format!("arn:aws:sns:ZONEGROUP::{name}"), |found| found.arn)
    } else {
        let xml = ask(s3, &form).await.and_then(|answered| answered.success()).map_err(|what| failed(TOPIC, what))?;
        let document =
            roxmltree::Document::parse(&xml).map_err(|_| failed(TOPIC, "the answer to CreateTopic is not XML"))?;
        let node = document.descendants().find(|node| node.tag_name().name() == "TopicArn");
        node.and_then(|node| node.text())
            .map(str::to_owned)
            .ok_or_else(|| failed(TOPIC, "the answer to CreateTopic names no topic"))?
    };
    let url = wanted.first().map_or("", |(_, url)| url.as_str());
    report.step(verdict, TOPIC, &format!("{arn} pushes to {url} and keeps what it cannot deliver"));
    Ok((arn, true))
}

/// A topic as `ListTopics` shows it.
struct Topic {
    arn: String,
    shown: String,
}

impl Topic {
    /// Whether all that is wanted is shown. A release that shows it in another way has its topic made again, which changes nothing.
    fn is(&self, wanted: &[(&'static str, String)]) -> bool {
        let opaque = wanted.iter().any(|(key, _)| *key == "OpaqueData");
        wanted.iter().all(|(key, value)| self.shown.contains(&format!("\n{key}={value}\n")))
            && (opaque || self.shown.contains("\nOpaqueData=\n"))
    }
}

async fn find(s3: &SignedS3, name: &str) -> Result<Option<Topic>, Failed> {
    let form = [("Action".to_owned(), "ListTopics".to_owned())];
    let xml = ask(s3, &form).await.and_then(|answered| answered.success()).map_err(|what| failed(TOPIC, what))?;
    let document =
        roxmltree::Document::parse(&xml).map_err(|_| failed(TOPIC, "the answer to ListTopics is not XML"))?;
    let members = document.descendants().filter(|node| node.tag_name().name() == "member");
    for member in members {
        let text = |name: &str| {
            let node = member.descendants().find(|node| node.tag_name().name() == name);
            node.and_then(|node| node.text()).unwrap_or_default().to_owned()
        };
        let arn = text("TopicArn");
        if arn.rsplit(':').next() == Some(name) {
            let verify = if text("EndpointArgs").contains("verify-ssl=true") { "true" } else { "" };
            let shown = format!(
                "\npush-endpoint={}\n\npersistent={}\n\nverify-ssl={verify}\n\nOpaqueData={}\n",
                text("EndpointAddress"),
                text("Persistent").to_lowercase(),
                text("OpaqueData")
            );
            return Ok(Some(Topic { arn, shown }));
        }
    }
    Ok(None)
}

async fn ask(s3: &SignedS3, form: &[(String, String)]) -> Result<crate::aws::setup::signed::Answered, String> {
    let pair = |(key, value): &(String, String)| {
        format!("{}={}", utf8_percent_encode(key, ENCODED), utf8_percent_encode(value, ENCODED))
    };
    let body = form.iter().map(pair).collect::<Vec<_>>().join("&");
    s3.send(Method::POST, None, "", FORM, body).await
}

/// What the bucket announces. Releases differ in whether a PUT adds or replaces, so that ours is sent with all others.
async fn configuration(s3: &SignedS3, bucket: &str) -> Result<Configuration, Failed> {
    let answered = s3.send(Method::GET, Some(bucket), "notification", XML, String::new()).await;
    let text = answered.and_then(|answered| answered.success());
    let text = text.map_err(|what| {
        failed(NOTIFICATION, format!("those of {bucket} cannot be read, and nothing was changed: {what}"))
    })?;
    let read = Configuration::read(&text, CEPH);
    read.map_err(|what| {
        failed(NOTIFICATION, format!("those of {bucket} are not understood, and nothing was changed: {what}"))
    })
}

async fn notification(
    context: &Context<'_>,
    s3: &SignedS3,
    bucket: &str,
    hook: &Hook,
    renewed: bool,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    let found = configuration(s3, bucket).await?;
    let others = found.others(&hook.id).count();
    let text = format!("{bucket} announces {}; {others} others stay as they are", hook.events.join(", "));
    // A notification keeps a copy of its topic's attributes: a topic that changed needs it made again.
    if found.has(hook, CEPH) && !renewed {
        report.step(Verdict::Ok, NOTIFICATION, &text);
        return Ok(());
    }
    let merged = found.with(hook, CEPH).map_err(|what| failed(NOTIFICATION, what))?;
    let verdict = if found.has_id(&hook.id) { Verdict::Change } else { Verdict::Create };
    report.exact(&format!("PUT /{bucket}?notification"), &merged);
    if !context.args.dry_run {
        if configuration(s3, bucket).await?.text() != found.text() {
            return Err(failed(
                NOTIFICATION,
                format!("those of {bucket} were changed by somebody else at this moment; run this again"),
            ));
        }
        let answered = s3.send(Method::PUT, Some(bucket), "notification", XML, merged).await;
        answered.and_then(|answered| answered.success()).map_err(|what| failed(NOTIFICATION, what))?;
        let after = configuration(s3, bucket).await?;
        if !after.has(hook, CEPH) || after.others(&hook.id).count() < others {
            return Err(failed(NOTIFICATION, format!("after the change {bucket} shows: {}", after.text())));
        }
    }
    report.step(verdict, NOTIFICATION, &text);
    Ok(())
}

async fn remove(
    context: &Context<'_>,
    s3: &SignedS3,
    instance: &SetupInstance,
    id: &str,
    report: &mut Report<'_>,
) -> Result<(), Failed> {
    for bucket in &instance.buckets {
        if !configuration(s3, bucket).await?.has_id(id) {
            report.step(Verdict::Ok, NOTIFICATION, &format!("{bucket} has none called {id}"));
            continue;
        }
        if !context.args.dry_run {
            let query = format!("notification={id}");
            let answered = s3.send(Method::DELETE, Some(bucket), &query, XML, String::new()).await;
            answered.and_then(|answered| answered.success()).map_err(|what| failed(NOTIFICATION, what))?;
        }
        report.step(Verdict::Remove, NOTIFICATION, &format!("{id} of {bucket}; all others stay"));
    }
    let Some(found) = find(s3, id).await? else {
        report.step(Verdict::Ok, TOPIC, &format!("there is none called {id}"));
        return Ok(());
    };
    if !context.args.dry_run {
        let form = [("Action".to_owned(), "DeleteTopic".to_owned()), ("TopicArn".to_owned(), found.arn.clone())];
        ask(s3, &form).await.and_then(|answered| answered.success()).map_err(|what| failed(TOPIC, what))?;
    }
    report.step(Verdict::Remove, TOPIC, &found.arn);
    Ok(())
}
