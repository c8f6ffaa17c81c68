//! What a room's peers say of it, what is asked of them, and what is passed on between them.

use std::time::{Duration, Instant};

use isthmus_protocol::{
    ParticipantId, TrackId,
    peer::{LayerDemand, LayerRate, PeerMessage},
    signal::{Kind, LeaveReason, MAX_SPEAKERS, Participant},
};
use slab::Slab;
use str0m::media::Rid;

use super::{
    Effect, Incoming, Peer, Room, StreamIds, TrackKey, is_passed_on,
    publications::{MAX_LAYERS, Origin, PeerDemand, Publication, layers_message},
};
use crate::core::{
    speakers::{Loudest, Voices},
    svc::{descriptor::MAX_TARGETS, ladder::Rungs},
};

/// A publisher goes on sending a layer for this long after the last one who showed it, so that a resized tile does
/// not have to wait for an encoder to start.
const LAYER_LINGER: Duration = Duration::from_secs(5);
/// No layer takes more, in kbit/s, whatever a peer says.
const MAX_TOLD_KBPS: u32 = 100_000;
/// A layer's rate is told to peers again when it changed by more than this share of itself.
const RATE_CHANGE: u32 = 5;

/// The loudest of the voices that go to peers. Each is sent the loudest few of what is passed on to it, whatever it has
/// itself, so that nobody misses a voice; other nodes are all sent the same.
#[derive(Debug, Default)]
pub(super) struct Audiences(Vec<(Peer, Loudest<TrackKey>)>);

impl Audiences {
    /// A peer, or a second node, which hears what the first does.
    fn open(&mut self, peer: &Peer) {
        if self.of(peer).is_none() {
            self.0.push((peer.clone(), Loudest::new(MAX_SPEAKERS)));
        }
    }

    /// Nobody is left of those that hear what `peer` hears.
    fn close(&mut self, peer: &Peer) {
        self.0.retain(|(other, _)| !hear_alike(other, peer));
    }

    fn of(&self, peer: &Peer) -> Option<&Loudest<TrackKey>> {
        self.0.iter().find(|(other, _)| hear_alike(other, peer)).map(|(_, loudest)| loudest)
    }

    /// A voice that comes from `from` is heard.
    pub(super) fn admit(&mut self, track: TrackKey, from: Option<&Peer>) {
        for (_, loudest) in self.0.iter_mut().filter(|(peer, _)| is_passed_on(from, peer)) {
            loudest.admit(track);
        }
    }

    pub(super) fn remove(&mut self, track: TrackKey) {
        self.0.iter_mut().for_each(|(_, loudest)| loudest.remove(track));
    }

    pub(super) fn hears(&self, peer: &Peer, track: TrackKey) -> bool {
        self.of(peer).is_some_and(|loudest| loudest.contains(track))
    }

    pub(super) fn choose(&mut self, voices: &Voices<TrackKey>, publications: &Slab<Publication>, now: Instant) {
        for (peer, loudest) in &mut self.0 {
            let is_meant = |track: TrackKey| is_passed_on(publications[track.0].origin.peer(), peer);
            loudest.choose(voices, now, is_meant);
        }
    }
}

/// Whether two peers are sent the same voices.
fn hear_alike(one: &Peer, other: &Peer) -> bool {
    matches!((one, other), (Peer::Node(_), Peer::Node(_))) || one == other
}

impl Room {
    /// `peer` has someone in the room: it is told who is here, and who is behind the peers that it hears of from here.
    pub fn peer_opened(&mut self, peer: &Peer) {
        if self.peers.contains_key(peer) {
            return;
        }
        self.peers.insert(peer.clone(), 0);
        self.audiences.open(peer);
        let known = self.members.iter().filter(|(id, m)| is_passed_on(m.at.peer(), peer) && !self.stands_by(id));
        let known: Vec<Participant> = known.filter_map(|(id, _)| self.describe(id)).collect();
        for participant in known {
            let message = PeerMessage::Participant { room: self.id.clone(), participant, replaces: None };
            self.effects.push(Effect::Peer { peer: peer.clone(), message });
        }
        for (_, publication) in &mut self.publications {
            publication.told_rates.clear();
        }
    }

