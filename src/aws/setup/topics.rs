//! SNS: topics, their attributes, and their subscriptions.

use std::collections::{BTreeMap, HashMap};

use super::{Amazon, Trouble, trouble};

/// Attributes by name, as SNS gives them.
pub type Attributes = BTreeMap<String, String>;

/// A subscription as the list of a topic shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its ARN; `None` where SNS shows a pending one without.
    pub arn: Option<String>,
    /// Where it delivers; a password in it is masked by SNS.
    pub endpoint: String,
}

/// Pages of a list that are read at most; a topic with more than this is not this program's business.
const MAX_PAGES: usize = 1000;

fn sorted(attributes: Option<&HashMap<String, String>>) -> Attributes {
    attributes.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Amazon {
    /// The ARN of the topic called `name`.
    ///
    /// # Errors
    /// [`Trouble`] when SNS does not answer or refuses.
    pub async fn find_topic(&self, name: &str) -> Result<Option<String>, Trouble> {
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let call = self.sns.list_topics().set_next_token(next);
            let page = call.send().await.map_err(|error| trouble("sns:ListTopics", &error))?;
            let named = |arn: &&str| arn.rsplit(':').next() == Some(name);
            if let Some(arn) = page.topics().iter().filter_map(|topic| topic.topic_arn()).find(named) {
                return Ok(Some(arn.to_owned()));
            }
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(None)
    }

    /// Makes a standard topic; its ARN.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn create_topic(&self, name: &str) -> Result<String, Trouble> {
        let answer = self.sns.create_topic().name(name).send().await;
        let answer = answer.map_err(|error| trouble("sns:CreateTopic", &error))?;
        answer.topic_arn().map(str::to_owned).ok_or_else(|| Trouble {
            action: "sns:CreateTopic",
            code: String::new(),
            text: "the answer names no topic".to_owned(),
        })
    }

    /// The topic's attributes; `None` where there is no such topic.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn topic(&self, arn: &str) -> Result<Option<Attributes>, Trouble> {
        match self.sns.get_topic_attributes().topic_arn(arn).send().await {
            Ok(answer) => Ok(Some(sorted(answer.attributes()))),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) => Ok(None),
            Err(error) => Err(trouble("sns:GetTopicAttributes", &error)),
        }
    }

    /// Replaces the topic's access policy.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn set_topic_policy(&self, arn: &str, policy: &str) -> Result<(), Trouble> {
        let call = self.sns.set_topic_attributes().topic_arn(arn).attribute_name("Policy").attribute_value(policy);
        call.send().await.map(drop).map_err(|error| trouble("sns:SetTopicAttributes", &error))
    }

    /// Deletes the topic.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn delete_topic(&self, arn: &str) -> Result<(), Trouble> {
        let call = self.sns.delete_topic().topic_arn(arn);
        call.send().await.map(drop).map_err(|error| trouble("sns:DeleteTopic", &error))
    }

    /// Every subscription of the topic that has not ended.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn subscriptions(&self, topic: &str) -> Result<Vec<Listed>, Trouble> {
        let mut all = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let call = self.sns.list_subscriptions_by_topic().topic_arn(topic).set_next_token(next);
            let page = call.send().await.map_err(|error| trouble("sns:ListSubscriptionsByTopic", &error))?;
            // An ended one is listed as "Deleted" for days; it is no subscription.
            let living = page.subscriptions().iter().filter(|one| one.subscription_arn() != Some("Deleted"));
            all.extend(living.map(|one| Listed {
                arn: one.subscription_arn().filter(|arn| arn.starts_with("arn:")).map(str::to_owned),
                endpoint: one.endpoint().unwrap_or_default().to_owned(),
            }));
            next = page.next_token().map(str::to_owned);
            if next.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// The attributes of a subscription; `None` where there is none of that ARN.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn subscription(&self, arn: &str) -> Result<Option<Attributes>, Trouble> {
        match self.sns.get_subscription_attributes().subscription_arn(arn).send().await {
            Ok(answer) => Ok(Some(sorted(answer.attributes()))),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) => Ok(None),
            Err(error) => Err(trouble("sns:GetSubscriptionAttributes", &error)),
        }
    }

    /// Subscribes `endpoint`, and has SNS send a token if it is not confirmed; the subscription's ARN. An endpoint that is subscribed
    /// already keeps its attributes, whatever `attributes` says.
    ///
    /// # Errors
    /// [`Trouble`]; its text does not hold the endpoint's password.
    pub async fn subscribe(&self, topic: &str, endpoint: &str, attributes: &Attributes) -> Result<String, Trouble> {
        let protocol = if endpoint.starts_with("https:") { "https" } else { "http" };
        let call = |attributes: Option<HashMap<String, String>>| {
            let call = self.sns.subscribe().topic_arn(topic).protocol(protocol).endpoint(endpoint);
            call.return_subscription_arn(true).set_attributes(attributes).send()
        };
        let wanted: HashMap<String, String> = attributes.clone().into_iter().collect();
        let answer = match call(Some(wanted)).await {
            // "Subscription already exists with different attributes": they are repaired one by one.
            Err(error) if error.as_service_error().is_some_and(|e| e.is_invalid_parameter_exception()) => {
                call(None).await
            }
            other => other,
        };
        let answer = answer.map_err(|error| {
            let mut trouble = trouble("sns:Subscribe", &error);
            trouble.text = trouble.text.replace(endpoint, "[endpoint]");
            trouble
        })?;
        answer.subscription_arn().map(str::to_owned).ok_or_else(|| Trouble {
            action: "sns:Subscribe",
            code: String::new(),
            text: "the answer names no subscription".to_owned(),
        })
    }

    /// Sets one attribute of a subscription.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn set_subscription(&self, arn: &str, name: &str, value: &str) -> Result<(), Trouble> {
        let call = self.sns.set_subscription_attributes().subscription_arn(arn);
        let sent = call.attribute_name(name).attribute_value(value).send().await;
        sent.map(drop).map_err(|error| trouble("sns:SetSubscriptionAttributes", &error))
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn unsubscribe(&self, arn: &str) -> Result<(), Trouble> {
        let call = self.sns.unsubscribe().subscription_arn(arn);
        call.send().await.map(drop).map_err(|error| trouble("sns:Unsubscribe", &error))
    }
}
