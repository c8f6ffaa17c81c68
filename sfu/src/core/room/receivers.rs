//! Receivers: their slots, what they show, and which layer of it they get.

use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    TrackId,
    signal::{Kind, MAX_SPEAKERS, ServerMessage, Slot as SlotView, SlotContent, SlotState, Tile},
};
use rustc_hash::FxHashMap;
use str0m::media::Mid;

use super::{
    ClientKey, Effect, Room, TrackKey, clock_hz, importance,
    publications::{Origin, Publication, Subscriber},
    slots::{Slot, SlotOffer},
};
use crate::core::{
    allocation::{Layer, Pick, Wish, allocate},
    assignment::assign,
    rewrite::Rewriter,
    svc::ladder::Rung,
};

/// How often a client is told at most which voices stand in its slots, while they only take turns.
const VOICES_TOLD_EVERY: Duration = Duration::from_millis(500);
/// What a voice takes, in kbit/s, RED and headers included: set aside before any video.
const AUDIO_KBPS: u32 = 60;
/// What the lowest layer of a track that does not flow here yet is taken to need, in kbit/s: little, so that it is tried even
/// where little is known of the path yet. What it really takes is known a moment later.
const ASSUMED_KBPS: u32 = 150;

/// What the path to a receiver carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Estimate {
    /// Of everything that is sent (transport-wide feedback), in kbit/s.
    Path(u32),
    /// Of the pictures alone, as the receiver itself says in REMB messages, in kbit/s. It says nothing while it gets no
    /// picture, so one that were paused would stay paused.
    Pictures(u32),
}

