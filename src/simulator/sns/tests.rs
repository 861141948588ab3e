use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::body::Bytes;
use ring::signature;

use super::forge::Forgery;
use super::*;
use crate::simulator::receiver::{Behaviour, Receiver};
use crate::simulator::wire::Target;

/// What a receiver that has only read `sns.md` 1.2 does with a body: rebuilds the signed text from the JSON.
fn verifies(body: &str, leaf_pem: &str) -> bool {
    let json: Value = serde_json::from_str(body).expect("JSON");
    let names: &[&str] = match json["Type"].as_str().expect("Type") {
        "Notification" => &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"],
        _ => &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"],
    };
    let text: String =
        names.iter().filter_map(|name| Some(format!("{name}\n{}\n", json.get(*name)?.as_str()?))).collect();
    let algorithm = match json["SignatureVersion"].as_str() {
        Some("1") => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        Some("2") => &signature::RSA_PKCS1_2048_8192_SHA256,
        other => panic!("SignatureVersion {other:?}"),
    };
    let (_, pem) = x509_parser::pem::parse_x509_pem(leaf_pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    let key = certificate.public_key().subject_public_key.data.to_vec();
    let signed = STANDARD.decode(json["Signature"].as_str().expect("Signature")).expect("base64");
    signature::UnparsedPublicKey::new(algorithm, &key).verify(text.as_bytes(), &signed).is_ok()
}

async fn get(url: &str) -> (u16, String) {
    let url = Url::parse(url).expect("a URL");
    let mut connection = Connection::new(Arc::new(Target::new(&url, None).expect("a target")));
    let path = &url[url::Position::BeforePath..];
    let reply = connection.send(Method::GET, path, Default::default(), Bytes::new()).await.expect("an answer");
    (reply.status.as_u16(), String::from_utf8(reply.body.to_vec()).expect("text"))
}

#[tokio::test]
async fn every_kind_of_message_verifies_in_both_versions_under_the_served_certificate() {
    for signature_version in [1, 2] {
        let options = Options { signature_version, ..Options::default() };
        let sns = Simulator::start(options).await.expect("a simulator");
        let mut dice = Dice::seeded(3);
        let plain = sns.notification(None, "first\nsecond \"\u{1f600}\"\n".to_owned(), &mut dice);
        let (status, leaf) = get(&plain.signing_cert_url).await;
        assert_eq!((status, sns.certificate_fetches()), (200, 1));
        let kinds = [
            plain,
            sns.notification(Some("A subject"), "x".to_owned(), &mut dice),
            sns.subscription_confirmation(&mut dice),
            sns.unsubscribe_confirmation(&mut dice),
        ];
        for envelope in kinds {
            assert!(verifies(&envelope.to_body(), &leaf), "{envelope:?}");
            let mut changed = envelope.clone();
            changed.message.push('x');
            assert!(!verifies(&changed.to_body(), &leaf), "{changed:?}");
        }
    }
}

#[tokio::test]
async fn the_leaf_leads_to_the_anchor_and_names_the_topics_region() {
    let topic_arn = "arn:aws:sns:af-south-1:123456789012:t".to_owned();
    let sns = Simulator::start(Options { topic_arn, ..Options::default() }).await.expect("a simulator");
    let (_, leaf) = x509_parser::pem::parse_x509_pem(sns.authority().leaf_pem().as_bytes()).expect("PEM");
    let (_, root) = x509_parser::pem::parse_x509_pem(sns.anchor_pem().as_bytes()).expect("PEM");
    let (leaf, root) = (leaf.parse_x509().expect("a leaf"), root.parse_x509().expect("a root"));
    leaf.verify_signature(Some(root.public_key())).expect("issued by the root");
    assert!(leaf.subject().to_string().contains("sns-signing.af-south-1.amazonaws.com"));
}

#[tokio::test]
async fn a_subscription_is_confirmed_with_its_own_token_alone() {
    let sns = Simulator::start(Options::default()).await.expect("a simulator");
    let envelope = sns.subscription_confirmation(&mut Dice::seeded(5));
    let url = envelope.subscribe_url.expect("a URL");
    let token = envelope.token.expect("a token");
    assert!(token.len() == 256 && token.bytes().all(|c| c.is_ascii_hexdigit()));

    let wrong = url.replace(&token, &"0".repeat(256));
    assert_eq!(get(&wrong).await.0, 400);
    assert_eq!(get(&url.replace(":123456789012:", ":999999999999:")).await.0, 400);
    assert!(!sns.wait_confirmed(Duration::from_millis(1)).await);

    let (status, xml) = get(&url).await;
    assert_eq!(status, 200);
    assert!(xml.contains(&format!("<SubscriptionArn>{}:", sns.topic_arn())), "{xml}");
    assert!(sns.wait_confirmed(Duration::from_secs(60)).await);
    assert_eq!((sns.confirmed().len(), sns.refused_confirmations()), (1, 2));

    sns.expire_tokens();
    assert_eq!(get(&url).await.0, 400);
}

#[tokio::test]
async fn no_forgery_is_a_genuine_message() {
    let sns = Simulator::start(Options::default()).await.expect("a simulator");
    let mut dice = Dice::seeded(9);
    let genuine = sns.notification(None, "{}".to_owned(), &mut dice);
    let leaf = sns.authority().leaf_pem();
    for forgery in Forgery::ALL {
        let (headers, body) = sns.forge(forgery, &genuine, &mut dice);
        match forgery {
            Forgery::AlteredMessage => assert!(!verifies(&body, leaf)),
            Forgery::ForeignCertificate => assert!(!body.contains(&format!("{}Simple", sns.endpoint_url()))),
            Forgery::ForeignTopic => {
                let json: Value = serde_json::from_str(&body).expect("JSON");
                assert!(verifies(&body, leaf) && json["TopicArn"] != sns.topic_arn());
            }
            Forgery::Replay => assert!(verifies(&body, leaf)),
            Forgery::Unsigned => assert!(body == "{}" && headers.contains_key("x-amz-sns-rawdelivery")),
        }
    }
}

#[tokio::test]
async fn a_message_is_sent_again_after_a_server_error_and_never_after_a_refusal() {
    let options = Options { tries: 3, retry_delay: Duration::from_millis(1), ..Options::default() };
    let sns = Simulator::start(options).await.expect("a simulator");
    let receiver = Receiver::start(Default::default()).await.expect("a receiver");
    let target = Arc::new(Target::new(&receiver.url().parse().expect("a URL"), None).expect("a target"));
    let mut connection = Connection::new(target);
    let envelope = sns.notification(None, "x".to_owned(), &mut Dice::seeded(1));

    receiver.script([Behaviour::Status(503), Behaviour::Reset]);
    let fared = sns.deliver(&mut connection, &envelope).await;
    assert_eq!((fared.tries, fared.reply.expect("an answer").status.as_u16()), (3, 200));

    receiver.script([Behaviour::Status(403)]);
    let fared = sns.deliver(&mut connection, &envelope).await;
    assert_eq!((fared.tries, fared.reply.expect("an answer").status.as_u16()), (1, 403));
}

#[tokio::test]
async fn over_tls_the_endpoint_is_trusted_through_the_same_anchor() {
    let sns = Simulator::start(Options { tls: true, ..Options::default() }).await.expect("a simulator");
    let envelope = sns.notification(None, "x".to_owned(), &mut Dice::seeded(1));
    let url = Url::parse(&envelope.signing_cert_url).expect("a URL");
    assert_eq!(url.scheme(), "https");
    let target = Target::new(&url, Some(sns.anchor_pem().as_bytes())).expect("a target");
    let mut connection = Connection::new(Arc::new(target));
    let reply = connection.send(Method::GET, url.path(), Default::default(), Bytes::new()).await.expect("an answer");
    assert_eq!(reply.body, sns.authority().leaf_pem());
    let stranger = Target::new(&url, Some(b"")).expect("a target that trusts nobody");
    assert!(Connection::new(Arc::new(stranger)).post(Default::default(), Bytes::new()).await.is_err());
}
