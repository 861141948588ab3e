//! The running sidecar's own word: what `/ready` of its admin listener says is not well.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::{HeaderMap, Method};
use serde_json::Value;

use super::{ASK_TIMEOUT, Context, Sink};
use crate::config::{self, CallbackUrl};
use crate::egress::{Call, Client, Options};
use crate::health::Checked;

const NAME: &str = "sidecar";
/// A condition is a line or two, and there are a few for each instance.
const MAX_BODY: usize = 1 << 20;

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    let Ok((address, _)) = config::admin(&*context.environment) else {
        return sink.add(Checked::skip(NAME, "the settings of the admin listener are not usable"));
    };
    let asked = async {
        let url = CallbackUrl::parse(&format!("http://{address}/ready")).map_err(|(problem, _)| problem)?;
        // Never through a proxy: it is on this machine.
        let client = Client::new(Options::default()).map_err(|error| error.to_string())?;
        let call = Call {
            method: Method::GET,
            url: &url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: ASK_TIMEOUT,
            max_answer: MAX_BODY,
            refuse_longer: true,
        };
        client.call(call).await.map_err(|error| error.to_string())
    };
    match asked.await {
        Ok(reply) => judge(&reply.body).into_iter().for_each(|checked| sink.add(checked)),
        Err(why) => {
            sink.add(Checked::skip(NAME, format!("no sidecar answers at {address} (POSTERN_ADMIN_LISTEN): {why}")))
        }
    }
}

/// What `/ready` says.
fn judge(body: &[u8]) -> Vec<Checked> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let (Some(ready), Some(conditions)) = (answer["ready"].as_bool(), answer["conditions"].as_object()) else {
        let found = "what answers at POSTERN_ADMIN_LISTEN is no postern";
        return vec![Checked::warn(
            NAME,
            found,
            "another program has this port: set POSTERN_ADMIN_LISTEN to one of its own",
        )];
    };
    let mut all = Vec::new();
    for (name, condition) in conditions.iter().filter(|(_, condition)| condition["ok"] != true) {
        let reason = condition["reason"].as_str().unwrap_or_default();
        let blocks = condition["blocks"] == true;
        let found = format!("{name}: {reason}");
        all.push(if blocks {
            Checked::fail(NAME, found, "the running sidecar is not ready until this is solved")
        } else {
            Checked::warn(NAME, found, "")
        });
    }
    if all.is_empty() {
        let state = if ready { "ready" } else { "not ready" };
        all.push(Checked::ok(
            NAME,
            format!("the running sidecar is {state}, and all of its {} conditions are well", conditions.len()),
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Status;

    #[test]
    fn conditions_that_are_not_well_are_told_as_they_weigh() {
        let all = judge(
            br#"{"ready":false,"conditions":{"store":{"ok":false,"blocks":true,"reason":"disk full"},
            "callback a":{"ok":false,"blocks":false,"reason":"paused"},"tls":{"ok":true,"blocks":false,"reason":"fine"}}}"#,
        );
        assert_eq!(all.iter().map(|one| one.status).collect::<Vec<_>>(), [Status::Warn, Status::Fail]);
        assert_eq!(all[1].found, "store: disk full");
        assert_eq!(judge(br#"{"ready":true,"conditions":{}}"#)[0].status, Status::Ok);
        assert_eq!(judge(b"hello")[0].status, Status::Warn);
    }
}
