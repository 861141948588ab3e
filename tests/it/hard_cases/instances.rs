//! Several instances, and the forms in which they are written down. (Hard cases 15, 16 and 19.)

use std::time::Duration;

use postern::simulator::receiver::Behaviour;
use serde_json::{Value, json};

use super::stand::{Stand, app, body, calls, get};

/// A document for `stand`'s topic with these configuration keys besides.
fn document(stand: &Stand, name: &str, configuration: Value) -> String {
    let mut all = json!({"event.notification.enabled": true, "event.vendor.type": "webhooks",
        "event.sns.topic.arn": stand.simulator.topic_arn()});
    for (key, value) in configuration.as_object().expect("an object") {
        all[key] = value.clone();
    }
    json!({"element": {"key": "amazons3"}, "configuration": all, "tags": ["t"], "name": name}).to_string()
}

/// Two instances of one topic: `hog/…` goes to the stand's app, `calm/…` to a second one.
async fn two(extra: &[(&str, &str)]) -> (Stand, postern::simulator::receiver::Receiver) {
    let mut stand = Stand::prepare(&[
        ("EVENT_SNS_TOPIC_ARN", ""),
        ("EVENT_NOTIFICATION_CALLBACK_URL", ""),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""),
    ])
    .await;
    let calm = app().await;
    let key = super::stand::KEY;
    for (name, url) in [("hog", stand.app.url()), ("calm", calm.url())] {
        let objects = format!("key:{name}/**");
        let text = document(
            &stand,
            name,
            json!({"event.notification.callback.url": url,
            "event.notification.signature.key": key, "event.objects": objects}),
        );
        stand.file(&format!("instances/{name}.json"), &text);
    }
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    for (name, value) in extra {
        stand.set(name, value);
    }
    stand.begin().await;
    (stand, calm)
}

/// Hard case 15. A topic of two instances is confirmed once and goes to both, each time under an id of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_two_instances_goes_to_both() {
    let mut stand = Stand::prepare(&[
        ("EVENT_SNS_TOPIC_ARN", ""),
        ("EVENT_NOTIFICATION_CALLBACK_URL", ""),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""),
    ])
    .await;
    let other = app().await;
    let both = [("first", stand.app.url(), super::stand::KEY), ("second", other.url(), "another key")].map(
        |(name, url, key)| {
            let text = document(
                &stand,
                name,
                json!({"event.notification.callback.url": url, "event.notification.signature.key": key}),
            );
            serde_json::from_str::<Value>(&text).expect("JSON")
        },
    );
    let file = stand.file("instances.json", &json!(both).to_string());
    stand.set("POSTERN_INSTANCES", &file);
    stand.begin().await;
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    stand.delivered_to(&other, &["a"]).await;
    let (first, second) = (calls(&stand.app).remove(0), calls(&other).remove(0));
    let name = |call| body(call)["message"]["instanceName"].clone();
    assert_eq!((name(&first), name(&second)), (json!("first"), json!("second")));
    assert_ne!(body(&first)["message"]["eventId"], body(&second)["message"]["eventId"]);
    assert!(stand.app.ledger(|ledger| ledger.is_clean()));
    // The second app has been given the key of the first: what it gets is signed with its own.
    assert_eq!(other.ledger(|ledger| ledger.bad_signatures), 1);
    assert_eq!(stand.rows(&["--instance", "second"]).await.len(), 1);
}

/// Hard case 16. An app that never answers holds at most half of the attempts: the other instance goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_never_answers_does_not_starve_the_other_instance() {
    let (stand, calm) = two(&[("POSTERN_CONCURRENCY", "2"), ("POSTERN_ATTEMPT_TIMEOUT", "10m")]).await;
    stand.app.always(Behaviour::Slow(Duration::from_secs(600)));
    stand.create(&["hog/1", "hog/2", "hog/3", "hog/4"]).await;
    for n in 0..4 {
        let key = format!("calm/{n}");
        stand.create(&[&key]).await;
        stand.delivered_to(&calm, &[&key]).await;
    }
    assert_eq!(stand.rows(&["--state", "owed", "--instance", "hog"]).await.len(), 4);
}

/// Hard case 16. One instance holds at most half of the bytes: past that its own events are refused with 503, which SNS tries again,
/// and those of the other are taken. When it has delivered, it is taken from again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_instance_that_holds_half_of_the_bytes_is_refused() {
    let (stand, calm) = two(&[("POSTERN_QUEUE_MAX_BYTES", "64KiB")]).await;
    stand.app.always(Behaviour::Status(503));
    let mut accepted = Vec::new();
    let refused = loop {
        let key = format!("hog/{}", accepted.len());
        match stand.notify(&[super::stand::created(&key)]).await {
            200 => accepted.push(key),
            status => break status,
        }
        assert!(accepted.len() < 200, "64 KiB hold no 200 events\n{}", stand.log());
    };
    assert_eq!(refused, 503, "{}", stand.log());
    let owed = owed_bytes(&stand, "hog").await;
    assert!((16 << 10..=32 << 10).contains(&owed), "{owed} of 64 KiB\n{}", stand.log());
    stand.create(&["calm/1"]).await;
    stand.delivered_to(&calm, &["calm/1"]).await;
    // Bytes are given back.
    stand.app.always(Behaviour::Status(200));
    let keys: Vec<&str> = accepted.iter().map(String::as_str).collect();
    stand.delivered(&keys).await;
    stand.wait_rows(&["--state", "owed"], 0).await;
    stand.create(&["hog/again"]).await;
    stand.delivered(&["hog/again"]).await;
}

