//! Confirming with the operator's credentials: by a signed call that makes unsubscribing need credentials too, and without them where
//! they do not suffice.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::bench::{Bench, Message, TOPIC};

#[derive(Default)]
struct Sns {
    leaf: String,
    /// The answer to a signed call.
    answer: (u16, String),
    /// Authorization and body of each signed call.
    signed: Vec<(String, String)>,
    unsigned: usize,
}

fn confirmed() -> String {
    format!(
        "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><ConfirmSubscriptionResult>\
         <SubscriptionArn>{TOPIC}:6b0e71bd-7e97-4d97-80ce-4a0994e55286</SubscriptionArn></ConfirmSubscriptionResult>\
         </ConfirmSubscriptionResponse>"
    )
}

async fn serve(sns: Arc<Mutex<Sns>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sns = Arc::clone(&sns);
            let service = service_fn(move |request: Request<Incoming>| {
                let sns = Arc::clone(&sns);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    let mut sns = sns.lock().expect("a lock");
                    let (status, text) = if head.uri.path() == "/cert.pem" {
                        (200, sns.leaf.clone())
                    } else if head.method == Method::POST {
                        let authorization = head.headers.get("authorization").and_then(|v| v.to_str().ok());
                        let body = String::from_utf8_lossy(&body).into_owned();
                        sns.signed.push((authorization.unwrap_or_default().to_owned(), body));
                        sns.answer.clone()
                    } else {
                        sns.unsigned += 1;
                        (200, confirmed())
                    };
                    let response = Response::builder().status(status).body(Full::new(Bytes::from(text)));
                    Ok::<_, Infallible>(response.expect("a response"))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// Confirms with credentials at an SNS that answers the signed call so; gives the bench and what that SNS heard.
async fn confirm(answer: (u16, String)) -> (Bench, Arc<Mutex<Sns>>) {
    let sns = Arc::new(Mutex::new(Sns { answer, ..Sns::default() }));
    let origin = format!("http://{}", serve(Arc::clone(&sns)).await);
    let bench = Bench::with(&[
        ("POSTERN_SNS_ENDPOINT_URL", &origin),
        ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "AKIDEXAMPLE"),
        ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "a-secret-that-is-nowhere"),
    ])
    .await;
    sns.lock().expect("a lock").leaf = bench.authority.leaf_pem().to_owned();
    let message = Message::confirmation("SubscriptionConfirmation");
    let token = message.get("Token").to_owned();
    let url = format!("{origin}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}");
    let message = message.with("SubscribeURL", url).with("SigningCertURL", format!("{origin}/cert.pem")).signed(&bench);
    assert_eq!(bench.send(&message).await, 200, "{}", bench.log());
    bench.eventually("confirmed", async |b| b.metric("outcome=\"confirmed\"").await == 1).await;
    let (log, ready) = (bench.log(), bench.admin_get("/ready").await.body);
    for secret in [token.as_str(), "a-secret-that-is-nowhere", "6b0e71bd-7e97-4d97-80ce-4a0994e55286"] {
        assert!(!log.contains(secret) && !ready.contains(secret), "{secret}\n{log}\n{ready}");
    }
    (bench, sns)
}

#[tokio::test]
async fn credentials_confirm_by_a_signed_call_that_protects_the_subscription() {
    let (_bench, sns) = confirm((200, confirmed())).await;
    let sns = sns.lock().expect("a lock");
    let (authorization, body) = &sns.signed[0];
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
    assert!(authorization.contains("/us-west-2/sns/"), "the topic's region signs: {authorization}");
    for part in ["Action=ConfirmSubscription", "AuthenticateOnUnsubscribe=true"] {
        assert!(body.contains(part), "{body}");
    }
    assert_eq!((sns.signed.len(), sns.unsigned), (1, 0));
}

#[tokio::test]
async fn credentials_that_may_not_confirm_leave_it_to_the_url() {
    let denied = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
                  <Code>AuthorizationError</Code><Message>not authorized</Message></Error></ErrorResponse>";
    let (bench, sns) = confirm((403, denied.to_owned())).await;
    let sns = sns.lock().expect("a lock");
    assert_eq!((sns.signed.len(), sns.unsigned), (1, 1), "{}", bench.log());
}
