//! Control messages between media nodes: who is in which room, and who wants which layer of which track.
//!
//! Each node tells its peers what it owns, on a stream of its own, in order. A node announces a room to every peer
//! when it gets its first participant there ([`PeerMessage::RoomOpened`]), and its participants to those peers that
//! have the room too. All of it is soft state: a new link begins with everything, a lost one takes everything away.
//! The directory has no part in this, so that two nodes that reach each other need nothing else.

use serde::{Deserialize, Serialize};

use crate::{
    ParticipantId, RoomId, TrackId,
    signal::{LeaveReason, Participant},
};

/// The number that stands for one layer of one track in the datagrams of one link, in one direction. The receiver
/// of the media chooses it, so that it knows every number before the first packet.
pub type StreamId = u32;

/// One announcement or demand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PeerMessage {
    /// The sender has participants in the room now.
    RoomOpened {
        /// The room.
        room: RoomId,
    },
    /// The sender's last participant left the room.
    RoomClosed {
        /// The room.
        room: RoomId,
    },
    /// A participant of the sender joined or changed.
    Participant {
        /// The room.
        room: RoomId,
        /// The participant as they are now.
        participant: Participant,
        /// The stay it takes the place of.
        replaces: Option<ParticipantId>,
    },
    /// A participant of the sender left.
    Left {
        /// The room.
        room: RoomId,
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// The layers of one of the receiver's tracks that someone at the sender watches: takes the place of every
    /// earlier demand for that track. An audio track's packets are sent only while it is among the loudest.
    Demand {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
        /// Empty when nobody watches any more.
        layers: Vec<LayerDemand>,
        /// How many of the track's layers, from the lowest on, someone there could use if the path carried them: its
        /// publisher goes on sending these.
        useful: u8,
    },
    /// Someone at the sender needs a keyframe of a layer of one of the receiver's tracks.
    Keyframe {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
        /// The layer; none for a track without simulcast.
        rid: Option<String>,
    },
    /// What the layers of one of the sender's simulcast tracks take now, so that the receiver can choose among layers
    /// that it does not get.
    Rates {
        /// The room.
        room: RoomId,
        /// The track.
        track: TrackId,
        /// In the order of the track's rids.
        layers: Vec<LayerRate>,
    },
}

impl PeerMessage {
    /// The room the message is about.
    pub fn room(&self) -> &RoomId {
        match self {
            PeerMessage::RoomOpened { room }
            | PeerMessage::RoomClosed { room }
            | PeerMessage::Participant { room, .. }
            | PeerMessage::Left { room, .. }
            | PeerMessage::Demand { room, .. }
            | PeerMessage::Keyframe { room, .. }
            | PeerMessage::Rates { room, .. } => room,
        }
    }
}

/// What a layer takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRate {
    /// In kbit/s; 0 if it does not flow.
    pub kbps: u32,
    /// The height of its picture in pixels, if known.
    pub height: Option<u16>,
    /// What each part of it takes that can be had by itself, in kbit/s, the least first; empty if it is not scalable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<u32>,
}

/// One layer that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDemand {
    /// The layer; none for a track without simulcast.
    pub rid: Option<String>,
    /// The number its datagrams shall carry.
    pub stream: StreamId,
    /// Which parts of a scalable one: bit n stands for the nth of [`LayerRate::rungs`]. None for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rungs: Option<u32>,
}
