//! Instances: from the values of one place, the environment or a document, to an [`Instance`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::delivery::{CALLBACK, Delivery, SIGNATURE_KEY, delivery};
use super::problem::{Problem, clean, quote};
use super::process::flag;
use super::text::{Wrong, list, number, wrong};
use super::values::{Reader, Values};
use super::{Instance, ObjectFilter, StaticCredentials, document, topic, ways};
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

/// Settings each of which makes an instance of the environment's own, besides its topic (hard case 15).
const WAYS: [&str; 5] = [
    "POSTERN_MCS_TOPICS",
    "POSTERN_S3HTTP_SECRET",
    "POSTERN_SQS_QUEUE_URL",
    "POSTERN_RECONCILE",
    "event.poller.configuration",
];

/// Settings that mean nothing without an instance of the environment's own. The callback's are defaults of documents.
const OWN: [&str; 14] = [
    "event.notification.enabled",
    "event.vendor.type",
    "event.objects",
    "filter.response.nulls",
    "validate.instance",
    "filemanagement.provider.access_key",
    "filemanagement.provider.secret_key",
    "filemanagement.provider.bucket_name",
    "filemanagement.provider.region_name",
    "element.key",
    "event.sns.topic.name",
    "POSTERN_INSTANCE_NAME",
    "POSTERN_INSTANCE_TAGS",
    "POSTERN_INSTANCE_ID",
];

/// More than this is not a sidecar's work, and each costs memory.
const MAX_INSTANCES: usize = 1000;

