//! `GET /v1/pops`: the PoPs ranked for the caller.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use isthmus_directory::Prefix;
use isthmus_protocol::{PopId, pops::PopList};
use serde::Deserialize;

use super::{
    openapi::refusals,
    request::{AsIfQuery, Query},
};
use crate::{caller::Caller, door::Door, pops::MAX_AGE, problem::Refusal};

/// `?current=`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Current {
    /// The PoP the caller is connected to. It stays first unless another is clearly better.
    #[param(value_type = Option<String>)]
    current: Option<PopId>,
}

/// Every PoP, the best for the caller first: by what clients of its network measured, then by geography, then by load.
#[utoipa::path(
    get, path = "/v1/pops", tag = "discovery", params(Current, AsIfQuery),
    responses((status = 200, description = "The PoPs, the best first", body = PopList), Refusals)
)]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Query(Current { current }): Query<Current>,
    Query(query): Query<AsIfQuery>,
) -> Result<([(HeaderName, &'static str); 1], Json<PopList>), Refusal> {
    let as_if = query.place(&door)?;
    let known = match as_if {
        Some(_) => isthmus_directory::Caller { current, ..Default::default() },
        None => isthmus_directory::Caller {
            place: caller.place.or_else(|| door.places.locate(caller.address)),
            current,
            ..Default::default()
        },
    };
    let prefix = as_if.map_or_else(|| Prefix::of(caller.address), |place| Prefix::of(place.prefix.addr()));
    let pops = door.pops.ranked(&door.nodes, &prefix, known, door.is_draining(), door.now()).await;
    let (max_age_s, as_if) = (MAX_AGE.as_secs() as u32, as_if.map(|place| place.label.clone()));
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(PopList { pops, max_age_s, as_if })))
}
refusals!(Refusals: InvalidRequest);
