//! The operator's AWS credentials, where an instance or the environment has any.

use std::sync::Arc;

use crate::aws::{Aws, ConfirmError};
use crate::config::Config;
use crate::queue::Pending;
use crate::sources::sns::confirm::{Account, Confirmed, Failure};

struct AwsAccount(Arc<Aws>);

impl Account for AwsAccount {
    fn confirm<'a>(&'a self, topic: &'a str, token: &'a str) -> Pending<'a, Option<Result<Confirmed, Failure>>> {
        Box::pin(async move {
            if !self.0.has_credentials().await {
                return None;
            }
            Some(match self.0.confirm_subscription(topic, token, true).await {
                Ok(subscription_arn) => Ok(Confirmed { subscription_arn }),
                Err(ConfirmError::Rejected(why)) => Err(Failure::Rejected(why)),
                Err(ConfirmError::Unavailable(why)) => Err(Failure::Unavailable(why)),
            })
        })
    }
}

/// One account for each instance, for its topics.
pub(super) fn of(config: &Config) -> Vec<(Vec<String>, Arc<dyn Account>)> {
    config
        .instances
        .iter()
        .map(|instance| {
            let aws = Arc::new(Aws::new(instance, config));
            (instance.topics.clone(), Arc::new(AwsAccount(aws)) as Arc<dyn Account>)
        })
        .collect()
}
