//! What other nodes say of the room, and what is asked of them.

use std::time::{Duration, Instant};

use isthmus_protocol::{
    NodeId, ParticipantId, TrackId,
    peer::{LayerDemand, LayerRate, PeerMessage},
    signal::{Kind, LeaveReason, Participant},
};
use str0m::media::Rid;

use super::{
    At, Effect, Incoming, Room, StreamIds, TrackKey,
    publications::{Origin, layers_message},
};

/// A publisher goes on sending a layer for this long after the last one who showed it, so that a resized tile does
/// not have to wait for an encoder to start.
const LAYER_LINGER: Duration = Duration::from_secs(5);
/// No layer takes more, in kbit/s, whatever a peer says.
const MAX_TOLD_KBPS: u32 = 100_000;
/// A layer's rate is told to peers again when it changed by more than this share of itself.
const RATE_CHANGE: u32 = 5;

impl Room {
    /// `node` has someone in the room: it is told who is here.
    pub fn peer_opened(&mut self, node: &NodeId) {
        if !self.peers.insert(node.clone()) {
            return;
        }
        let known = self.clients.values().filter(|id| !self.stands_by(id));
        let here: Vec<Participant> = known.filter_map(|id| self.describe(id)).collect();
        for participant in here {
            let message = PeerMessage::Participant { room: self.id.clone(), participant, replaces: None };
            self.effects.push(Effect::Peer { node: node.clone(), message });
        }
        for (_, publication) in &mut self.publications {
            publication.told_rates.clear();
        }
    }

    /// `node` has nobody in the room any more, or cannot be reached: its participants are gone with it.
    pub fn peer_closed(&mut self, node: &NodeId, reason: LeaveReason) {
        if !self.peers.remove(node) {
            return;
        }
        let gone: Vec<ParticipantId> =
            self.members.iter().filter(|(_, m)| m.at == At::Node(node.clone())).map(|(id, _)| id.clone()).collect();
        for participant in gone {
            self.remove_member(&participant, reason);
        }
        for (_, publication) in &mut self.publications {
            publication.peers_use.retain(|(peer, _)| peer != node);
            for layer in &mut publication.layers {
                layer.peers.retain(|(peer, _)| peer != node);
            }
        }
    }

    /// The stays that other nodes carry.
    pub fn remote_participants(&self) -> impl Iterator<Item = &ParticipantId> {
        self.members.iter().filter(|(_, member)| matches!(member.at, At::Node(_))).map(|(id, _)| id)
    }

