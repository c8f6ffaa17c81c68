//! Extractors that refuse with problem documents, and the bearer's token.

use std::sync::Arc;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use isthmus_protocol::{DeviceId, PersonId, problem::Code};
use serde::Deserialize;

use crate::{config::AsIf, door::Door, problem::Refusal};

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Refusal))]
pub(super) struct Json<T>(pub(super) T);

/// A text body.
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        Ok(Self(String::from_request(request, state).await?))
    }
}

/// What the path names.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(super) struct Path<T>(pub(super) T);

/// What the query says.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(super) struct Query<T>(pub(super) T);

/// `?as-if=`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AsIfQuery {
    /// Development doors only: the place to pretend to be in, such as `bogota`.
    #[serde(rename = "as-if")]
    as_if: Option<String>,
}

impl AsIfQuery {
    /// The place, if one is named; a door that does not have it refuses.
    pub(super) fn place<'a>(&self, door: &'a Door) -> Result<Option<&'a AsIf>, Refusal> {
        let Some(name) = &self.as_if else { return Ok(None) };
        door.as_if(name)
            .map(Some)
            .ok_or_else(|| Refusal::new(Code::InvalidRequest, "this door emulates no such place; leave `as-if` out"))
    }
}

/// Whose device asks, by its access token.
pub(super) struct Signed {
    pub(super) person: PersonId,
    pub(super) device: DeviceId,
}

impl FromRequestParts<Arc<Door>> for Signed {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Refusal> {
        let claims = door.tokens.check_access(bearer(&parts.headers)?, door.now_s())?;
        Ok(Self { person: claims.sub, device: claims.device })
    }
}

/// The token in `Authorization: Bearer` (RFC 6750 section 2.1).
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let missing = || Refusal::new(Code::Unauthorized, "send a token as `Authorization: Bearer TOKEN`");
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(missing)?;
    let (scheme, token) = value.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

/// Refuses a body of another media type; parameters such as a charset do not matter.
pub(super) fn expect_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), Refusal> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(Refusal::new(Code::UnsupportedMediaType, format!("the body must be {wanted}")))
    }
}

/// An `If-Match` that was sent (RFC 9110 section 13.1.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IfMatch<'a> {
    /// `*`: whatever the state is.
    Any,
    /// One of these entity tags, as sent.
    Tags(&'a str),
}

impl<'a> IfMatch<'a> {
    /// Reads the header; RFC 9725 section 4.3.1 wants it in every PATCH.
    pub(super) fn required(headers: &'a HeaderMap) -> Result<Self, Refusal> {
        match headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()).map(str::trim) {
            // Some clients take the quotes of RFC 9725's text for part of the value.
            Some("*" | "\"*\"") => Ok(Self::Any),
            Some(tags) => Ok(Self::Tags(tags)),
            None => Err(Refusal::new(Code::InvalidRequest, "say the session's ETag, or * to restart ICE, in If-Match")
                .with_status(StatusCode::PRECONDITION_REQUIRED)),
        }
    }

    /// Whether the state with this entity tag is meant. Strong comparison: a weak tag matches nothing.
    pub(super) fn matches(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.split(',').any(|sent| sent.trim() == tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &'static str) -> HeaderMap {
        [(name, header::HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn a_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for (value, wanted) in
            [("Bearer abc", Some("abc")), ("bearer  abc", Some("abc")), ("Basic abc", None), ("abc", None)]
        {
            assert_eq!(bearer(&headers(header::AUTHORIZATION, value)).ok(), wanted, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()).map_err(|refusal| refusal.code()), Err(Code::Unauthorized));
    }

    #[test]
    fn a_media_type_is_compared_without_its_parameters() {
        let sent = |value| expect_media_type(&headers(header::CONTENT_TYPE, value), "application/sdp").is_ok();
        assert!(sent("application/sdp") && sent("Application/SDP; charset=utf-8"));
        assert!(!sent("application/json") && !sent(""));
    }

    #[test]
    fn if_match_compares_strongly() {
        let matches = |value| {
            let headers = headers(header::IF_MATCH, value);
            IfMatch::required(&headers).is_ok_and(|sent| sent.matches("\"EsAw\""))
        };
        assert!(matches("*") && matches("\"EsAw\"") && matches("\"old1\", \"EsAw\""));
        assert!(!matches("W/\"EsAw\"") && !matches("\"old1\"") && !matches("EsAw"));
        assert!(IfMatch::required(&HeaderMap::new()).is_err());
    }
}
