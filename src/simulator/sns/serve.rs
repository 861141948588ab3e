//! The pages of the stand-in: its certificate, and ConfirmSubscription.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use url::form_urlencoded;

use super::{Shared, StartError};
use crate::simulator::authority::Authority;

/// Connections at once; a sidecar needs one or two.
const MAX_CONNECTIONS: usize = 256;

/// The one subscription of `topic_arn`.
pub(super) fn subscription_arn(topic_arn: &str) -> String {
    format!("{topic_arn}:b24e11a2-06bd-4e73-aa29-0ed2de3b41b5")
}

/// A TLS acceptor with a certificate of `authority` for the address and `localhost`.
pub(super) fn acceptor(
    authority: &Authority,
    address: SocketAddr,
    now: OffsetDateTime,
) -> Result<TlsAcceptor, StartError> {
    let (chain, key) = authority.server_certificate(&[&address.ip().to_string(), "localhost"], now)?;
    let wrong = |error: &dyn std::fmt::Display| StartError::Tls(error.to_string());
    let chain = CertificateDer::from_pem_slice(chain.as_bytes()).map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| wrong(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|versions| versions.with_no_client_auth().with_single_cert(vec![chain], key))
        .map_err(|error| wrong(&error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until it is dropped, and its connections with it.
pub(super) async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            continue;
        }
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => converse(stream, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn converse<S>(stream: S, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(&request, &shared);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // A caller that breaks off is its own affair.
    let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is served here\n".to_owned());
    }
    if request.uri().path() == shared.certificate_path {
        shared.book().certificate_fetches += 1;
        return page(StatusCode::OK, "application/x-pem-file", shared.authority.leaf_pem().to_owned());
    }
    let query = form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
    let (mut action, mut topic, mut token) = (None, None, None);
    for (name, value) in query {
        match name.as_ref() {
            "Action" => action = Some(value),
            "TopicArn" => topic = Some(value),
            "Token" => token = Some(value),
            _ => {}
        }
    }
    if request.uri().path() != "/" || action.as_deref() != Some("ConfirmSubscription") {
        return page(StatusCode::NOT_FOUND, "text/plain", "not found\n".to_owned());
    }
    confirm(shared, topic.as_deref().unwrap_or_default(), token.as_deref().unwrap_or_default())
}

fn confirm(shared: &Shared, topic: &str, token: &str) -> Response<Full<Bytes>> {
    let mut book = shared.book();
    let known = book.tokens.get(token).is_some_and(|of| of == topic);
    if !known {
        book.refused_confirmations += 1;
        let xml = "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <Error>\n    <Type>Sender</Type>\n    \
                   <Code>InvalidParameter</Code>\n    <Message>Invalid parameter: Token</Message>\n  </Error>\n</ErrorResponse>\n";
        return page(StatusCode::BAD_REQUEST, "text/xml", xml.to_owned());
    }
    let subscription = subscription_arn(topic);
    book.subscriptions.push(subscription.clone());
    drop(book);
    shared.confirmed.send_modify(|count| *count += 1);
    let xml = format!(
        "<ConfirmSubscriptionResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <ConfirmSubscriptionResult>\n    \
         <SubscriptionArn>{subscription}</SubscriptionArn>\n  </ConfirmSubscriptionResult>\n  <ResponseMetadata>\n    \
         <RequestId>00000000-0000-4000-8000-000000000000</RequestId>\n  </ResponseMetadata>\n</ConfirmSubscriptionResponse>\n"
    );
    page(StatusCode::OK, "text/xml", xml)
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
