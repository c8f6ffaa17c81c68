//! One client: its peer connection (str0m, behind an unwind boundary) for ICE, DTLS and what it publishes, and the outlet for
//! what it is sent.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::{
    ParticipantId, RoomId,
    media::{AudioLevel, Codec, MediaPacket},
    red,
    signal::ServerMessage,
    token::Grants,
};
use rustc_hash::FxHashMap;
use str0m::{
    Event, Input, Output, Rtc, format,
    ice::IceCreds,
    media::{KeyframeRequestKind, Mid, Pt, Rid},
    net::{Protocol, Receive, Transmit},
    rtp::{Extension, RtpPacket, Ssrc},
};
use tokio::sync::mpsc;

use super::{
    descriptor::{self, Descriptor},
    outlet::ClientOutlet,
    touched::Due,
};
use crate::core::{
    allowance::Allowance,
    egress::{
        outlet::{ExtensionIds, Heard, Packet, PayloadTypes},
        reports::Concerns,
    },
    room::{Estimate, Outgoing, SlotOffer},
};

/// Offers of one client: a page offers once, and again when it shares a screen or its grid grows.
const OFFERS: Allowance = Allowance::new(8, Duration::from_secs(1));
/// The most SSRCs one client may send from: three layers and their repair for each of 8 tracks, and as many again.
const MAX_SOURCES: usize = 96;
/// A payload larger than this is not sent: with the largest headers it would not fit a network's packets.
const MAX_PAYLOAD_BYTES: usize = 1_300;

/// RFC 5761 section 4, RFC 7983 section 7.
pub(super) fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

/// A panic inside one client's peer connection. The client is ended and nobody else notices.
#[derive(Debug)]
pub(super) struct Panicked;

/// What a client's peer connection wants done.
pub(super) enum Polled {
    Transmit(Transmit),
    Packet {
        mid: Mid,
        rid: Option<Rid>,
        packet: MediaPacket,
    },
    Connected,
    Closed,
    /// A packet that cannot be used; the reason of `isthmus_drops_total`.
    Unusable(&'static str),
    /// It sends from ever new SSRCs, each of which takes memory for good.
    TooManySources,
    /// Something of no consequence here.
    Nothing,
    /// Nothing more until then.
    WaitUntil(Instant),
}

/// Whose an RTCP datagram is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// It speaks only of what the client is sent.
    Taken,
    /// The peer connection has to hear it too.
    Shared,
    /// There are no keys yet, or it is not authentic.
    NotOurs,
}

/// How a client's signalling stands.
pub(super) enum Signalling {
    /// A door holds it; `attachment` tells one holding from the next.
    Attached { attachment: u64, outbox: mpsc::Sender<ServerMessage> },
    /// Since then nobody does.
    Detached { since: Instant },
    /// It has none and needs none (WHIP, WHEP).
    MediaOnly,
}

pub(super) struct Client {
    pub participant: ParticipantId,
    pub room: RoomId,
    pub identity: String,
    pub grants: Grants,
    pub signalling: Signalling,
    pub media_only: bool,
    /// Offers it may make: each costs the thread some milliseconds.
    pub offers: Allowance,
    pub connected: bool,
    pub transport: Option<Protocol>,
    pub joined: Instant,
    /// When something authentic came last.
    pub last_received: Instant,
    pub estimate_kbps: Option<u32>,
    /// The estimate that the client was last told.
    pub told_kbps: u32,
    /// When str0m wants to be woken.
    pub timeout: Instant,
    /// The earliest wake-up that the shard has noted for it.
    pub scheduled: Option<Instant>,
    /// What is to be done about it in this round.
    pub due: Due,
    /// A test wants to see what a fault in the library does.
    #[cfg(test)]
    pub injected_panic: Option<&'static str>,
    rtc: Rtc,
    outlet: ClientOutlet,
    sources: FxHashMap<Ssrc, (Mid, Option<Rid>)>,
    codecs: FxHashMap<Pt, Codec>,
    payload_types: FxHashMap<(Mid, Codec), PayloadTypes>,
}

/// What identifies a client when it comes.
pub(super) struct Identity {
    pub participant: ParticipantId,
    pub room: RoomId,
    /// From the token.
    pub person: String,
    pub grants: Grants,
    pub media_only: bool,
}

impl Client {
    pub(super) fn new(who: Identity, (rtc, outlet): (Rtc, ClientOutlet), signalling: Signalling, now: Instant) -> Self {
        Self {
            participant: who.participant,
            room: who.room,
            identity: who.person,
            grants: who.grants,
            media_only: who.media_only,
            signalling,
            offers: OFFERS,
            connected: false,
            transport: None,
            joined: now,
            last_received: now,
            estimate_kbps: None,
            told_kbps: 0,
            timeout: now,
            scheduled: None,
            due: Due::Nothing,
            #[cfg(test)]
            injected_panic: None,
            rtc,
            outlet,
            sources: FxHashMap::default(),
            codecs: FxHashMap::default(),
            payload_types: FxHashMap::default(),
        }
    }

