//! Golden files: what S3 says of each kind of event, and the whole body of the callback that follows.
//!
//! A file holds `message` (and `dialect`, where it is not Amazon's) and after it what came of it: `callbacks`, one body per
//! event, and `batch`, the one body of several. To accept a change, run with `POSTERN_UPDATE_GOLDEN=1` and read the diff.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern::clock::UnixMillis;
use postern::config::{CallbackUrl, Format, Instance, ObjectFilter};
use postern::dispatch::format::encode;
use postern::event::{Event, EventId, Origin};
use postern::normalize::{self, Context};
use postern::queue::{Claim, Owed};
use postern::record::{self, Body, Dialect};
use serde_json::value::RawValue;

/// The concrete event types of S3 (`sns.md` 3.1).
const EVENT_NAMES: [&str; 24] = [
    "IntelligentTiering",
    "LifecycleExpiration:Delete",
    "LifecycleExpiration:DeleteMarkerCreated",
    "LifecycleTransition",
    "ObjectAcl:Put",
    "ObjectAnnotation:Delete",
    "ObjectAnnotation:Put",
    "ObjectCreated:CompleteMultipartUpload",
    "ObjectCreated:Copy",
    "ObjectCreated:Post",
    "ObjectCreated:Put",
    "ObjectRemoved:Delete",
    "ObjectRemoved:DeleteMarkerCreated",
    "ObjectRestore:Completed",
    "ObjectRestore:Delete",
    "ObjectRestore:Post",
    "ObjectRetention:Put",
    "ObjectTagging:Delete",
    "ObjectTagging:Put",
    "ReducedRedundancyLostObject",
    "Replication:OperationFailedReplication",
    "Replication:OperationMissedThreshold",
    "Replication:OperationNotTracked",
    "Replication:OperationReplicatedAfterThreshold",
];

const OTHERS: [&str; 4] = ["mcs", "multi-record", "test-event", "unknown-future-event"];

#[test]
fn every_golden_message_gives_the_callbacks_that_stand_beside_it() {
    let update = std::env::var_os("POSTERN_UPDATE_GOLDEN").is_some_and(|v| v == "1");
    let mut differing = Vec::new();
    for path in files() {
        let before = std::fs::read_to_string(&path).expect("readable");
        let after = outcome(&before);
        if before == after {
            continue;
        }
        if update {
            std::fs::write(&path, after).expect("writable");
        } else {
            let line = before.lines().zip(after.lines()).position(|(a, b)| a != b).map_or(0, |n| n + 1);
            differing.push(format!("{} from line {line} on", path.display()));
        }
    }
    assert!(differing.is_empty(), "run with POSTERN_UPDATE_GOLDEN=1 and read the diff of {differing:#?}");
}

#[test]
fn there_is_a_golden_file_for_each_event_type_and_it_holds_that_type() {
    let present: BTreeSet<String> =
        files().iter().map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    let wanted: BTreeSet<String> = EVENT_NAMES.iter().chain(&OTHERS).map(|name| name.replace(':', ".")).collect();
    assert_eq!(present, wanted);
    for name in EVENT_NAMES {
        let path = folder().join(format!("{}.json", name.replace(':', ".")));
        let text = std::fs::read_to_string(path).expect("readable");
        let file: File<'_> = serde_json::from_str(&text).expect("JSON");
        assert!(file.message.get().contains(&format!("\"eventName\": \"{name}\"")), "{name}");
    }
}

#[derive(serde::Deserialize)]
struct File<'a> {
    dialect: Option<&'a str>,
    #[serde(borrow)]
    message: &'a RawValue,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// The file as it ought to be.
