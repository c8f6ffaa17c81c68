//! Tracks, of participants here and elsewhere.

use std::{borrow::Cow, time::Instant};

use isthmus_protocol::{
    ParticipantId, TrackId,
    media::{Codec, MediaPacket},
    peer::{LayerRate, StreamId},
    red,
    signal::{Kind, ServerMessage, Source, Track},
};
use str0m::media::{Mid, Rid};

use super::{At, ClientKey, Peer, Room, TrackKey};
use crate::core::{
    arrivals::Arrivals,
    bitrate::RateMeter,
    gaps::Gaps,
    keyframes::RequestThrottle,
    omissions::Thinned,
    svc::{
        descriptor::{self, Frame},
        ladder::{Ladder, Rung, Rungs},
    },
};

/// The most layers of one track.
pub(super) const MAX_LAYERS: usize = 4;
/// Layers whose picture size nobody has said yet are taken to be of these heights, lowest first.
const ASSUMED_HEIGHTS: [u16; MAX_LAYERS] = [180, 360, 720, 1080];
/// The most tracks of one participant.
pub(super) const MAX_TRACKS: usize = 8;

/// A track that a client here offers.
#[derive(Debug, Clone)]
pub struct OfferedTrack {
    /// Its m-line.
    pub mid: Mid,
    /// What it is.
    pub source: Source,
    /// Whether it starts muted.
    pub muted: bool,
    /// Its simulcast layers, lowest first; empty for a single one.
    pub rids: Vec<Rid>,
}

#[derive(Debug)]
pub(super) struct Publication {
    pub id: TrackId,
    pub participant: ParticipantId,
    pub source: Source,
    pub muted: bool,
    pub origin: Origin,
    pub layers: Vec<LayerState>,
    /// Receivers here that have it in a slot.
    pub subscribers: Vec<Subscriber>,
    /// What its packets were encoded as last.
    pub codec: Option<Codec>,
    /// When a packet came last.
    pub last_packet: Option<Instant>,
    /// The rids its publisher was last told to send, so that it is told only of changes.
    pub told_layers: Option<Vec<usize>>,
    /// How many of its layers each peer could use that it is passed on to.
    pub peers_use: Vec<(Peer, usize)>,
    /// How many layers its peer was last told could be used here. For tracks of peers.
    pub told_useful: usize,
    /// What peers were last told of its layers.
    pub told_rates: Vec<LayerRate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Client { client: ClientKey, mid: Mid },
    Peer(Peer),
}

