//! The call that confirms: by the SDK where there are credentials, else by the URL that we build.

use std::time::Duration;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use url::Url;

use super::answer;
use crate::config::CallbackUrl;
use crate::egress::{Call, Client};
use crate::queue::Pending;

/// One call's bound on time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read (attack A44).
const MAX_ANSWER: usize = 64 * 1024;

/// Makes the call.
pub trait Caller: Send + Sync + 'static {
    /// Confirms the subscription that `token` stands for.
    fn confirm<'a>(&'a self, topic: &'a str, token: &'a str) -> Pending<'a, Result<Confirmed, Failure>>;
}

/// SNS took the confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// ARN of the subscription.
    pub subscription_arn: String,
}

/// SNS did not take the confirmation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The answer is not one of SNS.
    #[error("the answer is no confirmation of this topic: {0}")]
    BadResponse(String),
    /// SNS says that the token is wrong or over: trying again cannot help.
    #[error("{0}")]
    Rejected(String),
    /// Network, time-out, 5xx, a redirect: try again.
    #[error("{0}")]
    Unavailable(String),
}

impl Failure {
    /// The word in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadResponse(_) => "confirm_bad_response",
            Self::Rejected(_) => "confirm_rejected",
            Self::Unavailable(_) => "confirm_failed",
        }
    }
}

/// Confirms by URL, without credentials (`sns.md` 1.3).
///
/// # Errors
/// [`Failure`] says whether trying again can help.
pub(crate) async fn by_url(client: &Client, url: Url, topic: &str) -> Result<Confirmed, Failure> {
    let target = CallbackUrl::Http(url);
    let reply = client
        .call(Call {
            method: Method::GET,
            url: &target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: TIMEOUT,
            max_answer: MAX_ANSWER,
            refuse_longer: true,
        })
        .await
        .map_err(|error| Failure::Unavailable(error.to_string()))?;
    let status = reply.status.as_u16();
    match status {
        200 => {
            let text = String::from_utf8_lossy(&reply.body);
            answer::subscription_arn(&text, topic)
                .map(|subscription_arn| Confirmed { subscription_arn })
                .ok_or_else(|| Failure::BadResponse(format!("{} bytes without its SubscriptionArn", reply.body.len())))
        }
        // What a policy or a quota forbids, an operator may allow within the token's two days.
        401 | 403 | 408 | 425 | 429 => Err(Failure::Unavailable(format!("SNS answered {status}"))),
        400..=499 if answer::is_throttled(&String::from_utf8_lossy(&reply.body)) => {
            Err(Failure::Unavailable(format!("SNS answered {status}: too many requests")))
        }
        400..=499 => Err(Failure::Rejected(format!("SNS answered {status}"))),
        300..=399 => Err(Failure::Unavailable(format!("SNS answered {status}; redirects are not followed"))),
        _ => Err(Failure::Unavailable(format!("SNS answered {status}"))),
    }
}
