//! `/v1/me`: one's own account.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use isthmus_protocol::{accounts::Me, person::Profile};

use super::{
    openapi::refusals,
    request::{self, Signed},
    sessions::{NoStore, no_store},
};
use crate::{door::Door, problem::Refusal};

/// What somebody may see of their own account.
#[utoipa::path(
    get, path = "/v1/me", tag = "accounts",
    params(("Authorization" = String, Header, description = "`Bearer` and an access token")),
    responses((status = 200, description = "Who asks", body = Me), Refusals)
)]
pub(super) async fn show(State(door): State<Arc<Door>>, signed: Signed) -> Result<(NoStore, Json<Me>), Refusal> {
    let profile = door.accounts()?.profile(&signed.person).await?;
    Ok((no_store(), Json(Me { person: signed.person, profile, device: signed.device })))
}

/// Says what others see of them. What was said last stands, in every PoP.
#[utoipa::path(
    put, path = "/v1/me/profile", tag = "accounts", request_body = Profile,
    params(("Authorization" = String, Header, description = "`Bearer` and an access token")),
    responses((status = 204, description = "Others see it"), Refusals)
)]
pub(super) async fn describe(
    State(door): State<Arc<Door>>,
    signed: Signed,
    request::Json(profile): request::Json<Profile>,
) -> Result<(StatusCode, NoStore), Refusal> {
    door.accounts()?.describe(&signed.person, &profile, door.now()).await?;
    Ok((StatusCode::NO_CONTENT, no_store()))
}
refusals!(Refusals: InvalidRequest, Unauthorized, TokenExpired, UnsupportedMediaType, TooLarge, NotFound);
