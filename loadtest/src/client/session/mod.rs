//! One client in a room, without IO.
//!
//! Feed it with what arrives ([`Client::handle_signal`], [`Client::handle_packet`], [`Client::handle_connected`]) and
//! the time ([`Client::handle_timeout`]); after each, call [`Client::poll`] until it says [`Output::Wait`].

mod negotiation;
mod phases;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Instant,
};

use isthmus_protocol::{
    ParticipantId, PopId, RoomId,
    pops::Measurement,
    signal::{ClientMessage, Hello, LeaveReason, Participant, ServerMessage, Source, Tile, VERSION, Welcome},
};
use str0m::{
    Candidate, Event, IceConnectionState, Input, Rtc, RtcError,
    change::SdpPendingOffer,
    format::Codec,
    media::{KeyframeRequestKind, Mid, Pt},
    net::{Protocol, Receive, TcpType, Transmit},
    rtp::{ExtensionValues, RtpPacket, RtpWrite},
};

pub use self::phases::PhaseTimes;
use super::{
    measure::{ReceivedPacket, SlotMeter},
    media::Library,
    publish::{Camera, Microphone, OutgoingPacket},
    report::{Report, SentReport, millis},
    stamp::Stamps,
};

/// The most errors that a report keeps.
const MAX_ERRORS: usize = 20;
/// The most tiles in a view of ours; the protocol allows 64.
const MAX_TILES: usize = 16;

/// What a client is to do in the room.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The name others see.
    pub name: String,
    /// The room.
    pub room: RoomId,
    /// Whether to publish a microphone.
    pub audio: bool,
    /// Whether to publish a camera.
    pub video: bool,
    /// Whether the camera has three layers.
    pub simulcast: bool,
    /// Receive slots for sound.
    pub audio_slots: usize,
    /// Receive slots for pictures.
    pub video_slots: usize,
    /// The height its tiles are shown at, in pixels.
    pub tile_height: u16,
    /// How many packets into the speech the client begins, so that several do not speak in chorus.
    pub speech_offset: usize,
    /// Stamps packets of speech, and reads the stamps of others in the same process.
    pub stamps: Option<Stamps>,
}

/// What the steps before signalling found out.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The chosen PoP.
    pub pop: PopId,
    /// What was measured, the fastest first.
    pub probes: Vec<Measurement>,
    /// When each step ended.
    pub times: PhaseTimes,
}

/// What a client wants done.
#[derive(Debug)]
pub enum Output {
    /// Send it to the door.
    Signal(ClientMessage),
    /// Send it to the media node, by UDP or over the TCP connection between these addresses.
    Transmit(Transmit),
    /// Open a TCP connection for media, then call [`Client::handle_connected`].
    Connect(SocketAddr),
    /// Nothing more until this time, or until something arrives.
    Wait(Instant),
}

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The answer to the offer is not a session description.
    #[error("the door's answer cannot be read: {0}")]
    Answer(String),
    /// The WebRTC engine failed.
    #[error("WebRTC failed: {0}")]
    Rtc(#[from] RtcError),
    /// A local address cannot be an ICE candidate.
    #[error("{0} cannot be used for media: bind to an address that the media node can reach")]
    Address(SocketAddr),
}

/// One client in a room.
pub struct Client {
    config: ClientConfig,
    library: Library,
    joined: Joined,
    rtc: Rtc,
    /// Whether media goes over TCP: then local candidates appear with connections.
    over_tcp: bool,
    outbox: VecDeque<Output>,
    pending: Option<(u32, SdpPendingOffer)>,
    offers: u32,
    welcome: Option<Welcome>,
    roster: BTreeMap<ParticipantId, Participant>,
    camera: Option<Sender<Camera>>,
    microphone: Option<Sender<Microphone>>,
    camera_mid: Option<Mid>,
    microphone_mid: Option<Mid>,
    slots: Vec<(Mid, SlotMeter)>,
    sent: SentReport,
    ended: Option<LeaveReason>,
    left: Option<Instant>,
    signalling_closed: Option<String>,
    others_published: bool,
    /// What was last asked for.
    view: Vec<Tile>,
    errors: Vec<String>,
}

/// What a client sent and received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// RTP packets.
    pub sent_packets: u64,
    /// RTP packets.
    pub received_packets: u64,
    /// Bytes of their payloads.
    pub received_bytes: u64,
    /// Packets that have not arrived; fewer when one is late.
    pub lost_packets: u64,
}

