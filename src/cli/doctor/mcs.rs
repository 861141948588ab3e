//! MCS S3: whether the bucket's webhooks lead to this sidecar, with the events that it wants (`s3-dialects.md` 1.1).

use hyper::Method;

use super::Context;
use crate::aws::Aws;
use crate::aws::setup::signed::SignedS3;
use crate::aws::setup::wanted::{self, Store};
use crate::aws::setup::xml::{Configuration, Hook, MCS};
use crate::config::Instance;
use crate::egress::{Client, Options, ProxySettings};
use crate::health::Checked;

const NAME: &str = "mcs_webhook";
const SETUP: &str = "run `postern setup`, which adds it to the bucket's webhooks, or add it in the panel";

/// Asks for the webhooks of every MCS bucket of `instance`.
pub(super) async fn run(context: &Context, instance: &Instance, aws: &Aws, add: &impl Fn(Checked)) {
    let config = &context.config;
    if instance.mcs_topics.is_empty() {
        return;
    }
    let Some(endpoint) = &config.s3.endpoint else {
        return add(Checked::skip(NAME, "POSTERN_S3_ENDPOINT_URL does not say where MCS S3 is, so it is not asked"));
    };
    let Some(keys) = aws.keys().await else {
        return add(Checked::skip(
            NAME,
            "there are no keys to ask MCS S3 with (filemanagement.provider.access_key and .secret_key)",
        ));
    };
    let options = Options {
        extra_ca_pem: super::cloud::authorities(context),
        idle_per_host: 1,
        proxy: ProxySettings::from_env(),
    };
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => return add(Checked::fail(NAME, error.to_string(), "correct the setting")),
    };
    let s3 = SignedS3 {
        client,
        keys,
        region: instance.region.clone().unwrap_or_else(|| "ru-msk".to_owned()),
        endpoint: endpoint.clone(),
        path_style: config.s3.path_style,
    };
    let urls: Vec<&str> = config.mcs.iter().map(|endpoint| endpoint.url.expose()).collect();
    let mut events = wanted::events(&instance.objects, Store::Mcs);
    events.sort();
    let wanted = Wanted { urls: &urls, events: &events, keys: &wanted::keys(&instance.objects, Store::Mcs) };
    for topic in &instance.mcs_topics {
        add(look(&s3, &topic.bucket, &wanted).await);
    }
}

async fn look(s3: &SignedS3, bucket: &str, wanted: &Wanted<'_>) -> Checked {
    let answered = match s3.send(Method::GET, Some(bucket), "notification", "application/xml", String::new()).await {
        Ok(answered) => answered,
        Err(why) => {
            return Checked::fail(
                NAME,
                format!("the webhooks of {bucket} cannot be asked for: {why}"),
                "look at POSTERN_S3_ENDPOINT_URL, network policy and proxy",
            );
        }
    };
    let may_not = answered.code() == "AccessDenied";
    let text = match answered.success() {
        Ok(text) => text,
        Err(why) if may_not => {
            return Checked::warn(
                NAME,
                format!("the webhooks of {bucket} could not be looked at: {why}"),
                "allow the call if you want it checked; it needs no right to change anything",
            );
        }
        Err(why) => {
            return Checked::fail(NAME, format!("the webhooks of {bucket} cannot be read: {why}"), "correct it");
        }
    };
    match Configuration::read(&text, MCS) {
        Ok(configuration) => judge(bucket, &configuration.hooks(MCS).collect::<Vec<_>>(), wanted),
        Err(what) => Checked::warn(
            NAME,
            format!("the webhooks of {bucket} are not understood: {what}"),
            "see what answers at POSTERN_S3_ENDPOINT_URL",
        ),
    }
}

/// What the bucket's webhooks should say.
struct Wanted<'a> {
    /// URLs at which this sidecar answers; they hold secrets.
    urls: &'a [&'a str],
    /// Events, with `s3:`.
    events: &'a [String],
    /// How keys begin and end, where `event.objects` says that in the store's words.
    keys: &'a wanted::KeyFilter,
}

