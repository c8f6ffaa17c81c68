//! One link: the QUIC connection between two media nodes while it stands, and the one task that serves it.
//!
//! | queue            | bound                       | when it is full                                                            |
//! |------------------|-----------------------------|----------------------------------------------------------------------------|
//! | link media       | [`MEDIA_QUEUE`]             | the newest packet is dropped, `relay_queue_full`                           |
//! | link control     | [`CONTROL_QUEUE`]           | the link is reset: what was announced must not be lost, so both begin anew |
//! | link outgoing    | see [`crate::outgoing`]     | sound goes before pictures, what waited too long is dropped                |
//! | QUIC datagrams   | [`MOST_AHEAD_BYTES`]        | the rest waits in the queue before                                         |
//!
//! What congestion held back has its number and is held by the repair: once pictures do not wait any more, the other side may
//! still ask for it.
#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core")]

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use isthmus_protocol::{
    NodeId, PopId,
    media::{Datagram, MediaPacket, decode, encode_loss},
    node::{Opening, VERSION},
    peer::{PeerMessage, StreamId},
};
use quinn::SendDatagramError;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::debug;

use crate::{
    endpoint::until_lost,
    error::RelayError,
    frames::{FrameReceiver, FrameSender},
    identity::PeerIdentity,
    mesh::{Events, MeshEvent},
    metrics::{LinkCounters, Metrics},
    outgoing::{Class, Outgoing},
    reason::CloseReason,
    repair::{self, receiver::How},
};

/// Packets on their way to the link's task.
pub const MEDIA_QUEUE: usize = 4096;
/// Messages on their way to the link's task: a node's whole roster fits.
pub const CONTROL_QUEUE: usize = 16_384;
/// How much of QUIC's datagram buffer is filled: what leaves it within this time, since nothing overtakes there.
const AHEAD: Duration = Duration::from_millis(10);
/// But at least this much, in bytes: two datagrams, 20 ms at 1 Mbit/s.
const LEAST_AHEAD_BYTES: usize = 3 * 1024;
/// And at most this much, in bytes: 10 ms at 200 Mbit/s.
const MOST_AHEAD_BYTES: usize = 256 * 1024;
/// QUIC's datagram buffer, in bytes: never full.
pub(crate) const DATAGRAM_SEND_BUFFER_BYTES: usize = MOST_AHEAD_BYTES + 64 * 1024;
/// How soon to look again while something waits for the congestion window.
const FLUSH_AGAIN: Duration = Duration::from_millis(2);
/// What one datagram takes of QUIC's buffer beyond its own length; on the safe side.
const DATAGRAM_OVERHEAD_BYTES: usize = 64;
/// Packets taken from the queue at once.
const BATCH: usize = 64;
/// How long the other side may take to say who it is.
const OPENING_TIMEOUT: Duration = Duration::from_secs(5);
const RTT_REPORT: Duration = Duration::from_secs(1);

/// A standing link to a peer node. Cloning it is cheap; once the link is down it takes nothing any more.
#[derive(Debug, Clone)]
pub struct Link(Arc<Queues>);

#[derive(Debug)]
struct Queues {
    peer: PeerIdentity,
    connection: quinn::Connection,
    media: mpsc::Sender<(StreamId, MediaPacket)>,
    control: mpsc::Sender<PeerMessage>,
    counters: LinkCounters,
}

/// The link takes no more: its queue is full, or it is down and [`MeshEvent::LinkDown`] tells or has told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link to the peer node is full or down")]
pub struct LinkFull;

impl Link {
    /// The peer.
    pub fn node(&self) -> &NodeId {
        &self.0.peer.node
    }

    /// The peer's PoP.
    pub fn pop(&self) -> &PopId {
        &self.0.peer.pop
    }

    /// Sends a control message, in order and without loss. Never blocks. When the queue is full the link is reset: it
    /// comes down, up again, and begins with everything.
    pub fn control(&self, message: PeerMessage) -> Result<(), LinkFull> {
        self.0.control.try_send(message).map_err(|error| {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.reset();
            }
            LinkFull
        })
    }

    /// Ends the link because a control message found no place, on this side or the other. Both sides begin anew: what was
    /// told by it is void, and is told again by the next.
    pub fn reset(&self) {
        CloseReason::ControlFull.close(&self.0.connection);
    }

    /// Sends a packet as the stream the peer chose for it. Never blocks, from any thread. When the queue is full the
    /// packet is dropped and counted.
    pub fn media(&self, stream: StreamId, packet: MediaPacket) -> Result<(), LinkFull> {
        self.0.media.try_send((stream, packet)).map_err(|error| {
            match error {
                mpsc::error::TrySendError::Full(_) => self.0.counters.drop_queue.inc(),
                mpsc::error::TrySendError::Closed(_) => self.0.counters.drop_down.inc(),
            }
            LinkFull
        })
    }
}

