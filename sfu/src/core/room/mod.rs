//! A room on one shard: its participants here and elsewhere, their tracks, and who gets which packet.
//!
//! Calls change the room and leave [`Effect`]s, to be taken with [`Room::take_effects`] after each call; only
//! [`Room::packets_from_client`] and [`Room::packet_from_peer`] hand packets out directly, because they are the packet path.
//!
//! | file              | part                                                     |
//! |-------------------|----------------------------------------------------------|
//! | `membership.rs`   | joining, leaving, what everyone is told                  |
//! | `moves.rs`        | a stay that takes the place of another                   |
//! | `publications.rs` | tracks of participants here and elsewhere                |
//! | `receivers.rs`    | views, what fills slots, which layers they get           |
//! | `slots.rs`        | one slot: what is to be sent in it, what is being sent   |
//! | `peers.rs`        | what peers say and want                                  |
//! | `packets.rs`      | the packet path                                          |
//!
//! A room's peers are where else it has participants: other nodes, and other shards of its own node. Nodes reach each other
//! directly. The shards of one node are a star: the room's *home*, the shard that its name hashes to, speaks for the node to
//! other nodes and passes on what comes from one shard to the others; the rest are *branches* and have the home as their only
//! peer. So a stream crosses each link once, and what is passed on never comes back ([`is_passed_on`]).

mod membership;
mod moves;
mod packets;
mod peers;
mod publications;
mod receivers;
mod slots;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests;

use std::time::{Duration, Instant};

use isthmus_protocol::{
    NodeId, ParticipantId, PopId, RoomId, TrackId,
    media::Codec,
    peer::{PeerMessage, StreamId},
    signal::{Kind, LeaveReason, MAX_SPEAKERS, ServerMessage, Source},
};
use rustc_hash::FxHashMap;
use slab::Slab;
use str0m::media::{Mid, Rid};

pub use membership::Joining;
pub use packets::{Delivery, Outgoing, Unwanted};
pub use publications::OfferedTrack;
pub use receivers::Estimate;
pub use slots::SlotOffer;

use super::{
    capture_clock::CaptureClock,
    speakers::{Loudest, Voices},
};
use packets::Noted;
use peers::Audiences;
use publications::Publication;
use receivers::{Lineup, Receiver};

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

/// Where else a room has participants.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Another node.
    Node(NodeId),
    /// Another shard of this node.
    Shard(u8),
}

/// Whether `to` hears from here of what comes from the peer `from`, or, if that is none, from here.
fn is_passed_on(from: Option<&Peer>, to: &Peer) -> bool {
    match from {
        None => true,
        Some(Peer::Node(_)) => matches!(to, Peer::Shard(_)),
        Some(shard @ Peer::Shard(_)) => shard != to,
    }
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
    /// Tell a peer.
    Peer {
        /// Which.
        peer: Peer,
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
    Peer(Peer),
}

impl At {
    fn peer(&self) -> Option<&Peer> {
        match self {
            At::Client(_) => None,
            At::Peer(peer) => Some(peer),
        }
    }
}

/// A stream that comes from a peer.
#[derive(Debug)]
struct Incoming {
    peer: Peer,
    track: TrackKey,
    layer: usize,
}

/// A room on one shard.
#[derive(Debug)]
pub struct Room {
    id: RoomId,
    here: Here,
    /// The shard that speaks for the node, if it is not this one.
    home: Option<u8>,
    members: FxHashMap<ParticipantId, Member>,
    clients: FxHashMap<ClientKey, ParticipantId>,
    publications: Slab<Publication>,
    track_ids: FxHashMap<TrackId, TrackKey>,
    receivers: FxHashMap<ClientKey, Receiver>,
    /// Who else has someone in the room, and how many stays each has told of.
    peers: FxHashMap<Peer, usize>,
    /// The stays here that have not taken the place yet that they joined for: few, and mostly none.
    standing_by: Vec<ParticipantId>,
    /// Which layer of which remote track an incoming stream carries.
    incoming: FxHashMap<StreamId, Incoming>,
    /// Streams that are not wanted any more, to be released at the next tick.
    released: Vec<StreamId>,
    /// All audio tracks that are heard here.
    voices: Voices<TrackKey>,
    /// The loudest of them.
    speakers: Loudest<TrackKey>,
    /// The loudest of those that peers are sent.
    audiences: Audiences,
    announced_speakers: Vec<ParticipantId>,
    lineup: Lineup,
    /// Receivers whose path got narrower since the last time.
    hurried: Vec<ClientKey>,
    last_tick: Option<Instant>,
    effects: Vec<Effect>,
    /// Packets on their way through; empty between calls.
    noted: Vec<Noted>,
}

impl Room {
    /// An empty room. `home` is the shard that speaks for the node, if it is not this one: the only peer it may have then.
    pub fn new(id: RoomId, here: Here, home: Option<u8>) -> Self {
        Self {
            id,
            here,
            home,
            members: FxHashMap::default(),
            clients: FxHashMap::default(),
            publications: Slab::new(),
            track_ids: FxHashMap::default(),
            receivers: FxHashMap::default(),
            peers: FxHashMap::default(),
            standing_by: Vec::new(),
            incoming: FxHashMap::default(),
            released: Vec::new(),
            voices: Voices::default(),
            speakers: Loudest::new(MAX_SPEAKERS),
            audiences: Audiences::default(),
            announced_speakers: Vec::new(),
            lineup: Lineup::default(),
            hurried: Vec::new(),
            last_tick: None,
            effects: Vec::new(),
            noted: Vec::new(),
        }
    }

    /// Whether nobody is here any more, and on no other shard that needs this one, so that the room can go.
    pub fn is_empty(&self) -> bool {
        let has_branches = || self.home.is_none() && self.peers.keys().any(|peer| matches!(peer, Peer::Shard(_)));
        self.clients.is_empty() && !has_branches()
    }

    /// Gives back the numbers of its incoming streams: the room is gone.
    pub fn release_streams(&mut self, streams: &mut StreamIds) {
        for stream in self.released.drain(..).chain(self.incoming.drain().map(|(stream, _)| stream)) {
            streams.release(stream);
        }
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
        self.make_up_for_gaps(now);
        self.send_waiting_keyframe_requests(now);
        self.settle_demands(now, streams);
    }

    fn settle_speakers(&mut self, now: Instant) {
        self.voices.settle(now);
        self.speakers.choose(&self.voices, now, |_| true);
        self.audiences.choose(&self.voices, &self.publications, now);
        let mut speaking: Vec<ParticipantId> = Vec::with_capacity(MAX_SPEAKERS);
        for track in self.voices.speaking(&self.speakers, now) {
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

    /// Tells the peers that hear from here of what comes from `from`.
    fn tell_peers_of(&mut self, from: Option<&Peer>, message: &PeerMessage) {
        let told = self.peers.keys().filter(|peer| is_passed_on(from, peer));
        let messages = told.map(|peer| Effect::Peer { peer: peer.clone(), message: message.clone() });
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
