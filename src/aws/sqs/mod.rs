//! SQS through the SDK: one queue, the four calls that draining it takes, and one word for each way in which they fail.

mod place;
mod problem;

use std::fmt;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::StalledStreamProtectionConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName, QueueAttributeName,
};
use url::Url;

use super::bound::Bound;
use super::{Aws, CONNECT_TIMEOUT, bounded};
pub use place::QueuePlace;
pub use problem::{SqsError, SqsProblem};
use problem::{Status, judge};

/// Messages in one call at most: SQS takes no more.
pub const BATCH: usize = 10;

/// Bound on one answer. Messages have 1 MiB at most, and so have ten together; as JSON each byte may take six.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// How long a receive waits for messages: the longest that SQS allows.
pub const LONG_POLL: Duration = Duration::from_secs(20);

/// Bound on a receive: the long poll, and the time that any other call gets.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bound on every other call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A received message.
#[derive(Clone)]
pub struct SqsMessage {
    /// SQS's id of it: the same each time that it is received.
    pub id: String,
    /// What this receipt of it is called in further calls.
    pub receipt: String,
    /// What it says.
    pub body: String,
    /// How often it was received, this time included; 1 where SQS does not say.
    pub receives: u32,
    /// When it was sent, in Unix milliseconds, where SQS says.
    pub sent_at: Option<i64>,
    /// Its group: the scope of order in a FIFO queue.
    pub group: Option<String>,
}

impl fmt::Debug for SqsMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsMessage").field("id", &self.id).field("receives", &self.receives).finish_non_exhaustive()
    }
}

/// One message in a batch call.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// [`SqsMessage::receipt`].
    pub receipt: &'a str,
    /// Seconds from now until it is visible again; a deletion does not look at it.
    pub visible_in: i32,
}

/// One queue.
pub struct SqsQueue {
    client: aws_sdk_sqs::Client,
    url: String,
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsQueue").finish_non_exhaustive()
    }
}

impl Aws {
    /// The queue at `url`, with the instance's credentials or the default chain's. Nothing is called or connected yet. A failed
    /// call is not repeated here: whoever drains the queue knows better when.
    pub async fn sqs_queue(&self, url: &Url) -> SqsQueue {
        let place = QueuePlace::of(url);
        let region = place.region.map_or_else(|| self.bucket_region.clone(), Region::new);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(RECEIVE_TIMEOUT)
            .operation_timeout(RECEIVE_TIMEOUT)
            .build();
        let mut config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .credentials_provider(self.provider().await.clone())
            .region(region)
            .retry_config(RetryConfig::disabled())
            .interceptor(Bound(MAX_ANSWER_BYTES))
            // An answer is small, and bounded by the timeouts above.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts);
        if let Some(endpoint) = place.endpoint {
            config = config.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        SqsQueue { client: aws_sdk_sqs::Client::from_conf(config.build()), url: url.to_string() }
    }
}

impl SqsQueue {
    /// Waits up to [`LONG_POLL`] for messages, at most [`BATCH`]. `lease` hides them for so many seconds instead of the queue's own
    /// visibility timeout. Dropping the future ends the call; what SQS had handed out by then comes again when that time is over.
    ///
    /// # Errors
    /// [`SqsError`].
    pub async fn receive(&self, lease: Option<i32>) -> Result<Vec<SqsMessage>, SqsError> {
        use MessageSystemAttributeName::{ApproximateReceiveCount, MessageGroupId, SentTimestamp};
        let call = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .wait_time_seconds(20)
            .message_system_attribute_names(ApproximateReceiveCount)
            .message_system_attribute_names(SentTimestamp)
            .message_system_attribute_names(MessageGroupId)
            .set_visibility_timeout(lease);
        let answer = call.send().await.map_err(|error| judge("ReceiveMessage", &error))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(message).collect())
    }

