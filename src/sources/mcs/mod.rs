//! MCS S3 (VK Cloud) webhooks: the handshake and the notifications of `s3-dialects.md` section 1.

use std::sync::Arc;

use hyper::StatusCode;

use crate::clock::Clock;
use crate::config::{Instance, McsEndpoint};
use crate::listener::{Answer, Request, Source};
use crate::queue::Pending;
use crate::sources::intake::Desk;

/// One URL of MCS S3 webhooks. `project|bucket` chooses the instances.
pub struct McsSource {
    endpoint: McsEndpoint,
    instances: Vec<Arc<Instance>>,
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
}

impl McsSource {
    /// A source behind `endpoint` for those of `instances` that are enabled and have MCS topics.
    pub fn new(endpoint: McsEndpoint, instances: &[Arc<Instance>], desk: Arc<Desk>, clock: Arc<dyn Clock>) -> Self {
        let instances = instances.iter().filter(|i| i.enabled && !i.mcs_topics.is_empty()).cloned().collect();
        Self { endpoint, instances, desk, clock }
    }
}

impl Source for McsSource {
    fn name(&self) -> &'static str {
        "mcs"
    }

    fn receive(&self, _request: Request) -> Pending<'_, Answer> {
        let _ = (&self.endpoint, &self.instances, &self.desk, &self.clock);
        Box::pin(async { Answer::plain(StatusCode::NOT_IMPLEMENTED, "not_implemented") })
    }
}
