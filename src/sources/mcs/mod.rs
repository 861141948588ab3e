//! MCS S3 (VK Cloud) webhooks: the handshake and the notifications of `s3-dialects.md` section 1.
//!
//! Neither carries a proof of its sender: the token of a handshake comes with it, and notifications have no signature at all. What
//! stands between us and strangers is the secret in the URL, the list of projects and buckets, and a bound on how often we sign.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{Instance, McsEndpoint, McsTopic};
use crate::event::Origin;
use crate::listener::{Answer, Request, Source};
use crate::queue::Pending;
use crate::record::{self, Body, Dialect};
use crate::sources::answers;
use crate::sources::intake::{Accepted, Desk, Notice, is_of};

pub mod handshake;
pub mod message;
mod quota;

use message::{Handshake, Message};
use quota::Quota;

/// Where these events came from, in the event: a topic is a property of the bucket's webhook here, and the record names the bucket.
const ROUTE: &str = "mcs";

/// The reason of a refusal: only an instance that is switched off has the pair.
const DISABLED: &str = "disabled";

/// Handshakes answered at once, and how long it takes until there is one more. Saving a webhook asks once; a script that saves
/// them for all buckets of a project stays below this too.
const HANDSHAKES: (u32, Duration) = (60, Duration::from_secs(1));

/// The same for lines that name a refused pair.
const REFUSAL_LINES: (u32, Duration) = (20, Duration::from_secs(30));

/// Characters of a stranger's text that are logged.
const SHOWN: usize = 200;

/// The URLs of MCS S3 webhooks that share a path. `project|bucket` chooses the instances.
pub struct McsSource {
    endpoints: Vec<McsEndpoint>,
    instances: Vec<Arc<Instance>>,
    /// Pairs that only instances which are switched off have.
    switched_off: Vec<McsTopic>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
    handshakes: Quota,
    refusal_lines: Quota,
}

impl McsSource {
    /// A source behind `endpoints`, whose paths are the same, for those of `instances` that are enabled and have MCS topics.
    pub fn new(
        endpoints: Vec<McsEndpoint>,
        instances: &[Arc<Instance>],
        desk: Arc<Desk>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (on, off): (Vec<_>, Vec<_>) =
            instances.iter().filter(|i| !i.mcs_topics.is_empty()).cloned().partition(|i| i.enabled);
        let switched_off = off
            .iter()
            .flat_map(|instance| &instance.mcs_topics)
            .filter(|topic| !on.iter().any(|instance| instance.mcs_topics.contains(topic)))
            .cloned()
            .collect();
        let [handshakes, refusal_lines] = [HANDSHAKES, REFUSAL_LINES].map(|(burst, every)| Quota::new(burst, every));
        Self { endpoints, instances: on, switched_off, desk, clock, handshakes, refusal_lines }
    }

    async fn judge(&self, request: Request) -> Answer {
        // Like a wrong path: whoever knows only a part of the URL learns nothing of the rest.
        let Some(endpoint) = self.endpoint_of(&request.target) else {
            return Answer::plain(StatusCode::NOT_FOUND, "not_found");
        };
        // All that have pairs are switched off: taking anything would be losing it.
        if self.instances.is_empty() {
            return Answer::plain(StatusCode::FORBIDDEN, DISABLED);
        }
        match message::read(&request.body) {
            Ok(Message::Handshake(handshake)) => self.handshake(&handshake, &request, endpoint),
            Ok(Message::Notification(text)) => self.notification(text, endpoint).await,
            Ok(Message::Empty) => Answer::plain(StatusCode::OK, Accepted::Dropped.as_str()),
            Err(refused) => {
                let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
                Answer::plain(status, refused.as_str())
            }
        }
    }

    /// The path was compared by the router. A query, where the URL has one, may hold the secret as well as the path, so the whole
    /// target is compared then, to its end; a URL without one takes what is left.
    fn endpoint_of(&self, target: &str) -> Option<&McsEndpoint> {
        let (mut exact, mut open) = (None, None);
        for endpoint in &self.endpoints {
            if !endpoint.target.expose().contains('?') {
                open = Some(endpoint);
            } else if endpoint.target.matches(target.as_bytes()) {
                exact = Some(endpoint);
            }
        }
        exact.or(open)
    }

    fn handshake(&self, asked: &Handshake<'_>, request: &Request, endpoint: &McsEndpoint) -> Answer {
        let (project, bucket, events) = (asked.topic.project(), asked.topic.bucket(), asked.topic.events());
        let is_asked = |topic: &McsTopic| topic.project == project && topic.bucket == bucket;
        let now = Instant::now();
        if !self.instances.iter().flat_map(|instance| &instance.mcs_topics).any(is_asked) {
            // Whoever is told to add a pair that stands there already looks in the wrong place.
            let (reason, advice) = if self.switched_off.iter().any(is_asked) {
                (DISABLED, "the instance of this pair is disabled (event.notification.enabled)")
            } else {
                ("topic_not_allowed", "add this pair to POSTERN_MCS_TOPICS if the webhook is yours")
            };
            if self.refusal_lines.take(now) {
                tracing::warn!(
                    pair = shown(&asked.topic.arn[..project.len() + 1 + bucket.len()]),
                    events = shown(events),
                    peer = %request.peer,
                    "refused an MCS handshake: {advice}"
                );
            }
            return Answer::plain(StatusCode::FORBIDDEN, reason);
        }
        if !self.handshakes.take(now) {
            return answers::rate_limited();
        }
        tracing::info!(
            project = shown(project),
            bucket = shown(bucket),
            events = shown(events),
            peer = %request.peer,
            "answered an MCS handshake: notifications of this bucket arrive here once the webhook is saved"
        );
        let signature = handshake::signature(asked, endpoint.url.expose());
        Answer {
            body: Bytes::from(format!("{{\"signature\":\"{signature}\"}}")),
            content_type: Some("application/json"),
            ..Answer::plain(StatusCode::OK, "handshake")
        }
    }

    async fn notification(&self, text: &str, endpoint: &McsEndpoint) -> Answer {
        if self.is_for_switched_off(text) {
            return Answer::plain(StatusCode::FORBIDDEN, DISABLED);
        }
        let notice = Notice {
            origin: Origin::Mcs,
            dialect: Dialect { key_coding: endpoint.key_coding, ..Dialect::MCS },
            topic: ROUTE,
            topic_region: None,
            message_id: None,
            message: text,
            envelope: text,
            received_at: self.clock.now(),
        };
        answers::stored(self.desk.accept(&self.instances, notice).await)
    }

    /// Whether a notification is for an instance that is switched off, and for no other: such a one accepts nothing, and dropping
    /// it as a stranger's with 200 would lose it.
    fn is_for_switched_off(&self, text: &str) -> bool {
        if self.switched_off.is_empty() {
            return false;
        }
        let Ok(Body::Records(records)) = record::parse_as(Dialect::MCS.shape, text) else { return false };
        let on = || self.instances.iter().flat_map(|instance| &instance.mcs_topics);
        records.iter().flatten().any(|record| self.switched_off.iter().any(|topic| is_of(record, topic)))
            && !records.iter().flatten().any(|record| on().any(|topic| is_of(record, topic)))
    }
}

impl Source for McsSource {
    fn name(&self) -> &'static str {
        "mcs"
    }

    fn receive(&self, request: Request) -> Pending<'_, Answer> {
        Box::pin(self.judge(request))
    }
}

/// A stranger's text for a log: bounded, and nothing in it moves a cursor or ends a line.
fn shown(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = text.chars().take(SHOWN).map(clean).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
