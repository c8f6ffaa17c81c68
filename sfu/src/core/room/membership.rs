//! Joining, leaving, and what everyone is told of it.

use isthmus_protocol::{
    ParticipantId,
    peer::PeerMessage,
    signal::{LeaveReason, Participant, ServerMessage, VERSION, Welcome},
    token::Grants,
};

use super::{At, ClientKey, Member, Peer, Room};
use crate::core::capture_clock::CaptureClock;

/// Someone who comes in through this node.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The new stay.
    pub participant: ParticipantId,
    /// Who, from the token.
    pub identity: String,
    /// The name to show.
    pub name: String,
    /// What they may do.
    pub grants: Grants,
    /// The stay whose place it is to take.
    pub replaces: Option<ParticipantId>,
}

impl Room {
    /// `client` joins: it is welcomed with the roster, and the others are told, unless it has to take another's place first.
    pub fn join(&mut self, client: ClientKey, joining: Joining) {
        let Joining { participant, identity, name, grants, replaces } = joining;
        let stands_by_for = self.place_taken(&identity, replaces);
        if stands_by_for.is_some() {
            self.standing_by.push(participant.clone());
            self.lineup.outdate();
        }
        let superseded = stands_by_for.as_ref().map(|old| self.stand_ins(old)).unwrap_or_default();
        for earlier in superseded {
            self.end_replaced(&earlier);
        }
        let member = Member {
            identity,
            name,
            pop: self.here.pop.clone(),
            at: At::Client(client),
            stands_by_for,
            tracks: Vec::new(),
            clock: CaptureClock::default(),
            last_spoke: None,
        };
        self.members.insert(participant.clone(), member);
        self.clients.insert(client, participant.clone());
        self.add_receiver(client, grants.subscribe);
        self.welcome(client, grants.publish, false);
        if !self.stands_by(&participant) {
            self.announce(&participant, None);
        }
    }

    /// Tells `client` how things stand: at its start, and when it takes its session up again.
    pub fn welcome(&mut self, client: ClientKey, may_publish: bool, resumed: bool) {
        let Some(participant) = self.clients.get(&client).cloned() else { return };
        let visible = self.members.keys().filter(|id| self.is_visible(id, &participant));
        let mut participants: Vec<Participant> = visible.filter_map(|id| self.describe(id)).collect();
        participants.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        let welcome = Welcome {
            version: VERSION,
            participant,
            pop: self.here.pop.clone(),
            node: self.here.node.clone(),
            may_publish,
            participants,
            resumed,
        };
        self.signal(client, ServerMessage::Welcome(welcome));
        if resumed {
            self.signal(client, ServerMessage::Speakers { speakers: self.announced_speakers.clone() });
            self.signal_slots(client);
            self.signal_layers(client);
        }
    }

    /// `client` is gone. What was still to be done about it must not be done: its key may be another client's next.
    pub fn leave(&mut self, client: ClientKey, reason: LeaveReason) {
        self.effects.retain(|effect| effect.client() != Some(client));
        let Some(participant) = self.clients.remove(&client) else { return };
        self.remove_receiver(client);
        self.remove_member(&participant, reason);
    }

    /// The whole of what is known of a participant.
    pub(super) fn describe(&self, id: &ParticipantId) -> Option<Participant> {
        let member = self.members.get(id)?;
        Some(Participant {
            id: id.clone(),
            identity: member.identity.clone(),
            name: member.name.clone(),
            pop: member.pop.clone(),
            tracks: member.tracks.iter().map(|track| self.publications[track.0].describe()).collect(),
        })
    }

    /// Tells everyone here, and every peer that hears of the participant from here, how they are now. Of one that stands by
    /// nobody is told but themselves.
    pub(super) fn announce(&mut self, id: &ParticipantId, replaces: Option<ParticipantId>) {
        let Some(participant) = self.describe(id) else { return };
        if !self.stands_by(id) {
            let from = self.members.get(id).and_then(|member| member.at.peer()).cloned();
            let (room, participant, replaces) = (self.id.clone(), participant.clone(), replaces.clone());
            self.tell_peers_of(from.as_ref(), &PeerMessage::Participant { room, participant, replaces });
        }
        self.signal_observers(id, &ServerMessage::Participant { participant, replaces });
    }

    /// Takes in a participant of a peer, new or changed.
    pub(super) fn upsert_remote(&mut self, peer: &Peer, participant: &Participant, replaces: Option<ParticipantId>) {
        if self.members.get(&participant.id).is_some_and(|member| member.at.peer() != Some(peer)) {
            // Only the peer that carries a stay may speak for it.
            return;
        }
        let told = &mut self.peers;
        let member = self.members.entry(participant.id.clone()).or_insert_with(|| {
            *told.entry(peer.clone()).or_default() += 1;
            Member {
                identity: participant.identity.clone(),
                name: String::new(),
                pop: participant.pop.clone(),
                at: At::Peer(peer.clone()),
                stands_by_for: None,
                tracks: Vec::new(),
                clock: CaptureClock::default(),
                last_spoke: None,
            }
        });
        member.name.clone_from(&participant.name);
        self.set_remote_tracks(peer, &participant.id, &participant.tracks);
        let replaces = replaces.filter(|old| self.is_same_person(old, &participant.id));
        self.succeed(replaces, &participant.id);
    }

    /// Takes a member out of the books; its tracks are still to be removed.
    pub(super) fn forget_member(&mut self, id: &ParticipantId) -> Option<Member> {
        let member = self.members.remove(id)?;
        if member.stands_by_for.is_some() {
            self.standing_by.retain(|other| other != id);
            self.lineup.outdate();
        }
        if let Some(told) = member.at.peer().and_then(|peer| self.peers.get_mut(peer)) {
            *told = told.saturating_sub(1);
        }
        Some(member)
    }

    /// Forgets a member, its tracks and what was sent of them, and tells everyone here and every peer that hears of it from
    /// here; if another stands by for it, that one takes over instead.
    pub(super) fn remove_member(&mut self, id: &ParticipantId, reason: LeaveReason) {
        if let Some(stand_in) = self.stand_ins(id).first() {
            self.take_over(stand_in);
            return;
        }
        let was_known = !self.stands_by(id);
        let Some(member) = self.forget_member(id) else { return };
        for track in member.tracks {
            self.remove_publication(track);
        }
        if was_known {
            self.signal_everyone(&ServerMessage::Left { participant: id.clone(), reason });
            let left = PeerMessage::Left { room: self.id.clone(), participant: id.clone(), reason };
            self.tell_peers_of(member.at.peer(), &left);
        }
    }
}
