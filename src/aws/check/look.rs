//! The calls: what AWS says of an instance's bucket, topics, subscriptions and queues.

use std::collections::HashMap;

use aws_config::Region;
use aws_sdk_s3::types::FilterRule;
use aws_sdk_sqs::types::QueueAttributeName;
use url::Url;

use super::notification::{self, Announcement};
use super::policy::Lets;
use super::subscription::{self, DeadLetters, Subscription};
use super::{Aws, Finding, judge, policy, queue};
use crate::aws::is_amazons;
use crate::config::{Instance, S3Config};
use crate::health::Checked;

/// Pages of subscriptions that are read of a topic; 100 stand on each, and nobody finds ours among more.
const MAX_PAGES: usize = 10;

/// What is asked about the way from the bucket to us.
#[derive(Clone, Copy, Debug)]
pub struct Pushed<'a> {
    /// The instance.
    pub instance: &'a Instance,
    /// Which S3 has its bucket.
    pub s3: &'a S3Config,
    /// The URL at which its topics are subscribed; `None` where none is configured.
    pub url: Option<&'a Url>,
    /// The user name that SNS must send (`POSTERN_SNS_BASIC_USERNAME`).
    pub user: Option<&'a str>,
}

type Attributes = HashMap<String, String>;

impl Aws {
    /// Everything between the bucket and us, apart from whether bucket and topic exist: the bucket's region and notifications, and
    /// of each topic its access policy, our subscription and how that delivers. One finding for each, also for what is well.
    pub async fn check_push(&self, asked: Pushed<'_>) -> Vec<Checked> {
        let Pushed { instance, s3, url, user } = asked;
        let bucket = async {
            let Some(bucket) = &instance.bucket else { return (None, None) };
            tokio::join!(self.check_region(bucket, s3, &instance.topics), self.check_notification(bucket, s3, instance))
        };
        let topics = async {
            let mut all = Vec::new();
            for topic in &instance.topics {
                all.extend(self.check_subscription(topic, instance.bucket.as_deref(), url, user).await);
            }
            all
        };
        let ((region, notification), topics) = tokio::join!(bucket, topics);
        region.into_iter().chain(notification).chain(topics).collect()
    }

    /// The region of `bucket` against that of the topics: S3 announces only within its own.
    async fn check_region(&self, bucket: &str, s3: &S3Config, topics: &[String]) -> Option<Checked> {
        const NAME: &str = "bucket_region";
        if s3.endpoint.is_some() {
            return Some(Checked::skip(NAME, "the bucket is not Amazon's (POSTERN_S3_ENDPOINT_URL)"));
        }
        // Whether it is there at all is said elsewhere.
        let head = self.s3(s3).await.head_bucket().bucket(bucket).send().await.ok()?;
        let region = head.bucket_region()?;
        let region: String = region.chars().filter(|c| c.is_ascii_graphic()).take(40).collect();
        if region != self.bucket_region.as_ref() {
            return Some(Checked::warn(
                NAME,
                format!("bucket {bucket} is in {region}, and is looked for in {}", self.bucket_region.as_ref()),
                format!("set filemanagement.provider.region_name to {region}"),
            ));
        }
        let foreign = topics.iter().find(|topic| crate::config::topic_region(topic) != Some(region.as_str()));
        Some(match foreign {
            Some(topic) => Checked::fail(
                NAME,
                format!("bucket {bucket} is in {region} and topic {topic} is not: S3 announces only within its region"),
                "make the topic in the bucket's region",
            ),
            None => Checked::ok(NAME, format!("bucket {bucket} is in {region}")),
        })
    }

