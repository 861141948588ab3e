//! Routes, methods and the token.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{State, api, instances, metrics};

/// Bytes of a filter: a few names and times.
const BODY_BYTES: usize = 64 * 1024;

/// What OpenMetrics 1.0 asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every scraper reads.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A refusal: status and what to do.
pub(super) type Refusal = (StatusCode, String);

#[derive(Clone, Copy)]
enum Route {
    Deliveries,
    Discard,
    Instances,
    Live,
    Metrics,
    Ready,
    Replay,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/deliveries" | "/events" => Self::Deliveries,
            "/deliveries/discard" => Self::Discard,
            "/deliveries/replay" => Self::Replay,
            "/instances" => Self::Instances,
            "/live" => Self::Live,
            "/metrics" => Self::Metrics,
            "/ready" => Self::Ready,
            _ => return None,
        })
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Metrics | Self::Ready)
    }

    fn is_change(self) -> bool {
        matches!(self, Self::Discard | Self::Replay)
    }
}

pub(super) async fn answer(state: &State, request: hyper::Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(route) = Route::of(request.uri().path()) else {
        return refuse((StatusCode::NOT_FOUND, "there is nothing at this path".into()));
    };
    let (allowed, allow) = if route.is_change() {
        (request.method() == Method::POST, "POST")
    } else {
        (request.method() == Method::GET || request.method() == Method::HEAD, "GET, HEAD")
    };
    if !allowed {
        let mut response = refuse((StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}")));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        return response;
    }
    if !route.is_open()
        && let Err(refusal) = authorize(state, request.headers())
    {
        let mut response = refuse(refusal);
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"postern\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        return response;
    }
    let answered = match route {
        Route::Live => Ok(plain(StatusCode::OK, "text/plain; charset=utf-8", "live\n".into())),
        Route::Ready => Ok(ready(state)),
        Route::Metrics if accepts_openmetrics(request.headers()) => {
            Ok(plain(StatusCode::OK, OPENMETRICS, metrics::scrape(state)))
        }
        Route::Metrics => Ok(plain(StatusCode::OK, TEXT, metrics::as_text(&metrics::scrape(state)))),
        Route::Instances => Ok(value(StatusCode::OK, &instances::list(state))),
        Route::Deliveries => {
            let query = request.uri().query().unwrap_or("").to_owned();
            api::deliveries(state, &query).await.map(|v| value(StatusCode::OK, &v))
        }
        Route::Discard | Route::Replay => {
            let replay = matches!(route, Route::Replay);
            match read(request.into_body()).await {
                Ok(body) => api::change(state, &body, replay).await.map(|v| value(StatusCode::OK, &v)),
                Err(refusal) => Err(refusal),
            }
        }
    };
    answered.unwrap_or_else(refuse)
}

fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| range.trim().starts_with("application/openmetrics-text"))
}

fn authorize(state: &State, headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(token) = &state.admin.token else {
        let what = "the API is off: set POSTERN_ADMIN_TOKEN (or POSTERN_ADMIN_TOKEN_FILE) and restart";
        return Err((StatusCode::FORBIDDEN, what.into()));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, given) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| given.trim_ascii())
    });
    if given.is_some_and(|given| token.matches(given)) {
        return Ok(());
    }
    let what = "send `Authorization: Bearer` with the value of POSTERN_ADMIN_TOKEN";
    Err((StatusCode::UNAUTHORIZED, what.into()))
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    match Limited::new(body, BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err((StatusCode::PAYLOAD_TOO_LARGE, format!("a filter has at most {BODY_BYTES} bytes")))
        }
        Err(_) => Err((StatusCode::BAD_REQUEST, "the body broke off".into())),
    }
}

fn ready(state: &State) -> Response<Full<Bytes>> {
    let conditions = state.admin.health.snapshot();
    // Judged from the same snapshot that is shown.
    let ready = conditions.values().all(|c| c.ok || !c.blocks);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    value(status, &json!({ "ready": ready, "conditions": conditions }))
}

fn refuse((status, what): Refusal) -> Response<Full<Bytes>> {
    value(status, &json!({ "error": what }))
}

fn value(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    plain(status, "application/json", value.to_string())
}

fn plain(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
