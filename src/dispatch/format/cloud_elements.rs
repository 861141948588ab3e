//! The Cloud Elements notification envelope (`cloud-elements.md` 1).

use serde::Serialize;

use super::{Records, to_json};
use crate::config::Instance;
use crate::event::{Event, EventType, Origin};
use crate::queue::Claim;

/// The hub of every file storage element.
const HUB: &str = "documents";

/// What two of the three published samples say, the newer ones.
const USER: &str = "notifications@cloud-elements.com";

/// Members in the order of the published samples. The order is no contract, but it lets two bodies be compared by eye.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    severity: &'static str,
    created_date: String,
    topic: String,
    action: &'static str,
    id: String,
    message: Message<'a>,
    user: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    element_key: &'a str,
    account_id: u64,
    event_id: String,
    company_id: u64,
    instance_id: u32,
    /// The platform sends both spellings.
    #[serde(rename = "instance_id")]
    instance_id_again: u32,
    instance_name: &'a str,
    instance_tags: &'a [String],
    raw: Records<'a>,
    user_id: u64,
    events: Vec<Item<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    date: String,
    element_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    poll_date: Option<String>,
    event_type: &'static str,
    hub_key: &'static str,
    object_id: &'a str,
    object_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_path: Option<String>,
}

pub(super) fn body(instance: &Instance, claim: &Claim) -> Vec<u8> {
    // A claim is never empty (its contract); an empty one would be an envelope of no events, dated 1970.
    let first = claim.items.first();
    let element_key = first.map_or(instance.element_key.as_str(), |item| element_key(instance, &item.event));
    to_json(&Envelope {
        severity: "medium",
        created_date: first.map(|item| item.accepted_at).unwrap_or_default().to_java_date(),
        topic: format!("instance-{}-{element_key}-events", instance.id),
        action: "create",
        id: first.map_or(0, |item| item.seq).to_string(),
        message: Message {
            element_key,
            account_id: instance.account_id,
            event_id: claim.delivery_id.to_string(),
            company_id: instance.company_id,
            instance_id: instance.id,
            instance_id_again: instance.id,
            instance_name: &instance.name,
            instance_tags: &instance.tags,
            raw: Records::of(instance, claim),
            user_id: instance.user_id,
            events: claim.items.iter().map(|item| describe(instance, &item.event)).collect(),
        },
        user: USER,
    })
}

/// One instance may hear of Amazon's changes and of MCS S3's, which are two elements.
fn element_key<'a>(instance: &'a Instance, event: &Event) -> &'a str {
    if event.origin == Origin::Mcs { &instance.mcs_element_key } else { &instance.element_key }
}

fn describe<'a>(instance: &'a Instance, event: &'a Event) -> Item<'a> {
    Item {
        date: event.time.to_iso_seconds(),
        element_key: element_key(instance, event),
        poll_date: event.poll_date.map(|date| date.to_iso_seconds()),
        event_type: event.event_type.as_str(),
        hub_key: HUB,
        object_id: &event.key,
        object_type: event.object_type.as_str(),
        // "new" is where the object is now and was not before: the one published consumer (a newly added Box file) reads it
        // so. An updated object has not moved, and a deleted one is nowhere.
        new_path: (event.event_type == EventType::Created).then(|| format!("/{}", event.key)),
    }
}
