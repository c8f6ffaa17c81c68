//! The operators' HTTP: metrics, health, draining, rooms. On a listener of its own, never public: it has no
//! authentication. What web pages send is refused: one that is open on a machine which reaches this listener must not
//! drain a PoP.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderName, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use isthmus_protocol::{
    NodeId,
    node::{Answer, NodeStatus, Query, RoomView},
    pops::PopEntry,
    problem::Code,
};
use prometheus::TextEncoder;

use crate::{door::Door, exposition, nodes::NoPlace, problem::Refusal};

/// The operators' router.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/drain", post(drain))
        .route("/debug/rooms", get(rooms))
        .route("/debug/pops", get(pops))
        .layer(from_fn(no_web_pages))
        .with_state(door)
}

/// Refuses requests that a web page caused and that do something or could be read by it. A browser says so by `Origin`,
/// on every POST at least, and by `Sec-Fetch-Site` (Fetch standard; Fetch Metadata); tools send neither. A link that a
/// person follows to what only reads goes through.
async fn no_web_pages(request: Request, next: Next) -> Response {
    let (method, headers) = (request.method(), request.headers());
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if !headers.contains_key(header::ORIGIN) && (reads || !headers.contains_key("sec-fetch-site")) {
        return next.run(request).await;
    }
    Refusal::new(Code::OriginNotAllowed, "operators' requests come from tools and not from web pages").into_response()
}

/// The door's metrics and those of every media node of the PoP that answers, as one exposition.
async fn metrics(State(door): State<Arc<Door>>) -> ([(HeaderName, &'static str); 1], String) {
    let own = TextEncoder::new().encode_to_string(&door.registry.gather()).unwrap_or_else(|error| {
        tracing::error!(%error, "the door's own metrics cannot be written");
        String::new()
    });
    let answers = door.nodes.ask_all(&Query::Metrics).await;
    let of_nodes = answers.iter().filter_map(|(_, answer)| match answer {
        Ok(Answer::Metrics { text }) => Some(text.as_str()),
        _ => None,
    });
    let text = exposition::merge(std::iter::once(own.as_str()).chain(of_nodes));
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
}

/// Whether a new session would be placed: the door takes it and a media node is there for it. A PoP that is full is
/// ready: its load says so to those who choose, and taking its doors out would end nothing but their resumes.
async fn ready(State(door): State<Arc<Door>>) -> impl IntoResponse {
    match door.takes_sessions() {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(NoPlace::Draining) => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Err(NoPlace::Down) => (StatusCode::SERVICE_UNAVAILABLE, "no media node can be reached\n"),
    }
}

/// What each node answered, or why it did not.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum PerNode<T> {
    Answer(T),
    Failed { error: String },
}

/// Drains the PoP, not this door alone: it takes no new sessions from now on, and neither do the PoP's media nodes,
/// which ask their clients to move. Nodes drain until they are restarted; a door of the PoP that starts in between is
/// not ready. A door alone is taken out by ending it: media flows on, and its clients resume at another.
async fn drain(State(door): State<Arc<Door>>) -> Json<BTreeMap<NodeId, PerNode<NodeStatus>>> {
    door.drain();
    tracing::info!("draining: new sessions are refused from now on");
    let deadline_s = door.config.drain_deadline_s;
    Json(
        ask(&door, &Query::Drain { deadline_s }, |answer| match answer {
            Answer::Status(status) => Some(status),
            _ => None,
        })
        .await,
    )
}

async fn rooms(State(door): State<Arc<Door>>) -> Json<BTreeMap<NodeId, PerNode<Vec<RoomView>>>> {
    Json(
        ask(&door, &Query::Rooms, |answer| match answer {
            Answer::Rooms { rooms } => Some(rooms),
            _ => None,
        })
        .await,
    )
}

/// The PoPs as this door knows them, in the order that a caller gets of whom nothing is known.
async fn pops(State(door): State<Arc<Door>>) -> Json<Vec<PopEntry>> {
    Json(door.pops.listed(&door.nodes, door.is_draining(), door.now()))
}

async fn ask<T>(door: &Door, query: &Query, read: impl Fn(Answer) -> Option<T>) -> BTreeMap<NodeId, PerNode<T>> {
    let answers = door.nodes.ask_all(query).await.into_iter().map(|(node, answer)| {
        let read = answer.map(&read);
        let told = match read {
            Ok(Some(told)) => PerNode::Answer(told),
            Ok(None) => PerNode::Failed { error: "the node answered another question".to_owned() },
            Err(error) => PerNode::Failed { error: error.to_string() },
        };
        (node.clone(), told)
    });
    answers.collect()
}
