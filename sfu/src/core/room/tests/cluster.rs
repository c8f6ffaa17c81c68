//! Shards with one room each, on a virtual clock: their messages and packets are carried by the test.

use std::{collections::VecDeque, sync::Arc};

use isthmus_protocol::{
    media::{AudioLevel, MediaPacket},
    token::Grants,
};

use super::super::*;
use crate::core::rewrite::Numbers;

pub(super) const VOICE: Mid = Mid::from_array(*b"0               ");
pub(super) const PICTURE: Mid = Mid::from_array(*b"1               ");
pub(super) const BOTH: Grants = Grants { publish: true, subscribe: true };
pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];

pub(super) fn mid(text: &str) -> Mid {
    Mid::from(text)
}

/// A packet as a client has got it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Received {
    pub client: ClientKey,
    pub mid: Mid,
    pub numbers: Numbers,
    pub marker: bool,
    pub packet: MediaPacket,
}

impl Received {
    fn new(client: ClientKey, outgoing: &Outgoing<'_>) -> Self {
        let Outgoing { mid, numbers, marker, packet, .. } = outgoing;
        Self { client, mid: *mid, numbers: *numbers, marker: *marker, packet: (***packet).clone() }
    }
}

/// A shard with one room, and what its clients have got.
pub(super) struct Shard {
    pub node: NodeId,
    pub index: u8,
    pub room: Room,
    /// Whether the shard has the room: one that nobody needs is dropped, as an engine drops it.
    is_open: bool,
    /// Nodes that are known to have the room.
    pub peer_rooms: Vec<Peer>,
    pub streams: StreamIds,
    pub signals: Vec<(ClientKey, ServerMessage)>,
    pub keyframes_asked: Vec<(ClientKey, Option<Rid>)>,
    pub received: Vec<Received>,
    pub ended: Vec<(ClientKey, LeaveReason)>,
}

