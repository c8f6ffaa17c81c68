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
use crate::core::{
    keyframes,
    rewrite::Numbers,
    svc::{descriptor::Frame, ladder::Rung},
};

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

/// A packet that its publication has taken note of, for those who receive it.
#[derive(Debug)]
pub(super) struct Noted {
    packet: Arc<MediaPacket>,
    captured: Instant,
    /// If the stream says what depends on what.
    frame: Option<Frame>,
    /// A slot may change to its layer with it.
    opens: bool,
}

impl Room {
    /// Packets that a client here published one after the other on one layer. `deliver` is called for everyone they go to: for one
    /// receiver after the other with all of them, since what is known of a receiver is far away in memory. The number of times that
    /// one came too late for a slot, which has gone on to another source since.
    pub fn packets_from_client<'a>(
        &mut self,
        (client, mid, rid): (ClientKey, Mid, Option<Rid>),
        packets: impl IntoIterator<Item = &'a Arc<MediaPacket>>,
        now: Instant,
        mut deliver: impl FnMut(Delivery<'_>),
    ) -> Result<usize, Unwanted> {
        let track = self.track_of(client, mid).ok_or(Unwanted::UnknownTrack)?;
        let publication = &self.publications[track.0];
        let layer = publication.layer_of(rid).ok_or(Unwanted::UnknownTrack)?;
        if publication.muted {
            return Err(Unwanted::Muted);
        }
        let mut late = 0;
        for packet in packets {
            let state = &self.publications[track.0].layers[layer];
            // It was restored from the one after it, and comes by itself now.
            if packet.codec == Codec::Red && state.arrivals.has(packet.sequence) {
                continue;
            }
            if let Some(before) = state.restored(packet) {
                late += self.note(track, layer, &Arc::new(before), now, &mut deliver);
            }
            late += self.note(track, layer, packet, now, &mut deliver);
        }
        Ok(late + self.fan_out(track, layer, &mut deliver))
    }

    /// A packet that a peer relays, otherwise as [`packets_from_client`](Self::packets_from_client).
    pub fn packet_from_peer(
        &mut self,
        peer: &Peer,
        stream: StreamId,
        packet: &Arc<MediaPacket>,
        now: Instant,
        mut deliver: impl FnMut(Delivery<'_>),
    ) -> Result<usize, Unwanted> {
        let incoming = self.incoming.get(&stream).filter(|i| i.peer == *peer).ok_or(Unwanted::UnknownStream)?;
        let (track, layer) = (incoming.track, incoming.layer);
        let late = self.note(track, layer, packet, now, &mut deliver);
        Ok(late + self.fan_out(track, layer, &mut deliver))
    }

    /// What a packet means for its track; it goes to peers at once and to clients with [`fan_out`](Self::fan_out). Those noted before
    /// it go out first if what they are part of may change with it; for how many slots they came too late.
    fn note(
        &mut self,
        track: TrackKey,
        layer_index: usize,
        packet: &Arc<MediaPacket>,
        now: Instant,
        deliver: &mut impl FnMut(Delivery<'_>),
    ) -> usize {
        let late = if packet.descriptor.is_some() { self.fan_out(track, layer_index, deliver) } else { 0 };
        let Self { publications, members, voices, speakers, audiences, last_tick, noted, .. } = self;
        let publication = &mut publications[track.0];
        let kind = publication.kind();
        let Some(member) = members.get_mut(&publication.participant) else { return late };
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
        for demand in peers {
            let is_heard = kind == Kind::Video || audiences.hears(&demand.peer, track);
            if let Some(packet) = demand.passes(packet, is_heard, frame.zip(ladder.as_deref())) {
                deliver(Delivery::Peer { peer: &demand.peer, stream: demand.stream, packet: &packet });
            }
        }
        // A slot may switch where a picture begins, unless what belongs to it has gone by already.
        let opens = kind == Kind::Audio || (starts_keyframe && is_newest);
        noted.push(Noted { packet: packet.clone(), captured, frame, opens });
        late
    }

    /// Hands what was noted of a layer to those who receive it. For how many slots a packet came too late.
    fn fan_out(&mut self, track: TrackKey, layer: usize, deliver: &mut impl FnMut(Delivery<'_>)) -> usize {
        let Self { publications, receivers, noted, last_tick, .. } = self;
        let publication = &publications[track.0];
        let ladder = publication.layers[layer].ladder.as_deref();
        let mut late = 0;
        for subscriber in &publication.subscribers {
            let Some(receiver) = receivers.get_mut(&subscriber.client).filter(|receiver| receiver.is_connected())
            else {
                continue;
            };
            let Some(slot) = receiver.slots_mut(subscriber.kind).get_mut(subscriber.slot) else { continue };
            let mut has_changed = false;
            for Noted { packet, captured, frame, opens } in &*noted {
                let switched = slot.current != Some(layer);
                if !takes(slot, layer, *opens, packet) {
                    continue;
                }
                let Some(marker) = slot.selects(packet, layer, frame.zip(ladder)) else { continue };
                let Some(numbers) = slot.rewriter.rewrite(packet, *captured) else {
                    late += 1;
                    continue;
                };
                has_changed |= switched && subscriber.kind == Kind::Video;
                let outgoing = Outgoing { mid: slot.mid, numbers, marker, packet, captured: *captured };
                deliver(Delivery::Client { client: subscriber.client, outgoing });
            }
            if has_changed {
                receiver.changed = true;
                *last_tick = None;
            }
        }
        noted.clear();
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
