//! The one table of every setting: what the loader accepts, what `serve --help` prints and what the README shows.

use std::fmt::Write as _;

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name: `POSTERN_…`, or the dotted key of an instance configuration.
    pub name: &'static str,
    /// Its default as text; empty where there is none.
    pub default: &'static str,
    /// What it means, in one line.
    pub meaning: &'static str,
    /// Whether its value is never shown; such a setting can also come from a file, by its name with `_FILE`.
    pub secret: bool,
    /// Whether it is one of ours that an instance document may hold nevertheless.
    own: bool,
    /// Whether this version has what it sets; one that it has not is refused and never silently ignored.
    pub available: bool,
}

impl Setting {
    /// The name for shells: `event.sns.topic.arn` is `EVENT_SNS_TOPIC_ARN`. The settings that are ours have this form already.
    pub fn shell_name(&self) -> String {
        self.name.replace('.', "_").to_ascii_uppercase()
    }

    /// Whether it is a key of Cloud Elements' instance configurations, which has two spellings.
    pub fn is_instance_key(&self) -> bool {
        self.name.contains('.')
    }

    /// Whether an instance document may hold it; in the environment it is then of the environment's own instance.
    pub fn is_per_instance(&self) -> bool {
        self.own || self.is_instance_key()
    }
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default, meaning, secret: false, own: false, available: true }
}

const fn secret(name: &'static str, meaning: &'static str) -> Setting {
    Setting { name, default: "", meaning, secret: true, own: false, available: true }
}

/// One of ours that an instance document may hold.
const fn own(setting: Setting) -> Setting {
    Setting { own: true, ..setting }
}