    async fn check_notification(&self, bucket: &str, s3: &S3Config, instance: &Instance) -> Option<Checked> {
        const NAME: &str = "bucket_notification";
        let queues = instance.sqs.iter().flat_map(|sqs| &sqs.queues);
        if instance.topics.is_empty() && instance.sqs.is_none() {
            return Some(Checked::skip(NAME, "no topic and no queue of the instance is announced to"));
        }
        // Such a store announces by means of its own, and may not know what is asked here.
        if instance.topics.is_empty() && s3.endpoint.is_some() {
            let found =
                "the bucket is not Amazon's (POSTERN_S3_ENDPOINT_URL), and no topic of the instance is announced to";
            return Some(Checked::skip(NAME, found));
        }
        let client = self.s3(s3).await;
        let answer = match client.get_bucket_notification_configuration().bucket(bucket).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let what = format!("notifications of bucket {bucket} (s3:GetBucketNotification)");
                return Some(judge(&error, &what, s3.endpoint.as_ref(), "").checked(NAME));
            }
        };
        let mut found = Vec::new();
        for one in answer.topic_configurations() {
            found.push(announcement(one.topic_arn(), one.events(), rules(one.filter())));
        }
        for one in answer.queue_configurations() {
            found.push(announcement(one.queue_arn(), one.events(), rules(one.filter())));
        }
        for one in answer.lambda_function_configurations() {
            found.push(announcement(one.lambda_function_arn(), one.events(), rules(one.filter())));
        }
        if answer.event_bridge_configuration().is_some() {
            found.push(announcement("EventBridge", &[], String::new()));
        }
        let mut targets = instance.topics.clone();
        for queue in queues {
            // Without the queue's own word there is nothing to compare; the check of the queue says why.
            targets.extend(self.queue_attributes(queue).await.ok().and_then(|mut of| of.remove("QueueArn")));
        }
        if targets.is_empty() {
            return Some(Checked::skip(NAME, "the ARN of the instance's queue cannot be read"));
        }
        // S3 -> SNS -> SQS: the bucket announces to a topic that only the queue knows.
        let by_topic = instance.topics.is_empty() && !found.iter().any(|one| targets.contains(&one.target));
        if by_topic && let Some(topic) = found.iter().find(|one| one.target.contains(":sns:")) {
            return Some(Checked::ok(
                NAME,
                format!("bucket {bucket} announces to {}, not to the queue itself", topic.target),
            ));
        }
        Some(notification::judge(bucket, &found, &targets, &instance.objects.events))
    }

    /// Access policy of `topic`, and our subscription there.
    async fn check_subscription(
        &self,
        topic: &str,
        bucket: Option<&str>,
        url: Option<&Url>,
        user: Option<&str>,
    ) -> Vec<Checked> {
        let client = self.sns(self.region_of(topic)).await;
        let endpoint = self.endpoint.as_ref();
        let mut all = Vec::new();
        let of_topic = match client.get_topic_attributes().topic_arn(topic).send().await {
            Ok(answer) => answer.attributes().cloned().unwrap_or_default(),
            // Said where the topic itself is checked.
            Err(_) => return all,
        };
        all.push(match bucket {
            Some(bucket) => policy::judge(of_topic.get("Policy").map(String::as_str), topic, bucket),
            None => {
                Checked::skip("topic_policy", "filemanagement.provider.bucket_name is not set, so no bucket is known")
            }
        });
        let subscriptions = match self.subscriptions(&client, topic).await {
            Ok(found) => found,
            Err(finding) => {
                all.push(finding.checked("subscription"));
                return all;
            }
        };
        let ours = subscription::ours(&subscriptions, url);
        let first = ours.iter().find(|one| one.arn.starts_with("arn:"));
        let mut attributes = None;
        if let Some(one) = first {
            match client.get_subscription_attributes().subscription_arn(&one.arn).send().await {
                Ok(answer) => attributes = Some(answer.attributes().cloned().unwrap_or_default()),
                Err(error) => {
                    let what = "the subscription's attributes (sns:GetSubscriptionAttributes)";
                    all.push(judge(&error, what, endpoint, "").checked("delivery_policy"));
                }
            }
        }
        let wrong = first.and_then(|one| subscription::credentials(&one.endpoint, user)).filter(|_| ours.len() == 1);
        all.push(wrong.unwrap_or_else(|| subscription::state(topic, &ours, url, attributes.as_ref())));
        if let Some(attributes) = &attributes {
            all.push(subscription::raw(attributes));
            all.push(subscription::delivery(attributes, &of_topic));
            all.push(subscription::dead_letters(attributes, self.dead_letter_queue(attributes, topic).await));
            all.push(subscription::filter(attributes));
        }
        all
    }

    /// The queue behind a subscription.
    async fn dead_letter_queue(&self, attributes: &Attributes, topic: &str) -> DeadLetters {
        let Some(arn) = subscription::dead_letter_target(attributes) else { return DeadLetters::Unseen };
        let (Some(account), Some(name)) = (arn.split(':').nth(4), arn.rsplit(':').next()) else {
            return DeadLetters::Unseen;
        };
        // SNS has its dead letters in its own region.
        let mut config = aws_sdk_sqs::config::Builder::from(&self.shared(self.region_of(topic)).await);
        // An Amazon endpoint of SNS, such as a VPC's, is none of SQS.
        if let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| !is_amazons(endpoint)) {
            config = config.endpoint_url(endpoint.as_str());
        }
        let client = aws_sdk_sqs::Client::from_conf(config.build());
        let url = match client.get_queue_url().queue_name(name).queue_owner_aws_account_id(account).send().await {
            Ok(answer) => answer.queue_url().unwrap_or_default().to_owned(),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_queue_does_not_exist()) => {
                return DeadLetters::Missing;
            }
            Err(_) => return DeadLetters::Unseen,
        };
        let asked = client.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::Policy);
        let Ok(answer) = asked.send().await else { return DeadLetters::Unseen };
        let policy = answer.attributes().and_then(|all| all.get(&QueueAttributeName::Policy));
        match policy::lets_send(policy.map(String::as_str), &arn, topic) {
            Lets::Yes => DeadLetters::Taking,
            Lets::No => DeadLetters::Refusing,
            Lets::Unclear(why) => DeadLetters::Unclear(why),
        }
    }

    async fn subscriptions(&self, client: &aws_sdk_sns::Client, topic: &str) -> Result<Vec<Subscription>, Finding> {
        let mut found = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let call = client.list_subscriptions_by_topic().topic_arn(topic).set_next_token(next);
            let page = call.send().await.map_err(|error| {
                let what = format!("the subscriptions of topic {topic} (sns:ListSubscriptionsByTopic)");
                judge(&error, &what, self.endpoint.as_ref(), "")
            })?;
            found.extend(page.subscriptions().iter().map(|one| Subscription {
                arn: one.subscription_arn().unwrap_or_default().to_owned(),
                protocol: one.protocol().unwrap_or_default().to_owned(),
                endpoint: one.endpoint().unwrap_or_default().to_owned(),
            }));
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// ARNs of the queues that get what our subscriptions to `topics` give up on, where they can be asked.
    pub async fn dead_letter_targets(&self, topics: &[String], url: Option<&Url>) -> Vec<String> {
        let mut found = Vec::new();
        for topic in topics {
            let client = self.sns(self.region_of(topic)).await;
            let subscriptions = self.subscriptions(&client, topic).await.unwrap_or_default();
            for one in subscription::ours(&subscriptions, url).iter().filter(|one| one.arn.starts_with("arn:")).take(1)
            {
                let asked = client.get_subscription_attributes().subscription_arn(&one.arn).send().await;
                let attributes = asked.ok().and_then(|answer| answer.attributes);
                found.extend(attributes.as_ref().and_then(subscription::dead_letter_target));
            }
        }
        found
    }

    /// The queue at `url`: whether it can be asked, what waits there, and how it hands out. `dead_letters` are the ARNs of our
    /// [dead-letter queues](Self::dead_letter_targets).
    pub async fn check_queue(&self, url: &Url, dead_letters: &[String]) -> Vec<Checked> {
        match self.queue_attributes(url).await {
            Ok(attributes) => queue::judge(url.as_str(), &attributes, dead_letters),
            Err(finding) => vec![finding.checked("queue")],
        }
    }

    async fn queue_attributes(&self, url: &Url) -> Result<Attributes, Finding> {
        let host = url.host_str().unwrap_or_default();
        // `sqs.<region>.amazonaws.com`; any other host is also the endpoint.
        let amazon = host.contains(".amazonaws.");
        let region = host.split('.').nth(1).filter(|_| amazon && host.starts_with("sqs."));
        let shared =
            self.shared(region.map_or_else(|| self.region.clone(), |region| Region::new(region.to_owned()))).await;
        let mut config = aws_sdk_sqs::config::Builder::from(&shared);
        if !amazon {
            config = config.endpoint_url(url.origin().ascii_serialization());
        }
        let client = aws_sdk_sqs::Client::from_conf(config.build());
        let call = client.get_queue_attributes().queue_url(url.as_str()).attribute_names(QueueAttributeName::All);
        match call.send().await {
            Ok(answer) => {
                let attributes = answer.attributes().into_iter().flatten();
                Ok(attributes.map(|(name, value)| (name.as_str().to_owned(), value.clone())).collect())
            }
            Err(error) => {
                let what = format!("queue {url} (sqs:GetQueueAttributes)");
                Err(judge(&error, &what, None, ""))
            }
        }
    }
}

fn announcement(target: &str, events: &[aws_sdk_s3::types::Event], filter: String) -> Announcement {
    let events = events.iter().map(|event| event.as_str().to_owned()).collect();
    Announcement { target: target.to_owned(), events, filter }
}

/// The filter's rules for people.
fn rules(filter: Option<&aws_sdk_s3::types::NotificationConfigurationFilter>) -> String {
    let rules: &[FilterRule] = filter.and_then(|filter| filter.key()).map_or(&[], |key| key.filter_rules());
    let rule = |rule: &FilterRule| {
        let name = rule.name().map_or("", |name| name.as_str()).to_ascii_lowercase();
        let value: String = rule.value().unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        format!("{name} {value:?}")
    };
    rules.iter().map(rule).collect::<Vec<_>>().join(" and ")
}