/// A source with the m-line it goes out on and the payload type that was agreed on there.
struct Sender<S> {
    source: S,
    mid: Mid,
    pt: Pt,
}

impl Client {
    /// A client whose signalling socket is open. `udp` is the local address for media; without it media goes over TCP.
    pub fn new(
        config: ClientConfig,
        library: Library,
        joined: Joined,
        udp: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ClientError> {
        let mut rtc = negotiation::engine(now);
        if let Some(address) = udp {
            let candidate = Candidate::host(address, "udp").map_err(|_| ClientError::Address(address))?;
            rtc.add_local_candidate(candidate);
        }
        let (room, name) = (config.room.clone(), config.name.clone());
        let hello = Hello { version: VERSION, token: None, room, name, resume: None, replaces: None };
        let mut client = Self {
            config,
            library,
            joined,
            rtc,
            over_tcp: udp.is_none(),
            outbox: VecDeque::from([Output::Signal(ClientMessage::Hello(hello))]),
            pending: None,
            offers: 0,
            welcome: None,
            roster: BTreeMap::new(),
            camera: None,
            microphone: None,
            camera_mid: None,
            microphone_mid: None,
            slots: Vec::new(),
            sent: SentReport::default(),
            ended: None,
            left: None,
            signalling_closed: None,
            others_published: false,
            view: Vec::new(),
            errors: Vec::new(),
        };
        // At once, as the browser does: the node answers both.
        client.offer();
        Ok(client)
    }

    /// The door said something.
    pub fn handle_signal(&mut self, now: Instant, message: ServerMessage) -> Result<(), ClientError> {
        match message {
            ServerMessage::Welcome(welcome) => self.handle_welcome(now, welcome),
            ServerMessage::Answer { revision, sdp } => self.handle_answer(now, revision, &sdp)?,
            ServerMessage::Participant { participant, replaces } => {
                if let Some(replaced) = replaces {
                    self.roster.remove(&replaced);
                }
                self.roster.insert(participant.id.clone(), participant);
                self.send_view();
            }
            ServerMessage::Left { participant, .. } => {
                self.roster.remove(&participant);
                self.send_view();
            }
            ServerMessage::Slots { slots } => {
                for slot in slots {
                    if let Some((_, meter)) = self.slots.iter_mut().find(|(mid, _)| **mid == *slot.mid) {
                        meter.set_content(slot.content);
                    }
                }
            }
            ServerMessage::Layers { mid, rids } => {
                if let Some(camera) = self.camera.as_mut().filter(|camera| *camera.mid == *mid) {
                    camera.source.show_layers(&rids);
                }
            }
            ServerMessage::Error { code, detail, fatal, .. } => {
                self.note_error(format!("{code:?}: {detail}"));
                self.ended = self.ended.or(fatal.then_some(LeaveReason::Fault));
            }
            ServerMessage::Ended { reason } => self.ended = Some(reason),
            ServerMessage::Move { deadline_s } => self.note_error(format!("asked to move within {deadline_s} s")),
            ServerMessage::Speakers { .. } | ServerMessage::Bandwidth { .. } | ServerMessage::Pong { .. } => {}
        }
        Ok(())
    }

    /// A media packet arrived.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        // What is neither STUN nor DTLS nor RTP is not for us (RFC 7983 section 7).
        let Ok(receive) = Receive::new(proto, source, destination, bytes) else { return Ok(()) };
        Ok(self.rtc.handle_input(Input::Receive(now, receive))?)
    }

    /// A connection that [`Output::Connect`] asked for is open. It is an active candidate (RFC 6544 section 4.1).
    pub fn handle_connected(&mut self, local: SocketAddr) -> Result<(), ClientError> {
        let candidate = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build();
        self.rtc.add_local_candidate(candidate.map_err(|_| ClientError::Address(local))?);
        Ok(())
    }

    /// The signalling socket closed. Media goes on without it.
    pub fn handle_signalling_closed(&mut self, why: &str) {
        let error = format!("the signalling socket closed: {why}");
        self.note_error(error.clone());
        self.signalling_closed.get_or_insert(error);
    }

    /// Something outside went wrong that the report should say.
    pub fn note_error(&mut self, error: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        for (_, slot) in &mut self.slots {
            slot.handle_timeout(now);
        }
        Ok(self.rtc.handle_input(Input::Timeout(now))?)
    }

    /// Says goodbye. Nothing is taken in from now on, so the stay is measured up to here.
    pub fn leave(&mut self, now: Instant) {
        self.left.get_or_insert(now);
        self.outbox.push_back(Output::Signal(ClientMessage::Leave));
    }