    /// Runs `work` on the peer connection; a panic in it stays in it.
    pub(super) fn guarded<T>(&mut self, work: impl FnOnce(&mut Rtc) -> T) -> Result<T, Panicked> {
        catch_unwind(AssertUnwindSafe(|| work(&mut self.rtc))).map_err(|_| Panicked)
    }

    /// Remembers what the payload types of the negotiated m-lines mean.
    pub(super) fn learn_payload_types(&mut self, mids: &[Mid]) {
        let params: Vec<_> = self.rtc.codec_config().params().to_vec();
        for mid in mids {
            let Some(media) = self.rtc.media(*mid) else { continue };
            for param in params.iter().filter(|param| media.remote_pts().contains(&param.pt())) {
                let Some(codec) = codec_of(param.spec().codec) else { continue };
                self.codecs.insert(param.pt(), codec);
                let types = PayloadTypes { media: *param.pt(), repair: param.resend().map(|repair| *repair) };
                self.payload_types.entry((*mid, codec)).or_insert(types);
                if let Some(red) = param.red() {
                    self.codecs.insert(red, Codec::Red);
                    let types = PayloadTypes { media: *red, repair: None };
                    self.payload_types.entry((*mid, Codec::Red)).or_insert(types);
                }
            }
        }
    }

    /// The codecs that can be sent on an m-line.
    pub(super) fn codecs_on(&self, mid: Mid) -> Vec<Codec> {
        self.payload_types.keys().filter(|(of, _)| *of == mid).map(|(_, codec)| *codec).collect()
    }

    /// The local user fragment, by which STUN requests name this session.
    pub(super) fn credentials(&mut self) -> IceCreds {
        self.rtc.direct_api().local_ice_credentials()
    }

    /// Takes a datagram; it has been decided that it is for this client. Whether it was taken without an error.
    pub(super) fn receive(&mut self, now: Instant, receive: Receive<'_>) -> Result<bool, Panicked> {
        let input = Input::Receive(now, receive);
        #[cfg(test)]
        if let Some(message) = self.injected_panic {
            return self.guarded(|_| panic!("{message}"));
        }
        self.guarded(|rtc| rtc.handle_input(input).is_ok())
    }

    /// Whether the session accepts non-STUN datagrams from where `probe` says: only after an integrity-checked STUN
    /// request has come from there.
    pub(super) fn has_validated(&mut self, now: Instant, probe: Receive<'_>) -> Result<bool, Panicked> {
        let input = Input::Receive(now, probe);
        self.guarded(|rtc| rtc.accepts(&input))
    }

    pub(super) fn wake(&mut self, now: Instant) -> Result<(), Panicked> {
        // An error here means that the session is broken; it shows as a closed one when polled.
        self.guarded(|rtc| {
            let _ = rtc.handle_input(Input::Timeout(now));
        })
    }

    pub(super) fn poll(&mut self, now: Instant) -> Result<Polled, Panicked> {
        let output = self.guarded(str0m::Rtc::poll_output)?;
        Ok(match output {
            Ok(Output::Timeout(at)) => Polled::WaitUntil(at),
            Ok(Output::Transmit(transmit)) => Polled::Transmit(transmit),
            Ok(Output::Event(event)) => self.event(event, now),
            Err(_) => Polled::Closed,
        })
    }

    fn event(&mut self, event: Event, now: Instant) -> Polled {
        match event {
            Event::RtpPacket(packet) => {
                self.last_received = now;
                if self.sources.len() > MAX_SOURCES {
                    return Polled::TooManySources;
                }
                self.packet(&packet).map_or(Polled::Unusable("unknown_payload"), |(mid, rid, packet)| Polled::Packet {
                    mid,
                    rid,
                    packet,
                })
            }
            Event::Connected => {
                self.connected = true;
                if !self.outlet.connect(now) {
                    // A kind of key that the egress core does not know.
                    return Polled::Closed;
                }
                Polled::Connected
            }
            Event::Closed => Polled::Closed,
            _ => Polled::Nothing,
        }
    }

