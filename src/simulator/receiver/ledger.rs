//! What the app was handed.

use std::collections::{HashMap, VecDeque};

use hyper::HeaderMap;
use hyper::body::Bytes;
use serde_json::Value;

use super::check::Checked;

/// Whole callbacks that are kept, the last ones.
const KEPT_CALLBACKS: usize = 16;

/// One callback as it came.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Its signatures; `None` when they were not looked at.
    pub checked: Option<Checked>,
    /// What was answered; `None` for no answer.
    pub status: Option<u16>,
}

/// One object that the app has heard of.
#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Event ids in the order in which they were taken, each once.
    pub events: Vec<String>,
    /// The sequencer of the last new event.
    last_sequencer: Option<String>,
}

/// Everything the app was handed. Only what it answered with 2xx counts as taken.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Requests, whatever was answered.
    pub requests: u64,
    /// Callbacks that were taken.
    pub taken: u64,
    /// Of those, callbacks whose event id had been taken before.
    pub repeated: u64,
    /// Requests without both signatures.
    pub unsigned: u64,
    /// Requests with a signature that is wrong.
    pub bad_signatures: u64,
    /// Requests that are no event at all.
    pub malformed: u64,
    /// New events that are older by their sequencer than one taken before of the same object.
    pub out_of_order: u64,
    /// Whether the bound of what is remembered was reached.
    pub forgetful: bool,
    /// The last callbacks, newest at the end.
    pub last: VecDeque<Callback>,
    /// How often each event id was taken.
    pub events: HashMap<String, u32>,
    /// By object id (the key).
    pub objects: HashMap<String, Object>,
    remember: usize,
}

/// What the app reads in a callback.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) event_id: String,
    pub(super) objects: Vec<(String, Option<String>)>,
}

/// Reads the envelope of `cloud-elements.md` 1.1; `None` when it is not one.
pub(super) fn read(body: &[u8]) -> Option<Reading> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let message = json.get("message")?;
    let event_id = message.get("eventId")?.as_str()?.to_owned();
    let events = message.get("events")?.as_array()?;
    let records = message.pointer("/raw/Records").and_then(Value::as_array);
    let mut objects = Vec::with_capacity(events.len());
    for (at, event) in events.iter().enumerate() {
        let record = records.and_then(|records| records.get(at));
        let sequencer = record.and_then(|record| record.pointer("/s3/object/sequencer")?.as_str());
        objects.push((event.get("objectId")?.as_str()?.to_owned(), sequencer.map(str::to_owned)));
    }
    (!objects.is_empty()).then_some(Reading { event_id, objects })
}

impl Ledger {
    pub(super) fn new(remember: usize) -> Self {
        Self { remember, ..Self::default() }
    }

    /// Whether nothing came that should not: no wrong or missing signature, nothing unreadable.
    pub fn is_clean(&self) -> bool {
        self.bad_signatures == 0 && self.unsigned == 0 && self.malformed == 0
    }

    pub(super) fn enter(&mut self, callback: Callback, reading: Option<Reading>) {
        self.requests += 1;
        if let Some(Checked { elements, standard }) = callback.checked {
            self.unsigned += u64::from(elements.is_none() || standard.is_none());
            self.bad_signatures += u64::from(elements == Some(false) || standard == Some(false));
            self.malformed += u64::from(reading.is_none());
        }
        let taken = callback.status.is_some_and(|status| (200..300).contains(&status));
        if self.last.len() == KEPT_CALLBACKS {
            self.last.pop_front();
        }
        self.last.push_back(callback);
        if !taken {
            return;
        }
        self.taken += 1;
        let Some(Reading { event_id, objects }) = reading else { return };
        if let Some(times) = self.events.get_mut(&event_id) {
            *times += 1;
            self.repeated += 1;
            return;
        }
        if self.events.len() >= self.remember {
            self.forgetful = true;
            return;
        }
        self.events.insert(event_id.clone(), 1);
        for (object_id, sequencer) in objects {
            let object = self.objects.entry(object_id).or_default();
            object.events.push(event_id.clone());
            // Texts of one length compare as they are; other lengths come from no S3 that this app knows.
            if sequencer.is_some() && sequencer < object.last_sequencer {
                self.out_of_order += 1;
            }
            object.last_sequencer = sequencer.or_else(|| object.last_sequencer.take());
        }
    }
}
