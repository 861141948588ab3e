//! S3: what a bucket announces, and to whom.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::types::{
    Event, FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter, S3KeyFilter,
    TopicConfiguration,
};
use serde_json::{Value, json};

use super::known::{is_void, unknown};
use super::overlap::Entry;
use super::wanted::KeyFilter;
use super::{Amazon, HttpResponse, Trouble, trouble};

/// Everything that a bucket announces.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcements {
    all: NotificationConfiguration,
    /// What else the bucket's configuration holds, and would lose.
    unknown: Option<String>,
}

/// The announcement that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its Id, by which it is found again.
    pub id: String,
    /// The topic's ARN.
    pub topic: String,
    /// Events, with `s3:`.
    pub events: Vec<String>,
    /// How keys begin and end.
    pub keys: KeyFilter,
}

impl Announcements {
    /// Whether ours is there exactly as wanted.
    pub fn has(&self, wanted: &Wanted) -> bool {
        let ours: Vec<_> = self.topics().iter().filter(|one| one.id() == Some(&wanted.id)).collect();
        let [ours] = ours.as_slice() else { return false };
        let mut found: Vec<&str> = ours.events().iter().map(Event::as_str).collect();
        let mut asked: Vec<&str> = wanted.events.iter().map(String::as_str).collect();
        found.sort_unstable();
        asked.sort_unstable();
        ours.topic_arn() == wanted.topic && found == asked && rules(ours.filter()) == wanted.keys
    }

    /// Whether there is one with this Id.
    pub fn has_id(&self, id: &str) -> bool {
        self.topics().iter().any(|one| one.id() == Some(id))
    }

    /// The others of every kind but EventBridge, which takes everything and stands in nobody's way.
    pub fn entries_of_others(&self, id: &str) -> Vec<Entry> {
        let entry = |id: Option<&str>, target: &str, events: &[Event], filter| Entry {
            id: id.unwrap_or_default().to_owned(),
            target: target.to_owned(),
            events: events.iter().map(|event| event.as_str().to_owned()).collect(),
            keys: rules(filter),
        };
        let topics = self.topics().iter().filter(|one| one.id() != Some(id));
        let topics = topics.map(|one| entry(one.id(), one.topic_arn(), one.events(), one.filter()));
        let queues = self.all.queue_configurations().iter();
        let queues = queues.map(|one| entry(one.id(), one.queue_arn(), one.events(), one.filter()));
        let functions = self.all.lambda_function_configurations().iter();
        let functions = functions.map(|one| entry(one.id(), one.lambda_function_arn(), one.events(), one.filter()));
        topics.chain(queues).chain(functions).collect()
    }

    /// How many others there are, of every kind.
    pub fn others(&self, id: &str) -> usize {
        self.topics().iter().filter(|one| one.id() != Some(id)).count()
            + self.all.queue_configurations().len()
            + self.all.lambda_function_configurations().len()
            + usize::from(self.all.event_bridge_configuration().is_some())
    }

    /// These with ours in the place of one with its Id, or added; every other as it is.
    #[must_use]
    pub fn with(&self, wanted: &Wanted) -> Self {
        let Self { mut all, unknown } = self.without(&wanted.id);
        // The builder fails only without a topic and events, and both are given.
        if let Ok(ours) = TopicConfiguration::builder()
            .id(&wanted.id)
            .topic_arn(&wanted.topic)
            .set_events(Some(wanted.events.iter().map(|event| Event::from(event.as_str())).collect()))
            .set_filter(filter(&wanted.keys))
            .build()
        {
            all.topic_configurations.get_or_insert_default().push(ours);
        }
        Self { all, unknown }
    }

    /// These without the one with this Id.
    #[must_use]
    pub fn without(&self, id: &str) -> Self {
        let mut all = self.all.clone();
        if let Some(topics) = &mut all.topic_configurations {
            topics.retain(|one| one.id() != Some(id));
        }
        Self { all, unknown: self.unknown.clone() }
    }

    /// Whether all of it is known, so that a PUT of these takes nothing away.
    ///
    /// # Errors
    /// What would be lost, and what to do.
    pub fn replaceable(&self) -> Result<(), Trouble> {
        self.unknown.as_ref().map_or(Ok(()), |what| {
            let text = format!(
                "the bucket's notifications hold {what}, which this version does not know and would lose, so nothing was changed; use a newer version, or make the change in the console or with the AWS CLI (--dry-run shows the rest)"
            );
            Err(Trouble { action: "s3:PutBucketNotification", code: String::new(), text })
        })
    }