    fn packet(&mut self, packet: &RtpPacket) -> Option<(Mid, Option<Rid>, MediaPacket)> {
        let (mid, rid) = self.source(packet.header.ssrc)?;
        let codec = *self.codecs.get(&packet.header.payload_type)?;
        let extensions = &packet.header.ext_vals;
        let level = extensions.audio_level.map(|level| AudioLevel {
            below_full_scale: level.unsigned_abs().min(127),
            voice: extensions.voice_activity.unwrap_or(true),
        });
        let media = MediaPacket {
            sequence: *packet.seq_no as u16,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            codec,
            level,
            orientation: extensions.video_orientation.map(|orientation| orientation as u8),
            captured_us: captured_us(packet),
            descriptor: extensions.user_values.get::<Descriptor>().map(|Descriptor(bytes)| bytes.clone()),
            payload: packet.payload.clone(),
        };
        Some((mid, rid, media))
    }

    /// The m-line and layer of an SSRC that str0m has bound.
    fn source(&mut self, ssrc: Ssrc) -> Option<(Mid, Option<Rid>)> {
        if let Some(known) = self.sources.get(&ssrc) {
            return Some(*known);
        }
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_rx(&ssrc)?;
        let source = (stream.mid(), stream.rid());
        self.sources.insert(ssrc, source);
        Some(source)
    }

    /// Queues a packet in a slot. Whether there was a way to send it.
    pub(super) fn send(&mut self, outgoing: &Outgoing<'_>, now: Instant) -> bool {
        let Outgoing { mid, numbers, marker, packet, captured } = outgoing;
        let Some((types, media)) = self.encoding(*mid, packet) else { return false };
        if !self.connected || packet.payload.len() > MAX_PAYLOAD_BYTES {
            return false;
        }
        let waiting = Packet { numbers: *numbers, captured: *captured, types, marker: *marker, media };
        self.outlet.send(*mid, waiting, now).is_ok()
    }

    /// The payload types that a packet has on an m-line, and the packet as it is there: a voice with redundancy goes without it to
    /// a client that did not offer RED.
    fn encoding(&self, mid: Mid, packet: &Arc<MediaPacket>) -> Option<(PayloadTypes, Arc<MediaPacket>)> {
        let own = self.payload_types.get(&(mid, packet.codec)).copied();
        if packet.codec != Codec::Red {
            return Some((own?, packet.clone()));
        }
        let opus = *self.payload_types.get(&(mid, Codec::Opus))?;
        let (types, payload) = match own {
            Some(red) => (red, red::renumbered(&packet.payload, opus.media)?),
            None => (opus, red::newest_block(&packet.payload)?.into()),
        };
        Some((types, Arc::new(MediaPacket { payload, ..(**packet).clone() })))
    }

    /// The answer as the client is to be told it. str0m forgets the streams that it would send: what goes out under one SSRC by
    /// two hands would use numbers twice, and the client knows ours alone.
    pub(super) fn own_answer(
        &mut self,
        answer: &str,
        slots: &[SlotOffer],
        random: impl FnMut() -> u32,
        now: Instant,
    ) -> Result<String, Panicked> {
        let ssrcs = named_ssrcs(answer);
        self.guarded(|rtc| {
            for ssrc in ssrcs {
                rtc.direct_api().remove_stream_tx(ssrc);
            }
        })?;
        let Self { rtc, outlet, .. } = self;
        let extensions = |mid: Mid| {
            let map = rtc.media(mid).map(str0m::media::Media::remote_extmap);
            let id = |extension| map.and_then(|map| map.id_of(extension));
            ExtensionIds {
                mid: id(Extension::RtpMid),
                transport: id(Extension::TransportSequenceNumber),
                level: id(Extension::AudioLevel),
                orientation: id(Extension::VideoOrientation),
                descriptor: id(descriptor::extension()),
            }
        };
        Ok(outlet.answer(answer, slots, extensions, random, now))
    }

    /// The client can be reached at `address`; it wants media there if it `nominates` it.
    pub(super) fn reached_at(&mut self, protocol: Protocol, address: SocketAddr, nominates: bool) {
        if nominates || self.outlet.path.is_none() {
            self.outlet.path = Some((protocol, address));
        }
    }

    /// An RTCP datagram, opened in place, which may say something of what goes out past the peer connection: whose it is, and
    /// a new estimate, if there is one.
    pub(super) fn control(
        &mut self,
        datagram: &mut [u8],
        now: Instant,
        mut keyframe_wanted: impl FnMut(Mid),
    ) -> (Control, Option<Estimate>) {
        let mut of_pictures = None;
        let concerns = self.outlet.control(datagram, now, |said| match said {
            Heard::Estimate { bps } => of_pictures = Some(bps),
            Heard::KeyframeWanted { mid } => keyframe_wanted(mid),
            Heard::Received { .. } => {}
        });
        let control = match concerns {
            Some(Concerns::Sent) => Control::Taken,
            Some(Concerns::Both) => Control::Shared,
            None => return (Control::NotOurs, None),
        };
        let estimate = match (self.outlet.estimate_kbps(), of_pictures) {
            (Some(kbps), _) if self.estimate_kbps == Some(kbps) => None,
            // Where there are transport-wide numbers they say more.
            (Some(kbps), _) => Some(Estimate::Path(kbps)),
            (None, bps) => bps.map(|bps| Estimate::Pictures(u32::try_from(bps / 1_000).unwrap_or(u32::MAX))),
        };
        if let Some(Estimate::Path(kbps) | Estimate::Pictures(kbps)) = estimate {
            self.estimate_kbps = Some(kbps);
        }
        (control, estimate)
    }

