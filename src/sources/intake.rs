//! From a verified notification to the queue: the one way in that all sources share.
//!
//! What is genuine is never refused here for what it says: a foreign bucket is dropped and audited, an unwanted event is
//! counted, what cannot be understood is set aside among the dead letters (hard case 10). Only the queue may refuse, and that
//! is trouble of our own.

use std::sync::Arc;

use tokio::time::Instant;

use crate::clock::UnixMillis;
use crate::config::{Format, Instance, McsTopic, NonS3};
use crate::event::{Event, Origin};
use crate::normalize::{self, Context};
use crate::queue::{Append, Appended, Change, NewDelivery, Queue, QueueError, SetAside, memory_key};
use crate::record::{self, Body, Dialect, Malformed, Record};
use crate::sources::audit::{AuditLog, Kind, bounded};
use crate::sources::changes;
use crate::telemetry::Metrics;

/// A notification whose genuineness its source has proven.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// How it came.
    pub origin: Origin,
    /// The producer's dialect, fixed by configuration.
    pub dialect: Dialect,
    /// Topic, queue or route.
    pub topic: &'a str,
    /// Region that the topic is in, where it has one.
    pub topic_region: Option<&'a str>,
    /// The notification's id: what a producer repeats when it sends again.
    pub message_id: Option<&'a str>,
    /// What S3 said: records, a test event, or something else.
    pub message: &'a str,
    /// The notification as it came, for `POSTERN_FORMAT=sns`.
    pub envelope: &'a str,
    /// When it arrived.
    pub received_at: UnixMillis,
}

/// Bytes of all copies of one message that its events carry at most.
const MAX_ENVELOPES: usize = 8 << 20;

/// MCS S3: whether a record is of this project|bucket. A bucket's name is its own within the whole storage, so a record that does not
/// name its owner is judged by the bucket alone.
pub(super) fn is_of(record: &Record<'_>, topic: &McsTopic) -> bool {
    topic.bucket == record.bucket && record.owner.as_deref().is_none_or(|owner| owner == topic.project)
}

/// MCS S3: the project|bucket pairs are the instance's allow-list (`POSTERN_MCS_TOPICS`).
fn is_foreign_project(instance: &Instance, notice: &Notice<'_>, record: &Record<'_>) -> bool {
    notice.origin == Origin::Mcs && !instance.mcs_topics.iter().any(|topic| is_of(record, topic))
}

/// By what a notification that is sent again is known. What SNS signs comes once for all instances of its topic. What comes over HTTP
/// without a signature, or by a queue, comes to one instance, and the same to another is another notification: two instances
/// may be targets of one EventBridge rule, or drain queues of their own of one topic.
fn memory_of(instances: &[Arc<Instance>], notice: &Notice<'_>, id: &str) -> [u8; 16] {
    let mut parts: Vec<&[u8]> =
        vec![b"message", notice.origin.as_str().as_bytes(), notice.topic.as_bytes(), id.as_bytes()];
    if matches!(notice.origin, Origin::S3http | Origin::Sqs) {
        parts.extend(instances.iter().map(|instance| instance.name.as_bytes()));
    }
    memory_key(&parts)
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Genuine, and nothing in it is for anybody: filtered, of a foreign bucket, or empty.
    Dropped,
    /// It had been accepted before.
    Duplicate,
    /// At least one event is owed now.
    Queued,
    /// Kept among the dead letters.
    SetAside,
    /// S3's test event: heard, not relayed.
    TestEvent,
}

impl Accepted {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Duplicate => "duplicate",
            Self::Queued => "accepted",
            Self::SetAside => "set_aside",
            Self::TestEvent => "test_event",
        }
    }
}

/// Turns proven notifications into owed deliveries.
pub struct Desk {
    queue: Arc<dyn Queue>,
    metrics: Metrics,
    non_s3: NonS3,
    keeps_envelope: bool,
    audit: AuditLog,
}

impl Desk {
    /// A desk in front of `queue`.
    pub fn new(queue: Arc<dyn Queue>, metrics: Metrics, non_s3: NonS3, format: Format) -> Self {
        Self { queue, metrics, non_s3, keeps_envelope: format == Format::Sns, audit: AuditLog::default() }
    }

