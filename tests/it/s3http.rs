//! Bare S3 records over HTTP, against the real binary.
