//! The operators' HTTP: metrics, health, draining, rooms. On a listener of its own, never public: it has no
//! authentication.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use isthmus_protocol::{
    NodeId,
    node::{Answer, NodeStatus, Query, RoomView},
    pops::PopEntry,
};
use prometheus::TextEncoder;

use crate::{door::Door, exposition};

/// The operators' router.
pub(crate) fn router(door: Arc<Door>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/drain", post(drain))
        .route("/debug/rooms", get(rooms))
        .route("/debug/pops", get(pops))
        .with_state(door)
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

/// Whether a new session would find its place here.
async fn ready(State(door): State<Arc<Door>>) -> impl IntoResponse {
    if door.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !door.nodes.any_up() {
        (StatusCode::SERVICE_UNAVAILABLE, "no media node can be reached\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// What each node answered, or why it did not.
#[derive(serde::Serialize)]
#[serde(untagged)]
enum PerNode<T> {
    Answer(T),
    Failed { error: String },
}

/// Takes no new sessions from now on, and has the media nodes ask their clients to move.
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
