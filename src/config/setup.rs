//! What `postern setup` reads of a sidecar's settings, leniently: a laptop has neither its TLS files nor, perhaps, a callback.

use url::Url;

use super::callback::http_url;
use super::env::{Environment, values};
use super::network::is_acceptable_endpoint;
use super::problem::{Problem, quote, quote_url};
use super::text::{boolean, list, wrong};
use super::values::{Reader, Values};
use super::{Basic, McsEndpoint, McsTopic, ObjectFilter, S3Config, S3HttpConfig, StaticCredentials};
use super::{buckets, document, instance, process, settings, topic, ways};

/// What is to be set up, and through what.
#[derive(Debug)]
pub struct SetupConfig {
    /// The URL by which producers reach the sidecar (`POSTERN_PUBLIC_URL`).
    pub public_url: Option<Url>,
    /// Which S3 holds the buckets.
    pub s3: S3Config,
    /// An SNS other than Amazon's (`POSTERN_SNS_ENDPOINT_URL`); its SQS is asked there too.
    pub sns_endpoint: Option<Url>,
    /// Credentials that SNS must send to the sidecar, part of the subscribed URL.
    pub sns_basic: Option<Basic>,
    /// URLs of MCS S3 webhooks (hard case 14); the first is registered.
    pub mcs: Vec<McsEndpoint>,
    /// The relays.
    pub instances: Vec<SetupInstance>,
}

/// What setup needs to know of one instance.
#[derive(Debug)]
pub struct SetupInstance {
    /// Its name, as the sidecar has it.
    pub name: String,
    /// Topic ARNs (`event.sns.topic.arn`).
    pub topics: Vec<String>,
    /// A topic's name without its ARN: it is found or made (`event.sns.topic.name`).
    pub topic_name: Option<String>,
    /// The bucket, or those of `POSTERN_BUCKETS`.
    pub buckets: Vec<String>,
    /// Region of bucket and topic.
    pub region: Option<String>,
    /// Static credentials; without them the default chain.
    pub credentials: Option<StaticCredentials>,
    /// Which events are wanted.
    pub objects: ObjectFilter,
    /// MCS projects and buckets.
    pub mcs_topics: Vec<McsTopic>,
    /// Bare S3 records over HTTP.
    pub s3http: Option<S3HttpConfig>,
}

/// Reads what `postern setup` needs; other settings are not looked at.
///
/// # Errors
/// What is wrong with these settings; no message holds a secret.
pub fn setup(env: &dyn Environment) -> Result<SetupConfig, Vec<Problem>> {
    // Unknown names are the business of `serve` and `doctor`; a secret that setup works with and that cannot be read is ours.
    let mut problems = Vec::new();
    let values = values(env, &mut problems);
    problems.retain(|problem| problem.name.split(" and ").any(is_secret_of_ours));
    let mut reader = Reader { values: &values, problems: &mut problems };
    let public_url = reader.read("POSTERN_PUBLIC_URL", http_url);
    let sns_endpoint = reader.read("POSTERN_SNS_ENDPOINT_URL", |text| {
        let url = http_url(text)?;
        if is_acceptable_endpoint(&url) {
            return Ok(url);
        }
        wrong(format!("{} is plain HTTP to another machine", quote_url(text)), "use https, or a loopback host")
    });
    let s3 = S3Config {
        endpoint: reader.read("POSTERN_S3_ENDPOINT_URL", http_url),
        path_style: reader.read("POSTERN_S3_PATH_STYLE", boolean).unwrap_or(false),
    };
    let sns_basic = process::basic(&mut reader, "POSTERN_SNS_BASIC_USERNAME", "POSTERN_SNS_BASIC_PASSWORD");
    // Whose webhooks are accepted is the sidecar's affair: one that is told a URL is taken to have some.
    let told = ["POSTERN_MCS_SECRET", "POSTERN_MCS_URL"].into_iter().filter(|name| values.is_set(name));
    let accepted: Vec<String> = told.map(str::to_owned).collect();
    let mcs = ways::mcs_endpoints(&mut reader, &accepted, &mut Vec::new());
    let shared = buckets::allowed(&mut reader, &[]);
    let name = reader.text("POSTERN_INSTANCE_NAME").map(str::to_owned);
    let mut instances = Vec::new();
    if OWN.iter().any(|name| values.is_set(name)) {
        instances.extend(one(&values, name, &shared, &mut problems));
    }
    if let Some(given) = values.get("POSTERN_INSTANCES") {
        for draft in document::read(given, &UNREAD, &mut problems, &mut Vec::new()) {
            instances.extend(one(&draft.values, draft.name, &shared, &mut problems));
        }
    }
    if problems.is_empty() {
        return Ok(SetupConfig { public_url, s3, sns_endpoint, sns_basic, mcs, instances });
    }
    problems.sort_by(|a, b| (&a.name, &a.problem).cmp(&(&b.name, &b.problem)));
    problems.dedup();
    Err(problems)
}