impl Estimate {
    fn kbps(self) -> u32 {
        match self {
            Estimate::Path(kbps) | Estimate::Pictures(kbps) => kbps,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Receiver {
    may_subscribe: bool,
    /// Since when its peer connection stands: before that nothing can be sent, and a keyframe would be spent on nobody.
    pub connected_since: Option<Instant>,
    pub audio: Vec<Slot>,
    pub video: Vec<Slot>,
    view: Option<Vec<Tile>>,
    estimate: Option<Estimate>,
    desired_kbps: u32,
    minimum_kbps: u32,
    /// The client is to be told what stands in its slots.
    pub changed: bool,
    /// The same, but only voices have taken the place of others: that can wait for [`VOICES_TOLD_EVERY`].
    voices_changed: bool,
    /// When it was told last.
    told: Option<Instant>,
    /// The state of the room ([`Lineup::generation`]) by which its slots were filled; none if they are to be filled anew.
    placed_by: Option<u64>,
    /// Streams of m-lines that are not offered any more. One that comes back has the same SSRC and key, so it goes on where
    /// it was: no number may be used twice.
    retired: FxHashMap<Mid, Rewriter>,
}

/// What is heard, and what is shown to those who do not say what they want, most important first. Slots are filled anew when
/// it changes, or what is published and who is known does; a room in which nothing happens costs next to nothing.
#[derive(Debug, Default)]
pub(super) struct Lineup {
    voices: Vec<TrackKey>,
    pictures: Vec<TrackKey>,
    generation: u64,
}

impl Lineup {
    /// What receivers are shown may differ from now on.
    pub(super) fn outdate(&mut self) {
        self.generation += 1;
    }
}

impl Receiver {
    pub(super) fn is_connected(&self) -> bool {
        self.connected_since.is_some()
    }

    /// Whether each picture that it is to be sent has begun to come.
    pub(super) fn has_its_pictures(&self) -> bool {
        let is_missing = |slot: &Slot| slot.track.is_some() && slot.state == SlotState::Live && slot.current.is_none();
        !self.video.iter().any(is_missing)
    }

    /// One track has taken the place of another.
    pub(super) fn show_instead(&mut self, old: &TrackId, new: &TrackId) {
        for tile in self.view.iter_mut().flatten().filter(|tile| tile.track == *old) {
            tile.track = new.clone();
        }
    }

    pub(super) fn slots(&self, kind: Kind) -> &[Slot] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    pub(super) fn slots_mut(&mut self, kind: Kind) -> &mut Vec<Slot> {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

impl Room {
    pub(super) fn add_receiver(&mut self, client: ClientKey, may_subscribe: bool) {
        self.receivers.insert(client, Receiver { may_subscribe, ..Receiver::default() });
    }

    pub(super) fn remove_receiver(&mut self, client: ClientKey) {
        self.unlist_all(client);
        self.receivers.remove(&client);
    }

    /// The m-lines on which `client` can receive now, after an offer. Those it had keep what stands in them.
    pub fn set_slots(&mut self, client: ClientKey, offers: &[SlotOffer]) {
        if !self.receivers.get(&client).is_some_and(|receiver| receiver.may_subscribe) {
            return;
        }
        self.unlist_all(client);
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        receiver.changed = true;
        receiver.placed_by = None;
        for kind in [Kind::Audio, Kind::Video] {
            let mut before = std::mem::take(receiver.slots_mut(kind));
            let retired = &mut receiver.retired;
            let after = offers.iter().filter(|offer| offer.kind == kind).map(|offer| {
                let kept = before.iter().position(|slot| slot.mid == offer.mid).map(|place| before.swap_remove(place));
                kept.unwrap_or_else(|| {
                    let begun = retired.remove(&offer.mid);
                    let fresh = || Rewriter::new(clock_hz(offer.kind), offer.first_sequence);
                    Slot::new(offer, begun.unwrap_or_else(fresh))
                })
            });
            let after = after.collect();
            for mut slot in before {
                slot.switch();
                retired.insert(slot.mid, slot.rewriter);
            }
            *receiver.slots_mut(kind) = after;
        }
        for subscriber in self.slots_of(client) {
            self.list(subscriber);
        }
        self.last_tick = None;
    }

    /// The peer connection of `client` stands: what stands in its slots can be sent from now on.
    pub fn connected(&mut self, client: ClientKey, now: Instant) {
        if let Some(receiver) = self.receivers.get_mut(&client) {
            receiver.connected_since.get_or_insert(now);
            self.last_tick = None;
        }
    }

    /// What `client` shows, most important first.
    pub fn view(&mut self, client: ClientKey, tiles: Vec<Tile>) {
        if let Some(receiver) = self.receivers.get_mut(&client) {
            receiver.view = Some(tiles);
            receiver.placed_by = None;
            self.last_tick = None;
        }
    }

    /// What the path to `client` carries.
    pub fn estimate(&mut self, client: ClientKey, estimate: Estimate) {
        if let Some(receiver) = self.receivers.get_mut(&client) {
            let shrank = receiver.estimate.is_some_and(|before| estimate.kbps() < before.kbps());
            receiver.estimate = Some(estimate);
            if shrank && !self.hurried.contains(&client) {
                self.hurried.push(client);
            }
        }
    }

    /// Chooses anew at once for receivers whose path got narrower, for nobody else: estimates come often.
    pub(super) fn settle_hurried(&mut self, now: Instant) {
        for client in std::mem::take(&mut self.hurried) {
            self.choose_layers(client, now);
            self.signal_slots_if_due(client, now);
        }
    }

    /// `client`'s decoder needs a keyframe in the slot `mid`.
    pub fn keyframe_wanted(&mut self, client: ClientKey, mid: Mid, now: Instant) {
        let Some(slot) = self.receivers.get(&client).and_then(|r| r.video.iter().find(|slot| slot.mid == mid)) else {
            return;
        };
        if let Some((track, layer)) = slot.track.zip(slot.current.or(slot.target.map(|target| target.layer))) {
            self.request_keyframe(track, layer, now);
        }
    }

    pub(super) fn slot_mut(&mut self, subscriber: Subscriber) -> Option<&mut Slot> {
        self.receivers.get_mut(&subscriber.client)?.slots_mut(subscriber.kind).get_mut(subscriber.slot)
    }

    pub(super) fn mark_slots_changed(&mut self, client: ClientKey) {
        if let Some(receiver) = self.receivers.get_mut(&client) {
            receiver.changed = true;
            receiver.placed_by = None;
        }
        self.last_tick = None;
    }

    pub(super) fn settle_slots(&mut self, now: Instant) {
        let (voices, pictures) = (self.audio_to_hear(), self.default_video());
        if voices != self.lineup.voices || pictures != self.lineup.pictures {
            (self.lineup.voices, self.lineup.pictures) = (voices, pictures);
            self.lineup.outdate();
        }
        // Lent, so that the room can be changed meanwhile.
        let lineup = std::mem::take(&mut self.lineup);
        let clients: Vec<ClientKey> = self.receivers.keys().copied().collect();
        for client in clients {
            self.fill_slots(client, &lineup);
            self.choose_layers(client, now);
            self.signal_slots_if_due(client, now);
        }
        self.lineup = lineup;
    }

    /// Puts what `client` is to hear and see into its slots, if anything changed since the last time.
    fn fill_slots(&mut self, client: ClientKey, lineup: &Lineup) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        if receiver.placed_by.replace(lineup.generation) == Some(lineup.generation) {
            return;
        }
        self.place(client, Kind::Audio, &lineup.voices);
        let shown = self.video_to_show(client);
        self.place(client, Kind::Video, shown.as_deref().unwrap_or(&lineup.pictures));
        self.size_slots(client);
    }

    /// The loudest voices, and in a small room every other one behind them, those that are not muted first.
    fn audio_to_hear(&self) -> Vec<TrackKey> {
        let mut voices = self.speakers.tracks().to_vec();
        let all = self.known_publications(Kind::Audio).map(|(track, _)| track);
        let mut others: Vec<TrackKey> = all.take(MAX_SPEAKERS + 2).collect();
        if others.len() > MAX_SPEAKERS + 1 {
            return voices;
        }
        others.retain(|track| !voices.contains(track));
        others.sort_by_key(|track| self.publications[track.0].muted);
        voices.extend(others);
        voices
    }

    /// What is shown to those who do not say what they want: screens, then who speaks, then who spoke last.
    fn default_video(&self) -> Vec<TrackKey> {
        let mut video: Vec<TrackKey> =
            self.known_publications(Kind::Video).filter(|(_, p)| !p.muted).map(|(track, _)| track).collect();
        let spoke = |p: &Publication| self.announced_speakers.iter().position(|id| *id == p.participant);
        // Each once: looking a publisher up costs more than comparing.
        video.sort_by_cached_key(|track| {
            let publication = &self.publications[track.0];
            let last_spoke = self.members.get(&publication.participant).and_then(|member| member.last_spoke);
            (importance(publication.source), spoke(publication).unwrap_or(usize::MAX), Reverse(last_spoke))
        });
        video
    }

    /// What is published by those whom everyone knows of.
    fn known_publications(&self, kind: Kind) -> impl Iterator<Item = (TrackKey, &Publication)> {
        let known = self.publications.iter().filter(|(_, publication)| !self.stands_by(&publication.participant));
        known.filter(move |(_, publication)| publication.kind() == kind).map(|(key, p)| (TrackKey(key), p))
    }

    /// What `client` wants to be shown; none if it does not say.
    fn video_to_show(&self, client: ClientKey) -> Option<Vec<TrackKey>> {
        let tiles = self.receivers.get(&client)?.view.as_ref()?;
        let mut tracks: Vec<TrackKey> = Vec::with_capacity(tiles.len());
        for track in tiles.iter().filter_map(|tile| self.track_by_id(&tile.track)) {
            if self.publications[track.0].kind() == Kind::Video && !tracks.contains(&track) {
                tracks.push(track);
            }
        }
        Some(tracks)
    }

    /// Slots are as high as their client shows what stands in them, if it says so.
    fn size_slots(&mut self, client: ClientKey) {
        let Self { receivers, track_ids, .. } = self;
        let Some(receiver) = receivers.get_mut(&client) else { return };
        for tile in receiver.view.iter().flatten() {
            let Some(track) = track_ids.get(&tile.track).copied() else { continue };
            if let Some(slot) = receiver.video.iter_mut().find(|slot| slot.track == Some(track)) {
                slot.height = tile.height;
            }
        }
    }

    /// Puts the `wanted` tracks of others into `client`'s slots.
    fn place(&mut self, client: ClientKey, kind: Kind, wanted: &[TrackKey]) {
        let (Some(own), Some(receiver)) = (self.clients.get(&client), self.receivers.get(&client)) else { return };
        let is_anothers = |track: &TrackKey| {
            let publisher = &self.publications[track.0].participant;
            publisher != own && self.is_visible(publisher, own)
        };
        let places = receiver.slots(kind).len();
        let wanted: Vec<TrackKey> = wanted.iter().copied().filter(is_anothers).take(places).collect();
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        let before: Vec<Option<TrackKey>> = receiver.slots(kind).iter().map(|slot| slot.track).collect();
        let after = assign(&before, &wanted);
        if before == after {
            return;
        }
        let only_takes_turns = before.iter().zip(&after).all(|(old, new)| old.is_some() == new.is_some());
        if kind == Kind::Audio && only_takes_turns {
            receiver.voices_changed = true;
        } else {
            receiver.changed = true;
        }
        for (index, (_, new)) in before.iter().zip(&after).enumerate().filter(|(_, (old, new))| old != new) {
            self.put(Subscriber { client, kind, slot: index }, *new);
        }
    }

    /// Puts `track` into a slot, in place of what stands there.
    pub(super) fn put(&mut self, subscriber: Subscriber, track: Option<TrackKey>) {
        self.unlist(subscriber);
        let Some(slot) = self.slot_mut(subscriber) else { return };
        slot.clear();
        slot.track = track;
        self.list(subscriber);
    }

    /// Puts a slot on the list of those that show its track.
    fn list(&mut self, subscriber: Subscriber) {
        let Self { receivers, publications, .. } = self;
        let slots = receivers.get_mut(&subscriber.client).map(|receiver| receiver.slots_mut(subscriber.kind));
        let Some(slot) = slots.and_then(|slots| slots.get_mut(subscriber.slot)) else { return };
        let Some(publication) = slot.track.and_then(|track| publications.get_mut(track.0)) else { return };
        slot.place = publication.subscribers.len();
        publication.subscribers.push(subscriber);
    }

    /// Takes a slot off the list of those that show its track, at a cost that does not grow with the list: when someone
    /// falls silent whom everyone hears, everyone does so.
    fn unlist(&mut self, subscriber: Subscriber) {
        let Some(slot) = self.slot_mut(subscriber) else { return };
        let (track, place) = (slot.track, slot.place);
        let Some(publication) = track.and_then(|track| self.publications.get_mut(track.0)) else { return };
        if publication.subscribers.get(place) != Some(&subscriber) {
            return;
        }
        publication.subscribers.swap_remove(place);
        let moved = publication.subscribers.get(place).copied();
        if let Some(slot) = moved.and_then(|moved| self.slot_mut(moved)) {
            slot.place = place;
        }
    }

    fn unlist_all(&mut self, client: ClientKey) {
        for subscriber in self.slots_of(client) {
            self.unlist(subscriber);
        }
    }

    fn slots_of(&self, client: ClientKey) -> Vec<Subscriber> {
        let Some(receiver) = self.receivers.get(&client) else { return Vec::new() };
        let slots = |kind| (0..receiver.slots(kind).len()).map(move |slot| Subscriber { client, kind, slot });
        slots(Kind::Audio).chain(slots(Kind::Video)).collect()
    }

    fn choose_layers(&mut self, client: ClientKey, now: Instant) {
        self.settle_slot_states(client);
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        for slot in &mut receiver.audio {
            slot.target = slot.track.map(|_| Pick::whole(0));
        }
        let voices = receiver.audio.iter().filter(|slot| slot.track.is_some()).count() as u32;
        if receiver.video.iter().all(|slot| slot.track.is_none()) {
            return self.announce_needs(client, 0, &[], &[]);
        }
        let budget = match receiver.estimate {
            None => u32::MAX,
            Some(Estimate::Path(kbps)) => kbps.saturating_sub(voices * AUDIO_KBPS),
            Some(Estimate::Pictures(kbps)) => kbps,
        };
        let may_pause = !matches!(receiver.estimate, Some(Estimate::Pictures(_)));
        let candidates: Vec<usize> = self.slots_by_importance(client);
        let wishes: Vec<Wish> = candidates.iter().map(|index| self.wish(client, *index, now)).collect();
        let chosen = allocate(budget, &wishes);
        self.announce_needs(client, voices * AUDIO_KBPS, &wishes, &chosen);
        for ((index, pick), wish) in candidates.into_iter().zip(chosen).zip(&wishes) {
            let lowest = wish.layers.first().map_or(Pick::whole(0), |(pick, _)| *pick);
            let pick = pick.or((!may_pause).then_some(lowest));
            self.aim_slot(client, index, pick, lowest, now);
        }
    }

    /// A track whose codec the receiver did not offer cannot be sent, and the receiver is told so.
    fn settle_slot_states(&mut self, client: ClientKey) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        let mut changed = false;
        for kind in [Kind::Audio, Kind::Video] {
            for slot in receiver.slots_mut(kind) {
                let codec = slot.track.and_then(|track| self.publications.get(track.0)).and_then(|p| p.codec);
                let unsupported = codec.is_some_and(|codec| !slot.takes(codec));
                if unsupported == (slot.state == SlotState::Unsupported) {
                    continue;
                }
                slot.state = if unsupported { SlotState::Unsupported } else { SlotState::Live };
                slot.stop();
                changed = true;
            }
        }
        receiver.changed |= changed;
    }

    /// The video slots that show something, in the order of the view, or of the slots.
    fn slots_by_importance(&self, client: ClientKey) -> Vec<usize> {
        let Some(receiver) = self.receivers.get(&client) else { return Vec::new() };
        let rank = |slot: &Slot| {
            let id = slot.track.map(|track| &self.publications[track.0].id);
            let view = receiver.view.as_deref().unwrap_or_default();
            view.iter().position(|tile| Some(&tile.track) == id).unwrap_or(usize::MAX)
        };
        let usable = |slot: &Slot| slot.track.is_some() && slot.state != SlotState::Unsupported;
        let mut slots: Vec<usize> =
            receiver.video.iter().enumerate().filter(|(_, slot)| usable(slot)).map(|(index, _)| index).collect();
        slots.sort_by_key(|index| rank(&receiver.video[*index]));
        slots
    }

    fn wish(&mut self, client: ClientKey, index: usize, now: Instant) -> Wish {
        let slot = self.receivers.get_mut(&client).and_then(|receiver| receiver.video.get_mut(index));
        let Some((publication, slot)) = slot.and_then(|slot| Some((self.publications.get_mut(slot.track?.0)?, slot)))
        else {
            return Wish { layers: Vec::new(), height: 0, current: None };
        };
        slot.learn(publication);
        Wish { layers: offered_layers(publication, now), height: slot.height, current: slot.target }
    }

    fn aim_slot(&mut self, client: ClientKey, index: usize, pick: Option<Pick>, lowest: Pick, now: Instant) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        let is_connected = receiver.is_connected();
        let slot = &mut receiver.video[index];
        receiver.changed |= slot.aim(pick, lowest, now);
        let Some((track, target)) = slot.track.zip(slot.target).filter(|_| is_connected) else { return };
        let ladder = self.publications[track.0].layers[target.layer].ladder.as_deref();
        if slot.lacks_keyframe(ladder, now) {
            self.request_keyframe(track, target.layer, now);
        }
    }

    /// Tells the estimator what to look for, when that changed by more than a tenth: nothing for voices alone.
    fn announce_needs(&mut self, client: ClientKey, audio_kbps: u32, wishes: &[Wish], chosen: &[Option<Pick>]) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        let desired_kbps = audio_kbps + wishes.iter().map(Wish::ideal_kbps).sum::<u32>();
        let sent = |(wish, chosen): (&Wish, &Option<Pick>)| {
            wish.layers.iter().find(|(pick, _)| Some(*pick) == *chosen).map_or(0, |(_, layer)| layer.kbps)
        };
        let paused = wishes.iter().zip(chosen).filter(|(_, layer)| layer.is_none());
        let next = paused.filter_map(|(wish, _)| wish.layers.first()).map(|(_, layer)| layer.kbps).min();
        let minimum_kbps = next.map_or(0, |next| audio_kbps + next + wishes.iter().zip(chosen).map(sent).sum::<u32>());
        let differs = |told: u32, now: u32| told.abs_diff(now) > told / 10;
        if differs(receiver.desired_kbps, desired_kbps) || differs(receiver.minimum_kbps, minimum_kbps) {
            (receiver.desired_kbps, receiver.minimum_kbps) = (desired_kbps, minimum_kbps);
            self.effects.push(Effect::Bandwidth { client, desired_kbps, minimum_kbps });
        }
    }

    /// Where many speak in turn, everyone's slots change with every turn: that is told now and then.
    fn signal_slots_if_due(&mut self, client: ClientKey, now: Instant) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        let is_long_ago = receiver.told.is_none_or(|told| now.saturating_duration_since(told) >= VOICES_TOLD_EVERY);
        if receiver.changed || (receiver.voices_changed && is_long_ago) {
            receiver.told = Some(now);
            self.signal_slots(client);
        }
    }

