//! Pure: what an event says of its object's present state, so that push and listings recognise each other's news (hard case 20).
//!
//! A state is an eTag, or that the object is gone: what both a notification and a listing tell. A listing tells no versionId, so
//! it is part of no state. Where an event leaves the state in doubt it says nothing of it, and a listing may then tell once more
//! what push told already: in doubt a duplicate, never a drop.
//!
//! | event | says |
//! |---|---|
//! | an object was written, with its eTag | this eTag |
//! | written, without an eTag (Backblaze B2, some copies) | nothing |
//! | removed without a versionId; a delete marker was made | gone |
//! | a version was removed | nothing: it may have been a noncurrent one, or the delete marker itself |
//! | tags, ACL, storage class, anything else | nothing |

use crate::clock::UnixMillis;
use crate::config::{Instance, ListingKind};
use crate::event::{Event, EventType};
use crate::queue::{Change, memory_key};

/// The state that a pushed event tells of; `None` where no listing reconciles the instance, or where the event leaves it in
/// doubt. `received_at` is when the notification came: an event of that very time has none of its producer's.
pub fn pushed(instance: &Instance, event: &Event, received_at: UnixMillis) -> Option<Change> {
    instance.listing.as_ref().filter(|listing| listing.kind == ListingKind::Reconcile)?;
    let e_tag = match event.event_type {
        EventType::Created => Some(event.e_tag.as_deref().map(plain).filter(|tag| !tag.is_empty())?),
        EventType::Deleted if is_gone(event) => None,
        EventType::Deleted | EventType::Unknown | EventType::Updated => return None,
    };
    Some(Change {
        object: object(instance, &event.bucket, &event.key),
        state: state(e_tag),
        at: Some(event.time).filter(|time| *time != received_at),
        listed_at: None,
        missing_since: None,
    })
}

/// The state that a listing found: `e_tag`, or with `None` that the object is gone; `since` is then LastModified, or when the walk
/// began that missed it first. `listed_at` is when the page that showed it was asked for, or at least when the walk began: a push of a
/// later change is no duplicate of it.
pub fn listed(
    instance: &Instance,
    bucket: &str,
    key: &str,
    e_tag: Option<&str>,
    since: Option<UnixMillis>,
    listed_at: UnixMillis,
) -> Change {
    Change {
        object: object(instance, bucket, key),
        state: state(e_tag.map(plain)),
        at: since.filter(|_| e_tag.is_some()),
        listed_at: Some(listed_at),
        missing_since: since.filter(|_| e_tag.is_none()),
    }
}

/// Whether the object itself is gone, for whoever reads the bucket without versions.
fn is_gone(event: &Event) -> bool {
    let (group, action) = event.event_name.split_once(':').unwrap_or((&event.event_name, ""));
    match (group, action) {
        ("ObjectRemoved" | "LifecycleExpiration", "DeleteMarkerCreated") => true,
        // MinIO's, with the object's versions all gone (s3-dialects.md 2.1).
        ("ObjectRemoved", "DeleteAllVersions") => true,
        // Ceph's, of the current version whatever id it had (s3-dialects.md 2.2).
        ("ObjectLifecycle", "Expiration:Current") => true,
        ("ObjectRemoved" | "LifecycleExpiration", _) => event.version_id.is_none(),
        _ => false,
    }
}

fn object(instance: &Instance, bucket: &str, key: &str) -> [u8; 16] {
    memory_key(&[b"object", instance.name.as_bytes(), bucket.as_bytes(), key.as_bytes()])
}

fn state(e_tag: Option<&str>) -> [u8; 16] {
    match e_tag {
        Some(e_tag) => memory_key(&[b"e_tag", e_tag.as_bytes()]),
        None => memory_key(&[b"gone"]),
    }
}

fn plain(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}

// Reconciliation needs the AWS client, and so does a configuration with it.
#[cfg(all(test, feature = "aws"))]
mod tests;
