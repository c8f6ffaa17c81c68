//! A shard without its sockets: clients, rooms and links, driven by datagrams, commands and the time.
//!
//! One round: input comes in ([`Engine::datagram`], [`Engine::command`], [`Engine::wake`]), then [`Engine::settle`]
//! forwards what was published, polls every client that was touched and carries out what rooms want, and what stands in
//! [`Engine::egress`] is sent, piece by piece where it is much.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    NodeId, ParticipantId, RoomId,
    node::{ParticipantView, RoomView},
    peer::PeerMessage,
    signal::{LeaveReason, ServerMessage},
};
use rand::{SeedableRng as _, rngs::StdRng};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use str0m::{
    Candidate,
    config::DtlsCert,
    net::{Protocol, Receive, Transmit},
};

use super::{
    client::{Client, Control, Panicked, Polled, Signalling, is_rtcp},
    counters::Counters,
    forwarding::Published,
    load::Work,
    neighbour::Neighbour,
    outlet::ClientOutlet,
    touched::{Due, Touched},
};
use crate::{
    core::{
        contained::contained,
        demux::{Demux, Destination, Stray},
        egress::queue::Dropped,
        room::{ClientKey, Effect, Estimate, Here, Peer, Room, StreamIds, TICK},
    },
    seats::Seats,
};

/// A client whose media is silent for this long and whose signalling is lost is gone. Browsers send a STUN consent
/// check at least every 5 s (RFC 7675).
pub(super) const MEDIA_LOST: Duration = Duration::from_secs(8);
/// A client whose signalling stands has this long to bring its media up, for the first time or again. Whoever only holds
/// a socket does not hold a place for ever.
pub(super) const MEDIA_MISSING: Duration = Duration::from_mins(1);
/// A client without signalling by nature (WHIP, WHEP) is gone after this much silence.
const MEDIA_ONLY_LOST: Duration = Duration::from_secs(15);

/// How long packets of a picture wait for the rest of it, so that the kernel takes them in one call (UDP GSO).
const GATHER: Duration = Duration::from_millis(1);

/// From so many bytes on what is written is sent before more is: they are still near in memory then, and what came first does not
/// wait for what is written to others.
const SENT_TOGETHER_BYTES: usize = 64 * 1024;

/// How often a session that ends is polled at most.
const MAX_LAST_WORDS: usize = 64;

/// A datagram that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outbound {
    pub protocol: Protocol,
    pub destination: SocketAddr,
    /// Its bytes in [`Egress::bytes`].
    pub length: usize,
}

/// What a round wants sent, in order. One buffer, used again and again.
#[derive(Debug, Default)]
pub(super) struct Egress {
    pub bytes: Vec<u8>,
    pub datagrams: Vec<Outbound>,
}

impl Egress {
    fn push(&mut self, transmit: &Transmit) {
        self.bytes.extend_from_slice(&transmit.contents);
        let (protocol, destination) = (transmit.proto, transmit.destination);
        self.datagrams.push(Outbound { protocol, destination, length: transmit.contents.len() });
    }
}

/// What a session means for the connection at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TcpChange {
    /// It has shown a valid STUN request and may stay.
    Validated(SocketAddr),
    /// Its session is over.
    Over(SocketAddr),
}

/// What a shard is, apart from its sockets.
pub(super) struct Settings {
    pub index: u8,
    /// How many there are on the node.
    pub shards: u8,
    /// Where everyone on the node sits.
    pub seats: Seats,
    pub here: Here,
    /// Where clients reach the shard.
    pub candidates: Vec<Candidate>,
    pub udp_candidate: SocketAddr,
    pub tcp_candidate: Option<SocketAddr>,
    pub max_participants: usize,
    pub max_room: usize,
    pub seed: u64,
    /// A moment, and what it is in microseconds of Unix time.
    pub began: (Instant, u64),
}

