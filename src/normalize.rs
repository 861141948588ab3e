//! Pure: record to event.
