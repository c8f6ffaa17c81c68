//! Moves, make before break: a stay that takes the place of another of the same person.
//!
//! Who moves joins through another PoP while the stay before goes on. Until the new stay has media it *stands by*: it is
//! sent what everyone is sent, but nobody is told of it and nothing it publishes is shown. Then it takes over: what was
//! shown of the stay before is shown of the new one, in the same slots, and the one before ends.

use std::time::{Duration, Instant};

use isthmus_protocol::{
    ParticipantId, TrackId,
    peer::PeerMessage,
    signal::{LeaveReason, ServerMessage},
};

use super::{At, Effect, Room, TrackKey};

/// How long after its connection stands a stay takes over whether or not its pictures have come.
const TAKE_OVER_WITHIN: Duration = Duration::from_secs(1);
/// How long after that peers are waited for that have not told who is there: in a room opened for this stay they are asked
/// when it joins, some round trips to the client before. One that is silent still is dead: often the one that is moved away
/// from.
const TOLD_WITHIN: Duration = Duration::from_millis(250);

impl Room {
    /// Whose place a newcomer takes: a stay of the same person, or one that a peer may still tell of.
    pub(super) fn place_taken(&self, identity: &str, replaces: Option<ParticipantId>) -> Option<ParticipantId> {
        let old = replaces?;
        // Of one that stands by itself it is the stay that the others see.
        let seen = self.members.get(&old).and_then(|member| member.stands_by_for.clone()).unwrap_or(old);
        let may_take = match self.members.get(&seen) {
            Some(member) => member.identity == identity,
            None => !self.every_peer_has_told(),
        };
        may_take.then_some(seen)
    }

    /// Whether each peer that has the room has told who is there.
    fn every_peer_has_told(&self) -> bool {
        self.peers.values().all(|told| *told > 0)
    }

    /// Whether `id` has not taken the place yet that it joined for.
    pub(super) fn stands_by(&self, id: &ParticipantId) -> bool {
        self.standing_by.contains(id)
    }

    /// Whether `observer` is told of `id` and sent its tracks: a stay that stands by is known to nobody else, and does not
    /// see the one whose place it is to take.
    pub(super) fn is_visible(&self, id: &ParticipantId, observer: &ParticipantId) -> bool {
        if self.standing_by.is_empty() || id == observer {
            return true;
        }
        let old = self.members.get(observer).and_then(|member| member.stands_by_for.as_ref());
        !self.stands_by(id) && old != Some(id)
    }

    /// The stays here that stand by for `old`.
    pub(super) fn stand_ins(&self, old: &ParticipantId) -> Vec<ParticipantId> {
        let stands_by =
            |id: &&ParticipantId| self.members.get(*id).is_some_and(|m| m.stands_by_for.as_ref() == Some(old));
        self.standing_by.iter().filter(stands_by).cloned().collect()
    }

    /// Lets every stay take over that is ready to.
    pub(super) fn settle_moves(&mut self, now: Instant) {
        let ready = |id: &&ParticipantId| self.is_ready_to_take_over(id, now);
        let ready: Vec<ParticipantId> = self.standing_by.iter().filter(ready).cloned().collect();
        for id in ready {
            self.take_over(&id);
        }
    }

    fn is_ready_to_take_over(&self, id: &ParticipantId, now: Instant) -> bool {
        let Some(member) = self.members.get(id) else { return false };
        let At::Client(client) = member.at else { return false };
        let Some(receiver) = self.receivers.get(&client) else { return false };
        let Some(since) = receiver.connected_since else { return false };
        let mut tracks = member.tracks.iter().map(|track| &self.publications[track.0]);
        let sends = tracks.all(|publication| publication.muted || publication.last_packet.is_some());
        let connected_for = now.saturating_duration_since(since);
        let is_told = connected_for >= TOLD_WITHIN || self.every_peer_has_told();
        (sends && is_told && receiver.has_its_pictures()) || connected_for >= TAKE_OVER_WITHIN
    }

