//! What one client measured, as JSON: the contract with load scenarios and evidence checks.

use std::time::Duration;

use isthmus_protocol::{
    NodeId, ParticipantId, PopId, RoomId,
    pops::Measurement,
    signal::{Kind, SlotContent},
};
use serde::{Deserialize, Serialize};

use super::{impairment::Counted, measure::Delays};

/// One client's stay in a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The name it joined under.
    pub name: String,
    /// The room.
    pub room: RoomId,
    /// The PoP it chose, where there are PoPs.
    pub pop: Option<PopId>,
    /// What it measured of the PoPs that it probed, the fastest first.
    pub probes: Vec<Measurement>,
    /// Its id in the room, once it was welcomed.
    pub participant: Option<ParticipantId>,
    /// The media node that carried it.
    pub node: Option<NodeId>,
    /// How long it was there, from the first request.
    pub duration_ms: f64,
    /// When each phase of joining had ended.
    pub join: JoinPhases,
    /// Why the server ended it, if it did; an Isthmus door's reasons as its protocol writes them.
    pub ended: Option<String>,
    /// Refusals that did not end the session.
    pub errors: Vec<String>,
    /// Participants it was told of, itself included.
    pub participants: usize,
    /// Whether somebody published when it was welcomed: only then is its time to the first packet the platform's.
    pub others_published: bool,
    /// Session descriptions it offered: joins and leaves of others must not add to it.
    pub offers: u32,
    /// What its network did, where the scenario gave it a bad one.
    pub network: Option<Counted>,
    /// What it sent.
    pub sent: SentReport,
    /// What it received, by slot.
    pub slots: Vec<SlotReport>,
}

/// Milliseconds from the first request to the end of each phase; none for a phase that was not reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JoinPhases {
    /// The list of PoPs was there and the best were probed.
    pub pops_ms: Option<f64>,
    /// The token was there.
    pub token_ms: Option<f64>,
    /// The signalling socket was open.
    pub socket_ms: Option<f64>,
    /// The node had welcomed the client.
    pub welcome_ms: Option<f64>,
    /// The answer to the offer was there.
    pub answer_ms: Option<f64>,
    /// ICE had a pair.
    pub ice_ms: Option<f64>,
    /// The DTLS handshake was done.
    pub dtls_ms: Option<f64>,
    /// The first media packet was there.
    pub first_packet_ms: Option<f64>,
    /// The first decodable video frame was there.
    pub first_frame_ms: Option<f64>,
}

/// What a client sent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SentReport {
    /// RTP packets, all tracks and layers.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Keyframe requests that were answered.
    pub keyframe_requests: u64,
    /// Frames and sound packets that were not sent because this program was late: above 0, the figures show the load
    /// generator and not the platform.
    pub left_out: u64,
}

/// What arrived in one slot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SlotReport {
    /// The m-line.
    pub mid: String,
    /// Sound or picture.
    pub kind: Kind,
    /// What stood in it last.
    pub content: Option<SlotContent>,
    /// RTP packets.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets that never arrived, neither as a retransmission nor with the one after.
    pub lost: u64,
    /// Packets of a voice that came only with the one after (RFC 2198).
    pub restored: u64,
    /// Packets that arrived after a later one: reordered, or repaired.
    pub out_of_order: u64,
    /// RFC 3550 interarrival jitter; none of a slot whose packets were only counted.
    pub jitter_ms: Option<f64>,
    /// Mean payload rate from the first packet to the end of the stay.
    pub bitrate_kbps: f64,
    /// From the first request to the first packet.
    pub first_packet_ms: Option<f64>,
    /// From the last packet to the end of the stay: long for a stream that died.
    pub silent_ms: Option<f64>,
    /// How long half of the speech, or of the pictures to their last packet, was under way, from socket to socket; only where
    /// it was stamped.
    pub delay_p50_ms: Option<f64>,
    /// The same of 99 in 100.
    pub delay_p99_ms: Option<f64>,
    /// All of these delays, for sums over clients.
    #[serde(skip)]
    pub delays: Delays,
    /// For a video slot.
    pub video: Option<VideoReport>,
}

/// What a decoder could have shown of a slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    /// Decodable frames.
    pub frames: u64,
    /// Keyframes among them.
    pub keyframes: u64,
    /// Frames that were broken, or referred to one that was.
    pub undecodable_frames: u64,
    /// Decodable frames per second from the first to the end of the stay.
    pub frames_per_second: f64,
    /// Freezes, as the WebRTC statistics define them.
    pub freezes: u32,
    /// Their time together.
    pub freeze_ms: f64,
    /// The longest of them.
    pub longest_freeze_ms: f64,
    /// Keyframes that were asked for.
    pub keyframe_requests: u64,
    /// From the first request to the first decodable frame.
    pub first_frame_ms: Option<f64>,
    /// Of the last keyframe, in pixels.
    pub width: Option<u16>,
    /// Of the last keyframe, in pixels.
    pub height: Option<u16>,
    /// From the first frame of that size without another in between, to the end of the stay.
    pub size_stood_ms: Option<f64>,
}

/// Milliseconds with a precision that reads well.
pub(crate) fn millis(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64() * 1e3)
}

/// Two digits after the point.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// How many a second; 0 over no time.
pub(crate) fn per_second(count: u64, span: Duration) -> f64 {
    if span.is_zero() { 0.0 } else { rounded(count as f64 / span.as_secs_f64()) }
}
