//! `/v1/sessions` and `/v1/devices`: signing in, staying signed in, and where somebody is.
//!
//! The refresh token is in a cookie that no script reads and that goes to these paths alone; a page of another site cannot have it
//! sent (`SameSite=Strict`), and what a page of a foreign origin asks is refused before it gets here.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
};
use isthmus_accounts::{Session, refresh};
use isthmus_protocol::{
    DeviceId,
    accounts::{Device, Devices, Renewal, SignIn, SignedIn},
    problem::Code,
};

use super::{
    openapi::refusals,
    request::{self, Path, Signed},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// How long an access token is good, in seconds: who is signed out is out by then everywhere.
const ACCESS_TTL_S: u32 = 600;
/// What the refresh token's cookie is called.
const COOKIE: &str = "isthmus_refresh";
/// Where it is sent.
const COOKIE_PATH: &str = "/v1/sessions";

/// What who is signed in is told: the refresh token's cookie, and the rest.
pub(super) type Answer = (StatusCode, [(HeaderName, HeaderValue); 2], Json<SignedIn>);

/// A header of answers that nobody keeps.
pub(super) type NoStore = [(HeaderName, HeaderValue); 1];

/// See [`NoStore`].
pub(super) fn no_store() -> NoStore {
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))]
}

/// Signs the device in by address and password. The access token is good at every PoP; the refresh token comes in a cookie. Refused
/// with `not_home` where another PoP writes sessions: `at` says which door to ask.
#[utoipa::path(
    post, path = "/v1/sessions", tag = "accounts", request_body = SignIn,
    responses((status = 201, description = "The device is signed in", body = SignedIn), Refusals)
)]
pub(super) async fn sign_in(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request::Json(asked): request::Json<SignIn>,
) -> Result<Answer, Refusal> {
    door.limits.accounts.take(caller.address).map_err(Refusal::rate_limited)?;
    let session = door.accounts()?.sign_in(asked, caller.address, door.draw(), door.now()).await;
    signed_in(&door, &session.map_err(|refusal| door.directed(refusal))?, StatusCode::CREATED)
}

/// Exchanges the refresh token in the cookie for the next one and another access token. A token that is exchanged a second time, in
/// another attempt, was stolen from one of the two: the session is over for both.
#[utoipa::path(
    post, path = "/v1/sessions/renew", tag = "accounts", request_body = Renewal,
    responses((status = 200, description = "The device goes on being signed in", body = SignedIn), Refusals)
)]
pub(super) async fn renew(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    request::Json(asked): request::Json<Renewal>,
) -> Result<Answer, Refusal> {
    let none = || Refusal::new(Code::SessionOver, "no refresh token came with the request: sign in");
    let token = cookie(&headers).ok_or_else(none)?;
    let session = door.accounts()?.renew(token, &asked.attempt, door.now()).await;
    signed_in(&door, &session.map_err(|refusal| door.directed(refusal))?, StatusCode::OK)
}

/// Where they are signed in.
#[utoipa::path(
    get, path = "/v1/devices", tag = "accounts",
    params(("Authorization" = String, Header, description = "`Bearer` and an access token")),
    responses((status = 200, description = "The devices, the one used last first", body = Devices), Refusals)
)]
pub(super) async fn devices(
    State(door): State<Arc<Door>>,
    signed: Signed,
) -> Result<(NoStore, Json<Devices>), Refusal> {
    let sessions = door.accounts()?.devices(&signed.person, door.now()).await?;
    let devices = sessions.into_iter().map(|session| Device {
        is_this: session.device == signed.device,
        id: session.device,
        name: session.name,
        signed_in_at_s: session.begun_at_s,
        renewed_at_s: session.renewed_at_s,
    });
    Ok((no_store(), Json(Devices { devices: devices.collect() })))
}

/// Signs one of their devices out: at once where it renews, everywhere when its access token expires.
#[utoipa::path(
    delete, path = "/v1/devices/{device}", tag = "accounts",
    params(
        ("device" = String, Path, description = "The device"),
        ("Authorization" = String, Header, description = "`Bearer` and an access token")
    ),
    responses((status = 204, description = "It is signed out, or was"), Refusals)
)]
pub(super) async fn sign_out(
    State(door): State<Arc<Door>>,
    signed: Signed,
    Path(device): Path<DeviceId>,
) -> Result<(StatusCode, HeaderMap), Refusal> {
    let ended = door.accounts()?.sign_out(&signed.person, &device, door.now()).await;
    ended.map_err(|refusal| door.directed(refusal))?;
    let mut headers = HeaderMap::from_iter(no_store());
    if device == signed.device {
        headers.insert(header::SET_COOKIE, set_cookie(&door, "", 0)?);
    }
    Ok((StatusCode::NO_CONTENT, headers))
}
refusals!(
    Refusals: InvalidRequest, Unauthorized, TokenExpired, UnsupportedMediaType, TooLarge, NotFound, Conflict, NotHome,
    WrongCredentials, SessionOver
);

/// The answer to who has just been signed in, or goes on being.
pub(super) fn signed_in(door: &Door, session: &Session, status: StatusCode) -> Result<Answer, Refusal> {
    let (person, device) = (session.person.clone(), session.device.clone());
    let access_token = door.tokens.issue_access(&person, &device, door.now_s(), ACCESS_TTL_S)?;
    let [kept] = no_store();
    let headers = [kept, (header::SET_COOKIE, set_cookie(door, &session.token(), refresh::LIFETIME_S)?)];
    Ok((status, headers, Json(SignedIn { person, device, access_token, expires_in_s: ACCESS_TTL_S })))
}

/// The cookie (RFC 6265 section 4.1); one of no age is forgotten.
fn set_cookie(door: &Door, token: &str, max_age_s: u64) -> Result<HeaderValue, Refusal> {
    let secure = if door.config.public_url.starts_with("https:") { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path={COOKIE_PATH}; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}");
    let mut value =
        HeaderValue::from_str(&text).map_err(|_| Refusal::new(Code::Internal, "a cookie could not be made"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The refresh token that a browser sent (RFC 6265 section 4.2).
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = pairs.flat_map(|pairs| pairs.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}
