//! MCS S3: a stand-in that checks SigV4, shakes hands with the sidecar while the PUT runs, and keeps what it is given.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use ring::{digest, hmac};
use tokio::net::TcpListener;

use super::{doctor, setup};
use crate::support::aws::call;
use crate::support::process::free_port;
use crate::support::receiver::Receiver;
use crate::support::sidecar::Sidecar;

const SECRET: &str = "hush-hush-hush-hush-hush";
const THEIRS: &str = "<SimpleTopicConfiguration><Id>1</Id>  <Event>s3:ObjectCreated:Put</Event><!-- mine --><Url>http://theirs.example/x</Url></SimpleTopicConfiguration>";

/// What the bucket has, and how often it was written.
#[derive(Debug, Default)]
struct Bucket {
    xml: String,
    puts: usize,
    unsigned: usize,
}

type Shared = Arc<Mutex<Bucket>>;

async fn mcs() -> (String, Shared) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
    let xml = format!("<NotificationConfiguration>{THEIRS}</NotificationConfiguration>");
    let shared: Shared = Arc::new(Mutex::new(Bucket { xml, ..Bucket::default() }));
    let state = Arc::clone(&shared);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&state)));
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (endpoint, shared)
}

async fn answer(request: Request<Incoming>, state: Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let reply =
        |status: u16, text: String| Response::builder().status(status).body(Full::from(text)).expect("a response");
    let signed =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()) == Some(&signature(&head, &body));
    if !signed || head.uri.path() != "/photos" || head.uri.query() != Some("notification") {
        state.lock().expect("no panic").unsigned += 1;
        return Ok(reply(403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>".to_owned()));
    }
    if head.method == Method::GET {
        return Ok(reply(200, state.lock().expect("no panic").xml.clone()));
    }
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    let urls = text.split("<Url>").skip(1).filter_map(|rest| rest.split("</Url>").next());
    for url in urls.filter(|url| url.contains("127.0.0.1")) {
        if !shakes_hands(url).await {
            return Ok(reply(
                400,
                "<Error><Code>InvalidArgument</Code><Message>the endpoint did not confirm</Message></Error>".to_owned(),
            ));
        }
    }
    let mut bucket = state.lock().expect("no panic");
    bucket.xml = text;
    bucket.puts += 1;
    Ok(reply(200, String::new()))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SigV4 as its documentation tells it, over the headers that must be signed.
fn signature(head: &hyper::http::request::Parts, body: &[u8]) -> String {
    let sha = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let get = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let names = ["content-type", "host", "x-amz-content-sha256", "x-amz-date"];
    let headers: String = names.iter().map(|name| format!("{name}:{}\n", get(name))).collect();
    let names = names.join(";");
    let request = format!("{}\n{}\nnotification=\n{headers}\n{names}\n{}", head.method, head.uri.path(), sha(body));
    let date = get("x-amz-date");
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/ru-msk/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha(request.as_bytes()));
    let key = [day, "ru-msk", "s3", "aws4_request"]
        .iter()
        .fold(b"AWS4hush-key".to_vec(), |key, part| mac(&key, part.as_bytes()));
    format!(
        "AWS4-HMAC-SHA256 Credential=access/{scope}, SignedHeaders={names}, Signature={}",
        hex(&mac(&key, text.as_bytes()))
    )
}

/// The handshake of `s3-dialects.md` 1.2 to 1.4.
async fn shakes_hands(url: &str) -> bool {
    let (token, time, topic) =
        ("RPE5UuG94rGgBH6kHXN9FUPugFxj1hs2", "2026-12-26T19:29:12+03:00", "mcs1|photos|s3:ObjectCreated:*");
    let body = serde_json::json!({ "Timestamp": time, "Type": "SubscriptionConfirmation", "Message": "$topic", "TopicArn": topic,
        "SignatureVersion": 1, "Token": token });
    let reply = crate::support::aws::try_call(
        Method::POST,
        url,
        &[("content-type", "application/json")],
        body.to_string().into(),
    )
    .await;
    let wanted = hex(&mac(&mac(&mac(token.as_bytes(), time.as_bytes()), topic.as_bytes()), url.as_bytes()));
    reply.is_some_and(|reply| reply.status == 200 && reply.text() == format!("{{\"signature\":\"{wanted}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_merged_into_those_of_others_once_the_sidecar_answers_the_handshake() {
    let (endpoint, bucket) = mcs().await;
    let before = bucket.lock().expect("no panic").xml.clone();
    let xml = || bucket.lock().expect("no panic").xml.clone();
    let receiver = Receiver::start().await;
    // The sidecar learns its public URL at start, and its port is told by it: the URL stands for a door in front of it.
    let settings = |public: String| {
        vec![
            ("POSTERN_MCS_TOPICS", "mcs1|photos".to_owned()),
            ("POSTERN_MCS_SECRET", SECRET.to_owned()),
            ("POSTERN_PUBLIC_URL", public),
            ("POSTERN_S3_ENDPOINT_URL", endpoint.clone()),
            ("POSTERN_S3_PATH_STYLE", "true".to_owned()),
            ("FILEMANAGEMENT_PROVIDER_ACCESS_KEY", "access".to_owned()),
            ("FILEMANAGEMENT_PROVIDER_SECRET_KEY", "hush-key".to_owned()),
        ]
    };
    let nobody = settings(format!("http://127.0.0.1:{}", free_port()));
    let nobody: Vec<(&str, &str)> = nobody.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let said = setup(&nobody, &[]).await;
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("shakes hands") && said.out.contains("does not answer from here"), "{}", said.out);
    assert_eq!(xml(), before);

    let intake = free_port();
    let public = format!("http://127.0.0.1:{intake}");
    let listen = format!("127.0.0.1:{intake}");
    let ours = settings(public.clone());
    let ours: Vec<(&str, &str)> = ours.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut theirs: Vec<(&str, &str)> = ours[..3].to_vec();
    theirs.push(("POSTERN_LISTEN", &listen));
    let arn = "arn:aws:sns:us-east-1:000000000000:unused";
    let _sidecar = Sidecar::start(arn, &receiver.url("/events"), &theirs).await;

    let said = setup(&ours, &["--for", "mcs", "--dry-run"]).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("/mcs/[secret]</Url>") && said.out.contains("<!-- mine -->"), "{}", said.out);
    assert_eq!(xml(), before);
    let said = setup(&ours, &["--for", "mcs"]).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(xml().contains(THEIRS) && xml().contains(&format!("<Url>{public}/mcs/{SECRET}</Url>")), "{}", xml());
    let mut doctors: Vec<(&str, &str)> = ours.clone();
    doctors.extend([("EVENT_NOTIFICATION_CALLBACK_URL", public.as_str()), ("POSTERN_TLS", "off")]);
    let said = doctor(&doctors).await;
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("webhook postern-photos of photos leads here"), "{}", said.out);
    doctors[2].1 = "http://127.0.0.1:1";
    let said = doctor(&doctors).await;
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.contains("byte for byte"), "{}", said.out);
    let said = setup(&ours, &["--for", "mcs"]).await;
    assert_eq!((said.code, said.verdicts("ok").len()), (0, 1), "{}", said.out);
    assert_eq!(bucket.lock().expect("no panic").puts, 1, "nothing is written where nothing differs");

    // Another project's record is not taken, ours is: what was set up works.
    let record = r#"{"Records":[{"s3":{"object":{"eTag":"x","sequencer":1577453615,"key":"a.txt","size":1},"configurationId":"1",
        "bucket":{"name":"photos","ownerIdentity":{"principalId":"mcs1"}},"s3SchemaVersion":"1.0"},"eventVersion":"1.0",
        "eventName":"s3:ObjectCreated:Put","awsRegion":"ru-msk","eventSource":"aws:s3"}]}"#;
    let reply =
        call(Method::POST, &format!("{public}/mcs/{SECRET}"), &[("content-type", "application/json")], record).await;
    assert_eq!(reply.status, 200);
    receiver.wait_for("the change is delivered", |received| received.path == "/events").await;

    let said = setup(&ours, &["--for", "mcs", "--remove"]).await;
    assert_eq!(said.code, 0, "{}", said.out);
    assert_eq!(xml(), before);
    let said = setup(&ours, &["--for", "mcs", "--remove"]).await;
    assert_eq!((said.code, bucket.lock().expect("no panic").puts), (0, 2), "{}", said.out);
    assert_eq!(bucket.lock().expect("no panic").unsigned, 0);

    // One that somebody added in the panel is as good as ours.
    let panel = format!(
        "<NotificationConfiguration><SimpleTopicConfiguration><Id>panel</Id><Event>s3:ObjectCreated:*</Event>\
        <Event>s3:ObjectRemoved:*</Event><Url>{public}/mcs/{SECRET}</Url></SimpleTopicConfiguration></NotificationConfiguration>"
    );
    bucket.lock().expect("no panic").xml = panel.clone();
    let said = setup(&ours, &["--for", "mcs"]).await;
    assert_eq!(
        (said.code, said.verdicts("ok").len(), bucket.lock().expect("no panic").puts),
        (0, 1, 2),
        "{}",
        said.out
    );
    assert!(said.out.contains("by panel already"), "{}", said.out);

    // What is not understood is never replaced.
    bucket.lock().expect("no panic").xml = "<!DOCTYPE x><NotificationConfiguration/>".to_owned();
    let said = setup(&ours, &["--for", "mcs"]).await;
    assert_eq!((said.code, bucket.lock().expect("no panic").puts), (1, 2), "{}", said.out);
    assert!(said.out.contains("nothing was changed"), "{}", said.out);
}