/// All instances: the environment's own, if it sets a topic, and those of the documents.
pub(super) fn all(env: &Values, problems: &mut Vec<Problem>, warnings: &mut Vec<String>) -> Vec<Arc<Instance>> {
    let mut reader = Reader { values: env, problems };
    let shared = Shared {
        buckets: reader.read("POSTERN_BUCKETS", buckets).unwrap_or_default(),
        account_id: reader.read("POSTERN_ACCOUNT_ID", any_number).unwrap_or(0),
        company_id: reader.read("POSTERN_COMPANY_ID", any_number).unwrap_or(0),
        user_id: reader.read("POSTERN_USER_ID", any_number).unwrap_or(0),
    };
    // Ids are 31 bits wide, as positive integers of Java are.
    let id = reader.read("POSTERN_INSTANCE_ID", |text| number(text, 1, MAX_ID.into()));
    let delivery = delivery(&mut reader, None);
    let name = reader.text("POSTERN_INSTANCE_NAME").map(str::to_owned);
    let tags = reader.text("POSTERN_INSTANCE_TAGS").map(list).unwrap_or_default();

    let mut found = Vec::new();
    if env.is_set(TOPIC) || WAYS.iter().any(|name| env.is_set(name)) {
        let id = id.and_then(|id| u32::try_from(id).ok());
        let draft = Draft { values: env.clone(), name, tags, enabled_by_default: true, id };
        found
            .extend(build(&draft, delivery.as_ref(), &shared, problems, warnings).map(|made| (TOPIC.to_owned(), made)));
    } else if env.is_set("POSTERN_INSTANCES") {
        let idle: Vec<String> = OWN.iter().filter(|name| env.is_set(name)).map(|name| env.label(name)).collect();
        if !idle.is_empty() {
            warnings.push(format!("{} has no effect: the environment sets no {TOPIC} of its own", idle.join(", ")));
        }
    } else {
        reader_of(env, problems).refuse(
            TOPIC,
            "is not set, and neither is POSTERN_INSTANCES, so that nothing would be accepted",
            "set one of them",
        );
        if !env.is_set(CALLBACK) {
            reader_of(env, problems).refuse(CALLBACK, "is not set", "set the URL at which the app takes events");
        }
    }
    if let Some(given) = env.get("POSTERN_INSTANCES") {
        for draft in document::read(given, problems, warnings) {
            let place = draft.values.label("name");
            found.extend(
                document_instance(&draft, env, delivery.as_ref(), &shared, problems, warnings)
                    .map(|made| (place, made)),
            );
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
    found.into_iter().map(|(_, instance)| Arc::new(instance)).collect()
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
    let polling = reader.read("event.vendor.type", vendor).unwrap_or(false);
    let enabled = flag(&mut reader, "event.notification.enabled").unwrap_or(draft.enabled_by_default);
    let topics = topics(&mut reader);
    let mcs_topics = ways::mcs_topics(&mut reader);
    let s3http = ways::s3http(&mut reader);
    let sqs = ways::sqs(&mut reader);
    let bucket_name = reader.text("filemanagement.provider.bucket_name").map(str::to_owned);
    let name = draft
        .name
        .clone()
        .or_else(|| topics.first().map(|arn| topic::name_of(arn).to_owned()))
        .or_else(|| mcs_topics.first().map(|topic| topic.bucket.clone()))
        .or(bucket_name);
    let name = match name.map(|name| check_name(&name).map(|()| name)) {
        Some(Ok(name)) => Some(name),
        Some(Err((what, advice))) => {
            reader.refuse(name_setting(values), what, advice);
            None
        }
        None if topics.is_empty() && values.is_set(TOPIC) => None,
        None => {
            reader.refuse(
                name_setting(values),
                "is not set, and there is no topic to name the instance after",
                "set it",
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
    let element_key = reader.read("element.key", element_key).unwrap_or_else(|| "amazons3".to_owned());
    let objects = reader.read("event.objects", ObjectFilter::parse).unwrap_or_default();
    let filter_nulls = flag(&mut reader, "filter.response.nulls");
    let validate = flag(&mut reader, "validate.instance").unwrap_or(false);
    let credentials = credentials(&mut reader);
    let bucket = reader.read("filemanagement.provider.bucket_name", |text| bucket(text).map(|()| text.to_owned()));
    let region = reader.read("filemanagement.provider.region_name", region);
    let buckets = if shared.buckets.is_empty() { bucket.iter().cloned().collect() } else { shared.buckets.clone() };
    let listing = ways::listing(&mut reader, polling, &buckets);
    if reader.problems.len() > before {
        return None;
    }
    let (name, delivery) = (name?, delivery?);
    warn(&name, enabled, delivery, credentials.as_ref(), warnings);
    Some(Instance {
        id: draft.id.unwrap_or_else(|| stable_id(&name)),
        name: name.into(),
        account_id: shared.account_id,
        company_id: shared.company_id,
        user_id: shared.user_id,
        element_key,
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
        buckets,
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

fn credentials(reader: &mut Reader<'_>) -> Option<StaticCredentials> {
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

fn region(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= 40 && text.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        wrong(format!("{} is not a region", quote(text)), "use one such as eu-central-1")
    }
}

fn bucket(text: &str) -> Result<(), Wrong> {
    // Old buckets have upper case and underscores, and other stores have rules of their own: this only catches what no bucket can be.
    let fits = text.len() <= 255 && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
    if fits {
        Ok(())
    } else {
        wrong(format!("{} is not a bucket's name", quote(text)), "use the name alone, without s3:// and path")
    }
}

fn buckets(text: &str) -> Result<Vec<String>, Wrong> {
    let buckets = list(text);
    buckets.iter().try_for_each(|name| bucket(name))?;
    Ok(buckets)
}

fn any_number(text: &str) -> Result<u64, Wrong> {
    number(text, 0, i64::MAX.unsigned_abs())
}

fn name_setting(values: &Values) -> &'static str {
    if values.place.is_empty() { "POSTERN_INSTANCE_NAME" } else { "name" }
}

fn check_name(name: &str) -> Result<(), Wrong> {
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return wrong("is not 1 to 200 characters without control characters", "use a shorter one");
    }
    Ok(())
}

/// The largest id.
const MAX_ID: u32 = i32::MAX as u32;

/// An instance's number where none is chosen: 31 bits of the SHA-256 of its name, and never 0 (hard case 11).
fn stable_id(name: &str) -> u32 {
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let leading = digest.as_ref().iter().take(4).fold(0_u32, |id, byte| (id << 8) | u32::from(*byte));
    (leading & MAX_ID).max(1)
}

/// Names and ids must tell instances apart: the store knows them by the one, consumers by the other.
fn distinct(found: &[(String, Instance)], problems: &mut Vec<Problem>) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ids: BTreeMap<u32, &str> = BTreeMap::new();
    for (place, instance) in found {
        if let Some(first) = names.insert(&instance.name, place) {
            problems.push(Problem::new(
                place,
                format!("the name {} is also that of {first}", quote(&instance.name)),
                "give each instance a name of its own",
            ));
        } else if let Some(first) = ids.insert(instance.id, &instance.name) {
            problems.push(Problem::new(
                place,
                format!("the id {} is also that of the instance {}", instance.id, quote(first)),
                "rename one of them, or set POSTERN_INSTANCE_ID for the environment's",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_stable_and_positive_in_31_bits() {
        // The first four bytes of the SHA-256, as sha256sum prints them. Consumers store these numbers: they never change.
        assert_eq!(stable_id("uploads"), 0x9ba8_8c41 & 0x7fff_ffff);
        assert_eq!(stable_id(""), 0xe3b0_c442 & 0x7fff_ffff);
    }

    #[test]
    fn buckets_and_regions_that_cannot_be_are_refused() {
        assert!(bucket("my.Bucket_1-x").is_ok());
        for bad in ["s3://b", "b/c", "a b"] {
            assert!(bucket(bad).is_err(), "{bad}");
        }
        assert!(region("eu-central-1").is_ok());
        assert!(region("EU (Frankfurt)").is_err());
    }
}
