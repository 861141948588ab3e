//! `postern doctor`: checks everything that can be checked.

use std::process::ExitCode;

use clap::Args as ClapArgs;

/// What to do.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {}

/// Runs the command.
pub async fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
