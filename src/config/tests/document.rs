//! Instance documents, one and many.

use super::*;

/// The example of the Cloud Elements page, with the placeholders that can be used as they are.
const PAGE: &str = r#"{
  "element": {
    "key": "amazons3"
  },
  "configuration": {
    "filter.response.nulls": "true",
    "event.vendor.type": "webhooks",
    "event.notification.enabled": true,
    "validate.instance": "true",
    "event.sns.topic.arn": "xxxxxxxxxx",
    "event.sns.topic.name": "xxxxxxxxxx",
    "filemanagement.provider.access_key": "******",
    "filemanagement.provider.secret_key": "******",
    "filemanagement.provider.bucket_name": "xxxxxxxxxx",
    "filemanagement.provider.region_name": "xxxxxxxxxx"
  },
  "tags": [
    "<Add_Your_Tag>"
  ],
  "name": "<INSTANCE_NAME>"
}"#;

#[test]
fn the_document_of_the_page_fails_only_for_its_placeholder_topic() {
    let (folder, map) = with_document(PAGE, &[CALLBACK]);
    let problem = one(&map);
    assert_eq!(problem.name, format!("{}: event.sns.topic.arn", folder.path().join("a.json").display()));
}

#[test]
fn the_document_of_the_page_works_with_a_topic() {
    let page = PAGE.replacen("xxxxxxxxxx", ARN, 1).replacen("xxxxxxxxxx", "uploads", 1);
    let (_folder, map) = with_document(&page, &[CALLBACK]);
    let config = good(&map);
    let it = &config.instances[0];
    assert_eq!(config.instances.len(), 1);
    assert_eq!((&*it.name, &*it.element_key, it.enabled, it.validate), ("<INSTANCE_NAME>", "amazons3", true, true));
    assert_eq!((it.filter_nulls, it.tags.clone()), (Some(true), vec!["<Add_Your_Tag>".to_owned()]));
    assert_eq!((it.bucket.as_deref(), it.region.as_deref()), (Some("xxxxxxxxxx"), Some("xxxxxxxxxx")));
    assert!(it.credentials.is_some());
}

#[test]
fn a_bare_configuration_is_a_document_too() {
    let bare = format!(
        r#"{{"event.notification.enabled": true, "event.vendor.type": "webhooks", "validate.instance": true,
            "event.sns.topic.arn": "{ARN}", "event.sns.topic.name": "uploads"}}"#
    );
    let (_folder, map) = with_document(&bare, &[CALLBACK]);
    assert_eq!(&*good(&map).instances[0].name, "uploads");
}

#[test]
fn a_document_is_disabled_unless_it_says_otherwise() {
    let (_folder, map) = with_document(
        r#"{"configuration": {"event.vendor.type": "webhooks"}, "name": "n", "tags": "a, b"}"#,
        &[CALLBACK],
    );
    let config = good(&map);
    assert!(!config.instances[0].enabled);
    assert_eq!(config.instances[0].tags, ["a", "b"]);
    assert!(warns(&config, "disabled"));
}

