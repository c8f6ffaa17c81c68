//! One client in a room, without IO.
//!
//! Feed it with what arrives ([`Client::handle_text`], [`Client::handle_packet`], [`Client::handle_connected`]) and
//! the time ([`Client::handle_timeout`]); after each, call [`Client::poll`] until it says [`Output::Wait`].
//!
//! A client is its media, which is the same whatever it talks to, and the dialogue by which media is agreed on
//! ([`super::signalling`]).

mod handshake;
mod header;
mod media;
mod negotiation;
mod phases;
mod replays;

use std::{net::SocketAddr, ops::Add, time::Instant};

use isthmus_protocol::{NodeId, ParticipantId, PopId, RoomId, pops::Measurement};
use serde::{Deserialize, Serialize};
use str0m::{
    RtcError,
    net::{Protocol, Transmit},
};

pub(super) use self::media::Media;
pub use self::phases::PhaseTimes;
use super::{
    impairment::Counted,
    media::{Library, Material},
    report::{Report, millis},
    signalling::Signalling,
    stamp::Stamps,
};

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
    /// What the camera and the microphone send.
    pub material: Material,
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
    /// Stamps packets, and reads the stamps of others in the same process.
    pub stamps: Option<Stamps>,
    /// What it does with what it receives.
    pub measuring: Measuring,
}

/// What a client does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measuring {
    /// Decrypts and judges it.
    Judges,
    /// Counts packets by their headers, once the media path stands.
    Counts,
}

/// What is known of the server and of others, as far as its signalling tells.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The PoP that was joined by.
    pub pop: Option<PopId>,
    /// What was measured of PoPs, the fastest first.
    pub probes: Vec<Measurement>,
    /// The client's own id.
    pub participant: Option<ParticipantId>,
    /// The media node that carries it.
    pub node: Option<NodeId>,
    /// Participants it was told of, itself included.
    pub participants: usize,
    /// Whether somebody published when it was welcomed.
    pub others_published: bool,
}

/// What a client wants done.
#[derive(Debug)]
pub enum Output {
    /// Send it over the signalling socket.
    Signal(String),
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
    /// What came over the signalling socket is not what the protocol knows.
    #[error("the server said what the protocol does not know: {0}")]
    Signal(#[from] serde_json::Error),
    /// The other side's session description cannot be used.
    #[error("the server's session description cannot be read: {0}")]
    Description(String),
    /// The server refuses what it was asked for.
    #[error("{0}")]
    Refused(String),
    /// The WebRTC engine failed.
    #[error("WebRTC failed: {0}")]
    Rtc(#[from] RtcError),
    /// A local address cannot be an ICE candidate.
    #[error("{0} cannot be used for media: bind to an address that the media node can reach")]
    Address(SocketAddr),
}

/// What a client sent and received so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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

impl Add for Traffic {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        // What was lost may become less: sums of differences wrap and come back.
        Self {
            sent_packets: self.sent_packets.wrapping_add(more.sent_packets),
            received_packets: self.received_packets.wrapping_add(more.received_packets),
            received_bytes: self.received_bytes.wrapping_add(more.received_bytes),
            lost_packets: self.lost_packets.wrapping_add(more.lost_packets),
        }
    }
}

/// One client in a room.
pub struct Client {
    media: Media,
    signalling: Signalling,
    signalling_closed: Option<String>,
    left: Option<Instant>,
    network: Option<Counted>,
}

impl Client {
    /// A client whose signalling socket is open. `udp` is the local address for media; without it media goes over TCP.
    pub fn new(
        config: ClientConfig,
        library: Library,
        mut signalling: Signalling,
        times: PhaseTimes,
        udp: Option<SocketAddr>,
        now: Instant,
    ) -> Result<Self, ClientError> {
        let mut media = Media::new(config, library, times, udp, now)?;
        signalling.begin(&mut media);
        Ok(Self { media, signalling, signalling_closed: None, left: None, network: None })
    }

    /// The server said something over the signalling socket.
    pub fn handle_text(&mut self, now: Instant, text: &str) -> Result<(), ClientError> {
        self.signalling.handle_text(&mut self.media, now, text)
    }

