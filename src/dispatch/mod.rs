//! Delivery.

pub mod circuit;
pub mod retry;
