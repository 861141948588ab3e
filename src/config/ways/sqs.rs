//! Queues of Amazon SQS, or of what speaks like it.

use url::Url;

use crate::config::callback::http_url;
use crate::config::network::is_acceptable_endpoint;
use crate::config::problem::quote_url;
use crate::config::text::{Wrong, choice, list, number, wrong};
use crate::config::values::Reader;

/// `POSTERN_SQS_…`.
#[derive(Clone, Debug)]
pub struct SqsConfig {
    /// Queue URLs as SQS shows them. A host that is not Amazon's is also the endpoint.
    pub queues: Vec<Url>,
    /// Only SNS envelopes whose signature is good are taken (`POSTERN_SQS_VERIFY=on`).
    pub verify: bool,
    /// Receives in flight for each queue at most; an idle queue has one (`POSTERN_SQS_CONSUMERS`).
    pub consumers: usize,
}

impl SqsConfig {
    /// The region that a queue's URL names, where its host is Amazon's: `sqs.eu-west-1.amazonaws.com`, its FIPS and interface
    /// endpoints, and the old `eu-west-1.queue.amazonaws.com`; `None` elsewhere.
    pub fn region_of(queue: &Url) -> Option<&str> {
        let host = queue.host_str()?;
        let host = host.strip_suffix(".cn").unwrap_or(host);
        let labels: Vec<&str> = host.strip_suffix(".amazonaws.com")?.split('.').collect();
        match labels.as_slice() {
            ["queue"] => Some("us-east-1"),
            ["sqs" | "sqs-fips", region] | [region, "queue"] | [.., "sqs", region, "vpce"] => Some(region),
            _ => None,
        }
    }
}

const QUEUE_URL: &str = "POSTERN_SQS_QUEUE_URL";
const VERIFY: &str = "POSTERN_SQS_VERIFY";
const CONSUMERS: &str = "POSTERN_SQS_CONSUMERS";

/// Queues to drain; `has_topics` says whether the instance names SNS topics.
pub(in crate::config) fn sqs(
    reader: &mut Reader<'_>,
    has_topics: bool,
    warnings: &mut Vec<String>,
) -> Option<SqsConfig> {
    let queues = reader.read(QUEUE_URL, |text| list(text).iter().map(|url| queue(url)).collect::<Result<Vec<_>, _>>());
    let verify = reader.read(VERIFY, |text| choice(text, &[("on", true), ("off", false)])).unwrap_or(false);
    let consumers = reader.read(CONSUMERS, |text| number(text, 1, 64)).unwrap_or(8);
    if !reader.values.is_set(QUEUE_URL) {
        warnings.extend(reader.values.idle(&[VERIFY, CONSUMERS], "POSTERN_SQS_QUEUE_URL is not set"));
        return None;
    }
    if queues.as_ref().is_some_and(Vec::is_empty) {
        reader.refuse(QUEUE_URL, "holds no URL", "set the queue's URL as SQS shows it");
    }
    if cfg!(not(feature = "aws")) {
        reader.refuse(QUEUE_URL, "this build has no AWS client", "use a build with the feature aws, or remove it");
    }
    if verify && !has_topics {
        reader.refuse(
            VERIFY,
            "is on, but the instance names no SNS topic, so that no message could be accepted",
            "set event.sns.topic.arn, or turn it off for queues to which S3 or EventBridge sends",
        );
    }
    if !verify && has_topics {
        warnings.push(format!(
            "{} is off: whoever may send to the queue is believed, whatever topic a message names",
            reader.values.label(VERIFY)
        ));
    }
    let consumers = usize::try_from(consumers).unwrap_or(8);
    Some(SqsConfig { queues: queues.filter(|queues| !queues.is_empty())?, verify, consumers })
}

fn queue(text: &str) -> Result<Url, Wrong> {
    const ADVICE: &str = "use https://sqs.REGION.amazonaws.com/ACCOUNT/NAME as SQS shows it";
    let url = http_url(text)?;
    if !is_acceptable_endpoint(&url) {
        return wrong(
            format!("{} is plain HTTP to another machine, which anybody between could answer", quote_url(text)),
            "use https, or a loopback host such as http://localhost:4566/ACCOUNT/NAME",
        );
    }
    if url.query().is_some() {
        return wrong(format!("{} has a query", quote_url(text)), "remove what begins at ?");
    }
    if url.path_segments().map_or(0, |parts| parts.filter(|part| !part.is_empty()).count()) < 2 {
        return wrong(format!("{} names no account and queue", quote_url(text)), ADVICE);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amazon_host_names_its_region_and_no_other_host_does() {
        for (host, region) in [
            ("sqs.eu-west-1.amazonaws.com", Some("eu-west-1")),
            ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("sqs-fips.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
            ("queue.amazonaws.com", Some("us-east-1")),
            ("vpce-1.sqs.eu-west-1.vpce.amazonaws.com", Some("eu-west-1")),
            ("sqs.eu-west-1.amazonaws.com.example", None),
            ("localhost", None),
        ] {
            let url = Url::parse(&format!("https://{host}/123456789012/q")).expect("a URL");
            assert_eq!(SqsConfig::region_of(&url), region, "{host}");
        }
    }

    #[test]
    fn a_queue_has_an_account_and_a_name_and_a_way_that_nobody_else_can_answer() {
        for good in [
            "https://sqs.eu-west-1.amazonaws.com/123456789012/q.fifo",
            "http://localhost:4566/000000000000/q",
            "http://127.0.0.1:4566/queue/us-east-1/000000000000/q",
        ] {
            assert!(queue(good).is_ok(), "{good}");
        }
        for bad in [
            "q",
            "https://sqs.eu-west-1.amazonaws.com/q",
            "https://sqs.eu-west-1.amazonaws.com//q/",
            "http://sqs.eu-west-1.amazonaws.com/123456789012/q",
            "https://u:hunter2@h/1/q",
            "https://h/1/q?x=hunter2",
            "arn:aws:sqs:eu-west-1:123456789012:q",
        ] {
            let (what, _) = queue(bad).expect_err(bad);
            assert!(!what.contains("hunter2"), "{what}");
        }
    }
}
