//! A room on one shard: its participants here and elsewhere, their tracks, and who gets which packet.
//!
//! Calls change the room and leave [`Effect`]s, to be taken with [`Room::take_effects`] after each call; only
//! [`Room::packet`](Room) hands packets out directly, because it is the packet path.
//!
//! | file              | part                                                     |
//! |-------------------|----------------------------------------------------------|
//! | `membership.rs`   | joining, leaving, what everyone is told                  |
//! | `moves.rs`        | a stay that takes the place of another                   |
//! | `publications.rs` | tracks of participants here and elsewhere                |
//! | `receivers.rs`    | slots, views, layers                                     |
//! | `peers.rs`        | what other nodes say and want                            |
//! | `packets.rs`      | the packet path                                          |

mod membership;
mod moves;
mod packets;
mod peers;
mod publications;
mod receivers;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    NodeId, ParticipantId, PopId, RoomId, TrackId,
    media::Codec,
    peer::{PeerMessage, StreamId},
    signal::{Kind, LeaveReason, MAX_SPEAKERS, ServerMessage, Source},
};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use str0m::media::{Mid, Rid};

pub use membership::Joining;
pub use packets::{Delivery, Outgoing, Unwanted};
pub use publications::OfferedTrack;
pub use receivers::{Estimate, SlotOffer};

use super::{capture_clock::CaptureClock, speakers::Speakers};
use publications::Publication;
use receivers::Receiver;

/// How often [`Room::tick`] is to be called: speakers, layers and demands are settled at this pace.
pub const TICK: Duration = Duration::from_millis(100);

/// A client on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey(pub usize);

/// A track in this room, on this shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackKey(usize);

/// Where a room is.
#[derive(Debug, Clone)]
pub struct Here {
    /// The PoP.
    pub pop: PopId,
    /// The node.
    pub node: NodeId,
}

/// What is to be done because of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Tell a client.
    Signal {
        /// Whom.
        client: ClientKey,
        /// What.
        message: ServerMessage,
    },
    /// Tell a peer node.
    Peer {
        /// Which.
        node: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Ask a client for a keyframe of one layer of its track.
    Keyframe {
        /// The publisher.
        client: ClientKey,
        /// Its m-line.
        mid: Mid,
        /// The layer.
        rid: Option<Rid>,
    },
    /// What a client's slots need, for its estimator to look for.
    Bandwidth {
        /// The receiver.
        client: ClientKey,
        /// What they could use, in kbit/s.
        desired_kbps: u32,
        /// What it takes to send a picture that is paused, in kbit/s; 0 if none is. Padding finds out whether the path
        /// carries it: a path on which little is sent tells little.
        minimum_kbps: u32,
    },
    /// A client's stay is over; its session is to be ended.
    Ended {
        /// Whose.
        client: ClientKey,
        /// Why.
        reason: LeaveReason,
    },
}

impl Effect {
    /// The client it is about.
    fn client(&self) -> Option<ClientKey> {
        match self {
            Effect::Signal { client, .. }
            | Effect::Keyframe { client, .. }
            | Effect::Bandwidth { client, .. }
            | Effect::Ended { client, .. } => Some(*client),
            Effect::Peer { .. } => None,
        }
    }
}

/// The numbers of incoming relay streams: unique on the shard, which is in the upper 8 bits so that the node finds the
/// shard from the number alone, and the shard the room.
#[derive(Debug)]
pub struct StreamIds {
    shard: u8,
    next: u32,
    rooms: FxHashMap<StreamId, RoomId>,
}

impl StreamIds {
    /// Numbers for `shard`.
    pub fn new(shard: u8) -> Self {
        Self { shard, next: 0, rooms: FxHashMap::default() }
    }

    /// The shard that chose `stream`.
    pub fn shard_of(stream: StreamId) -> u8 {
        (stream >> 24) as u8
    }

    /// The room that `stream` is for.
    pub fn room(&self, stream: StreamId) -> Option<&RoomId> {
        self.rooms.get(&stream)
    }

    /// The room is gone and its streams with it.
    pub fn forget_room(&mut self, room: &RoomId) {
        self.rooms.retain(|_, of| of != room);
    }

    fn allocate(&mut self, room: &RoomId) -> StreamId {
        loop {
            self.next = (self.next + 1) & 0x00ff_ffff;
            let stream = u32::from(self.shard) << 24 | self.next;
            if let std::collections::hash_map::Entry::Vacant(entry) = self.rooms.entry(stream) {
                entry.insert(room.clone());
                return stream;
            }
        }
    }

    fn release(&mut self, stream: StreamId) {
        self.rooms.remove(&stream);
    }
}

#[derive(Debug)]
struct Member {
    identity: String,
    name: String,
    pop: PopId,
    at: At,
    /// The stay whose place it is to take once it has media. Until then nobody else knows of it.
    stands_by_for: Option<ParticipantId>,
    tracks: Vec<TrackKey>,
    clock: CaptureClock,
    last_spoke: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Client(ClientKey),
    Node(NodeId),
}

/// A stream that comes over the relay.
#[derive(Debug)]
struct Incoming {
    node: NodeId,
    track: TrackKey,
    layer: usize,
}