    /// When something is to be done about it though nothing happens.
    pub(super) fn wake_at(&self) -> Instant {
        self.outlet.wake_at().map_or(self.timeout, |at| at.min(self.timeout))
    }

    /// The way out, and where it leads to, once that is known.
    pub(super) fn way_out(&mut self) -> Option<(&mut ClientOutlet, (Protocol, SocketAddr))> {
        let path = self.outlet.path?;
        Some((&mut self.outlet, path))
    }

    /// How often a datagram of the peer connection is to go out. What the client is asked for, repairs and keyframes, twice where
    /// much is lost: it drops a second copy as a replay (RFC 3711 section 3.3.2), and without the first a picture stands still for
    /// a round trip more.
    pub(super) fn copies(&self, transmit: &Transmit) -> usize {
        if self.outlet.is_lossy() && is_rtcp(&transmit.contents) { 2 } else { 1 }
    }

    /// Asks the client for a keyframe of one of its layers.
    pub(super) fn request_keyframe(&mut self, mid: Mid, rid: Option<Rid>) -> Result<(), Panicked> {
        self.guarded(|rtc| {
            if let Some(stream) = rtc.direct_api().stream_rx_by_mid(mid, rid) {
                stream.request_keyframe(KeyframeRequestKind::Pli);
            }
        })
    }

    /// What the client's slots could use and what the next picture takes, for the estimator to look for.
    pub(super) fn set_needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
        self.outlet.needs(desired_kbps, minimum_kbps, now);
    }

    /// Begins to say goodbye on the media path (RTCP BYE, DTLS `close_notify`): what comes of it is to be polled.
    pub(super) fn close(&mut self) {
        // A session that is broken says nothing any more.
        let _ = self.guarded(|rtc| rtc.close().is_ok());
    }

    /// Tells the client, if a door holds its signalling; a door that does not keep up loses it and will find everything
    /// again when the client resumes.
    pub(super) fn tell(&mut self, message: ServerMessage, now: Instant) -> Result<(), OutboxFull> {
        let Signalling::Attached { outbox, .. } = &self.signalling else { return Ok(()) };
        match outbox.try_send(message) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.detach(now);
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.detach(now);
                Err(OutboxFull)
            }
        }
    }

    pub(super) fn detach(&mut self, now: Instant) {
        self.signalling = if self.media_only { Signalling::MediaOnly } else { Signalling::Detached { since: now } };
    }

    /// How long nothing authentic has come.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_received)
    }
}

/// A door does not take a client's messages fast enough.
#[derive(Debug)]
pub(super) struct OutboxFull;

/// The SSRCs that a session description names (RFC 5576 section 4.1).
fn named_ssrcs(sdp: &str) -> Vec<Ssrc> {
    let named = |line: &str| line.strip_prefix("a=ssrc:")?.split(' ').next()?.parse::<u32>().ok();
    sdp.lines().filter_map(named).map(Ssrc::from).collect()
}

fn codec_of(codec: format::Codec) -> Option<Codec> {
    Some(match codec {
        format::Codec::Opus => Codec::Opus,
        format::Codec::PCMU => Codec::Pcmu,
        format::Codec::PCMA => Codec::Pcma,
        format::Codec::Vp8 => Codec::Vp8,
        format::Codec::Vp9 => Codec::Vp9,
        format::Codec::H264 => Codec::H264,
        format::Codec::Av1 => Codec::Av1,
        _ => return None,
    })
}

/// RFC 3550 section 6.4.1: the last sender report ties the publisher's wall clock to its RTP timestamps.
fn captured_us(packet: &RtpPacket) -> Option<u64> {
    let report = packet.last_sender_info?;
    let epoch = report.ntp_time.duration_since(std::time::UNIX_EPOCH).ok()?;
    let clock_hz = i64::from(packet.time.denom());
    let since_report = i64::from(packet.header.timestamp.wrapping_sub(report.rtp_time.numer() as u32).cast_signed());
    let since_report_us = since_report * 1_000_000 / clock_hz.max(1);
    u64::try_from(epoch.as_micros()).ok()?.checked_add_signed(since_report_us)
}