/// What a link needs of the mesh it belongs to.
pub(crate) struct Surroundings {
    pub(crate) own: PeerIdentity,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) counters: LinkCounters,
}

/// The control streams of a connection, after both sides have said who they are.
pub(crate) struct Control {
    sender: FrameSender<PeerMessage>,
    receiver: FrameReceiver<PeerMessage>,
    /// Whether the peer reads SPEECH and LOSS datagrams.
    reads_speech: bool,
}

/// Opens the own control stream, takes the peer's, and compares what it says with its certificate.
pub(crate) async fn introduce(
    connection: &quinn::Connection,
    own: &PeerIdentity,
    peer: &PeerIdentity,
) -> Result<Control, CloseReason> {
    let exchange = async {
        let mut sender = FrameSender::new(connection.open_uni().await?);
        let opening = Opening::Peer { version: VERSION, pop: own.pop.clone(), node: own.node.clone(), speech: true };
        sender.send(&opening).await?;
        let mut receiver = FrameReceiver::new(connection.accept_uni().await?);
        let opening = receiver.receive().await?;
        Ok::<_, RelayError>((sender, receiver, opening))
    };
    let (sender, receiver, opening) = match timeout(OPENING_TIMEOUT, exchange).await {
        Ok(Ok(exchanged)) => exchanged,
        Ok(Err(RelayError::Ended(reason))) => return Err(reason),
        Ok(Err(error @ RelayError::Lost(_))) => return Err(reason_of(&error)),
        Ok(Err(_)) => return Err(CloseReason::Malformed),
        Err(_) => return Err(CloseReason::Opening),
    };
    match opening {
        Some(Opening::Peer { version: VERSION, pop, node, speech }) if pop == peer.pop && node == peer.node => {
            Ok(Control { sender: sender.then(), receiver: receiver.then(), reads_speech: speech })
        }
        Some(Opening::Peer { version: VERSION, .. }) => Err(CloseReason::Identity),
        Some(Opening::Peer { .. }) => Err(CloseReason::Version),
        Some(Opening::Session { .. } | Opening::Query { .. }) => Err(CloseReason::Role),
        None => Err(CloseReason::Opening),
    }
}

/// Serves a link until it is lost. [`MeshEvent::LinkUp`] comes first; the caller says when it is down.
pub(crate) async fn serve(
    connection: &quinn::Connection,
    control: Control,
    peer: &PeerIdentity,
    around: &Surroundings,
) -> CloseReason {
    let (media_sender, media_queue) = mpsc::channel(MEDIA_QUEUE);
    let (control_sender, control_queue) = mpsc::channel(CONTROL_QUEUE);
    // Kept until the end, so that a link whose user has let go of it stays up and can still be heard.
    let link = Link(Arc::new(Queues {
        peer: peer.clone(),
        connection: connection.clone(),
        media: media_sender,
        control: control_sender,
        counters: around.counters.clone(),
    }));
    (around.events)(MeshEvent::LinkUp { link: link.clone() });
    let path = MediaPath::new(connection, peer, around, control.reads_speech);
    let reason = tokio::select! {
        error = until_lost(connection) => reason_of(&error.into()),
        reason = send_control(control_queue, control.sender) => reason,
        reason = receive_control(control.receiver, &link, &around.events) => reason,
        reason = path.run(media_queue) => reason,
        reason = refuse_streams(connection) => reason,
        never = report_rtt(connection, peer, &around.metrics) => never,
    };
    reason.close(connection);
    drop(link);
    reason
}

fn reason_of(error: &RelayError) -> CloseReason {
    match error {
        RelayError::Ended(reason) => *reason,
        RelayError::FrameTooLarge { .. } | RelayError::Malformed { .. } | RelayError::Truncated => {
            CloseReason::Malformed
        }
        RelayError::Lost(quinn::ConnectionError::Reset) => CloseReason::Restarted,
        RelayError::Lost(_) | RelayError::Down { .. } | RelayError::TimedOut => CloseReason::Silent,
    }
}

async fn send_control(mut queue: mpsc::Receiver<PeerMessage>, mut stream: FrameSender<PeerMessage>) -> CloseReason {
    while let Some(message) = queue.recv().await {
        if let Err(error) = stream.send(&message).await {
            return reason_of(&error);
        }
    }
    CloseReason::Done
}

async fn receive_control(mut stream: FrameReceiver<PeerMessage>, link: &Link, events: &Events) -> CloseReason {
    loop {
        match stream.receive().await {
            Ok(Some(message)) => events(MeshEvent::Control { link: link.clone(), message }),
            Ok(None) => return CloseReason::Done,
            Err(error) => return reason_of(&error),
        }
    }
}

