//! The process edge: command line and exit codes.

fn main() {}
