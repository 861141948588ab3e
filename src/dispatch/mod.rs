//! Delivery.

pub mod format;
pub mod sign;
