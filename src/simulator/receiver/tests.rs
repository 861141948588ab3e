use hyper::HeaderMap;
use hyper::body::Bytes;
use ring::hmac;
use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::simulator::wire::{Connection, Target};

const KEY: &str = "key of the tests";

fn callback(id: &str, object: &str, sequencer: &str) -> (HeaderMap, Bytes) {
    let body = json!({"message": {"eventId": id, "events": [{"objectId": object}],
        "raw": {"Records": [{"s3": {"object": {"sequencer": sequencer}}}]}}})
    .to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
    let mac = |text: &str| STANDARD.encode(hmac::sign(&key, text.as_bytes()));
    let seconds = SystemClock.now().0 / 1000;
    let pairs = [
        ("elements-webhook-signature", format!("sha256={}", mac(&body))),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", format!("v1,{}", mac(&format!("{id}.{seconds}.{body}")))),
    ];
    let headers =
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect();
    (headers, Bytes::from(body))
}

async fn started(options: Options) -> (Receiver, Connection) {
    let receiver = Receiver::start(Options { keys: vec![KEY.to_owned()], ..options }).await.expect("a receiver");
    let target = match &receiver.bound {
        Bound::Tcp(_) => Target::new(&receiver.url().parse().expect("a URL"), None).expect("a target"),
        Bound::Unix(path) => Target::unix(path.clone(), "/events"),
    };
    let connection = Connection::new(Arc::new(target)).with_timeout(Duration::from_secs(60));
    (receiver, connection)
}

#[tokio::test]
async fn the_ledger_counts_what_was_taken_repeated_forged_and_out_of_order() {
    let (receiver, mut connection) = started(Options::default()).await;
    for (id, sequencer) in [("a", "02"), ("a", "02"), ("b", "01"), ("c", "03")] {
        let (headers, body) = callback(id, "k", sequencer);
        assert_eq!(connection.post(headers, body).await.expect("an answer").status, 200);
    }
    receiver.ledger(|ledger| {
        assert_eq!((ledger.requests, ledger.taken, ledger.repeated, ledger.out_of_order), (4, 4, 1, 1));
        assert_eq!(ledger.objects["k"].events, ["a", "b", "c"]);
        assert_eq!(ledger.events["a"], 2);
        assert!(ledger.is_clean());
    });
    let (headers, _) = callback("d", "k", "04");
    connection.post(headers, Bytes::from_static(b"{}")).await.expect("an answer");
    let (_, body) = callback("e", "k", "05");
    connection.post(HeaderMap::new(), body).await.expect("an answer");
    receiver.ledger(|ledger| assert_eq!((ledger.bad_signatures, ledger.unsigned, ledger.malformed), (1, 1, 1)));
}

#[tokio::test]
async fn it_misbehaves_as_it_is_told_and_takes_only_what_it_answers_with_2xx() {
    let (receiver, mut connection) = started(Options::default()).await;
    receiver.script([
        Behaviour::Status(500),
        Behaviour::Redirect("http://127.0.0.1/".into()),
        Behaviour::StatusRetryAfter(429, 7),
        Behaviour::Reset,
        Behaviour::Slow(Duration::from_millis(1)),
    ]);
    receiver.fail_key("bad", 422);
    let mut statuses = Vec::new();
    for object in ["k", "k", "k", "k", "k", "bad"] {
        let (headers, body) = callback("a", object, "01");
        statuses.push(connection.post(headers, body).await.map(|reply| reply.status.as_u16()).ok());
    }
    assert_eq!(statuses, [Some(500), Some(302), Some(429), None, Some(200), Some(422)]);
    assert!(receiver.wait_until(Duration::from_secs(60), |ledger| ledger.taken == 1 && ledger.requests == 6).await);
}

#[tokio::test]
async fn an_answer_that_drips_never_ends() {
    let (receiver, mut connection) = started(Options::default()).await;
    receiver.always(Behaviour::Drip);
    let (headers, body) = callback("a", "k", "01");
    let mut posting = tokio::spawn(async move { connection.post(headers, body).await });
    assert!(receiver.wait_until(Duration::from_secs(60), |ledger| ledger.requests == 1).await);
    let ended = tokio::time::timeout(Duration::from_millis(300), &mut posting).await;
    assert!(ended.is_err(), "the answer came to an end: {ended:?}");
    posting.abort();
    receiver.ledger(|ledger| assert_eq!((ledger.requests, ledger.taken), (1, 0)));
}

#[tokio::test]
async fn it_listens_on_a_unix_socket_and_remembers_no_more_than_it_was_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let listen = Listen::Unix(folder.path().join("app.sock"));
    let (receiver, mut connection) = started(Options { listen, remember: 1, ..Options::default() }).await;
    assert!(receiver.url().starts_with("unix:/") && receiver.url().ends_with(":/events"));
    for id in ["a", "b"] {
        let (headers, body) = callback(id, id, "01");
        assert_eq!(connection.post(headers, body).await.expect("an answer").status, 200);
    }
    receiver.ledger(|ledger| {
        assert_eq!((ledger.taken, ledger.events.len(), ledger.forgetful), (2, 1, true));
    });
}
