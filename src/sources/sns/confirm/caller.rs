//! Which of the two ways a confirmation goes.

use std::sync::Arc;

use url::Url;

use super::call::{Caller, Confirmed, Failure, by_url};
use crate::egress::Client;
use crate::queue::Pending;
use crate::sources::sns::url::{TopicArn, confirmation_url};

/// Credentials that may confirm subscriptions of some topics.
pub trait Account: Send + Sync + 'static {
    /// Confirms with `AuthenticateOnUnsubscribe`, so that only the owners can end the subscription (`sns.md` 1.3).
    /// `None` where there are no credentials after all.
    fn confirm<'a>(&'a self, topic: &'a str, token: &'a str) -> Pending<'a, Option<Result<Confirmed, Failure>>>;
}

/// Accounts, each with the topics that it is for.
pub type Accounts = Vec<(Vec<String>, Arc<dyn Account>)>;

/// Confirms with the operator's credentials where there are any, else by the URL that we build.
pub struct SnsCaller {
    client: Client,
    endpoint: Option<Url>,
    accounts: Accounts,
}

impl SnsCaller {
    /// A caller for SNS at `endpoint`, or Amazon's; `accounts` say which topics they are for.
    pub fn new(client: Client, endpoint: Option<Url>, accounts: Accounts) -> Self {
        Self { client, endpoint, accounts }
    }

    async fn call(&self, topic: &str, token: &str) -> Result<Confirmed, Failure> {
        // Of the instances that share a topic, any may be the one that has credentials.
        for (_, account) in self.accounts.iter().filter(|(topics, _)| topics.iter().any(|t| t == topic)) {
            match account.confirm(topic, token).await {
                None => {}
                Some(Ok(confirmed)) => return Ok(confirmed),
                // Credentials without sns:ConfirmSubscription are common, and confirming needs none.
                Some(Err(failure)) => tracing::warn!(
                    topic,
                    detail = %failure,
                    "the credentials could not confirm the subscription; confirming without them, so that its UnsubscribeURL needs no credentials either"
                ),
            }
        }
        let url = TopicArn::parse(topic)
            .ok()
            .and_then(|arn| confirmation_url(&arn, token, self.endpoint.as_ref()))
            .ok_or_else(|| Failure::Rejected("the topic or token makes no URL".to_owned()))?;
        by_url(&self.client, url, topic).await
    }
}

impl Caller for SnsCaller {
    fn confirm<'a>(&'a self, topic: &'a str, token: &'a str) -> Pending<'a, Result<Confirmed, Failure>> {
        Box::pin(self.call(topic, token))
    }
}
