//! The app: whether it can be reached, and whether what is signed for it verifies.
//!
//! By default it is only connected to, so that it never believes that something changed. With `--send-test-event` it is handed one
//! event that says of itself what it is, by the very code that delivers.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::value::RawValue;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

use super::{ASK_TIMEOUT, AT_ONCE, Context, Sink, handshake};
use crate::clock::{SystemClock, UnixMillis};
use crate::config::{CallbackUrl, Instance};
use crate::dispatch::attempt::{Attempter, Report};
use crate::dispatch::circuit::Ending;
use crate::dispatch::sign;
use crate::egress::{Client, Options, ProxySettings};
use crate::event::{Event, EventId, EventType, ObjectType, Origin};
use crate::health::Checked;
use crate::queue::{Claim, Owed, memory_key};
use crate::simulator::receiver::check;

const NAME: &str = "callback";
const TEST_EVENT: &str = "postern:TestEvent";
const TEST_OBJECT: &str = "postern-doctor";

pub(super) async fn run(context: &Arc<Context>, sink: &Sink) {
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for instance in &context.config.instances {
        sink.add_for(&instance.name, signature(instance, context.now()));
        let (context, instance, sink, gate) =
            (Arc::clone(context), Arc::clone(instance), sink.clone(), Arc::clone(&gate));
        tasks.spawn(async move {
            // This semaphore is never closed.
            let _place = gate.acquire_owned().await;
            let checked = if context.send_test_event {
                send(&context, &instance).await
            } else {
                reach(&context, &instance).await
            };
            sink.add_for(&instance.name, checked);
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Signs a body as deliveries are signed, and verifies it as an app does, by code that shares nothing with the former.
fn signature(instance: &Instance, now: UnixMillis) -> Checked {
    const NAME: &str = "signature";
    if instance.signature_keys.is_empty() {
        return Checked::warn(
            NAME,
            "there is no event.notification.signature.key: the app cannot tell callbacks from forged ones",
            "set one (openssl rand -base64 32), here and in the app",
        );
    }
    let body = b"{\"postern\":\"doctor\"}";
    let headers =
        sign::headers(&instance.signature_keys, &test_id(now), now.0.div_euclid(1000), body).into_iter().collect();
    let keys = |of: &crate::secret::Secret| vec![of.expose().to_owned()];
    // Every key must verify the standard signature, and the first the other one too.
    let all = instance.signature_keys.iter().all(|key| check(&headers, body, &keys(key), now).standard == Some(true));
    let first = instance.signature_keys.first().is_some_and(|key| check(&headers, body, &keys(key), now).is_good());
    if !all || !first {
        return Checked::fail(NAME, "what is signed does not verify", "report this as a bug of postern");
    }
    Checked::ok(NAME, format!("what is signed with {} key(s) verifies", instance.signature_keys.len()))
}

/// Connects and says nothing.
async fn reach(context: &Context, instance: &Instance) -> Checked {
    let callback = &instance.callback;
    if matches!(callback, CallbackUrl::Http(url) if ProxySettings::from_env().covers(url)) {
        return Checked::skip(
            NAME,
            format!("{callback} is reached through a proxy, so connecting tells nothing; --send-test-event tries it"),
        );
    }
    let connected = match callback {
        CallbackUrl::Unix { socket, .. } => {
            match tokio::time::timeout(ASK_TIMEOUT, UnixStream::connect(socket)).await {
                Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
                Err(_) => Err("no connection in time".to_owned()),
            }
        }
        CallbackUrl::Http(url) => match handshake::connect(url).await {
            Ok(chain) if url.scheme() == "https" => trusted(url, &chain, &authorities(context), context.now()),
            Ok(_) => Ok(()),
            Err(why) => Err(why),
        },
    };
    match connected {
        Ok(()) => Checked::ok(NAME, format!("{callback} can be connected to; --send-test-event also tries its answer")),
        Err(why) => Checked::fail(
            NAME,
            format!("{callback} cannot be reached: {why}"),
            "start the app, or correct event.notification.callback.url; what is owed is kept meanwhile",
        ),
    }
}

/// The contents of `POSTERN_EGRESS_CA_FILE`, which callbacks are trusted by as well.
fn authorities(context: &Context) -> Vec<Vec<u8>> {
    context.config.egress_ca_file.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// Whether deliveries would trust the chain that was shown.
fn trusted(url: &Url, chain: &[CertificateDer<'_>], extra: &[Vec<u8>], now: UnixMillis) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for pem in extra {
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    }
    let leaf = chain.first().and_then(|der| EndEntityCert::try_from(der).ok()).ok_or("it shows no certificate")?;
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.0).unwrap_or(0)));
    let not = |error: webpki::Error| {
        format!("its certificate is not acceptable: {error}; POSTERN_EGRESS_CA_FILE adds an authority")
    };
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &roots.roots, &chain[1..], at, KeyUsage::server_auth(), None, None)
        .map_err(not)?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let name = ServerName::try_from(host).map_err(|_| "its host cannot be the name in a certificate".to_owned())?;
    leaf.verify_is_valid_for_subject_name(&name).map_err(not)
}

/// Hands in one test event.
async fn send(context: &Context, instance: &Arc<Instance>) -> Checked {
    let options = Options { extra_ca_pem: authorities(context), idle_per_host: 0, proxy: ProxySettings::from_env() };
    let client = match Client::new(options) {
        Ok(client) => client,
        Err(error) => return Checked::fail(NAME, error.to_string(), "correct the setting"),
    };
    let Some(claim) = test_claim(instance, context.now()) else {
        return Checked::fail(NAME, "the test event cannot be made", "report this as a bug of postern");
    };
    let timeout = context.config.dispatch.attempt_timeout.min(2 * ASK_TIMEOUT);
    let attempter = Attempter::new(Arc::clone(instance), context.config.dispatch.format, timeout, client);
    judge(context, &instance.callback, &attempter.attempt(&claim, &SystemClock).await)
}

fn judge(context: &Context, callback: &CallbackUrl, report: &Report) -> Checked {
    // The app was sent all that the instance has of secrets, and may say them again.
    let (took, detail) = (report.record.took_ms, context.redactor.strict(&report.record.detail));
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    match (report.ending, report.record.status) {
        (Ending::Delivered, Some(status)) => {
            Checked::ok(NAME, format!("{callback} took the test event with status {status} after {took} ms"))
        }
        (_, Some(status @ (401 | 403))) => Checked::fail(
            NAME,
            format!("{callback} refused the test event with status {status}{detail}"),
            "compare event.notification.signature.key, .basic.* and .callback.headers with what the app expects",
        ),
        (_, Some(status)) => Checked::fail(
            NAME,
            format!("{callback} answered the test event with status {status}{detail}"),
            "events count as delivered only with a 2xx: correct the app or event.notification.callback.url",
        ),
        (_, None) => Checked::fail(
            NAME,
            format!("{callback} gave no answer to the test event ({}){detail}", report.word),
            "start the app, or correct event.notification.callback.url; what is owed is kept meanwhile",
        ),
    }
}

/// An id that no other event has, so that an app that drops duplicates takes each test event.
fn test_id(now: UnixMillis) -> EventId {
    let digest = memory_key(&[b"postern doctor", &now.0.to_be_bytes(), &std::process::id().to_be_bytes()]);
    let mut id = [0; 15];
    id.copy_from_slice(&digest[..15]);
    EventId(id)
}

/// One event that says of itself that it is none.
fn test_claim(instance: &Instance, now: UnixMillis) -> Option<Claim> {
    let bucket = instance.bucket.clone().unwrap_or_else(|| TEST_OBJECT.to_owned());
    let raw = serde_json::json!({
        "eventVersion": "2.1",
        "eventSource": "postern:doctor",
        "eventTime": now.to_iso_millis(),
        "eventName": TEST_EVENT,
        "s3": {"bucket": {"name": bucket}, "object": {"key": TEST_OBJECT}},
    });
    let event = Event {
        id: test_id(now),
        event_type: EventType::Unknown,
        object_type: ObjectType::File,
        bucket,
        key: TEST_OBJECT.to_owned(),
        raw_key: None,
        event_name: TEST_EVENT.to_owned(),
        version_id: None,
        e_tag: None,
        size: None,
        sequencer: None,
        time: now,
        poll_date: None,
        origin: Origin::Sns,
        topic: None,
        region: None,
        message_id: None,
        notification: None,
        raw: RawValue::from_string(raw.to_string()).ok()?,
    };
    let owed = Owed { seq: 0, accepted_at: now, paused_at_accept: Duration::ZERO, event };
    Some(Claim {
        token: 0,
        instance: Arc::clone(&instance.name),
        delivery_id: owed.event.id,
        items: vec![Arc::new(owed)],
        attempts: 0,
        first_failed_at: None,
    })
}
