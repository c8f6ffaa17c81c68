//! A shard without sockets, with real peer connections on the other side, on a virtual clock.

mod siblings;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    ParticipantId, RoomId,
    node::{Intent, Session},
    problem::Code,
    signal::{ClientMessage, LeaveReason, ServerMessage, VERSION, Welcome},
    token::Grants,
};
use isthmus_relay::PacketMetrics;
use prometheus::Registry;
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    change::{SdpAnswer, SdpPendingOffer},
    media::{Direction, MediaKind, Mid},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};
use tokio::sync::mpsc;

use super::{
    client::Signalling,
    counters::Counters,
    engine::{Engine, MEDIA_LOST, MEDIA_MISSING, Settings},
    sessions::Command,
};
use crate::{
    core::{
        room::{ClientKey, Here},
        seating::{Bounds, Seating},
    },
    metrics::Metrics,
    seats::Seats,
};

const BOTH: Grants = Grants { publish: true, subscribe: true };
const STEP: Duration = Duration::from_millis(5);

fn server() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7_110))
}

/// Of a shard of a node in panama.
fn settings(index: u8, shards: u8, seats: Seats, now: Instant) -> Settings {
    Settings {
        index,
        shards,
        seats,
        here: Here { pop: "panama".parse().expect("valid"), node: "panama-sfu-1".parse().expect("valid") },
        candidates: vec![Candidate::host(server(), Protocol::Udp).expect("an address")],
        udp_candidate: server(),
        tcp_candidate: None,
        max_participants: 10,
        max_room: 10,
        seed: 7,
        began: (now, 1_700_000_000_000_000),
    }
}

fn certificate() -> str0m::config::DtlsCert {
    str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().expect("a key")
}

/// A client of the shard: its peer connection, its signalling, and what came in.
struct Peer {
    rtc: Rtc,
    address: SocketAddr,
    participant: ParticipantId,
    attachment: u64,
    signals: mpsc::Receiver<ServerMessage>,
    heard: Vec<ServerMessage>,
    pending: Option<SdpPendingOffer>,
    sends: Option<Mid>,
    sent: u64,
    connected: bool,
    packets: usize,
}

