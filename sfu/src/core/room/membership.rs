//! Joining, leaving, and what everyone is told of it.

use isthmus_protocol::{
    NodeId, ParticipantId,
    peer::PeerMessage,
    signal::{LeaveReason, Participant, ServerMessage, VERSION, Welcome},
    token::Grants,
};

use super::{At, ClientKey, Effect, Member, Room};
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
    /// The stay it takes the place of.
    pub replaces: Option<ParticipantId>,
}

impl Room {
    /// `client` joins: it is welcomed with the roster, and the others are told.
    pub fn join(&mut self, client: ClientKey, joining: Joining) {
        let Joining { participant, identity, name, grants, replaces } = joining;
        let replaces = replaces.filter(|old| self.members.get(old).is_some_and(|m| m.identity == identity));
        if let Some(old) = &replaces {
            self.remove_replaced(old);
        }
        let member = Member {
            identity,
            name,
            pop: self.here.pop.clone(),
            at: At::Client(client),
            tracks: Vec::new(),
            clock: CaptureClock::default(),
            last_spoke: None,
        };
        self.members.insert(participant.clone(), member);
        self.clients.insert(client, participant.clone());
        self.add_receiver(client, grants.subscribe);
        self.welcome(client, grants.publish, false);
        self.announce(&participant, replaces);
    }

    /// Tells `client` how things stand: at its start, and when it takes its session up again.
    pub fn welcome(&mut self, client: ClientKey, may_publish: bool, resumed: bool) {
        let Some(participant) = self.clients.get(&client).cloned() else { return };
        let participants = self.members.keys().filter_map(|id| self.describe(id)).collect();
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
        self.tell_peers(&PeerMessage::Left { room: self.id.clone(), participant, reason });
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

    /// Tells everyone here, and every peer if the participant is here, how they are now.
    pub(super) fn announce(&mut self, id: &ParticipantId, replaces: Option<ParticipantId>) {
        let Some(participant) = self.describe(id) else { return };
        let is_local = matches!(self.members[id].at, At::Client(_));
        if is_local {
            let (room, participant, replaces) = (self.id.clone(), participant.clone(), replaces.clone());
            self.tell_peers(&PeerMessage::Participant { room, participant, replaces });
        }
        self.signal_everyone(&ServerMessage::Participant { participant, replaces });
    }

    /// Takes in a participant of `node`, new or changed.
    pub(super) fn upsert_remote(&mut self, node: &NodeId, participant: &Participant, replaces: Option<ParticipantId>) {
        if self.members.get(&participant.id).is_some_and(|member| member.at != At::Node(node.clone())) {
            // Only the node that carries a stay may speak for it.
            return;
        }
        let replaces = replaces.filter(|old| self.members.get(old).is_some_and(|m| m.identity == participant.identity));
        if let Some(old) = &replaces {
            self.remove_replaced(old);
        }
        let member = self.members.entry(participant.id.clone()).or_insert_with(|| Member {
            identity: participant.identity.clone(),
            name: String::new(),
            pop: participant.pop.clone(),
            at: At::Node(node.clone()),
            tracks: Vec::new(),
            clock: CaptureClock::default(),
            last_spoke: None,
        });
        member.name.clone_from(&participant.name);
        self.set_remote_tracks(node, &participant.id, &participant.tracks);
        self.announce(&participant.id, replaces);
    }

    /// Forgets a member, its tracks and what was sent of them, and tells everyone here.
    pub(super) fn remove_member(&mut self, id: &ParticipantId, reason: LeaveReason) {
        let Some(member) = self.members.remove(id) else { return };
        for track in member.tracks {
            self.remove_publication(track);
        }
        self.signal_everyone(&ServerMessage::Left { participant: id.clone(), reason });
    }

    /// Ends the stay that another takes the place of. Nobody is told that it left: they see it go on.
    fn remove_replaced(&mut self, old: &ParticipantId) {
        let Some(member) = self.members.remove(old) else { return };
        for track in member.tracks {
            self.remove_publication(track);
        }
        if let At::Client(client) = member.at {
            self.clients.remove(&client);
            self.remove_receiver(client);
            self.effects.push(Effect::Ended { client, reason: LeaveReason::Replaced });
            // Peers that have heard of the new stay have removed the old one already; news of it that is still on its way
            // to them must not bring it back for good.
            let participant = old.clone();
            let left = PeerMessage::Left { room: self.id.clone(), participant, reason: LeaveReason::Replaced };
            self.tell_peers(&left);
        }
    }
}
