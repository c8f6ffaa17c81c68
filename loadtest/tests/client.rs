//! A client against a bare WebRTC engine over a virtual network: the offer can be answered, three layers flow, and what
//! the client measures is what the network did.

#![expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use isthmus_protocol::signal::{
    ClientMessage, Participant, ServerMessage, Slot, SlotContent, SlotState, Source, Track, VERSION, Welcome,
};
use loadtest::client::{
    media::{Library, Material},
    publish::{Camera, OutgoingPacket},
    report::Report,
    session::{Client, ClientConfig, Measuring, Output, PhaseTimes},
    signalling::{Signalling, isthmus},
};
use str0m::{
    Candidate, Event, Input, Rtc,
    change::SdpOffer,
    media::{Direction, KeyframeRequestKind, Mid, Pt, Rid},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};

const MS: Duration = Duration::from_millis(1);
/// One way.
const DELAY: Duration = Duration::from_millis(20);

fn client_address() -> SocketAddr {
    SocketAddr::from(([10, 77, 1, 2], 1000))
}

fn node_address() -> SocketAddr {
    SocketAddr::from(([10, 77, 2, 2], 2000))
}

/// A packet under way.
struct UnderWay {
    due: Instant,
    to_client: bool,
    bytes: Vec<u8>,
}

/// What the media node of this test saw of one layer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Seen {
    packets: u64,
    bytes: u64,
}

/// A client and the engine that answers it, with a virtual clock and network between them.
struct Call {
    now: Instant,
    client: Client,
    node: Rtc,
    /// Due times grow, so the front is the next.
    network: VecDeque<UnderWay>,
    messages: Vec<ClientMessage>,
    seen: HashMap<(Mid, Option<Rid>), Seen>,
    levels: Vec<i8>,
    keyframe_request: Option<(Mid, Option<Rid>)>,
    /// What the node sends into the client's first video slot.
    camera: Option<(Camera, Mid, Pt)>,
    /// Numbers of the node's packets that the network loses, retransmissions of them included.
    lose: Vec<u64>,
    sent_by_node: u64,
}

