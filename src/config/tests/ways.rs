//! The ways in: what each is told, what contradicts, and what an operator hears of it.

use super::*;
use crate::record::{Dialect, KeyCoding, SequencerKind, Shape};

const SECRET: &str = "0123456789abcdef-one";
const OTHER: &str = "0123456789abcdef-two";
const MCS: &str = "mcs2883541269|photos";
const PUBLIC: (&str, &str) = ("POSTERN_PUBLIC_URL", "https://Events.Example.com:443/");

/// `pairs` on top of what starts, save a way in.
fn waiting(pairs: &[(&str, &str)]) -> Map {
    let mut map = env(pairs);
    if !pairs.iter().any(|(name, _)| *name == "EVENT_SNS_TOPIC_ARN") {
        map.remove("EVENT_SNS_TOPIC_ARN");
    }
    map
}

/// The only instance of `map`.
fn instance(map: &Map) -> Arc<Instance> {
    let config = good(map);
    assert_eq!(config.instances.len(), 1);
    Arc::clone(&config.instances[0])
}

/// One problem, of the setting `name` and with `words`.
#[track_caller]
fn refused(map: &Map, name: &str, words: &str) {
    let problem = one(map);
    assert!(problem.name.ends_with(name) && problem.to_string().contains(words), "{name}, {words}: {problem}");
}

#[test]
fn an_instance_needs_one_way_in_and_any_will_do() {
    let mcs = waiting(&[("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_SECRET", SECRET), PUBLIC]);
    assert_eq!((&*instance(&mcs).name, &*instance(&mcs).element_key), ("photos", "mcss3"));
    let s3http = [("POSTERN_S3HTTP_SECRET", SECRET), ("filemanagement.provider.bucket_name", "scans")];
    assert_eq!((&*instance(&waiting(&s3http)).name, &*instance(&waiting(&s3http)).element_key), ("scans", "amazons3"));
    let problem = one(&waiting(&[]));
    for way in ["event.sns.topic.arn", "MCS_TOPICS", "S3HTTP_SECRET", "SQS_QUEUE_URL", "event.vendor.type=polling"] {
        assert!(problem.to_string().contains(way), "{problem}");
    }
    refused(&waiting(&[("POSTERN_S3HTTP_SECRET", SECRET)]), "POSTERN_INSTANCE_NAME", "no topic or bucket");
    let both =
        waiting(&[("EVENT_SNS_TOPIC_ARN", ARN), ("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_SECRET", SECRET), PUBLIC]);
    assert_eq!((&*instance(&both).name, &*instance(&both).element_key), ("uploads", "amazons3"));
    let mut narrowed = both.clone();
    narrowed.insert("POSTERN_BUCKETS".into(), "uploads".into());
    assert!(warns(&good(&narrowed), "POSTERN_BUCKETS does not allow the bucket \"photos\" of POSTERN_MCS_TOPICS"));
    assert!(instance(&both).buckets.is_empty(), "the MCS bucket narrows nothing that comes from SNS");
}

