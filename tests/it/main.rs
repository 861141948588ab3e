//! All integration tests, as one binary: real sockets on port 0, a real disk.

mod attacks;
mod crash;
mod demo;
mod deploy;
mod examples;
mod golden;
mod hard_cases;
mod impostors;
mod layers;
mod localstack;
mod lockfile;
mod lostwrites;
mod metrics;
mod readme;
mod repository;
mod support;
