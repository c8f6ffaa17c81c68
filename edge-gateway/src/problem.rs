//! Refusals: every error a client sees is an RFC 9457 problem document with a stable code.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection, StringRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use isthmus_protocol::{
    PopId,
    problem::{Code, Problem},
    token::TokenError,
};

/// A request that was refused, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    // Boxed: a result should not be large for the sake of what is rare.
    problem: Box<Problem>,
    retry_after: Option<Duration>,
    /// Who is to be asked instead.
    holder: Option<PopId>,
}

impl Refusal {
    /// Refused with `code`; `detail` says what happened, to what, and what to do.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(code, detail)), retry_after: None, holder: None }
    }

    /// Refused with an HTTP status that a specification asks for and that is not the code's own.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self
    }

    /// Refused because it came too soon.
    pub(crate) fn rate_limited(wait: Duration) -> Self {
        let detail = format!("too many requests from this network; try again in {} s", whole_seconds(wait));
        Self { problem: Box::new(Problem::new(Code::RateLimited, detail)), retry_after: Some(wait), holder: None }
    }

    /// Refused because another PoP, if one is known, is the one to do it.
    pub(crate) fn not_home(holder: Option<PopId>, detail: &str) -> Self {
        Self { problem: Box::new(Problem::new(Code::NotHome, detail)), retry_after: None, holder }
    }

    /// Who is to be asked instead.
    pub(crate) fn holder(&self) -> Option<&PopId> {
        self.holder.as_ref()
    }

    /// The door at `origin` is the one to ask.
    pub(crate) fn directed_to(mut self, origin: Option<String>) -> Self {
        self.problem.at = origin;
        self
    }

    /// The stable code.
    pub(crate) fn code(&self) -> Code {
        self.problem.code
    }

    /// What happened.
    pub(crate) fn detail(&self) -> &str {
        &self.problem.detail
    }
}

/// Rounded up, at least 1: `Retry-After` has no fractions (RFC 9110 section 10.2.3).
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let code = self.problem.code;
        let mut response = (status, Json(self.problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 names the scheme.
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
        response.extensions_mut().insert(RefusedWith(code));
        response
    }
}

/// Travels with a refused response to the metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusedWith(pub(crate) Code);

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Expired => Code::TokenExpired,
            TokenError::Invalid => Code::Unauthorized,
        };
        Self::new(code, error.to_string())
    }
}

/// What axum's extractors refuse keeps their wording, which says what is wrong with the request, under our codes.
macro_rules! refuse_rejections {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Refusal {
            fn from(rejection: $rejection) -> Self {
                let code = match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
                    StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
                    _ => Code::InvalidRequest,
                };
                Self::new(code, rejection.body_text())
            }
        }
    )*};
}
refuse_rejections!(JsonRejection, PathRejection, QueryRejection, StringRejection, BytesRejection);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_problem_document_that_is_not_cached() {
        let response = Refusal::new(Code::Unauthorized, "no token").into_response();
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }

    #[test]
    fn retry_after_is_rounded_up() {
        for (wait_ms, wanted) in [(1, "1"), (1000, "1"), (1001, "2")] {
            let response = Refusal::rate_limited(Duration::from_millis(wait_ms)).into_response();
            assert_eq!(response.headers()["retry-after"], wanted);
        }
    }

    #[test]
    fn a_specification_may_ask_for_another_status() {
        let refusal = Refusal::new(Code::Conflict, "stale").with_status(StatusCode::PRECONDITION_FAILED);
        assert_eq!(refusal.into_response().status(), 412);
    }
}