/// Settings of the callback: what is not delivered is not signed, and the files with these secrets stay where the sidecar is.
const UNREAD: [&str; 5] = [
    "event.notification.callback.url",
    "event.notification.signature.key",
    "event.notification.callback.headers",
    "event.notification.basic.username",
    "event.notification.basic.password",
];

/// Whether a variable holds, or names the file of, a secret that setup works with.
fn is_secret_of_ours(variable: &str) -> bool {
    let setting = settings::find(variable).or_else(|| settings::find(variable.strip_suffix("_FILE")?));
    setting.is_some_and(|setting| {
        setting.secret && setting.name != "POSTERN_ADMIN_TOKEN" && !UNREAD.contains(&setting.name)
    })
}

/// Settings that make an instance of the environment's own, here.
const OWN: [&str; 4] = ["event.sns.topic.arn", "event.sns.topic.name", "POSTERN_MCS_TOPICS", "POSTERN_S3HTTP_SECRET"];

fn one(values: &Values, name: Option<String>, shared: &[String], problems: &mut Vec<Problem>) -> Option<SetupInstance> {
    let mut reader = Reader { values, problems };
    let before = reader.problems.len();
    let topic_name = reader.read("event.sns.topic.name", |text| {
        let names = list(text);
        match names.as_slice() {
            [name] if is_topic_name(name) => Ok(name.clone()),
            [_, _, ..] => Ok(String::new()),
            _ => wrong(
                format!("{} is not the name of a standard topic", quote(text)),
                "use up to 256 letters, digits, - and _; S3 cannot publish to a .fifo topic",
            ),
        }
    });
    let mut topics = Vec::new();
    if let Some(text) = reader.text("event.sns.topic.arn") {
        match topic::topics(text) {
            Ok(found) => topics = found,
            Err(wrongs) => {
                wrongs.into_iter().for_each(|(what, advice)| reader.refuse("event.sns.topic.arn", what, advice));
            }
        }
    }
    let mcs_topics = ways::mcs_topics(&mut reader);
    let s3http = ways::s3http(&mut reader, &mut Vec::new());
    let objects = reader.read("event.objects", ObjectFilter::parse).unwrap_or_default();
    let credentials = instance::credentials(&mut reader);
    let bucket =
        reader.read("filemanagement.provider.bucket_name", |text| buckets::check(text).map(|()| text.to_owned()));
    let region = reader.read("filemanagement.provider.region_name", instance::region);
    if reader.problems.len() > before {
        return None;
    }
    let topic_name = topic_name.filter(|name| topics.is_empty() && !name.is_empty());
    let name = name
        .or_else(|| topics.first().map(|arn| topic::name_of(arn).to_owned()))
        .or_else(|| topic_name.clone())
        .or_else(|| mcs_topics.first().map(|topic| topic.bucket.clone()))
        .or_else(|| bucket.clone())
        .unwrap_or_else(|| "postern".to_owned());
    let allowed = buckets::allowed(&mut Reader { values, problems }, shared);
    let buckets = buckets::about(&allowed, bucket.as_deref(), &mcs_topics);
    Some(SetupInstance { name, topics, topic_name, buckets, region, credentials, objects, mcs_topics, s3http })
}

