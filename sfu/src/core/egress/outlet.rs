//! One client's way out: packets with the numbers they have in a slot go in, sealed datagrams come out.
//!
//! Nothing is copied or sealed before it is sent: what waits is a share of the payload that all receivers have in common.
//! Voices go before pictures. Packets of a picture that differ by one byte are made equally long by a byte of padding (RFC
//! 3550 section 5.1), so that the kernel takes them in one call (UDP GSO wants equal lengths).

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::media::{AudioLevel, Codec};
use rustc_hash::FxHashMap;
use str0m::media::Mid;

use super::{
    header::{Extension, Header},
    keys::MasterKey,
    numbers::{PacketNumber, StreamNumbers, Streams},
    open::Opener,
    repair::{Path, Repairs},
    reports::{self, Concerns, Reception, Report},
    seal::{Sealer, Unsealed},
    sender_report::{self, NtpTime, Sent},
};
use crate::core::{
    congestion::{Controller, Label, Limits, Next, Waiting as Waits, feedback::Feedback},
    rewrite::{Numbers, write_picture},
};

/// The most packets that wait, of voices, pictures and repairs each. More means that what paces them has lost its way; the oldest
/// are dropped.
const MAX_WAITING: usize = 1_024;
/// How long a voice waits at most; it waits at all only where the machine is behind, and would be heard too late.
const VOICE_PATIENCE: Duration = Duration::from_millis(400);
/// How long pictures wait at most: what the path carries has fallen far below what they were chosen for, and a keyframe of
/// a smaller one would wait behind them. Not less: now and then it takes a second until it is known what a new path carries.
const PICTURE_PATIENCE: Duration = Duration::from_millis(2_500);
/// What a path is taken to carry before anything is known, in kbit/s: what is chosen for a newcomer is not chosen for less, and
/// would wait too long for the first probes.
const INITIAL_KBPS: u32 = 1_000;
/// How long repairs wait at most: the picture that they belong to has passed.
const REPAIR_PATIENCE: Duration = Duration::from_millis(500);
/// From this share of loss on, at any rate, a path loses much.
const LOSSY: f64 = 0.03;
/// How often the client is told when what was captured.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// What a packet takes on its way beside its payload, in bytes: IP, UDP and RTP headers, extensions, tag.
const OVERHEAD_BYTES: usize = 28 + 28 + 16;
/// How many packets go out in one flush at most: padding alone could go on for ever.
const MAX_FLUSHED: usize = 1_024;
/// A datagram of reports is not longer than about this, in bytes.
const REPORT_BYTES: usize = 1_000;

/// Header extensions as negotiated. One that the client did not offer is not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// RFC 9143 section 15: which m-line a stream is of.
    pub mid: Option<u8>,
    /// The number by which the client says when a packet came.
    pub transport: Option<u8>,
    /// RFC 6464.
    pub level: Option<u8>,
    /// 3GPP TS 26.114 section 7.4.5: how the picture is to be turned.
    pub orientation: Option<u8>,
}

/// An m-line on which the client receives.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Its name.
    pub mid: Mid,
    /// Of the stream in it.
    pub ssrc: u32,
    /// Of the stream that repairs it (RFC 4588); none for a voice.
    pub repair_ssrc: Option<u32>,
    /// What was negotiated for it: Firefox has transport-wide numbers for pictures alone.
    pub ids: ExtensionIds,
}

/// The payload types that a codec has on an m-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    /// Of the codec.
    pub media: u8,
    /// Of its repair.
    pub repair: Option<u8>,
}

/// A packet that is to go out on an m-line.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Its numbers there.
    pub numbers: Numbers,
    /// When it was captured, on this node's clock.
    pub captured: Instant,
    /// What it is encoded as.
    pub codec: Codec,
    /// As what the client knows that.
    pub types: PayloadTypes,
    /// The last packet of a picture; the first of a talk spurt.
    pub marker: bool,
    /// How loud it is.
    pub level: Option<AudioLevel>,
    /// How the picture is to be turned.
    pub orientation: Option<u8>,
    /// The payload as it came.
    pub payload: Arc<[u8]>,
}

/// Why a packet is not sent. Each is a reason of `isthmus_drops_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    /// There is no such m-line.
    UnknownLine,
    /// Its number has been used, or is too old to tell.
    NumberUsed,
}

