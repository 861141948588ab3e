//! The SQS source, against LocalStack and through a fault proxy.
