//! Postern: an event sidecar.

pub mod admin;
pub mod app;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod egress;
pub mod event;
pub mod health;
pub mod listener;
pub mod normalize;
pub mod queue;
pub mod record;
pub mod secret;
pub mod shutdown;
pub mod simulator;
pub mod sources;
pub mod telemetry;