impl Shard {
    fn new(node: &str, index: u8) -> Self {
        let node: NodeId = node.parse().expect("a valid name");
        Self {
            room: Self::empty_room(&node, index),
            node,
            index,
            is_open: false,
            peer_rooms: Vec::new(),
            streams: StreamIds::new(index),
            signals: Vec::new(),
            keyframes_asked: Vec::new(),
            received: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// The first shard is every room's home.
    fn empty_room(node: &NodeId, index: u8) -> Room {
        let here = Here { pop: node.as_str().parse().expect("a valid name"), node: node.clone() };
        Room::new("demo".parse().expect("a valid name"), here, (index > 0).then_some(0))
    }

    /// What a shard of this or another node takes it for.
    fn seen_by(&self, other: &NodeId) -> Peer {
        if self.node == *other { Peer::Shard(self.index) } else { Peer::Node(self.node.clone()) }
    }

    /// As other nodes see it.
    pub(super) fn peer(&self) -> Peer {
        Peer::Node(self.node.clone())
    }

    pub(super) fn has(&self, client: usize) -> bool {
        self.room.clients.contains_key(&ClientKey(client))
    }
}

/// Shards of nodes, whose control messages arrive in order and whose packets arrive at once.
pub(super) struct Cluster {
    pub nodes: Vec<Shard>,
    pub now: Instant,
    pub in_flight: VecDeque<(usize, usize, PeerMessage)>,
    /// Packets that crossed between nodes.
    pub relayed: usize,
    /// Packets that crossed between shards of a node.
    pub relayed_inside: usize,
    /// The number of the next packet.
    pub sequence: u16,
}

impl Cluster {
    /// Nodes of one shard.
    pub(super) fn new(names: &[&str]) -> Self {
        Self::of_shards(&names.iter().map(|name| (*name, 1)).collect::<Vec<_>>())
    }

    /// Nodes of so many shards, one after the other.
    pub(super) fn of_shards(nodes: &[(&str, u8)]) -> Self {
        Self {
            nodes: nodes.iter().flat_map(|(name, count)| (0..*count).map(|index| Shard::new(name, index))).collect(),
            now: Instant::now(),
            in_flight: VecDeque::new(),
            relayed: 0,
            relayed_inside: 0,
            sequence: 0,
        }
    }

    pub(super) fn join(&mut self, at: usize, client: usize, name: &str) {
        self.come_in(at, client, joining(name, name, None));
        self.connect(at, client);
    }

    /// A new stay whose connection does not stand yet.
    pub(super) fn come_in(&mut self, at: usize, client: usize, joining: Joining) {
        self.open(at);
        self.nodes[at].room.join(ClientKey(client), joining);
        self.settle();
    }

    fn open(&mut self, at: usize) {
        if std::mem::replace(&mut self.nodes[at].is_open, true) {
            return;
        }
        let shard = &mut self.nodes[at];
        let opened = PeerMessage::RoomOpened { room: shard.room.id.clone() };
        let known = if shard.index > 0 { vec![Peer::Shard(0)] } else { shard.peer_rooms.clone() };
        for peer in known {
            shard.room.peer_opened(&peer);
        }
        self.tell_those_concerned(at, &opened);
    }

    /// A home tells other nodes, another shard its home.
    fn tell_those_concerned(&mut self, at: usize, message: &PeerMessage) {
        let shard = &self.nodes[at];
        let is_told = |other: &Shard| other.index == 0 && ((other.node == shard.node) == (shard.index > 0));
        let told: Vec<usize> = (0..self.nodes.len()).filter(|to| is_told(&self.nodes[*to])).collect();
        self.in_flight.extend(told.into_iter().map(|to| (at, to, message.clone())));
    }

    fn drop_if_empty(&mut self, at: usize) {
        let shard = &mut self.nodes[at];
        if !shard.is_open || !shard.room.is_empty() {
            return;
        }
        shard.room.release_streams(&mut shard.streams);
        shard.room = Shard::empty_room(&shard.node, shard.index);
        shard.is_open = false;
        let closed = PeerMessage::RoomClosed { room: shard.room.id.clone() };
        self.tell_those_concerned(at, &closed);
    }

    /// One does not reach another any more: of two nodes the one alone notices, of two shards of a node both.
    pub(super) fn lose(&mut self, at: usize, other: usize) {
        let [one, two] = [&self.nodes[at], &self.nodes[other]];
        match (one.node == two.node, one.index, two.index) {
            (true, 0, 1..) => self.break_between(at, other),
            (true, 1.., 0) => self.break_between(other, at),
            (false, 0, 0) => {
                let lost = two.peer();
                self.nodes[at].peer_rooms.retain(|peer| *peer != lost);
                self.nodes[at].room.peer_closed(&lost, LeaveReason::NodeLost);
                self.settle();
            }
            // Nothing leads from the one to the other.
            _ => {}
        }
    }

    /// The way between two shards of a node broke: both forget what the other told, and begin anew.
    fn break_between(&mut self, home: usize, branch: usize) {
        let (seen_home, seen_branch) = (Peer::Shard(self.nodes[home].index), Peer::Shard(self.nodes[branch].index));
        self.nodes[home].room.peer_closed(&seen_branch, LeaveReason::NodeLost);
        self.nodes[branch].room.peer_closed(&seen_home, LeaveReason::NodeLost);
        self.in_flight.retain(|(from, to, _)| ![(home, branch), (branch, home)].contains(&(*from, *to)));
        if self.nodes[branch].is_open {
            self.nodes[branch].room.peer_opened(&seen_home);
            let opened = PeerMessage::RoomOpened { room: self.nodes[branch].room.id.clone() };
            self.in_flight.push_back((branch, home, opened));
        }
        self.settle();
    }

    pub(super) fn connect(&mut self, at: usize, client: usize) {
        self.nodes[at].room.connected(ClientKey(client), self.now);
        self.settle();
    }

    /// One node, where ana publishes a voice and a picture in these layers and ben is ready to receive them.
    pub(super) fn ana_and_ben(rids: &[&str]) -> Self {
        let mut cluster = Self::new(&["panama"]);
        cluster.join(0, 1, "ana");
        cluster.publish(0, 1, rids);
        cluster.join(0, 2, "ben");
        cluster.offer_slots(0, 2, 1);
        cluster
    }

    pub(super) fn publish(&mut self, at: usize, client: usize, rids: &[&str]) {
        let rids = rids.iter().map(|rid| Rid::from(*rid)).collect();
        let voice = OfferedTrack { mid: VOICE, source: Source::Microphone, muted: false, rids: Vec::new() };
        let picture = OfferedTrack { mid: PICTURE, source: Source::Camera, muted: false, rids };
        self.nodes[at].room.set_tracks(ClientKey(client), &[voice, picture]);
        self.settle();
    }

    pub(super) fn offer_slots(&mut self, at: usize, client: usize, video: usize) {
        let slot = |index: usize, kind, codecs: &[Codec]| SlotOffer {
            mid: mid(&format!("{kind:?}{index}")),
            kind,
            codecs: codecs.to_vec(),
            first_sequence: 1,
        };
        let mut slots: Vec<SlotOffer> = (0..3).map(|i| slot(i, Kind::Audio, &[Codec::Opus])).collect();
        slots.extend((0..video).map(|i| slot(i, Kind::Video, &[Codec::Vp8])));
        self.nodes[at].room.set_slots(ClientKey(client), &slots);
        self.settle();
    }

    /// Lets time pass and everything arrive.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            self.settle();
        }
    }

    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            for at in 0..self.nodes.len() {
                self.tick(at);
            }
            let Some((from, to, message)) = self.in_flight.pop_front() else { return };
            self.arrive(from, to, message);
        }
        panic!("messages go round and round");
    }

    fn tick(&mut self, at: usize) {
        let Shard { room, streams, is_open, .. } = &mut self.nodes[at];
        if !*is_open {
            return;
        }
        room.tick(self.now, streams);
        for effect in self.nodes[at].room.take_effects() {
            self.carry_out(at, effect);
        }
        self.drop_if_empty(at);
    }

    fn arrive(&mut self, from: usize, to: usize, message: PeerMessage) {
        let peer = self.nodes[from].seen_by(&self.nodes[to].node);
        let has_room = matches!(message, PeerMessage::RoomOpened { .. } | PeerMessage::Participant { .. });
        match &peer {
            Peer::Node(_) => {
                let known = &mut self.nodes[to].peer_rooms;
                if has_room || matches!(message, PeerMessage::RoomClosed { .. }) {
                    known.retain(|other| *other != peer);
                }
                known.extend(has_room.then(|| peer.clone()));
            }
            Peer::Shard(_) if matches!(message, PeerMessage::RoomOpened { .. }) => self.open(to),
            Peer::Shard(_) => {}
        }
        if self.nodes[to].is_open {
            self.nodes[to].room.peer_message(&peer, message, self.now);
        }
    }

    pub(super) fn carry_out(&mut self, at: usize, effect: Effect) {
        let shard = &mut self.nodes[at];
        match effect {
            Effect::Signal { client, message } => shard.signals.push((client, message)),
            Effect::Peer { peer, message } => {
                let to = self.position(at, &peer);
                self.in_flight.push_back((at, to, message));
            }
            Effect::Keyframe { client, rid, .. } => shard.keyframes_asked.push((client, rid)),
            Effect::Ended { client, reason } => shard.ended.push((client, reason)),
            Effect::Bandwidth { .. } => {}
        }
    }

    /// Which shard a peer of another is: of another node its home.
    fn position(&self, of: usize, peer: &Peer) -> usize {
        let (node, index) = match peer {
            Peer::Node(node) => (node, 0),
            Peer::Shard(index) => (&self.nodes[of].node, *index),
        };
        self.nodes.iter().position(|shard| shard.node == *node && shard.index == index).expect("a peer is somewhere")
    }

    /// A packet of a client goes to everyone it goes to, over peers too.
    pub(super) fn send(&mut self, at: usize, client: usize, mid: Mid, rid: Option<&str>, packet: &MediaPacket) {
        self.send_row(at, client, mid, rid, &[Arc::new(packet.clone())]);
    }

    /// Packets that came in a row.
    pub(super) fn send_row(
        &mut self,
        at: usize,
        client: usize,
        mid: Mid,
        rid: Option<&str>,
        packets: &[Arc<MediaPacket>],
    ) {
        let now = self.now;
        let mut on_their_way = VecDeque::new();
        let Shard { room, received, .. } = &mut self.nodes[at];
        let source = (ClientKey(client), mid, rid.map(Rid::from));
        let _ = room.packets_from_client(source, packets, now, |delivery| match delivery {
            Delivery::Client { client, outgoing } => received.push(Received::new(client, &outgoing)),
            Delivery::Peer { peer, stream, packet } => {
                on_their_way.push_back((at, peer.clone(), stream, packet.clone()));
            }
        });
        // What is restored from a packet goes before it, and is another.
        let mut seen = Vec::new();
        while let Some((from, peer, stream, packet)) = on_their_way.pop_front() {
            let to = self.position(from, &peer);
            let passage = (to, packet.sequence);
            assert!(to != at && !seen.contains(&passage), "a packet came to a shard twice");
            seen.push(passage);
            match &peer {
                Peer::Node(_) => self.relayed += 1,
                Peer::Shard(_) => self.relayed_inside += 1,
            }
            let peer = self.nodes[from].seen_by(&self.nodes[to].node);
            let Shard { room, received, .. } = &mut self.nodes[to];
            let _ = room.packet_from_peer(&peer, stream, &Arc::new(packet), now, |delivery| match delivery {
                Delivery::Client { client, outgoing } => received.push(Received::new(client, &outgoing)),
                Delivery::Peer { peer, stream, packet } => {
                    on_their_way.push_back((to, peer.clone(), stream, packet.clone()));
                }
            });
        }
    }

    /// A second of 50 voice packets and 30 pictures a layer, every one a keyframe if one was asked for.
    pub(super) fn second_of_media(&mut self, at: usize, client: usize, rids: &[&str]) {
        let first = self.sequence;
        self.sequence = first.wrapping_add(50);
        for step in 0..50u16 {
            let sequence = first.wrapping_add(step);
            self.send(at, client, VOICE, None, &voice(sequence));
            if step % 5 < 3 {
                for (layer, rid) in rids.iter().enumerate() {
                    let packet = picture(sequence, 150 << layer, step == 0 || step == 25);
                    self.send(at, client, PICTURE, Some(*rid), &packet);
                }
            }
            self.now += Duration::from_millis(20);
            self.settle();
        }
    }

    pub(super) fn got(&self, at: usize, client: usize, slot: &str) -> usize {
        self.received(at, client, slot).count()
    }

    /// What a client has got in a slot.
    pub(super) fn received(&self, at: usize, client: usize, slot: &str) -> impl Iterator<Item = &Received> {
        let wanted = (ClientKey(client), mid(slot));
        self.nodes[at].received.iter().filter(move |received| (received.client, received.mid) == wanted)
    }

    pub(super) fn last_slots(&self, at: usize, client: usize) -> Vec<isthmus_protocol::signal::Slot> {
        let slots = |(to, message): &(ClientKey, ServerMessage)| match message {
            ServerMessage::Slots { slots } if *to == ClientKey(client) => Some(slots.clone()),
            _ => None,
        };
        self.nodes[at].signals.iter().rev().find_map(slots).unwrap_or_default()
    }

    pub(super) fn roster(&self, at: usize) -> Vec<String> {
        let mut roster: Vec<String> = self.nodes[at].room.members.keys().map(ToString::to_string).collect();
        roster.sort_unstable();
        roster
    }
}

