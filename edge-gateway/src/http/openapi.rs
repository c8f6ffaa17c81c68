//! `GET /v1/openapi.json`: the API as OpenAPI 3.1, from the handlers themselves.

use std::{collections::BTreeMap, sync::LazyLock};

use axum::Json;
use isthmus_protocol::problem::{Code, Problem};
use utoipa::{
    OpenApi,
    openapi::{Content, Ref, RefOr, Response, ResponseBuilder},
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Isthmus",
        description = "The public API of a point of presence. Errors are RFC 9457 problem documents with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, Code))
)]
struct Base;

/// What stands in the document besides the routes.
pub(super) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// This document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "about",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json"), Refusals)
)]
pub(super) async fn document() -> Json<&'static utoipa::openapi::OpenApi> {
    static DOCUMENT: LazyLock<utoipa::openapi::OpenApi> = LazyLock::new(|| super::api().into_openapi());
    Json(&DOCUMENT)
}
refusals!(Refusals: RateLimited);

/// The responses of a handler that may refuse with these codes: one per status, naming its codes.
pub(super) fn responses(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    // What any request can meet: a foreign origin, a fault, a deadline.
    for code in codes.iter().chain(&[Code::OriginNotAllowed, Code::RateLimited, Code::Internal, Code::Unavailable]) {
        let name = serde_json::to_value(code).ok().and_then(|name| name.as_str().map(str::to_owned));
        let text = format!("`{}`: {}.", name.unwrap_or_default(), code.title());
        let texts = by_status.entry(code.status()).or_default();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let response = |texts: Vec<String>| {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        RefOr::T(
            ResponseBuilder::new().description(texts.join(" ")).content("application/problem+json", content).build(),
        )
    };
    by_status.into_iter().map(|(status, texts)| (status.to_string(), response(texts))).collect()
}

/// Declares a type that documents which codes a handler refuses with, besides those any request can meet.
macro_rules! refusals {
    ($name:ident: $($code:ident),* $(,)?) => {
        /// Documents the refusals of the handlers in this module.
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<
                String,
                utoipa::openapi::RefOr<utoipa::openapi::response::Response>,
            > {
                $crate::http::openapi::responses(&[$(isthmus_protocol::problem::Code::$code),*])
            }
        }
    };
}
pub(super) use refusals;