    /// Deletes up to [`BATCH`] messages; what became of each, in their order.
    ///
    /// # Errors
    /// [`SqsError`] when the call as a whole failed.
    pub async fn delete(&self, changes: &[Change<'_>]) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        const CALL: &str = "DeleteMessage";
        let entry = |(index, change): (usize, &Change<'_>)| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(change.receipt);
            // Id and receipt are all that an entry needs.
            entry.build().ok()
        };
        let entries: Vec<_> = changes.iter().enumerate().filter_map(entry).collect();
        let call = self.client.delete_message_batch().queue_url(&self.url).set_entries(Some(entries)).send();
        let answer = in_time(CALL, call).await?;
        Ok(each(CALL, changes.len(), answer.successful.iter().map(|entry| entry.id.as_str()), &answer.failed))
    }

    /// Says of up to [`BATCH`] messages when they are visible again; what became of each, in their order.
    ///
    /// # Errors
    /// [`SqsError`] when the call as a whole failed.
    pub async fn change_visibility(&self, changes: &[Change<'_>]) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        const CALL: &str = "ChangeMessageVisibility";
        let entry = |(index, change): (usize, &Change<'_>)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(change.receipt)
                .visibility_timeout(change.visible_in);
            entry.build().ok()
        };
        let entries: Vec<_> = changes.iter().enumerate().filter_map(entry).collect();
        let call = self.client.change_message_visibility_batch().queue_url(&self.url).set_entries(Some(entries)).send();
        let answer = in_time(CALL, call).await?;
        Ok(each(CALL, changes.len(), answer.successful.iter().map(|entry| entry.id.as_str()), &answer.failed))
    }

    /// For how many seconds the queue hides what it has handed out.
    ///
    /// # Errors
    /// [`SqsError`].
    pub async fn visibility_timeout(&self) -> Result<u32, SqsError> {
        const CALL: &str = "GetQueueAttributes";
        let name = QueueAttributeName::VisibilityTimeout;
        let call = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name.clone()).send();
        let answer = in_time(CALL, call).await?;
        let value = answer.attributes().and_then(|attributes| attributes.get(&name)?.parse().ok());
        value.ok_or_else(|| SqsError {
            call: CALL,
            problem: SqsProblem::Server,
            text: "the answer tells no VisibilityTimeout".to_owned(),
        })
    }
}

fn message(message: Message) -> Option<SqsMessage> {
    let attribute = |name| message.attributes().and_then(|all| all.get(&name)).cloned();
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount).and_then(|text| text.parse().ok());
    let sent_at = attribute(MessageSystemAttributeName::SentTimestamp).and_then(|text| text.parse().ok());
    let group = attribute(MessageSystemAttributeName::MessageGroupId);
    // Without a receipt nothing can be said to SQS about it; it comes again.
    let receipt = message.receipt_handle?;
    let (id, body) = (message.message_id.unwrap_or_default(), message.body.unwrap_or_default());
    Some(SqsMessage { id, receipt, body, receives: receives.unwrap_or(1), sent_at, group })
}

/// The results of a batch in the order of its entries; an entry that the answer does not name has failed.
fn each<'a>(
    call: &'static str,
    entries: usize,
    successful: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<(), SqsError>> {
    let unnamed = SqsError { call, problem: SqsProblem::Server, text: "the answer does not name it".to_owned() };
    let mut results = vec![Err(unnamed); entries];
    let place = |id: &str| id.parse::<usize>().ok().filter(|index| *index < entries);
    for index in successful.filter_map(place) {
        results[index] = Ok(());
    }
    for entry in failed {
        if let Some(index) = place(&entry.id) {
            let known = SqsProblem::of(&entry.code, if entry.sender_fault { 400 } else { 500 });
            let text = bounded(&format!("{}: {}", entry.code, entry.message.as_deref().unwrap_or_default()), "");
            results[index] = Err(SqsError { call, problem: known, text });
        }
    }
    results
}

async fn in_time<T, E, R>(
    call: &'static str,
    answer: impl Future<Output = Result<T, SdkError<E, R>>>,
) -> Result<T, SqsError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: Status,
{
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(|error| judge(call, &error)),
        Err(_) => {
            let text = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            Err(SqsError { call, problem: SqsProblem::Timeout, text })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_the_answer_does_not_name_has_failed() {
        let failed = BatchResultErrorEntry::builder().id("1").code("InternalError").sender_fault(false).build();
        let results = each("DeleteMessage", 4, ["0", "9", "x"].into_iter(), &[failed.expect("an entry")]);
        let words: Vec<_> = results.iter().map(|result| result.as_ref().map_err(|error| error.problem)).collect();
        assert_eq!(words, [Ok(&()), Err(SqsProblem::Server), Err(SqsProblem::Server), Err(SqsProblem::Server)]);
    }
}
