//! What an operator sees: metrics and logs.

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
