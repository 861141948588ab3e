//! Bare S3 records over HTTP with a shared secret: MinIO, RustFS, Ceph RGW, NooBaa, versitygw, SNS raw delivery, and the JSON of
//! Backblaze B2 and EventBridge API destinations (`s3-dialects.md` 2 and 3).

use std::sync::Arc;

use hyper::StatusCode;

use crate::clock::Clock;
use crate::config::{Instance, S3HttpConfig};
use crate::listener::{Answer, Request, Source};
use crate::queue::Pending;
use crate::sources::intake::Desk;

/// `POST /s3/<secret>`: the secret chooses the instance.
pub struct S3HttpSource {
    config: S3HttpConfig,
    instance: Arc<Instance>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
}

impl S3HttpSource {
    /// The source of `instance`, which is enabled.
    pub fn new(config: S3HttpConfig, instance: Arc<Instance>, desk: Arc<Desk>, clock: Arc<dyn Clock>) -> Self {
        Self { config, instance, desk, clock }
    }
}

impl Source for S3HttpSource {
    fn name(&self) -> &'static str {
        "s3http"
    }

    fn receive(&self, _request: Request) -> Pending<'_, Answer> {
        let _ = (&self.config, &self.instance, &self.desk, &self.clock);
        Box::pin(async { Answer::plain(StatusCode::NOT_IMPLEMENTED, "not_implemented") })
    }
}
