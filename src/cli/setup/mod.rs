//! `postern setup`: all that the console steps do, at Amazon, MCS S3 and Ceph.

use std::process::ExitCode;

use clap::Args as ClapArgs;

/// What to do.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {}

/// Runs the command.
pub async fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
