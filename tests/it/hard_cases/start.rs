//! What a start says: of settings, of somebody else's store, of a disk that forgets. (Hard cases 5 and 6.)

use std::path::Path;

use super::stand::{Stand, get, run, stderr};

/// Hard case 5. A Service that is called `postern` gives every pod of its namespace these variables.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_links_of_kubernetes_are_no_settings() {
    let stand = Stand::start(&[
        ("POSTERN_SERVICE_HOST", "10.96.0.7"),
        ("POSTERN_SERVICE_PORT", "8443"),
        ("POSTERN_SERVICE_PORT_HTTPS", "8443"),
        ("POSTERN_PORT", "tcp://10.96.0.7:8443"),
        ("POSTERN_PORT_8443_TCP", "tcp://10.96.0.7:8443"),
        ("POSTERN_PORT_8443_TCP_ADDR", "10.96.0.7"),
        ("POSTERN_PORT_8443_TCP_PORT", "8443"),
        ("POSTERN_PORT_8443_TCP_PROTO", "tcp"),
        ("POSTERN_MEDIA_ADMIN_SERVICE_HOST", "10.96.0.8"),
        ("POSTERN_MEDIA_ADMIN_PORT_9465_TCP_ADDR", "10.96.0.8"),
    ])
    .await;
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
}

/// Hard case 5. A name that is almost one of ours is a mistake and never a default: all of them at once, with what was meant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_with_wrong_settings_names_all_of_them_at_once_and_no_secret() {
    let stand = Stand::prepare(&[
        ("POSTERN_LISTN", "127.0.0.1:1"),
        ("POSTERN_ADMIN_TOKN", "hunter2-the-token"),
        ("POSTERN_CONCURRENCY", "many"),
        ("POSTERN_DRAIN_TIMEOUT", "soon"),
        ("POSTERN_FORMAT", "xml"),
        ("event.notification.signature.kye", "hunter2-the-key"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://user:hunter2@app/"),
        ("POSTERN_ADMIN_TOKEN", "hunter2 with a blank"),
        ("POSTERN_SNS_BASIC_PASSWORD", "hunter2-of-nobody"),
    ])
    .await;
    let output = run(stand.command(&[])).await;
    assert_eq!(output.status.code(), Some(64), "{}", stderr(&output));
    let said = stderr(&output);
    for line in [
        "POSTERN_LISTN: there is no such setting; did you mean POSTERN_LISTEN?",
        "POSTERN_ADMIN_TOKN: there is no such setting; did you mean POSTERN_ADMIN_TOKEN?",
        "POSTERN_CONCURRENCY: ",
        "POSTERN_DRAIN_TIMEOUT: ",
        "POSTERN_FORMAT: ",
        "event.notification.signature.kye: there is no such setting; did you mean event.notification.signature.key?",
        "EVENT_NOTIFICATION_CALLBACK_URL: ",
        "POSTERN_ADMIN_TOKEN: ",
        "POSTERN_SNS_BASIC_",
    ] {
        assert!(said.lines().any(|said| said.trim_start().starts_with(line)), "{line}\n{said}");
    }
    assert!(said.starts_with("postern cannot start: 9 problems to settle"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    assert!(!stand.dir.path().join("store").exists(), "nothing was begun");
}

/// Hard case 6. Two on one store would deliver twice and out of order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sidecar_on_the_same_store_is_refused() {
    let stand = Stand::start(&[]).await;
    let mut second = stand.command(&[]);
    second.env("POSTERN_LISTEN", "127.0.0.1:0").env("POSTERN_ADMIN_LISTEN", "127.0.0.1:0");
    let output = run(second).await;
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("is in use by another postern"), "{said}");
    assert!(said.contains(stand.dir.path().join("store").to_str().expect("a path")), "{said}");
    // The first is none the worse.
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
}

/// Hard case 6. What is answered with 200 is on disk; on a disk of memory that is a promise with a hole, said at start and in metrics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_tmpfs_is_warned_of() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let shared = Path::new("/dev/shm");
    if !mounts.lines().any(|line| line.starts_with("tmpfs /dev/shm ") || line.contains(" /dev/shm tmpfs ")) {
        crate::support::skip("a_store_on_tmpfs_is_warned_of", "/dev/shm is no tmpfs");
        return;
    }
    let folder = tempfile::tempdir_in(shared).expect("a directory");
    let store = folder.path().join("store");
    let stand = Stand::start(&[("POSTERN_DATA_DIR", store.to_str().expect("a path"))]).await;
    let log = stand.log();
    let warned = |line: &str| line.contains("WARN") && line.contains("is on tmpfs") && line.contains("mount a volume");
    assert!(log.lines().any(warned), "{log}");
    let metrics = get(stand.admin, "/metrics").await.expect("metrics").body;
    assert!(metrics.contains("postern_data_dir_volatile 1\n"), "{metrics}");
    let ready = get(stand.admin, "/ready").await.expect("an answer");
    assert!(ready.status == 200 && ready.body.contains("mount a volume"), "a warning and no refusal: {}", ready.body);
}

/// Hard case 6. A store of a version that is not known yet is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_version_is_left_alone() {
    let mut stand = Stand::start(&[]).await;
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    stand.kill();
    let store = rusqlite::Connection::open(stand.dir.path().join("store/postern.db")).expect("the store");
    store.pragma_update(None, "user_version", 4711).expect("another version");
    drop(store);
    for arguments in [&[][..], &["events"], &["replay", "--all"]] {
        let output = run(stand.command(arguments)).await;
        assert_eq!(output.status.code(), Some(69), "{arguments:?} {}", stderr(&output));
        assert!(stderr(&output).contains("has format 4711"), "{arguments:?} {}", stderr(&output));
    }
}

/// A port that somebody has is said with the setting's name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_named() {
    let mut stand = Stand::prepare(&[]).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for setting in ["POSTERN_LISTEN", "POSTERN_ADMIN_LISTEN"] {
        let mut command = stand.command(&[]);
        command.env(setting, &address);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains(setting) && said.contains(&address), "{said}");
    }
    stand.begin().await;
}

/// What is open is said at every start: by which ways events come in, at which routes, and how to reach none of them without the secret.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_names_every_way_in_and_no_secret() {
    let mut stand = Stand::prepare_without_sns(&[
        ("POSTERN_PUBLIC_URL", "http://events.example.com"),
        ("POSTERN_MCS_TOPICS", "mcs1|photos"),
        ("POSTERN_MCS_SECRET", "hunter2-in-the-path"),
        ("POSTERN_S3HTTP_SECRET", "hunter2-in-another-path"),
        ("POSTERN_S3HTTP_PRESET", "minio"),
        ("POSTERN_S3HTTP_AUTH", "Bearer hunter2-the-token"),
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "hunter2-the-key"),
    ])
    .await;
    stand.begin().await;
    let log = stand.log();
    for words in ["mcs1|photos", "minio, proven by the secret in the URL and the Authorization header", "/mcs/…, /s3/…"]
    {
        assert!(log.contains(words), "{words}: {log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
    let metrics = get(stand.admin, "/metrics").await.expect("metrics").body;
    assert!(
        metrics.contains("postern_weakened_setting{setting=\"POSTERN_MCS_URL\"} 1\n"),
        "read on the way: {metrics}"
    );
    assert!(metrics.contains("postern_weakened_setting{setting=\"POSTERN_S3HTTP_SECRET\"} 0\n"), "{metrics}");
}