impl Call {
    fn new(config: ClientConfig) -> Self {
        let now = Instant::now();
        let pop = "panama".parse().expect("valid");
        let signalling = Signalling::Isthmus(isthmus::Dialogue::new(pop, Vec::new()));
        let times = PhaseTimes::begin(now);
        let client = Client::new(config, Library::built_in(), signalling, times, Some(client_address()), now);
        // Without retransmissions what the network loses stays lost.
        let builder = Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true).set_rtp_mode(true);
        let mut node = builder.set_ice_lite(true).build(now);
        node.add_local_candidate(Candidate::host(node_address(), "udp").expect("a candidate"));
        Self {
            now,
            client: client.expect("the address is good"),
            node,
            network: VecDeque::new(),
            messages: Vec::new(),
            seen: HashMap::new(),
            levels: Vec::new(),
            keyframe_request: None,
            camera: None,
            lose: Vec::new(),
            sent_by_node: 0,
        }
    }

    fn signal(&mut self, message: &ServerMessage) {
        let text = serde_json::to_string(message).expect("it is plain data");
        self.client.handle_text(self.now, &text).expect("the client understands");
        self.drain_client();
    }

    /// Hello, welcome, offer and answer.
    fn join(&mut self) {
        self.drain_client();
        assert!(matches!(self.messages.remove(0), ClientMessage::Hello(hello) if hello.room.as_str() == "demo"));
        self.signal(&ServerMessage::Welcome(welcome()));
        let offer = self.messages.iter().find_map(|message| match message {
            ClientMessage::Offer { revision: 1, sdp, .. } => SdpOffer::from_sdp_string(sdp).ok(),
            _ => None,
        });
        let answer = self.node.sdp_api().accept_offer(offer.expect("the client offers")).expect("it can be answered");
        self.signal(&ServerMessage::Answer { revision: 1, sdp: answer.to_sdp_string() });
        self.drain_node();
    }

    /// Moves the time on in steps of 1 ms.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            while let Some(packet) = self.network.pop_front_if(|packet| packet.due <= self.now) {
                self.deliver(&packet);
            }
            self.client.handle_timeout(self.now).expect("the client goes on");
            self.drain_client();
            self.node.handle_input(Input::Timeout(self.now)).expect("the node goes on");
            self.drain_node();
            self.ask_for_keyframe();
            while let Some(packet) = self.camera.as_mut().and_then(|(camera, ..)| camera.poll(self.now)) {
                self.send_from_node(packet);
            }
        }
    }

    fn deliver(&mut self, packet: &UnderWay) {
        let (from, to) =
            if packet.to_client { (node_address(), client_address()) } else { (client_address(), node_address()) };
        if packet.to_client {
            self.client.handle_packet(self.now, Protocol::Udp, from, to, &packet.bytes).expect("the client goes on");
            self.drain_client();
        } else {
            let receive = Receive::new(Protocol::Udp, from, to, &packet.bytes).expect("the client sends WebRTC");
            self.node.handle_input(Input::Receive(self.now, receive)).expect("the node goes on");
            self.drain_node();
        }
    }

    fn drain_client(&mut self) {
        loop {
            match self.client.poll(self.now).expect("the client goes on") {
                Output::Signal(text) => self.messages.push(serde_json::from_str(&text).expect("a message")),
                Output::Transmit(transmit) => {
                    assert_eq!((transmit.source, transmit.destination), (client_address(), node_address()));
                    let bytes = transmit.contents.to_vec();
                    self.network.push_back(UnderWay { due: self.now + DELAY, to_client: false, bytes });
                }
                Output::Connect(address) => panic!("nobody asked for TCP to {address}"),
                Output::Wait(_) => return,
            }
        }
    }

    fn drain_node(&mut self) {
        loop {
            match self.node.poll_output().expect("the node goes on") {
                str0m::Output::Transmit(transmit) => {
                    let bytes = transmit.contents.to_vec();
                    // RFC 7983: media begins with a byte from 128 to 191, and RTCP is told by its packet type.
                    let is_rtp = (128..192).contains(&bytes[0]) && !(192..224).contains(&bytes[1]);
                    let lost = is_rtp && self.lose.contains(&self.sent_by_node);
                    self.sent_by_node += u64::from(is_rtp);
                    if !lost {
                        self.network.push_back(UnderWay { due: self.now + DELAY, to_client: true, bytes });
                    }
                }
                str0m::Output::Event(Event::RtpPacket(packet)) => {
                    let ssrc = packet.header.ssrc;
                    let mut api = self.node.direct_api();
                    let stream = api.stream_rx(&ssrc).expect("it arrived in a stream");
                    let seen = self.seen.entry((stream.mid(), stream.rid())).or_default();
                    seen.packets += 1;
                    seen.bytes += packet.payload.len() as u64;
                    self.levels.extend(packet.header.ext_vals.audio_level);
                }
                str0m::Output::Event(_) => {}
                str0m::Output::Timeout(_) => return,
            }
        }
    }

    fn ask_for_keyframe(&mut self) {
        let Some((mid, rid)) = self.keyframe_request.take() else { return };
        let mut api = self.node.direct_api();
        let stream = api.stream_rx_by_mid(mid, rid).expect("the layer was received");
        stream.request_keyframe(KeyframeRequestKind::Pli);
    }

    fn send_from_node(&mut self, packet: OutgoingPacket) {
        let (_, mid, pt) = *self.camera.as_ref().expect("a camera sent it");
        let write = RtpWrite::new(pt, packet.sequence.into(), packet.timestamp, self.now, packet.payload);
        let mut api = self.node.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("the client receives there");
        stream.write_rtp(write.marker(packet.marker));
        self.node.handle_input(Input::Timeout(self.now)).expect("the node goes on");
        self.drain_node();
    }

    /// The node shows a camera in the client's first video slot.
    fn show_camera(&mut self) -> Mid {
        let slot = self.report().slots.iter().find(|slot| slot.video.is_some()).expect("a video slot").mid.clone();
        let mid = Mid::from(slot.as_str());
        assert_eq!(self.node.media(mid).map(str0m::media::Media::direction), Some(Direction::SendOnly));
        let pt = self.node.media(mid).and_then(|media| media.remote_pts().first().copied()).expect("VP8 was agreed on");
        self.camera = Some((Camera::new(&Library::built_in(), Material::Clip, false, self.now), mid, pt));
        let content = SlotContent {
            track: "p-other.1".parse().expect("valid"),
            participant: "p-other".parse().expect("valid"),
            rid: None,
            state: SlotState::Live,
        };
        self.signal(&ServerMessage::Slots { slots: vec![Slot { mid: slot, content: Some(content) }] });
        mid
    }

    fn report(&self) -> Report {
        self.client.report(self.now)
    }

    fn layers(&self) -> BTreeMap<String, Seen> {
        let layers = self.seen.iter().filter_map(|((_, rid), seen)| Some((rid.as_ref()?.to_string(), *seen)));
        layers.collect()
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        name: "bot".into(),
        room: "demo".parse().expect("valid"),
        audio: true,
        video: true,
        material: Material::Clip,
        simulcast: true,
        audio_slots: 3,
        video_slots: 2,
        tile_height: 720,
        speech_offset: 0,
        stamps: None,
        measuring: Measuring::Judges,
    }
}

