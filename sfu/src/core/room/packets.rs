//! The packet path: from a publisher or a peer to every slot and peer that wants the packet.

use std::{sync::Arc, time::Instant};

use isthmus_protocol::{
    media::{Codec, MediaPacket},
    peer::StreamId,
    signal::Kind,
};
use str0m::media::{Mid, Rid};

use super::{
    ClientKey, Effect, Peer, Room, TrackKey,
    publications::{LayerState, Origin, Publication, Subscriber},
    slots::Slot,
};
use crate::core::{keyframes, rewrite::Numbers, svc::ladder::Rung};

/// A packet that is to go out.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// To a client, in one of its slots.
    Client {
        /// Whom.
        client: ClientKey,
        /// As what.
        outgoing: Outgoing<'a>,
    },
    /// To a peer.
    Peer {
        /// Which.
        peer: &'a Peer,
        /// Under the number it asked for.
        stream: StreamId,
        /// As it has it.
        packet: &'a MediaPacket,
    },
}

/// A packet with the numbers it has in one slot.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The slot's m-line.
    pub mid: Mid,
    /// Its numbers there.
    pub numbers: Numbers,
    /// RTP's marker bit: where the picture ends for this receiver.
    pub marker: bool,
    /// The rest of it.
    pub packet: &'a Arc<MediaPacket>,
    /// When it was captured, on this node's clock.
    pub captured: Instant,
}

/// Why a packet goes nowhere. Each is a reason of `isthmus_drops_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// Its m-line or rid is not of a track that was announced.
    UnknownTrack,
    /// Its track is muted.
    Muted,
    /// Its relay stream is not one that was asked for, or not any more.
    UnknownStream,
}

impl Unwanted {
    /// The label value.
    pub const fn reason(self) -> &'static str {
        match self {
            Unwanted::UnknownTrack => "unknown_track",
            Unwanted::Muted => "muted",
            Unwanted::UnknownStream => "unknown_stream",
        }
    }
}