    /// What to do next.
    pub fn poll(&mut self, now: Instant) -> Result<Output, ClientError> {
        loop {
            if let Some(output) = self.outbox.pop_front() {
                return Ok(output);
            }
            match self.rtc.poll_output()? {
                str0m::Output::Transmit(transmit) => return Ok(Output::Transmit(transmit)),
                str0m::Output::Event(event) => self.handle_event(now, event),
                str0m::Output::Timeout(at) => {
                    if !self.send_media(now)? && !self.ask_for_keyframe(now) {
                        return Ok(Output::Wait(self.next_due().map_or(at, |due| due.min(at))));
                    }
                }
            }
        }
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.ended.is_some() || !self.rtc.is_alive()
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.joined.times.dtls.is_some()
    }

    /// Why the signalling socket closed, if it did.
    pub fn signalling_closed(&self) -> Option<&str> {
        self.signalling_closed.as_deref()
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        let sent = Traffic { sent_packets: self.sent.packets, ..Traffic::default() };
        self.slots.iter().fold(sent, |sum, (_, slot)| Traffic {
            received_packets: sum.received_packets + slot.packets(),
            received_bytes: sum.received_bytes + slot.bytes(),
            lost_packets: sum.lost_packets + slot.lost(),
            ..sum
        })
    }

    /// One line for people: what arrives now.
    pub fn live_line(&mut self, now: Instant) -> String {
        let kbps: f64 = self.slots.iter_mut().map(|(_, slot)| slot.live_kbps(now)).sum();
        let frames: u64 = self.slots.iter().map(|(_, slot)| slot.frames()).sum();
        let (people, pop) = (self.roster.len(), &self.joined.pop);
        let state = if self.is_connected() { "in the call" } else { "joining" };
        format!("{state} by {pop}: {people} participants, receiving {kbps:.0} kbit/s, {frames} frames decodable")
    }

    /// All that was measured until the goodbye, or until `now`.
    pub fn report(&self, now: Instant) -> Report {
        let now = self.left.unwrap_or(now);
        let start = self.joined.times.start;
        let first = |times: Vec<Option<Instant>>| times.into_iter().flatten().min();
        let first_packet = first(self.slots.iter().map(|(_, slot)| slot.first_packet_at()).collect());
        let first_frame = first(self.slots.iter().map(|(_, slot)| slot.first_frame_at()).collect());
        let left_out = self.camera.as_ref().map_or(0, |camera| camera.source.left_out())
            + self.microphone.as_ref().map_or(0, |microphone| microphone.source.left_out());
        Report {
            name: self.config.name.clone(),
            room: self.config.room.clone(),
            pop: self.joined.pop.clone(),
            probes: self.joined.probes.clone(),
            participant: self.welcome.as_ref().map(|welcome| welcome.participant.clone()),
            node: self.welcome.as_ref().map(|welcome| welcome.node.clone()),
            duration_ms: millis(now - start),
            join: self.joined.times.report(first_packet, first_frame),
            ended: self.ended,
            errors: self.errors.clone(),
            participants: self.roster.len(),
            others_published: self.others_published,
            offers: self.offers,
            sent: SentReport { left_out, ..self.sent.clone() },
            slots: self.slots.iter().map(|(_, slot)| slot.report(start, now)).collect(),
        }
    }

    fn handle_welcome(&mut self, now: Instant, welcome: Welcome) {
        self.roster = welcome.participants.iter().map(|other| (other.id.clone(), other.clone())).collect();
        self.joined.times.welcome.get_or_insert(now);
        self.others_published =
            self.roster.values().any(|other| other.id != welcome.participant && !other.tracks.is_empty());
        self.welcome = Some(welcome);
        self.send_view();
    }

