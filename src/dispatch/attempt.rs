//! One attempt: a signed POST, and what its answer means.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::circuit::{Ending, Trouble};
use super::{format, headers, retry, sign};
use crate::clock::Clock;
use crate::config::{Format, Instance};
use crate::egress::{Call, CallError, Client};
use crate::queue::{Attempt, Claim};

/// Of an answer at most this is read, so that its connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// And for no longer than this: the status has said what there is to say.
const MAX_READING: Duration = Duration::from_secs(1);

/// Characters of an answer or error that are kept.
const MAX_DETAIL: usize = 200;

/// Makes attempts for one instance.
#[derive(Debug)]
pub struct Attempter {
    instance: Arc<Instance>,
    standing: HeaderMap,
    format: Format,
    timeout: Duration,
    client: Client,
}

/// How an attempt went.
#[derive(Debug)]
pub struct Report {
    /// What it says of the callback.
    pub ending: Ending,
    /// A 4xx that says the app will never take this: not 408, 425 or 429.
    pub refused: bool,
    /// `Retry-After` of the answer.
    pub retry_after: Option<Duration>,
    /// A word of the code for metrics; the record has it too.
    pub word: &'static str,
    /// How long it took.
    pub took: Duration,
    /// For the delivery's log. Whether it counts is not yet decided: `counted` is false.
    pub record: Attempt,
}

impl Attempter {
    /// Attempts to the callback of `instance`, each bounded by `timeout`.
    pub fn new(instance: Arc<Instance>, format: Format, timeout: Duration, client: Client) -> Self {
        let standing = headers::standing(&instance);
        Self { instance, standing, format, timeout, client }
    }

    /// Makes one attempt. Dropping the future cuts it off.
    pub async fn attempt(&self, claim: &Claim, clock: &dyn Clock) -> Report {
        let began = Instant::now();
        let at = clock.now();
        let encoded = format::encode(self.format, &self.instance, claim);
        let signatures =
            sign::headers(&self.instance.signature_keys, &claim.delivery_id, at.0.div_euclid(1000), &encoded.body);
        let call = Call {
            method: Method::POST,
            url: &self.instance.callback,
            headers: headers::of_attempt(&self.standing, &encoded, signatures),
            body: encoded.body,
            timeout: self.timeout,
            max_answer: MAX_ANSWER,
            refuse_longer: false,
        };
        let sent = self.client.send(call).await;
        let (meaning, detail) = match sent {
            Err(error) => (Meaning::of_error(&error), clean(error.to_string().as_bytes())),
            Ok(answer) => {
                let (status, headers) = (answer.status, answer.headers.clone());
                // The status stands whatever becomes of the body: one that drips for ever or breaks off is only not read.
                let body = answer.read(MAX_ANSWER, Instant::now() + MAX_READING).await;
                let body = body.map(|(body, _)| body).unwrap_or_default();
                let mut meaning = Meaning::of_status(status);
                let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
                meaning.retry_after = retry_after.and_then(|value| retry::parse_retry_after(value, clock.now()));
                (meaning, detail(status, &headers, &body))
            }
        };
        let took = began.elapsed();
        let record = Attempt {
            at,
            took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
            status: meaning.status.map(|status| status.as_u16()),
            outcome: meaning.word.to_owned(),
            detail,
            counted: false,
        };
        let Meaning { ending, refused, retry_after, word, .. } = meaning;
        Report { ending, refused, retry_after, word, took, record }
    }
}

struct Meaning {
    ending: Ending,
    refused: bool,
    retry_after: Option<Duration>,
    word: &'static str,
    status: Option<StatusCode>,
}

impl Meaning {
    fn of_status(status: StatusCode) -> Self {
        let (ending, word) = match status {
            StatusCode::SERVICE_UNAVAILABLE => (Ending::Wide(Trouble::Unavailable), "status"),
            StatusCode::TOO_MANY_REQUESTS => (Ending::Wide(Trouble::TooManyRequests), "status"),
            status if status.is_success() => (Ending::Delivered, "delivered"),
            status if status.is_redirection() => (Ending::Answered, "redirect"),
            _ => (Ending::Answered, "status"),
        };
        let passing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        let refused = status.is_client_error() && !passing.contains(&status);
        Self { ending, refused, retry_after: None, word, status: Some(status) }
    }

    fn of_error(error: &CallError) -> Self {
        let (ending, word) = match error {
            CallError::Connect(_) => (Ending::Wide(Trouble::Connect), "connect_refused"),
            CallError::Dns(_) => (Ending::Wide(Trouble::Dns), "dns"),
            CallError::Tls(_) => (Ending::Wide(Trouble::Tls), "tls"),
            CallError::Timeout(_) => (Ending::Silent, "timeout"),
            CallError::AnswerTooLarge(_) | CallError::Reset(_) => (Ending::Silent, "reset"),
        };
        Self { ending, refused: false, retry_after: None, word, status: None }
    }
}

/// What is kept of an answer: nothing of a good one, and of another what a person needs to find its cause.
fn detail(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> String {
    if status.is_success() {
        return String::new();
    }
    if status.is_redirection() {
        let location = headers.get(hyper::header::LOCATION).map_or(&b""[..], |value| value.as_bytes());
        let to = clean(location);
        return clean(
            format!("redirects are not followed; point the callback URL at the final address: {to}").as_bytes(),
        );
    }
    clean(body)
}

/// The start of a text from outside, in one line and without control or direction-changing characters.
fn clean(text: &[u8]) -> String {
    // Four bytes are the longest character, and white space that is dropped makes room for more.
    let start = &text[..text.len().min(8 * MAX_DETAIL)];
    let text = String::from_utf8_lossy(start);
    let visible = |c: char| {
        let hidden =
            c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if hidden { ' ' } else { c }
    };
    let spaced: String = text.chars().map(visible).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_meaning() {
        for (status, ending, refused) in [
            (200, Ending::Delivered, false),
            (204, Ending::Delivered, false),
            (302, Ending::Answered, false),
            (400, Ending::Answered, true),
            (404, Ending::Answered, true),
            (408, Ending::Answered, false),
            (410, Ending::Answered, true),
            (425, Ending::Answered, false),
            (429, Ending::Wide(Trouble::TooManyRequests), false),
            (500, Ending::Answered, false),
            (503, Ending::Wide(Trouble::Unavailable), false),
        ] {
            let meaning = Meaning::of_status(StatusCode::from_u16(status).expect("a status"));
            assert_eq!((meaning.ending, meaning.refused), (ending, refused), "{status}");
        }
    }

    #[test]
    fn a_detail_is_short_and_shows_on_one_line() {
        assert_eq!(clean(b"  no\x1b[31m\r\n such\x00 tenant \n"), "no [31m such tenant");
        assert_eq!(clean("a\u{202e}b".as_bytes()), "a b");
        assert_eq!(clean("ä".repeat(5000).as_bytes()).chars().count(), MAX_DETAIL);
        assert!(clean(&[0xff; 10_000]).chars().count() <= MAX_DETAIL);
    }
}