#[test]
fn an_enabled_document_needs_a_topic_and_every_document_a_callback() {
    let (_folder, map) =
        with_document(r#"{"name": "n", "configuration": {"event.notification.enabled": true}}"#, &[CALLBACK]);
    assert!(one(&map).name.ends_with("a.json: event.sns.topic.arn"));
    let (_folder, map) = with_document(&document(""), &[]);
    assert!(one(&map).name.ends_with("a.json: event.notification.callback.url"));
}

#[test]
fn the_environments_proof_goes_only_with_the_environments_callback() {
    let proof = [
        CALLBACK,
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "env-key"),
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"X-A": "1"}"#),
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "u"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "p"),
    ];
    let (_folder, map) = with_document(&document(""), &proof);
    let it = good(&map).instances[0].clone();
    assert_eq!((it.signature_keys.len(), it.headers.len(), it.basic.is_some()), (1, 1, true));
    let (_folder, map) = with_document(&document(r#", "event.notification.signature.key": "own-key""#), &proof);
    assert_eq!(good(&map).instances[0].signature_keys[0].expose(), "own-key");
    let (_folder, map) = with_document(&document(r#", "event.notification.callback.url": "https://other/""#), &proof);
    let it = good(&map).instances[0].clone();
    assert_eq!((it.signature_keys.len(), it.headers.len(), it.basic.is_some()), (0, 0, false));
}

#[test]
fn an_inherited_authorization_header_and_credentials_of_a_document_contradict() {
    let extra = r#", "event.notification.basic.username": "u", "event.notification.basic.password": "p""#;
    let headers = ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"Authorization": "Bearer x"}"#);
    let (_folder, map) = with_document(&document(extra), &[CALLBACK, headers]);
    assert!(one(&map).name.ends_with("a.json: event.notification.basic.username"));
}

#[test]
fn objects_and_lists_are_read_where_they_make_sense() {
    let extra = r#", "event.notification.callback.headers": {"X-A": "1"}, "event.notification.signature.key": ["new", "old"],
        "event.objects": ["file", "s3: ObjectCreated: *"]"#;
    let (_folder, map) = with_document(&document(extra), &[CALLBACK]);
    let it = good(&map).instances[0].clone();
    assert_eq!((it.headers.len(), it.signature_keys.len()), (1, 2));
    assert!(
        it.objects.matches("file", "ObjectCreated:Put", "k")
            && !it.objects.matches("folder", "ObjectCreated:Put", "k/")
    );
    let (_folder, map) = with_document(&document(r#", "filemanagement.provider.bucket_name": 12345"#), &[CALLBACK]);
    assert_eq!(good(&map).instances[0].bucket.as_deref(), Some("12345"));
    let (_folder, map) = with_document(&document(r#", "filemanagement.provider.bucket_name": {"a": 1}"#), &[CALLBACK]);
    assert!(one(&map).problem.contains("an object"));
}

#[test]
fn unknown_keys_of_ours_are_refused_and_those_of_others_ignored_aloud() {
    let (_folder, map) = with_document(&document(r#", "event.sns.topic.arm": "x""#), &[CALLBACK]);
    assert_eq!(one(&map).advice, "did you mean event.sns.topic.arn?");
    let (_folder, map) = with_document(&document(r#", "POSTERN_FORMAT": "raw""#), &[CALLBACK]);
    assert!(one(&map).advice.contains("environment"));
    let (_folder, map) = with_document(&document(r#", "EVENT_OBJECTS": "file""#), &[CALLBACK]);
    assert_eq!(one(&map).advice, "write event.objects");
    let extra = r#", "document.tagging": true, "oauth.api.key": "k", "event.metadata": {}, "event.poller.configuration": "{}", "event.poller.x": 1"#;
    let (_folder, map) = with_document(&document(extra), &[CALLBACK]);
    let config = good(&map);
    for key in ["document.tagging", "oauth.api.key", "event.metadata", "event.poller.configuration", "event.poller.x"] {
        assert!(warns(&config, key), "{key}: {:?}", config.warnings);
    }
}

#[cfg(feature = "aws")]
#[test]
fn a_topic_beside_polling_is_left_alone_aloud() {
    let polling = r#", "event.vendor.type": "polling", "filemanagement.provider.bucket_name": "photos""#;
    let (_folder, map) = with_document(&document(polling), &[CALLBACK]);
    let config = good(&map);
    assert!(config.instances[0].topics.is_empty(), "the poller sees what the topic would announce");
    assert!(warns(&config, "event.sns.topic.arn has no effect"), "{:?}", config.warnings);
}

#[test]
fn a_key_beside_the_configuration_is_refused() {
    let json = format!(
        r#"{{"name": "n", "event.objects": "file", "id": 5, "configuration": {{"event.sns.topic.arn": "{ARN}"}}}}"#
    );
    let (_folder, map) = with_document(&json, &[CALLBACK]);
    assert!(one(&map).name.ends_with("a.json: event.objects"));
}

#[test]
fn broken_json_is_named_by_file_and_line_and_repeated_keys_by_key() {
    let (_folder, map) = with_document("{\n\"name\": \"n\",\n oops\n}", &[CALLBACK]);
    let problem = one(&map);
    assert!(problem.name.ends_with("a.json") && problem.problem.contains("line 3"), "{problem}");
    let (_folder, map) =
        with_document(&document(r#", "event.objects": "file", "event.objects": "folder""#), &[CALLBACK]);
    assert!(one(&map).problem.contains("configuration → event.objects"));
    for shape in ["[]", "3", "{}", r#"{"configuration": 1}"#, r#"[1]"#] {
        let (_folder, map) = with_document(shape, &[CALLBACK]);
        assert!(one(&map).name.contains("a.json"), "{shape}");
    }
}

#[test]
fn many_documents_come_from_lists_and_from_folders_as_kubernetes_mounts_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let named = |name: &str| document("").replace(r#""n""#, &format!("\"{name}\""));
    std::fs::create_dir(at("..2026")).expect("a folder");
    std::fs::write(at("..2026/a.json"), named("a")).expect("a file");
    std::os::unix::fs::symlink("..2026", at("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/a.json", at("a.json")).expect("a link");
    std::fs::write(at("b.json"), format!("[{},{}]", named("b1"), named("b2"))).expect("a file");
    std::fs::write(at(".hidden.json"), "oops").expect("a file");
    std::fs::write(at("README.md"), "oops").expect("a file");
    std::fs::create_dir(at("folder.json")).expect("a folder");
    let path = folder.path().to_str().expect("a path");
    let config = good(&bare(&[("POSTERN_TLS", "off"), CALLBACK, ("POSTERN_INSTANCES", path)]));
    let names: Vec<&str> = config.instances.iter().map(|instance| &*instance.name).collect();
    assert_eq!(names, ["a", "b1", "b2"]);
    let one_file = at("b.json");
    let config = good(&env(&[("POSTERN_INSTANCES", one_file.to_str().expect("a path"))]));
    assert_eq!(config.instances.len(), 3, "two of the file and the environment's own");
}

#[test]
fn a_folder_without_documents_and_a_missing_one_are_problems() {
    let folder = tempfile::tempdir().expect("a folder");
    for path in [folder.path().to_str().expect("a path"), "/nonexistent"] {
        assert_eq!(one(&bare(&[("POSTERN_TLS", "off"), ("POSTERN_INSTANCES", path)])).name, "POSTERN_INSTANCES");
    }
}

#[test]
fn names_and_ids_are_distinct() {
    let twice = format!("[{},{}]", document(""), document(""));
    let (_folder, map) = with_document(&twice, &[CALLBACK]);
    assert!(one(&map).problem.contains("also that of"));
    let (_folder, mut map) = with_document(&document(""), &[]);
    let id = good(&{
        let mut map = map.clone();
        map.extend(bare(&[CALLBACK]));
        map
    })
    .instances[0]
        .id;
    map.extend(env(&[("POSTERN_INSTANCE_ID", &id.to_string())]));
    assert!(one(&map).problem.contains("the id"));
}

#[test]
fn settings_of_an_instance_that_is_not_made_are_a_warning() {
    let (_folder, map) =
        with_document(&document(""), &[CALLBACK, ("POSTERN_INSTANCE_NAME", "x"), ("EVENT_OBJECTS", "file")]);
    let config = good(&map);
    assert_eq!(config.instances.len(), 1);
    assert!(warns(&config, "EVENT_OBJECTS, POSTERN_INSTANCE_NAME has no effect"), "{:?}", config.warnings);
}