fn outcome(text: &str) -> String {
    let file: File<'_> = serde_json::from_str(text).expect("a golden file");
    let dialect = match file.dialect {
        None => Dialect::AWS,
        Some("mcs") => Dialect::MCS,
        Some(other) => panic!("no dialect {other}"),
    };
    let message = compact(file.message.get());
    let context = Context {
        instance_id: "1207959552",
        origin: if dialect == Dialect::MCS { Origin::Mcs } else { Origin::Sns },
        dialect,
        topic: Some("arn:aws:sns:eu-west-1:123456789012:photos"),
        message_id: Some("22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"),
        received_at: UnixMillis::parse_rfc3339("2024-09-06T15:00:00.500Z").expect("a time"),
        notification: None,
    };
    let events: Vec<Event> = match record::parse(&message).expect("understood") {
        Body::Records(records) => {
            records.iter().map(|record| normalize::event(record.as_ref().expect("good"), &context)).collect()
        }
        Body::TestEvent(_) => Vec::new(),
    };
    let body = |items: &[Event]| {
        let claim = claim(items, context.received_at);
        String::from_utf8(encode(Format::CloudElements, &instance(), &claim).body.to_vec()).expect("UTF-8")
    };
    let callbacks: Vec<String> = events.iter().map(|event| body(std::slice::from_ref(event))).collect();

    let mut whole = String::from("{");
    if let Some(dialect) = file.dialect {
        write!(whole, "\"dialect\":\"{dialect}\",").expect("to memory");
    }
    write!(whole, "\"message\":{message},\"callbacks\":[{}]", callbacks.join(",")).expect("to memory");
    if events.len() > 1 {
        write!(whole, ",\"batch\":{}", body(&events)).expect("to memory");
    }
    whole.push('}');
    pretty(&whole)
}

fn claim(events: &[Event], at: UnixMillis) -> Claim {
    Claim {
        token: 1,
        instance: "photos".into(),
        delivery_id: if events.len() == 1 { events[0].id } else { EventId([0; 15]) },
        items: events
            .iter()
            .zip(42..)
            .map(|(event, seq)| {
                Arc::new(Owed { seq, accepted_at: at, paused_at_accept: Duration::ZERO, event: event.clone() })
            })
            .collect(),
        attempts: 0,
        first_failed_at: None,
    }
}

fn instance() -> Instance {
    Instance {
        name: "photos".into(),
        id: 1_207_959_552,
        account_id: 643,
        company_id: 280,
        user_id: 2374,
        element_key: "amazons3".to_owned(),
        mcs_element_key: "mcss3".into(),
        tags: vec!["production".to_owned()],
        enabled: true,
        topics: vec!["arn:aws:sns:eu-west-1:123456789012:photos".to_owned()],
        mcs_topics: Vec::new(),
        s3http: None,
        sqs: None,
        listing: None,
        callback: CallbackUrl::Http("http://127.0.0.1:8080/events".parse().expect("a URL")),
        signature_keys: Vec::new(),
        headers: Vec::new(),
        basic: None,
        objects: ObjectFilter::default(),
        filter_nulls: None,
        validate: false,
        credentials: None,
        bucket: None,
        region: None,
        buckets: Vec::new(),
    }
}

/// JSON without blanks between tokens, in the same order and with the same texts.
fn compact(json: &str) -> String {
    tokens(json).collect()
}

/// JSON with two blanks for each level. A function of the tokens alone, so the golden files compare byte for byte but for
/// blanks; that a body has none is checked where formats are tested.
fn pretty(json: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    let newline = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut tokens = tokens(json).peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if let Some(close) = tokens.next_if(|next| matches!(*next, "}" | "]")) {
                    out.push_str(close);
                } else {
                    depth += 1;
                    newline(&mut out, depth);
                }
            }
            "}" | "]" => {
                depth -= 1;
                newline(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                newline(&mut out, depth);
            }
            ":" => out.push_str(": "),
            _ => out.push_str(token),
        }
    }
    out.push('\n');
    out
}

fn tokens(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let length = match first {
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            '"' => {
                let mut escaped = false;
                let close = rest.bytes().skip(1).position(|byte| {
                    let closes = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    closes
                });
                close.expect("valid JSON") + 2
            }
            _ => rest.find(|c: char| "{}[],:".contains(c) || c.is_whitespace()).unwrap_or(rest.len()),
        };
        let (token, tail) = rest.split_at(length);
        rest = tail;
        Some(token)
    })
}
