//! `GET /v1/keys`: what tokens are checked with.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, header},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;

use super::openapi::refusals;
use crate::door::Door;

/// A JSON Web Key Set (RFC 7517 section 5).
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

/// An Ed25519 public key (RFC 8037 section 2).
#[derive(Serialize, utoipa::ToSchema)]
struct Key {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    purpose: &'static str,
    kid: String,
    x: String,
}

/// The keys by which room and access tokens of this cluster are checked, for whoever else wants to.
#[utoipa::path(
    get, path = "/v1/keys", tag = "about",
    responses((status = 200, description = "A JSON Web Key Set", body = Keys), Refusals)
)]
pub(super) async fn list(State(door): State<Arc<Door>>) -> ([(HeaderName, &'static str); 1], Json<Keys>) {
    let key = |(kid, raw): (&str, &[u8; 32])| Key {
        kty: "OKP",
        crv: "Ed25519",
        alg: "EdDSA",
        purpose: "sig",
        kid: kid.to_owned(),
        x: BASE64_URL_SAFE_NO_PAD.encode(raw),
    };
    let keys = Keys { keys: door.tokens.public_keys().map(key).collect() };
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(keys))
}
refusals!(Refusals: RateLimited);