pub(super) struct Engine {
    pub settings: Settings,
    certificate: DtlsCert,
    pub clients: Slab<Client>,
    pub by_participant: FxHashMap<ParticipantId, ClientKey>,
    pub rooms: FxHashMap<RoomId, Room>,
    pub demux: Demux,
    pub links: FxHashMap<Peer, Neighbour>,
    /// Which peers have which rooms, also rooms that nobody here is in yet.
    pub peer_rooms: FxHashMap<RoomId, FxHashSet<NodeId>>,
    pub streams: StreamIds,
    pub counters: Counters,
    pub egress: Egress,
    /// A datagram that is opened in place.
    opened: Vec<u8>,
    pub random: StdRng,
    pub draining: Option<Instant>,
    /// What became of TCP connections since this was last taken.
    pub tcp_changes: Vec<TcpChange>,
    pub(super) touched: Touched,
    touched_rooms: FxHashSet<RoomId>,
    /// What clients published in this round and is not forwarded yet.
    pub(super) published: Vec<Published>,
    /// When the first of the packets came that have not gone out.
    pub(super) waiting_since: Option<Instant>,
    timers: BinaryHeap<Reverse<(Instant, ClientKey)>>,
    next_tick: Instant,
}

impl Engine {
    pub(super) fn new(settings: Settings, certificate: DtlsCert, counters: Counters, now: Instant) -> Self {
        Self {
            certificate,
            clients: Slab::new(),
            by_participant: FxHashMap::default(),
            rooms: FxHashMap::default(),
            demux: Demux::default(),
            links: FxHashMap::default(),
            peer_rooms: FxHashMap::default(),
            streams: StreamIds::new(settings.index),
            counters,
            egress: Egress::default(),
            opened: Vec::new(),
            random: StdRng::seed_from_u64(settings.seed),
            draining: None,
            tcp_changes: Vec::new(),
            touched: Touched::default(),
            touched_rooms: FxHashSet::default(),
            published: Vec::new(),
            waiting_since: None,
            timers: BinaryHeap::new(),
            next_tick: now,
            settings,
        }
    }

    pub(super) fn peer_connection(&self, now: Instant) -> (str0m::Rtc, ClientOutlet) {
        super::negotiation::peer_connection(&self.certificate, &self.settings.candidates, now)
    }

    /// A datagram came from `source`.
    pub(super) fn datagram(&mut self, now: Instant, protocol: Protocol, source: SocketAddr, bytes: &[u8]) {
        let (client, is_stun, nominates) = match self.demux.route(source, bytes, now) {
            Ok(Destination::Stun { client, nominates }) => (client, true, nominates),
            Ok(Destination::Media(client)) => (client, false, false),
            Err(stray) => return self.counters.dropped(stray_reason(stray)),
        };
        if is_rtcp(bytes) && self.control(client, bytes, now) == Control::Taken {
            return;
        }
        let Some(destination) = self.local_address(protocol) else { return };
        let parsed = contained(|| Receive::new(protocol, source, destination, bytes)).and_then(Result::ok);
        let Some(receive) = parsed else { return self.counters.dropped("malformed") };
        let Some(state) = self.clients.get_mut(client.0) else { return };
        match state.receive(now, receive) {
            Ok(true) => {}
            Ok(false) => self.counters.dropped("refused_by_session"),
            Err(Panicked) => return self.fault(client, now),
        }
        if is_stun
            && self.validate(client, protocol, source, destination, now)
            && let Some(state) = self.clients.get_mut(client.0)
        {
            state.reached_at(protocol, source, nominates);
        }
        // At once: str0m holds one received packet at a time.
        self.poll(client, now);
    }

