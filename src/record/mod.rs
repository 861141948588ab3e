//! S3 records as producers send them.
