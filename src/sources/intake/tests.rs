//! What a notification that is sent again is known by.

use std::collections::BTreeMap;

use super::*;

fn instance(name: &str) -> Arc<Instance> {
    let settings = [
        ("POSTERN_TLS", "off"),
        ("POSTERN_INSTANCE_NAME", name),
        ("EVENT_SNS_TOPIC_ARN", "arn:aws:sns:us-east-1:000000000000:t"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://localhost/"),
    ];
    let env: BTreeMap<String, String> = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    crate::config::load(&env).expect("a configuration").instances[0].clone()
}

#[test]
fn two_instances_that_drain_queues_of_the_same_topic_each_get_a_notification() {
    let key = |origin, name| {
        let notice = Notice {
            origin,
            dialect: Dialect::AWS,
            topic: "t",
            topic_region: None,
            message_id: Some("m"),
            message: "",
            envelope: "",
            received_at: UnixMillis(0),
        };
        memory_of(&[instance(name)], &notice, "m")
    };
    assert_ne!(key(Origin::Sqs, "a"), key(Origin::Sqs, "b"));
    assert_eq!(key(Origin::Sns, "a"), key(Origin::Sns, "b"), "by HTTPS it comes once for all of them");
}
