//! `POST /v1/rooms/{room}/guests`: a room token for someone who has the link, and a new one for someone whose is about to
//! expire.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use isthmus_protocol::{
    RoomId,
    guest::{GuestRequest, GuestToken},
    problem::Code,
    signal::MAX_NAME_CHARS,
    token::Grants,
};

use super::{
    openapi::refusals,
    request::{self, Path, bearer},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// Gives a token for the room to whoever knows its name, where this PoP lets guests in. With a token of the room that is
/// still valid as `Authorization: Bearer` it gives the same person, name and grants another one (the `name` that is sent
/// does not count then), so that a call may outlast a token: resuming after a lost socket and joining anew need a valid
/// one. Renew when half of `expires_in_s` has passed.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/guests", tag = "rooms", request_body = GuestRequest,
    params(
        ("room" = String, Path, description = "The room, as it stands in the link"),
        ("Authorization" = Option<String>, Header, description = "`Bearer` and the token to renew")
    ),
    responses((status = 201, description = "A token bound to the room", body = GuestToken), Refusals)
)]
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(room): Path<RoomId>,
    headers: HeaderMap,
    request::Json(guest): request::Json<GuestRequest>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1], Json<GuestToken>), Refusal> {
    // Where no guests are let in, who issued a token issues the next one too: what that one knows of its bearer may
    // have changed, and the door does not know it.
    let closed = || Refusal::new(Code::Forbidden, "this PoP lets no guests in; ask for an invitation");
    if !door.config.guests.allowed {
        return Err(closed());
    }
    door.limits.guests.take(caller.address).map_err(Refusal::rate_limited)?;
    let now_s = door.now_s();
    let Bearer { identity, name, grants } = if headers.contains_key(header::AUTHORIZATION) {
        let claims = door.tokens.check(bearer(&headers)?, &room, now_s)?;
        Bearer { identity: claims.sub, name: claims.name, grants: claims.grants }
    } else {
        newcomer(&door, &guest.name)?
    };
    let expires_in_s = door.config.guests.token_ttl_s;
    let token = door.tokens.issue(&room, &identity, &name, grants, now_s, expires_in_s).ok_or_else(closed)??;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(GuestToken { room, token, expires_in_s })))
}
refusals!(Refusals: InvalidRequest, Unauthorized, TokenExpired, Forbidden, UnsupportedMediaType, TooLarge);

/// Whom a token is for.
struct Bearer {
    identity: String,
    name: String,
    grants: Grants,
}

/// Someone who has not been here before.
fn newcomer(door: &Door, name: &str) -> Result<Bearer, Refusal> {
    let name = name.trim();
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        let detail = format!("a name has 1 to {MAX_NAME_CHARS} characters and no control characters");
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    // As unguessable and as unique as a participant's id, and of the same randomness.
    let identity = format!("guest-{}", door.new_participant());
    Ok(Bearer { identity, name: name.to_owned(), grants: Grants { publish: true, subscribe: true } })
}
