//! The SNS source: one POST of `POST /sns` from the first check to the answer.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, StatusCode};

use super::confirm::{Confirmer, Intent};
use super::refusal::Refusal;
use super::url::TopicArn;
use super::verifier::Verifier;
use super::verify::{Verified, VerifiedNotification};
use crate::clock::Clock;
use crate::config::{Basic, Instance};
use crate::event::Origin;
use crate::listener::{Answer, Request, Source};
use crate::queue::{Pending, QueueError};
use crate::record::Dialect;
use crate::sources::answers::{self, RETRY_AFTER};
use crate::sources::intake::{Desk, Notice};

/// `POST /sns`: the topic chooses the instances.
pub struct SnsSource {
    verifier: Arc<Verifier>,
    confirmer: Arc<Confirmer>,
    desk: Arc<Desk>,
    by_topic: HashMap<String, Vec<Arc<Instance>>>,
    basic: Option<Basic>,
    dialect: Dialect,
    clock: Arc<dyn Clock>,
}

impl SnsSource {
    /// A source for the topics of `instances`; disabled instances accept nothing.
    pub fn new(
        instances: &[Arc<Instance>],
        verifier: Arc<Verifier>,
        confirmer: Arc<Confirmer>,
        desk: Arc<Desk>,
        basic: Option<Basic>,
        dialect: Dialect,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut by_topic: HashMap<String, Vec<Arc<Instance>>> = HashMap::new();
        for instance in instances.iter().filter(|i| i.enabled) {
            for topic in &instance.topics {
                by_topic.entry(topic.clone()).or_default().push(Arc::clone(instance));
            }
        }
        Self { verifier, confirmer, desk, by_topic, basic, dialect, clock }
    }

    async fn judge(&self, request: Request) -> Answer {
        if let Some(basic) = &self.basic
            && let Some(answer) = challenge(basic, &request.headers)
        {
            return answer;
        }
        match self.verifier.verify(&request.headers, &request.body).await {
            Ok(Verified::Notification(notification)) => self.notification(&notification, &request.body).await,
            Ok(Verified::SubscriptionConfirmation(confirmation)) => {
                intended(self.confirmer.intend(&confirmation, Intent::Subscribe).await)
            }
            Ok(Verified::UnsubscribeConfirmation(confirmation)) => {
                intended(self.confirmer.intend(&confirmation, Intent::Unsubscribed).await)
            }
            Err(refusal) => refused(&refusal),
        }
    }

    async fn notification(&self, notification: &VerifiedNotification, body: &[u8]) -> Answer {
        let topic = notification.topic_arn();
        // The allow-list that the verifier holds is made of these very topics.
        let Some(instances) = self.by_topic.get(topic) else {
            return Answer::plain(StatusCode::FORBIDDEN, "topic_not_allowed");
        };
        self.confirmer.heard(topic);
        let region = TopicArn::parse(topic).ok().map(|arn| arn.region().to_owned());
        let notice = Notice {
            origin: Origin::Sns,
            dialect: self.dialect,
            topic,
            topic_region: region.as_deref(),
            message_id: Some(notification.message_id()),
            message: notification.message(),
            // Verified bodies are UTF-8: the parser refuses all others.
            envelope: std::str::from_utf8(body).unwrap_or_default(),
            received_at: self.clock.now(),
        };
        answers::stored(self.desk.accept(instances, notice).await)
    }
}

impl Source for SnsSource {
    fn name(&self) -> &'static str {
        "sns"
    }

    fn receive(&self, request: Request) -> Pending<'_, Answer> {
        Box::pin(self.judge(request))
    }
}

/// What a confirmation is answered with.
fn intended(result: Result<&'static str, QueueError>) -> Answer {
    match result {
        Ok("rate_limited") => answers::rate_limited(),
        Ok(reason) => Answer::plain(StatusCode::OK, reason),
        Err(error) => answers::refused_by_queue(&error),
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.reason.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let reason = refusal.reason.as_str();
    tracing::debug!(reason, detail = refusal.detail, "refused an SNS message");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        Answer::unavailable(reason, RETRY_AFTER)
    } else {
        Answer::plain(status, reason)
    }
}

/// `sns.md` 1.7: SNS sends its first request without credentials and repeats it after a challenge.
fn challenge(basic: &Basic, headers: &HeaderMap) -> Option<Answer> {
    let challenge = |reason| Answer { challenge: Some("postern"), ..Answer::plain(StatusCode::UNAUTHORIZED, reason) };
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Some(challenge("auth_challenge"));
    };
    let given = value.as_bytes();
    let scheme = given.get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"basic "));
    let decoded = scheme.then(|| STANDARD.decode(given[6..].trim_ascii()).ok()).flatten();
    let Some(decoded) = decoded else {
        return Some(challenge("auth"));
    };
    let expected = crate::secret::Secret::new(format!("{}:{}", basic.username, basic.password.expose()));
    (!expected.matches(&decoded)).then(|| challenge("auth"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn with(value: Option<&str>) -> Option<&'static str> {
        let basic = Basic { username: "sns".into(), password: Secret::new("p:w") };
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(AUTHORIZATION, value.parse().expect("a header value"));
        }
        challenge(&basic, &headers).map(|answer| answer.reason)
    }

    #[test]
    fn a_request_without_credentials_is_challenged_and_a_wrong_password_refused() {
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(with(None), Some("auth_challenge"));
        assert_eq!(with(Some(&header("sns:p:w"))), None);
        assert_eq!(with(Some(&header("sns:wrong"))), Some("auth"));
        assert_eq!(with(Some("Basic %%%")), Some("auth"));
        assert_eq!(with(Some("Bearer x")), Some("auth"));
    }
}