/// The stay `id` of `identity`, which takes the place of another.
pub(super) fn joining(id: &str, identity: &str, replaces: Option<&str>) -> Joining {
    let valid = |id: &str| id.parse().expect("a valid name");
    let replaces = replaces.map(valid);
    Joining { participant: valid(id), identity: identity.into(), name: identity.into(), grants: BOTH, replaces }
}

pub(super) fn media(sequence: u16, codec: Codec, payload: Vec<u8>) -> MediaPacket {
    MediaPacket {
        sequence,
        timestamp: u32::from(sequence) * 960,
        marker: true,
        codec,
        level: None,
        orientation: None,
        captured_us: None,
        descriptor: None,
        payload: Arc::from(payload),
    }
}

pub(super) fn voice(sequence: u16) -> MediaPacket {
    let level = Some(AudioLevel { below_full_scale: 20, voice: true });
    MediaPacket { level, ..media(sequence, Codec::Opus, vec![0; 80]) }
}

/// A packet of a voice that brings the one before along (RFC 2198).
pub(super) fn redundant_voice(sequence: u16) -> MediaPacket {
    let offset_and_length = (960u32 << 10 | 3).to_be_bytes();
    let header = [0x80 | 0x6f, offset_and_length[1], offset_and_length[2], offset_and_length[3], 0x6f];
    let payload = [&header[..], b"old", b"new"].concat();
    MediaPacket { codec: Codec::Red, payload: payload.into(), ..voice(sequence) }
}

/// A VP8 packet of `height` lines.
pub(super) fn picture(sequence: u16, height: u16, key: bool) -> MediaPacket {
    let [low, high] = height.to_le_bytes();
    let mut payload =
        vec![0x90, 0x80, 0x81, sequence as u8, u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, low, high];
    payload.resize(usize::from(height) * 3, 0);
    media(sequence, Codec::Vp8, payload)
}
