//! SQS: the dead-letter queue of a subscription.

use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName;

use super::{Amazon, Trouble, trouble};

/// A queue that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterQueue {
    /// Its URL.
    pub url: String,
    /// Its ARN.
    pub arn: String,
    /// Its access policy; empty where it has none.
    pub policy: String,
    /// How long it keeps a message, in seconds.
    pub retention: u64,
    /// Messages in it, about: visible, in flight and delayed.
    pub messages: u64,
    /// The KMS key that encrypts it; empty where SQS does by itself.
    pub key: String,
}

/// 14 days, the longest that SQS keeps a message.
const RETENTION: &str = "1209600";

impl Amazon {
    /// The queue called `name`, of `account` where it is another's; `None` where there is none.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn queue(&self, name: &str, account: Option<&str>) -> Result<Option<DeadLetterQueue>, Trouble> {
        let call = self.sqs.get_queue_url().queue_name(name);
        let call = call.set_queue_owner_aws_account_id(account.filter(|text| !text.is_empty()).map(str::to_owned));
        let url = match call.send().await {
            Ok(answer) => answer.queue_url().unwrap_or_default().to_owned(),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => return Ok(None),
            Err(error) => return Err(trouble("sqs:GetQueueUrl", &error)),
        };
        self.queue_at(&url).await.map(Some)
    }

    async fn queue_at(&self, url: &str) -> Result<DeadLetterQueue, Trouble> {
        let call = self.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        let answer = call.send().await.map_err(|error| trouble("sqs:GetQueueAttributes", &error))?;
        let get = |name: QueueAttributeName| answer.attributes().and_then(|all| all.get(&name)).cloned();
        let count = |name| get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(DeadLetterQueue {
            url: url.to_owned(),
            arn: get(QueueAttributeName::QueueArn).unwrap_or_default(),
            policy: get(QueueAttributeName::Policy).unwrap_or_default(),
            retention: count(QueueAttributeName::MessageRetentionPeriod),
            messages: count(QueueAttributeName::ApproximateNumberOfMessages)
                + count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
                + count(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
            key: get(QueueAttributeName::KmsMasterKeyId).unwrap_or_default(),
        })
    }

    /// Makes a queue that keeps messages for 14 days.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn create_queue(&self, name: &str) -> Result<DeadLetterQueue, Trouble> {
        let call = self.sqs.create_queue().queue_name(name);
        let call = call.attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION);
        let answer = call.send().await.map_err(|error| trouble("sqs:CreateQueue", &error))?;
        self.queue_at(answer.queue_url().unwrap_or_default()).await
    }

    /// Sets the queue's access policy, and its retention to 14 days where `retention` says so.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn set_queue(&self, url: &str, policy: &str, retention: bool) -> Result<(), Trouble> {
        let mut attributes = HashMap::from([(QueueAttributeName::Policy, policy.to_owned())]);
        if retention {
            attributes.insert(QueueAttributeName::MessageRetentionPeriod, RETENTION.to_owned());
        }
        let call = self.sqs.set_queue_attributes().queue_url(url).set_attributes(Some(attributes));
        call.send().await.map(drop).map_err(|error| trouble("sqs:SetQueueAttributes", &error))
    }

    /// Deletes the queue with all that is in it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn delete_queue(&self, url: &str) -> Result<(), Trouble> {
        self.sqs.delete_queue().queue_url(url).send().await.map(drop).map_err(|e| trouble("sqs:DeleteQueue", &e))
    }
}
