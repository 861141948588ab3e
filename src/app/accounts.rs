//! The operator's AWS credentials, where an instance or the environment has any.

use std::sync::Arc;

use crate::aws::{Aws, BadAuthorities, ConfirmError};
use crate::config::{Config, Instance};
use crate::queue::Pending;
use crate::sources::sns::confirm::{Account, Accounts, Confirmed, Failure};

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

/// One account for each enabled instance, for its topics.
pub(super) fn of(config: &Config, extra_ca_pem: &[Vec<u8>]) -> Result<Accounts, BadAuthorities> {
    let endpoint = config.sns.endpoint.as_ref().map(|endpoint| &endpoint.url);
    let account = |instance: &Arc<Instance>| {
        let aws = Arc::new(Aws::new(instance, endpoint, extra_ca_pem)?);
        Ok((instance.topics.clone(), Arc::new(AwsAccount(aws)) as Arc<dyn Account>))
    };
    config.instances.iter().filter(|instance| instance.enabled).map(account).collect()
}
