//! Errors a client can see: RFC 9457 problem documents with a stable `code`.

use serde::{Deserialize, Serialize};

/// Stable codes. A client may branch on them; their meaning does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request or message is not well formed, or a field is out of range.
    InvalidRequest,
    /// No token, or one that is not valid: wrong signature, algorithm, issuer, audience, type.
    Unauthorized,
    /// The token was valid once and has expired.
    TokenExpired,
    /// The token is valid but not for this room or this action.
    Forbidden,
    /// The page that asked is of an origin that is not allowed here.
    OriginNotAllowed,
    /// Nothing of that name.
    NotFound,
    /// The method is not offered there.
    MethodNotAllowed,
    /// The body has a media type this place does not take.
    UnsupportedMediaType,
    /// The body, message, session description or candidate is larger than allowed.
    TooLarge,
    /// Too many requests or messages in a short time.
    RateLimited,
    /// The session description cannot be understood or offers nothing usable.
    InvalidSdp,
    /// The room has as many participants as it may have.
    RoomFull,
    /// The session to resume is gone; join anew.
    SessionGone,
    /// The request does not fit the state of the session.
    Conflict,
    /// The client speaks a version of the protocol that this door does not.
    UnsupportedVersion,
    /// The PoP is draining: join through another.
    Draining,
    /// No media node can take the call now, or the store cannot be reached.
    Unavailable,
    /// This PoP does not own the record to be written; another does ([`Problem::at`]).
    NotHome,
    /// There is an account of this e-mail address.
    EmailTaken,
    /// No account opens by this e-mail address and password.
    WrongCredentials,
    /// The password is too short, too long or among the first that everyone guesses.
    WeakPassword,
    /// The link is none of ours or was followed before.
    LinkInvalid,
    /// The link was good once.
    LinkExpired,
    /// The device is signed out: sign in again.
    SessionOver,
    /// A fault of ours. The detail carries an id to report.
    Internal,
}

impl Code {
    /// The HTTP status that goes with the code.
    pub const fn status(self) -> u16 {
        match self {
            Code::InvalidRequest
            | Code::InvalidSdp
            | Code::UnsupportedVersion
            | Code::WeakPassword
            | Code::LinkInvalid => 400,
            Code::Unauthorized | Code::TokenExpired | Code::WrongCredentials | Code::SessionOver => 401,
            Code::Forbidden | Code::OriginNotAllowed => 403,
            Code::NotFound | Code::SessionGone => 404,
            Code::MethodNotAllowed => 405,
            Code::Conflict | Code::NotHome | Code::EmailTaken => 409,
            Code::LinkExpired => 410,
            Code::TooLarge => 413,
            Code::UnsupportedMediaType => 415,
            Code::RateLimited => 429,
            Code::Internal => 500,
            Code::RoomFull | Code::Draining | Code::Unavailable => 503,
        }
    }

    /// One short sentence that is the same for every occurrence (RFC 9457 section 3.1.3).
    pub const fn title(self) -> &'static str {
        match self {
            Code::InvalidRequest => "The request is not valid",
            Code::Unauthorized => "A valid token is needed",
            Code::TokenExpired => "The token has expired",
            Code::Forbidden => "The token does not allow this",
            Code::OriginNotAllowed => "This origin is not allowed",
            Code::NotFound => "Not found",
            Code::MethodNotAllowed => "This method is not offered here",
            Code::UnsupportedMediaType => "This media type is not taken here",
            Code::TooLarge => "Too large",
            Code::RateLimited => "Too many requests",
            Code::InvalidSdp => "The session description is not valid",
            Code::RoomFull => "The room is full",
            Code::SessionGone => "The session is gone",
            Code::Conflict => "The request does not fit the session's state",
            Code::UnsupportedVersion => "This protocol version is not supported",
            Code::Draining => "This point of presence is draining",
            Code::Unavailable => "No media node can take this now",
            Code::NotHome => "Another point of presence owns this record",
            Code::EmailTaken => "There is an account of this e-mail address",
            Code::WrongCredentials => "No account opens by this e-mail address and password",
            Code::WeakPassword => "This is no good password",
            Code::LinkInvalid => "The link is not valid, or was used before",
            Code::LinkExpired => "The link has expired",
            Code::SessionOver => "This device is signed out",
            Code::Internal => "Something went wrong here",
        }
    }
}

/// An RFC 9457 problem document, media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Problem {
    /// `about:blank#` and the code: a URI that identifies the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same sentence for every problem of this kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, to what, and what to do.
    pub detail: String,
    /// The stable code.
    pub code: Code,
    /// Of `not_home`: the origin of the door to ask instead, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Problem {
    /// A problem of kind `code`; `detail` says what happened this time and what to do about it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let name = serde_json::to_value(code).ok();
        let name = name.as_ref().and_then(|v| v.as_str()).unwrap_or("internal").to_owned();
        Self {
            kind: format!("about:blank#{name}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            at: None,
        }
    }
}
