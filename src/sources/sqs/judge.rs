//! From one message to what is to become of it.

use std::sync::Arc;

use url::Url;

use super::recognise::{Envelope, Kind, recognise, shape};
use crate::aws::sqs::{QueuePlace, SqsMessage};
use crate::clock::{Clock, UnixMillis};
use crate::config::Instance;
use crate::event::Origin;
use crate::queue::QueueError;
use crate::record::{Dialect, SequencerKind, Shape};
use crate::sources::intake::{Desk, Notice};
use crate::sources::sns::refusal::{Reason, Refusal};
use crate::sources::sns::verifier::Verifier;
use crate::sources::sns::verify::Verified;

/// What is to become of a message.
#[derive(Debug)]
pub(super) enum Verdict {
    /// All that it says is durable, or it says nothing for anybody: it may be deleted. The word is the intake's.
    Done(&'static str),
    /// Our store takes nothing at the moment.
    Refused(QueueError),
    /// It can be neither proven nor refused at the moment, for a reason of our own (hard case 9).
    Unproven(Refusal),
}

/// Judges the messages of one queue.
pub(super) struct Judge {
    instances: [Arc<Instance>; 1],
    verify: bool,
    /// An SNS or a queue that is not Amazon's: no sequencer to rely on (hard case 1).
    is_amazon: bool,
    queue: String,
    region: Option<String>,
    verifier: Arc<Verifier>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
}

impl Judge {
    pub(super) fn new(setup: &super::Setup, url: &Url) -> Self {
        let place = QueuePlace::of(url);
        Self {
            instances: [Arc::clone(&setup.instance)],
            verify: setup.config.verify,
            is_amazon: place.is_amazon && setup.sns_endpoint.is_none(),
            queue: place.name,
            region: place.region,
            verifier: Arc::clone(&setup.verifier),
            desk: Arc::clone(&setup.desk),
            clock: Arc::clone(&setup.clock),
        }
    }

    /// Makes durable what `message` says.
    pub(super) async fn judge(&self, message: &SqsMessage) -> Verdict {
        match recognise(&message.body) {
            Kind::Confirmation { topic } if !self.instances[0].topics.is_empty() && !self.is_ours(&topic) => {
                self.refuse(message, Reason::TopicNotAllowed.as_str(), &foreign(&topic)).await
            }
            Kind::Confirmation { topic } => {
                tracing::warn!(
                    instance = &*self.instances[0].name,
                    queue = self.queue,
                    topic = shown(&topic),
                    "deleted the confirmation of a subscription from the queue: only its HTTPS endpoint can confirm it, and did not take \
                     it; subscribe once more (postern setup)"
                );
                Verdict::Done("confirmation")
            }
            _ if self.verify => self.proven(message).await,
            Kind::Envelope(envelope) => self.taken_at_its_word(message, &envelope).await,
            Kind::Plain => {
                let (shape, id) = shape(&message.body);
                let id = id.as_deref().and_then(known_by).unwrap_or(&message.id).to_owned();
                let region = self.region.as_deref();
                self.stored(message, &self.queue, region, &id, &message.body, shape).await
            }
        }
    }

    /// `POSTERN_SQS_VERIFY=on`: only what SNS signed, for a topic of this instance.
    async fn proven(&self, message: &SqsMessage) -> Verdict {
        match self.verifier.verify_queued(message.body.as_bytes()).await {
            Ok(Verified::Notification(proven)) if self.is_ours(proven.topic_arn()) => {
                let (topic, id, published) = (proven.topic_arn(), proven.message_id(), proven.message());
                self.stored(message, topic, region_of(topic), id, published, shape(published).0).await
            }
            Ok(Verified::Notification(proven)) => {
                self.refuse(message, Reason::TopicNotAllowed.as_str(), &foreign(proven.topic_arn())).await
            }
            // Recognising found no confirmation, so that reading strictly finds none either.
            Ok(Verified::SubscriptionConfirmation(_) | Verified::UnsubscribeConfirmation(_)) => {
                Verdict::Done("confirmation")
            }
            Err(refusal) if refusal.status() == 503 => Verdict::Unproven(refusal),
            Err(refusal) => {
                let detail = format!("POSTERN_SQS_VERIFY=on takes only what SNS signed: {}", refusal.detail);
                self.refuse(message, refusal.reason.as_str(), &detail).await
            }
        }
    }

    /// Whoever may send to the queue may write an envelope; without verification the queue's policy is all the proof there is.
    async fn taken_at_its_word(&self, message: &SqsMessage, envelope: &Envelope<'_>) -> Verdict {
        let topic = &*envelope.topic;
        if !self.instances[0].topics.is_empty() && !self.is_ours(topic) {
            return self.refuse(message, Reason::TopicNotAllowed.as_str(), &foreign(topic)).await;
        }
        let id = envelope.message_id.as_deref().and_then(known_by).unwrap_or(&message.id);
        self.stored(message, topic, region_of(topic), id, &envelope.message, shape(&envelope.message).0).await
    }

    fn is_ours(&self, topic: &str) -> bool {
        self.instances[0].topics.iter().any(|ours| ours == topic)
    }

    async fn stored(
        &self,
        message: &SqsMessage,
        topic: &str,
        region: Option<&str>,
        id: &str,
        said: &str,
        shape: Shape,
    ) -> Verdict {
        let notice = Notice {
            origin: Origin::Sqs,
            dialect: self.dialect(shape),
            topic,
            topic_region: region,
            message_id: known_by(id),
            message: said,
            envelope: &message.body,
            received_at: self.clock.now(),
        };
        match self.desk.accept(&self.instances, notice).await {
            Ok(accepted) => Verdict::Done(accepted.as_str()),
            Err(error) => Verdict::Refused(error),
        }
    }

    /// Sets aside what is not taken; it would come again for ever otherwise.
    pub(super) async fn refuse(&self, message: &SqsMessage, reason: &'static str, why: &str) -> Verdict {
        let sent = message.sent_at.map_or_else(|| "at an unknown time".to_owned(), |at| UnixMillis(at).to_iso_millis());
        let notice = Notice {
            origin: Origin::Sqs,
            dialect: self.dialect(Shape::Records),
            topic: &self.queue,
            topic_region: None,
            message_id: known_by(&message.id),
            message: &message.body,
            envelope: &message.body,
            received_at: self.clock.now(),
        };
        let detail = format!("{why} (SQS message {}, sent {sent}, received {} times)", message.id, message.receives);
        match self.desk.refuse(&self.instances[0], notice, reason, detail).await {
            Ok(()) => Verdict::Done(reason),
            Err(error) => Verdict::Refused(error),
        }
    }

    fn dialect(&self, shape: Shape) -> Dialect {
        match (shape, self.is_amazon) {
            (Shape::EventBridge, true) => Dialect::EVENTBRIDGE,
            (Shape::EventBridge, false) => Dialect { sequencer: SequencerKind::None, ..Dialect::EVENTBRIDGE },
            (_, true) => Dialect::AWS,
            (_, false) => Dialect::LOCALSTACK,
        }
    }
}

fn foreign(topic: &str) -> String {
    format!("{} is not a topic of this instance (event.sns.topic.arn)", shown(topic))
}

/// What an unproven message calls a topic, fit for a log.
fn shown(topic: &str) -> String {
    topic.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// An id by which something is known when it comes again; where a server gives none, all messages would be the same one.
fn known_by(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.is_empty())
}

fn region_of(topic: &str) -> Option<&str> {
    crate::config::topic_region(topic)
}
