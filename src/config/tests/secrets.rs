//! What must never happen: a secret in a message, and a panic.

use proptest::prelude::*;

use super::*;

/// Every secret setting with a value that must never be seen, in a form that is accepted.
fn secrets(marker: &str) -> Vec<(String, String)> {
    settings::SETTINGS
        .iter()
        .filter(|setting| setting.secret && setting.available)
        .map(|setting| match setting.name {
            "event.notification.callback.headers" => (setting.name, format!(r#"{{"X-Token": "{marker}"}}"#)),
            "POSTERN_MCS_URL" => (setting.name, format!("http://relay.example/{marker}")),
            name => (name, marker.to_owned()),
        })
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

#[test]
fn no_secret_is_ever_printed() {
    let marker = "hunter2-hunter2-hunter2";
    let mut map = env(&[
        ("event.notification.basic.username", "u"),
        ("POSTERN_SNS_BASIC_USERNAME", "u"),
        ("POSTERN_PUBLIC_URL", "https://relay.example/"),
        ("POSTERN_MCS_TOPICS", "mcs1|photos"),
    ]);
    map.remove("EVENT_NOTIFICATION_SIGNATURE_KEY");
    map.insert("EVENT_NOTIFICATION_CALLBACK_URL".into(), format!("http://app/?token={marker}"));
    map.extend(secrets(marker));
    let config = good(&map);
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(config.instances[0].signature_keys[0].expose(), marker, "the secrets did arrive");
}

#[test]
fn no_secret_is_printed_in_any_problem() {
    // Each secret broken in some way, beside contradictions between spellings and files.
    for broken in ["hunter2\u{1}\n x", "{\"hunter2\": \"hunter2\u{1}\"", "hunter2 hunter2"] {
        let mut map = env(&[("EVENT_NOTIFICATION_SIGNATURE_KEY", "hunter2"), ("POSTERN_LISTEN", "x")]);
        for (name, _) in secrets("") {
            map.insert(name.clone(), broken.to_owned());
            if name.contains('.') {
                map.insert(name.replace('.', "_").to_uppercase(), "other-hunter2".into());
            }
        }
        map.insert("POSTERN_MCS_SECRET".into(), broken.into());
        map.insert("EVENT_NOTIFICATION_CALLBACK_URL".into(), "https://u:hunter2@app/".into());
        let problems = lines(&bad(&map));
        assert!(!problems.contains("hunter2"), "{problems}");
    }
    let extra = ", \"event.notification.signature.key\": {\"hunter2\": 1}, \"filemanagement.provider.secret_key\": \"hunter2 \\n\"";
    let (_folder, map) = with_document(&document(extra), &[CALLBACK]);
    let problems = lines(&bad(&map));
    assert!(!problems.contains("hunter2"), "{problems}");
    let extra = ", \"POSTERN_S3HTTP_SECRET\": [\"hunter2\", \"hunter2a\", \"hunter2b\"], \"POSTERN_S3HTTP_AUTH\": \"hunter2: hunter2\\n\"";
    let (_folder, map) = with_document(&document(extra), &[CALLBACK]);
    let problems = lines(&bad(&map));
    assert!(problems.contains("POSTERN_S3HTTP_SECRET") && !problems.contains("hunter2"), "{problems}");
}

#[test]
fn what_a_request_proves_itself_by_is_in_no_warning() {
    let auths = ["hunter2", "Basic hunter2:hunter2", "X-Token: hunter2", "opaqueData=hunter2", "Custom hunter2"];
    for auth in auths {
        let config = good(&env(&[("POSTERN_S3HTTP_SECRET", "hunter2"), ("POSTERN_S3HTTP_AUTH", auth)]));
        assert!(warns(&config, "shorter than 16"));
        assert!(!format!("{config:?}").contains("hunter2"), "{auth}: {config:?}");
    }
}

#[test]
fn a_secret_where_its_path_belongs_is_not_printed() {
    for secret in ["hunter2", "/hunter2", "hunter2/hunter2+", "/hunter2/x", "./hunter2"] {
        let problem = one(&env(&[("POSTERN_ADMIN_TOKEN_FILE", secret)]));
        assert!(problem.name == "POSTERN_ADMIN_TOKEN_FILE" && !problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn bad_values_are_quoted_short_and_clean() {
    let long = format!("\u{1b}[2J{}", "x".repeat(5000));
    let problem = one(&env(&[("POSTERN_LISTEN", &long)]));
    assert!(problem.to_string().len() < 300 && !problem.to_string().contains('\u{1b}'), "{problem}");
}

/// JSON with our keys in all kinds of wrong places.
fn any_json() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        proptest::sample::select(settings::SETTINGS).prop_map(|setting| setting.name.to_owned()),
        proptest::sample::select(vec![
            "configuration",
            "element",
            "key",
            "name",
            "tags",
            "event.x",
            "event.sns.topic.arn_FILE"
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>().prop_map(|value| serde_json::json!(value).to_string()),
        any_value().prop_map(|text| serde_json::json!(text).to_string()),
    ];
    leaf.prop_recursive(4, 40, 10, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((key.clone(), inner), 0..10).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(key, value)| format!("{}:{value}", serde_json::json!(key))).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9:/.@*{},\\[\\]-]{0,30}",
        proptest::sample::select(vec![
            ARN,
            "true",
            "off",
            "10s",
            "1GiB",
            "http://localhost/",
            "unix:/a:/b",
            "{}",
            "webhooks",
            "/"
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_environment_makes_the_loader_panic(
        settings in proptest::collection::btree_map(
            prop_oneof![
                proptest::sample::select(settings::SETTINGS).prop_map(|setting| setting.name.to_owned()),
                proptest::sample::select(settings::SETTINGS).prop_map(|setting| setting.shell_name()),
                proptest::sample::select(settings::SETTINGS).prop_map(|setting| format!("{}_FILE", setting.name)),
                "POSTERN_.{0,20}",
                any::<String>(),
            ],
            any_value(),
            0..30,
        ),
    ) {
        let mut settings = settings;
        // A random path could be that of the machine's root, whose files are none of a test's business.
        settings.remove("POSTERN_INSTANCES");
        let _ = load(&settings);
    }

    #[test]
    fn no_document_makes_the_loader_panic(json in any_json()) {
        let (_folder, map) = with_document(&json, &[CALLBACK]);
        let _ = load(&map);
    }
}
