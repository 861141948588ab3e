//! All integration tests, as one binary: real sockets on port 0, a real disk.

mod attacks;
mod crash;
mod demo;
mod deploy;
mod doctor;
mod examples;
mod golden;
mod hard_cases;
mod impostors;
mod layers;
#[cfg(feature = "aws")]
mod listing;
mod localstack;
mod lockfile;
mod lostwrites;
mod mcs;
mod metrics;
mod readme;
mod repository;
mod s3http;
#[cfg(feature = "aws")]
mod setup;
mod simulate;
#[cfg(feature = "aws")]
mod sqs;
mod support;
