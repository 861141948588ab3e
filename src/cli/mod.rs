//! The command line. Each command has its own file; this one only tells them apart.

pub mod demo;
pub mod doctor;
pub mod events;
mod redact;
pub mod serve;
pub mod setup;
pub mod simulate;
pub mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::clock::SystemClock;
use crate::{app, config};

/// A wrong command line or configuration: `EX_USAGE` of sysexits.
pub const EXIT_USAGE: u8 = 64;

/// A start that failed for a reason outside the configuration, such as a port in use: `EX_UNAVAILABLE`.
pub const EXIT_UNAVAILABLE: u8 = 69;

/// The event sidecar: proves S3 change notifications genuine, keeps them on disk until they are delivered, and POSTs them, signed, to the app beside it.
#[derive(Debug, Parser)]
#[command(
    name = "postern",
    version,
    max_term_width = 110,
    after_help = "Without a command, `serve`. Settings are environment variables: see `postern serve --help`."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar
    #[command(after_long_help = serve::settings_help())]
    Serve(serve::Args),
    /// Show everything on this machine: a signing SNS, the sidecar, and an app that checks signatures
    Demo(demo::Args),
    /// Send notifications, duplicates and forgeries to a sidecar, as SNS, MCS S3 or another store does
    ///
    /// The sidecar must be told to believe this simulator, which prints the settings that do it and waits for the sidecar. For SNS the
    /// trust anchor is new on every run: start the sidecar after the simulator.
    #[command(
        after_help = "Exit codes: 0 everything genuine was accepted and nothing forged, 1 not so, 2 it could not begin."
    )]
    Simulate(Box<simulate::Args>),
    /// Say of a saved SNS message whether it would be accepted, and which rule it breaks
    #[command(after_help = "Exit codes: 0 it would be accepted, 1 it would not, 2 it could not be judged.")]
    Verify(verify::Args),
    /// Have a bucket announce its changes here: all that the console steps do, at Amazon, MCS S3 and Ceph
    #[command(after_help = "Exit codes: 0 done, 1 a step failed, 64 a wrong setting or command line.")]
    Setup(setup::Args),
    /// Check everything that can be checked, and say what to do about what fails
    #[command(after_help = "Exit codes: 0 nothing failed, 1 something did, 64 a wrong command line.")]
    Doctor(doctor::Args),
    /// List what is owed, delivered, dead
    ///
    /// It reads the store beside a running sidecar, newest first, and changes nothing.
    Events(events::ListArgs),
    /// Send dead or superseded events again
    ///
    /// Only its owner may change a store: while a sidecar runs on it, that one is asked by its admin API, which needs
    /// POSTERN_ADMIN_TOKEN (and POSTERN_ADMIN_LISTEN) here as it has them.
    Replay(events::ChangeArgs),
    /// Give up owed or dead events on purpose
    ///
    /// They are kept as discarded until their time is over. A running sidecar is asked as for `postern replay`.
    Discard(events::ChangeArgs),
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // clap's own code for a wrong command line is 2; `verify` promises that, everything else is 64.
            let verify = std::env::args_os().nth(1).is_some_and(|arg| arg == "verify");
            return match (error.use_stderr(), verify) {
                (false, _) => ExitCode::SUCCESS,
                (true, true) => ExitCode::from(2),
                (true, false) => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    match cli.command.unwrap_or(Command::Serve(serve::Args {})) {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Simulate(args) => block_on(simulate::run(*args)),
        Command::Verify(args) => block_on(judge(args)),
        Command::Setup(args) => block_on(setup::run(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Events(args) => events::list(&args),
        Command::Replay(args) => events::replay(&args),
        Command::Discard(args) => events::discard(&args),
    }
}

fn block_on(command: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A name server or volume that hangs holds a thread for blocking work; it must not hold the exit.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(error) => {
            eprintln!("postern cannot start: the system gives no threads ({error})");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

/// `postern verify` with the machine around it: its environment, clock, network and standard streams.
async fn judge(args: verify::Args) -> ExitCode {
    let fetch = match app::outgoing(&config::ProcessEnvironment) {
        Ok(fetch) => fetch,
        Err(error) => {
            eprintln!("postern verify: {error}");
            return ExitCode::from(verify::USAGE);
        }
    };
    let outside = verify::Outside {
        env: &config::ProcessEnvironment,
        clock: &SystemClock,
        fetch,
        stdin: &mut std::io::stdin(),
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    ExitCode::from(verify::run(&args, outside).await)
}

/// The runtime of a command: as many workers as there are cores, small stacks for blocking work.
///
/// # Errors
/// An [`std::io::Error`] when the system gives no threads.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().max_blocking_threads(8).build()
}
