//! Instances: from the values of one place, the environment or a document, to an [`Instance`].

use std::sync::Arc;

use super::delivery::{CALLBACK, Delivery, SIGNATURE_KEY, delivery};
use super::identity::{Found, MAX_ID, check_name, distinct, name_setting, stable_id};
use super::problem::{Problem, clean, quote};
use super::process::flag;
use super::text::{Wrong, list, number, wrong};
use super::values::{Reader, Values};
use super::{Instance, ObjectFilter, StaticCredentials, buckets, document, settings, topic, ways};
use crate::secret::Secret;

/// What one place says of one instance.
pub(super) struct Draft {
    /// Its configuration keys.
    pub(super) values: Values,
    /// Its name, where it has one of its own.
    pub(super) name: Option<String>,
    /// Its tags.
    pub(super) tags: Vec<String>,
    /// Cloud Elements' default in a document, on in the environment.
    pub(super) enabled_by_default: bool,
    /// Its number, where the operator chose it.
    pub(super) id: Option<u32>,
}

/// What the environment says for all instances.
struct Shared {
    buckets: Vec<String>,
    account_id: u64,
    company_id: u64,
    user_id: u64,
}

const TOPIC: &str = "event.sns.topic.arn";

const VENDOR: &str = "event.vendor.type";
const RECONCILE: &str = "POSTERN_RECONCILE";
const MCS_TOPICS: &str = "POSTERN_MCS_TOPICS";

/// Settings each of which is a way in by itself (hard case 15). Polling is the only other one.
const PUSH: [&str; 4] = [TOPIC, MCS_TOPICS, "POSTERN_S3HTTP_SECRET", "POSTERN_SQS_QUEUE_URL"];

/// Settings after which an instance without a name of its own is called.
const NAMING: [&str; 3] = [TOPIC, MCS_TOPICS, "filemanagement.provider.bucket_name"];

/// What there is to choose from where no way in is set.
const ANY_WAY: &str = "set event.sns.topic.arn, POSTERN_MCS_TOPICS, POSTERN_S3HTTP_SECRET or POSTERN_SQS_QUEUE_URL, or \
                       event.vendor.type=polling with a bucket";

/// All that the environment and the documents make.
pub(super) struct Instances {
    /// The instances themselves.
    pub(super) all: Vec<Arc<Instance>>,
    /// The settings that name MCS buckets, as the operator spelt them.
    pub(super) mcs_topics: Vec<String>,
}

/// More than this is not a sidecar's work, and each costs memory.
const MAX_INSTANCES: usize = 1000;

