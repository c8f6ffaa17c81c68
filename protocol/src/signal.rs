//! Signalling between a client and its door: JSON text frames over one WebSocket (`GET /v1/signal`).
//!
//! The door checks who is speaking and hands room messages on unchanged to the media node that holds the session,
//! and back; so these types are also what a media node takes and gives ([`crate::node`]).
//!
//! A session:
//! 1. The client sends [`ClientMessage::Hello`]. The node answers [`ServerMessage::Welcome`] with the whole roster.
//! 2. The client sends [`ClientMessage::Offer`]; it alone offers. The node answers [`ServerMessage::Answer`].
//!    The offer holds what the client publishes and a number of `recvonly` m-lines: its receive slots.
//! 3. Others come and go, publish and mute: [`ServerMessage::Participant`], [`ServerMessage::Left`]. What stands in
//!    which slot: [`ServerMessage::Slots`]. None of this needs another offer.
//! 4. A client that lost its socket opens another and says [`Hello`](ClientMessage::Hello) with
//!    [`resume`](Hello::resume) within [`RESUME_GRACE_S`]; its media has flowed on meanwhile.

use serde::{Deserialize, Serialize};

use crate::{NodeId, ParticipantId, PopId, RoomId, TrackId, problem::Code};

/// The version of these messages. A door refuses another one with [`Code::UnsupportedVersion`].
pub const VERSION: u16 = 1;
/// The name of the WebSocket subprotocol. The token may be offered as a second one: `isthmus.token.<token>`.
pub const SUBPROTOCOL: &str = "isthmus.v1";
/// What the offered subprotocol that carries a token begins with.
pub const TOKEN_SUBPROTOCOL_PREFIX: &str = "isthmus.token.";
/// The longest message either side accepts, in bytes. An offer with 40 m-lines is about 60 kB.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// The longest session description accepted, in bytes.
pub const MAX_SDP_BYTES: usize = 192 * 1024;
/// The longest ICE candidate line accepted, in bytes.
pub const MAX_CANDIDATE_BYTES: usize = 1024;
/// The longest display name accepted, in characters.
pub const MAX_NAME_CHARS: usize = 80;
/// The most tiles one [`ClientMessage::View`] may name.
pub const MAX_TILES: usize = 64;
/// Seconds a session lives on without its signalling socket.
pub const RESUME_GRACE_S: u32 = 30;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// First message on a socket: join, or resume.
    Hello(Hello),
    /// A new session description offer. `revision` counts up and comes back in the answer.
    Offer {
        /// Counts the client's offers from 1.
        revision: u32,
        /// The offer.
        sdp: String,
        /// What the client's sending m-lines carry. An m-line that is not named is taken as a microphone or camera.
        #[serde(default)]
        tracks: Vec<OfferedTrack>,
    },
    /// A further ICE candidate of the client (`candidate:...`); an empty one ends the list.
    Candidate {
        /// The candidate attribute's value.
        candidate: String,
    },
    /// What the client shows, most important first: the node fills its video slots from this. Until the first such
    /// message the node fills them with the most recently active video.
    View {
        /// At most [`MAX_TILES`].
        tiles: Vec<Tile>,
    },
    /// The client's own track on m-line `mid` went silent or dark, or came back.
    Mute {
        /// The m-line of the track.
        mid: String,
        /// Whether it is muted now.
        muted: bool,
    },
    /// Asks for a [`ServerMessage::Pong`].
    Ping {
        /// Comes back as it is.
        id: u32,
    },
    /// Leaves the room for good.
    Leave,
}

/// The first message on a socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Hello {
    /// [`VERSION`].
    pub version: u16,
    /// The room token, if it was not offered as a subprotocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub token: Option<Secret>,
    /// The room to join; it must be the token's.
    pub room: RoomId,
    /// The name others see. The token's own name, if it has one, wins.
    pub name: String,
    /// Set to take up a session whose socket was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub resume: Option<Resume>,
    /// Set when the client joins anew after its PoP was lost: the stay this one takes the place of, so that nobody
    /// sees it twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub replaces: Option<ParticipantId>,
}

/// Which session to take up. The token says whose it is: it must be of the same identity and room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Resume {
    /// From [`ServerMessage::Welcome`].
    pub participant: ParticipantId,
    /// From [`ServerMessage::Welcome`].
    pub node: NodeId,
}

/// A string that does not show itself in logs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(transparent)]
#[ts(as = "String")]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What one of the client's sending m-lines carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct OfferedTrack {
    /// The m-line.
    pub mid: String,
    /// What it shows or lets hear.
    pub source: Source,
    /// Whether it starts muted.
    #[serde(default)]
    pub muted: bool,
}

/// What a track shows or lets hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A voice.
    Microphone,
    /// A face.
    Camera,
    /// A shared screen's picture.
    Screen,
    /// A shared screen's sound.
    ScreenAudio,
}

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

impl Source {
    /// Whether the source is sound or picture.
    pub const fn kind(self) -> Kind {
        match self {
            Source::Microphone | Source::ScreenAudio => Kind::Audio,
            Source::Camera | Source::Screen => Kind::Video,
        }
    }
}

/// A track that the client shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Tile {
    /// The track.
    pub track: TrackId,
    /// The height it is shown at, in device pixels: the node sends no layer much larger.
    pub height: u16,
}