fn welcome() -> Welcome {
    let participant = |id: &str, tracks| Participant {
        id: id.parse().expect("valid"),
        identity: id.into(),
        name: id.into(),
        pop: "panama".parse().expect("valid"),
        tracks,
    };
    let track = Track {
        id: "p-other.1".parse().expect("valid"),
        source: Source::Camera,
        muted: false,
        rids: vec!["q".into(), "h".into(), "f".into()],
    };
    Welcome {
        version: VERSION,
        participant: "p-own".parse().expect("valid"),
        pop: "panama".parse().expect("valid"),
        node: "panama-sfu-1".parse().expect("valid"),
        may_publish: true,
        participants: vec![participant("p-own", Vec::new()), participant("p-other", vec![track])],
        resumed: false,
    }
}

#[test]
fn the_offer_names_its_tracks_and_the_view_asks_for_what_others_show() {
    let mut call = Call::new(config());
    call.join();
    let sources = call.messages.iter().find_map(|message| match message {
        ClientMessage::Offer { tracks, .. } => Some(tracks.iter().map(|track| track.source).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(sources, Some(vec![Source::Microphone, Source::Camera]));
    let tiles = call.messages.iter().find_map(|message| match message {
        ClientMessage::View { tiles } => Some(tiles.iter().map(|tile| tile.track.to_string()).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(tiles, Some(vec!["p-other.1".to_owned()]));
}

#[test]
fn three_layers_and_a_voice_arrive_at_their_rates() {
    let mut call = Call::new(config());
    call.join();
    call.run(5000 * MS);
    let join = call.report().join;
    let (ice, dtls) = (join.ice_ms.expect("ICE"), join.dtls_ms.expect("DTLS"));
    assert!(ice >= 40.0 && dtls >= ice + 40.0 && dtls < 500.0, "a round trip is 40 ms: {join:?}");

    let layers = call.layers();
    let rate_kbps = |rid: &str| layers[rid].bytes as f64 * 8.0 / 5000.0;
    assert!((60.0..150.0).contains(&rate_kbps("q")), "{}", rate_kbps("q"));
    assert!((150.0..400.0).contains(&rate_kbps("h")), "{}", rate_kbps("h"));
    assert!((600.0..1200.0).contains(&rate_kbps("f")), "{}", rate_kbps("f"));
    let voice = call.seen.iter().filter(|((_, rid), _)| rid.is_none()).map(|(_, seen)| seen.packets).sum::<u64>();
    assert!((230..=250).contains(&voice), "{voice} packets of 20 ms in 5 s less the handshake");
    assert!(call.levels.iter().any(|level| *level > -25), "nobody is heard speaking: {:?}", &call.levels[..20]);
    let received = call.seen.values().map(|seen| seen.packets).sum::<u64>();
    let sent = call.report().sent;
    assert!(sent.packets - received < 30, "sent {} and received {received}", sent.packets);
    assert_eq!(sent.left_out, 0);
}

#[test]
fn a_keyframe_request_is_answered_and_hidden_layers_are_not_sent() {
    let mut call = Call::new(config());
    call.join();
    call.run(2000 * MS);
    let (mid, rid) = *call.seen.keys().find(|(_, rid)| rid.is_some_and(|rid| &*rid == "f")).expect("it arrived");
    let before = call.layers();
    call.keyframe_request = Some((mid, rid));
    call.run(200 * MS);
    assert_eq!(call.report().sent.keyframe_requests, 1);
    let burst = call.layers()["f"].bytes - before["f"].bytes;
    assert!(burst > 25_000, "a 720p keyframe is larger than 200 ms of the rest: {burst} bytes");

    call.signal(&ServerMessage::Layers { mid: mid.to_string(), rids: vec!["q".into()] });
    call.run(100 * MS);
    let before = call.layers();
    call.run(1000 * MS);
    let after = call.layers();
    assert_eq!((after["f"], after["h"]), (before["f"], before["h"]), "hidden layers were sent");
    assert!(after["q"].packets >= before["q"].packets + 29);
}

#[test]
fn what_is_received_is_measured() {
    let mut call = Call::new(ClientConfig { audio: false, video: false, ..config() });
    call.join();
    call.run(1000 * MS);
    call.show_camera();
    call.run(4000 * MS);
    let report = call.report();
    let slot = report.slots.iter().find(|slot| slot.packets > 0).expect("the camera was shown");
    let video = slot.video.as_ref().expect("it is a video slot");
    assert_eq!((slot.lost, video.freezes, video.undecodable_frames, video.keyframes), (0, 0, 0, 1));
    assert_eq!((video.width, video.height), (Some(1280), Some(720)));
    assert!((video.frames_per_second - 30.0).abs() < 0.5, "{video:?}");
    assert!(
        slot.jitter_ms.is_some_and(|ms| ms < 1.5),
        "steps of 1 ms are all the jitter there is: {:?}",
        slot.jitter_ms
    );
    let (first_packet, first_frame) = (report.join.first_packet_ms, report.join.first_frame_ms);
    assert!(first_packet.is_some_and(|at| (1020.0..1025.0).contains(&at)), "{first_packet:?}");
    assert_eq!(first_packet, first_frame, "the network carries a whole keyframe at once");
}

#[test]
fn a_loss_that_nothing_repairs_is_a_freeze_and_a_keyframe_request() {
    let mut call = Call::new(ClientConfig { audio: false, video: false, ..config() });
    call.join();
    call.run(1000 * MS);
    call.show_camera();
    call.run(1500 * MS);
    call.lose = vec![call.sent_by_node];
    call.run(2500 * MS);
    let report = call.report();
    let slot = report.slots.iter().find(|slot| slot.packets > 0).expect("the camera was shown");
    let video = slot.video.as_ref().expect("it is a video slot");
    assert_eq!(slot.lost, 1);
    assert!(video.keyframe_requests >= 1 && video.freezes == 1, "{video:?}");
    assert!(video.freeze_ms > 2000.0, "this node answers no keyframe request: {video:?}");
    assert!((40..50).contains(&video.frames), "{video:?}");
}
