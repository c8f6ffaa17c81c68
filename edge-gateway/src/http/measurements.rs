//! `POST /v1/measurements`: what a client measured, for the clients that come after it from the same network.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use isthmus_directory::{Prefix, Reporter};
use isthmus_protocol::{pops::Measurements, problem::Code};

use super::{
    openapi::refusals,
    request::{AsIfQuery, Json, Query},
};
use crate::{caller::Caller, door::Door, problem::Refusal};

/// The longest round trip that is a measurement, in milliseconds.
const MAX_RTT_MS: f64 = 10_000.0;

/// Takes in the round trips a client measured. Best effort: they are written later, or not at all when the store cannot
/// be reached.
#[utoipa::path(
    post, path = "/v1/measurements", tag = "discovery", params(AsIfQuery), request_body = Measurements,
    responses((status = 202, description = "Taken in"), Refusals)
)]
pub(super) async fn report(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Query(query): Query<AsIfQuery>,
    Json(Measurements { measurements }): Json<Measurements>,
) -> Result<StatusCode, Refusal> {
    door.limits.measurements.take(caller.address).map_err(Refusal::rate_limited)?;
    let address = query.place(&door)?.map_or(caller.address, |place| place.prefix.addr());
    if measurements.len() > Measurements::MAX {
        let detail = format!("a report may have {} measurements and not {}", Measurements::MAX, measurements.len());
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    if let Some(bad) = measurements.iter().find(|m| !(m.rtt_ms > 0.0 && m.rtt_ms <= MAX_RTT_MS)) {
        let detail = format!("rtt_ms of {} must be above 0 and at most {MAX_RTT_MS} ms", bad.pop);
        return Err(Refusal::new(Code::InvalidRequest, detail));
    }
    // A PoP that is not known may be new or gone; the rest of the report still counts.
    let known: Vec<_> = measurements.into_iter().filter(|measurement| door.pops.knows(&measurement.pop)).collect();
    if !known.is_empty() {
        door.pops.report(Prefix::of(address), Reporter::of(caller.address), known, door.now());
    }
    Ok(StatusCode::ACCEPTED)
}
refusals!(Refusals: InvalidRequest, UnsupportedMediaType, TooLarge);
