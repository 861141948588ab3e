//! MCS S3 webhooks, against the real binary.
