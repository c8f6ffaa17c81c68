//! What doors and peers ask of a shard: sessions, their messages, and the news of other nodes.

use std::time::{Duration, Instant};

use isthmus_protocol::{
    NodeId, ParticipantId, RoomId,
    node::{Intent, RoomView, Session},
    peer::PeerMessage,
    problem::Code,
    signal::{ClientMessage, LeaveReason, MAX_CANDIDATE_BYTES, MAX_TILES, OfferedTrack, ServerMessage},
};
use isthmus_relay::MeshEvent;
use rand::RngCore as _;
use str0m::{Candidate, media::Mid};
use tokio::sync::{mpsc, oneshot};

use super::{
    client::{Client, Identity, Signalling},
    engine::Engine,
    inbox::{News, ShardEvent},
    negotiation::{self, Refused},
    neighbour::Neighbour,
    touched::Due,
};
use crate::core::{
    contained::contained,
    room::{ClientKey, Joining, Peer, Room},
    seating::home_of,
};

/// Something for a shard to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// A door opened a session's stream.
    Open {
        session: Session,
        /// Tells this holding of the session from later ones.
        attachment: u64,
        outbox: mpsc::Sender<ServerMessage>,
    },
    /// A client's message.
    Message { participant: ParticipantId, attachment: u64, message: ClientMessage },
    /// A session's stream ended.
    Detached { participant: ParticipantId, attachment: u64 },
    /// News of a peer.
    News(News),
    /// Take no new rooms, ask clients to move, end what is left after the deadline.
    Drain { deadline_s: u32 },
    /// Every room with someone here.
    Rooms { reply: oneshot::Sender<Vec<RoomView>> },
    /// End every session and stop.
    Stop,
}

impl Engine {
    /// Carries out a command. Whether the shard goes on.
    pub(super) fn command(&mut self, command: Command, now: Instant) -> bool {
        match command {
            Command::Open { session, attachment, outbox } => self.open(session, attachment, &outbox, now),
            Command::Message { participant, attachment, message } => {
                if let Some(client) = self.attached(&participant, attachment) {
                    self.message(client, message, now);
                }
            }
            Command::Detached { participant, attachment } => {
                if let Some(client) = self.attached(&participant, attachment) {
                    self.clients[client.0].detach(now);
                }
            }
            Command::News(News::Mesh(event)) => self.mesh(event, now),
            Command::News(News::Shard { from, event }) => self.sibling(from, event, now),
            Command::Drain { deadline_s } => self.drain_all(deadline_s, now),
            Command::Rooms { reply } => drop(reply.send(self.describe_rooms())),
            Command::Stop => {
                let everyone: Vec<ClientKey> = self.clients.iter().map(|(key, _)| ClientKey(key)).collect();
                for client in everyone {
                    self.end(client, LeaveReason::Drained, now);
                }
                return false;
            }
        }
        true
    }

    /// The client whose signalling `attachment` holds.
    fn attached(&self, participant: &ParticipantId, attachment: u64) -> Option<ClientKey> {
        let client = *self.by_participant.get(participant)?;
        let holds = |client: &Client| matches!(client.signalling, Signalling::Attached { attachment: a, .. } if a == attachment);
        self.clients.get(client.0).is_some_and(holds).then_some(client)
    }

    fn open(&mut self, session: Session, attachment: u64, outbox: &mpsc::Sender<ServerMessage>, now: Instant) {
        let room = session.room.clone();
        let result = match session.intent.clone() {
            Intent::Join { participant, name, replaces, media_only } => {
                let asked = participant.clone();
                let identity = Identity {
                    participant,
                    room: session.room,
                    person: session.identity,
                    grants: session.grants,
                    media_only,
                };
                let joined = self.join(identity, name, replaces, attachment, outbox, now);
                if !self.by_participant.contains_key(&asked) {
                    self.settings.seats.leave(&asked);
                }
                joined
            }
            Intent::Resume { participant } => self.resume(&session, &participant, attachment, outbox, now),
        };
        if let Err(refused) = result {
            // The queue is new and empty; if the door is gone already nobody is left to be told.
            let _ = outbox.try_send(refused.ends_session());
        }
        // The welcome goes before the answer to an offer that may have come right behind.
        self.carry_out_effects(&room, now);
    }