    /// The JSON of the AWS CLI (`put-bucket-notification-configuration`) for the same.
    pub fn json(&self) -> Value {
        let one =
            |id: Option<&str>, to: (&str, &str), events: &[Event], filter: Option<&NotificationConfigurationFilter>| {
                let events: Vec<&str> = events.iter().map(Event::as_str).collect();
                let mut one = json!({ "Id": id, to.0: to.1, "Events": events });
                let rules: Vec<Value> = filter
                    .and_then(|filter| filter.key())
                    .map(|key| key.filter_rules())
                    .unwrap_or_default()
                    .iter()
                    .map(|rule| json!({ "Name": rule.name().map(FilterRuleName::as_str), "Value": rule.value() }))
                    .collect();
                if !rules.is_empty() {
                    one["Filter"] = json!({ "Key": { "FilterRules": rules } });
                }
                one
            };
        let mut all = json!({});
        let topics = self.topics().iter().map(|c| one(c.id(), ("TopicArn", c.topic_arn()), c.events(), c.filter()));
        let queues = self.all.queue_configurations().iter();
        let queues = queues.map(|c| one(c.id(), ("QueueArn", c.queue_arn()), c.events(), c.filter()));
        let lambdas = self.all.lambda_function_configurations().iter();
        let lambdas =
            lambdas.map(|c| one(c.id(), ("LambdaFunctionArn", c.lambda_function_arn()), c.events(), c.filter()));
        for (name, list) in [
            ("TopicConfigurations", topics.collect::<Vec<_>>()),
            ("QueueConfigurations", queues.collect()),
            ("LambdaFunctionConfigurations", lambdas.collect()),
        ] {
            if !list.is_empty() {
                all[name] = Value::Array(list);
            }
        }
        if self.all.event_bridge_configuration().is_some() {
            all["EventBridgeConfiguration"] = json!({});
        }
        all
    }

    fn topics(&self) -> &[TopicConfiguration] {
        self.all.topic_configurations()
    }
}

fn filter(keys: &KeyFilter) -> Option<NotificationConfigurationFilter> {
    let rule =
        |name, value: &String| (!value.is_empty()).then(|| FilterRule::builder().name(name).value(value).build());
    let rules: Vec<FilterRule> =
        [rule(FilterRuleName::Prefix, &keys.prefix), rule(FilterRuleName::Suffix, &keys.suffix)]
            .into_iter()
            .flatten()
            .collect();
    let key = (!rules.is_empty()).then(|| S3KeyFilter::builder().set_filter_rules(Some(rules)).build())?;
    Some(NotificationConfigurationFilter::builder().key(key).build())
}

/// The rules of a filter; S3 gives their names back in another case than they were sent in.
fn rules(filter: Option<&NotificationConfigurationFilter>) -> KeyFilter {
    let mut keys = KeyFilter::default();
    for rule in filter.and_then(|filter| filter.key()).map(|key| key.filter_rules()).unwrap_or_default() {
        let value = rule.value().unwrap_or_default().to_owned();
        match rule.name().map(|name| name.as_str().to_lowercase()).as_deref() {
            Some("prefix") => keys.prefix = value,
            Some("suffix") => keys.suffix = value,
            _ => {}
        }
    }
    keys
}

/// Keeps the text of an answer, of which the SDK gives only what it knows.
#[derive(Clone, Debug, Default)]
struct Text(Arc<Mutex<String>>);

impl Text {
    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Intercept for Text {
    fn name(&self) -> &'static str {
        "postern's look at the whole configuration"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // The answer has been read whole by now; one that has not could not be judged, and must not pass for empty.
        let text = context.response().body().bytes().map_or_else(|| "<not-read/>".into(), String::from_utf8_lossy);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text.into_owned();
        Ok(())
    }
}

/// Whether an answer is a success that says nothing.
fn is_empty(raw: &HttpResponse) -> bool {
    raw.status().is_success() && raw.body().bytes().is_some_and(|body| is_void(&String::from_utf8_lossy(body)))
}

/// An account is 12 digits; a plan for a topic that is not there yet knows none.
fn known(owner: &str) -> Option<String> {
    (owner.len() == 12 && owner.bytes().all(|c| c.is_ascii_digit())).then(|| owner.to_owned())
}