async fn owed_bytes(stand: &Stand, instance: &str) -> u64 {
    let metrics = get(stand.admin, "/metrics").await.expect("metrics").body;
    let label = format!("{{instance=\"{instance}\"}}");
    let line = metrics.lines().find(|line| line.starts_with("postern_queue_owed_bytes") && line.contains(&label));
    line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_else(|| panic!("{metrics}")) as u64
}

/// Hard case 19. The document of the Cloud Elements page as it is, with values for its placeholders, and a callback from the
/// environment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_instance_document_works_as_it_is() {
    let mut stand = Stand::prepare(&[("EVENT_SNS_TOPIC_ARN", "")]).await;
    let arn = stand.simulator.topic_arn().to_owned();
    let name = arn.rsplit(':').next().expect("a name");
    let document = format!(
        r#"{{
  "element": {{
    "key": "amazons3"
  }},
  "configuration": {{
    "filter.response.nulls": "true",
    "event.vendor.type": "webhooks",
    "event.notification.enabled": true,
    "validate.instance": "false",
    "event.sns.topic.arn": "{arn}",
    "event.sns.topic.name": "{name}",
    "filemanagement.provider.access_key": "AKIAIOSFODNN7EXAMPLE",
    "filemanagement.provider.secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "filemanagement.provider.bucket_name": "hard-cases",
    "filemanagement.provider.region_name": "us-east-1"
  }},
  "tags": [
    "production"
  ],
  "name": "Photos"
}}"#
    );
    let file = stand.file("instance.json", &document);
    stand.set("POSTERN_INSTANCES", &file);
    stand.begin().await;
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    let message = body(&calls(&stand.app)[0])["message"].clone();
    assert_eq!((&message["instanceName"], &message["instanceTags"]), (&json!("Photos"), &json!(["production"])));
    assert!(stand.app.ledger(|ledger| ledger.is_clean()), "signed with the environment's key");
    assert!(!stand.log().contains("wJalrXUtnFEMI"), "{}", stand.log());
}

/// Hard case 19. The fragment of the same page, which has no more than a configuration; and tags as one string, as its table says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bare_configuration_fragment_and_tags_as_a_string_work() {
    let mut stand = Stand::prepare(&[("EVENT_SNS_TOPIC_ARN", "")]).await;
    let arn = stand.simulator.topic_arn().to_owned();
    let name = arn.rsplit(':').next().expect("a name").to_owned();
    let fragment = format!(
        r#"{{
"event.notification.enabled": true,
"event.vendor.type": "webhooks",
"validate.instance": false,
"event.sns.topic.arn": "{arn}",
"event.sns.topic.name": "{name}"
}}"#
    );
    stand.file("instances/fragment.json", &fragment);
    let whole = json!({"name": "whole", "tags": "blue,green", "configuration": serde_json::from_str::<Value>(&fragment).expect("JSON")});
    stand.file("instances/whole.json", &whole.to_string());
    let folder = stand.dir.path().join("instances").to_str().expect("a path").to_owned();
    stand.set("POSTERN_INSTANCES", &folder);
    stand.begin().await;
    stand.create(&["a"]).await;
    assert!(stand.app.wait_until(super::stand::PATIENCE, |ledger| ledger.taken == 2).await, "{}", stand.log());
    let mut told: Vec<(Value, Value)> = calls(&stand.app)
        .iter()
        .map(|call| (body(call)["message"]["instanceName"].clone(), body(call)["message"]["instanceTags"].clone()))
        .collect();
    told.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(told, [(json!(name), json!([])), (json!("whole"), json!(["blue", "green"]))]);
}

/// An instance that is switched off accepts nothing, and still delivers what it owes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_off_accepts_nothing_and_delivers_what_it_owes() {
    let mut stand = Stand::start(&[]).await;
    stand.app.always(Behaviour::Status(503));
    stand.create(&["a"]).await;
    stand.kill();
    stand.set("EVENT_NOTIFICATION_ENABLED", "false");
    stand.app.always(Behaviour::Status(200));
    stand.begin().await;
    assert_eq!(stand.notify(&[super::stand::created("b")]).await, 403, "{}", stand.log());
    stand.delivered(&["a"]).await;
    assert_eq!(stand.rows(&[]).await.len(), 1);
}
