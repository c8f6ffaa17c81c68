//! `GET /v1/signal`: opens a signalling socket. What is said on it is in [`crate::signal`].

use std::sync::Arc;

use axum::{
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::HeaderValue,
    response::Response,
};
use isthmus_protocol::{
    problem::Code,
    signal::{MAX_MESSAGE_BYTES, SUBPROTOCOL, Secret, TOKEN_SUBPROTOCOL_PREFIX},
    token::MAX_TOKEN_BYTES,
};

use super::openapi::refusals;
use crate::{caller::Caller, door::Door, problem::Refusal, signal};

/// Bytes of an idle socket's read buffer. The library's own default is 128 KiB, which thousands of sockets would pay.
const READ_BUFFER_BYTES: usize = 4 * 1024;

/// Opens a WebSocket with the subprotocol `isthmus.v1`. A token may be offered as a second one, `isthmus.token.TOKEN`,
/// or come in the first message. Close codes: 1000 the session ended; 1009 message too large; 1012 the door restarts;
/// 4000 refused, an error message said why; 4001 no hello within 5 s; 4002 messages too fast; 4003 messages taken too
/// slowly; 4004 the media node was lost; 4005 no sign of life. After all but 1000, 4000 and 4001 open another socket and
/// resume.
#[utoipa::path(
    get, path = "/v1/signal", tag = "signalling",
    responses((status = 101, description = "A WebSocket that speaks `isthmus.v1`"), Refusals)
)]
pub(super) async fn open(
    State(door): State<Arc<Door>>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let mut upgrade = upgrade.map_err(|rejection| Refusal::new(Code::InvalidRequest, rejection.body_text()))?;
    door.limits.joins.take(caller.address).map_err(Refusal::rate_limited)?;
    let token = negotiate(&mut upgrade)?;
    let crowded = || {
        let most = door.config.limits.sockets_per_network;
        Refusal::new(Code::RateLimited, format!("this network has {most} sockets open here, as many as it may"))
    };
    let of_network = door.sockets_of.take(caller.address).ok_or_else(crowded)?;
    let full = |_| Refusal::new(Code::Unavailable, "this door has as many sockets as it may; join through another PoP");
    let place = door.sockets.clone().try_acquire_owned().map_err(full)?;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .on_upgrade(move |socket| signal::serve(door, socket, token, (place, of_network))))
}
refusals!(Refusals: InvalidRequest, UnsupportedVersion);

/// Chooses the subprotocol and takes the token from the offered ones. Browsers fail a socket whose offered subprotocols
/// are not answered by one of them; programs may offer none, since the hello says the version too.
fn negotiate<F>(upgrade: &mut WebSocketUpgrade<F>) -> Result<Option<Secret>, Refusal> {
    let offered = upgrade.requested_protocols().filter_map(|protocol| protocol.to_str().ok());
    let (tokens, protocols): (Vec<&str>, Vec<&str>) =
        offered.partition(|protocol| protocol.starts_with(TOKEN_SUBPROTOCOL_PREFIX));
    if !protocols.is_empty() && !protocols.contains(&SUBPROTOCOL) {
        let detail = format!("this door speaks the subprotocol {SUBPROTOCOL}");
        return Err(Refusal::new(Code::UnsupportedVersion, detail));
    }
    let token = tokens.first().and_then(|offered| offered.strip_prefix(TOKEN_SUBPROTOCOL_PREFIX));
    let token = token.filter(|token| token.len() <= MAX_TOKEN_BYTES).map(|token| Secret(token.to_owned()));
    if !protocols.is_empty() {
        upgrade.set_selected_protocol(HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(token)
}
