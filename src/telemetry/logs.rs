//! Logs: `tracing` to standard error, as JSON or text.
