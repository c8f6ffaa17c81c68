//! The packet path: from a publisher or a peer to every slot and peer that wants the packet.

use std::time::Instant;

use isthmus_protocol::{NodeId, media::MediaPacket, peer::StreamId, signal::Kind};
use str0m::media::{Mid, Rid};

use super::{ClientKey, Effect, Room, TrackKey, publications::Origin, receivers::Slot};
use crate::core::{keyframes, rewrite::Numbers};

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
    /// To a peer node.
    Peer {
        /// Which.
        node: &'a NodeId,
        /// Under the number it asked for.
        stream: StreamId,
    },
}

/// A packet with the numbers it has in one slot.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The slot's m-line.
    pub mid: Mid,
    /// Its numbers there.
    pub numbers: Numbers,
    /// The rest of it.
    pub packet: &'a MediaPacket,
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
    /// A packet that a client here published. `deliver` is called for everyone it goes to.
    pub fn packet_from_client(
        &mut self,
        (client, mid, rid): (ClientKey, Mid, Option<Rid>),
        packet: &MediaPacket,
        now: Instant,
        deliver: impl FnMut(Delivery<'_>),
    ) -> Result<(), Unwanted> {
        let track = self.track_of(client, mid).ok_or(Unwanted::UnknownTrack)?;
        let publication = &self.publications[track.0];
        let layer = publication.layer_of(rid).ok_or(Unwanted::UnknownTrack)?;
        if publication.muted {
            return Err(Unwanted::Muted);
        }
        self.forward(track, layer, packet, now, deliver);
        Ok(())
    }

    /// A packet that a peer relays.
    pub fn packet_from_peer(
        &mut self,
        node: &NodeId,
        stream: StreamId,
        packet: &MediaPacket,
        now: Instant,
        deliver: impl FnMut(Delivery<'_>),
    ) -> Result<(), Unwanted> {
        let incoming = self.incoming.get(&stream).filter(|i| i.node == *node).ok_or(Unwanted::UnknownStream)?;
        let (track, layer) = (incoming.track, incoming.layer);
        self.forward(track, layer, packet, now, deliver);
        Ok(())
    }

    fn forward(
        &mut self,
        track: TrackKey,
        layer_index: usize,
        packet: &MediaPacket,
        now: Instant,
        mut deliver: impl FnMut(Delivery<'_>),
    ) {
        let Self { publications, receivers, members, speakers, local_speakers, last_tick, .. } = self;
        let publication = &mut publications[track.0];
        let kind = publication.kind();
        let Some(member) = members.get_mut(&publication.participant) else { return };
        let captured = member.clock.map(packet.captured_us, now);
        if publication.codec != Some(packet.codec) || publication.last_packet.is_none() {
            // The first packet, or another codec: slots may have to be told that they cannot have it.
            publication.codec = Some(packet.codec);
            *last_tick = None;
        }
        publication.last_packet = Some(now);
        let is_local = matches!(publication.origin, Origin::Client { .. });
        let starts_keyframe = kind == Kind::Video && keyframes::starts_keyframe(packet.codec, &packet.payload);
        let layer = &mut publication.layers[layer_index];
        layer.rate.add(packet.payload.len(), now);
        if starts_keyframe {
            layer.height = keyframes::height(packet.codec, &packet.payload).or(layer.height);
        }
        if kind == Kind::Audio {
            speakers.heard(track, packet.level, now);
            if is_local {
                local_speakers.heard(track, packet.level, now);
            }
        }
        if is_local && (kind == Kind::Video || local_speakers.is_audible(track)) {
            for (node, stream) in &layer.peers {
                deliver(Delivery::Peer { node, stream: *stream });
            }
        }
        for subscriber in &publication.subscribers {
            let Some(receiver) = receivers.get_mut(&subscriber.client) else { continue };
            let Some(slot) = receiver.slots_mut(subscriber.kind).get_mut(subscriber.slot) else { continue };
            let switched = slot.current != Some(layer_index);
            let mid = slot.mid;
            let Some(numbers) = number(slot, layer_index, starts_keyframe, kind, packet, captured) else { continue };
            if switched && kind == Kind::Video {
                receiver.changed = true;
                *last_tick = None;
            }
            let outgoing = Outgoing { mid, numbers, packet, captured };
            deliver(Delivery::Client { client: subscriber.client, outgoing });
        }
    }

    /// Asks the publisher of `track`, here or elsewhere, for a keyframe of one layer, unless it was asked just now.
    pub(super) fn request_keyframe(&mut self, track: TrackKey, layer: usize, now: Instant) {
        let Some(publication) = self.publications.get_mut(track.0) else { return };
        let Some(state) = publication.layers.get_mut(layer) else { return };
        if !state.requests.allow(now) {
            return;
        }
        let effect = match &publication.origin {
            Origin::Client { client, mid } => Effect::Keyframe { client: *client, mid: *mid, rid: state.rid },
            Origin::Node { node } => Effect::Peer {
                node: node.clone(),
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

/// The packet's numbers in `slot`; none if the slot does not take it. A slot changes to its target layer at the first
/// keyframe of it, and goes on with the layer it has until then.
fn number(
    slot: &mut Slot,
    layer: usize,
    starts_keyframe: bool,
    kind: Kind,
    packet: &MediaPacket,
    captured: Instant,
) -> Option<Numbers> {
    if slot.current != Some(layer) {
        let may_switch = slot.target == Some(layer) && (kind == Kind::Audio || starts_keyframe);
        if !may_switch || !slot.takes(packet.codec) {
            return None;
        }
        slot.current = Some(layer);
        slot.rewriter.switch();
    }
    slot.rewriter.rewrite(packet, captured)
}