    /// Makes what `notice` says durable for each of `instances`, all in one transaction.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was stored; the caller answers 503 and the producer sends again.
    pub async fn accept(&self, instances: &[Arc<Instance>], notice: Notice<'_>) -> Result<Accepted, QueueError> {
        let body = record::parse_as(notice.dialect.shape, notice.message);
        if let Ok(Body::TestEvent(test)) = &body {
            for instance in instances {
                Metrics::count(&self.metrics.events, &instance.name, "test_event", 1);
            }
            tracing::info!(
                source = notice.origin.as_str(),
                topic = notice.topic,
                bucket = bounded(&test.bucket),
                "S3 sent its test event"
            );
            return Ok(Accepted::TestEvent);
        }

        let mut append = Append {
            message: notice.message_id.map(|id| memory_of(instances, &notice, id)),
            received_at: notice.received_at,
            deliveries: Vec::new(),
            set_aside: Vec::new(),
        };
        self.audit_projects(instances, &notice, &body);
        for instance in instances {
            self.take(instance, &notice, &body, &mut append);
        }
        if append.deliveries.is_empty() && append.set_aside.is_empty() {
            return Ok(Accepted::Dropped);
        }

        // Kept for counting: the queue takes the vectors, and counts of what was stored are known only after it answered.
        let names: Vec<Arc<str>> = append.deliveries.iter().map(|d| Arc::clone(&d.instance)).collect();
        let aside: Vec<(Arc<str>, &'static str, String)> =
            append.set_aside.iter().map(|s| (Arc::clone(&s.instance), s.reason, s.detail.clone())).collect();
        let appended = self.queue.append(append).await?;
        self.count(&names, &aside, &appended, &notice);
        Ok(match appended {
            Appended { duplicate_message: true, .. } => Accepted::Duplicate,
            Appended { queued: 1.., .. } => Accepted::Queued,
            Appended { set_aside: 1.., .. } => Accepted::SetAside,
            _ => Accepted::Duplicate,
        })
    }

    fn take(
        &self,
        instance: &Arc<Instance>,
        notice: &Notice<'_>,
        body: &Result<Body<'_>, Malformed>,
        append: &mut Append,
    ) {
        let instance_id = instance.id.to_string();
        let context = Context {
            instance_id: &instance_id,
            origin: notice.origin,
            dialect: notice.dialect,
            topic: Some(notice.topic),
            message_id: notice.message_id,
            received_at: notice.received_at,
            notification: self.envelope_of(notice, body),
        };
        match body {
            Ok(Body::Records(records)) => {
                for record in records.iter().flatten() {
                    // Said of all instances together by `audit_projects`.
                    if is_foreign_project(instance, notice, record) {
                        continue;
                    }
                    let event = normalize::event(record, &context);
                    if self.wanted(instance, notice, &event) {
                        let change = changes::pushed(instance, &event, notice.received_at);
                        append.deliveries.push(NewDelivery { instance: Arc::clone(&instance.name), event, change });
                    }
                }
                // What is kept is the whole message, so once is enough; otherwise a message of many broken records would be
                // kept as often as it has them.
                let mut broken = records.iter().filter_map(|record| record.as_ref().err());
                if let Some(first) = broken.next() {
                    self.set_aside(instance, first, broken.count(), &context, notice, append);
                }
            }
            // Answered before this was called.
            Ok(Body::TestEvent(_)) => {}
            // A pair of project and bucket is all that MCS proves, and a message without records names none.
            Err(malformed) if malformed.is_foreign() && self.non_s3 == NonS3::Relay && notice.origin != Origin::Mcs => {
                let event = normalize::generic(notice.message, &context);
                append.deliveries.push(NewDelivery { instance: Arc::clone(&instance.name), event, change: None });
            }
            Err(malformed) => self.set_aside(instance, malformed, 0, &context, notice, append),
        }
    }

    /// The whole notification for `POSTERN_FORMAT=sns`, which each event carries. S3 puts one record into a message; for a message
    /// of so many that the copies would fill the memory, the events have their record alone.
    fn envelope_of<'n>(&self, notice: &Notice<'n>, body: &Result<Body<'_>, Malformed>) -> Option<&'n str> {
        let copies = match body {
            Ok(Body::Records(records)) => records.len(),
            Ok(Body::TestEvent(_)) | Err(_) => 1,
        };
        let fits = notice.envelope.len().saturating_mul(copies) <= MAX_ENVELOPES;
        (self.keeps_envelope && fits).then_some(notice.envelope)
    }

    /// Keeps among the dead letters of `instance` what its source does not take for genuine and must not lose either, such as a
    /// message of a queue that nobody would send again. Its `raw` is `{"refused": reason, "body": text}`, so that a replay sends
    /// nothing that an app could take for a record.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was stored.
    pub async fn refuse(
        &self,
        instance: &Arc<Instance>,
        notice: Notice<'_>,
        reason: &'static str,
        detail: String,
    ) -> Result<(), QueueError> {
        let raw = serde_json::json!({"refused": reason, "body": notice.message}).to_string();
        let instance_id = instance.id.to_string();
        let context = Context {
            instance_id: &instance_id,
            origin: notice.origin,
            dialect: notice.dialect,
            topic: Some(notice.topic),
            message_id: notice.message_id,
            received_at: notice.received_at,
            notification: None,
        };
        let event = normalize::generic(&raw, &context);
        let kept = SetAside { instance: Arc::clone(&instance.name), reason, detail: detail.clone(), event };
        let append = Append {
            message: notice
                .message_id
                .map(|id| memory_key(&[b"refused", instance.name.as_bytes(), notice.topic.as_bytes(), id.as_bytes()])),
            received_at: notice.received_at,
            deliveries: Vec::new(),
            set_aside: vec![kept],
        };
        let appended = self.queue.append(append).await?;
        if appended.set_aside > 0 {
            Metrics::count(&self.metrics.events, &instance.name, "set_aside", 1);
            tracing::warn!(
                instance = &*instance.name,
                topic = notice.topic,
                message_id = notice.message_id,
                reason,
                detail,
                "set a message aside that is not taken for genuine (postern events --state dead)"
            );
        }
        Ok(())
    }

    fn set_aside(
        &self,
        instance: &Instance,
        malformed: &Malformed,
        more: usize,
        context: &Context<'_>,
        notice: &Notice<'_>,
        append: &mut Append,
    ) {
        let detail = match more {
            0 => malformed.to_string(),
            more => format!("{malformed}; so are {more} more records of it"),
        };
        append.set_aside.push(SetAside {
            instance: Arc::clone(&instance.name),
            reason: malformed.reason(),
            detail,
            event: normalize::generic(notice.message, context),
        });
    }

    /// Audits records of a project and bucket that no instance accepts: nothing but the secret of the URL speaks for their sender.
    fn audit_projects(&self, instances: &[Arc<Instance>], notice: &Notice<'_>, body: &Result<Body<'_>, Malformed>) {
        let Ok(Body::Records(records)) = body else { return };
        let is_nobodys =
            |record: &&Record<'_>| instances.iter().all(|instance| is_foreign_project(instance, notice, record));
        let mut nobodys = records.iter().flatten().filter(is_nobodys);
        let Some(first) = nobodys.next() else { return };
        let dropped = 1 + nobodys.count();
        for instance in instances {
            Metrics::count(&self.metrics.events, &instance.name, "foreign_project", dropped as u64);
        }
        let Some(instance) = instances.first() else { return };
        // What the lines before did not say is said with this one.
        if let Some(unsaid) = self.audit.admit(Kind::ForeignProject, &instance.name, dropped as u64, Instant::now()) {
            tracing::warn!(
                topic = notice.topic,
                bucket = bounded(&first.bucket),
                project = first.owner.as_deref().map(bounded),
                dropped,
                unsaid,
                "dropped records whose project|bucket no instance accepts (POSTERN_MCS_TOPICS); this is the first of them, and more within a minute are only counted"
            );
        }
    }

    /// Makes events durable that a listing found, with what each says of its object's state (hard case 20). What is filtered or of
    /// a foreign bucket is left out. At most a page at a time: all are one transaction.
    ///
    /// # Errors
    /// [`QueueError`] when nothing was stored; the caller offers the same again later.
    pub async fn offer(
        &self,
        instance: &Arc<Instance>,
        found: Vec<(Event, Option<Change>)>,
        now: UnixMillis,
    ) -> Result<Appended, QueueError> {
        let mut append = Append {
            message: None,
            received_at: now,
            deliveries: Vec::with_capacity(found.len()),
            set_aside: Vec::new(),
        };
        for (event, change) in found {
            if instance.objects.matches(event.object_type.as_str(), &event.event_name, &event.key) {
                append.deliveries.push(NewDelivery { instance: Arc::clone(&instance.name), event, change });
            } else {
                Metrics::count(&self.metrics.events, &instance.name, "filtered", 1);
            }
        }
        if append.deliveries.is_empty() {
            return Ok(Appended::default());
        }
        let appended = self.queue.append(append).await?;
        Metrics::count(&self.metrics.events, &instance.name, "queued", appended.queued as u64);
        Metrics::count(&self.metrics.events, &instance.name, "duplicate", appended.duplicates as u64);
        Ok(appended)
    }

    /// Bucket allow-list, `event.objects`, and the audit of a record that cannot be right.
    fn wanted(&self, instance: &Instance, notice: &Notice<'_>, event: &Event) -> bool {
        if !instance.buckets.is_empty() && !instance.buckets.contains(&event.bucket) {
            Metrics::count(&self.metrics.events, &instance.name, "foreign_bucket", 1);
            // A topic's signature proves the topic, not S3: whoever may publish to it can write such a record.
            if let Some(unsaid) = self.audit.admit(Kind::ForeignBucket, &instance.name, 1, Instant::now()) {
                tracing::warn!(
                    instance = &*instance.name,
                    topic = notice.topic,
                    bucket = bounded(&event.bucket),
                    message_id = notice.message_id,
                    unsaid,
                    "dropped a record of a bucket that this instance does not accept (POSTERN_BUCKETS); more within a minute are only counted"
                );
            }
            return false;
        }
        if let (Some(topic_region), Some(region)) = (notice.topic_region, event.region.as_deref())
            && !region.is_empty()
            && region != topic_region
        {
            Metrics::count(&self.metrics.events, &instance.name, "region_mismatch", 1);
            if let Some(unsaid) = self.audit.admit(Kind::RegionMismatch, &instance.name, 1, Instant::now()) {
                tracing::warn!(
                    instance = &*instance.name,
                    topic = notice.topic,
                    region = bounded(region),
                    message_id = notice.message_id,
                    unsaid,
                    "a record names another region than its topic; S3 publishes only within a region"
                );
            }
        }
        let wanted = instance.objects.matches(event.object_type.as_str(), &event.event_name, &event.key);
        if !wanted {
            Metrics::count(&self.metrics.events, &instance.name, "filtered", 1);
        }
        wanted
    }

    fn count(
        &self,
        names: &[Arc<str>],
        aside: &[(Arc<str>, &'static str, String)],
        appended: &Appended,
        notice: &Notice<'_>,
    ) {
        if appended.duplicate_message {
            for name in names {
                Metrics::count(&self.metrics.events, name, "duplicate", 1);
            }
            return;
        }
        // The queue tells how many were duplicates, not which; with several instances they are booked in order.
        let mut duplicates = appended.duplicates;
        for name in names {
            let outcome = if duplicates > 0 { "duplicate" } else { "queued" };
            duplicates = duplicates.saturating_sub(1);
            Metrics::count(&self.metrics.events, name, outcome, 1);
        }
        for (name, reason, detail) in aside {
            Metrics::count(&self.metrics.events, name, "set_aside", 1);
            tracing::warn!(
                instance = &**name,
                topic = notice.topic,
                message_id = notice.message_id,
                reason,
                detail,
                "set a genuine message aside that is no S3 event (postern events --state dead)"
            );
        }
    }
}

#[cfg(test)]
mod tests;
