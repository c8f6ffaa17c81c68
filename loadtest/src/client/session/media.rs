//! The media of one client: what it publishes and receives, its transport, and what it measures. The same whatever kind of
//! server it talks to.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use str0m::{
    Candidate, Event, IceConnectionState, Input, Rtc,
    change::SdpPendingOffer,
    format::{Codec, PayloadParams},
    media::{Direction, KeyframeRequestKind, MediaAdded, MediaKind, Mid, Pt},
    net::{Protocol, Receive, TcpType},
    rtp::{ExtensionValues, RtpPacket, RtpWrite, Ssrc},
};

use super::{
    ClientConfig, ClientError, Measuring, Output, PhaseTimes, Traffic, header::Header, negotiation, replays::Replays,
};
use crate::client::{
    measure::{ReceivedPacket, SlotMeter},
    media::Library,
    publish::{Camera, Microphone, OutgoingPacket},
    redundancy::Redundancy,
    report::SentReport,
};

/// The most errors that a report keeps.
const MAX_ERRORS: usize = 20;

/// How much of each layer can be repaired. However much the server asks for: browsers know no share of repairs that is too much,
/// and one of str0m's would silence them where one packet in ten is lost.
const MAX_REPAIRABLE: usize = 1_024;
const REPAIRABLE_FOR: Duration = Duration::from_secs(3);

/// The media of one client.
pub(in crate::client) struct Media {
    pub(in crate::client) config: ClientConfig,
    /// When each phase of joining ended.
    pub(in crate::client) times: PhaseTimes,
    /// Why the server ended the session, if it did.
    pub(in crate::client) ended: Option<String>,
    pub(super) library: Library,
    pub(super) rtc: Rtc,
    /// Whether media goes over TCP: then local candidates appear with connections.
    pub(super) over_tcp: bool,
    pub(super) outbox: VecDeque<Output>,
    pub(super) pending: Option<SdpPendingOffer>,
    pub(super) offers: u32,
    pub(super) camera_mid: Option<Mid>,
    pub(super) microphone_mid: Option<Mid>,
    pub(super) slots: Vec<(Mid, SlotMeter)>,
    pub(super) errors: Vec<String>,
    camera: Option<Sender<Camera>>,
    microphone: Option<Sender<Microphone>>,
    /// The payload type of voices with redundancy, and what makes those of the microphone.
    redundant_pt: Option<Pt>,
    redundancy: Option<Redundancy>,
    replays: Replays,
    sent: SentReport,
}

/// A source with the m-line it goes out on and the payload type that was agreed on there.
struct Sender<S> {
    source: S,
    mid: Mid,
    pt: Pt,
}