    fn join(
        &mut self,
        who: Identity,
        name: String,
        replaces: Option<ParticipantId>,
        attachment: u64,
        outbox: &mpsc::Sender<ServerMessage>,
        now: Instant,
    ) -> Result<(), Refused> {
        self.admit(&who, replaces.as_ref())?;
        let joining = Joining {
            participant: who.participant.clone(),
            identity: who.person.clone(),
            name,
            grants: who.grants,
            replaces,
        };
        let room = who.room.clone();
        let connection = self.peer_connection(now);
        let signalling = Signalling::Attached { attachment, outbox: outbox.clone() };
        let client = ClientKey(self.clients.insert(Client::new(who, connection, signalling, now)));
        self.by_participant.insert(joining.participant.clone(), client);
        self.settings.seats.take(&room, &joining.participant, self.settings.index);
        let fragment = self.clients[client.0].credentials().ufrag;
        self.demux.set_user_fragment(client, &fragment);
        self.room_for(&room).join(client, joining);
        self.touch_room(&room);
        self.touch(client, Due::Poll);
        self.counters.joined();
        Ok(())
    }

    fn admit(&self, who: &Identity, replaces: Option<&ParticipantId>) -> Result<(), Refused> {
        let refuse = |code, detail: &str| Err(Refused { code, detail: detail.into() });
        if self.draining.is_some() {
            return refuse(Code::Draining, "this point of presence is draining; join through another");
        }
        if self.by_participant.contains_key(&who.participant) {
            return refuse(Code::Conflict, "that participant id is taken; try again");
        }
        if self.clients.len() >= self.settings.max_participants {
            return refuse(Code::Unavailable, "the node has as many participants as it may have");
        }
        let others = self.rooms.get(&who.room).map_or(0, |room| room.others(&who.person, replaces));
        if others >= self.settings.max_room {
            return refuse(Code::RoomFull, "the room has as many participants as it may have");
        }
        Ok(())
    }

    /// The room, opened if need be.
    fn room_for(&mut self, id: &RoomId) -> &mut Room {
        let room = self.rooms.remove(id).unwrap_or_else(|| self.open_room(id));
        self.rooms.entry(id.clone()).or_insert(room)
    }

    /// A new room: peers are told, and those that have it too tell who is there.
    fn open_room(&mut self, id: &RoomId) -> Room {
        let home = self.home_elsewhere(id);
        let mut room = Room::new(id.clone(), self.settings.here.clone(), home);
        let opened = PeerMessage::RoomOpened { room: id.clone() };
        if let Some(home) = home {
            room.peer_opened(&Peer::Shard(home));
            self.tell_peer(&Peer::Shard(home), opened);
        } else {
            for node in self.peer_rooms.get(id).into_iter().flatten() {
                room.peer_opened(&Peer::Node(node.clone()));
            }
            self.tell_nodes(&opened);
        }
        room
    }

    /// The shard that speaks for the node of a room, if it is not this one.
    pub(super) fn home_elsewhere(&self, room: &RoomId) -> Option<u8> {
        let home = home_of(room, self.settings.shards);
        (home != self.settings.index).then_some(home)
    }

    fn resume(
        &mut self,
        session: &Session,
        participant: &ParticipantId,
        attachment: u64,
        outbox: &mpsc::Sender<ServerMessage>,
        now: Instant,
    ) -> Result<(), Refused> {
        let gone = || Refused { code: Code::SessionGone, detail: "the session is gone; join again".into() };
        let key = *self.by_participant.get(participant).ok_or_else(gone)?;
        let client = self.clients.get_mut(key.0).ok_or_else(gone)?;
        // Whose session it is decides, not who asks first: the door has checked the token's room and identity.
        if client.identity != session.identity || client.room != session.room {
            return Err(gone());
        }
        client.detach(now);
        client.signalling = Signalling::Attached { attachment, outbox: outbox.clone() };
        let may_publish = client.grants.publish;
        self.in_room_of(key, |room| room.welcome(key, may_publish, true));
        if let Some(deadline) = self.draining {
            let deadline_s = deadline.saturating_duration_since(now).as_secs() as u32;
            self.carry_out_effects(&session.room, now);
            self.tell(key, ServerMessage::Move { deadline_s }, now);
        }
        Ok(())
    }