    pub(super) fn signal_slots(&mut self, client: ClientKey) {
        let Some(receiver) = self.receivers.get_mut(&client) else { return };
        (receiver.changed, receiver.voices_changed) = (false, false);
        let publications = &self.publications;
        let describe = |slot: &Slot| SlotView {
            mid: slot.mid.to_string(),
            content: slot.track.and_then(|track| publications.get(track.0)).map(|publication| SlotContent {
                track: publication.id.clone(),
                participant: publication.participant.clone(),
                rid: slot.current.and_then(|layer| publication.layers[layer].rid).map(|rid| rid.to_string()),
                state: slot.state,
            }),
        };
        let slots = receiver.audio.iter().chain(&receiver.video).map(describe).collect();
        self.signal(client, ServerMessage::Slots { slots });
    }
}

/// The layers of a track that can be had, lowest first. What does not flow here is taken from what its publisher's
/// node says, or assumed, so that it can be asked for; a local layer that does not flow is not sent by its publisher.
fn offered_layers(publication: &mut Publication, now: Instant) -> Vec<(Pick, Layer)> {
    let is_local = matches!(publication.origin, Origin::Client { .. });
    let mut offered: Vec<(Pick, Layer)> = Vec::with_capacity(publication.layers.len());
    for index in 0..publication.layers.len() {
        let layer = &mut publication.layers[index];
        let measured = layer.rate.kbps(now);
        let whole = if is_local { measured } else { measured.max(layer.told_kbps) };
        let rungs = layer.rung_kbps(now);
        // The slower rates of a larger layer are no raise over a smaller one at its full rate.
        let first = layer.ladder.as_ref().filter(|_| index > 0).map_or(0, |ladder| ladder.fastest_of_smallest());
        // Of a scalable one that flowed once and does not now, its peer may not say what the parts take.
        let is_scalable = rungs.iter().any(|kbps| *kbps > 0);
        let parts = (0..).zip(rungs).skip(first.into());
        for (rung, kbps) in parts.chain((!is_scalable).then_some((Rung::MAX, whole))).filter(|(_, kbps)| *kbps > 0) {
            offered.push((Pick { layer: index, rung }, Layer { kbps, height: publication.rung_height(index, rung) }));
        }
    }
    if offered.is_empty() {
        offered.push((Pick::whole(0), Layer { kbps: ASSUMED_KBPS, height: publication.rung_height(0, 0) }));
    }
    offered
}