/// What a client says of what it is sent, beside what is seen to here: repairs, and what its path carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Its decoder needs a keyframe.
    KeyframeWanted {
        /// On this m-line.
        mid: Mid,
    },
    /// What came of a stream.
    Received {
        /// On this m-line.
        mid: Mid,
        /// What.
        reception: Reception,
    },
    /// What it takes its path to carry, in bits per second.
    Estimate {
        /// Of the pictures alone.
        bps: u64,
    },
}

struct Stream {
    mid: Mid,
    ids: ExtensionIds,
    numbers: StreamNumbers,
    repair: Option<StreamNumbers>,
    sent: Sent,
    /// The timestamp that was captured last, when, and its clock's rate in Hz.
    last: Option<(u32, Instant, u32)>,
    /// Whether something was sent since the last report.
    is_due: bool,
    /// Whether the client has spoken of it, so that it knows the m-line.
    is_known: bool,
    repairs: Repairs,
}

/// What the controller knows packets by: the m-line, and the number of the packet or of the one that it repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    stream: usize,
    sequence: u16,
}

impl Name {
    /// Of padding, which nobody misses.
    const NONE: Label = Label(u32::MAX);

    fn label(self) -> Label {
        Label((self.stream as u32) << 16 | u32::from(self.sequence))
    }

    fn of(label: Label) -> Option<Self> {
        (label != Self::NONE).then_some(Self { stream: (label.0 >> 16) as usize, sequence: label.0 as u16 })
    }
}

/// How a packet is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    is_repair: bool,
    is_padded: bool,
    /// Its transport-wide number.
    transport: Option<u16>,
}

struct Waiting {
    since: Instant,
    stream: usize,
    number: PacketNumber,
    packet: Packet,
    purpose: Purpose,
}

/// Why a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// It is new.
    First,
    /// It stands in for the packet of this number.
    Repair(u16),
    /// It finds out what the path carries, and is the packet of this number once more.
    Padding(u16),
}

impl Purpose {
    /// The number of the packet that is sent once more.
    fn repeats(self) -> Option<u16> {
        match self {
            Self::First => None,
            Self::Repair(sequence) | Self::Padding(sequence) => Some(sequence),
        }
    }
}

/// See the [module](self).
pub struct Outlet {
    sealer: Sealer,
    opener: Opener,
    begun: Streams,
    /// The name that streams played together have in common.
    name: String,
    streams: Vec<Stream>,
    by_mid: FxHashMap<Mid, usize>,
    by_ssrc: FxHashMap<u32, usize>,
    /// Where the client says when packets came; without that everything goes at once.
    controller: Option<Controller>,
    voices: VecDeque<Waiting>,
    pictures: VecDeque<Waiting>,
    /// Packets again that have not come. Where pictures wait too they take turns: what a narrow path lost of a large layer must
    /// not hold up the smaller one that came after it.
    repairs: VecDeque<Waiting>,
    is_picture_next: bool,
    /// What the last report says is lost; empty between reports.
    lost: Vec<Name>,
    run: Run,
    wake_at: Option<Instant>,
    next_report: Option<Instant>,
    dropped: Dropped,
    extra: Extra,
    /// Where pictures have waited for too long.
    stalled: Vec<Mid>,
}

/// How many packets will never be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Too many waited.
    pub full: u64,
    /// They have waited for too long.
    pub late: u64,
}

/// Bytes that were sent beside each packet's own payload, once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extra {
    /// Payloads once more, since they were lost.
    pub repair: u64,
    /// Payloads once more, to find out what the path carries.
    pub probe: u64,
    /// What makes packets equally long.
    pub padding: u64,
}

impl Outlet {
    /// A way out to the client whose keys these are: `own` seals, `theirs` opens.
    ///
    /// # Errors
    /// The crypto library took a key for unusable.
    pub fn new(own: &MasterKey, theirs: &MasterKey, name: String) -> Result<Self, Unsealed> {
        Ok(Self {
            sealer: Sealer::new(own)?,
            opener: Opener::new(theirs)?,
            begun: Streams::default(),
            name,
            streams: Vec::new(),
            by_mid: FxHashMap::default(),
            by_ssrc: FxHashMap::default(),
            controller: None,
            voices: VecDeque::new(),
            pictures: VecDeque::new(),
            repairs: VecDeque::new(),
            is_picture_next: false,
            lost: Vec::new(),
            run: Run::default(),
            wake_at: None,
            next_report: None,
            dropped: Dropped::default(),
            extra: Extra::default(),
            stalled: Vec::new(),
        })
    }