    /// `id` takes the place that it stands by for.
    pub(super) fn take_over(&mut self, id: &ParticipantId) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Some(old) = member.stands_by_for.take() else { return };
        self.standing_by.retain(|other| other != id);
        self.lineup.outdate();
        let replaces = self.is_same_person(&old, id).then_some(old);
        self.succeed(replaces, id);
    }

    /// Tells of `id`, who takes the place of `old` if that is somebody.
    pub(super) fn succeed(&mut self, old: Option<ParticipantId>, id: &ParticipantId) {
        let ended = old.as_ref().and_then(|old| self.hand_over(old, id));
        self.announce(id, old.clone());
        if let Some((participant, at)) = old.zip(ended) {
            // Peers have removed the old one on hearing of the new; news of it that is still on its way to them must not
            // bring it back for good.
            let left = PeerMessage::Left { room: self.id.clone(), participant, reason: LeaveReason::Replaced };
            self.tell_peers_of(at.peer(), &left);
        }
    }

    /// Whether `old` is, or for all that is known here may be, an earlier stay of the person whose stay `id` is.
    pub(super) fn is_same_person(&self, old: &ParticipantId, id: &ParticipantId) -> bool {
        let known = self.members.get(old).zip(self.members.get(id));
        known.is_none_or(|(old, new)| old.identity == new.identity)
    }

    /// What is shown of `old` is shown of `new` from now on, and `old` ends. Nobody is told that it left: they see it go on.
    /// Where it was, if it was there.
    fn hand_over(&mut self, old: &ParticipantId, new: &ParticipantId) -> Option<At> {
        let before = self.members.get(old).filter(|_| old != new)?;
        let last_spoke = before.last_spoke;
        let after = self.members.get(new).map(|member| member.tracks.clone()).unwrap_or_default();
        let successor = |track: &TrackKey| {
            let source = self.publications[track.0].source;
            after.iter().copied().find(|track| self.publications[track.0].source == source)
        };
        let pairs: Vec<(TrackKey, TrackKey)> =
            before.tracks.iter().filter_map(|track| Some((*track, successor(track)?))).collect();
        for (from, to) in pairs {
            self.hand_track_over(from, to);
        }
        if let Some(member) = self.members.get_mut(new) {
            member.last_spoke = member.last_spoke.max(last_spoke);
        }
        for stand_in in self.stand_ins(old) {
            if let Some(member) = self.members.get_mut(&stand_in) {
                member.stands_by_for = Some(new.clone());
            }
        }
        self.end_replaced(old)
    }

    /// Whoever shows `from` shows `to`, in the same slot and in the same place of their view.
    fn hand_track_over(&mut self, from: TrackKey, to: TrackKey) {
        let (old, new): (TrackId, TrackId) = (self.publications[from.0].id.clone(), self.publications[to.0].id.clone());
        for receiver in self.receivers.values_mut() {
            receiver.show_instead(&old, &new);
        }
        self.lineup.outdate();
        for subscriber in self.publications[from.0].subscribers.clone() {
            self.put(subscriber, Some(to));
            self.mark_slots_changed(subscriber.client);
        }
    }

    /// Ends a stay that another has taken the place of. Where it was, if it was there.
    pub(super) fn end_replaced(&mut self, old: &ParticipantId) -> Option<At> {
        let member = self.forget_member(old)?;
        for track in member.tracks {
            self.remove_publication(track);
        }
        if let At::Client(client) = member.at
            && self.clients.remove(&client).is_some()
        {
            self.remove_receiver(client);
            self.effects.push(Effect::Ended { client, reason: LeaveReason::Replaced });
        }
        Some(member.at)
    }

    /// Tells everyone here who may know of `id`.
    pub(super) fn signal_observers(&mut self, id: &ParticipantId, message: &ServerMessage) {
        let observers = self.clients.iter().filter(|(_, observer)| self.is_visible(id, observer));
        let messages = observers.map(|(client, _)| Effect::Signal { client: *client, message: message.clone() });
        self.effects.extend(messages.collect::<Vec<_>>());
    }
}
