//! What the tests of delivery share: instances, events, a queue in memory and a receiver on a real socket.

use std::sync::Arc;

use crate::config::{CallbackUrl, Instance, ObjectFilter};

pub(super) fn instance(name: &str, callback: &str) -> Instance {
    Instance {
        name: Arc::from(name),
        id: 1,
        account_id: 0,
        company_id: 0,
        user_id: 0,
        element_key: "amazons3".into(),
        tags: Vec::new(),
        enabled: true,
        topics: Vec::new(),
        callback: CallbackUrl::Http(callback.parse().expect("a URL")),
        signature_keys: Vec::new(),
        headers: Vec::new(),
        basic: None,
        objects: ObjectFilter::default(),
        filter_nulls: None,
        validate: false,
        credentials: None,
        bucket: None,
        region: None,
        buckets: Vec::new(),
    }
}