    /// An m-line is there from now on. It is never taken away: a number must not be used twice, and one that comes back goes on
    /// where it was. Whether it is new and its SSRCs are.
    pub fn open(&mut self, line: Line, now: Instant) -> bool {
        if self.by_mid.contains_key(&line.mid) {
            return false;
        }
        let Some(numbers) = self.begun.begin(line.ssrc) else { return false };
        let repair = line.repair_ssrc.and_then(|ssrc| self.begun.begin(ssrc));
        if line.ids.transport.is_some() && self.controller.is_none() {
            let limits = Limits { initial_kbps: INITIAL_KBPS, ..Limits::default() };
            self.controller = Some(Controller::new(limits, now));
        }
        let index = self.streams.len();
        self.by_mid.insert(line.mid, index);
        self.by_ssrc.insert(line.ssrc, index);
        self.streams.push(Stream {
            mid: line.mid,
            ids: line.ids,
            numbers,
            repair,
            sent: Sent::default(),
            last: None,
            is_due: false,
            is_known: false,
            repairs: Repairs::default(),
        });
        true
    }

    /// A packet waits from `now` on to be sent on the m-line `mid`.
    ///
    /// # Errors
    /// It will never be sent: see [`Unsent`].
    pub fn send(&mut self, mid: Mid, packet: Packet, now: Instant) -> Result<(), Unsent> {
        let index = *self.by_mid.get(&mid).ok_or(Unsent::UnknownLine)?;
        let number = self.streams[index].numbers.take(packet.numbers.sequence).ok_or(Unsent::NumberUsed)?;
        self.wait(Waiting { since: now, stream: index, number, packet, purpose: Purpose::First });
        Ok(())
    }

    fn wait(&mut self, waiting: Waiting) {
        let queue = match waiting.purpose {
            Purpose::First if waiting.packet.codec.is_audio() => &mut self.voices,
            Purpose::First => &mut self.pictures,
            Purpose::Repair(_) | Purpose::Padding(_) => &mut self.repairs,
        };
        if queue.len() >= MAX_WAITING {
            queue.pop_front();
            self.dropped.full += 1;
        }
        queue.push_back(waiting);
    }

    /// Drops what has waited for too long.
    fn drop_late(&mut self, now: Instant) {
        let is_late = |waiting: &Waiting, patience| now.saturating_duration_since(waiting.since) > patience;
        while self.voices.pop_front_if(|voice| is_late(voice, VOICE_PATIENCE)).is_some() {
            self.dropped.late += 1;
        }
        while self.repairs.pop_front_if(|repair| is_late(repair, REPAIR_PATIENCE)).is_some() {
            self.dropped.late += 1;
        }
        if !self.pictures.front().is_some_and(|picture| is_late(picture, PICTURE_PATIENCE)) {
            return;
        }
        self.run = Run::default();
        for picture in self.pictures.drain(..) {
            self.dropped.late += 1;
            let mid = self.streams[picture.stream].mid;
            if !self.stalled.contains(&mid) {
                self.stalled.push(mid);
            }
        }
    }

    /// What the path to the client is taken to carry, in kbit/s; none where it says nothing of when packets come.
    pub fn estimate_kbps(&self) -> Option<u32> {
        self.controller.as_ref().map(Controller::estimate_kbps)
    }

    /// Whether the path loses much, however little is sent.
    pub fn is_lossy(&self) -> bool {
        self.controller.as_ref().is_some_and(|controller| controller.inherent_loss() > LOSSY)
    }