    /// `peer` has nobody in the room any more, or cannot be reached: its participants are gone with it.
    pub fn peer_closed(&mut self, peer: &Peer, reason: LeaveReason) {
        if self.peers.remove(peer).is_none() {
            return;
        }
        if !self.peers.keys().any(|other| hear_alike(other, peer)) {
            self.audiences.close(peer);
        }
        let is_gone = |member: &super::Member| member.at.peer() == Some(peer);
        let gone: Vec<ParticipantId> =
            self.members.iter().filter(|(_, member)| is_gone(member)).map(|(id, _)| id.clone()).collect();
        for participant in gone {
            self.remove_member(&participant, reason);
        }
        for (_, publication) in &mut self.publications {
            publication.peers_use.retain(|(other, _)| other != peer);
            for layer in &mut publication.layers {
                layer.peers.retain(|demand| demand.peer != *peer);
            }
        }
    }

    /// The stays that peers carry.
    pub fn remote_participants(&self) -> impl Iterator<Item = &ParticipantId> {
        self.members.iter().filter(|(_, member)| member.at.peer().is_some()).map(|(id, _)| id)
    }

    /// Who else has someone in the room.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.keys()
    }

    /// Something that `peer` says of this room.
    pub fn peer_message(&mut self, peer: &Peer, message: PeerMessage, now: Instant) {
        match message {
            PeerMessage::RoomOpened { .. } => self.peer_opened(peer),
            PeerMessage::RoomClosed { .. } => self.peer_closed(peer, LeaveReason::Left),
            PeerMessage::Participant { participant, replaces, .. } => {
                self.peer_opened(peer);
                self.upsert_remote(peer, &participant, replaces);
                self.last_tick = None;
            }
            PeerMessage::Left { participant, reason, .. } => {
                if self.members.get(&participant).is_some_and(|member| member.at.peer() == Some(peer)) {
                    self.remove_member(&participant, reason);
                }
            }
            // Media is for those that have someone in the room.
            PeerMessage::Demand { .. } | PeerMessage::Keyframe { .. } if !self.peers.contains_key(peer) => {}
            PeerMessage::Demand { track, layers, useful, .. } => {
                self.demanded(peer, &track, &layers, usize::from(useful), now);
            }
            PeerMessage::Keyframe { track, rid, .. } => self.keyframe_demanded(peer, &track, rid.as_deref(), now),
            PeerMessage::Rates { track, layers, .. } => self.rates_told(peer, &track, &layers),
        }
    }

    /// The track of that name, if `peer` hears of it from here.
    fn track_for(&self, peer: &Peer, track: &TrackId) -> Option<TrackKey> {
        let key = self.track_by_id(track)?;
        is_passed_on(self.publications[key.0].origin.peer(), peer).then_some(key)
    }

    fn demanded(&mut self, peer: &Peer, track: &TrackId, demands: &[LayerDemand], useful: usize, now: Instant) {
        let Some(key) = self.track_for(peer, track) else { return };
        let publication = &mut self.publications[key.0];
        publication.peers_use.retain(|(other, _)| other != peer);
        publication.peers_use.push((peer.clone(), useful));
        let is_here = publication.origin.peer().is_none();
        let mut fresh = Vec::new();
        for (index, layer) in publication.layers.iter_mut().enumerate() {
            let rid = layer.rid.map(|rid| rid.to_string());
            let place = layer.peers.iter().position(|demand| demand.peer == *peer);
            let demand = demands.iter().find(|demand| demand.rid == rid);
            let rungs = |demand: &LayerDemand| demand.rungs.map_or(Rungs::ALL, Rungs);
            match (place, demand) {
                (Some(place), Some(demand)) => {
                    let known = &mut layer.peers[place];
                    (known.stream, known.rungs) = (demand.stream, rungs(demand));
                }
                (Some(place), None) => drop(layer.peers.swap_remove(place)),
                (None, Some(demand)) => {
                    layer.peers.push(PeerDemand::new(peer.clone(), demand.stream, rungs(demand)));
                    // What does not come here yet is demanded at the next tick, and begins with a keyframe.
                    if is_here || layer.incoming.is_some() {
                        fresh.push(index);
                    }
                }
                (None, None) => {}
            }
        }
        self.last_tick = None;
        if self.publications[key.0].kind() == Kind::Video {
            for layer in fresh {
                self.request_keyframe(key, layer, now);
            }
        }
    }

    fn keyframe_demanded(&mut self, peer: &Peer, track: &TrackId, rid: Option<&str>, now: Instant) {
        let Some(key) = self.track_for(peer, track) else { return };
        let rid = rid.map(Rid::from);
        if let Some(layer) = self.publications[key.0].layer_of(rid) {
            self.request_keyframe(key, layer, now);
        }
    }

    fn rates_told(&mut self, peer: &Peer, track: &TrackId, rates: &[LayerRate]) {
        let Some(key) = self.track_by_id(track) else { return };
        let publication = &mut self.publications[key.0];
        if publication.origin.peer() != Some(peer) {
            return;
        }
        for (layer, told) in publication.layers.iter_mut().zip(rates) {
            layer.told_kbps = told.kbps.min(MAX_TOLD_KBPS);
            layer.told_rungs = told.rungs.iter().take(MAX_TARGETS).map(|kbps| *kbps.min(&MAX_TOLD_KBPS)).collect();
            layer.height = told.height.or(layer.height);
        }
    }

    /// Asks peers for what is watched here or behind other peers and no more, tells publishers here what is watched
    /// anywhere, and tells peers what the layers take.
    pub(super) fn settle_demands(&mut self, now: Instant, streams: &mut StreamIds) {
        let someone_listens = self.receivers.values().any(|receiver| !receiver.audio.is_empty());
        let keys: Vec<TrackKey> = self.publications.iter().map(|(key, _)| TrackKey(key)).collect();
        for track in keys {
            let publication = &self.publications[track.0];
            let (is_voice, is_here) = (publication.kind() == Kind::Audio, publication.origin.peer().is_none());
            match (is_voice, is_here) {
                // Voices come in always, so that the loudest can be told; each peer sends only its loudest. A muted one too:
                // it costs nothing, and is there with the first word after.
                (true, false) => {
                    let wanted = someone_listens || !publication.layers[0].peers.is_empty();
                    let rungs = if wanted { Rungs::ALL } else { Rungs::default() };
                    self.demand_from_peer(track, [rungs; MAX_LAYERS], usize::from(wanted), streams);
                }
                (false, false) => {
                    let (in_use, useful) = (self.layers_in_use(track), self.useful_layers(track));
                    self.demand_from_peer(track, in_use, useful, streams);
                    self.tell_rates(track, now);
                }
                (false, true) => {
                    self.tell_publisher(track, self.useful_layers(track), now);
                    self.tell_rates(track, now);
                }
                (true, true) => {}
            }
        }
    }

    /// For each layer of a picture, what of it a slot here shows or is about to, or a peer wants.
    fn layers_in_use(&self, track: TrackKey) -> [Rungs; MAX_LAYERS] {
        let publication = &self.publications[track.0];
        let mut in_use = [Rungs::default(); MAX_LAYERS];
        for (in_use, layer) in in_use.iter_mut().zip(&publication.layers) {
            layer.peers.iter().for_each(|demand| in_use.join(demand.rungs));
        }
        for subscriber in &publication.subscribers {
            // A peer sends a keyframe with what is asked for, which whoever is not connected yet could not take.
            let receiver = self.receivers.get(&subscriber.client).filter(|receiver| receiver.is_connected());
            let slot = receiver.and_then(|r| r.slots(subscriber.kind).get(subscriber.slot));
            let Some(slot) = slot else { continue };
            for (layer, in_use) in in_use.iter_mut().enumerate() {
                in_use.join(slot.uses(layer));
            }
        }
        // What can be chosen of it is known with its first keyframe.
        for (in_use, layer) in in_use.iter_mut().zip(&publication.layers) {
            if layer.ladder.is_none() && *in_use != Rungs::default() {
                *in_use = Rungs::ALL;
            }
        }
        in_use
    }

    /// How many layers, from the lowest on, someone here or behind a peer could use at the size they show the track.
    fn useful_layers(&self, track: TrackKey) -> usize {
        let publication = &self.publications[track.0];
        let slots = publication.subscribers.iter().filter_map(|subscriber| {
            self.receivers.get(&subscriber.client)?.slots(subscriber.kind).get(subscriber.slot)
        });
        let here = slots.map(|slot| publication.layers_up_to(slot.height)).max();
        let behind_peers = publication.peers_use.iter().map(|(_, useful)| *useful).max();
        here.max(behind_peers).unwrap_or(0)
    }

    fn demand_from_peer(
        &mut self,
        track: TrackKey,
        in_use: [Rungs; MAX_LAYERS],
        useful: usize,
        streams: &mut StreamIds,
    ) {
        let publication = &mut self.publications[track.0];
        let Origin::Peer(peer) = &publication.origin else { return };
        let mut changed = std::mem::replace(&mut publication.told_useful, useful) != useful;
        for (index, (layer, rungs)) in publication.layers.iter_mut().zip(in_use).enumerate() {
            changed |= std::mem::replace(&mut layer.asked, rungs) != rungs;
            match (layer.incoming, rungs != Rungs::default()) {
                (None, true) => {
                    let stream = streams.allocate(&self.id);
                    layer.incoming = Some(stream);
                    self.incoming.insert(stream, Incoming { peer: peer.clone(), track, layer: index });
                }
                (Some(stream), false) => {
                    layer.incoming = None;
                    self.incoming.remove(&stream);
                    streams.release(stream);
                }
                _ => {}
            }
        }
        if !changed {
            return;
        }
        let demand = |layer: &super::publications::LayerState| {
            let rungs = (layer.asked != Rungs::ALL).then_some(layer.asked.0);
            layer.incoming.map(|stream| LayerDemand { rid: layer.rid.map(|rid| rid.to_string()), stream, rungs })
        };
        let message = PeerMessage::Demand {
            room: self.id.clone(),
            track: publication.id.clone(),
            layers: publication.layers.iter().filter_map(demand).collect(),
            useful: useful as u8,
        };
        self.effects.push(Effect::Peer { peer: peer.clone(), message });
    }

    /// Which layers a publisher here should send: all up to the highest that anyone has a use for. Lower ones stay, for
    /// those whose path gets worse.
    fn tell_publisher(&mut self, track: TrackKey, useful: usize, now: Instant) {
        let publication = &mut self.publications[track.0];
        for layer in publication.layers.iter_mut().take(useful) {
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
        let from = publication.origin.peer().cloned();
        if !self.peers.keys().any(|peer| is_passed_on(from.as_ref(), peer)) {
            return;
        }
        let rate = |layer: &mut super::publications::LayerState| LayerRate {
            kbps: layer.rate.kbps(now).max(layer.told_kbps),
            height: layer.height,
            rungs: layer.rung_kbps(now),
        };
        let rates: Vec<LayerRate> = publication.layers.iter_mut().map(rate).collect();
        let is_far = |(old, new): (&u32, &u32)| old.abs_diff(*new) > *old.max(new) / RATE_CHANGE;
        let differs = |(old, new): (&LayerRate, &LayerRate)| {
            let have_other_rungs = old.rungs.len() != new.rungs.len() || old.rungs.iter().zip(&new.rungs).any(is_far);
            old.height != new.height || is_far((&old.kbps, &new.kbps)) || have_other_rungs
        };
        let told = &publication.told_rates;
        if told.len() == rates.len() && !told.iter().zip(&rates).any(differs) {
            return;
        }
        publication.told_rates.clone_from(&rates);
        let message = PeerMessage::Rates { room: self.id.clone(), track: publication.id.clone(), layers: rates };
        self.tell_peers_of(from.as_ref(), &message);
    }
}