    /// What a client says of what it is sent.
    fn control(&mut self, key: ClientKey, bytes: &[u8], now: Instant) -> Control {
        let Self { clients, opened, .. } = self;
        let Some(client) = clients.get_mut(key.0) else { return Control::Taken };
        opened.clear();
        opened.extend_from_slice(bytes);
        let mut wanted = Vec::new();
        let (control, estimate) = client.control(opened, now, |mid| wanted.push(mid));
        if control != Control::NotOurs {
            self.touch(key, Due::Flush);
        }
        if let Some(estimate) = estimate {
            self.estimated(key, estimate, now);
        }
        for mid in wanted {
            self.in_room_of(key, |room| room.keyframe_wanted(key, mid, now));
        }
        control
    }

    /// If `source` has shown a valid STUN request of `client`, media is taken from it from now on. Whether it is.
    fn validate(
        &mut self,
        key: ClientKey,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        now: Instant,
    ) -> bool {
        /// RFC 7983: a first byte of 20 to 63 is DTLS; the session is only asked whether it would take it.
        const DTLS_PROBE: [u8; 13] = [22; 13];
        let Some(client) = self.clients.get_mut(key.0) else { return false };
        let known = self.demux.is_validated(key, source);
        if !known {
            let Ok(probe) = Receive::new(protocol, source, destination, &DTLS_PROBE) else { return false };
            match client.has_validated(now, probe) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(Panicked) => {
                    self.fault(key, now);
                    return false;
                }
            }
        }
        if !self.demux.validate(key, source, now) {
            self.counters.dropped("address_in_use");
            return false;
        }
        client.last_received = now;
        if !known {
            client.transport = Some(protocol);
            if protocol == Protocol::Tcp {
                self.tcp_changes.push(TcpChange::Validated(source));
            }
        }
        true
    }

    fn local_address(&self, protocol: Protocol) -> Option<SocketAddr> {
        match protocol {
            Protocol::Udp => Some(self.settings.udp_candidate),
            _ => self.settings.tcp_candidate,
        }
    }

    /// Something is to be done about the client when the round is settled.
    pub(super) fn touch(&mut self, key: ClientKey, due: Due) {
        if let Some(client) = self.clients.get_mut(key.0) {
            self.touched.add(key, client, due);
        }
    }

    /// The room's wishes are carried out when the round is settled.
    pub(super) fn touch_room(&mut self, room: &RoomId) {
        if !self.touched_rooms.contains(room) {
            self.touched_rooms.insert(room.clone());
        }
    }

    /// Wakes what is due at `now`.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(client) = self.clients.get_mut(key.0) else { continue };
            if client.scheduled != Some(at) {
                // Something earlier came between and has set another.
                continue;
            }
            client.scheduled = None;
            let due = if client.timeout <= now { Due::Poll } else { Due::Flush };
            self.touched.add(key, client, due);
        }
        if self.gathers_until().is_some_and(|until| until <= now) {
            self.gathered();
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            let rooms: Vec<RoomId> = self.rooms.keys().cloned().collect();
            self.touched_rooms.extend(rooms);
            self.expire(now);
            self.counters.publish();
        }
    }

    /// When [`Engine::wake`] is due next.
    pub(super) fn next_wake(&self) -> Instant {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        timer.into_iter().chain(self.gathers_until()).fold(self.next_tick, Instant::min)
    }

    fn gathers_until(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + GATHER)
    }

    /// What was gathered goes out, complete or not.
    fn gathered(&mut self) {
        for key in std::mem::take(&mut self.touched.gathering) {
            if let Some(client) = self.clients.get_mut(key.0).filter(|client| client.due == Due::Gather) {
                self.touched.add(key, client, Due::Flush);
            }
        }
    }

    /// When the first of those packets came that go out in this round.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.waiting_since.filter(|_| self.touched.still_gathering == 0)
    }

    /// Forwards what was published, polls every client that was touched and carries out what rooms want, until nothing is left to
    /// do or much is written. Whether it is to be called again when that is sent.
    pub(super) fn settle(&mut self, now: Instant) -> bool {
        loop {
            self.forward_published(now);
            while let Some(client) = self.touched.now.pop() {
                self.drain(client, now);
                if self.egress.bytes.len() >= SENT_TOGETHER_BYTES {
                    return true;
                }
            }
            let rooms: Vec<RoomId> = self.touched_rooms.drain().collect();
            for room in &rooms {
                self.settle_room(room, now);
            }
            if self.touched.now.is_empty() && self.touched_rooms.is_empty() && self.published.is_empty() {
                return false;
            }
        }
    }

    /// All of a round is sent.
    pub(super) fn round_ends(&mut self) {
        if self.touched.still_gathering == 0 {
            self.waiting_since = None;
        }
    }

    /// Lets a touched client's time go on, which also sends what was queued for it.
    fn drain(&mut self, key: ClientKey, now: Instant) {
        let Some(client) = self.clients.get_mut(key.0) else { return };
        if std::mem::take(&mut client.due) == Due::Poll {
            match client.wake(now) {
                Ok(()) => self.poll(key, now),
                Err(Panicked) => return self.fault(key, now),
            }
        }
        self.flush(key, now);
        self.schedule(key);
    }

    /// Sees to it that the client is woken in time.
    fn schedule(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key.0) else { return };
        let at = client.wake_at();
        if client.scheduled.is_none_or(|scheduled| at < scheduled) {
            client.scheduled = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    /// Sends what may go.
    fn flush(&mut self, key: ClientKey, now: Instant) {
        let (began, unix_us) = self.settings.began;
        let unix_us = unix_us + now.saturating_duration_since(began).as_micros() as u64;
        let Self { clients, egress, counters, .. } = self;
        let Some(client) = clients.get_mut(key.0) else { return };
        let Some((outlet, (protocol, destination))) = client.way_out() else { return };
        let Egress { bytes, datagrams } = egress;
        outlet.flush(now, unix_us, bytes, |length| datagrams.push(Outbound { protocol, destination, length }));
        let Dropped { full, late } = outlet.take_dropped();
        counters.dropped_many("egress_full", full);
        counters.dropped_many("egress_late", late);
        counters.sent_besides(outlet.take_extra());
        for mid in outlet.take_stalled() {
            self.in_room_of(key, |room| room.keyframe_wanted(key, mid, now));
        }
    }

    /// str0m's contract: after any change, poll until it names the time it wants to be woken.
    fn poll(&mut self, key: ClientKey, now: Instant) {
        while let Some(client) = self.clients.get_mut(key.0) {
            match client.poll(now) {
                Ok(Polled::WaitUntil(at)) => {
                    client.timeout = at;
                    return self.schedule(key);
                }
                Ok(Polled::Transmit(transmit)) => {
                    for _ in 0..client.copies(&transmit) {
                        self.egress.push(&transmit);
                    }
                }
                Ok(Polled::Packet { mid, rid, packet }) => self.publish((key, mid, rid), packet, now),
                Ok(Polled::Connected) => {
                    self.counters.connected(now.saturating_duration_since(client.joined));
                    self.in_room_of(key, |room| room.connected(key, now));
                }
                Ok(Polled::Nothing) => {}
                Ok(Polled::Unusable(reason)) => self.counters.dropped(reason),
                Ok(Polled::Closed) => return self.end(key, LeaveReason::Left, now),
                Ok(Polled::TooManySources) => {
                    self.counters.dropped("too_many_sources");
                    return self.end(key, LeaveReason::Fault, now);
                }
                Err(Panicked) => return self.fault(key, now),
            }
        }
    }

    fn estimated(&mut self, key: ClientKey, estimate: Estimate, now: Instant) {
        self.in_room_of(key, |room| room.estimate(key, estimate));
        let Some(kbps) = self.clients.get(key.0).and_then(|client| client.estimate_kbps) else { return };
        // Estimates come many times a second; people are told of those that differ by more than a tenth.
        let is_news = |client: &Client| client.told_kbps.abs_diff(kbps) > client.told_kbps / 10;
        if let Some(client) = self.clients.get_mut(key.0).filter(|client| is_news(client)) {
            client.told_kbps = kbps;
            // If the door is too slow to take it the client is detached, which `tell` has done already.
            let _ = client.tell(ServerMessage::Bandwidth { estimate_kbps: kbps }, now);
        }
    }

    pub(super) fn in_room_of(&mut self, client: ClientKey, work: impl FnOnce(&mut Room)) {
        let Some(id) = self.clients.get(client.0).map(|client| client.room.clone()) else { return };
        if let Some(room) = self.rooms.get_mut(&id) {
            work(room);
            self.touch_room(&id);
        }
    }

    fn settle_room(&mut self, id: &RoomId, now: Instant) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.tick(now, &mut self.streams);
        self.carry_out_effects(id, now);
        self.drop_empty_room(id);
    }

    pub(super) fn carry_out_effects(&mut self, room: &RoomId, now: Instant) {
        for effect in self.rooms.get_mut(room).map(Room::take_effects).unwrap_or_default() {
            self.carry_out(effect, now);
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Signal { client, message } => self.tell(client, message, now),
            Effect::Peer { peer, message } => self.tell_peer(&peer, message),
            Effect::Keyframe { client, mid, rid } => {
                let Some(state) = self.clients.get_mut(client.0) else { return };
                match state.request_keyframe(mid, rid) {
                    Ok(()) => self.touch(client, Due::Poll),
                    Err(Panicked) => self.fault(client, now),
                }
            }
            Effect::Bandwidth { client, desired_kbps, minimum_kbps } => {
                let Some(state) = self.clients.get_mut(client.0) else { return };
                state.set_needs(desired_kbps, minimum_kbps, now);
                self.touch(client, Due::Flush);
            }
            Effect::Ended { client, reason } => self.end(client, reason, now),
        }
    }

    pub(super) fn tell(&mut self, client: ClientKey, message: ServerMessage, now: Instant) {
        let Some(state) = self.clients.get_mut(client.0) else { return };
        if state.tell(message, now).is_err() {
            self.counters.dropped("outbox_full");
        }
    }

    pub(super) fn tell_peer(&mut self, peer: &Peer, message: PeerMessage) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if link.control(message).is_err() {
            // Both sides begin anew.
            self.counters.dropped("link_control_full");
        }
    }

    pub(super) fn tell_nodes(&mut self, message: &PeerMessage) {
        let nodes: Vec<Peer> = self.links.keys().filter(|peer| matches!(peer, Peer::Node(_))).cloned().collect();
        for node in nodes {
            self.tell_peer(&node, message.clone());
        }
    }

    /// A panic in a client's peer connection ends that client alone.
    fn fault(&mut self, client: ClientKey, now: Instant) {
        self.counters.dropped("participant_panic");
        tracing::error!(client = client.0, "a participant's peer connection panicked; the participant is ended");
        self.end(client, LeaveReason::Fault, now);
    }

    /// Ends a stay: the client is told, then forgotten, and the room with it if it was the last.
    pub(super) fn end(&mut self, key: ClientKey, reason: LeaveReason, now: Instant) {
        let Some(mut client) = self.clients.try_remove(key.0) else { return };
        // What the client is told last may find a full queue; its socket is closed all the same.
        let _ = client.tell(ServerMessage::Ended { reason }, now);
        client.close();
        for _ in 0..MAX_LAST_WORDS {
            match client.poll(now) {
                Ok(Polled::Transmit(transmit)) => self.egress.push(&transmit),
                Ok(Polled::WaitUntil(_) | Polled::Closed) | Err(Panicked) => break,
                Ok(_) => {}
            }
        }
        self.tcp_changes.extend(self.demux.addresses(key).iter().copied().map(TcpChange::Over));
        self.demux.remove(key);
        self.touched.forget(key, client.due);
        if self.by_participant.get(&client.participant) == Some(&key) {
            self.by_participant.remove(&client.participant);
            self.settings.seats.leave(&client.participant);
        }
        if let Some(room) = self.rooms.get_mut(&client.room) {
            room.leave(key, reason);
            self.touch_room(&client.room);
        }
        self.counters.left(reason);
    }

    fn drop_empty_room(&mut self, id: &RoomId) {
        if self.rooms.get(id).is_some_and(Room::is_empty) {
            if let Some(mut room) = self.rooms.remove(id) {
                room.release_streams(&mut self.streams);
            }
            let closed = PeerMessage::RoomClosed { room: id.clone() };
            match self.home_elsewhere(id) {
                Some(home) => self.tell_peer(&Peer::Shard(home), closed),
                None => self.tell_nodes(&closed),
            }
        }
    }

    /// Ends stays whose time is over.
    fn expire(&mut self, now: Instant) {
        let grace = Duration::from_secs(u64::from(isthmus_protocol::signal::RESUME_GRACE_S));
        let over = |client: &Client| match &client.signalling {
            Signalling::Attached { .. } => (client.silence(now) > MEDIA_MISSING).then_some(LeaveReason::ConnectionLost),
            Signalling::MediaOnly => (client.silence(now) > MEDIA_ONLY_LOST).then_some(LeaveReason::ConnectionLost),
            Signalling::Detached { since } => {
                let waited = now.saturating_duration_since(*since);
                let silent = client.silence(now) > MEDIA_LOST && waited > MEDIA_LOST;
                (waited > grace || silent).then_some(LeaveReason::ConnectionLost)
            }
        };
        let drained = self.draining.is_some_and(|deadline| now >= deadline);
        let ended: Vec<(ClientKey, LeaveReason)> = self
            .clients
            .iter()
            .filter_map(|(key, client)| {
                let reason = if drained { Some(LeaveReason::Drained) } else { over(client) };
                reason.map(|reason| (ClientKey(key), reason))
            })
            .collect();
        for (client, reason) in ended {
            self.end(client, reason, now);
        }
        // A room that is on several shards counts at its home.
        let rooms = self.rooms.keys().filter(|room| self.home_elsewhere(room).is_none()).count();
        self.counters.set_size(self.clients.len(), rooms);
    }

    /// The thread was at work.
    pub(super) fn worked(&mut self, work: Work) {
        self.counters.worked(work.ran);
        self.settings.seats.set_busy(self.settings.index, work.share);
    }

    /// Every room of this shard, for operators.
    pub(super) fn describe_rooms(&self) -> Vec<RoomView> {
        let mut views: FxHashMap<&RoomId, RoomView> = FxHashMap::default();
        for (id, room) in &self.rooms {
            let nodes = room.peers().filter_map(|peer| match peer {
                Peer::Node(node) => Some(node.clone()),
                Peer::Shard(_) => None,
            });
            let (remote, peers) = (room.remote_participants().cloned().collect(), nodes.collect());
            views.insert(id, RoomView { room: id.clone(), local: Vec::new(), remote, peers });
        }
        for (key, client) in &self.clients {
            let tracks = self.rooms.get(&client.room).map_or(0, |room| room.track_count(ClientKey(key)));
            if let Some(view) = views.get_mut(&client.room) {
                view.local.push(describe(client, tracks));
            }
        }
        views.into_values().collect()
    }
}

fn describe(client: &Client, tracks: usize) -> ParticipantView {
    ParticipantView {
        id: client.participant.clone(),
        connected: client.connected,
        attached: matches!(client.signalling, Signalling::Attached { .. }),
        transport: client.transport.map(|protocol| if protocol == Protocol::Udp { "udp" } else { "tcp" }.to_owned()),
        tracks: tracks as u32,
        estimate_kbps: client.estimate_kbps,
    }
}

const fn stray_reason(stray: Stray) -> &'static str {
    match stray {
        Stray::UnvalidatedAddress => "unvalidated_address",
        Stray::UnknownSession => "unknown_session",
        Stray::MalformedStun => "malformed_stun",
        Stray::TooManyAddresses => "too_many_addresses",
    }
}