/// All instances: the environment's own, if it sets a way in, and those of the documents.
pub(super) fn all(env: &Values, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> Instances {
    let mut reader = Reader { values: env, problems };
    let shared = Shared {
        buckets: buckets::allowed(&mut reader, &[]),
        account_id: reader.read("POSTERN_ACCOUNT_ID", any_number).unwrap_or(0),
        company_id: reader.read("POSTERN_COMPANY_ID", any_number).unwrap_or(0),
        user_id: reader.read("POSTERN_USER_ID", any_number).unwrap_or(0),
    };
    let id = reader.read("POSTERN_INSTANCE_ID", |text| number(text, 1, MAX_ID.into()));
    let delivery = delivery(&mut reader, None);
    let name = reader.text("POSTERN_INSTANCE_NAME").map(str::to_owned);
    let tags = reader.text("POSTERN_INSTANCE_TAGS").map(list).unwrap_or_default();

    let mut found: Vec<Found> = Vec::new();
    let mut mcs_topics: Vec<String> = mcs_label(env).into_iter().collect();
    // A vendor type that is no choice counts as well, so that it is looked at.
    let polls = env.get(VENDOR).is_some_and(|given| vendor(&given.text) != Ok(false));
    // Without documents the environment's own is meant, whatever it lacks: all that is wrong with it is said at once.
    if polls || PUSH.iter().any(|name| env.is_set(name)) || !env.is_set("POSTERN_INSTANCES") {
        let id = id.and_then(|id| u32::try_from(id).ok());
        let draft = Draft { values: env.clone(), name, tags, enabled_by_default: true, id };
        let made = build(&draft, delivery.as_ref(), &shared, problems, warnings);
        found.extend(made.map(|made| (String::new(), made)));
    } else {
        let idle: Vec<String> = own().filter(|name| env.is_set(name)).map(|name| env.label(name)).collect();
        if !idle.is_empty() {
            warnings.push(format!("{} has no effect: the environment sets no way in of its own", idle.join(", ")));
        }
    }
    if let Some(given) = env.get("POSTERN_INSTANCES") {
        for draft in document::read(given, &[], problems, warnings) {
            mcs_topics.extend(mcs_label(&draft.values));
            let made = document_instance(&draft, env, delivery.as_ref(), &shared, problems, warnings);
            found.extend(made.map(|made| (draft.values.place.clone(), made)));
            if found.len() > MAX_INSTANCES {
                problems.push(Problem::new(
                    &given.label,
                    format!("there are more than {MAX_INSTANCES} instances"),
                    "spread them over several sidecars",
                ));
                break;
            }
        }
    }
    distinct(&found, problems);
    Instances { all: found.into_iter().map(|(_, instance)| Arc::new(instance)).collect(), mcs_topics }
}

/// Settings that mean nothing without an instance of the environment's own. The callback's and the buckets are defaults of documents.
fn own() -> impl Iterator<Item = &'static str> {
    let shared = |name: &str| {
        let callback = ["event.notification.callback.", "event.notification.basic.", SIGNATURE_KEY];
        name == buckets::BUCKETS || callback.iter().any(|start| name.starts_with(start))
    };
    settings::SETTINGS
        .iter()
        .filter(|setting| setting.is_per_instance())
        .map(|setting| setting.name)
        .filter(move |name| !shared(name))
        .chain(["POSTERN_INSTANCE_NAME", "POSTERN_INSTANCE_TAGS", "POSTERN_INSTANCE_ID"])
}

fn mcs_label(values: &Values) -> Option<String> {
    values.is_set(MCS_TOPICS).then(|| values.label(MCS_TOPICS))
}

/// The element key of MCS S3.
const MCS_ELEMENT: &str = "mcss3";

/// Nothing would ever come in. Reconciliation is no way in by itself: without push it would send everything 15 minutes late.
fn no_way_in(reader: &mut Reader<'_>, is_own: bool) {
    if reader.values.is_set(RECONCILE) {
        reader.refuse(
            RECONCILE,
            "stands beside push, and no push is set",
            "to learn of changes by listing alone, set event.vendor.type=polling and event.poller.refresh_interval instead",
        );
    } else {
        let others = if is_own { "another way in, nor POSTERN_INSTANCES" } else { "another way in" };
        reader.refuse(TOPIC, format!("is not set, and neither is {others}: nothing would be accepted"), ANY_WAY);
    }
}

fn reader_of<'a>(values: &'a Values, problems: &'a mut Vec<Problem>) -> Reader<'a> {
    Reader { values, problems }
}

