//! What every request passes: metrics, CORS, a net for panics, the pace of its network; and under `/v1` the list of
//! origins and a deadline.

use std::{any::Any, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use isthmus_protocol::problem::Code;
use tokio::time::timeout;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{
    caller::Caller,
    door::Door,
    problem::{Refusal, RefusedWith},
};

/// How long a request may take, its body included. Above what a media node is given.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a browser may remember a preflight, in seconds: its longest, so that probes and joins cost one round trip.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_hours(2);

/// Counts and times by route.
pub(super) async fn measure(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = matched.unwrap_or_else(|| "none".to_owned());
    let method = request.method().clone();
    let timer = door.metrics.request_seconds.with_label_values(&[&route]).start_timer();
    let response = next.run(request).await;
    timer.observe_duration();
    // A method nobody knows is a label nobody needs.
    let method = if STANDARD_METHODS.contains(&method) { method.as_str() } else { "other" };
    door.metrics.requests.with_label_values(&[&route, method, response.status().as_str()]).inc();
    if let Some(RefusedWith(code)) = response.extensions().get() {
        door.metrics.count_refusal(*code);
    }
    response
}

const STANDARD_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Answers preflights and lets the allowed origins read answers. Tokens travel in headers, but for the one that keeps a device signed
/// in: it is a cookie, which pages of these origins alone may have sent.
pub(super) fn cors(door: Arc<Door>) -> CorsLayer {
    let allow = move |origin: &HeaderValue, _: &_| door.origins.allow(origin.as_bytes());
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allow))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
        .expose_headers([header::LOCATION, header::ETAG, ACCEPT_PATCH, header::RETRY_AFTER])
        .max_age(PREFLIGHT_MAX_AGE)
}

/// RFC 5789 section 3.1.
pub(super) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// An OPTIONS answer of a WHIP endpoint says what may be posted there (RFC 9725 section 4.2), the WHEP draft likewise.
pub(super) async fn offers_media(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let asked = request.method() == Method::OPTIONS && (path.ends_with("/whip") || path.ends_with("/whep"));
    let mut response = next.run(request).await;
    if asked {
        response.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static("application/sdp"));
    }
    response
}

/// Refuses pages of origins that are not on the list: CORS alone would hide the answer and do what was asked.
pub(super) async fn origin(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match request.headers().get(header::ORIGIN) {
        Some(origin) if !door.origins.allow(origin.as_bytes()) => {
            Refusal::new(Code::OriginNotAllowed, "this page's origin is not in the door's allowed_origins")
                .into_response()
        }
        _ => next.run(request).await,
    }
}

/// Holds each network to its pace.
pub(super) async fn pace(State(door): State<Arc<Door>>, caller: Caller, request: Request, next: Next) -> Response {
    match door.limits.requests.take(caller.address) {
        Ok(()) => next.run(request).await,
        Err(wait) => Refusal::rate_limited(wait).into_response(),
    }
}

/// Ends what takes too long, such as a body that comes byte by byte.
pub(super) async fn deadline(request: Request, next: Next) -> Response {
    timeout(DEADLINE, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the request was not done within {} s; try again", DEADLINE.as_secs());
        Refusal::new(Code::Unavailable, detail).into_response()
    })
}

/// A panic in a handler ends its request and nothing else.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the panic over")]
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown");
    let report = report_id();
    tracing::error!(report, message, "a request handler panicked");
    Refusal::new(Code::Internal, format!("a fault in the door, number {report}; please report it"))
        .with_status(StatusCode::INTERNAL_SERVER_ERROR)
        .into_response()
}

#[expect(clippy::disallowed_methods, reason = "IO: a number that finds the log line again")]
fn report_id() -> String {
    format!("{:08x}", rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_problem_that_does_not_say_what_happened() {
        let response = panicked(Box::new("index out of bounds: secret"));
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
