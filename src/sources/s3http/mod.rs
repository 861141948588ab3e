//! Bare S3 records over HTTP with a shared secret: MinIO, RustFS, Ceph RGW, NooBaa, versitygw, SNS raw delivery, and the JSON of
//! Backblaze B2 and EventBridge API destinations (`s3-dialects.md` 2 and 3).
//!
//! The secret in the path chooses the instance, and `POSTERN_S3HTTP_AUTH` may ask for more. What a body looks like is fixed by
//! configuration: a signed message of SNS that comes here is refused and not taken for what it carries.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::{HeaderMap, StatusCode};

use crate::clock::Clock;
use crate::config::{Instance, S3HttpConfig};
use crate::event::Origin;
use crate::listener::{Answer, Request, Source};
use crate::queue::Pending;
use crate::record::{Shape, eventbridge};
use crate::sources::answers;
use crate::sources::intake::{Accepted, Desk, Notice};

pub mod auth;
pub mod body;
#[cfg(test)]
mod stores;

use auth::Gates;
use body::Verdict;

/// By which way these events came, where no topic is named.
const ROUTE: &str = "s3http";

/// Longest id or topic that is believed to be one; those of Amazon have 36 and at most 330 characters.
const MAX_NAME: usize = 512;

/// `POST /s3/<secret>`: the secret chooses the instance.
pub struct S3HttpSource {
    config: S3HttpConfig,
    gates: Gates,
    instance: [Arc<Instance>; 1],
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
    /// Judges what SNS signs, where subscriptions with raw delivery are expected here.
    confirmations: Option<Arc<dyn Source>>,
    has_advised: AtomicBool,
}

impl S3HttpSource {
    /// The source of `instance`; one that is disabled accepts nothing.
    pub fn new(config: S3HttpConfig, instance: Arc<Instance>, desk: Arc<Desk>, clock: Arc<dyn Clock>) -> Self {
        let gates = Gates::new(&config);
        let has_advised = AtomicBool::new(false);
        Self { config, gates, instance: [instance], desk, clock, confirmations: None, has_advised }
    }

    /// Raw delivery begins with a confirmation, which is never raw and comes to the same URL (`s3-dialects.md` 3.3). `sns` checks its
    /// signature and topic as at its own route; that is no way around a check, but one more.
    #[must_use]
    pub fn confirmed_by(mut self, sns: Arc<dyn Source>) -> Self {
        self.confirmations = takes_raw_delivery(&self.config).then_some(sns);
        self
    }

    async fn judge(&self, request: Request) -> Answer {
        let refuse = |status, reason| Answer::plain(status, reason);
        match self.gates.admit(&request.headers, &request.body) {
            Ok(()) => {}
            Err(auth::Refused::Challenge) => {
                return Answer { challenge: Some("postern"), ..refuse(StatusCode::UNAUTHORIZED, "auth_challenge") };
            }
            Err(auth::Refused::Wrong) => return refuse(StatusCode::FORBIDDEN, "auth"),
        }
        if !self.instance[0].enabled {
            return refuse(StatusCode::FORBIDDEN, "disabled");
        }
        let raw = match self.raw_delivery(&request.headers) {
            Ok(raw) => raw,
            Err(reason) => return refuse(StatusCode::FORBIDDEN, reason),
        };
        let Ok(text) = std::str::from_utf8(&request.body) else {
            return refuse(StatusCode::BAD_REQUEST, body::Refused::BadJson.as_str());
        };
        match body::judge(self.config.dialect.shape, text) {
            Verdict::Empty => refuse(StatusCode::OK, Accepted::Dropped.as_str()),
            Verdict::Refused(body::Refused::Confirmation) => self.confirm(request).await,
            Verdict::Refused(refused) => self.refused(refused),
            Verdict::Shaped => self.hand_in(text, &raw).await,
        }
    }

    async fn hand_in(&self, text: &str, raw: &RawDelivery<'_>) -> Answer {
        let message_id = match self.config.dialect.shape {
            Shape::EventBridge => eventbridge::id(text).filter(|id| is_name(id)),
            Shape::Records => raw.message_id.map(Cow::Borrowed),
            // Each event of B2 has an id of its own, and a batch has none.
            Shape::B2 => None,
        };
        let notice = Notice {
            origin: Origin::S3http,
            dialect: self.config.dialect,
            topic: raw.topic.unwrap_or(ROUTE),
            topic_region: None,
            message_id: message_id.as_deref(),
            message: text,
            envelope: text,
            received_at: self.clock.now(),
        };
        answers::stored(self.desk.accept(&self.instance, notice).await)
    }

    /// What SNS says in the headers of a raw delivery. None of it is proven, as nothing in it is signed: a topic that the instance
    /// does not have is refused because it is a mistake, not because this would keep anybody out.
    fn raw_delivery<'h>(&self, headers: &'h HeaderMap) -> Result<RawDelivery<'h>, &'static str> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        if !header("x-amz-sns-rawdelivery").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(RawDelivery::default());
        }
        if !takes_raw_delivery(&self.config) {
            return Err("raw_delivery");
        }
        let topic = header("x-amz-sns-topic-arn").filter(|topic| is_name(topic));
        let topics = &self.instance[0].topics;
        if !topics.is_empty() && !topic.is_some_and(|topic| topics.iter().any(|known| known == topic)) {
            return Err("topic_not_allowed");
        }
        Ok(RawDelivery { topic, message_id: header("x-amz-sns-message-id").filter(|id| is_name(id)) })
    }

    async fn confirm(&self, request: Request) -> Answer {
        match &self.confirmations {
            Some(sns) => sns.receive(request).await,
            None => self.refused(body::Refused::Confirmation),
        }
    }

    /// Who sends to the wrong route has the secret of this one: a mistake of the operator's, which is explained once.
    fn refused(&self, refused: body::Refused) -> Answer {
        if let Some(advice) = refused.advice()
            && !self.has_advised.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(instance = &*self.instance[0].name, reason = refused.as_str(), "{advice}");
        }
        Answer::plain(StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST), refused.as_str())
    }
}

impl Source for S3HttpSource {
    fn name(&self) -> &'static str {
        "s3http"
    }

    fn receive(&self, request: Request) -> Pending<'_, Answer> {
        Box::pin(self.judge(request))
    }
}

/// The names in the headers of a raw delivery; both absent otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct RawDelivery<'a> {
    topic: Option<&'a str>,
    message_id: Option<&'a str>,
}

/// Whether SNS itself may be the sender.
fn takes_raw_delivery(config: &S3HttpConfig) -> bool {
    matches!(config.preset, "aws" | "localstack" | "sns-raw")
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(|c| c.is_ascii_graphic())
}