    fn message(&mut self, client: ClientKey, message: ClientMessage, now: Instant) {
        let revision = match &message {
            ClientMessage::Offer { revision, .. } => Some(*revision),
            _ => None,
        };
        let result = match message {
            ClientMessage::Offer { revision, sdp, tracks } => self.offer(client, revision, &sdp, &tracks, now),
            ClientMessage::Candidate { candidate } => Self::candidate(&candidate),
            ClientMessage::View { tiles } if tiles.len() > MAX_TILES => {
                Err(Refused { code: Code::TooLarge, detail: format!("a view has at most {MAX_TILES} tiles") })
            }
            ClientMessage::View { tiles } => {
                self.in_room_of(client, |room| room.view(client, tiles));
                Ok(())
            }
            ClientMessage::Mute { mid, muted } => {
                self.in_room_of(client, |room| room.mute(client, Mid::from(mid.as_str()), muted));
                Ok(())
            }
            ClientMessage::Ping { id } => {
                self.tell(client, ServerMessage::Pong { id }, now);
                Ok(())
            }
            ClientMessage::Leave => {
                self.end(client, LeaveReason::Left, now);
                Ok(())
            }
            ClientMessage::Hello(_) => {
                Err(Refused { code: Code::Conflict, detail: "the session stands already; hello comes first".into() })
            }
        };
        if let Err(refused) = result {
            let Refused { code, detail } = refused;
            self.tell(client, ServerMessage::Error { code, detail, fatal: false, revision }, now);
        }
    }

    fn offer(
        &mut self,
        key: ClientKey,
        revision: u32,
        sdp: &str,
        described: &[OfferedTrack],
        now: Instant,
    ) -> Result<(), Refused> {
        let Self { clients, random, .. } = self;
        let Some(client) = clients.get_mut(key.0) else { return Ok(()) };
        if !client.offers.take(now) {
            return Err(Refused { code: Code::RateLimited, detail: "too many offers; wait some seconds".into() });
        }
        let fragment_before = client.credentials().ufrag;
        let negotiated = negotiation::accept(client, sdp, described, || random.next_u32(), now);
        let fragment = client.credentials().ufrag;
        let negotiated = match negotiated {
            Ok(negotiated) => negotiated,
            Err(refused) if fragment == fragment_before => return Err(refused),
            Err(refused) => {
                // It has restarted ICE already, and the client will never hear with what: nothing reaches it any more.
                self.tell(key, refused.ends_session(), now);
                self.end(key, LeaveReason::Fault, now);
                return Ok(());
            }
        };
        // An ICE restart changes the user fragment.
        self.demux.set_user_fragment(key, &fragment);
        self.tell(key, ServerMessage::Answer { revision, sdp: negotiated.answer }, now);
        self.in_room_of(key, |room| {
            room.set_tracks(key, &negotiated.tracks);
            room.set_slots(key, &negotiated.slots);
        });
        self.touch(key, Due::Poll);
        Ok(())
    }

    /// A candidate is looked at and not used: an ICE-lite agent learns the client's addresses from its checks.
    fn candidate(candidate: &str) -> Result<(), Refused> {
        let invalid = |detail: &str| Refused { code: Code::InvalidRequest, detail: detail.into() };
        if candidate.len() > MAX_CANDIDATE_BYTES {
            return Err(Refused { code: Code::TooLarge, detail: "the candidate is too long".into() });
        }
        // An empty one ends the list; one with a name instead of an address (mDNS) is not for parsers of addresses.
        let described = candidate.trim().strip_prefix("a=").unwrap_or(candidate.trim());
        if described.is_empty() || described.contains(".local") {
            return Ok(());
        }
        let parsed = contained(|| Candidate::from_sdp_string(described).is_ok());
        if parsed == Some(true) { Ok(()) } else { Err(invalid("the candidate was not understood")) }
    }

    fn mesh(&mut self, event: MeshEvent, now: Instant) {
        match event {
            MeshEvent::LinkUp { link } => {
                let peer = Peer::Node(link.node().clone());
                // Nobody may have said that the one before is down; what it told is void all the same.
                self.forget_peer(&peer);
                self.links.insert(peer.clone(), Neighbour::Node(link));
                self.begin_with(&peer);
            }
            MeshEvent::LinkDown { node } => {
                let peer = Peer::Node(node);
                self.links.remove(&peer);
                self.forget_peer(&peer);
            }
            MeshEvent::Control { link, message } => self.peer_message(&Peer::Node(link.node().clone()), message, now),
            MeshEvent::Media { node, stream, packet } => self.relayed(&Peer::Node(node), stream, packet, now),
        }
    }