    /// What could be used, and what it takes to send the next picture that is paused, in kbit/s.
    pub fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
        if let Some(controller) = &mut self.controller {
            controller.needs(desired_kbps, minimum_kbps, now);
        }
    }

    /// Whether anything waits to be sent.
    pub fn is_waiting(&self) -> bool {
        let Waits { audio, video } = self.waits();
        audio || video
    }

    fn waits(&self) -> Waits {
        Waits { audio: !self.voices.is_empty(), video: !self.pictures.is_empty() || !self.repairs.is_empty() }
    }

    /// When [`flush`](Self::flush) is to be called though nothing is sent.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// How many packets were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// What was sent besides since this was last asked.
    pub fn take_extra(&mut self) -> Extra {
        std::mem::take(&mut self.extra)
    }

    /// The m-lines whose pictures have waited for too long and were dropped since this was last asked: each goes on with a
    /// keyframe.
    pub fn take_stalled(&mut self) -> Vec<Mid> {
        std::mem::take(&mut self.stalled)
    }

    /// Writes what may go at `now` behind what is in `out`, voices first. `written` is called with the length of each datagram.
    pub fn flush(&mut self, now: Instant, out: &mut Vec<u8>, mut written: impl FnMut(usize)) {
        if let Some(controller) = &mut self.controller {
            controller.tick(now);
        }
        self.drop_late(now);
        for _ in 0..MAX_FLUSHED {
            let waiting = self.waits();
            let next = self.controller.as_mut().map_or_else(|| unpaced(waiting), |it| it.next(waiting, now));
            let packet = match next {
                Next::Audio => self.voices.pop_front().map(|voice| (voice, 0)),
                Next::Video => self.next_picture(),
                Next::Padding { .. } => self.padding(now).map(|again| (again, 0)),
                Next::Wait { until } => {
                    self.wake_at = until;
                    return;
                }
            };
            let Some((packet, length)) = packet else { break };
            self.write(packet, length, now, out, &mut written);
        }
        self.wake_at = None;
    }

    /// The next packet of a picture, for the first time or again, and how long to make it.
    fn next_picture(&mut self) -> Option<(Waiting, usize)> {
        let is_repair = self.pictures.is_empty() || !self.is_picture_next;
        if let Some(repair) = self.repairs.pop_front_if(|_| is_repair) {
            self.is_picture_next = true;
            return Some((repair, 0));
        }
        self.is_picture_next = false;
        let waiting = self.pictures.pop_front()?;
        let length = self.run.next(payload_bytes(&waiting), self.pictures.iter().map(payload_bytes));
        Some((waiting, length))
    }

    /// What to send to find out what the path carries: the newest packet once more, as a repair. None before there is one.
    fn padding(&mut self, now: Instant) -> Option<Waiting> {
        self.streams.iter_mut().enumerate().find_map(|(index, stream)| {
            let (sequence, newest) = stream.repairs.newest().filter(|(_, packet)| packet.types.repair.is_some())?;
            let (packet, number) = (newest.clone(), stream.repair.as_mut()?.take_next()?);
            Some(Waiting { since: now, stream: index, number, packet, purpose: Purpose::Padding(sequence) })
        })
    }

    /// Writes one packet, with a payload of `length` bytes if that takes one byte of padding.
    fn write(
        &mut self,
        waiting: Waiting,
        length: usize,
        now: Instant,
        out: &mut Vec<u8>,
        written: &mut impl FnMut(usize),
    ) {
        let is_padded = payload_bytes(&waiting) + 1 == length;
        let bytes = payload_bytes(&waiting) + usize::from(is_padded) + OVERHEAD_BYTES;
        let Waiting { stream, number, packet, purpose, .. } = waiting;
        let sequence = number.sequence();
        let label = match purpose {
            Purpose::First => Name { stream, sequence }.label(),
            Purpose::Repair(sequence) => Name { stream, sequence }.label(),
            Purpose::Padding(_) => Name::NONE,
        };
        let is_reported = self.streams[stream].ids.transport.is_some();
        let controller = self.controller.as_mut().filter(|_| is_reported);
        let transport = controller.map(|controller| controller.sent(label, bytes, now).0);
        let start = out.len();
        let form = Form { is_repair: purpose != Purpose::First, is_padded, transport };
        let header_bytes = self.write_header(stream, &number, &packet, form, out);
        if let Some(sequence) = purpose.repeats() {
            // RFC 4588 section 4: the number of the packet that is repaired, and then that packet.
            out.extend_from_slice(&sequence.to_be_bytes());
        }
        let payload_at = out.len();
        out.extend_from_slice(&packet.payload);
        if let Some(picture) = packet.numbers.picture {
            write_picture(packet.codec, &mut out[payload_at..], picture);
        }
        if is_padded {
            out.push(1);
        }
        if self.sealer.seal_rtp(number, out, start, header_bytes).is_err() {
            out.truncate(start);
            self.dropped.full += 1;
            return;
        }
        written(out.len() - start);
        let payload = packet.payload.len() as u64;
        match purpose {
            Purpose::First => {
                self.extra.padding += u64::from(is_padded);
                self.streams[stream].was_sent(sequence, packet, now);
            }
            Purpose::Repair(_) => self.extra.repair += payload,
            Purpose::Padding(_) => self.extra.probe += payload,
        }
    }

    fn write_header(
        &self,
        stream: usize,
        number: &PacketNumber,
        packet: &Packet,
        form: Form,
        out: &mut Vec<u8>,
    ) -> usize {
        let Stream { mid, ids, is_known, .. } = &self.streams[stream];
        let transport = form.transport.map(u16::to_be_bytes);
        let level = packet.level.map(|level| [u8::from(level.voice) << 7 | level.below_full_scale.min(127)]);
        let orientation = packet.orientation.map(|orientation| [orientation]);
        let candidates: [(Option<u8>, &[u8]); 4] = [
            (ids.transport, transport.as_ref().map_or(&[], |value| value)),
            (ids.mid.filter(|_| !is_known), mid.as_bytes()),
            (ids.level, level.as_ref().map_or(&[], |value| value)),
            (ids.orientation, orientation.as_ref().map_or(&[], |value| value)),
        ];
        let extensions = candidates.map(|(id, value)| Extension { id: id.unwrap_or_default(), value });
        let types = packet.types;
        let payload_type = if form.is_repair { types.repair.unwrap_or(types.media) } else { types.media };
        let header = Header {
            payload_type,
            marker: packet.marker,
            timestamp: packet.numbers.timestamp,
            padded: form.is_padded,
            extensions: &extensions,
        };
        header.write(number, out)
    }

    /// An RTCP datagram of the client's, opened in place. What it speaks of; none if it is not authentic.
    pub fn control(&mut self, datagram: &mut [u8], now: Instant, mut heard: impl FnMut(Heard)) -> Option<Concerns> {
        let packet = self.opener.open_rtcp(datagram)?;
        let concerns = reports::read(packet, |report| match report {
            Report::Missing { ssrc, packets } => {
                if let Some(stream) = self.by_ssrc.get(&ssrc).copied() {
                    for sequence in packets.iter() {
                        self.repair(Name { stream, sequence }, Repairs::asked, now);
                    }
                }
            }
            Report::KeyframeWanted { ssrc } => {
                if let Some(stream) = self.by_ssrc.get(&ssrc) {
                    heard(Heard::KeyframeWanted { mid: self.streams[*stream].mid });
                }
            }
            Report::Received(reception) => {
                if let Some(stream) = self.by_ssrc.get(&reception.ssrc) {
                    let stream = &mut self.streams[*stream];
                    stream.is_known = true;
                    heard(Heard::Received { mid: stream.mid, reception });
                }
            }
            Report::Arrivals(packet) => self.arrivals(packet, now),
            Report::Estimate { bps } => heard(Heard::Estimate { bps }),
        });
        Some(concerns)
    }

    fn arrivals(&mut self, packet: &[u8], now: Instant) {
        let (Some(controller), Some(feedback)) = (&mut self.controller, Feedback::parse(packet)) else { return };
        let mut lost = std::mem::take(&mut self.lost);
        controller.feedback(&feedback, now, |label| lost.extend(Name::of(label)));
        for name in lost.drain(..) {
            self.repair(name, Repairs::lost, now);
        }
        self.lost = lost;
    }

    /// Sends a packet again if `why` says so.
    fn repair(
        &mut self,
        name: Name,
        why: impl FnOnce(&mut Repairs, u16, Path, Instant) -> Option<(Packet, u8)>,
        now: Instant,
    ) {
        let path =
            Path { is_lossy: self.is_lossy(), least_rtt: self.controller.as_ref().and_then(Controller::least_rtt) };
        let Some(stream) = self.streams.get_mut(name.stream) else { return };
        let Some((packet, times)) = why(&mut stream.repairs, name.sequence, path, now) else { return };
        for _ in 0..times {
            let Some(numbers) = &mut self.streams[name.stream].repair else { return };
            let Some(number) = numbers.take_next() else { return };
            let purpose = Purpose::Repair(name.sequence);
            self.wait(Waiting { since: now, stream: name.stream, number, packet: packet.clone(), purpose });
        }
    }

    /// Writes what the client is to be told of the time, if that is due; `unix_us` is what `now` is in microseconds of Unix
    /// time. `written` is called with the length of each datagram.
    pub fn report(&mut self, now: Instant, unix_us: u64, out: &mut Vec<u8>, mut written: impl FnMut(usize)) {
        if self.next_report.is_some_and(|at| now < at) {
            return;
        }
        self.next_report = Some(now + REPORT_EVERY);
        let at = NtpTime::from_unix_us(unix_us);
        let mut begin = out.len();
        let Self { streams, sealer, name, .. } = self;
        for stream in streams {
            let is_due = std::mem::take(&mut stream.is_due);
            let Some((timestamp, captured, hz)) = stream.last.filter(|_| is_due) else { continue };
            let passed = now.saturating_duration_since(captured).as_micros() * u128::from(hz) / 1_000_000;
            let timestamp = timestamp.wrapping_add(passed as u32);
            sender_report::write(out, stream.numbers.ssrc(), at, timestamp, stream.sent, name);
            if out.len() - begin > REPORT_BYTES {
                begin = end_reports(sealer, out, begin, &mut written);
            }
        }
        end_reports(sealer, out, begin, &mut written);
    }
}