/// A peer node has one stream, its control stream. One more is a door's, and this is not a door's connection.
async fn refuse_streams(connection: &quinn::Connection) -> CloseReason {
    let opened = tokio::select! {
        opened = connection.accept_bi() => opened.map(drop),
        opened = connection.accept_uni() => opened.map(drop),
    };
    opened.map_or_else(|error| reason_of(&error.into()), |()| CloseReason::Role)
}

async fn report_rtt(connection: &quinn::Connection, peer: &PeerIdentity, metrics: &Metrics) -> CloseReason {
    let gauge = metrics.rtt_seconds.with_label_values(&[peer.node.as_str()]);
    let mut tick = interval(RTT_REPORT);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        gauge.set(connection.rtt().as_secs_f64());
    }
}

/// Media in both directions and its repair.
struct MediaPath<'a> {
    connection: &'a quinn::Connection,
    node: &'a NodeId,
    around: &'a Surroundings,
    reads_speech: bool,
    sender: repair::Sender,
    receiver: repair::Receiver,
    outgoing: Outgoing,
    /// When to look whether the congestion window takes more, while something waits for it.
    flush_at: Option<Instant>,
    /// Datagrams and packets on their way through one call.
    out: Vec<Bytes>,
    packets: Vec<MediaPacket>,
}