    /// The nodes that have someone in the room.
    pub fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.iter()
    }

    /// Something that `node` says of this room.
    pub fn peer_message(&mut self, node: &NodeId, message: PeerMessage, now: Instant) {
        match message {
            PeerMessage::RoomOpened { .. } => self.peer_opened(node),
            PeerMessage::RoomClosed { .. } => self.peer_closed(node, LeaveReason::Left),
            PeerMessage::Participant { participant, replaces, .. } => {
                self.peer_opened(node);
                self.upsert_remote(node, &participant, replaces);
                self.last_tick = None;
            }
            PeerMessage::Left { participant, reason, .. } => {
                if self.members.get(&participant).is_some_and(|member| member.at == At::Node(node.clone())) {
                    self.remove_member(&participant, reason);
                }
            }
            // Media is for nodes that have someone in the room.
            PeerMessage::Demand { .. } | PeerMessage::Keyframe { .. } if !self.peers.contains(node) => {}
            PeerMessage::Demand { track, layers, useful, .. } => {
                self.demanded(node, &track, &layers, usize::from(useful), now);
            }
            PeerMessage::Keyframe { track, rid, .. } => self.keyframe_demanded(&track, rid.as_deref(), now),
            PeerMessage::Rates { track, layers, .. } => self.rates_told(node, &track, &layers),
        }
    }

    fn demanded(&mut self, node: &NodeId, track: &TrackId, demands: &[LayerDemand], useful: usize, now: Instant) {
        let Some(key) = self.track_by_id(track) else { return };
        let publication = &mut self.publications[key.0];
        if !matches!(publication.origin, Origin::Client { .. }) {
            return;
        }
        publication.peers_use.retain(|(peer, _)| peer != node);
        publication.peers_use.push((node.clone(), useful));
        let mut fresh = Vec::new();
        for (index, layer) in publication.layers.iter_mut().enumerate() {
            let rid = layer.rid.map(|rid| rid.to_string());
            let had = layer.peers.iter().any(|(peer, _)| peer == node);
            layer.peers.retain(|(peer, _)| peer != node);
            if let Some(demand) = demands.iter().find(|demand| demand.rid == rid) {
                layer.peers.push((node.clone(), demand.stream));
                if !had {
                    fresh.push(index);
                }
            }
        }
        self.last_tick = None;
        if self.publications[key.0].kind() == Kind::Video {
            for layer in fresh {
                self.request_keyframe(key, layer, now);
            }
        }
    }

    fn keyframe_demanded(&mut self, track: &TrackId, rid: Option<&str>, now: Instant) {
        let Some(key) = self.track_by_id(track) else { return };
        let rid = rid.map(Rid::from);
        if let Some(layer) = self.publications[key.0].layer_of(rid) {
            self.request_keyframe(key, layer, now);
        }
    }

    fn rates_told(&mut self, node: &NodeId, track: &TrackId, rates: &[LayerRate]) {
        let Some(key) = self.track_by_id(track) else { return };
        let publication = &mut self.publications[key.0];
        if publication.origin != (Origin::Node { node: node.clone() }) {
            return;
        }
        for (layer, told) in publication.layers.iter_mut().zip(rates) {
            layer.told_kbps = told.kbps.min(MAX_TOLD_KBPS);
            layer.height = told.height.or(layer.height);
        }
    }

    /// Asks peers for what is watched here and no more, tells publishers here what is watched anywhere, and tells
    /// peers what the layers take.
    pub(super) fn settle_demands(&mut self, now: Instant, streams: &mut StreamIds) {
        let keys: Vec<TrackKey> = self.publications.iter().map(|(key, _)| TrackKey(key)).collect();
        for track in keys {
            let useful = self.useful_layers(track);
            if matches!(self.publications[track.0].origin, Origin::Node { .. }) {
                let in_use = self.layers_in_use(track);
                self.demand_from_peer(track, &in_use, useful, streams);
            } else {
                self.tell_publisher(track, useful, now);
                self.tell_rates(track, now);
            }
        }
    }

    /// For each layer, whether a slot here shows it or is about to.
    fn layers_in_use(&self, track: TrackKey) -> Vec<bool> {
        let publication = &self.publications[track.0];
        let mut in_use = vec![false; publication.layers.len()];
        for subscriber in &publication.subscribers {
            // A peer sends a keyframe with what is asked for, which whoever is not connected yet could not take.
            let receiver = self.receivers.get(&subscriber.client).filter(|receiver| receiver.is_connected());
            let slot = receiver.and_then(|r| r.slots(subscriber.kind).get(subscriber.slot));
            for layer in slot.into_iter().flat_map(|slot| [slot.target, slot.current]).flatten() {
                in_use[layer] = true;
            }
        }
        if publication.kind() == Kind::Audio {
            // Voices come in always, so that the loudest can be told; their own node sends only its loudest.
            // A muted one too: it costs nothing, and is there with the first word after.
            in_use[0] = self.receivers.values().any(|receiver| !receiver.audio.is_empty());
        }
        in_use
    }

    /// How many layers, from the lowest on, someone here could use at the size they show the track.
    fn useful_layers(&self, track: TrackKey) -> usize {
        let publication = &self.publications[track.0];
        let slots = publication.subscribers.iter().filter_map(|subscriber| {
            self.receivers.get(&subscriber.client)?.slots(subscriber.kind).get(subscriber.slot)
        });
        slots.map(|slot| publication.layers_up_to(slot.height)).max().unwrap_or(0)
    }

    fn demand_from_peer(&mut self, track: TrackKey, in_use: &[bool], useful: usize, streams: &mut StreamIds) {
        let publication = &mut self.publications[track.0];
        let Origin::Node { node } = publication.origin.clone() else { return };
        let mut changed = std::mem::replace(&mut publication.told_useful, useful) != useful;
        for (index, (layer, wanted)) in publication.layers.iter_mut().zip(in_use).enumerate() {
            match (layer.incoming, wanted) {
                (None, true) => {
                    let stream = streams.allocate(&self.id);
                    layer.incoming = Some(stream);
                    self.incoming.insert(stream, Incoming { node: node.clone(), track, layer: index });
                    changed = true;
                }
                (Some(stream), false) => {
                    layer.incoming = None;
                    self.incoming.remove(&stream);
                    streams.release(stream);
                    changed = true;
                }
                _ => {}
            }
        }
        if !changed {
            return;
        }
        let demand = |layer: &super::publications::LayerState| {
            layer.incoming.map(|stream| LayerDemand { rid: layer.rid.map(|rid| rid.to_string()), stream })
        };
        let message = PeerMessage::Demand {
            room: self.id.clone(),
            track: publication.id.clone(),
            layers: publication.layers.iter().filter_map(demand).collect(),
            useful: useful as u8,
        };
        self.effects.push(Effect::Peer { node, message });
    }

    /// Which layers a publisher here should send: all up to the highest that anyone has a use for. Lower ones stay, for
    /// those whose path gets worse.
    fn tell_publisher(&mut self, track: TrackKey, useful_here: usize, now: Instant) {
        let publication = &mut self.publications[track.0];
        let used_by_peers = publication.peers_use.iter().map(|(_, useful)| *useful).max().unwrap_or(0);
        for layer in publication.layers.iter_mut().take(useful_here.max(used_by_peers)) {
            layer.last_used = Some(now);
        }
        let lingers = |at: &Instant| now.saturating_duration_since(*at) < LAYER_LINGER;
        let shown: Vec<usize> = publication
            .layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| layer.last_used.as_ref().is_some_and(lingers))
            .map(|(index, _)| index)
            .collect();
        if publication.last_packet.is_none() || publication.told_layers.as_ref() == Some(&shown) {
            return;
        }
        let first = publication.told_layers.is_none();
        let message = layers_message(publication, &shown);
        let Origin::Client { client, .. } = publication.origin else { return };
        // A publisher begins with every layer; it need not be told so, nor to stop before anyone had time to come.
        if first && shown.is_empty() {
            publication.layers.iter_mut().for_each(|layer| layer.last_used = Some(now));
            return;
        }
        publication.told_layers = Some(shown);
        if let Some(message) = message {
            self.signal(client, message);
        }
    }

    /// Peers choose pictures and their layers by what they take; they see only those that they asked for.
    fn tell_rates(&mut self, track: TrackKey, now: Instant) {
        let publication = &mut self.publications[track.0];
        if publication.kind() == Kind::Audio || self.peers.is_empty() {
            return;
        }
        let rates: Vec<LayerRate> = publication
            .layers
            .iter_mut()
            .map(|layer| LayerRate { kbps: layer.rate.kbps(now), height: layer.height })
            .collect();
        let differs = |(old, new): (&LayerRate, &LayerRate)| {
            old.height != new.height || old.kbps.abs_diff(new.kbps) > old.kbps.max(new.kbps) / RATE_CHANGE
        };
        let told = &publication.told_rates;
        if told.len() == rates.len() && !told.iter().zip(&rates).any(differs) {
            return;
        }
        publication.told_rates.clone_from(&rates);
        let message = PeerMessage::Rates { room: self.id.clone(), track: publication.id.clone(), layers: rates };
        self.tell_peers(&message);
    }
}