struct World {
    engine: Engine,
    registry: Registry,
    now: Instant,
    peers: Vec<Peer>,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        let packets = PacketMetrics::new(&registry).expect("a fresh registry");
        let metrics = Metrics::new(&registry, packets).expect("a fresh registry");
        let now = Instant::now();
        let seats = Seats::new(Seating::new(1, Bounds { shard: 10, room: 10 }));
        let settings = settings(0, 1, seats, now);
        let engine = Engine::new(settings, certificate(), Counters::new(metrics, 0), now);
        Self { engine, registry, now, peers: Vec::new() }
    }

    fn session(name: &str, intent: Intent) -> Session {
        Session { room: room(), identity: name.into(), grants: BOTH, intent }
    }

    fn open(&mut self, session: Session, attachment: u64) -> mpsc::Receiver<ServerMessage> {
        let (outbox, signals) = mpsc::channel(64);
        self.engine.command(Command::Open { session, attachment, outbox }, self.now);
        signals
    }

    /// Joins, and offers a voice and a slot for one.
    fn join(&mut self, name: &str) -> usize {
        let participant: ParticipantId = name.parse().expect("valid");
        let intent =
            Intent::Join { participant: participant.clone(), name: name.into(), replaces: None, media_only: false };
        let attachment = self.peers.len() as u64;
        let signals = self.open(Self::session(name, intent), attachment);
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000 + self.peers.len() as u16));
        let mut rtc = RtcConfig::new().set_rtp_mode(true).build(self.now);
        rtc.add_local_candidate(Candidate::host(address, Protocol::Udp).expect("an address"));
        let mut change = rtc.sdp_api();
        let sends = change.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
        change.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
        let (offer, pending) = change.apply().expect("there are changes");
        self.peers.push(Peer {
            rtc,
            address,
            participant,
            attachment,
            signals,
            heard: Vec::new(),
            pending: Some(pending),
            sends: Some(sends),
            sent: 0,
            connected: false,
            packets: 0,
        });
        let index = self.peers.len() - 1;
        let offer = ClientMessage::Offer { revision: 1, sdp: offer.to_sdp_string(), tracks: Vec::new() };
        self.say(index, offer);
        index
    }

    fn say(&mut self, peer: usize, message: ClientMessage) {
        let Peer { participant, attachment, .. } = &self.peers[peer];
        let command = Command::Message { participant: participant.clone(), attachment: *attachment, message };
        self.engine.command(command, self.now);
    }

    /// Lets time pass: signalling, datagrams both ways, timers.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            self.listen();
            self.carry_to_shard();
            self.engine.wake(self.now);
            while self.engine.settle(self.now) {}
            self.carry_to_peers();
        }
    }

    fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&World) -> bool) {
        let until = self.now + limit;
        while !done(self) {
            assert!(self.now < until, "not within {limit:?}: {what}");
            self.run(STEP);
        }
    }

    fn listen(&mut self) {
        for peer in &mut self.peers {
            while let Ok(message) = peer.signals.try_recv() {
                if let ServerMessage::Answer { sdp, .. } = &message {
                    let answer = SdpAnswer::from_sdp_string(sdp).expect("an answer");
                    let pending = peer.pending.take().expect("one offer, one answer");
                    peer.rtc.sdp_api().accept_answer(pending, answer).expect("it fits the offer");
                }
                peer.heard.push(message);
            }
        }
    }

    fn carry_to_shard(&mut self) {
        for peer in &mut self.peers {
            peer.rtc.handle_input(Input::Timeout(self.now)).expect("time goes on");
            loop {
                match peer.rtc.poll_output().expect("a session") {
                    Output::Timeout(_) => break,
                    Output::Transmit(transmit) => {
                        let (source, bytes) = (peer.address, &transmit.contents[..]);
                        self.engine.datagram(self.now, Protocol::Udp, source, bytes);
                    }
                    Output::Event(Event::Connected) => peer.connected = true,
                    Output::Event(Event::RtpPacket(_)) => peer.packets += 1,
                    Output::Event(_) => {}
                }
            }
        }
    }

    fn carry_to_peers(&mut self) {
        let egress = std::mem::take(&mut self.engine.egress);
        let mut offset = 0;
        for outbound in &egress.datagrams {
            let bytes = &egress.bytes[offset..offset + outbound.length];
            offset += outbound.length;
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == outbound.destination) else { continue };
            let receive = Receive::new(Protocol::Udp, server(), peer.address, bytes).expect("WebRTC's own");
            peer.rtc.handle_input(Input::Receive(self.now, receive)).expect("authentic");
            while let Output::Event(event) = peer.rtc.poll_output().expect("a session") {
                match event {
                    Event::Connected => peer.connected = true,
                    Event::RtpPacket(_) => peer.packets += 1,
                    _ => {}
                }
            }
        }
    }

    /// A peer sends one voice packet.
    fn speak(&mut self, peer: usize) {
        let now = self.now;
        let Peer { rtc, sends, sent, .. } = &mut self.peers[peer];
        let mid = sends.expect("it offered a voice");
        let payload_type = rtc.media(mid).expect("negotiated").remote_pts()[0];
        let number = *sent;
        *sent += 1;
        let mut direct = rtc.direct_api();
        let stream = direct.stream_tx_by_mid(mid, None).expect("negotiated");
        let packet = RtpWrite::new(payload_type, (100 + number).into(), (number * 960) as u32, now, vec![7u8; 60]);
        stream.write_rtp(packet);
    }

    fn connect_two(&mut self) {
        self.join("ana");
        self.join("ben");
        self.run_until(Duration::from_secs(5), "both connected", |w| w.peers.iter().all(|peer| peer.connected));
    }

    fn talk(&mut self, from: usize, packets: usize) {
        for _ in 0..packets {
            self.speak(from);
            self.run(Duration::from_millis(20));
        }
    }

    fn drops(&mut self, reason: &str) -> u64 {
        self.engine.counters.publish();
        let families = self.registry.gather();
        let metric = families
            .iter()
            .filter(|f| f.name() == "isthmus_drops_total")
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        let matching = metric.filter(|m| m.get_label().iter().any(|label| label.value() == reason));
        matching.map(|m| m.get_counter().get_value() as u64).sum()
    }

    fn key(&self, peer: usize) -> ClientKey {
        self.engine.by_participant[&self.peers[peer].participant]
    }
}

fn room() -> RoomId {
    "demo".parse().expect("valid")
}

fn errors(heard: &[ServerMessage]) -> Vec<Code> {
    let code = |message: &ServerMessage| match message {
        ServerMessage::Error { code, .. } => Some(*code),
        _ => None,
    };
    heard.iter().filter_map(code).collect()
}

#[test]
fn two_clients_hear_each_other_through_real_ice_dtls_and_srtp() {
    let mut world = World::new();
    world.connect_two();
    world.talk(0, 50);
    assert!(world.peers[1].packets >= 48, "{} of 50 packets came through", world.peers[1].packets);
    assert_eq!(world.peers[0].packets, 0, "nobody hears themselves");
    assert!(matches!(&world.peers[0].heard[0], ServerMessage::Welcome(Welcome { version: VERSION, .. })));
}

