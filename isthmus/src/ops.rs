//! The ops listener of a process that has no other HTTP of its own: metrics and health, never public.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use prometheus::{Registry, TextEncoder};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

/// Content type of the Prometheus text format 0.0.4.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Ops {
    registry: Registry,
    ready: watch::Receiver<bool>,
}

/// Serves `/metrics`, `/healthz` and `/readyz` until `shutdown`. `/readyz` answers 503 while `ready` holds false.
pub(crate) async fn serve(
    listener: TcpListener,
    registry: Registry,
    ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness))
        .with_state(Ops { registry, ready });
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&ops.registry.gather()) {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, EXPOSITION)], text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written as text");
            (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], "metrics failed\n".into())
        }
    }
}

async fn readiness(State(ops): State<Ops>) -> impl IntoResponse {
    if *ops.ready.borrow() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "starting\n") }
}
