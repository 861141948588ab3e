//! The callback itself: signatures, headers, credentials, sockets, proxies. (Hard cases 13 and 22.)

use postern::clock::{Clock as _, SystemClock};
use postern::simulator::receiver::{Behaviour, Listen, check};

use super::scripted::{Scripted, status};
use super::stand::{KEY, Stand, app_at, calls, header};

/// Hard case 13. Two keys in the file: the first alone makes the Elements signature, both make the standard one, so that apps with
/// either key go on; and every attempt of a delivery has the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_a_rotation_both_keys_sign_and_every_attempt_has_the_same_id() {
    let mut stand = Stand::prepare(&[("EVENT_NOTIFICATION_SIGNATURE_KEY", "")]).await;
    let file = stand.file("keys", &format!("the new key\n{KEY}\n"));
    stand.set("EVENT_NOTIFICATION_SIGNATURE_KEY_FILE", &file);
    stand.begin().await;
    stand.app.script([Behaviour::Status(500), Behaviour::Reset]);
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    let calls = calls(&stand.app);
    assert_eq!(calls.len(), 3);
    let id = header(&calls[0], "webhook-id");
    assert_eq!(stand.rows(&[]).await[0]["eventId"], id.as_str());
    for call in &calls {
        assert_eq!((header(call, "webhook-id"), header(call, "elements-webhook-id")), (id.clone(), id.clone()));
        assert_eq!(call.body, calls[0].body, "the same bytes on every attempt");
        assert_eq!(header(call, "webhook-signature").split(' ').count(), 2);
        let with = |key: &str| check(&call.headers, &call.body, &[key.to_owned()], SystemClock.now());
        assert_eq!((with("the new key").elements, with("the new key").standard), (Some(true), Some(true)));
        assert_eq!((with(KEY).elements, with(KEY).standard), (Some(false), Some(true)));
    }
}

/// Hard case 13. Without a key there is no signature, and nothing that looks like one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_nothing_pretends_to_be_signed() {
    let stand = Stand::start(&[("EVENT_NOTIFICATION_SIGNATURE_KEY", "")]).await;
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    let call = calls(&stand.app).remove(0);
    assert!(
        !call.headers.contains_key("elements-webhook-signature") && !call.headers.contains_key("webhook-signature")
    );
    assert!(call.headers.contains_key("webhook-id"));
}

/// Hard case 13. What the operator adds goes with every callback, and no secret of it is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extra_headers_and_basic_credentials_go_with_every_callback() {
    let stand = Stand::start(&[
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"X-Team": "media", "X-Api-Key": "hunter2"}"#),
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "Aladdin"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "open sesame"),
        ("POSTERN_LOG", "trace"),
    ])
    .await;
    stand.app.script([Behaviour::Status(500)]);
    stand.create(&["a"]).await;
    stand.delivered(&["a"]).await;
    for call in calls(&stand.app) {
        assert_eq!(header(&call, "x-team"), "media");
        assert_eq!(header(&call, "x-api-key"), "hunter2");
        assert_eq!(header(&call, "authorization"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(header(&call, "host"), stand.app.url().replace("http://", "").replace("/events", ""));
    }
    let log = stand.log();
    for secret in ["hunter2", "open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ", KEY] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// The app in the same pod may have no port at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_goes_over_a_unix_socket() {
    let folder = tempfile::tempdir().expect("a directory");
    let app = app_at(Listen::Unix(folder.path().join("app.sock"))).await;
    let stand = Stand::start(&[("EVENT_NOTIFICATION_CALLBACK_URL", &app.url())]).await;
    stand.create(&["a"]).await;
    stand.delivered_to(&app, &["a"]).await;
    assert!(app.ledger(|ledger| ledger.is_clean()));
}

/// Hard case 22. A callback to another machine goes through the proxy of the environment; the app beside us never does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_elsewhere_goes_through_the_proxy_and_one_on_this_machine_does_not() {
    let proxy = Scripted::start(|_| status("200 OK", "")).await;
    let through = format!("http://proxy-user:hunter2@{}", proxy.address);
    let away = [
        ("HTTP_PROXY", through.as_str()),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://app.example.test/events?token=hunter2"),
    ];
    let stand = Stand::start(&away).await;
    stand.create(&["a"]).await;
    stand.wait_rows(&["--state", "delivered"], 1).await;
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1);
    let head = asked[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post http://app.example.test/events?token=hunter2 http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: app.example.test\r\n"), "{head}");
    assert!(head.contains("\r\nproxy-authorization: basic "), "{head}");
    assert!(!stand.log().contains("hunter2"), "{}", stand.log());

    let stand = Stand::start(&[("HTTP_PROXY", &through), ("ALL_PROXY", &through)]).await;
    stand.create(&["b"]).await;
    stand.delivered(&["b"]).await;
    assert_eq!(proxy.asked().len(), 1);
    assert!(!calls(&stand.app)[0].headers.contains_key("proxy-authorization"));
}

/// Hard case 22. `NO_PROXY` names what is reached directly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_proxy_is_honoured() {
    let proxy = Scripted::start(|_| status("200 OK", "")).await;
    let through = format!("http://{}", proxy.address);
    let stand = Stand::start(&[
        ("HTTP_PROXY", &through),
        ("NO_PROXY", ".example.invalid"),
        ("EVENT_NOTIFICATION_CALLBACK_URL", "http://app.example.invalid/events"),
    ])
    .await;
    stand.create(&["a"]).await;
    // The name exists nowhere: asked directly, it does not resolve.
    let row = loop {
        let row = stand.wait_rows(&["--state", "owed"], 1).await.remove(0);
        if row["log"].as_array().is_some_and(|log| !log.is_empty()) {
            break row;
        }
    };
    assert_eq!(row["log"][0]["outcome"], "dns", "{row}");
    assert_eq!(row["log"][0]["counted"], false, "{row}");
    assert!(proxy.asked().is_empty());
}
