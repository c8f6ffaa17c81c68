//! `/v1/accounts`: opening an account, and what its mails lead to.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isthmus_protocol::accounts::{MailRequest, PasswordReset, Registration, SignedIn, Verification};

use super::{
    openapi::refusals,
    request,
    sessions::{self, Answer, NoStore, no_store},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// Opens an account and signs the device in, as `POST /v1/sessions` does. A mail goes out with a link that shows that the address is
/// theirs. Refused with `not_home` where another PoP writes accounts: `at` says which door to ask.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts", request_body = Registration,
    responses((status = 201, description = "The account, and this device signed in", body = SignedIn), Refusals)
)]
pub(super) async fn register(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request::Json(registration): request::Json<Registration>,
) -> Result<Answer, Refusal> {
    door.limits.accounts.take(caller.address).map_err(Refusal::rate_limited)?;
    let session = door.accounts()?.register(registration, door.draw(), door.now()).await;
    sessions::signed_in(&door, &session.map_err(|refusal| door.directed(refusal))?, StatusCode::CREATED)
}

/// Sends another mail with a link, if there is such an account and the link has something to do. Which of it is so is not told.
#[utoipa::path(
    post, path = "/v1/accounts/mails", tag = "accounts", request_body = MailRequest,
    responses((status = 202, description = "A mail is sent if there is such an account"), Refusals)
)]
pub(super) async fn mail(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request::Json(asked): request::Json<MailRequest>,
) -> Result<(StatusCode, NoStore), Refusal> {
    door.limits.accounts.take(caller.address).map_err(Refusal::rate_limited)?;
    door.accounts()?.ask_for_mail(&asked.email, asked.purpose, door.now()).await?;
    Ok((StatusCode::ACCEPTED, no_store()))
}

/// Follows a link that shows whose an address is.
#[utoipa::path(
    post, path = "/v1/accounts/verification", tag = "accounts", request_body = Verification,
    responses((status = 204, description = "The address is known to be theirs"), Refusals)
)]
pub(super) async fn verify(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request::Json(followed): request::Json<Verification>,
) -> Result<(StatusCode, NoStore), Refusal> {
    door.limits.accounts.take(caller.address).map_err(Refusal::rate_limited)?;
    let verified = door.accounts()?.verify(followed, door.now()).await;
    verified.map(|()| (StatusCode::NO_CONTENT, no_store())).map_err(|refusal| door.directed(refusal))
}

/// Follows a link to choose another password. Every device is signed out, this one too.
#[utoipa::path(
    post, path = "/v1/accounts/password", tag = "accounts", request_body = PasswordReset,
    responses((status = 204, description = "The password is another from now on"), Refusals)
)]
pub(super) async fn reset(
    State(door): State<Arc<Door>>,
    caller: Caller,
    request::Json(followed): request::Json<PasswordReset>,
) -> Result<(StatusCode, NoStore), Refusal> {
    door.limits.accounts.take(caller.address).map_err(Refusal::rate_limited)?;
    let reset = door.accounts()?.reset(followed, door.draw(), door.now()).await;
    reset.map(|()| (StatusCode::NO_CONTENT, no_store())).map_err(|refusal| door.directed(refusal))
}
refusals!(
    Refusals: InvalidRequest, UnsupportedMediaType, TooLarge, NotFound, Conflict, NotHome, EmailTaken, WeakPassword, LinkInvalid,
    LinkExpired
);
