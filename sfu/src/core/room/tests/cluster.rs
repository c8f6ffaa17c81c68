//! Nodes with one room each, on a virtual clock: their messages and packets are carried by the test.

use std::{collections::VecDeque, sync::Arc};

use isthmus_protocol::{
    media::{AudioLevel, MediaPacket},
    token::Grants,
};

use super::super::*;

pub(super) const VOICE: Mid = Mid::from_array(*b"0               ");
pub(super) const PICTURE: Mid = Mid::from_array(*b"1               ");
pub(super) const BOTH: Grants = Grants { publish: true, subscribe: true };
pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];

pub(super) fn mid(text: &str) -> Mid {
    Mid::from(text)
}

/// A node with one room, and what its clients have got.
pub(super) struct Node {
    pub id: NodeId,
    pub room: Room,
    pub streams: StreamIds,
    pub signals: Vec<(ClientKey, ServerMessage)>,
    pub keyframes_asked: Vec<(ClientKey, Option<Rid>)>,
    pub received: Vec<(ClientKey, Mid, u64)>,
    pub ended: Vec<(ClientKey, LeaveReason)>,
}

/// Nodes whose control messages arrive in order and whose packets arrive at once.
pub(super) struct Cluster {
    pub nodes: Vec<Node>,
    pub now: Instant,
    pub in_flight: VecDeque<(NodeId, NodeId, PeerMessage)>,
    pub relayed: usize,
    /// The number of the next packet.
    pub sequence: u16,
}

impl Cluster {
    pub(super) fn new(names: &[&str]) -> Self {
        let node = |name: &&str| {
            let id: NodeId = name.parse().expect("a valid name");
            let here = Here { pop: name.parse().expect("a valid name"), node: id.clone() };
            Node {
                id,
                room: Room::new("demo".parse().expect("a valid name"), here),
                streams: StreamIds::new(0),
                signals: Vec::new(),
                keyframes_asked: Vec::new(),
                received: Vec::new(),
                ended: Vec::new(),
            }
        };
        Self {
            nodes: names.iter().map(node).collect(),
            now: Instant::now(),
            in_flight: VecDeque::new(),
            relayed: 0,
            sequence: 0,
        }
    }

    pub(super) fn join(&mut self, at: usize, client: usize, name: &str) {
        self.come_in(at, client, joining(name, name, None));
        self.connect(at, client);
    }

    /// A new stay whose connection does not stand yet.
    pub(super) fn come_in(&mut self, at: usize, client: usize, joining: Joining) {
        let first = self.nodes[at].room.is_empty();
        self.nodes[at].room.join(ClientKey(client), joining);
        if first {
            let from = self.nodes[at].id.clone();
            let room = self.nodes[at].room.id.clone();
            let others: Vec<NodeId> = self.nodes.iter().map(|n| n.id.clone()).filter(|id| *id != from).collect();
            for to in others {
                self.in_flight.push_back((from.clone(), to, PeerMessage::RoomOpened { room: room.clone() }));
            }
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
        for _ in 0..20 {
            for at in 0..self.nodes.len() {
                let Node { room, streams, .. } = &mut self.nodes[at];
                room.tick(self.now, streams);
                for effect in self.nodes[at].room.take_effects() {
                    self.carry_out(at, effect);
                }
            }
            let Some((from, to, message)) = self.in_flight.pop_front() else { return };
            let Some(at) = self.nodes.iter().position(|node| node.id == to) else { continue };
            if !self.nodes[at].room.is_empty() {
                self.nodes[at].room.peer_message(&from, message, self.now);
            }
            if !self.in_flight.is_empty() {
                self.settle();
            }
        }
    }

    pub(super) fn carry_out(&mut self, at: usize, effect: Effect) {
        let node = &mut self.nodes[at];
        match effect {
            Effect::Signal { client, message } => node.signals.push((client, message)),
            Effect::Peer { node: to, message } => self.in_flight.push_back((node.id.clone(), to, message)),
            Effect::Keyframe { client, rid, .. } => node.keyframes_asked.push((client, rid)),
            Effect::Ended { client, reason } => node.ended.push((client, reason)),
            Effect::Bandwidth { .. } => {}
        }
    }

    /// A packet of a client goes to everyone it goes to, over peers too.
    pub(super) fn send(&mut self, at: usize, client: usize, mid: Mid, rid: Option<&str>, packet: &MediaPacket) {
        let now = self.now;
        let mut over_relay = Vec::new();
        let Node { room, received, id, .. } = &mut self.nodes[at];
        let from = id.clone();
        let source = (ClientKey(client), mid, rid.map(Rid::from));
        let _ = room.packet_from_client(source, packet, now, |delivery| match delivery {
            Delivery::Client { client, outgoing } => received.push((client, outgoing.mid, outgoing.numbers.sequence)),
            Delivery::Peer { node, stream } => over_relay.push((node.clone(), stream)),
        });
        for (to, stream) in over_relay {
            self.relayed += 1;
            let Some(node) = self.nodes.iter_mut().find(|node| node.id == to) else { continue };
            let Node { room, received, .. } = node;
            let _ = room.packet_from_peer(&from, stream, packet, now, |delivery| match delivery {
                Delivery::Client { client, outgoing } => {
                    received.push((client, outgoing.mid, outgoing.numbers.sequence));
                }
                Delivery::Peer { .. } => panic!("a relayed packet was relayed again"),
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
        let wanted = (ClientKey(client), mid(slot));
        self.nodes[at].received.iter().filter(|(client, mid, _)| (*client, *mid) == wanted).count()
    }

    pub(super) fn last_slots(&self, at: usize, client: usize) -> Vec<isthmus_protocol::signal::Slot> {
        let slots = |(to, message): &(ClientKey, ServerMessage)| match message {
            ServerMessage::Slots { slots } if *to == ClientKey(client) => Some(slots.clone()),
            _ => None,
        };
        self.nodes[at].signals.iter().rev().find_map(slots).unwrap_or_default()
    }

    pub(super) fn roster(&self, at: usize) -> Vec<String> {
        self.nodes[at].room.members.keys().map(ToString::to_string).collect()
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

/// A VP8 packet of `height` lines.
pub(super) fn picture(sequence: u16, height: u16, key: bool) -> MediaPacket {
    let [low, high] = height.to_le_bytes();
    let mut payload =
        vec![0x90, 0x80, 0x81, sequence as u8, u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, low, high];
    payload.resize(usize::from(height) * 3, 0);
    media(sequence, Codec::Vp8, payload)
}
