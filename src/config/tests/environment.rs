//! The environment: defaults, bounds, spellings, files.

use std::ffi::OsString;
use std::path::Path;

use super::*;

#[test]
fn the_least_configuration_has_the_documented_defaults() {
    let config = good(&env(&[]));
    assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(config.admin_listen.to_string(), "0.0.0.0:9465");
    assert_eq!(config.data_dir, Path::new("/var/lib/postern"));
    assert_eq!(config.queue.max_bytes, 1 << 30);
    assert_eq!(config.queue.dedupe_for, Duration::from_secs(86_400));
    assert_eq!(config.dispatch.concurrency, 64);
    assert_eq!(config.dispatch.attempt_timeout, Duration::from_secs(10));
    assert_eq!(config.dispatch.max_age, Duration::from_secs(72 * 3600));
    assert_eq!(config.dispatch.max_attempts, 20);
    assert_eq!(config.dispatch.format, Format::CloudElements);
    assert_eq!(config.sns.max_age, Duration::from_secs(5400));
    assert_eq!(config.sns.chain, ChainPolicy::Enforce);
    assert!(config.sns.confirm);
    assert_eq!(config.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.log, LogConfig { filter: "info".into(), format: None });
    let instance = &config.instances[0];
    assert_eq!((&*instance.name, &*instance.element_key, instance.enabled), ("uploads", "amazons3", true));
    assert_eq!(instance.topics, [ARN]);
    assert!(instance.id > 0 && instance.id <= i32::MAX as u32);
    assert!(instance.buckets.is_empty() && instance.filter_nulls.is_none() && !instance.validate);
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_loader() {
    let plain = good(&env(&[]));
    let spelt: Vec<(&str, &str)> = settings::SETTINGS
        .iter()
        .filter(|setting| setting.available && !setting.default.is_empty() && !setting.default.contains(' '))
        .filter(|setting| setting.name != "POSTERN_TLS")
        .map(|setting| (setting.name, setting.default))
        .collect();
    let told = good(&env(&spelt));
    assert_eq!(format!("{plain:?}"), format!("{told:?}"));
}

#[test]
fn every_setting_of_the_table_is_read_or_refused_as_not_available() {
    for setting in settings::SETTINGS {
        let problems =
            load(&env(&[(setting.name, "\u{1}\u{2}:bad")])).err().map(|problems| lines(&problems)).unwrap_or_default();
        assert!(!problems.contains("no such setting"), "{problems}");
        assert_eq!(
            problems.contains("not available in this version yet"),
            !setting.available,
            "{}: {problems}",
            setting.name
        );
    }
}

#[test]
fn every_problem_is_reported_at_once_and_by_name() {
    let problems = bad(&bare(&[
        ("POSTERN_LISTEN", "8443"),
        ("POSTERN_QUEUE_MAX_BYTES", "lots"),
        ("POSTERN_RETRY", "never"),
        ("POSTERN_LISTN", "x"),
        ("EVENT_SNS_TOPIC_ARN", "xxxxxxxxxx"),
        ("event.objects", "Contact"),
    ]));
    let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "EVENT_SNS_TOPIC_ARN",
            "POSTERN_LISTEN",
            "POSTERN_LISTN",
            "POSTERN_QUEUE_MAX_BYTES",
            "POSTERN_RETRY",
            "POSTERN_TLS_CERT_FILE",
            "POSTERN_TLS_KEY_FILE",
            "event.notification.callback.url",
            "event.objects"
        ]
    );
    assert!(problems.iter().all(|problem| !problem.advice.is_empty()));
    assert_eq!(problems[2].to_string(), "POSTERN_LISTN: there is no such setting; did you mean POSTERN_LISTEN?");
}