impl<'a> MediaPath<'a> {
    fn new(
        connection: &'a quinn::Connection,
        peer: &'a PeerIdentity,
        around: &'a Surroundings,
        reads_speech: bool,
    ) -> Self {
        Self {
            connection,
            node: &peer.node,
            around,
            reads_speech,
            sender: repair::Sender::default(),
            receiver: repair::Receiver::default(),
            outgoing: Outgoing::default(),
            flush_at: None,
            out: Vec::new(),
            packets: Vec::new(),
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<(StreamId, MediaPacket)>) -> CloseReason {
        let mut batch = Vec::with_capacity(BATCH);
        let mut timer = pin!(sleep_until(Instant::now().into()));
        loop {
            let timeouts = [self.sender.poll_timeout(), self.receiver.poll_timeout(), self.flush_at];
            let due = timeouts.into_iter().flatten().min();
            if let Some(due) = due.filter(|due| timer.deadline().into_std() != *due) {
                timer.as_mut().reset(due.into());
            }
            tokio::select! {
                count = queue.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return CloseReason::Done;
                    }
                    self.send(batch.drain(..));
                }
                datagram = self.connection.read_datagram() => match datagram {
                    Ok(datagram) => self.receive(&datagram),
                    Err(error) => return reason_of(&error.into()),
                },
                () = timer.as_mut(), if due.is_some() => self.handle_timeout(),
            }
        }
    }

    fn send(&mut self, packets: impl Iterator<Item = (StreamId, MediaPacket)>) {
        let counters = &self.around.counters;
        let Some(max_datagram) = self.connection.max_datagram_size() else {
            counters.drop_down.inc_by(packets.count() as u64);
            return;
        };
        let now = Instant::now();
        let takes_redundancy = self.reads_speech && !self.outgoing.holds_sound();
        self.sender.set_path(repair::Path { rtt: self.connection.rtt(), takes_redundancy });
        for (stream, packet) in packets {
            match self.sender.send(stream, &packet, max_datagram, now, &mut self.out) {
                Ok(()) => {
                    counters.packets_out.inc();
                    counters.bytes_out.inc_by(packet.payload.len() as u64);
                }
                Err(repair::NotSent::TooManyStreams) => counters.drop_streams.inc(),
                Err(repair::NotSent::Oversize) => counters.drop_oversize.inc(),
            }
            let class = if packet.codec.is_audio() { Class::Sound } else { Class::Picture };
            for datagram in self.out.drain(..) {
                self.outgoing.push(class, datagram, now);
            }
        }
        self.flush(now);
    }

    fn receive(&mut self, datagram: &[u8]) {
        let (counters, now) = (&self.around.counters, Instant::now());
        counters.datagrams_in.inc();
        let stream = match decode(datagram) {
            Ok(Datagram::Media { stream, link_sequence, split, repair, packet }) => {
                let how = How::Media { split, repair };
                self.receiver.media(stream, link_sequence, how, packet, now, &mut self.packets);
                stream
            }
            Ok(Datagram::Speech { stream, link_sequence, packet, plain, parities, .. }) => {
                let how = How::Speech { plain, parities };
                self.receiver.media(stream, link_sequence, how, packet, now, &mut self.packets);
                stream
            }
            Ok(Datagram::Rest { stream, link_sequence, payload }) => {
                self.packets.extend(self.receiver.rest(stream, link_sequence, payload, now));
                stream
            }
            Ok(Datagram::Nack { stream, missing }) => {
                self.repeat(stream, &missing, now);
                return;
            }
            Ok(Datagram::Loss(report)) => {
                self.sender.handle_report(report, now);
                return;
            }
            Err(_) => {
                counters.drop_malformed.inc();
                return;
            }
        };
        for packet in self.packets.drain(..) {
            counters.packets_in.inc();
            counters.bytes_in.inc_by(packet.payload.len() as u64);
            (self.around.events)(MeshEvent::Media { node: self.node.clone(), stream, packet });
        }
    }

    fn repeat(&mut self, stream: StreamId, missing: &[u16], now: Instant) {
        let counters = &self.around.counters;
        let class = if self.sender.is_speech(stream) { Class::Sound } else { Class::Picture };
        if class == Class::Picture && self.outgoing.is_behind(now) {
            // They were held back, or would hold back what is new.
            counters.repair_capped.inc_by(missing.len() as u64);
            return;
        }
        let answered = self.sender.repeat(stream, missing, now, &mut self.out);
        counters.repair_sent.inc_by(answered.sent);
        counters.repair_gone.inc_by(answered.gone);
        counters.repair_capped.inc_by(answered.capped);
        self.queue(class, now);
        self.flush(now);
    }

    fn handle_timeout(&mut self) {
        let now = Instant::now();
        self.receiver.handle_timeout(now, self.connection.rtt(), &mut self.out);
        let report = self.receiver.take_report(now).filter(|_| self.reads_speech);
        self.out.extend(report.map(encode_loss));
        let mut pictures = Vec::new();
        self.sender.handle_timeout(now, &mut self.out, &mut pictures);
        self.queue(Class::Sound, now);
        self.out = pictures;
        self.queue(Class::Picture, now);
        self.flush(now);
        self.count();
    }

    fn queue(&mut self, class: Class, now: Instant) {
        for datagram in self.out.drain(..) {
            self.outgoing.push(class, datagram, now);
        }
    }

    /// Hands QUIC as much as it sends soon.
    fn flush(&mut self, now: Instant) {
        let counters = &self.around.counters;
        let path = self.connection.stats().path;
        let soon = path.cwnd as f64 * AHEAD.as_secs_f64() / path.rtt.as_secs_f64().max(1e-3);
        let limit = (soon as usize).clamp(LEAST_AHEAD_BYTES, MOST_AHEAD_BYTES);
        let inside = DATAGRAM_SEND_BUFFER_BYTES.saturating_sub(self.connection.datagram_send_buffer_space());
        let mut room = limit.saturating_sub(inside);
        while let Some(datagram) = self.outgoing.pop(room.saturating_sub(DATAGRAM_OVERHEAD_BYTES), now) {
            room -= datagram.len() + DATAGRAM_OVERHEAD_BYTES;
            match self.connection.send_datagram(datagram) {
                Ok(()) => counters.datagrams_out.inc(),
                // The path has become narrower since it was cut to size.
                Err(SendDatagramError::TooLarge) => counters.drop_oversize.inc(),
                Err(error) => {
                    debug!(%error, "a datagram could not be sent");
                    counters.drop_down.inc();
                }
            }
        }
        self.flush_at = (!self.outgoing.is_empty()).then(|| now + FLUSH_AGAIN);
        let dropped = self.outgoing.take_dropped();
        counters.drop_congested.inc_by(dropped.picture_full);
        counters.drop_late.inc_by(dropped.picture_late);
        counters.drop_sound_full.inc_by(dropped.sound_full);
        counters.drop_sound_late.inc_by(dropped.sound_late);
    }

    fn count(&mut self) {
        let (counters, counts) = (&self.around.counters, self.receiver.take_counts());
        counters.repair_received.inc_by(counts.repaired);
        counters.lost.inc_by(counts.lost);
        counters.drop_duplicate.inc_by(counts.duplicates);
        counters.drop_incomplete.inc_by(counts.incomplete);
        counters.drop_streams.inc_by(counts.refused);
        counters.speech_arrived.inc_by(counts.speech.arrived);
        counters.speech_restored.inc_by(counts.speech.restored);
        counters.speech_repeated.inc_by(counts.speech.repaired);
        counters.speech_lost.inc_by(counts.speech.lost);
        counters.redundant_bytes.inc_by(self.sender.take_redundant_bytes());
        let metrics = &self.around.metrics;
        metrics.speech_loss.with_label_values(&[self.node.as_str()]).set(self.sender.loss());
    }
}