    /// Something that another shard of this node says.
    fn sibling(&mut self, from: u8, event: ShardEvent, now: Instant) {
        let peer = Peer::Shard(from);
        match event {
            ShardEvent::Control(message) => self.peer_message(&peer, message, now),
            ShardEvent::Media(stream, packet) => {
                self.counters.relayed_in(packet.payload.len());
                self.relayed(&peer, stream, packet, now);
            }
            ShardEvent::Broken => {
                self.forget_peer(&peer);
                let answered = match self.links.get(&peer) {
                    Some(Neighbour::Shard(sibling)) => sibling.forgotten(),
                    Some(Neighbour::Node(_)) | None => Ok(()),
                };
                if answered.is_err() {
                    tracing::error!(shard = from, "another shard is stuck: it cannot be told that it may begin anew");
                }
                self.begin_with(&peer);
            }
            ShardEvent::Anew => {
                self.forget_peer(&peer);
                if let Some(Neighbour::Shard(sibling)) = self.links.get_mut(&peer) {
                    sibling.mend();
                }
                self.begin_with(&peer);
            }
        }
    }

    /// Tells a peer that is reached now which rooms are here.
    fn begin_with(&mut self, peer: &Peer) {
        let rooms: Vec<RoomId> = self.rooms.keys().filter(|room| self.has_to_do_with(peer, room)).cloned().collect();
        for id in rooms {
            if let (Peer::Shard(_), Some(room)) = (peer, self.rooms.get_mut(&id)) {
                room.peer_opened(peer);
            }
            self.tell_peer(peer, PeerMessage::RoomOpened { room: id });
        }
    }

    /// Whether this shard tells `peer` of a room of its own accord: its home tells other nodes, the others tell its home.
    fn has_to_do_with(&self, peer: &Peer, room: &RoomId) -> bool {
        match (peer, self.home_elsewhere(room)) {
            (Peer::Node(_), home) => home.is_none(),
            (Peer::Shard(shard), home) => home == Some(*shard),
        }
    }

    /// What a peer told is void.
    fn forget_peer(&mut self, peer: &Peer) {
        if let Peer::Node(node) = peer {
            self.peer_rooms.retain(|_, nodes| {
                nodes.remove(node);
                !nodes.is_empty()
            });
        }
        let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
        for id in rooms {
            if let Some(room) = self.rooms.get_mut(&id) {
                room.peer_closed(peer, LeaveReason::NodeLost);
                self.touch_room(&id);
            }
        }
    }

    fn peer_message(&mut self, peer: &Peer, message: PeerMessage, now: Instant) {
        let id = message.room().clone();
        match peer {
            Peer::Node(node) => self.note_peer_room(node, &message),
            // Others are in it who need this shard to be reached by the rest.
            Peer::Shard(_) => {
                if matches!(message, PeerMessage::RoomOpened { .. }) && self.home_elsewhere(&id).is_none() {
                    self.room_for(&id);
                }
            }
        }
        if let Some(room) = self.rooms.get_mut(&id) {
            room.peer_message(peer, message, now);
            self.touch_room(&id);
        }
    }

    /// Keeps the books of which nodes have which rooms, also rooms that nobody here is in yet.
    fn note_peer_room(&mut self, node: &NodeId, message: &PeerMessage) {
        match message {
            PeerMessage::RoomClosed { room } => {
                if let Some(nodes) = self.peer_rooms.get_mut(room) {
                    nodes.remove(node);
                    if nodes.is_empty() {
                        self.peer_rooms.remove(room);
                    }
                }
            }
            PeerMessage::RoomOpened { room } | PeerMessage::Participant { room, .. } => {
                self.peer_rooms.entry(room.clone()).or_default().insert(node.clone());
            }
            _ => {}
        }
    }

    fn drain_all(&mut self, deadline_s: u32, now: Instant) {
        self.draining = Some(now + Duration::from_secs(u64::from(deadline_s)));
        let everyone: Vec<ClientKey> = self.clients.iter().map(|(key, _)| ClientKey(key)).collect();
        for client in everyone {
            self.tell(client, ServerMessage::Move { deadline_s }, now);
        }
    }
}

impl Refused {
    fn ends_session(self) -> ServerMessage {
        ServerMessage::Error { code: self.code, detail: self.detail, fatal: true, revision: None }
    }
}