impl Origin {
    pub(super) fn peer(&self) -> Option<&Peer> {
        match self {
            Origin::Client { .. } => None,
            Origin::Peer(peer) => Some(peer),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct LayerState {
    pub rid: Option<Rid>,
    pub rate: RateMeter,
    /// In pixels, once a keyframe has said it.
    pub height: Option<u16>,
    /// What it takes, in kbit/s, as its peer says. For tracks of peers.
    pub told_kbps: u32,
    /// What can be chosen of it, if it is scalable.
    pub ladder: Option<Box<Ladder>>,
    /// What each of the ladder's rungs takes, as its peer says, also before the ladder is known. For tracks of peers.
    pub told_rungs: Vec<u32>,
    /// Peers that want it.
    pub peers: Vec<PeerDemand>,
    /// The number under which it comes. For tracks of peers, while someone here or behind another peer watches it.
    pub incoming: Option<StreamId>,
    /// What of it was asked for last. For tracks of peers.
    pub asked: Rungs,
    pub requests: RequestThrottle,
    /// When someone last had it in use.
    pub last_used: Option<Instant>,
    pub arrivals: Arrivals,
    /// Of pictures that are published here.
    pub gaps: Gaps,
}

/// What a peer wants of a layer.
#[derive(Debug)]
pub(super) struct PeerDemand {
    pub peer: Peer,
    /// The number it wants it under.
    pub stream: StreamId,
    /// What it wants of a scalable one.
    pub rungs: Rungs,
    thinned: Thinned,
}

impl PeerDemand {
    pub(super) fn new(peer: Peer, stream: StreamId, rungs: Rungs) -> Self {
        Self { peer, stream, rungs, thinned: Thinned::default() }
    }

    /// The packet as the peer is to have it; none if it is not to, such as of a voice that is not heard there now. What is left out
    /// leaves no gap in its numbers.
    pub(super) fn passes<'a>(
        &mut self,
        packet: &'a MediaPacket,
        is_heard: bool,
        frame: Option<(Frame, &Ladder)>,
    ) -> Option<Cow<'a, MediaPacket>> {
        let is_part = frame.is_none_or(|(frame, ladder)| frame.part_of & ladder.targets(self.rungs) != 0);
        if !is_heard || !is_part {
            self.thinned.leave_out(packet.sequence);
            return None;
        }
        let sequence = self.thinned.keep(packet.sequence)?;
        if sequence == packet.sequence {
            return Some(Cow::Borrowed(packet));
        }
        Some(Cow::Owned(MediaPacket { sequence, ..packet.clone() }))
    }
}

impl LayerState {
    /// The frame that a packet is of, if the stream says what depends on what. To be called with each packet once: what
    /// each rung takes is measured by it.
    pub(super) fn frame(&mut self, packet: &MediaPacket, now: Instant) -> Option<Frame> {
        let known = self.ladder.as_ref().map(|ladder| ladder.structure());
        let (frame, structure) = descriptor::read(packet.descriptor.as_deref()?, known).ok()?;
        match (&mut self.ladder, structure) {
            (Some(ladder), Some(structure)) => ladder.restructure(structure),
            (None, Some(structure)) => self.ladder = Some(Box::new(Ladder::new(structure))),
            (_, None) => {}
        }
        self.ladder.as_mut()?.count(&frame, packet.payload.len(), now);
        Some(frame)
    }

    /// What each rung takes, in kbit/s, the lowest first; of what does not come here what its peer says. None if the layer
    /// is not scalable.
    pub(super) fn rung_kbps(&mut self, now: Instant) -> Vec<u32> {
        let mut kbps = self.ladder.as_mut().map(|ladder| ladder.kbps(now)).unwrap_or_default();
        for (kbps, told) in kbps.iter_mut().zip(&self.told_rungs) {
            *kbps = (*kbps).max(*told);
        }
        kbps
    }

    /// The packet of a voice before this one, if it has not come and this one brings it along: what is lost on the publisher's way
    /// is then not added to what is lost on the way to those who hear it.
    pub(super) fn restored(&self, packet: &MediaPacket) -> Option<MediaPacket> {
        if self.arrivals.lacks(packet.sequence.wrapping_sub(1)) { red::predecessor(packet) } else { None }
    }
}

/// A slot that shows a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    pub client: ClientKey,
    pub kind: Kind,
    pub slot: usize,
}

impl Publication {
    pub(super) fn kind(&self) -> Kind {
        self.source.kind()
    }

    pub(super) fn describe(&self) -> Track {
        Track {
            id: self.id.clone(),
            source: self.source,
            muted: self.muted,
            rids: self.layers.iter().filter_map(|layer| layer.rid.map(|rid| rid.to_string())).collect(),
        }
    }

    /// The height of a layer's picture in pixels, as far as is known: a single layer is taken as large.
    pub(super) fn layer_height(&self, index: usize) -> u16 {
        let assumed = match self.layers.len() {
            1 => ASSUMED_HEIGHTS[2],
            _ => ASSUMED_HEIGHTS[index.min(ASSUMED_HEIGHTS.len() - 1)],
        };
        self.layers[index].height.unwrap_or(assumed)
    }

