//! The process edge: the command line goes in, an exit code comes out.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One provider for the whole process, before anything can ask for another.
    let _ = rustls::crypto::ring::default_provider().install_default();
    postern::cli::main()
}