/// What goes when nothing says when: everything.
fn unpaced(waiting: Waits) -> Next {
    match waiting {
        Waits { audio: true, .. } => Next::Audio,
        Waits { video: true, .. } => Next::Video,
        Waits { .. } => Next::Wait { until: None },
    }
}

/// Seals what was written since `begin`. Where the next begins.
fn end_reports(sealer: &mut Sealer, out: &mut Vec<u8>, begin: usize, written: &mut impl FnMut(usize)) -> usize {
    if out.len() > begin {
        match sealer.seal_rtcp(out, begin) {
            Ok(()) => written(out.len() - begin),
            Err(Unsealed) => out.truncate(begin),
        }
    }
    out.len()
}

impl Stream {
    fn was_sent(&mut self, sequence: u16, packet: Packet, now: Instant) {
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.payload_bytes = self.sent.payload_bytes.wrapping_add(packet.payload.len() as u32);
        self.is_due = true;
        if self.last.is_none_or(|(_, captured, _)| packet.captured >= captured) {
            self.last = Some((packet.numbers.timestamp, packet.captured, clock_hz(packet.codec)));
        }
        if self.repair.is_none() || packet.codec.is_audio() {
            return;
        }
        self.repairs.keep(sequence, packet, now);
    }
}

/// How many bytes are written after the header.
fn payload_bytes(waiting: &Waiting) -> usize {
    waiting.packet.payload.len() + if waiting.purpose == Purpose::First { 0 } else { 2 }
}

/// RTP timestamps a second.
fn clock_hz(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 8_000,
        codec if codec.is_audio() => 48_000,
        _ => 90_000,
    }
}

/// Packets in a row that can be made equally long by a byte of padding each.
#[derive(Debug, Default)]
struct Run {
    /// How long they are made, and how many are still to come.
    length: usize,
    left: usize,
}

impl Run {
    /// How long to make a packet of `first` bytes that is followed by others of these lengths.
    fn next(&mut self, first: usize, following: impl Iterator<Item = usize>) -> usize {
        if self.left == 0 {
            let (mut shortest, mut longest) = (first, first);
            self.left = 1;
            for length in following {
                (shortest, longest) = (shortest.min(length), longest.max(length));
                if longest - shortest > 1 {
                    break;
                }
                self.length = longest;
                self.left += 1;
            }
            self.length = if self.left == 1 { first } else { self.length };
        }
        self.left -= 1;
        self.length
    }
}