impl Amazon {
    /// What the bucket announces. `owner` is the account that must own it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn announcements(&self, bucket: &str, owner: &str) -> Result<Announcements, Trouble> {
        let call =
            self.s3.get_bucket_notification_configuration().bucket(bucket).set_expected_bucket_owner(known(owner));
        let text = Text::default();
        let sent = call.customize().interceptor(text.clone()).send().await;
        let found = match sent {
            Ok(found) => found,
            // Some stores name the root otherwise where there is nothing in it; the SDK then reads nothing at all.
            Err(error) if error.raw_response().is_some_and(is_empty) => {
                return Ok(Announcements { all: NotificationConfiguration::builder().build(), unknown: None });
            }
            Err(error) => {
                let mut trouble = trouble("s3:GetBucketNotification", &error);
                if trouble.code == "AccessDenied" && known(owner).is_some() {
                    trouble.text = format!(
                        "{}; if the bucket is not of account {owner}, name its own with --account",
                        trouble.text
                    );
                }
                return Err(trouble);
            }
        };
        let all = NotificationConfiguration::builder()
            .set_topic_configurations(found.topic_configurations)
            .set_queue_configurations(found.queue_configurations)
            .set_lambda_function_configurations(found.lambda_function_configurations)
            .set_event_bridge_configuration(found.event_bridge_configuration);
        Ok(Announcements { all: all.build(), unknown: unknown(&text.take()) })
    }

    /// Replaces what the bucket announces. S3 tries the topic before it answers.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn announce(&self, bucket: &str, owner: &str, all: Announcements) -> Result<(), Trouble> {
        all.replaceable()?;
        let call =
            self.s3.put_bucket_notification_configuration().bucket(bucket).set_expected_bucket_owner(known(owner));
        let sent = call.notification_configuration(all.all).send().await;
        sent.map(drop).map_err(|error| {
            let mut trouble = trouble("s3:PutBucketNotification", &error);
            let advice = if trouble.text.to_lowercase().contains("overlap") || trouble.text.contains("ambiguously") {
                "another configuration of this bucket announces the same events of the same keys, which S3 does not allow: narrow event.objects, or publish the other one through this topic"
            } else if trouble.text.contains("Unable to validate") {
                "S3 may not publish to the topic: it must be a standard topic in the bucket's region, and the key of an encrypted one must let s3.amazonaws.com use it"
            } else {
                return trouble;
            };
            trouble.text = format!("{}; {advice}", trouble.text);
            trouble
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{EventBridgeConfiguration, QueueConfiguration};

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            id: "postern-uploads".to_owned(),
            topic: "arn:aws:sns:eu-central-1:123456789012:uploads".to_owned(),
            events: vec!["s3:ObjectCreated:*".to_owned(), "s3:ObjectRemoved:*".to_owned()],
            keys: KeyFilter { prefix: "images/".to_owned(), suffix: String::new() },
        }
    }

    fn theirs() -> Announcements {
        let queue =
            QueueConfiguration::builder().id("q").queue_arn("arn:q").events(Event::S3ReducedRedundancyLostObject);
        let topic = TopicConfiguration::builder().id("t").topic_arn("arn:t").events(Event::from("s3:Brand:New"));
        let all = NotificationConfiguration::builder()
            .queue_configurations(queue.build().expect("whole"))
            .topic_configurations(topic.build().expect("whole"))
            .event_bridge_configuration(EventBridgeConfiguration::builder().build())
            .build();
        Announcements { all, unknown: None }
    }

    #[test]
    fn others_survive_a_merge_and_a_removal() {
        let merged = theirs().with(&wanted());
        assert!(merged.has(&wanted()) && !theirs().has(&wanted()));
        assert_eq!(merged.others(&wanted().id), 3);
        let entries: Vec<_> = merged.entries_of_others(&wanted().id).into_iter().map(|one| one.id).collect();
        assert_eq!(entries, ["t", "q"], "EventBridge is in nobody's way");
        assert_eq!(merged.without(&wanted().id), theirs());
        assert_eq!(merged.with(&wanted()), merged, "twice is once");
        assert_eq!(merged.json()["TopicConfigurations"][0]["Events"][0], "s3:Brand:New");
        assert_eq!(merged.json()["TopicConfigurations"][1]["Filter"]["Key"]["FilterRules"][0]["Value"], "images/");
    }

    #[test]
    fn an_announcement_that_differs_in_anything_is_not_as_wanted() {
        let merged = theirs().with(&wanted());
        let differ = |change: fn(&mut Wanted)| {
            let mut other = wanted();
            change(&mut other);
            !merged.has(&other)
        };
        assert!(differ(|w| w.topic.push('2')));
        assert!(differ(|w| drop(w.events.pop())));
        assert!(differ(|w| w.keys.prefix.clear()));
        assert!(differ(|w| w.keys.suffix.push('x')));
        let mut turned = wanted();
        turned.events.reverse();
        assert!(merged.has(&turned), "the order of events says nothing");
    }
}