    /// Asks for every camera and screen in the room, as a page with that many tiles would; only when they change.
    fn send_view(&mut self) {
        let own = self.welcome.as_ref().map(|welcome| &welcome.participant);
        let others = self.roster.values().filter(|other| Some(&other.id) != own);
        let pictures = others.flat_map(|other| &other.tracks).filter(|track| is_picture(track.source));
        let height = self.config.tile_height;
        let tiles = pictures.take(MAX_TILES.min(self.config.video_slots));
        let tiles: Vec<_> = tiles.map(|track| Tile { track: track.id.clone(), height }).collect();
        if tiles != self.view {
            self.view.clone_from(&tiles);
            self.outbox.push_back(Output::Signal(ClientMessage::View { tiles }));
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.joined.times.ice.get_or_insert(now);
            }
            Event::Connected => {
                self.joined.times.dtls.get_or_insert(now);
                self.start_sources(now);
            }
            Event::RtpPacket(packet) => self.handle_rtp(&packet),
            Event::KeyframeRequest(request) => {
                if let Some(camera) = self.camera.as_mut().filter(|camera| camera.mid == request.mid) {
                    self.sent.keyframe_requests += 1;
                    camera.source.restart_with_keyframe(request.rid.as_deref());
                }
            }
            _ => {}
        }
    }

    fn handle_rtp(&mut self, packet: &RtpPacket) {
        let ssrc = packet.header.ssrc;
        let Some(mid) = self.rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()) else { return };
        let Some((_, slot)) = self.slots.iter_mut().find(|(slot, _)| *slot == mid) else { return };
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let (sequence, payload) = (*packet.seq_no, &*packet.payload);
        slot.handle_packet(packet.timestamp, &ReceivedPacket { ssrc: *ssrc, sequence, timestamp, marker, payload });
    }

    fn start_sources(&mut self, now: Instant) {
        if let Some((mid, pt)) = self.agreed(self.camera_mid, Codec::Vp8) {
            let source = Camera::new(&self.library, self.config.simulcast, now);
            self.camera = Some(Sender { source, mid, pt });
        }
        if let Some((mid, pt)) = self.agreed(self.microphone_mid, Codec::Opus) {
            let source = Microphone::new(&self.library, self.config.speech_offset, now).stamping(self.config.stamps);
            self.microphone = Some(Sender { source, mid, pt });
        }
    }

    /// The payload type of `codec` on the m-line, if the other side took it.
    fn agreed(&self, mid: Option<Mid>, codec: Codec) -> Option<(Mid, Pt)> {
        let mid = mid?;
        let taken = self.rtc.media(mid)?.remote_pts();
        let ours = self.rtc.codec_config().find(|params| params.spec().codec == codec)?.pt();
        taken.contains(&ours).then_some((mid, ours))
    }

    /// Sends one packet that is due. Whether there was one.
    fn send_media(&mut self, now: Instant) -> Result<bool, ClientError> {
        let (packet, mid, pt, is_video) = if let Some(microphone) = &mut self.microphone
            && let Some(packet) = microphone.source.poll(now)
        {
            (packet, microphone.mid, microphone.pt, false)
        } else if let Some(camera) = &mut self.camera
            && let Some(packet) = camera.source.poll(now)
        {
            (packet, camera.mid, camera.pt, true)
        } else {
            return Ok(false);
        };
        // A layer that the answer refused has no stream.
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, packet.rid.map(Into::into)) {
            self.sent.packets += 1;
            self.sent.bytes += packet.payload.len() as u64;
            stream.write_rtp(rtp_write(packet, pt, now, is_video));
        }
        // The engine sends what was written at the next time it is told.
        self.rtc.handle_input(Input::Timeout(now))?;
        Ok(true)
    }

    /// Asks for a keyframe in one slot that needs one. Whether there was one.
    fn ask_for_keyframe(&mut self, now: Instant) -> bool {
        let wanted = self.slots.iter_mut().find_map(|(_, slot)| slot.poll_keyframe_request(now));
        if let Some(ssrc) = wanted
            && let Some(stream) = self.rtc.direct_api().stream_rx(&ssrc.into())
        {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
        wanted.is_some()
    }

    fn next_due(&self) -> Option<Instant> {
        let camera = self.camera.as_ref().map(|camera| camera.source.next_due());
        let microphone = self.microphone.as_ref().map(|microphone| microphone.source.next_due());
        let slots = self.slots.iter().filter_map(|(_, slot)| slot.next_timeout());
        slots.chain(camera).chain(microphone).min()
    }
}

/// Lost video is worth a retransmission; lost sound is concealed sooner than one would come.
fn rtp_write(packet: OutgoingPacket, pt: Pt, now: Instant, is_video: bool) -> RtpWrite {
    let mut extensions = ExtensionValues::default();
    if let Some((level, voice)) = packet.level {
        extensions.audio_level = i8::try_from(level).ok().map(|level| -level);
        extensions.voice_activity = Some(voice);
    }
    RtpWrite::new(pt, packet.sequence.into(), packet.timestamp, now, packet.payload)
        .marker(packet.marker)
        .nackable(is_video)
        .ext_vals(extensions)
}

fn is_picture(source: Source) -> bool {
    matches!(source, Source::Camera | Source::Screen)
}
