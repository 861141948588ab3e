//! The clock, against the Date of somebody else's answer: messages, certificates and signatures are all judged by it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::{ASK_TIMEOUT, Context, Sink, sns};
use crate::clock::UnixMillis;
use crate::config::CallbackUrl;
use crate::health::Checked;

const NAME: &str = "clock";
/// Beyond this `serve` no longer refuses by its clock (hard case 9).
const NOTICEABLE: Duration = Duration::from_secs(60);
/// How far into the future a message may be (hard case 9).
const TOLERATED: Duration = Duration::from_mins(5);
/// Hosts that are asked at most; one good answer is enough.
const MAX_HOSTS: usize = 4;

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    let Ok(fetch) = &context.fetch else {
        return sink.add(Checked::skip(NAME, "outgoing HTTP cannot be set up, so there is nobody to compare with"));
    };
    let hosts = hosts(context);
    for url in &hosts {
        let before = context.now();
        // Of what is answered only the Date matters; what is too long to be read has none for us.
        let Ok(answer) = fetch.get(url, 64 * 1024, ASK_TIMEOUT / 2).await else { continue };
        if let Some(date) = answer.date {
            return sink.add(judge(url.host_str().unwrap_or_default(), date, before, context.now()));
        }
    }
    sink.add(if hosts.is_empty() {
        Checked::skip(NAME, "nobody is asked whose Date could be compared; with --send-test-event the callback is")
    } else {
        Checked::skip(NAME, "nobody answered with a Date to compare with")
    });
}

/// Who is asked: each SNS, the S3 and the SQS that are in use, and with `--send-test-event` the callback.
fn hosts(context: &Context) -> BTreeSet<Url> {
    let config = &context.config;
    let mut hosts: BTreeSet<Url> = sns::hosts(config).into_iter().collect();
    hosts.extend(config.s3.endpoint.clone());
    for queue in config.instances.iter().filter_map(|instance| instance.sqs.as_ref()).flat_map(|sqs| &sqs.queues) {
        hosts.extend(queue.join("/"));
    }
    if context.send_test_event {
        for instance in &config.instances {
            if let CallbackUrl::Http(url) = &instance.callback {
                hosts.extend(url.join("/"));
            }
        }
    }
    hosts.into_iter().take(MAX_HOSTS).collect()
}

/// `theirs` was written between `before` and `after`, to the second.
fn judge(who: &str, theirs: UnixMillis, before: UnixMillis, after: UnixMillis) -> Checked {
    // What an answer takes, and the second that a Date is rounded to, are no error of the clock.
    let ahead = before.since(theirs.plus(Duration::from_secs(1)));
    let behind = theirs.since(after);
    let off = ahead.max(behind);
    let way = if ahead > behind { "ahead of" } else { "behind" };
    let found = format!("our clock is {} s {way} that of {who}", off.as_secs());
    let advice = "set this machine's clock (NTP): by it messages are refused as too old and callbacks signed";
    if off > TOLERATED {
        return Checked::fail(NAME, found, advice);
    }
    if off > NOTICEABLE {
        return Checked::warn(NAME, found, advice);
    }
    if off.as_secs() == 0 {
        return Checked::ok(NAME, format!("our clock agrees with that of {who}"));
    }
    Checked::ok(NAME, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn a_clock_is_off_by_what_the_way_of_an_answer_does_not_explain() {
        let at = |seconds: i64| UnixMillis(1_790_000_000_000 + seconds * 1000);
        for (theirs, status, words) in [
            (0, Status::Ok, "agrees"),
            (2, Status::Ok, "agrees"),
            (-30, Status::Ok, "29 s ahead"),
            (-90, Status::Warn, "89 s ahead"),
            (100, Status::Warn, "98 s behind"),
            (-400, Status::Fail, "ahead of that of sns"),
            (4000, Status::Fail, "behind that of sns"),
        ] {
            let found = judge("sns", at(theirs), at(0), at(2));
            assert_eq!(found.status, status, "{found:?}");
            assert!(found.found.contains(words), "{found:?}");
        }
    }
}
