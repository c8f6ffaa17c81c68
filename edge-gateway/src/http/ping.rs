//! `GET /v1/ping`: the smallest possible answer, for probing.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderName, StatusCode, header},
};

use super::{
    openapi::refusals,
    request::{AsIfQuery, Query},
};
use crate::{door::Door, problem::Refusal};

/// Answers at once with nothing. Needs no preflight. A development door answers `as-if` late by the round trip from
/// there.
#[utoipa::path(
    get, path = "/v1/ping", tag = "discovery", params(AsIfQuery),
    responses((status = 204, description = "Reached"), Refusals)
)]
pub(super) async fn ping(
    State(door): State<Arc<Door>>,
    Query(query): Query<AsIfQuery>,
) -> Result<(StatusCode, [(HeaderName, &'static str); 1]), Refusal> {
    if let Some(place) = query.place(&door)? {
        let rtt_ms = place.rtt_ms.get(&door.config.pop).copied().unwrap_or_default();
        tokio::time::sleep(Duration::from_secs_f64(rtt_ms / 1000.0)).await;
    }
    Ok((StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, "no-store")]))
}
refusals!(Refusals: InvalidRequest);
