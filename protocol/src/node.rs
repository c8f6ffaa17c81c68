//! How a door drives a media node: QUIC streams on the relay's port, mutual TLS, JSON frames.
//!
//! Each stream begins with one [`Opening`]. A session is one bidirectional stream: after the opening the door sends
//! the client's [`ClientMessage`]s and the node sends [`ServerMessage`]s. The stream ending without
//! [`ClientMessage::Leave`] only detaches the session: media flows on, and another door (or the same one,
//! restarted) may take it up within [`RESUME_GRACE_S`](crate::signal::RESUME_GRACE_S).
//!
//! [`ClientMessage`]: crate::signal::ClientMessage
//! [`ServerMessage`]: crate::signal::ServerMessage
//! [`ClientMessage::Leave`]: crate::signal::ClientMessage::Leave

use serde::{Deserialize, Serialize};

use crate::{NodeId, ParticipantId, PopId, RoomId, token::Grants};

/// The version of the messages between doors and nodes, and between nodes.
pub const VERSION: u16 = 1;
/// The longest frame on a control stream, in bytes.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// The first frame on a stream: what the stream is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "open", rename_all = "snake_case")]
pub enum Opening {
    /// A client's session; doors only. The frames that follow are `ClientMessage` and `ServerMessage`.
    Session {
        /// [`VERSION`].
        version: u16,
        /// Who wants in, as checked by the door.
        session: Session,
    },
    /// One question and one answer; doors only.
    Query {
        /// [`VERSION`].
        version: u16,
        /// The question.
        query: Query,
    },
    /// A peer node's announcements; nodes only. [`crate::peer::PeerMessage`]s follow, one way.
    Peer {
        /// [`VERSION`].
        version: u16,
        /// The peer's PoP.
        pop: PopId,
        /// The peer.
        node: NodeId,
        /// Whether the sender reads SPEECH and LOSS datagrams ([`crate::media`]). Nodes from before them do not say so, and
        /// pass over that others do: during a rolling upgrade each link has what both its ends know.
        #[serde(default)]
        speech: bool,
    },
}

/// A client's session, as the door has authorised it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The room, from the token.
    pub room: RoomId,
    /// Who, from the token.
    pub identity: String,
    /// What they may do, from the token.
    pub grants: Grants,
    /// New, or an earlier session of the same identity and room.
    pub intent: Intent,
}

/// Whether a session is new.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// Join. The door chose the id at random.
    Join {
        /// The new stay.
        participant: ParticipantId,
        /// The name others see.
        name: String,
        /// The stay it takes the place of; ignored unless of the same identity.
        replaces: Option<ParticipantId>,
        /// Whether the session outlives its signalling stream for as long as its media flows (WHIP, WHEP).
        media_only: bool,
    },
    /// Take up, or end, a session that stands.
    Resume {
        /// The stay.
        participant: ParticipantId,
    },
}

/// What a door may ask a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "query", rename_all = "snake_case")]
pub enum Query {
    /// The node's metrics as Prometheus text.
    Metrics,
    /// The node's rooms, for `GET /debug/rooms`.
    Rooms,
    /// Load and state.
    Status,
    /// Whether the node has a room.
    Room {
        /// Which.
        room: RoomId,
    },
    /// Take no new rooms; ask clients to move; end what is left after the deadline.
    Drain {
        /// Seconds.
        deadline_s: u32,
    },
}

/// The answer to a [`Query`] of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Prometheus text.
    Metrics {
        /// The exposition.
        text: String,
    },
    /// Rooms.
    Rooms {
        /// Every room with a participant here.
        rooms: Vec<RoomView>,
    },
    /// Load and state; also the answer to a drain.
    Status(NodeStatus),
    /// How many of a room are connected to the node, or about to be.
    Room {
        /// 0 if the node does not have the room.
        participants: u32,
    },
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Participants connected here.
    pub participants: u32,
    /// Rooms with a participant here.
    pub rooms: u32,
    /// From 0 (idle) to 1 (takes nobody new): the share of its places that are taken, or of the time that its threads are
    /// at work, whichever is more.
    pub load: f64,
    /// Whether it finishes and takes nobody new.
    pub draining: bool,
}

/// One room on one node, for operators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomView {
    /// The room.
    pub room: RoomId,
    /// Stays carried by this node.
    pub local: Vec<ParticipantView>,
    /// Stays carried by others.
    pub remote: Vec<ParticipantId>,
    /// Peer nodes with someone in the room.
    pub peers: Vec<NodeId>,
}

/// One stay on one node, for operators. No names: they are personal data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParticipantView {
    /// The stay.
    pub id: ParticipantId,
    /// Whether ICE and DTLS stand.
    pub connected: bool,
    /// Whether a door holds its signalling.
    pub attached: bool,
    /// `udp` or `tcp`, once connected.
    pub transport: Option<String>,
    /// Tracks published.
    pub tracks: u32,
    /// The bandwidth estimate towards the client, in kbit/s.
    pub estimate_kbps: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_of_an_older_peer_is_read_and_of_a_newer_one_what_is_known() {
        let older = r#"{"open":"peer","version":1,"pop":"panama","node":"panama-sfu-1"}"#;
        let newer = r#"{"open":"peer","version":1,"pop":"panama","node":"panama-sfu-1","speech":true,"later":[1]}"#;
        for (text, reads) in [(older, false), (newer, true)] {
            let opening: Opening = serde_json::from_str(text).expect("it is an opening");
            assert!(matches!(opening, Opening::Peer { speech, .. } if speech == reads), "{opening:?}");
        }
    }
}