#[test]
fn nothing_to_accept_is_a_problem() {
    let problems = bad(&bare(&[("POSTERN_TLS", "off")]));
    let names: Vec<_> = problems.iter().map(|problem| problem.name.as_str()).collect();
    // Both at once: whoever sets the topic is not sent back a second time for the callback.
    assert_eq!(names, ["event.notification.callback.url", "event.sns.topic.arn"]);
}

#[test]
fn unknown_names_of_ours_are_refused_and_others_left_alone() {
    good(&env(&[("EVENT_LOOP", "1"), ("PATH", "/bin"), ("POSTERN_REAL_SNS_DIR", "/x"), ("POSTERN", "1")]));
    for name in [
        "POSTERN_X",
        "event.foo",
        "EVENT_SNS_TOPICARN",
        "EVENT_OBJECT_S",
        "EVENT_OBJECTSS",
        "EVENT_POLLER_X",
        "postern_listen",
    ] {
        let unknown = load(&env(&[(name, "1")]));
        if name == "EVENT_OBJECT_S" {
            assert!(unknown.is_ok());
        } else {
            assert_eq!(one(&env(&[(name, "1")])).problem, "there is no such setting");
        }
    }
    assert_eq!(one(&env(&[("EVENT_OBJECTSS", "1")])).advice, "did you mean EVENT_OBJECTS?");
}

#[test]
fn service_links_of_kubernetes_are_ignored() {
    good(&env(&[
        ("POSTERN_SERVICE_HOST", "10.0.0.1"),
        ("POSTERN_PORT", "tcp://10.0.0.1:8443"),
        ("POSTERN_PORT_8443_TCP_ADDR", "10.0.0.1"),
        ("POSTERN_FOO_SERVICE_PORT_HTTP", "1"),
    ]));
    assert_eq!(one(&env(&[("POSTERN_PORT", "8443")])).name, "POSTERN_PORT");
}

#[test]
fn both_spellings_may_agree_and_not_differ() {
    good(&env(&[("event.sns.topic.arn", ARN)]));
    let problem = one(&env(&[("event.sns.topic.arn", ARN2)]));
    assert!(problem.name.contains("event.sns.topic.arn") && problem.name.contains("EVENT_SNS_TOPIC_ARN"), "{problem}");
}

#[test]
fn a_format_that_holds_one_event_cannot_be_batched() {
    for format in ["cloudevents-binary", "sns"] {
        let problem = one(&env(&[("POSTERN_FORMAT", format), ("POSTERN_MAX_EVENTS_PER_CALLBACK", "2")]));
        assert_eq!(problem.name, "POSTERN_MAX_EVENTS_PER_CALLBACK");
    }
    good(&env(&[("POSTERN_FORMAT", "cloudevents"), ("POSTERN_MAX_EVENTS_PER_CALLBACK", "20")]));
}

#[test]
fn an_empty_value_is_unset() {
    let config =
        good(&env(&[("POSTERN_LISTEN", ""), ("EVENT_NOTIFICATION_SIGNATURE_KEY", ""), ("POSTERN_MCS_SECRET", "")]));
    assert!(config.instances[0].signature_keys.is_empty());
    assert!(warns(&config, "signature.key"));
}

#[test]
fn what_comes_in_a_later_version_is_refused_and_not_ignored() {
    assert!(settings::SETTINGS.iter().all(|setting| setting.available));
    assert!(one(&env(&[("POSTERN_QUEUE", "jetstream://user:hunter2@host:4222")])).problem.contains("not available"));
    good(&env(&[("event.vendor.type", "webhook")]));
}

#[test]
fn secrets_come_from_files_without_their_last_line_break() {
    let (_file, path) = file("s3cret-token-of-the-admin\n");
    let config = good(&env(&[("POSTERN_ADMIN_TOKEN_FILE", &path)]));
    assert_eq!(config.admin_token.expect("a token").expose(), "s3cret-token-of-the-admin");
}

