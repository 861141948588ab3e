//! Delivery: from what is owed to an answered POST.
//!
//! [`worker`] claims deliveries from the queue and runs an [`attempt`] of each, side by side for different lanes. What an answer
//! means is decided by pure code: [`circuit`] tells a callback's trouble from an event's own, [`retry`] says when a delivery is
//! tried again or given up. [`mod@format`] writes the body, [`sign`] and [`headers`] what stands above it.

pub mod attempt;
pub mod circuit;
pub mod format;
pub mod headers;
mod relay;
pub mod retry;
pub mod sign;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod worker;