fn is_topic_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    (1..=256).contains(&name.len()) && name.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<SetupConfig, Vec<Problem>> {
        let env: BTreeMap<String, String> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        setup(&env)
    }

    #[test]
    fn a_laptop_needs_neither_tls_files_nor_a_callback() {
        let config = read(&[
            ("EVENT_SNS_TOPIC_NAME", "uploads"),
            ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
            ("FILEMANAGEMENT_PROVIDER_REGION_NAME", "eu-central-1"),
            ("POSTERN_PUBLIC_URL", "https://hooks.example.com"),
            ("POSTERN_SOME_NEWER_SETTING", "x"),
        ])
        .expect("enough for setup");
        let instance = &config.instances[0];
        assert_eq!((instance.name.as_str(), instance.topic_name.as_deref()), ("uploads", Some("uploads")));
        assert_eq!(instance.buckets, ["photos"]);
        assert_eq!(instance.region.as_deref(), Some("eu-central-1"));
    }

    /// Once a document whose signature key stands in a file needed that file, and also its callback's other secrets.
    #[test]
    fn a_document_needs_no_file_of_the_callback_and_each_that_setup_uses() {
        let folder = tempfile::tempdir().expect("a folder");
        let document = |keys: &str| {
            let path = folder.path().join("instance.json");
            let text = format!(
                r#"{{"name":"photos","configuration":{{"event.sns.topic.name":"uploads","filemanagement.provider.bucket_name":"photos",
                "event.notification.signature.key_FILE":"/run/secrets/nowhere/key","event.notification.basic.password_FILE":"/nowhere",
                "event.notification.callback.headers_FILE":"/nowhere","event.notification.callback.url":"nonsense"{keys}}}}}"#
            );
            std::fs::write(&path, text).expect("a file");
            read(&[("POSTERN_INSTANCES", path.to_str().expect("a path"))])
        };
        let config = document("").expect("enough for setup");
        assert_eq!(config.instances[0].name, "photos");
        let keys = r#","filemanagement.provider.access_key":"AKIDEXAMPLE","filemanagement.provider.secret_key_FILE":"/nowhere""#;
        let problems = document(keys).expect_err("the key is needed");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("secret_key_FILE"), "{problems:?}");
    }

    /// Once such a secret was taken for unset: setup went on with whatever credentials the default chain had.
    #[test]
    fn an_unreadable_secret_of_the_environment_is_told_unless_setup_has_no_use_for_it() {
        let config = read(&[
            ("EVENT_SNS_TOPIC_NAME", "uploads"),
            ("EVENT_NOTIFICATION_SIGNATURE_KEY_FILE", "/nowhere"),
            ("POSTERN_ADMIN_TOKEN_FILE", "/nowhere"),
            ("POSTERN_LISTEN_FILE", "/nowhere"),
        ]);
        assert!(config.is_ok(), "{config:?}");
        for name in ["FILEMANAGEMENT_PROVIDER_SECRET_KEY", "POSTERN_SNS_BASIC_PASSWORD", "POSTERN_MCS_SECRET"] {
            let mut pairs =
                vec![("EVENT_SNS_TOPIC_NAME", "uploads"), ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDEXAMPLE")];
            let file = format!("{name}_FILE");
            pairs.push((&file, "/nowhere"));
            let problems = read(&pairs).expect_err("it is needed");
            assert!(problems.iter().any(|problem| problem.name == file), "{problems:?}");
        }
    }

    #[test]
    fn an_arn_wins_over_a_name_and_a_fifo_topic_is_refused() {
        let arn = "arn:aws:sns:eu-central-1:123456789012:uploads";
        let config = read(&[("EVENT_SNS_TOPIC_ARN", arn), ("EVENT_SNS_TOPIC_NAME", "uploads")]).expect("both");
        assert_eq!(
            (config.instances[0].topics.as_slice(), &config.instances[0].topic_name),
            (&[arn.to_owned()][..], &None)
        );
        let problems = read(&[("EVENT_SNS_TOPIC_NAME", "uploads.fifo")]).expect_err("FIFO");
        assert!(problems[0].to_string().contains("fifo"), "{problems:?}");
    }

    #[test]
    fn problems_hold_no_secret() {
        let problems = read(&[
            ("POSTERN_MCS_TOPICS", "nonsense"),
            ("POSTERN_MCS_SECRET", "hush-hush-hush-hush"),
            ("POSTERN_SNS_BASIC_PASSWORD", "hush-hush"),
            ("EVENT_SNS_TOPIC_ARN", "arn:x"),
        ])
        .expect_err("several things are wrong");
        assert!(problems.len() >= 4, "{problems:?}");
        assert!(!format!("{problems:?}").contains("hush"), "{problems:?}");
    }
}