impl Media {
    pub(super) fn new(
        config: ClientConfig,
        library: Library,
        times: PhaseTimes,
        udp: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ClientError> {
        let mut rtc = negotiation::engine(config.material.has_redundancy(), now);
        if let Some(address) = udp {
            let candidate = Candidate::host(address, "udp").map_err(|_| ClientError::Address(address))?;
            rtc.add_local_candidate(candidate);
        }
        Ok(Self {
            config,
            times,
            ended: None,
            library,
            rtc,
            over_tcp: udp.is_none(),
            outbox: VecDeque::new(),
            pending: None,
            offers: 0,
            camera_mid: None,
            microphone_mid: None,
            slots: Vec::new(),
            errors: Vec::new(),
            camera: None,
            microphone: None,
            redundant_pt: None,
            redundancy: None,
            replays: Replays::default(),
            sent: SentReport::default(),
        })
    }

    /// Wants it sent over the signalling socket.
    pub(in crate::client) fn say(&mut self, text: String) {
        self.outbox.push_back(Output::Signal(text));
    }

    /// What the report should say beside figures.
    pub(in crate::client) fn note_error(&mut self, error: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// What is measured of the slot on an m-line.
    pub(in crate::client) fn slot_mut(&mut self, mid: &str) -> Option<&mut SlotMeter> {
        self.slots.iter_mut().find(|(slot, _)| **slot == *mid).map(|(_, meter)| meter)
    }

    /// The camera on this m-line is to send only these layers.
    pub(in crate::client) fn show_layers(&mut self, mid: &str, rids: &[String]) {
        if let Some(camera) = self.camera.as_mut().filter(|camera| *camera.mid == *mid) {
            camera.source.show_layers(rids);
        }
    }

    /// A media packet arrived.
    pub(super) fn handle_packet(
        &mut self,
        now: Instant,
        proto: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
        bytes: &[u8],
    ) -> Result<(), ClientError> {
        if self.replays.is_one(bytes) {
            return Ok(());
        }
        // What is neither STUN nor DTLS nor RTP is not for us (RFC 7983 section 7).
        let Ok(receive) = Receive::new(proto, source, destination, bytes) else { return Ok(()) };
        Ok(self.rtc.handle_input(Input::Receive(now, receive))?)
    }

    /// A connection that [`Output::Connect`] asked for is open. It is an active candidate (RFC 6544 section 4.1).
    pub(super) fn handle_connected(&mut self, local: SocketAddr) -> Result<(), ClientError> {
        let candidate = Candidate::builder().tcp().host(local).tcptype(TcpType::Active).build();
        self.rtc.add_local_candidate(candidate.map_err(|_| ClientError::Address(local))?);
        Ok(())
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        for (_, slot) in &mut self.slots {
            slot.handle_timeout(now);
        }
        Ok(self.rtc.handle_input(Input::Timeout(now))?)
    }

    /// What to do next.
    pub(super) fn poll(&mut self, now: Instant) -> Result<Output, ClientError> {
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
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() || !self.rtc.is_alive()
    }

    /// Whether media can flow.
    pub(super) fn is_connected(&self) -> bool {
        self.times.dtls.is_some()
    }

    /// Whether packets are counted by their headers now: what stands in them is nobody's business.
    pub(super) fn counts_by_headers(&self) -> bool {
        self.config.measuring == Measuring::Counts && self.is_connected()
    }

    /// Counts a packet of media, if that is all that is to be done with it. Whether it was.
    pub(super) fn count(&mut self, now: Instant, bytes: &[u8]) -> bool {
        let Some(header) = self.counts_by_headers().then(|| Header::of(bytes)).flatten() else { return false };
        if let Some(slot) = self.slot_of(header.ssrc.into()) {
            slot.count_packet(now, header.ssrc, header.sequence, header.payload_bytes);
        }
        true
    }

    /// What was sent and received so far.
    pub(super) fn traffic(&self) -> Traffic {
        let sent = Traffic { sent_packets: self.sent.packets, ..Traffic::default() };
        self.slots.iter().fold(sent, |sum, (_, slot)| Traffic {
            received_packets: sum.received_packets + slot.packets(),
            received_bytes: sum.received_bytes + slot.bytes(),
            lost_packets: sum.lost_packets + slot.lost(),
            ..sum
        })
    }

    /// The rate of all slots in the second before `now`.
    pub(super) fn live_kbps(&mut self, now: Instant) -> f64 {
        self.slots.iter_mut().map(|(_, slot)| slot.live_kbps(now)).sum()
    }

    /// Decodable frames of all slots so far.
    pub(super) fn frames(&self) -> u64 {
        self.slots.iter().map(|(_, slot)| slot.frames()).sum()
    }

    /// What was sent so far.
    pub(super) fn sent(&self) -> SentReport {
        let left_out = self.camera.as_ref().map_or(0, |camera| camera.source.left_out())
            + self.microphone.as_ref().map_or(0, |microphone| microphone.source.left_out());
        SentReport { left_out, ..self.sent.clone() }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::IceConnectionStateChange(IceConnectionState::Connected | IceConnectionState::Completed) => {
                self.times.ice.get_or_insert(now);
            }
            // A server that offers says what it sends (Janus).
            Event::MediaAdded(MediaAdded { mid, kind, direction: Direction::RecvOnly, .. }) => {
                self.add_slot(mid, kind);
            }
            Event::Connected => {
                self.times.dtls.get_or_insert(now);
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

    /// A receive slot on an m-line that has none yet.
    pub(super) fn add_slot(&mut self, mid: Mid, kind: MediaKind) {
        if !self.slots.iter().any(|(slot, _)| *slot == mid) {
            let meter = SlotMeter::new(mid.to_string(), negotiation::kind_of(kind));
            self.slots.push((mid, meter.reading_stamps(self.config.stamps)));
        }
    }

    /// The slot that a stream stands in.
    fn slot_of(&mut self, ssrc: Ssrc) -> Option<&mut SlotMeter> {
        let mid = self.rtc.direct_api().stream_rx(&ssrc)?.mid();
        self.slots.iter_mut().find(|(slot, _)| *slot == mid).map(|(_, slot)| slot)
    }

    fn handle_rtp(&mut self, packet: &RtpPacket) {
        let (ssrc, redundant_pt) = (packet.header.ssrc, self.redundant_pt);
        let Some(slot) = self.slot_of(ssrc) else { return };
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let (sequence, payload) = (*packet.seq_no, &*packet.payload);
        let redundant = redundant_pt == Some(packet.header.payload_type);
        let received = ReceivedPacket { ssrc: *ssrc, sequence, timestamp, marker, payload, redundant };
        slot.handle_packet(packet.timestamp, &received);
    }

    fn start_sources(&mut self, now: Instant) {
        if let Some((mid, pt)) = self.agreed(self.camera_mid, Codec::Vp8) {
            let source = Camera::new(&self.library, self.config.material, self.config.simulcast, now)
                .stamping(self.config.stamps);
            for rid in source.rids() {
                if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, rid.map(Into::into)) {
                    stream.set_rtx_cache(MAX_REPAIRABLE, REPAIRABLE_FOR, None);
                }
            }
            self.camera = Some(Sender { source, mid, pt });
        }
        // Agreed on: the engine forgets the payload type where the other side does not take it.
        self.redundant_pt =
            self.rtc.codec_config().find(|params| params.spec().codec == Codec::Opus).and_then(PayloadParams::red);
        if let Some((mid, opus)) = self.agreed(self.microphone_mid, Codec::Opus) {
            self.redundancy = self.redundant_pt.map(|_| Redundancy::new(*opus));
            let pt = self.redundant_pt.unwrap_or(opus);
            let source = Microphone::new(&self.library, self.config.material, self.config.speech_offset, now)
                .stamping(self.config.stamps);
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
            && let Some(mut packet) = microphone.source.poll(now)
        {
            if let Some(redundancy) = &mut self.redundancy {
                packet.payload = redundancy.wrap(packet.timestamp, &packet.payload).into();
            }
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