    /// The height of what is sent of a scalable layer, as [`layer_height`](Self::layer_height).
    pub(super) fn rung_height(&self, index: usize, rung: Rung) -> u16 {
        let said = self.layers[index].ladder.as_ref().and_then(|ladder| {
            // Where the sizes are not said each is taken as half as high as the next.
            let smaller = ladder.spatial(Rung::MAX) - ladder.spatial(rung);
            ladder.height(rung).or(self.layer_height(index).checked_shr(smaller.into()))
        });
        said.unwrap_or_else(|| self.layer_height(index))
    }

    /// How many layers, from the lowest on, are of use to someone who shows the track `height` pixels high.
    pub(super) fn layers_up_to(&self, height: u16) -> usize {
        let enough = (0..self.layers.len()).find(|index| self.layer_height(*index) >= height);
        enough.map_or(self.layers.len(), |index| index + 1)
    }

    pub(super) fn layer_of(&self, rid: Option<Rid>) -> Option<usize> {
        self.layers.iter().position(|layer| layer.rid == rid)
    }
}

impl Room {
    /// What `client` publishes now, after an offer: tracks that are no longer in the list are gone.
    pub fn set_tracks(&mut self, client: ClientKey, offered: &[OfferedTrack]) {
        let Some(participant) = self.clients.get(&client).cloned() else { return };
        let Some(member) = self.members.get(&participant) else { return };
        let before = member.tracks.clone();
        let is_offered = |publication: &Publication| {
            offered.iter().any(|t| publication.origin == Origin::Client { client, mid: t.mid })
        };
        let (kept, gone): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|track| is_offered(&self.publications[track.0]));
        let mut tracks = kept.clone();
        let mut changed = !gone.is_empty();
        for offer in offered.iter().take(MAX_TRACKS) {
            let origin = Origin::Client { client, mid: offer.mid };
            if kept.iter().any(|track| self.publications[track.0].origin == origin) {
                continue;
            }
            let Ok(id) = TrackId::of(&participant, &offer.mid) else { continue };
            tracks.push(self.add_publication(id, &participant, offer.source, offer.muted, origin, &offer.rids));
            changed = true;
        }
        for track in gone {
            self.remove_publication(track);
        }
        if let Some(member) = self.members.get_mut(&participant) {
            member.tracks = tracks;
        }
        if changed {
            self.announce(&participant, None);
        }
    }

    /// `client` muted or unmuted its track on `mid`.
    pub fn mute(&mut self, client: ClientKey, mid: Mid, muted: bool) {
        let Some(track) = self.track_of(client, mid) else { return };
        let publication = &mut self.publications[track.0];
        if publication.muted == muted {
            return;
        }
        let participant = publication.participant.clone();
        self.set_muted(track, muted);
        self.announce(&participant, None);
    }

    fn set_muted(&mut self, track: TrackKey, muted: bool) {
        let publication = &mut self.publications[track.0];
        if std::mem::replace(&mut publication.muted, muted) == muted {
            return;
        }
        if muted {
            self.silence(track);
            return;
        }
        for subscriber in publication.subscribers.clone() {
            if let Some(slot) = self.slot_mut(subscriber) {
                slot.begin_anew(subscriber.kind);
            }
        }
        self.last_tick = None;
    }

    /// Takes a track off the speakers.
    fn silence(&mut self, track: TrackKey) {
        self.voices.remove(track);
        self.speakers.remove(track);
        self.audiences.remove(track);
    }

    /// The tracks of a peer's participant, as that peer describes them.
    pub(super) fn set_remote_tracks(&mut self, peer: &Peer, participant: &ParticipantId, described: &[Track]) {
        let described = &described[..described.len().min(MAX_TRACKS)];
        let Some(member) = self.members.get(participant) else { return };
        let (mut tracks, gone): (Vec<_>, Vec<_>) =
            member.tracks.iter().partition(|t| described.iter().any(|d| d.id == self.publications[t.0].id));
        for track in gone {
            self.remove_publication(track);
        }
        for described in described {
            if let Some(track) = tracks.iter().find(|t| self.publications[t.0].id == described.id) {
                self.set_muted(*track, described.muted);
                continue;
            }
            if self.track_ids.contains_key(&described.id) {
                // A track of somebody else: no peer may speak for it but its own.
                continue;
            }
            let rids: Vec<Rid> = described.rids.iter().map(|rid| Rid::from(rid.as_str())).collect();
            let origin = Origin::Peer(peer.clone());
            let (id, source, muted) = (described.id.clone(), described.source, described.muted);
            tracks.push(self.add_publication(id, participant, source, muted, origin, &rids));
        }
        if let Some(member) = self.members.get_mut(participant) {
            member.tracks = tracks;
        }
    }

    fn add_publication(
        &mut self,
        id: TrackId,
        participant: &ParticipantId,
        source: Source,
        muted: bool,
        origin: Origin,
        rids: &[Rid],
    ) -> TrackKey {
        let layer = |rid: Option<Rid>| LayerState { rid, ..LayerState::default() };
        let layers = match rids {
            [] => vec![layer(None)],
            rids => rids.iter().take(MAX_LAYERS).map(|rid| layer(Some(*rid))).collect(),
        };
        let publication = Publication {
            id,
            participant: participant.clone(),
            source,
            muted,
            origin,
            layers,
            subscribers: Vec::new(),
            codec: None,
            last_packet: None,
            told_layers: None,
            peers_use: Vec::new(),
            told_useful: 0,
            told_rates: Vec::new(),
        };
        self.lineup.outdate();
        self.track_ids.insert(publication.id.clone(), TrackKey(self.publications.vacant_key()));
        TrackKey(self.publications.insert(publication))
    }

    /// Forgets a track: out of every slot, off the speakers, and its streams with it.
    pub(super) fn remove_publication(&mut self, track: TrackKey) {
        let Some(publication) = self.publications.get(track.0) else { return };
        for subscriber in publication.subscribers.clone() {
            self.put(subscriber, None);
            self.mark_slots_changed(subscriber.client);
        }
        self.lineup.outdate();
        let publication = self.publications.remove(track.0);
        self.track_ids.remove(&publication.id);
        self.silence(track);
        for layer in &publication.layers {
            if let Some(stream) = layer.incoming {
                self.incoming.remove(&stream);
                self.released.push(stream);
            }
        }
    }

    /// How many tracks `client` publishes.
    pub fn track_count(&self, client: ClientKey) -> usize {
        self.clients.get(&client).and_then(|id| self.members.get(id)).map_or(0, |member| member.tracks.len())
    }

    pub(super) fn track_of(&self, client: ClientKey, mid: Mid) -> Option<TrackKey> {
        let member = self.members.get(self.clients.get(&client)?)?;
        let origin = Origin::Client { client, mid };
        member.tracks.iter().copied().find(|track| self.publications[track.0].origin == origin)
    }

    pub(super) fn track_by_id(&self, id: &TrackId) -> Option<TrackKey> {
        self.track_ids.get(id).copied()
    }

    /// Tells `client` again which layers of its tracks are shown.
    pub(super) fn signal_layers(&mut self, client: ClientKey) {
        let Some(member) = self.clients.get(&client).and_then(|id| self.members.get(id)) else { return };
        debug_assert_eq!(member.at, At::Client(client));
        let messages: Vec<ServerMessage> = member
            .tracks
            .iter()
            .filter_map(|track| {
                let publication = &self.publications[track.0];
                layers_message(publication, publication.told_layers.as_ref()?)
            })
            .collect();
        for message in messages {
            self.signal(client, message);
        }
    }
}

/// The message that tells a publisher which of its layers are shown; none for a track without simulcast.
pub(super) fn layers_message(publication: &Publication, shown: &[usize]) -> Option<ServerMessage> {
    let Origin::Client { mid, .. } = &publication.origin else { return None };
    if publication.layers.len() < 2 {
        return None;
    }
    let rids = shown.iter().filter_map(|layer| publication.layers[*layer].rid.map(|rid| rid.to_string())).collect();
    Some(ServerMessage::Layers { mid: mid.to_string(), rids })
}
