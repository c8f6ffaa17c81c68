//! The public HTTP of a door: one module per resource, and what holds for all of them.

mod accounts;
pub(crate) mod app;
mod guests;
mod keys;
mod layers;
mod me;
mod measurements;
pub(crate) mod media_session;
mod openapi;
mod ping;
mod pops;
mod request;
mod sessions;
mod signal;
mod whep;
mod whip;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::{from_fn, from_fn_with_state},
};
use isthmus_protocol::{problem::Code, signal::MAX_SDP_BYTES};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{door::Door, problem::Refusal};

/// Every route under `/v1`, with its description.
fn api() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(pops::list))
        .routes(routes!(ping::ping))
        .routes(routes!(measurements::report))
        .routes(routes!(guests::admit))
        .routes(routes!(whip::publish))
        .routes(routes!(whip::trickle, whip::end))
        .routes(routes!(whep::play))
        .routes(routes!(whep::trickle, whep::end))
        .routes(routes!(signal::open))
        .routes(routes!(accounts::register))
        .routes(routes!(accounts::mail))
        .routes(routes!(accounts::verify))
        .routes(routes!(accounts::reset))
        .routes(routes!(sessions::sign_in))
        .routes(routes!(sessions::renew))
        .routes(routes!(sessions::devices))
        .routes(routes!(sessions::sign_out))
        .routes(routes!(me::show))
        .routes(routes!(me::describe))
        .routes(routes!(keys::list))
        .routes(routes!(openapi::document))
}

/// The public router.
pub(crate) fn router(door: Arc<Door>) -> Router {
    let (v1, _) = api().split_for_parts();
    // Outermost last: a request passes the layers from the bottom to the top.
    let v1 = v1
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_SDP_BYTES))
        .layer(from_fn(layers::deadline))
        .layer(from_fn_with_state(door.clone(), layers::origin));
    Router::new()
        .merge(v1)
        .fallback_service(app::router(door.clone()))
        .layer(from_fn_with_state(door.clone(), layers::pace))
        .layer(CatchPanicLayer::custom(layers::panicked))
        // Outside of what refuses: a page that may not read a refusal takes the PoP for unreachable.
        .layer(layers::cors(door.clone()))
        .layer(from_fn(layers::offers_media))
        .layer(from_fn_with_state(door.clone(), layers::measure))
        .with_state(door)
}

async fn method_not_allowed() -> Refusal {
    Refusal::new(Code::MethodNotAllowed, "this method is not offered here; the Allow header says which are")
}

fn not_found(path: &str) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is nothing at {path}"))
}