/// Every setting, in the order in which people read about them.
pub const SETTINGS: &[Setting] = &[
    plain(
        "event.notification.enabled",
        "true",
        "whether the instance accepts anything; off, it still delivers what it owes. In a document the default is false",
    ),
    plain(
        "event.vendor.type",
        "webhooks",
        "how changes are learnt of: `webhooks` (or `webhook`), or `polling`: the bucket is listed",
    ),
    plain("event.sns.topic.arn", "", "the only topic that is accepted; several are comma-separated"),
    plain("event.sns.topic.name", "", "the topic's name; must be the last part of the ARN"),
    plain("event.notification.callback.url", "", "where events go: http, https or `unix:/path.sock:/http/path`"),
    secret(
        "event.notification.signature.key",
        "signs callbacks; its file may hold two keys, one a line, during a rotation",
    ),
    secret("event.notification.callback.headers", "extra headers of the callback, as a JSON object of strings"),
    plain("event.notification.basic.username", "", "Basic authentication of the callback; needs the password"),
    secret("event.notification.basic.password", "the password to it"),
    plain(
        "event.objects",
        "",
        "which events are wanted, comma-separated: `file`, `folder`, events such as `s3:ObjectCreated:*`, key globs such as `key:images/**/*.png`",
    ),
    plain(
        "event.poller.configuration",
        "",
        "what is listed when polling, a JSON object: `bucket` and `prefix` (each one or a list), `pageSize` (1 to 1000)",
    ),
    plain(
        "event.poller.refresh_interval",
        "15",
        "from one listing to the next when polling: minutes, or a duration such as `30s`",
    ),
    plain("filter.response.nulls", "", "true: no null members in what is delivered"),
    plain(
        "validate.instance",
        "false",
        "true: check credentials and bucket at start, and stay not-ready with the reason",
    ),
    secret(
        "filemanagement.provider.access_key",
        "static AWS credentials; without them the default chain (IRSA, pod identity, profile)",
    ),
    secret("filemanagement.provider.secret_key", "the secret access key to it"),
    plain("filemanagement.provider.bucket_name", "", "the bucket"),
    plain("filemanagement.provider.region_name", "", "the bucket's region"),
    plain("element.key", "amazons3; mcss3 for what MCS S3 announces", "the element key in the envelope"),
    plain("POSTERN_INSTANCE_NAME", "the topic's or bucket's name", "name of the environment's instance"),
    plain("POSTERN_INSTANCE_TAGS", "", "its tags, comma-separated"),
    plain("POSTERN_INSTANCE_ID", "a stable hash of the name", "its number in the envelope"),
    plain("POSTERN_ACCOUNT_ID", "0", "`accountId` in the envelope, of all instances"),
    plain("POSTERN_COMPANY_ID", "0", "`companyId` in the envelope, of all instances"),
    plain("POSTERN_USER_ID", "0", "`userId` in the envelope, of all instances"),
    plain(
        "POSTERN_INSTANCES",
        "",
        "a file or folder of instance documents, besides or instead of the environment's instance",
    ),
    own(plain(
        "POSTERN_BUCKETS",
        "the instance's bucket, else any",
        "buckets whose events are accepted, comma-separated; in the environment for all instances, in a document for its own",
    )),
    plain("POSTERN_LISTEN", "0.0.0.0:8443", "the intake listener"),
    plain("POSTERN_TLS", "on", "`off`: plain HTTP behind an ingress; `on` needs the next two"),
    plain("POSTERN_TLS_CERT_FILE", "", "PEM chain of the listener, leaf first; reloaded when it changes"),
    plain("POSTERN_TLS_KEY_FILE", "", "PEM private key to it; reloaded when it changes"),
    plain("POSTERN_PUBLIC_URL", "", "the URL by which producers reach us, exactly as registered"),
    plain("POSTERN_TRUSTED_PROXIES", "", "address ranges whose forwarded address is believed, comma-separated"),
    plain("POSTERN_ADMIN_LISTEN", "0.0.0.0:9465", "health and metrics, open; everything else there needs the token"),
    secret("POSTERN_ADMIN_TOKEN", "bearer token of the admin API; without one it answers 403"),
    plain("POSTERN_DATA_DIR", "/var/lib/postern", "the embedded store"),
    plain("POSTERN_QUEUE", "embedded", "where what is owed is kept; `embedded` is the only kind in this version"),
    plain("POSTERN_QUEUE_MAX_BYTES", "1GiB", "what is owed at most; then 503"),
    plain("POSTERN_DEAD_MAX_BYTES", "1GiB", "dead letters kept at most; then 503"),
    plain(
        "POSTERN_DEDUPE_FOR",
        "24h",
        "how long an event is remembered; never below the replay window, nor below twice `POSTERN_RECONCILE` with its grace",
    ),
    plain("POSTERN_ORDERING", "key", "`key`: deliveries of one object go in order; `none`: they do not"),
    plain(
        "POSTERN_FORMAT",
        "cloud-elements",
        "body of the callback: also `cloudevents`, `cloudevents-binary`, `raw` (the record alone), `sns` (the notification as it came)",
    ),
    plain("POSTERN_MAX_EVENTS_PER_CALLBACK", "1", "1 to 20; raised, it batches what is ready and never waits"),
    plain("POSTERN_CONCURRENCY", "64", "attempts in flight, over all instances"),
    plain("POSTERN_ATTEMPT_TIMEOUT", "10s", "connect, send, and read a bounded answer"),
    plain(
        "POSTERN_RETRY",
        "exponential",
        "1 s doubling to 10 min with full jitter; or `cloud-elements` (8, 64, 512, 4096, 32768 s)",
    ),
    plain("POSTERN_RETRY_MAX_AGE", "72h", "age at which a failing delivery is dead"),
    plain("POSTERN_RETRY_MAX_ATTEMPTS", "20", "attempts after which a failing delivery is dead"),
    plain(
        "POSTERN_SNS_ENDPOINT_URL",
        "",
        "an SNS other than Amazon's: the only origin of certificates and confirmations; needs the next",
    ),
    plain(
        "POSTERN_SNS_TRUST_ANCHOR_FILE",
        "bundled Amazon roots",
        "PEM to which a signing certificate must chain, or which it is",
    ),
    plain(
        "POSTERN_SNS_CHAIN",
        "enforce",
        "`warn`: a broken chain is logged and the message goes on; `off`: it is not looked at",
    ),
    plain("POSTERN_SNS_MIN_SIGNATURE_VERSION", "1", "`2` refuses SHA-1"),
    plain("POSTERN_SNS_MAX_AGE", "90m", "replay window"),
    plain("POSTERN_SNS_CONFIRM", "always", "`never`: genuine confirmations of allowed topics are not confirmed"),
    plain(
        "POSTERN_SNS_UNSUBSCRIBE",
        "alarm",
        "what follows an UnsubscribeConfirmation; `resubscribe`: also confirm again",
    ),
    plain("POSTERN_SNS_BASIC_USERNAME", "", "credentials that SNS must send; it does so after a 401"),
    secret("POSTERN_SNS_BASIC_PASSWORD", "the password to it"),
    plain(
        "POSTERN_NON_S3",
        "set-aside",
        "signed messages that hold no S3 event are kept among the dead letters; `relay`: sent as generic events",
    ),
    plain("POSTERN_EGRESS_CA_FILE", "", "PEM of further authorities for outgoing TLS"),
    plain("POSTERN_DRAIN_TIMEOUT", "25s", "how long shutting down may take after SIGTERM"),
    plain("POSTERN_LOG", "info", "a tracing filter, such as `info` or `postern=debug`"),
    plain("POSTERN_LOG_FORMAT", "text on a terminal, else json", "`json` or `text`"),
    secret(
        "POSTERN_MCS_SECRET",
        "secret path part of MCS S3 webhooks, for all instances: `/mcs/<secret>`; its file may hold two, one a line, during a rotation",
    ),
    own(plain(
        "POSTERN_MCS_TOPICS",
        "",
        "the `project|bucket` pairs whose MCS S3 webhooks are accepted, comma-separated; empty: none",
    )),
    plain(
        "POSTERN_MCS_KEY_CODING",
        "form",
        "how MCS S3 writes keys, which no page of it says: `form` as Amazon does, `percent` or `raw`",
    ),
    secret(
        "POSTERN_MCS_URL",
        "the webhook's URL byte for byte as in the bucket's configuration; without it the public URL and `/mcs/<secret>`. Its file may hold two, one a line",
    ),
    own(secret(
        "POSTERN_S3HTTP_SECRET",
        "secret path part of bare S3 records over HTTP: `/s3/<secret>`, another for each instance; its file may hold two, one a line, during a rotation",
    )),
    own(plain(
        "POSTERN_S3HTTP_PRESET",
        "",
        "who sends them: `aws`, `b2`, `ceph`, `eventbridge`, `generic`, `localstack`, `minio`, `noobaa`, `rustfs`, `sns-raw` or `versitygw`",
    )),
    own(secret(
        "POSTERN_S3HTTP_AUTH",
        "what a request must carry besides: `TOKEN` or `Bearer TOKEN`, `Basic USER:PASSWORD`, any other Authorization verbatim, `Header-Name: value`, `opaqueData=VALUE` (Ceph); with `b2` the signing secret. Its file may hold two, one a line, during a rotation",
    )),
    own(plain(
        "POSTERN_S3HTTP_KEY_CODING",
        "the preset's, else form",
        "how the producer writes keys: `form`, `percent` or `raw`",
    )),
    own(plain(
        "POSTERN_S3HTTP_SEQUENCER",
        "the preset's, else none",
        "the producer's kind of sequencer: `aws`, `ceph-le`, `integer` or `none`",
    )),
    own(plain(
        "POSTERN_SQS_QUEUE_URL",
        "",
        "queues that are drained, comma-separated, no two instances the same; a host that is not Amazon's is also the endpoint",
    )),
    own(plain(
        "POSTERN_SQS_VERIFY",
        "off",
        "`on`: only SNS messages of the instance's topics with a good signature are taken from the queues",
    )),
    own(plain(
        "POSTERN_SQS_CONSUMERS",
        "8",
        "receives in flight for each queue at most, 1 to 64; an idle queue has one",
    )),
    own(plain(
        "POSTERN_RECONCILE",
        "",
        "how often the instance's buckets are listed for what push missed, such as `1h`; off without it",
    )),
    own(plain(
        "POSTERN_RECONCILE_GRACE",
        "15m",
        "how old a change must be before a listing that found it takes it for missed",
    )),
    own(plain(
        "POSTERN_POLL_INITIAL",
        "silent",
        "the first listing is a silent baseline; `emit`: all that it finds is sent",
    )),
    plain("POSTERN_S3_ENDPOINT_URL", "", "an S3 other than Amazon's: listings, `validate.instance`, `postern setup`"),
    plain("POSTERN_S3_PATH_STYLE", "false", "`true`: the bucket stands in the path of S3's URLs, not in its host name"),
];

