//! All integration tests, as one binary: real sockets on port 0, a real disk.

mod attacks;
mod crash;
mod examples;
mod golden;
mod lostwrites;