/// A room on one shard.
#[derive(Debug)]
pub struct Room {
    id: RoomId,
    here: Here,
    members: BTreeMap<ParticipantId, Member>,
    clients: FxHashMap<ClientKey, ParticipantId>,
    publications: Slab<Publication>,
    track_ids: FxHashMap<TrackId, TrackKey>,
    receivers: FxHashMap<ClientKey, Receiver>,
    /// Nodes that have someone in the room.
    peers: FxHashSet<NodeId>,
    /// Which layer of which remote track an incoming relay stream carries.
    incoming: FxHashMap<StreamId, Incoming>,
    /// Streams that are not wanted any more, to be released at the next tick.
    released: Vec<StreamId>,
    /// All audio tracks that are heard here.
    speakers: Speakers<TrackKey>,
    /// Only those published here: what peers are sent.
    local_speakers: Speakers<TrackKey>,
    announced_speakers: Vec<ParticipantId>,
    /// Receivers whose path got narrower since the last time.
    hurried: Vec<ClientKey>,
    last_tick: Option<Instant>,
    effects: Vec<Effect>,
}

impl Room {
    /// An empty room.
    pub fn new(id: RoomId, here: Here) -> Self {
        Self {
            id,
            here,
            members: BTreeMap::new(),
            clients: FxHashMap::default(),
            publications: Slab::new(),
            track_ids: FxHashMap::default(),
            receivers: FxHashMap::default(),
            peers: FxHashSet::default(),
            incoming: FxHashMap::default(),
            released: Vec::new(),
            speakers: Speakers::new(MAX_SPEAKERS),
            local_speakers: Speakers::new(MAX_SPEAKERS),
            announced_speakers: Vec::new(),
            hurried: Vec::new(),
            last_tick: None,
            effects: Vec::new(),
        }
    }

    /// Whether nobody is here any more, so that the room can go.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// How many are in the room, here and elsewhere, beside a newcomer: who moves does not count twice.
    pub fn others(&self, identity: &str, replaces: Option<&ParticipantId>) -> usize {
        let counts = |(id, member): &(&ParticipantId, &Member)| {
            let moves = member.identity == identity && replaces == Some(*id);
            !moves && member.stands_by_for.is_none()
        };
        self.members.iter().filter(counts).count()
    }

    /// Whether something changed that [`Room::tick`] should settle at once.
    pub fn is_urgent(&self) -> bool {
        self.last_tick.is_none() || !self.hurried.is_empty()
    }

    /// What is to be done since the last time.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Settles what is not settled packet by packet: who speaks, who gets which layer, what is asked of peers. If the last
    /// time is less than [`TICK`] ago, only what cannot wait.
    pub fn tick(&mut self, now: Instant, streams: &mut StreamIds) {
        self.settle_hurried(now);
        if self.last_tick.is_some_and(|last| now.saturating_duration_since(last) < TICK) {
            return;
        }
        self.last_tick = Some(now);
        for stream in self.released.drain(..) {
            streams.release(stream);
        }
        self.settle_speakers(now);
        self.settle_moves(now);
        self.settle_slots(now);
        self.send_waiting_keyframe_requests(now);
        self.settle_demands(now, streams);
    }

    fn settle_speakers(&mut self, now: Instant) {
        self.speakers.rank(now);
        self.local_speakers.rank(now);
        let mut speaking: Vec<ParticipantId> = Vec::with_capacity(MAX_SPEAKERS);
        for track in self.speakers.speaking(now) {
            let participant = &self.publications[track.0].participant;
            if !speaking.contains(participant) {
                speaking.push(participant.clone());
            }
            if let Some(member) = self.members.get_mut(participant) {
                member.last_spoke = Some(now);
            }
        }
        if speaking != self.announced_speakers {
            self.announced_speakers.clone_from(&speaking);
            self.signal_everyone(&ServerMessage::Speakers { speakers: speaking });
        }
    }

    fn signal(&mut self, client: ClientKey, message: ServerMessage) {
        self.effects.push(Effect::Signal { client, message });
    }

    fn signal_everyone(&mut self, message: &ServerMessage) {
        let messages = self.clients.keys().map(|client| Effect::Signal { client: *client, message: message.clone() });
        self.effects.extend(messages);
    }

    fn tell_peers(&mut self, message: &PeerMessage) {
        let messages = self.peers.iter().map(|node| Effect::Peer { node: node.clone(), message: message.clone() });
        self.effects.extend(messages);
    }
}

/// The clock rate of a codec's RTP timestamps, in Hz.
fn clock_hz(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => 48_000,
        Kind::Video => 90_000,
    }
}

/// Most important first: a shared screen before faces, and those who speak before those who do not.
fn importance(source: Source) -> u8 {
    match source {
        Source::Screen | Source::ScreenAudio => 0,
        Source::Camera | Source::Microphone => 1,
    }
}

/// Whether a receiver that offered `codecs` can be sent `codec`.
fn can_receive(codecs: &[Codec], codec: Codec) -> bool {
    // RED carries Opus, which can be taken out of it.
    codecs.contains(&codec) || (codec == Codec::Red && codecs.contains(&Codec::Opus))
}