/// An instance of a document. Without a callback of its own it takes the environment's, and only then its proof as well: a key must
/// not sign what goes to a callback it was not given for.
fn document_instance(
    draft: &Draft,
    env: &Values,
    inherited: Option<&Delivery>,
    shared: &Shared,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<Instance> {
    let mut reader = reader_of(&draft.values, problems);
    if !draft.values.is_set(CALLBACK) && !env.is_set(CALLBACK) {
        reader.refuse(
            CALLBACK,
            "is not set, here or in the environment",
            "set where events go, such as http://localhost:3000/events",
        );
    }
    let inherited = if draft.values.is_set(CALLBACK) { None } else { inherited };
    let delivery = delivery(&mut reader, inherited);
    build(draft, delivery.as_ref(), shared, problems, warnings)
}

/// Everything of an instance. All of its settings are read even when one is refused.
fn build(
    draft: &Draft,
    delivery: Option<&Delivery>,
    shared: &Shared,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) -> Option<Instance> {
    let values = &draft.values;
    let mut reader = reader_of(values, problems);
    let before = reader.problems.len();
    if values.place.is_empty() && !values.is_set(CALLBACK) {
        reader.refuse(CALLBACK, "is not set", "set where events go, such as http://localhost:3000/events");
    }
    let vendor_type = reader.read(VENDOR, vendor);
    let polling = vendor_type.unwrap_or(false);
    let enabled = flag(&mut reader, "event.notification.enabled").unwrap_or(draft.enabled_by_default);
    // A poller sees what the topic would announce, so a topic that was left standing beside it is of no use, and no danger.
    let idle_topic = polling && values.is_set(TOPIC);
    let push = PUSH.into_iter().find(|name| values.is_set(name) && !(idle_topic && *name == TOPIC));
    let vendor_refused = values.is_set(VENDOR) && vendor_type.is_none();
    let is_own = values.place.is_empty();
    if (enabled || is_own) && push.is_none() && !polling && !vendor_refused {
        no_way_in(&mut reader, is_own);
    }
    let mut topics = topics(&mut reader);
    let mcs_topics = ways::mcs_topics(&mut reader);
    let s3http = ways::s3http(&mut reader, warnings);
    let sqs = ways::sqs(&mut reader, values.is_set(TOPIC), warnings);
    let bucket =
        reader.read("filemanagement.provider.bucket_name", |text| buckets::check(text).map(|()| text.to_owned()));
    let allowed = buckets::allowed(&mut reader, &shared.buckets);
    let about = buckets::about(&allowed, bucket.as_deref(), &mcs_topics);
    for topic in mcs_topics.iter().filter(|topic| !about.contains(&topic.bucket)) {
        warnings.push(format!(
            "{} does not allow the bucket {} of {}: its events are dropped",
            reader.values.label(buckets::BUCKETS),
            quote(&topic.bucket),
            reader.values.label(MCS_TOPICS)
        ));
    }
    let asked = ways::Asked { polling, push, allowed: &allowed, buckets: &about };
    let listing = ways::listing(&mut reader, &asked, warnings);
    let listed = listing.as_ref().and_then(|listing| listing.buckets.first());
    let name = draft
        .name
        .clone()
        .or_else(|| topics.first().map(|arn| topic::name_of(arn).to_owned()))
        .or_else(|| mcs_topics.first().map(|topic| topic.bucket.clone()))
        .or_else(|| bucket.clone())
        .or_else(|| listed.cloned());
    let name = match name.map(|name| check_name(&name).map(|()| name)) {
        Some(Ok(name)) => Some(name),
        Some(Err((what, advice))) => {
            reader.refuse(name_setting(values), what, advice);
            None
        }
        // What would have named it was refused already, or nothing comes in that could tell what to call it.
        None if (push.is_none() && listing.is_none()) || NAMING.iter().any(|name| values.is_set(name)) => None,
        None => {
            reader.refuse(
                name_setting(values),
                "is not set, and there is no topic or bucket to name the instance after",
                "set it; the store knows the instance by it, so choose one that stays",
            );
            None
        }
    };
    if draft.tags.len() > 50 || draft.tags.iter().any(|tag| check_name(tag).is_err()) {
        let setting = if values.place.is_empty() { "POSTERN_INSTANCE_TAGS" } else { "tags" };
        reader.refuse(
            setting,
            "there are more than 50 tags, or one is longer than 200 characters or holds a control character",
            "shorten them",
        );
    }
    // Only where MCS alone pushes is it certain that the events are its own.
    let is_mcs = push == Some(MCS_TOPICS) && s3http.is_none() && sqs.is_none();
    let default_key = if is_mcs { MCS_ELEMENT } else { "amazons3" };
    let given_key = reader.read("element.key", element_key);
    let mcs_element_key = given_key.clone().unwrap_or_else(|| MCS_ELEMENT.to_owned());
    let element_key = given_key.unwrap_or_else(|| default_key.to_owned());
    let objects = reader.read("event.objects", ObjectFilter::parse).unwrap_or_default();
    let filter_nulls = flag(&mut reader, "filter.response.nulls");
    let validate = flag(&mut reader, "validate.instance").unwrap_or(false);
    let credentials = credentials(&mut reader);
    let region = reader.read("filemanagement.provider.region_name", region);
    let accepted = buckets::accepted(allowed, about, bucket.is_some(), listing.as_ref());
    if reader.problems.len() > before {
        return None;
    }
    let (name, delivery) = (name?, delivery?);
    if idle_topic {
        topics.clear();
        warnings.push(format!(
            "instance {}: {} has no effect, because event.vendor.type is polling; for the topic with a listing of what it missed, \
             use webhooks and POSTERN_RECONCILE",
            quote(&name),
            values.label(TOPIC)
        ));
    }
    warn(&name, enabled, delivery, credentials.as_ref(), warnings);
    Some(Instance {
        id: draft.id.unwrap_or_else(|| stable_id(&name)),
        name: name.into(),
        account_id: shared.account_id,
        company_id: shared.company_id,
        user_id: shared.user_id,
        element_key,
        mcs_element_key,
        tags: draft.tags.clone(),
        enabled,
        topics,
        mcs_topics,
        s3http,
        sqs,
        listing,
        callback: delivery.callback.clone(),
        signature_keys: delivery.signature_keys.clone(),
        headers: delivery.headers.clone(),
        basic: delivery.basic.clone(),
        objects,
        filter_nulls,
        validate,
        credentials,
        bucket,
        region,
        buckets: accepted,
    })
}

fn warn(
    name: &str,
    enabled: bool,
    delivery: &Delivery,
    credentials: Option<&StaticCredentials>,
    warnings: &mut Vec<String>,
) {
    let name = quote(name);
    if !enabled {
        warnings
            .push(format!("instance {name} is disabled: it accepts nothing until event.notification.enabled is true"));
    }
    if delivery.signature_keys.is_empty() {
        warnings.push(format!(
            "instance {name} has no {SIGNATURE_KEY}: the app cannot tell its callbacks from forged ones"
        ));
    }
    if delivery.signature_keys.iter().any(|key| key.expose().trim() != key.expose()) {
        warnings.push(format!(
            "instance {name}: {SIGNATURE_KEY} begins or ends with a blank or line break, which is part of the key"
        ));
    }
    if delivery.callback.is_exposed() {
        warnings.push(format!(
            "instance {name}: callbacks to {} cross the network as plain HTTP",
            clean(&delivery.callback.to_string(), 200)
        ));
    }
    if credentials.is_some() && cfg!(not(feature = "aws")) {
        warnings.push(format!("instance {name}: this build has no AWS client and does not use the credentials"));
    }
}

fn topics(reader: &mut Reader<'_>) -> Vec<String> {
    const NAME: &str = "event.sns.topic.name";
    if !reader.values.is_set(TOPIC) {
        return Vec::new();
    }
    let Some(text) = reader.text(TOPIC) else { return Vec::new() };
    match topic::topics(text) {
        Ok(topics) if topics.is_empty() => {
            reader.refuse(TOPIC, "holds no topic", "set the ARN of its topic");
            topics
        }
        Ok(topics) => {
            reader.read(NAME, |names| topic::check_names(names, &topics));
            topics
        }
        Err(problems) => {
            problems.into_iter().for_each(|(what, advice)| reader.refuse(TOPIC, what, advice));
            Vec::new()
        }
    }
}

pub(super) fn credentials(reader: &mut Reader<'_>) -> Option<StaticCredentials> {
    const KEYS: [&str; 2] = ["filemanagement.provider.access_key", "filemanagement.provider.secret_key"];
    reader.together(KEYS[0], KEYS[1]);
    let [access_key, secret_key] = KEYS.map(|name| {
        reader.read(name, |text| {
            if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
                return wrong("the value holds a blank or line break", "AWS keys have none");
            }
            Ok(text.to_owned())
        })
    });
    Some(StaticCredentials { access_key: access_key?, secret_key: Secret::new(secret_key?) })
}

/// Whether changes are learnt of by polling.
fn vendor(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "webhook" | "webhooks" => Ok(false),
        "polling" => Ok(true),
        _ => wrong(format!("{} is not a choice", quote(text)), "use webhooks or polling"),
    }
}

fn element_key(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= 64 && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'));
    if fits {
        Ok(text.to_owned())
    } else {
        wrong(format!("{} is not an element key", quote(text)), "use letters and digits, such as amazons3")
    }
}

pub(super) fn region(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= 40 && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        wrong(format!("{} is not a region", quote(text)), "use one such as eu-central-1")
    }
}

fn any_number(text: &str) -> Result<u64, Wrong> {
    number(text, 0, i64::MAX.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_that_cannot_be_are_refused() {
        assert!(region("eu-central-1").is_ok());
        assert!(region("EU (Frankfurt)").is_err());
    }
}