#[test]
fn a_secret_given_directly_and_by_file_is_a_contradiction() {
    let (_file, path) = file("x");
    let problem = one(&env(&[("POSTERN_ADMIN_TOKEN", "y"), ("POSTERN_ADMIN_TOKEN_FILE", &path)]));
    assert_eq!(problem.name, "POSTERN_ADMIN_TOKEN and POSTERN_ADMIN_TOKEN_FILE");
}

#[test]
fn the_file_of_the_signature_key_may_hold_two_keys() {
    let keys = |text: &str| {
        let (_file, path) = file(text);
        let mut map = env(&[("event.notification.signature.key_FILE", &path)]);
        map.remove("EVENT_NOTIFICATION_SIGNATURE_KEY");
        load(&map).map(|config| {
            config.instances[0].signature_keys.iter().map(|key| key.expose().to_owned()).collect::<Vec<_>>()
        })
    };
    assert_eq!(keys("new\nold\n"), Ok(vec!["new".into(), "old".into()]));
    assert_eq!(keys("with , comma"), Ok(vec!["with , comma".into()]));
    assert_eq!(keys("new\r\nold\r\n"), Ok(vec!["new".into(), "old".into()]));
    assert!(keys("a\nb\nc").is_err());
    assert!(keys("\n").is_err());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for path in ["/", "/dev/zero", "/dev/nonexistent"] {
        let problem = one(&env(&[("POSTERN_ADMIN_TOKEN_FILE", path)]));
        assert_eq!(problem.name, "POSTERN_ADMIN_TOKEN_FILE");
        assert!(problem.problem.contains(path), "{problem}");
    }
    let (_file, path) = file("");
    assert!(one(&env(&[("POSTERN_ADMIN_TOKEN_FILE", &path)])).problem.contains("empty"));
    assert!(one(&env(&[("POSTERN_LISTEN_FILE", &path)])).problem.contains("only secrets"));
}

#[test]
fn a_value_that_is_not_utf8_is_named() {
    struct Odd(Map);
    impl Environment for Odd {
        fn vars(&self) -> Vec<(String, OsString)> {
            use std::os::unix::ffi::OsStringExt as _;
            let mut vars = self.0.vars();
            vars.retain(|(name, _)| name != "EVENT_SNS_TOPIC_ARN");
            vars.push(("EVENT_SNS_TOPIC_ARN".into(), OsString::from_vec(vec![0xff])));
            vars.push(("UNRELATED".into(), OsString::from_vec(vec![0xff])));
            vars
        }
    }
    let problems = load(&Odd(env(&[]))).expect_err("problems");
    assert_eq!(lines(&problems), "EVENT_SNS_TOPIC_ARN: its value is not UTF-8; set it again as plain text");
}

#[test]
fn tls_needs_both_files_unless_it_is_off() {
    let problems = bad(&env(&[("POSTERN_TLS", "on"), ("POSTERN_TLS_CERT_FILE", "/c.pem")]));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].name, "POSTERN_TLS_KEY_FILE");
    let config =
        good(&env(&[("POSTERN_TLS", "on"), ("POSTERN_TLS_CERT_FILE", "/c.pem"), ("POSTERN_TLS_KEY_FILE", "/k.pem")]));
    assert_eq!(config.tls.expect("TLS").certificate, Path::new("/c.pem"));
    assert!(!config.warnings.iter().any(|warning| warning.contains("POSTERN_TLS")));
    assert!(warns(&good(&env(&[])), "POSTERN_TLS is off"));
    assert_eq!(one(&env(&[("POSTERN_TLS", "maybe")])).name, "POSTERN_TLS");
}