/// Keys of Cloud Elements' exports that have no meaning here: a warning in a document, so that an export can be used as it is.
pub(super) const WITHOUT_MEANING: [&str; 4] =
    ["event.metadata", "event.notification.instance.finder", "event.notification.subscription.id", "event.raw.enabled"];

/// The setting of that name, in the dotted or the shell spelling.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name || (setting.is_instance_key() && setting.shell_name() == name))
}

/// The known name that `unknown` was probably meant to be, in the spelling that `unknown` uses.
pub(super) fn nearest(unknown: &str) -> Option<String> {
    let dotted = unknown.contains('.');
    let wanted = unknown.to_ascii_uppercase().replace('-', "_");
    // Distance costs the product of the lengths, and a longer name is nobody's typing error.
    if wanted.len() > 100 {
        return None;
    }
    // What this version does not have would be a poor suggestion.
    let available = SETTINGS.iter().filter(|setting| setting.available);
    available
        .flat_map(|setting| {
            let name = if dotted { setting.name.to_owned() } else { setting.shell_name() };
            let file = setting.secret.then(|| format!("{name}_FILE"));
            std::iter::once(name).chain(file)
        })
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_ascii_uppercase()), name))
        // Half of what follows the common prefix may differ, but never more than six letters.
        .filter(|(distance, name)| *distance <= (name.len().saturating_sub(8) / 2).clamp(2, 6))
        .min()
        .map(|(_, name)| name)
}