/// No answer here shows more of a URL than its origin: what follows is a secret, ours or another's.
fn judge(bucket: &str, hooks: &[&Hook], wanted: &Wanted<'_>) -> Checked {
    let ours: Vec<&&Hook> = hooks.iter().filter(|hook| wanted.urls.contains(&hook.target.as_str())).collect();
    if ours.is_empty() {
        let near = hooks.iter().find(|hook| wanted.urls.iter().any(|url| place(url) == place(&hook.target)));
        return match near {
            Some(hook) => Checked::fail(
                NAME,
                format!("webhook {} of {bucket} leads to our host, and not to our URL byte for byte", shown(&hook.id)),
                "compare the secret, the path and the last slash: set POSTERN_MCS_URL to what the bucket has, or run `postern setup`",
            ),
            None if hooks.is_empty() => Checked::fail(NAME, format!("{bucket} has no webhook"), SETUP),
            None => {
                let others = hooks.len();
                Checked::fail(NAME, format!("none of the {others} webhooks of {bucket} leads to this sidecar"), SETUP)
            }
        };
    }
    let announced =
        |event: &String| ours.iter().any(|hook| hook.events.iter().any(|one| one == event || covers(one, event)));
    let missing: Vec<&str> = wanted.events.iter().filter(|event| !announced(event)).map(String::as_str).collect();
    if !missing.is_empty() {
        let found = format!("the webhook of {bucket} leads here and does not announce {}", missing.join(", "));
        return Checked::warn(NAME, found, "run `postern setup`, or add these events in the panel");
    }
    if ours.len() > 1 && ours.iter().enumerate().any(|(at, one)| ours[..at].iter().any(|other| share(one, other))) {
        let ids: Vec<String> = ours.iter().map(|hook| shown(&hook.id)).collect();
        let found = format!("webhooks {} of {bucket} lead here with the same events", ids.join(", "));
        return Checked::warn(
            NAME,
            found,
            "remove all but one: every change is told as often (and is sifted out here)",
        );
    }
    if ours.iter().all(|hook| hook.keys != Default::default() && hook.keys != *wanted.keys) {
        return Checked::warn(
            NAME,
            format!("the webhook of {bucket} leads here and announces only keys that begin or end in a certain way"),
            "remove the filter unless it is meant; event.objects can choose by key as well",
        );
    }
    Checked::ok(
        NAME,
        format!("webhook {} of {bucket} leads here with {}", shown(&ours[0].id), wanted.events.join(", ")),
    )
}

fn covers(group: &str, event: &str) -> bool {
    group.strip_suffix('*').is_some_and(|stem| event.starts_with(stem))
}

fn share(one: &Hook, other: &Hook) -> bool {
    let meet = |a: &String, b: &String| a == b || covers(a, b) || covers(b, a);
    one.keys == other.keys && one.events.iter().any(|a| other.events.iter().any(|b| meet(a, b)))
}

fn place(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// An Id for people.
fn shown(id: &str) -> String {
    let id: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
    if id.is_empty() { "without Id".to_owned() } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    const OURS: &str = "https://hooks.example.com/mcs/hush";

    fn judged(xml: &str) -> Checked {
        let text = format!("<NotificationConfiguration>{xml}</NotificationConfiguration>");
        let configuration = Configuration::read(&text, MCS).expect("understood");
        let events = ["s3:ObjectCreated:*".to_owned(), "s3:ObjectRemoved:*".to_owned()];
        let wanted = Wanted { urls: &[OURS], events: &events, keys: &Default::default() };
        let checked = judge("photos", &configuration.hooks(MCS).collect::<Vec<_>>(), &wanted);
        assert!(!format!("{checked:?}").contains("hush"), "{checked:?}");
        checked
    }

    fn hook(id: &str, url: &str, events: &[&str], filter: &str) -> String {
        let events: String = events.iter().map(|event| format!("<Event>s3:{event}</Event>")).collect();
        format!("<SimpleTopicConfiguration><Id>{id}</Id>{events}<Url>{url}</Url>{filter}</SimpleTopicConfiguration>")
    }

    #[test]
    fn a_webhook_that_leads_here_with_all_events_is_well() {
        let all = ["ObjectCreated:*", "ObjectRemoved:*"];
        assert_eq!(judged(&hook("1", OURS, &all, "")).status, Status::Ok);
        let two = hook("1", OURS, &all[..1], "") + &hook("2", OURS, &all[1..], "");
        assert_eq!(judged(&two).status, Status::Ok);
    }

    #[test]
    fn each_way_in_which_it_can_be_wrong_is_told_and_no_url_is() {
        let all = ["ObjectCreated:*", "ObjectRemoved:*"];
        assert!(judged("").found.contains("photos has no webhook"));
        assert!(judged(&hook("1", "https://other.example.com/hush2", &all, "")).found.contains("none of the 1"));
        let slash = judged(&hook("1", &format!("{OURS}/"), &all, ""));
        assert!(slash.found.contains("byte for byte") && slash.status == Status::Fail, "{slash:?}");
        assert!(
            judged(&hook("1", OURS, &["ObjectCreated:*", "ObjectRemoved:Delete"], ""))
                .found
                .contains("ObjectRemoved:*")
        );
        let twice = judged(&(hook("1", OURS, &all, "") + &hook("panel", OURS, &["ObjectCreated:Put"], "")));
        assert!(twice.found.contains("1, panel") && twice.status == Status::Warn, "{twice:?}");
        let filter = "<Filter><S3Key><FilterRule><Name>prefix</Name><Value>a/</Value></FilterRule></S3Key></Filter>";
        assert!(judged(&hook("1", OURS, &all, filter)).found.contains("only keys"));
    }
}
