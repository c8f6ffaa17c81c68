//! Serving a door: each stream it opens is a session or a query, handed to the media node.

use std::time::Duration;

use isthmus_protocol::node::{Answer, Opening, Query, Session, VERSION};
use isthmus_protocol::signal::{ClientMessage, ServerMessage};
use quinn::VarInt;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::timeout,
};
use tracing::debug;

use crate::{
    endpoint::until_lost,
    error::RelayError,
    frames::{FrameReceiver, FrameSender},
    identity::PeerIdentity,
    metrics::Metrics,
    reason::CloseReason,
};

/// Streams a door may have open: its sessions on this node and a few queries. Full: the door waits to open another.
pub(crate) const MAX_STREAMS_PER_DOOR: u32 = 8192;
/// How long a door may take to say what a stream is for.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the media node may take to accept a session or a query, and to answer a query.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(3);

/// What doors want of a media node.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "almost all are sessions, each moved through the queue once")]
pub enum FromDoor {
    /// A client's session. It ends when either half is finished or dropped.
    Session {
        /// The door that vouches for it.
        door: PeerIdentity,
        /// Who wants in.
        session: Session,
        /// To the client.
        sender: FrameSender<ServerMessage>,
        /// From the client.
        receiver: FrameReceiver<ClientMessage>,
    },
    /// A question. Dropping `reply` refuses it.
    Query {
        /// The question.
        query: Query,
        /// Where the answer goes, within 3 s.
        reply: oneshot::Sender<Answer>,
    },
}

/// One bidirectional stream of a door.
struct DoorStream {
    sender: FrameSender<ServerMessage>,
    receiver: FrameReceiver<Opening>,
}

/// Serves a door's connection until it is lost or breaks the rules; says which.
pub(crate) async fn serve(
    connection: &quinn::Connection,
    door: &PeerIdentity,
    node: &mpsc::Sender<FromDoor>,
    metrics: &Metrics,
) -> CloseReason {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(MAX_STREAMS_PER_DOOR));
    let mut streams = JoinSet::new();
    let lost = async {
        until_lost(connection).await;
        CloseReason::Done
    };
    let accept = async {
        loop {
            tokio::select! {
                opened = connection.accept_bi() => {
                    let Ok((sender, receiver)) = opened else { return CloseReason::Done };
                    let stream = DoorStream { sender: FrameSender::new(sender), receiver: FrameReceiver::new(receiver) };
                    streams.spawn(stream.serve(door.clone(), node.clone(), metrics.clone()));
                }
                // Streams of one direction are a peer node's.
                opened = connection.accept_uni() => return opened.map_or(CloseReason::Done, |_| CloseReason::Role),
                Some(_) = streams.join_next() => (),
            }
        }
    };
    tokio::select! {
        reason = lost => reason,
        reason = accept => reason,
    }
}

impl DoorStream {
    async fn serve(mut self, door: PeerIdentity, node: mpsc::Sender<FromDoor>, metrics: Metrics) {
        let refusal = match timeout(OPENING_TIMEOUT, self.receiver.receive()).await {
            Ok(Ok(Some(Opening::Session { version: VERSION, session }))) => {
                return self.session(door, session, &node, &metrics).await;
            }
            Ok(Ok(Some(Opening::Query { version: VERSION, query }))) => {
                return self.query(query, &node, &metrics).await;
            }
            Ok(Ok(Some(Opening::Session { .. } | Opening::Query { .. }))) => CloseReason::Version,
            Ok(Ok(Some(Opening::Peer { .. }))) => CloseReason::Role,
            // It went away before it said anything.
            Ok(Ok(None) | Err(RelayError::Lost(_) | RelayError::Ended(_))) => return,
            Ok(Err(_)) => CloseReason::Malformed,
            Err(_) => CloseReason::Opening,
        };
        self.refuse(refusal, &metrics);
    }

    async fn session(self, door: PeerIdentity, session: Session, node: &mpsc::Sender<FromDoor>, metrics: &Metrics) {
        // A permit first: once handed over, the stream cannot be refused any more.
        match timeout(BUSY_TIMEOUT, node.reserve()).await {
            Ok(Ok(permit)) => {
                permit.send(FromDoor::Session { door, session, sender: self.sender, receiver: self.receiver.then() });
            }
            Ok(Err(_)) => self.refuse(CloseReason::Shutdown, metrics),
            Err(_) => self.refuse(CloseReason::Busy, metrics),
        }
    }

    async fn query(self, query: Query, node: &mpsc::Sender<FromDoor>, metrics: &Metrics) {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            node.send(FromDoor::Query { query, reply }).await.ok()?;
            answer.await.ok()
        };
        match timeout(BUSY_TIMEOUT, ask).await {
            Ok(Some(answer)) => {
                let mut sender = self.sender.then();
                match sender.send(&answer).await {
                    Ok(()) => sender.finish().await,
                    Err(error) => debug!(%error, "an answer could not be sent"),
                }
            }
            Ok(None) => self.refuse(CloseReason::Shutdown, metrics),
            Err(_) => self.refuse(CloseReason::Busy, metrics),
        }
    }

    fn refuse(self, reason: CloseReason, metrics: &Metrics) {
        metrics.refused(reason.as_str());
        self.receiver.abort(reason);
        self.sender.abort(reason);
    }
}