/// The table as Markdown, for the README.
pub fn markdown() -> String {
    let mut table = String::from("| setting | default | meaning |\n|---|---|---|\n");
    for setting in SETTINGS.iter().filter(|setting| setting.available) {
        let shell = if setting.is_instance_key() { format!(", `{}`", setting.shell_name()) } else { String::new() };
        let also = match (setting.secret, setting.own) {
            (true, true) => " (also `_FILE`; per instance)",
            (true, false) => " (also `_FILE`)",
            (false, true) => " (per instance)",
            (false, false) => "",
        };
        let meaning = setting.meaning.replace('|', "\\|");
        // Writing to a String cannot fail.
        let _ =
            writeln!(table, "| `{}`{shell}{also} | {} | {meaning} |", setting.name, markdown_default(setting.default));
    }
    table
}

/// Defaults that are values stand in code font, those in words do not.
fn markdown_default(default: &str) -> String {
    if default.is_empty() || default.contains(' ') { default.to_owned() } else { format!("`{default}`") }
}

/// The table as plain text, for `postern serve --help`.
pub fn help() -> String {
    let mut text = String::from(
        "Settings, as environment variables. Dotted names may also be written for shells: event.sns.topic.arn is \
         EVENT_SNS_TOPIC_ARN. Those marked * are secret and can come from a file: add _FILE to the name. Dotted ones and \
         those marked + may stand in an instance document.\n",
    );
    for setting in SETTINGS.iter().filter(|setting| setting.available) {
        let star = if setting.secret { " *" } else { "" };
        let plus = if setting.own { " +" } else { "" };
        let default = if setting.default.is_empty() { String::new() } else { format!(" [{}]", setting.default) };
        let _ = writeln!(text, "\n  {}{star}{plus}{default}\n      {}", setting.name, setting.meaning.replace('`', ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_has_one_name_and_a_meaning_of_one_line() {
        let names: BTreeSet<String> = SETTINGS.iter().map(Setting::shell_name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        for setting in SETTINGS {
            assert!(!setting.meaning.is_empty() && !setting.meaning.contains('\n'), "{}", setting.name);
            assert!(setting.is_instance_key() || setting.name.starts_with("POSTERN_"), "{}", setting.name);
        }
    }

    #[test]
    fn a_setting_is_found_in_both_spellings() {
        assert_eq!(find("event.sns.topic.arn"), find("EVENT_SNS_TOPIC_ARN"));
        assert!(find("event.sns.topic.arn").is_some());
        assert_eq!(find("POSTERN_LISTEN").map(|s| s.name), Some("POSTERN_LISTEN"));
        assert_eq!(find("postern_listen"), None);
    }

    #[test]
    fn a_typing_error_leads_to_the_name_in_the_same_spelling() {
        assert_eq!(nearest("POSTERN_LISTN").as_deref(), Some("POSTERN_LISTEN"));
        assert_eq!(nearest("postern_listen").as_deref(), Some("POSTERN_LISTEN"));
        assert_eq!(nearest("event.sns.topic.arm").as_deref(), Some("event.sns.topic.arn"));
        assert_eq!(nearest("EVENT_SNS_TOPIC_ARNS").as_deref(), Some("EVENT_SNS_TOPIC_ARN"));
        assert_eq!(
            nearest("EVENT_NOTIFICATION_SIGNATURE_KEY_FIEL").as_deref(),
            Some("EVENT_NOTIFICATION_SIGNATURE_KEY_FILE")
        );
        assert_eq!(nearest("POSTERN_COMPLETELY_OTHER_THING"), None);
    }

    #[test]
    fn both_renderings_hold_every_available_setting_and_no_other() {
        let (markdown, help) = (markdown(), help());
        for setting in SETTINGS {
            let row = format!("| `{}`", setting.name);
            assert_eq!(markdown.contains(&row), setting.available, "{}", setting.name);
            assert_eq!(help.lines().any(|line| line.trim().split(' ').next() == Some(setting.name)), setting.available);
        }
        assert!(markdown.lines().skip(2).all(|line| line.matches(" | ").count() == 2), "three columns");
    }
}