#[test]
fn another_sns_needs_its_anchor_and_https_off_this_machine() {
    const URL: &str = "POSTERN_SNS_ENDPOINT_URL";
    let anchored = |url: &str| env(&[(URL, url), ("POSTERN_SNS_TRUST_ANCHOR_FILE", "/a.pem")]);
    assert_eq!(one(&env(&[(URL, "http://localhost:4566")])).name, "POSTERN_SNS_TRUST_ANCHOR_FILE");
    for url in ["http://localhost:4566", "http://127.0.0.1:4566/sns", "http://[::1]:4566", "https://sns.test/x"] {
        assert!(warns(&good(&anchored(url)), URL), "{url}");
    }
    for url in
        ["http://localstack:4566", "ftp://localhost", "https://u:hunter2@x", "https://x/?a=hunter2", "https://x/#f"]
    {
        let problem = one(&anchored(url));
        assert_eq!(problem.name, URL);
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn numbers_durations_and_choices_are_held_to_their_bounds() {
    for (name, value) in [
        ("POSTERN_MAX_EVENTS_PER_CALLBACK", "0"),
        ("POSTERN_MAX_EVENTS_PER_CALLBACK", "21"),
        ("POSTERN_CONCURRENCY", "0"),
        ("POSTERN_CONCURRENCY", "-1"),
        ("POSTERN_RETRY_MAX_ATTEMPTS", "99999999999"),
        ("POSTERN_SNS_MIN_SIGNATURE_VERSION", "3"),
        ("POSTERN_ATTEMPT_TIMEOUT", "10"),
        ("POSTERN_ATTEMPT_TIMEOUT", "0"),
        ("POSTERN_SNS_MAX_AGE", "0s"),
        ("POSTERN_QUEUE_MAX_BYTES", "1KiB"),
        ("POSTERN_DEAD_MAX_BYTES", "x"),
        ("POSTERN_DEDUPE_FOR", "1h"),
        ("POSTERN_FORMAT", "xml"),
        ("POSTERN_ORDERING", "bucket"),
        ("POSTERN_SNS_CONFIRM", "maybe"),
        ("POSTERN_SNS_UNSUBSCRIBE", "ignore"),
        ("POSTERN_NON_S3", "drop"),
        ("POSTERN_QUEUE", "redis://"),
        ("POSTERN_TRUSTED_PROXIES", "10.0.0.0/8,elsewhere"),
        ("POSTERN_PUBLIC_URL", "relay.example"),
        ("POSTERN_LOG", "postern=loud"),
        ("POSTERN_LOG_FORMAT", "xml"),
        ("POSTERN_ADMIN_LISTEN", "0.0.0.0:8443"),
        ("POSTERN_ADMIN_TOKEN", "with blank"),
        ("POSTERN_INSTANCE_ID", "0"),
        ("POSTERN_INSTANCE_ID", "2147483648"),
        ("POSTERN_ACCOUNT_ID", "x"),
        ("POSTERN_BUCKETS", "s3://b"),
        ("POSTERN_INSTANCE_NAME", "a\u{7}b"),
        ("validate.instance", "yes"),
        ("event.notification.enabled", "1"),
        ("element.key", "a b"),
    ] {
        assert_eq!(one(&env(&[(name, value)])).name, name, "{value}");
    }
}

#[test]
fn dedupe_follows_a_longer_replay_window_unless_it_is_set() {
    assert_eq!(good(&env(&[("POSTERN_SNS_MAX_AGE", "48h")])).queue.dedupe_for, Duration::from_secs(48 * 3600));
    let config = good(&env(&[("POSTERN_SNS_MAX_AGE", "2h"), ("POSTERN_DEDUPE_FOR", "2h")]));
    assert_eq!(config.queue.dedupe_for, config.sns.max_age);
}

#[test]
fn what_weakens_the_sidecar_is_a_warning() {
    let config = good(&env(&[
        ("POSTERN_SNS_CHAIN", "warn"),
        ("POSTERN_SNS_MAX_AGE", "64m"),
        ("POSTERN_SNS_CONFIRM", "never"),
        ("POSTERN_DRAIN_TIMEOUT", "5s"),
        ("POSTERN_ADMIN_TOKEN", "short"),
        ("event.notification.enabled", "false"),
    ]));
    for what in [
        "POSTERN_SNS_CHAIN",
        "POSTERN_SNS_MAX_AGE",
        "POSTERN_SNS_CONFIRM",
        "POSTERN_DRAIN_TIMEOUT",
        "POSTERN_ADMIN_TOKEN",
        "disabled",
    ] {
        assert!(warns(&config, what), "{what}: {:?}", config.warnings);
    }
    let mut map = env(&[]);
    map.insert("EVENT_NOTIFICATION_CALLBACK_URL".into(), "http://app:3000/?token=hunter2".into());
    let config = good(&map);
    assert!(warns(&config, "plain HTTP"));
    assert!(!format!("{:?}", config.warnings).contains("hunter2"));
}

#[test]
fn the_topics_name_must_be_the_last_part_of_the_arn() {
    good(&env(&[("event.sns.topic.name", "uploads")]));
    assert_eq!(one(&env(&[("event.sns.topic.name", "other")])).name, "event.sns.topic.name");
    let two = format!("{ARN}, {ARN2}");
    let mut map = env(&[("event.sns.topic.name", "uploads,scans")]);
    map.insert("EVENT_SNS_TOPIC_ARN".into(), two);
    assert_eq!(good(&map).instances[0].topics, [ARN, ARN2]);
}

#[test]
fn credentials_come_in_pairs() {
    for name in [
        "event.notification.basic.username",
        "event.notification.basic.password",
        "POSTERN_SNS_BASIC_USERNAME",
        "POSTERN_SNS_BASIC_PASSWORD",
        "filemanagement.provider.access_key",
        "filemanagement.provider.secret_key",
    ] {
        assert!(one(&env(&[(name, "hunter2")])).problem.contains("is not set, but"), "{name}");
    }
}

#[test]
fn extra_headers_are_a_json_object_of_strings_that_overrides_nothing() {
    const NAME: &str = "event.notification.callback.headers";
    let config = good(&env(&[(NAME, r#"{"X-Team": "media", "Authorization": "Bearer hunter2"}"#)]));
    assert_eq!(config.instances[0].headers.len(), 2);
    for bad in [
        r#"{"Host": "hunter2"}"#,
        r#"["hunter2"]"#,
        r#"{"X": 1}"#,
        "hunter2",
        r#"{"X": "hunter2", "x": "hunter2"}"#,
        r#"{"Webhook-Id": "hunter2"}"#,
        r#"{"X": "hunter2"#,
    ] {
        let problem = one(&env(&[(NAME, bad)]));
        assert!(problem.name == NAME && !problem.to_string().contains("hunter2"), "{problem}");
    }
    let both = env(&[
        (NAME, r#"{"authorization": "x"}"#),
        ("event.notification.basic.username", "u"),
        ("event.notification.basic.password", "p"),
    ]);
    assert_eq!(one(&both).name, NAME);
}

#[test]
fn the_environments_instance_takes_its_own_name_tags_and_numbers() {
    let config = good(&env(&[
        ("POSTERN_INSTANCE_NAME", "Media"),
        ("POSTERN_INSTANCE_TAGS", "a, b"),
        ("POSTERN_INSTANCE_ID", "7"),
        ("POSTERN_ACCOUNT_ID", "1"),
        ("POSTERN_COMPANY_ID", "2"),
        ("POSTERN_USER_ID", "3"),
        ("filemanagement.provider.bucket_name", "media"),
    ]));
    let it = &config.instances[0];
    assert_eq!((&*it.name, it.id, it.account_id, it.company_id, it.user_id), ("Media", 7, 1, 2, 3));
    assert_eq!((it.tags.clone(), it.buckets.clone()), (vec!["a".into(), "b".into()], vec!["media".into()]));
    let config = good(&env(&[("POSTERN_BUCKETS", "x,y"), ("filemanagement.provider.bucket_name", "media")]));
    assert_eq!(config.instances[0].buckets, ["x", "y"]);
}
