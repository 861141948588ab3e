//! The JSON protocol of the queue.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Call, Fault, Shared};

const MAX_BODY: usize = 4 << 20;

/// Accepts until it is dropped, and its connections with it.
pub(super) async fn run(listener: TcpListener, shared: Arc<Shared>) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, Arc::clone(&shared)));
            }
            // Out of descriptors, most likely: they come back when connections end.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&shared)));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, io::Error> {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = match target.rsplit('.').next().unwrap_or_default() {
        "ReceiveMessage" => Call::Receive,
        "DeleteMessageBatch" => Call::Delete,
        "ChangeMessageVisibilityBatch" => Call::ChangeVisibility,
        "GetQueueAttributes" => Call::Attributes,
        _ => return Ok(error(StatusCode::BAD_REQUEST, "UnsupportedOperation")),
    };
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await.map_err(io::Error::other)?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
    let fault = {
        let mut state = shared.state();
        match call {
            Call::Receive => state.ledger.receives += 1,
            Call::Delete => state.ledger.deletes += 1,
            Call::Attributes | Call::ChangeVisibility => {}
        }
        state.fault(call)
    };
    match fault {
        Some(Fault::Denied) => return Ok(error(StatusCode::BAD_REQUEST, "AccessDeniedException")),
        Some(Fault::Half) => return Ok(Response::new(Full::from(r#"{"Messages":[{"MessageId":"1","Recei"#))),
        Some(Fault::Reset) => return Err(io::Error::other("cut on purpose")),
        Some(Fault::Status(status)) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            return Ok(response);
        }
        Some(Fault::Throttled) => return Ok(error(StatusCode::BAD_REQUEST, "ThrottlingException")),
        Some(Fault::Unknown) => return Ok(error(StatusCode::BAD_REQUEST, "QueueDoesNotExist")),
        Some(Fault::Partial) | None => {}
    }
    let partial = fault == Some(Fault::Partial);
    let answer = match call {
        Call::Attributes => {
            let seconds = shared.state().options.visibility.as_secs().to_string();
            json!({"Attributes": {"VisibilityTimeout": seconds}})
        }
        Call::ChangeVisibility => batch(&asked, partial, |number, entry| {
            let seconds = entry["VisibilityTimeout"].as_u64().unwrap_or(0);
            shared.state().hide_for(number, Duration::from_secs(seconds))
        }),
        Call::Delete => batch(&asked, partial, |number, _| {
            shared.state().delete(number);
            true
        }),
        Call::Receive => poll(asked, &shared).await,
    };
    // A message that is visible again, or a group that is no longer locked, is for whoever waits.
    if matches!(call, Call::ChangeVisibility | Call::Delete) {
        shared.arrived.notify_waiters();
    }
    Ok(reply(StatusCode::OK, &answer))
}

/// The long poll, which outlives its connection for a while: a server notices late that nobody waits any more.
async fn poll(asked: Value, shared: &Arc<Shared>) -> Value {
    let (connected, cut) = oneshot::channel::<()>();
    let polling = Arc::clone(shared);
    let polling = tokio::spawn(async move {
        let lingering = polling.state().options.lingering;
        let lost = async {
            let _ = cut.await;
            polling.state().ledger.hung_up += 1;
            sleep(lingering).await;
        };
        tokio::select! {
            answer = receive(&asked, &polling) => answer,
            () = lost => Value::Null,
        }
    });
    let answer = polling.await.unwrap_or_default();
    drop(connected);
    answer
}

async fn receive(asked: &Value, shared: &Shared) -> Value {
    let most = usize::try_from(asked["MaxNumberOfMessages"].as_u64().unwrap_or(1)).unwrap_or(1);
    let wish = asked["VisibilityTimeout"].as_u64();
    let limit = Instant::now() + Duration::from_secs(asked["WaitTimeSeconds"].as_u64().unwrap_or(0));
    loop {
        let arrived = shared.arrived.notified();
        let (handed, next) = {
            let mut state = shared.state();
            state.ledger.wished = wish;
            let hide = wish.map_or(state.options.visibility, Duration::from_secs);
            (state.receive(most, hide), state.next_visible())
        };
        if !handed.is_empty() || Instant::now() >= limit {
            let messages: Vec<Value> = handed
                .into_iter()
                .map(|message| {
                    json!({
                        "MessageId": format!("00000000-0000-4000-8000-{:012}", message.number),
                        "ReceiptHandle": format!("{}#{}", message.number, message.receives),
                        "Body": message.body,
                        "Attributes": {
                            "ApproximateReceiveCount": message.receives.to_string(), "SentTimestamp": "1770000000000",
                            "MessageGroupId": message.group,
                        },
                    })
                })
                .collect();
            return json!({"Messages": messages});
        }
        let wake = next.map_or(limit, |next| next.min(limit));
        tokio::select! {
            () = arrived => {}
            () = sleep_until(wake) => {}
        }
    }
}

/// Does `each` for every entry; of a partial batch only for the first.
fn batch(asked: &Value, partial: bool, mut each: impl FnMut(u64, &Value) -> bool) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (index, entry) in asked["Entries"].as_array().into_iter().flatten().enumerate() {
        let receipt = entry["ReceiptHandle"].as_str().unwrap_or_default();
        let number = receipt.split('#').next().and_then(|number| number.parse().ok());
        if partial && index > 0 {
            failed.push(json!({"Id": entry["Id"], "Code": "InternalError", "SenderFault": false}));
        } else if number.is_some_and(|number| each(number, entry)) {
            successful.push(json!({"Id": entry["Id"]}));
        } else {
            failed.push(json!({"Id": entry["Id"], "Code": "ReceiptHandleIsInvalid", "SenderFault": true}));
        }
    }
    json!({"Successful": successful, "Failed": failed})
}

fn error(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": "on purpose"}))
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/x-amz-json-1.0"));
    response
}
