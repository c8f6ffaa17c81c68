//! `POST /v1/rooms/{room}/guests`: a room token for someone who has the link.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use isthmus_protocol::{
    RoomId,
    guest::{GuestRequest, GuestToken},
    problem::Code,
    signal::MAX_NAME_CHARS,
};

use super::{
    openapi::refusals,
    request::{self, Path},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// Gives a token for the room to whoever knows its name, where this PoP lets guests in.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/guests", tag = "rooms", request_body = GuestRequest,
    params(("room" = String, Path, description = "The room, as it stands in the link")),
    responses((status = 201, description = "A token bound to the room", body = GuestToken), Refusals)
)]
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(room): Path<RoomId>,
    request::Json(guest): request::Json<GuestRequest>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<GuestToken>), Refusal> {
    let closed = || Refusal::new(Code::Forbidden, "this PoP lets no guests in; ask for an invitation");
    if !door.config.guests.allowed {
        return Err(closed());
    }
    door.limits.guests.take(caller.address).map_err(Refusal::rate_limited)?;
    let name = guest.name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let detail = format!("a name has 1 to {MAX_NAME_CHARS} characters and no control characters");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    // As unguessable and as unique as a participant's id, and of the same randomness.
    let identity = format!("guest-{}", door.new_participant());
    let expires_in_s = door.config.guests.token_ttl_s;
    let token =
        door.tokens.issue_for_guest(&room, &identity, name, door.now_s(), expires_in_s).ok_or_else(closed)??;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(GuestToken { room, token, expires_in_s })))
}
refusals!(Refusals: InvalidRequest, Forbidden, UnsupportedMediaType, TooLarge);