/// What the node sends (and the door, for what goes wrong before a node has the session).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The session stands. After a resume it is sent again, with everything as it is now.
    Welcome(Welcome),
    /// The answer to the offer of the same revision.
    Answer {
        /// The offer's revision.
        revision: u32,
        /// The answer.
        sdp: String,
    },
    /// Someone joined or changed: the whole of what is known of them.
    Participant {
        /// The participant as they are now.
        participant: Participant,
        /// The stay this one takes the place of: same person, new connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        replaces: Option<ParticipantId>,
    },
    /// Someone left.
    Left {
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: LeaveReason,
    },
    /// What stands in the client's receive slots now: every slot, each time.
    Slots {
        /// One entry for each `recvonly` m-line that was answered.
        slots: Vec<Slot>,
    },
    /// The loudest speakers, loudest first; empty when nobody speaks.
    Speakers {
        /// At most [`MAX_SPEAKERS`].
        speakers: Vec<ParticipantId>,
    },
    /// Which layers of the client's own simulcast track anyone shows; it may stop sending the others.
    Layers {
        /// The m-line of the track.
        mid: String,
        /// The rids that are shown somewhere, lowest first; empty when nobody shows the track.
        rids: Vec<String>,
    },
    /// The node's estimate of what the path to the client carries.
    Bandwidth {
        /// In kbit/s.
        estimate_kbps: u32,
    },
    /// The PoP drains: join through another within `deadline_s` seconds.
    Move {
        /// Seconds until the session ends here.
        deadline_s: u32,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's id.
        id: u32,
    },
    /// A message was refused. The session goes on unless `fatal`.
    Error {
        /// The stable code.
        code: Code,
        /// What happened, to what, and what to do.
        detail: String,
        /// Whether the session ended with it.
        fatal: bool,
        /// The revision of the offer, if that is what was refused: there will be no answer to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        revision: Option<u32>,
    },
    /// The session ended.
    Ended {
        /// Why.
        reason: LeaveReason,
    },
}

/// The most speakers named in [`ServerMessage::Speakers`], and the most voices forwarded at a time.
pub const MAX_SPEAKERS: usize = 3;

/// A session that stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Welcome {
    /// The protocol version the session speaks.
    pub version: u16,
    /// The client's own id in the room.
    pub participant: ParticipantId,
    /// The PoP that carries the session.
    pub pop: PopId,
    /// The node that carries it; for [`Resume`].
    pub node: NodeId,
    /// Whether the client may publish.
    pub may_publish: bool,
    /// Everyone in the room, the client included.
    pub participants: Vec<Participant>,
    /// Whether this is a session taken up again.
    pub resumed: bool,
}

/// Someone in the room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Participant {
    /// This stay.
    pub id: ParticipantId,
    /// Who it is, from the token; the same person on two devices has it twice.
    pub identity: String,
    /// The name to show.
    pub name: String,
    /// The PoP they are connected to.
    pub pop: PopId,
    /// What they publish.
    pub tracks: Vec<Track>,
}

/// Something published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Track {
    /// The track.
    pub id: TrackId,
    /// What it shows or lets hear.
    pub source: Source,
    /// Whether its publisher has muted it.
    pub muted: bool,
    /// The simulcast rids it is offered in, lowest first; empty for a single layer.
    pub rids: Vec<String>,
}

/// One receive slot of the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct Slot {
    /// The m-line.
    pub mid: String,
    /// What stands in it, if anything does.
    pub content: Option<SlotContent>,
}

/// What stands in a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ts_rs::TS)]
pub struct SlotContent {
    /// The track.
    pub track: TrackId,
    /// Who publishes it.
    pub participant: ParticipantId,
    /// The layer that is being sent, for a simulcast track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub rid: Option<String>,
    /// Whether anything is being sent.
    pub state: SlotState,
}

/// Whether a slot's track is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Being sent.
    Live,
    /// Held back because the path to the client cannot carry it.
    Paused,
    /// Cannot be sent: the client did not offer the track's codec.
    Unsupported,
}

/// Why a stay in a room ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS)]
#[serde(rename_all = "snake_case")]
pub enum LeaveReason {
    /// They left.
    Left,
    /// Their connection was lost and did not come back in time.
    ConnectionLost,
    /// The PoP or node that carried them cannot be reached.
    NodeLost,
    /// They joined again and this is the earlier stay.
    Replaced,
    /// Removed by someone who may do that, or the room was closed.
    Removed,
    /// The node was drained and they did not move in time.
    Drained,
    /// A fault of ours.
    Fault,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_documented() {
        let hello = r#"{"type":"hello","version":1,"room":"demo","name":"Ana","token":"s3cret"}"#;
        let message: ClientMessage = serde_json::from_str(hello).expect("a documented hello parses");
        let ClientMessage::Hello(hello) = &message else { panic!("not a hello: {message:?}") };
        assert_eq!(hello.room.as_str(), "demo");
        assert!(!format!("{message:?}").contains("s3cret"), "a token showed itself in debug output");
    }

    #[test]
    fn an_unknown_type_is_an_error_and_an_unknown_field_is_not() {
        assert!(serde_json::from_str::<ClientMessage>(r#"{"type":"explode"}"#).is_err());
        let ping = serde_json::from_str::<ClientMessage>(r#"{"type":"ping","id":7,"later":true}"#);
        assert_eq!(ping.ok(), Some(ClientMessage::Ping { id: 7 }), "newer clients may say more");
    }
}