impl Room {
    /// A packet that a client here published. `deliver` is called for everyone it goes to. The number of slots for which it
    /// came too late: they have gone on to another source since.
    pub fn packet_from_client(
        &mut self,
        (client, mid, rid): (ClientKey, Mid, Option<Rid>),
        packet: &Arc<MediaPacket>,
        now: Instant,
        mut deliver: impl FnMut(Delivery<'_>),
    ) -> Result<usize, Unwanted> {
        let track = self.track_of(client, mid).ok_or(Unwanted::UnknownTrack)?;
        let publication = &self.publications[track.0];
        let layer = publication.layer_of(rid).ok_or(Unwanted::UnknownTrack)?;
        if publication.muted {
            return Err(Unwanted::Muted);
        }
        let state = &publication.layers[layer];
        // It was restored from the one after it, and comes by itself now.
        if packet.codec == Codec::Red && state.arrivals.has(packet.sequence) {
            return Ok(0);
        }
        let mut late = 0;
        if let Some(before) = state.restored(packet) {
            late += self.forward(track, layer, &Arc::new(before), now, &mut deliver);
        }
        late += self.forward(track, layer, packet, now, &mut deliver);
        Ok(late)
    }

    /// A packet that a peer relays.
    pub fn packet_from_peer(
        &mut self,
        peer: &Peer,
        stream: StreamId,
        packet: &Arc<MediaPacket>,
        now: Instant,
        deliver: impl FnMut(Delivery<'_>),
    ) -> Result<usize, Unwanted> {
        let incoming = self.incoming.get(&stream).filter(|i| i.peer == *peer).ok_or(Unwanted::UnknownStream)?;
        let (track, layer) = (incoming.track, incoming.layer);
        Ok(self.forward(track, layer, packet, now, deliver))
    }

    fn forward(
        &mut self,
        track: TrackKey,
        layer_index: usize,
        packet: &Arc<MediaPacket>,
        now: Instant,
        mut deliver: impl FnMut(Delivery<'_>),
    ) -> usize {
        let Self { publications, receivers, members, voices, speakers, audiences, last_tick, .. } = self;
        let publication = &mut publications[track.0];
        let kind = publication.kind();
        let Some(member) = members.get_mut(&publication.participant) else { return 0 };
        let captured = member.clock.map(packet.captured_us, now);
        // Slots that cannot have its codec are told at the next tick; only the first packet cannot wait for that.
        publication.codec = Some(packet.codec);
        if publication.last_packet.replace(now).is_none() {
            *last_tick = None;
        }
        let layer = &mut publication.layers[layer_index];
        layer.rate.add(packet.payload.len(), now);
        let frame = layer.frame(packet, now);
        let starts_keyframe = match frame {
            Some(frame) => frame.starts_keyframe(),
            None => kind == Kind::Video && keyframes::starts_keyframe(packet.codec, &packet.payload),
        };
        let is_newest = layer.arrivals.note(packet.sequence);
        if kind == Kind::Video && publication.origin.peer().is_none() {
            layer.gaps.note(packet.sequence, starts_keyframe, now);
        }
        if starts_keyframe {
            layer.requests.satisfied();
            let said = layer.ladder.as_ref().and_then(|ladder| ladder.height(Rung::MAX));
            layer.height = said.or(keyframes::height(packet.codec, &packet.payload)).or(layer.height);
        }
        if kind == Kind::Audio && member.stands_by_for.is_none() {
            voices.heard(track, packet.level, now);
            speakers.admit(track);
            audiences.admit(track, publication.origin.peer());
        }
        let LayerState { peers, ladder, .. } = layer;
        let frame = frame.zip(ladder.as_deref());
        for demand in peers {
            let is_heard = kind == Kind::Video || audiences.hears(&demand.peer, track);
            if let Some(packet) = demand.passes(packet, is_heard, frame) {
                deliver(Delivery::Peer { peer: &demand.peer, stream: demand.stream, packet: &packet });
            }
        }
        // A slot may switch where a picture begins, unless what belongs to it has gone by already.
        let opens = kind == Kind::Audio || (starts_keyframe && is_newest);
        let mut late = 0;
        for subscriber in &publication.subscribers {
            let Some(receiver) = receivers.get_mut(&subscriber.client).filter(|receiver| receiver.is_connected())
            else {
                continue;
            };
            let Some(slot) = receiver.slots_mut(subscriber.kind).get_mut(subscriber.slot) else { continue };
            let switched = slot.current != Some(layer_index);
            let mid = slot.mid;
            if !takes(slot, layer_index, opens, packet) {
                continue;
            }
            let Some(marker) = slot.selects(packet, layer_index, frame) else { continue };
            let Some(numbers) = slot.rewriter.rewrite(packet, captured) else {
                late += 1;
                continue;
            };
            if switched && kind == Kind::Video {
                receiver.changed = true;
                *last_tick = None;
            }
            let outgoing = Outgoing { mid, numbers, marker, packet, captured };
            deliver(Delivery::Client { client: subscriber.client, outgoing });
        }
        late
    }

    /// Asks the publisher of `track`, here or elsewhere, for a keyframe of one layer; if it was asked just now, a little
    /// later.
    pub(super) fn request_keyframe(&mut self, track: TrackKey, layer: usize, now: Instant) {
        let publication = self.publications.get_mut(track.0);
        let Some(state) = publication.and_then(|publication| publication.layers.get_mut(layer)) else { return };
        if state.requests.wanted(now) {
            self.send_keyframe_request(track, layer);
        }
    }

    /// Asks publishers here for a keyframe where what was lost on the way from them does not come any more: those who watch would
    /// wait for it for longer.
    pub(super) fn make_up_for_gaps(&mut self, now: Instant) {
        let mut broken = Vec::new();
        for (key, publication) in &mut self.publications {
            let Publication { layers, subscribers, .. } = publication;
            for (index, layer) in layers.iter_mut().enumerate() {
                let shows = |subscriber: &Subscriber| {
                    let slots = self.receivers.get(&subscriber.client).map(|receiver| receiver.slots(subscriber.kind));
                    slots.and_then(|slots| slots.get(subscriber.slot)).is_some_and(|slot| slot.current == Some(index))
                };
                if layer.gaps.give_up(now) && (!layer.peers.is_empty() || subscribers.iter().any(shows)) {
                    broken.push((TrackKey(key), index));
                }
            }
        }
        for (track, layer) in broken {
            self.request_keyframe(track, layer, now);
        }
    }

    /// Sends requests that came too soon after others.
    pub(super) fn send_waiting_keyframe_requests(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (key, publication) in &mut self.publications {
            let layers = publication.layers.iter_mut().enumerate();
            due.extend(
                layers.filter_map(|(layer, state)| state.requests.is_due(now).then_some((TrackKey(key), layer))),
            );
        }
        for (track, layer) in due {
            self.send_keyframe_request(track, layer);
        }
    }

    fn send_keyframe_request(&mut self, track: TrackKey, layer: usize) {
        let publication = &self.publications[track.0];
        let state = &publication.layers[layer];
        let effect = match &publication.origin {
            Origin::Client { client, mid } => Effect::Keyframe { client: *client, mid: *mid, rid: state.rid },
            Origin::Peer(peer) => Effect::Peer {
                peer: peer.clone(),
                message: isthmus_protocol::peer::PeerMessage::Keyframe {
                    room: self.id.clone(),
                    track: publication.id.clone(),
                    rid: state.rid.map(|rid| rid.to_string()),
                },
            },
        };
        self.effects.push(effect);
    }
}

/// Whether `slot` takes a packet of `layer`. It changes to its target layer at the first packet that `opens` it, and goes on
/// with the layer it has until then.
fn takes(slot: &mut Slot, layer: usize, opens: bool, packet: &MediaPacket) -> bool {
    if slot.current == Some(layer) {
        return true;
    }
    if slot.target.map(|target| target.layer) != Some(layer) || !opens || !slot.takes(packet.codec) {
        return false;
    }
    slot.current = Some(layer);
    slot.switch();
    true
}