#[test]
fn a_panic_in_one_session_ends_that_participant_alone() {
    let mut world = World::new();
    world.connect_two();
    world.join("cleo");
    world.run_until(Duration::from_secs(5), "the third connected", |w| w.peers[2].connected);
    let cleo = world.key(2);
    world.engine.clients[cleo.0].injected_panic = Some("injected by a test");
    world.run(Duration::from_secs(4));
    assert!(!world.engine.by_participant.contains_key(&world.peers[2].participant), "the participant is ended");
    assert!(world.peers[2].heard.contains(&ServerMessage::Ended { reason: LeaveReason::Fault }));
    assert_eq!(world.drops("participant_panic"), 1);
    let before = world.peers[1].packets;
    world.talk(0, 20);
    assert!(world.peers[1].packets >= before + 19, "the others go on");
}

#[test]
fn rubbish_and_forgery_from_anywhere_changes_nothing() {
    let mut world = World::new();
    world.connect_two();
    let stranger = SocketAddr::from(([127, 0, 0, 1], 9));
    let known = world.peers[0].address;
    for (first, length) in [(22u8, 60usize), (128, 40), (128, 12), (129, 8), (0, 20), (1, 28), (255, 1), (64, 1200)] {
        for source in [stranger, known] {
            world.engine.datagram(world.now, Protocol::Udp, source, &vec![first; length]);
        }
    }
    assert!(world.drops("unvalidated_address") > 0);
    while world.engine.settle(world.now) {}
    assert!(world.engine.egress.datagrams.iter().all(|d| d.destination != stranger), "strangers are not answered");
    world.talk(0, 20);
    assert!(world.peers[1].packets >= 19, "the call goes on");
}

#[test]
fn a_session_is_taken_up_by_its_owner_and_by_nobody_else() {
    let mut world = World::new();
    world.connect_two();
    let participant = world.peers[0].participant.clone();
    world.engine.command(Command::Detached { participant: participant.clone(), attachment: 0 }, world.now);
    let resume = Intent::Resume { participant };
    let mut stranger = world.open(World::session("eve", resume.clone()), 90);
    let mut owner = world.open(World::session("ana", resume), 91);
    world.run(Duration::from_secs(1));
    assert!(matches!(stranger.try_recv(), Ok(ServerMessage::Error { code: Code::SessionGone, fatal: true, .. })));
    assert!(matches!(owner.try_recv(), Ok(ServerMessage::Welcome(Welcome { resumed: true, .. }))));
    world.talk(0, 10);
    assert!(world.peers[1].packets >= 9, "media did not notice");
}

#[test]
fn a_client_that_is_silent_and_unheard_is_gone_after_a_while() {
    let mut world = World::new();
    world.connect_two();
    let gone = world.peers.remove(0);
    world.engine.command(Command::Detached { participant: gone.participant.clone(), attachment: 0 }, world.now);
    world.run(MEDIA_LOST + Duration::from_millis(500));
    let left = ServerMessage::Left { participant: gone.participant, reason: LeaveReason::ConnectionLost };
    assert!(world.peers[0].heard.contains(&left));
}

#[test]
fn a_socket_without_media_does_not_hold_a_place_for_ever() {
    let mut world = World::new();
    world.connect_two();
    let mut idle = world.peers.remove(0);
    world.run(MEDIA_MISSING * 5 / 6);
    assert!(world.engine.by_participant.contains_key(&idle.participant), "its media may come back");
    world.run(MEDIA_MISSING / 5);
    assert!(!world.engine.by_participant.contains_key(&idle.participant));
    let heard: Vec<ServerMessage> = std::iter::from_fn(|| idle.signals.try_recv().ok()).collect();
    assert!(heard.contains(&ServerMessage::Ended { reason: LeaveReason::ConnectionLost }));
    assert!(world.engine.by_participant.contains_key(&world.peers[0].participant), "who has media stays");
}

#[test]
fn what_cannot_be_done_is_refused_with_its_reason() {
    let mut world = World::new();
    world.join("ana");
    world.say(0, ClientMessage::Offer { revision: 2, sdp: "v=0\r\nrubbish".into(), tracks: Vec::new() });
    world.say(0, ClientMessage::Offer { revision: 3, sdp: "x".repeat(300_000), tracks: Vec::new() });
    world.say(0, ClientMessage::Candidate { candidate: "candidate:rubbish".into() });
    world.say(
        0,
        ClientMessage::View {
            tiles: vec![isthmus_protocol::signal::Tile { track: "t".parse().expect("valid"), height: 1 }; 65],
        },
    );
    world.run(Duration::from_millis(50));
    assert_eq!(errors(&world.peers[0].heard), [Code::InvalidSdp, Code::TooLarge, Code::InvalidRequest, Code::TooLarge],);
    let offer = |message: &ServerMessage| match message {
        ServerMessage::Error { revision, .. } => Some(*revision),
        _ => None,
    };
    let offers: Vec<Option<u32>> = world.peers[0].heard.iter().filter_map(offer).collect();
    assert_eq!(offers, [Some(2), Some(3), None, None], "an error says which offer gets no answer");
    assert!(
        matches!(world.engine.clients[world.key(0).0].signalling, Signalling::Attached { .. }),
        "the session goes on"
    );
}
