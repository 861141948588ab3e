//! The design's hard cases, from the side of delivery and of the operator, each against the real sidecar as a process.
//!
//! Every test says the number of its case. Of cases that are about intake or trust the tests are among the attacks, in the
//! modules, and in `localstack`: 1, 4, 7, 8, 9, 10 and 21.

mod batches;
mod blame;
mod bounds;
mod callback;
mod ending;
mod envelope;
mod instances;
mod operator;
mod order;
mod scripted;
pub(crate) mod stand;
mod start;