/// The name was asked for only when all else was right: with the next start.
#[test]
fn a_missing_name_is_said_beside_what_else_is_wrong() {
    let mut map = waiting(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_SEQUENCER", "lamport")]);
    map.remove("EVENT_NOTIFICATION_CALLBACK_URL");
    map.remove("event.notification.callback.url");
    let problems = bad(&map);
    let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(
        names,
        ["POSTERN_INSTANCE_NAME", "POSTERN_S3HTTP_SEQUENCER", "event.notification.callback.url"],
        "{problems:?}"
    );
}

#[test]
fn what_else_is_wrong_is_said_where_nothing_comes_in() {
    let problems = bad(&waiting(&[("POSTERN_S3HTTP_PRESET", "mino"), ("event.notification.enabled", "false")]));
    let names: Vec<&str> = problems.iter().map(|problem| problem.name.as_str()).collect();
    assert_eq!(names, ["POSTERN_S3HTTP_PRESET", "POSTERN_S3HTTP_SECRET", "event.sns.topic.arn"]);
}

#[cfg(feature = "aws")]
#[test]
fn reconciliation_alone_is_no_way_in() {
    let alone = [("POSTERN_RECONCILE", "1h"), ("filemanagement.provider.bucket_name", "b")];
    refused(&waiting(&alone), "POSTERN_RECONCILE", "event.vendor.type=polling");
    let (_folder, map) = with_document(
        r#"{"name": "n", "configuration": {"event.notification.enabled": true, "POSTERN_RECONCILE": "1h", "POSTERN_BUCKETS": "b"}}"#,
        &[CALLBACK],
    );
    assert!(bad(&map).iter().any(|problem| problem.name.ends_with("a.json: POSTERN_RECONCILE")));
}

#[test]
fn the_url_of_mcs_is_kept_byte_for_byte() {
    let endpoints = |pairs: &[(&str, &str)]| {
        let mut all = vec![("POSTERN_MCS_TOPICS", MCS)];
        all.extend(pairs);
        let config = good(&waiting(&all));
        let parts = config.mcs.iter().map(|one| (one.url.expose().to_owned(), one.target.expose().to_owned()));
        (parts.collect::<Vec<_>>(), config.warnings)
    };
    let (made, _) = endpoints(&[("POSTERN_MCS_SECRET", SECRET), PUBLIC]);
    assert_eq!(made, [(format!("https://Events.Example.com:443/mcs/{SECRET}"), format!("/mcs/{SECRET}"))]);
    let behind =
        [("POSTERN_MCS_SECRET", SECRET), ("POSTERN_PUBLIC_URL", "https://h/postern/"), ("POSTERN_MCS_TOPICS", MCS)];
    let behind = good(&waiting(&behind));
    assert_eq!(behind.mcs[0].url.expose(), format!("https://h/postern/mcs/{SECRET}"));
    assert_eq!(behind.mcs[0].whole.as_ref().map(Secret::expose), Some(&*format!("/postern/mcs/{SECRET}")));
    let coded =
        [("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_URL", "http://test.com"), ("POSTERN_MCS_KEY_CODING", "RAW")];
    assert_eq!(good(&waiting(&coded)).mcs[0].key_coding, KeyCoding::Raw);
    refused(&env(&[("POSTERN_MCS_KEY_CODING", "utf-8")]), "POSTERN_MCS_KEY_CODING", "form, percent, raw");
    assert!(warns(&good(&env(&[("POSTERN_MCS_KEY_CODING", "raw")])), "POSTERN_MCS_KEY_CODING has no effect"));
    let (told, warnings) = endpoints(&[("POSTERN_MCS_URL", "http://test.com")]);
    assert_eq!(told, [("http://test.com".to_owned(), "/".to_owned())]);
    assert!(warnings.iter().any(|warning| warning.contains("holds no secret")), "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("plain HTTP: their secret")), "{warnings:?}");
    let url = format!("https://89.208.199.220:8443/hook?key={SECRET}");
    for secret in [("POSTERN_MCS_SECRET", SECRET), ("POSTERN_MCS_SECRET", "")] {
        let (told, warnings) = endpoints(&[("POSTERN_MCS_URL", &url), secret]);
        assert_eq!(told, [(url.clone(), format!("/hook?key={SECRET}"))]);
        assert!(!warnings.iter().any(|warning| warning.contains("POSTERN_MCS")), "{warnings:?}");
    }
    let (_, warnings) = endpoints(&[("POSTERN_MCS_URL", &url), ("POSTERN_MCS_SECRET", OTHER)]);
    assert!(warnings.iter().any(|warning| warning.contains("holds no secret")), "{warnings:?}");
}

#[test]
fn two_secrets_or_urls_hold_during_a_rotation_and_no_more() {
    let of = |name: &str, text: &str| {
        let (_file, path) = file(text);
        let mut map = waiting(&[("POSTERN_MCS_TOPICS", MCS), PUBLIC]);
        map.insert(format!("{name}_FILE"), path);
        load(&map).map(|config| config.mcs.len())
    };
    assert_eq!(of("POSTERN_MCS_SECRET", &format!("{SECRET}\n{OTHER}\n\n")), Ok(2));
    assert_eq!(of("POSTERN_MCS_SECRET", &format!("{SECRET}\r\n{SECRET}\r\n")), Ok(1));
    assert!(of("POSTERN_MCS_SECRET", "a\nb\nc").expect_err("three")[0].problem.contains("3 secrets"));
    assert_eq!(of("POSTERN_MCS_URL", "https://h/a\nhttps://h/b"), Ok(2));
    assert!(of("POSTERN_MCS_URL", "https://h/a\nhttps://i/a").expect_err("same")[0].problem.contains("same path"));
    assert!(
        of("POSTERN_MCS_URL", "https://h/a\nhttps://h/b\nhttps://h/c").expect_err("3")[0].problem.contains("3 URLs")
    );
    let (_file, path) = file(&format!("{SECRET}\n{OTHER}"));
    let map = waiting(&[("POSTERN_S3HTTP_SECRET_FILE", path.as_str()), ("POSTERN_INSTANCE_NAME", "n")]);
    assert_eq!(instance(&map).s3http.as_ref().map(|s3http| s3http.secrets.len()), Some(2));
}

#[test]
fn mcs_needs_both_whose_webhooks_and_where_they_arrive() {
    refused(&env(&[("POSTERN_MCS_SECRET", SECRET), PUBLIC]), "POSTERN_MCS_TOPICS", "POSTERN_MCS_SECRET is");
    refused(&env(&[("POSTERN_MCS_URL", "https://h/x")]), "POSTERN_MCS_TOPICS", "POSTERN_MCS_URL is");
    refused(&env(&[("POSTERN_MCS_TOPICS", MCS), PUBLIC]), "POSTERN_MCS_SECRET", "POSTERN_MCS_TOPICS is");
    refused(&env(&[("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_SECRET", SECRET)]), "POSTERN_PUBLIC_URL", "not set");
    let with_url = |url: &str| env(&[("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_URL", url)]);
    refused(&with_url("https://h/s3/hunter2"), "POSTERN_MCS_URL", "other messages");
    refused(&with_url("https://u:hunter2@h/"), "POSTERN_MCS_URL", "user information");
    for bad in ["mcs1", "mcs 1|b", "mcs1|b|s3:ObjectCreated:*", ","] {
        let map = env(&[("POSTERN_MCS_TOPICS", bad), ("POSTERN_MCS_SECRET", SECRET), PUBLIC]);
        refused(&map, "POSTERN_MCS_TOPICS", "project|bucket");
    }
}

#[test]
fn a_secret_path_part_needs_no_coding_and_is_no_word() {
    for name in ["POSTERN_MCS_SECRET", "POSTERN_S3HTTP_SECRET"] {
        let with =
            |secret: &str| env(&[("POSTERN_MCS_TOPICS", MCS), ("POSTERN_MCS_SECRET", SECRET), PUBLIC, (name, secret)]);
        for bad in
            ["hunter2/hunter2-hunter2", "hunter2 hunter2-hunter2", "hunter2-hunter2-%20x", "..", "hunter2\nhunter2"]
        {
            let problem = one(&with(bad));
            assert!(problem.name == name && problem.advice.contains("- . _ ~"), "{problem}");
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
        assert!(warns(&good(&with("short")), &format!("{name} is shorter than 16")));
    }
}

#[test]
fn a_preset_sets_how_a_store_writes_and_can_be_overruled() {
    let dialect = |pairs: &[(&str, &str)]| {
        let mut all = vec![("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_AUTH", "token")];
        all.extend(pairs);
        instance(&env(&all)).s3http.clone().expect("s3http")
    };
    assert_eq!(dialect(&[]).dialect, Dialect { sequencer: SequencerKind::None, ..Dialect::AWS });
    assert_eq!(dialect(&[("POSTERN_S3HTTP_PRESET", "generic")]).dialect, dialect(&[]).dialect);
    assert_eq!(dialect(&[("POSTERN_S3HTTP_PRESET", "ceph")]).dialect, Dialect::CEPH);
    assert_eq!(dialect(&[("POSTERN_S3HTTP_PRESET", "MinIO")]).preset, "minio");
    let mixed = dialect(&[
        ("POSTERN_S3HTTP_PRESET", "eventbridge"),
        ("POSTERN_S3HTTP_KEY_CODING", "percent"),
        ("POSTERN_S3HTTP_SEQUENCER", "none"),
    ]);
    let (shape, key_coding, sequencer) = (Shape::EventBridge, KeyCoding::Percent, SequencerKind::None);
    assert_eq!(mixed.dialect, Dialect { shape, key_coding, sequencer });
    let b2 = dialect(&[("POSTERN_S3HTTP_PRESET", "b2")]);
    assert!(matches!(b2.auth, Some(S3HttpAuth::B2Signature(key)) if key.expose() == "token"));
    refused(
        &env(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_PRESET", "b2")]),
        "POSTERN_S3HTTP_AUTH",
        "HMAC is checked",
    );
    refused(
        &env(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_AUTH", "new token\nold token")]),
        "POSTERN_S3HTTP_AUTH",
        "line break",
    );
    refused(&env(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_PRESET", "gcs")]), "PRESET", "not a choice");
    for name in
        ["POSTERN_S3HTTP_PRESET", "POSTERN_S3HTTP_KEY_CODING", "POSTERN_S3HTTP_SEQUENCER", "POSTERN_S3HTTP_AUTH"]
    {
        let value = if name.ends_with("CODING") {
            "raw"
        } else if name.ends_with("SEQUENCER") {
            "none"
        } else {
            "aws"
        };
        refused(&env(&[(name, value)]), "POSTERN_S3HTTP_SECRET", name);
    }
    assert!(warns(&good(&env(&[("POSTERN_S3HTTP_SECRET", SECRET)])), "nothing but the secret in the URL"));
    let opaque = ("POSTERN_S3HTTP_AUTH", "opaqueData=hunter2");
    for (preset, warned) in [("minio", true), ("generic", true), ("ceph", false), ("b2", false)] {
        let config = good(&env(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_PRESET", preset), opaque]));
        assert_eq!(warns(&config, "is opaqueData, which only Ceph sends"), warned, "{preset}");
        assert!(!warns(&config, "hunter2"), "{preset}");
    }
}

#[test]
fn a_file_may_hold_the_old_token_behind_the_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |text: &str| {
        let path = folder.path().join("auth");
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("a path").to_owned();
        env(&[("POSTERN_S3HTTP_SECRET", SECRET), ("POSTERN_S3HTTP_AUTH_FILE", &path)])
    };
    let secrets = |map: &Map| {
        let s3http = instance(map).s3http.clone().expect("s3http");
        s3http.auth_secrets().map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(secrets(&read("new\r\n\n X-Key: old \n")), ["Bearer new", "old"]);
    assert_eq!(secrets(&read("new\n")), ["Bearer new"]);
    refused(&read("a\nb\nc"), "POSTERN_S3HTTP_AUTH_FILE", "there are 3 values");
    refused(&read("new\nBasic hunter2"), "POSTERN_S3HTTP_AUTH_FILE", "neither USER:PASSWORD");
}

#[test]
fn documents_hold_their_own_ways_in() {
    let named = |name: &str, extra: &str| document(extra).replace(r#""n""#, &format!("\"{name}\""));
    let extra = format!(
        r#", "POSTERN_MCS_TOPICS": ["{MCS}", "p|q"], "POSTERN_S3HTTP_SECRET": ["{SECRET}", "{OTHER}"],
            "POSTERN_S3HTTP_PRESET": "minio", "POSTERN_S3HTTP_AUTH": ["new", "X-Key: old"], "POSTERN_BUCKETS": ["a", "b"]"#
    );
    let process = [CALLBACK, ("POSTERN_MCS_SECRET", SECRET), PUBLIC, ("POSTERN_BUCKETS", "c")];
    let list = format!("[{}, {}]", named("n", &extra), named("m", ""));
    let (_folder, map) = with_document(&list, &process);
    let config = good(&map);
    assert_eq!((config.instances[0].mcs_topics.len(), config.mcs.len()), (2, 1));
    assert_eq!(config.instances[0].s3http.as_ref().map(|s3http| s3http.secrets.len()), Some(2));
    assert_eq!(config.instances[0].s3http.as_ref().map(|s3http| s3http.auth_secrets().count()), Some(2));
    assert_eq!(config.instances[0].buckets, ["a", "b"]);
    assert_eq!(config.instances[1].buckets, ["c"], "the environment's are the default");
    assert!(config.instances[1].s3http.is_none(), "what the environment's own instance is told is not inherited");

    let (_secret, path) = file(&format!("{SECRET}\n"));
    let by_file = format!(r#", "POSTERN_S3HTTP_SECRET_FILE": "{path}""#);
    let (_folder, map) = with_document(&document(&by_file), &[CALLBACK]);
    assert!(instance(&map).s3http.is_some());
    let twice = format!("[{}, {}]", named("n", &by_file), named("m", &by_file));
    let (_folder, map) = with_document(&twice, &[CALLBACK]);
    refused(&map, "(document 2): POSTERN_S3HTTP_SECRET", "also that of the instance \"n\"");

    for process_wide in ["POSTERN_MCS_SECRET", "POSTERN_MCS_URL", "POSTERN_LISTEN"] {
        let (_folder, map) = with_document(&document(&format!(r#", "{process_wide}": "x""#)), &[CALLBACK]);
        refused(&map, process_wide, "whole process");
    }
    let (_folder, map) = with_document(&document(r#", "POSTERN_RECONCIL": "1h""#), &[CALLBACK]);
    assert_eq!(one(&map).advice, "did you mean POSTERN_RECONCILE?");
    let (_folder, map) = with_document(&document(""), &[CALLBACK, ("POSTERN_RECONCILE", "1h")]);
    assert!(warns(&good(&map), "POSTERN_RECONCILE has no effect"));
}

#[test]
fn a_document_that_cannot_be_read_is_one_problem() {
    let (_folder, map) = with_document("{", &[CALLBACK, ("POSTERN_MCS_SECRET", SECRET), PUBLIC]);
    refused(&map, "a.json", "too early");
}

#[test]
fn a_public_url_with_a_path_is_a_warning() {
    assert!(warns(&good(&env(&[("POSTERN_PUBLIC_URL", "https://h/postern/")])), "POSTERN_PUBLIC_URL has a path"));
    assert!(!warns(&good(&env(&[PUBLIC])), "has a path"));
}

#[test]
fn another_s3_over_plain_http_is_a_warning() {
    let with = |url: &str| good(&env(&[("POSTERN_S3_ENDPOINT_URL", url)]));
    assert!(warns(&with("http://minio:9000"), "POSTERN_S3_ENDPOINT_URL"));
    for fine in ["http://localhost:9000", "https://hb.ru-msk.vkcloud-storage.ru"] {
        assert!(!warns(&with(fine), "POSTERN_S3_ENDPOINT_URL"), "{fine}");
    }
    refused(&env(&[("POSTERN_S3_ENDPOINT_URL", "https://h/?x=hunter2")]), "POSTERN_S3_ENDPOINT_URL", "query");
}

#[test]
fn what_has_no_effect_is_said_and_a_default_is_not() {
    let idle = [
        ("POSTERN_SQS_CONSUMERS", "16"),
        ("POSTERN_RECONCILE_GRACE", "1m"),
        ("POSTERN_POLL_INITIAL", "emit"),
        ("event.poller.refresh_interval", "5"),
        ("event.poller.configuration", "{}"),
    ];
    let config = good(&env(&idle));
    for (name, _) in idle {
        assert!(
            config.warnings.iter().any(|warning| warning.contains(name) && warning.contains("no effect")),
            "{name}"
        );
    }
    let config = good(&env(&[("POSTERN_SQS_VERIFY", "OFF"), ("POSTERN_POLL_INITIAL", "silent")]));
    assert!(!warns(&config, "no effect"), "{:?}", config.warnings);
}
