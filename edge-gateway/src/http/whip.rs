//! WHIP (RFC 9725): media from an encoder into a room.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use isthmus_protocol::RoomId;

use super::{
    media_session::{self, Kind, SessionPath},
    openapi::refusals,
    request::{Path, Text},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// Publishes into the room what the offer sends. The token must allow to publish.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/whip", tag = "whip",
    params(("room" = String, Path, description = "The room")),
    request_body(content = String, content_type = "application/sdp", description = "The offer"),
    responses(
        (status = 201, description = "The answer", body = String, content_type = "application/sdp", headers(
            ("Location" = String, description = "The session, for PATCH and DELETE"),
            ("ETag" = String, description = "The ICE session")
        )),
        Refusals
    )
)]
pub(super) async fn publish(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(room): Path<RoomId>,
    headers: HeaderMap,
    Text(offer): Text,
) -> Result<Response, Refusal> {
    media_session::begin(&door, Kind::Publish, caller, &room, &headers, offer).await
}

/// Adds ICE candidates (`If-Match` with the session's ETag), or restarts ICE (`If-Match: *` and new credentials).
#[utoipa::path(
    patch, path = "/v1/rooms/{room}/whip/{node}/{participant}", tag = "whip",
    params(
        ("room" = String, Path, description = "The room"),
        ("node" = String, Path, description = "From Location"),
        ("participant" = String, Path, description = "From Location"),
        ("If-Match" = String, Header, description = "The session's ETag, or `*` to restart ICE")
    ),
    request_body(content = String, content_type = "application/trickle-ice-sdpfrag", description = "The ICE part"),
    responses(
        (status = 204, description = "Candidates taken in"),
        (status = 200, description = "ICE restarted: the server's side", body = String,
            content_type = "application/trickle-ice-sdpfrag",
            headers(("ETag" = String, description = "The new ICE session"))),
        (status = 412, description = "`conflict`: `If-Match` names an ICE session of before."),
        (status = 422, description = "`conflict`: this door cannot restart the session's ICE; begin anew."),
        (status = 428, description = "`invalid_request`: `If-Match` is missing."),
        Refusals
    )
)]
pub(super) async fn trickle(
    State(door): State<Arc<Door>>,
    Path(path): Path<SessionPath>,
    headers: HeaderMap,
    Text(fragment): Text,
) -> Result<Response, Refusal> {
    media_session::patch(&door, &path, &headers, &fragment).await
}

/// Leaves the room.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/whip/{node}/{participant}", tag = "whip",
    params(
        ("room" = String, Path, description = "The room"),
        ("node" = String, Path, description = "From Location"),
        ("participant" = String, Path, description = "From Location")
    ),
    responses((status = 200, description = "Left"), Refusals)
)]
pub(super) async fn end(
    State(door): State<Arc<Door>>,
    Path(path): Path<SessionPath>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    media_session::end(&door, &path, &headers).await
}
refusals!(
    Refusals: InvalidRequest, InvalidSdp, Unauthorized, TokenExpired, Forbidden, SessionGone, Conflict, TooLarge,
    UnsupportedMediaType, RoomFull, Draining,
);