    /// The offer for a server that is asked by one exchange over HTTP (WHIP, WHEP); none if there is nothing to offer.
    pub fn offer(&mut self) -> Option<String> {
        self.media.offer().map(|offer| offer.sdp)
    }

    /// The answer to that offer.
    pub fn handle_answer(&mut self, now: Instant, sdp: &str) -> Result<(), ClientError> {
        self.media.handle_answer(now, sdp)
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
        self.media.handle_packet(now, proto, source, destination, bytes)
    }

    /// Counts a media packet, if that is all that this client does with it. Whether it was: then there is nothing to poll.
    pub fn count_packet(&mut self, now: Instant, bytes: &[u8]) -> bool {
        self.media.count(now, bytes)
    }

    /// A connection that [`Output::Connect`] asked for is open.
    pub fn handle_connected(&mut self, local: SocketAddr) -> Result<(), ClientError> {
        self.media.handle_connected(local)
    }

    /// The signalling socket closed. Media goes on without it.
    pub fn handle_signalling_closed(&mut self, why: &str) {
        let error = format!("the signalling socket closed: {why}");
        self.media.note_error(error.clone());
        self.signalling_closed.get_or_insert(error);
    }

    /// Something outside went wrong that the report should say.
    pub fn note_error(&mut self, error: String) {
        self.media.note_error(error);
    }

    /// What its network did, where it is a bad one.
    pub fn note_network(&mut self, counted: Counted) {
        self.network = Some(counted);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), ClientError> {
        self.signalling.handle_timeout(&mut self.media, now);
        self.media.handle_timeout(now)
    }

    /// Says goodbye. Nothing is taken in from now on, so the stay is measured up to here.
    pub fn leave(&mut self, now: Instant) {
        self.left.get_or_insert(now);
        self.signalling.leave(&mut self.media);
    }

    /// What to do next.
    pub fn poll(&mut self, now: Instant) -> Result<Output, ClientError> {
        Ok(match self.media.poll(now)? {
            Output::Wait(until) => Output::Wait(self.signalling.next_due().map_or(until, |due| due.min(until))),
            output => output,
        })
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.media.is_over()
    }

    /// Whether media can flow.
    pub fn is_connected(&self) -> bool {
        self.media.is_connected()
    }

    /// Whether what arrives can be read now and then, since nothing is to be told of each packet but that it came.
    pub fn reads_at_leisure(&self) -> bool {
        self.media.counts_by_headers()
    }

    /// Why the signalling socket closed, if it did.
    pub fn signalling_closed(&self) -> Option<&str> {
        self.signalling_closed.as_deref()
    }

    /// What was sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.media.traffic()
    }

    /// One line for people: what arrives now.
    pub fn live_line(&mut self, now: Instant) -> String {
        let (kbps, frames) = (self.media.live_kbps(now), self.media.frames());
        let facts = self.signalling.facts();
        let (people, pop) = (facts.participants, facts.pop.as_ref().map_or("the server", PopId::as_str));
        let state = if self.is_connected() { "in the call" } else { "joining" };
        format!("{state} by {pop}: {people} participants, receiving {kbps:.0} kbit/s, {frames} frames decodable")
    }

    /// All that was measured until the goodbye, or until `now`.
    pub fn report(&self, now: Instant) -> Report {
        let now = self.left.unwrap_or(now);
        let media = &self.media;
        let facts = self.signalling.facts();
        let first = |times: Vec<Option<Instant>>| times.into_iter().flatten().min();
        let first_packet = first(media.slots.iter().map(|(_, slot)| slot.first_packet_at()).collect());
        let first_frame = first(media.slots.iter().map(|(_, slot)| slot.first_frame_at()).collect());
        let start = media.times.start;
        Report {
            name: media.config.name.clone(),
            room: media.config.room.clone(),
            pop: facts.pop,
            probes: facts.probes,
            participant: facts.participant,
            node: facts.node,
            duration_ms: millis(now - start),
            join: media.times.report(first_packet, first_frame),
            ended: media.ended.clone(),
            errors: media.errors.clone(),
            participants: facts.participants,
            others_published: facts.others_published,
            offers: media.offers,
            network: self.network,
            sent: media.sent(),
            slots: media.slots.iter().map(|(_, slot)| slot.report(start, now)).collect(),
        }
    }
}
