//! No secret is in what it says.

use super::Place;
use crate::support::receiver::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_configuration_is_in_either_report() {
    let secrets = [
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "secret-signature-key"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "secret-basic-password"),
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"x-token":"secret-header-value"}"#),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "SECRETACCESSKEYID"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "secret-access-key"),
        ("POSTERN_ADMIN_TOKEN", "secret-admin-token"),
        ("POSTERN_MCS_SECRET", "secret-mcs-part"),
        ("POSTERN_S3HTTP_SECRET", "secret-s3-part"),
        ("POSTERN_S3HTTP_AUTH", "Bearer secret-s3http-auth"),
        ("POSTERN_SNS_BASIC_PASSWORD", "secret-sns-password"),
    ];
    let app = Receiver::start().await;
    let mut place = Place::new(&app.url("/events?token=secret-callback-query"));
    let public = format!("http://{}", place.settings["POSTERN_LISTEN"]);
    for (name, value) in secrets.into_iter().chain([
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "me"),
        ("POSTERN_SNS_BASIC_USERNAME", "me"),
        ("POSTERN_MCS_TOPICS", "mcs1|photos"),
        ("POSTERN_PUBLIC_URL", public.as_str()),
        ("FILEMANAGEMENT_PROVIDER_BUCKET_NAME", "photos"),
        ("POSTERN_S3_ENDPOINT_URL", app.url("").as_str()),
    ]) {
        place.set(name, value);
    }
    for down in [false, true] {
        if down {
            place.set("EVENT_NOTIFICATION_CALLBACK_URL", "http://127.0.0.1:9/events?token=secret-callback-query");
            // And a configuration with a problem in it.
            place.set("POSTERN_FORMAT", "nonsense");
        }
        for arguments in [&["--json"][..], &[], &["--send-test-event"]] {
            let output = place.doctor(arguments).await;
            let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
            assert!(said.contains("callback"), "{said}");
            for secret in ["secret-", "SECRETACCESSKEYID"] {
                assert!(!said.contains(secret), "{secret} in {said}");
            }
        }
    }
}

/// What is too short to be searched for in the report must not come into it: no check says a secret, and an app's own words that
/// repeat one are struck out.
#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_secret_is_not_printed_and_garbles_nothing() {
    let app = Receiver::start().await;
    app.answer(hyper::StatusCode::FORBIDDEN);
    let mut place = Place::new(&app.url("/events?token=Qz5"));
    for (name, value) in [
        ("EVENT_NOTIFICATION_SIGNATURE_KEY", "Qz0"),
        ("EVENT_NOTIFICATION_BASIC_USERNAME", "me"),
        ("EVENT_NOTIFICATION_BASIC_PASSWORD", "Qz1"),
        ("EVENT_NOTIFICATION_CALLBACK_HEADERS", r#"{"x-token":"Qz2"}"#),
        ("POSTERN_ADMIN_TOKEN", "Qz3"),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "me"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "Qz4"),
    ] {
        place.set(name, value);
    }
    for arguments in [&["--json"][..], &["--send-test-event"]] {
        let output = place.doctor(arguments).await;
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(said.contains("callback") && !said.contains("Qz"), "{said}");
    }
    // A key of one letter, or of a word that the doctor uses itself.
    for key in ["e", "secret"] {
        place.set("EVENT_NOTIFICATION_SIGNATURE_KEY", key);
        let output = place.doctor(&[]).await;
        let said = String::from_utf8(output.stdout).expect("text");
        assert!(said.contains("what is signed with 1 key(s) verifies") && !said.contains("[***]"), "{said}");
        assert!(said.contains("/s3/<secret>") || !said.contains("/s3/"), "{said}");
    }
}
