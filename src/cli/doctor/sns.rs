//! What proving SNS messages needs from the network: the issuers of Amazon's signing certificates, and the SNS of each topic's region.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;
use url::Url;

use super::{ASK_TIMEOUT, Context, Sink};
use crate::config::{ChainPolicy, Config};
use crate::health::Checked;
use crate::sources::sns::certs::{CertificateStore, known_issuers};
use crate::sources::sns::chain::{self, Bench, Trust};
use crate::sources::sns::url::TopicArn;

/// Regions that are looked at; nobody is in more.
const MAX_HOSTS: usize = 16;
/// Enough of an answer to see that there is one.
const MAX_BODY: usize = 64 * 1024;

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    if context.config.instances.iter().all(|instance| instance.topics.is_empty()) {
        return sink.add(Checked::skip("issuers", "no instance has an SNS topic"));
    }
    tokio::join!(issuers(context, sink), endpoints(context, sink));
}

/// The SNS of each topic's region, or the one that is set instead.
pub(super) fn hosts(config: &Config) -> BTreeSet<Url> {
    if let Some(endpoint) = &config.sns.endpoint {
        return BTreeSet::from([endpoint.url.clone()]);
    }
    let topics = config.instances.iter().flat_map(|instance| &instance.topics);
    let host =
        |topic: &String| Url::parse(&format!("https://{}/", TopicArn::parse(topic.as_str()).ok()?.sns_host())).ok();
    topics.filter_map(host).take(MAX_HOSTS).collect()
}

async fn endpoints(context: &Arc<Context>, sink: &Sink) {
    const NAME: &str = "sns_endpoint";
    let Ok(fetch) = &context.fetch else {
        return sink.add(Checked::skip(NAME, "outgoing HTTP cannot be set up"));
    };
    let mut asked = JoinSet::new();
    for url in hosts(&context.config) {
        let fetch = Arc::clone(fetch);
        asked.spawn(async move { (fetch.get(&url, MAX_BODY, ASK_TIMEOUT).await.map(|answer| answer.status), url) });
    }
    while let Some(Ok((answer, url))) = asked.join_next().await {
        let origin = url.origin().ascii_serialization();
        sink.add(match answer {
            Ok(_) => Checked::ok(NAME, format!("{origin} answers: signing certificates can be fetched and subscriptions confirmed")),
            Err(error) => Checked::fail(
                NAME,
                format!("{origin} cannot be reached: {error}"),
                "allow outgoing HTTPS there, or set HTTPS_PROXY: without it no new signing certificate can be fetched and SNS is answered 503",
            ),
        });
    }
}

async fn issuers(context: &Arc<Context>, sink: &Sink) {
    const NAME: &str = "issuers";
    let config = &context.config;
    if config.sns.chain == ChainPolicy::Off {
        return sink.add(Checked::skip(NAME, "POSTERN_SNS_CHAIN is off: no issuer is needed"));
    }
    if let Some(path) = &config.sns.trust_anchor_file {
        let trust = std::fs::read(path).map_err(|error| error.to_string()).and_then(|pem| Trust::from_pem(&pem));
        return sink.add(match trust {
            Ok(_) => Checked::ok(
                NAME,
                "the trust anchor is used instead of Amazon's issuers (POSTERN_SNS_TRUST_ANCHOR_FILE)",
            ),
            Err(why) => {
                Checked::fail(NAME, format!("POSTERN_SNS_TRUST_ANCHOR_FILE: {why}"), "give it PEM certificates")
            }
        });
    }
    let trust = Trust::amazon();
    let kept = CertificateStore::kept_issuers(&config.data_dir, &trust, context.now());
    let names: Vec<String> = kept.iter().filter_map(|der| chain::common_name(der)).collect();
    let missing: Vec<(&str, &str)> =
        known_issuers().iter().copied().filter(|(name, _)| !names.iter().any(|kept| kept == name)).collect();
    let known = known_issuers().len();
    if missing.is_empty() {
        return sink.add(Checked::ok(NAME, format!("all {known} known issuers of signing certificates are kept here")));
    }
    let Ok(fetch) = &context.fetch else {
        return sink.add(Checked::skip(NAME, "outgoing HTTP cannot be set up"));
    };
    let mut asked = JoinSet::new();
    for (name, url) in &missing {
        let (fetch, name, url) = (Arc::clone(fetch), (*name).to_owned(), Url::parse(url));
        asked.spawn(async move {
            let answer = match url {
                Ok(url) => {
                    fetch.get(&url, chain::MAX_CERTIFICATE_BYTES, ASK_TIMEOUT).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            (name, answer)
        });
    }
    let mut failed = Vec::new();
    while let Some(Ok((name, answer))) = asked.join_next().await {
        let bench = Bench { trust: &trust, issuers: &kept, chain: ChainPolicy::Enforce, now: context.now() };
        let good = match answer {
            Ok(answer) if answer.status == 200 => {
                chain::accept_issuer(&answer.body, &bench).map(drop).map_err(|refusal| refusal.to_string())
            }
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error),
        };
        failed.extend(good.err().map(|why| (name, why)));
    }
    let found = format!("{} of {known} known issuers are kept here", known - missing.len());
    sink.add(if failed.is_empty() {
        Checked::ok(NAME, format!("{found}, the others can be fetched and lead to Amazon's roots"))
    } else {
        failed.sort();
        // They all come from one place, so that one reason is nearly always that of all.
        let why = failed.first().map_or("", |(_, why)| why.as_str());
        let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
        let found = format!("{found}; not to be had: {} ({why})", names.join(", "));
        let advice =
            "allow outgoing HTTP to crt.*.amazontrust.com port 80: a message whose issuer is unknown is answered 503";
        let none = kept.is_empty() && failed.len() == known;
        if none { Checked::fail(NAME, found, advice) } else { Checked::warn(NAME, found, advice) }
    });
}
