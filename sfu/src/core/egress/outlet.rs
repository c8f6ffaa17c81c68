//! One client's way out: packets with the numbers they have in a slot go in, sealed datagrams come out.
//!
//! Nothing is copied or sealed before it is sent: what waits is a share of the packet that all receivers have in common.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use isthmus_protocol::media::MediaPacket;
use rustc_hash::FxHashMap;
use str0m::media::Mid;

use super::{
    keys::MasterKey,
    numbers::Streams,
    open::Opener,
    queue::{Dropped, Purpose, Queues, Waiting},
    repair::{Path, Repairs},
    reports::{self, Concerns, Reception, Report},
    seal::{Sealer, Unsealed},
    sender_report::NtpTime,
    stream::{Form, Stream},
};
use crate::core::{
    congestion::{Controller, Label, Limits, Next, Waiting as Waits, feedback::Feedback},
    rewrite::{Numbers, write_picture},
};

/// What a path is taken to carry before anything is known, in kbit/s: what is chosen for a newcomer is not chosen for less, and
/// would wait too long for the first probes.
const INITIAL_KBPS: u32 = 1_000;
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
    /// AV1 RTP payload format, appendix A: what a frame of a scalable picture depends on.
    pub descriptor: Option<u8>,
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
    /// As what the client knows its codec.
    pub types: PayloadTypes,
    /// The last packet of a picture; the first of a talk spurt.
    pub marker: bool,
    /// What all receivers have in common.
    pub media: Arc<MediaPacket>,
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
    /// A voice alone is not numbered: it is sent whatever the path carries, and the client would say of each packet when it came,
    /// twenty times a second.
    wants_pictures: bool,
    queues: Queues,
    /// What the last report says is lost; empty between reports.
    lost: Vec<Name>,
    wake_at: Option<Instant>,
    next_report: Option<Instant>,
    extra: Extra,
    /// Where pictures have waited for too long.
    stalled: Vec<Mid>,
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
            wants_pictures: false,
            queues: Queues::default(),
            lost: Vec::new(),
            wake_at: None,
            next_report: None,
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
        self.streams.push(Stream::new(line.mid, line.ids, numbers, repair));
        true
    }

    /// A packet waits from `now` on to be sent on the m-line `mid`.
    ///
    /// # Errors
    /// It will never be sent: see [`Unsent`].
    pub fn send(&mut self, mid: Mid, packet: Packet, now: Instant) -> Result<(), Unsent> {
        let index = *self.by_mid.get(&mid).ok_or(Unsent::UnknownLine)?;
        let number = self.streams[index].numbers.take(packet.numbers.sequence).ok_or(Unsent::NumberUsed)?;
        self.queues.push(Waiting { since: now, stream: index, number, packet, purpose: Purpose::First });
        Ok(())
    }

    /// What the path to the client is taken to carry, in kbit/s; none where it says nothing of when packets come.
    pub fn estimate_kbps(&self) -> Option<u32> {
        self.controller.as_ref().map(Controller::estimate_kbps)
    }

    /// Whether the path loses much, however little is sent: by the numbers where there are any, or else by what is said of voices.
    pub fn is_lossy(&self) -> bool {
        match &self.controller {
            Some(controller) if self.wants_pictures => controller.inherent_loss() > LOSSY,
            _ => self.streams.iter().any(|stream| stream.lost > LOSSY),
        }
    }

    /// What could be used, and what it takes to send the next picture that is paused, in kbit/s; 0 where no picture is wanted.
    pub fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
        self.wants_pictures = desired_kbps > 0;
        if let Some(controller) = &mut self.controller {
            controller.needs(desired_kbps, minimum_kbps, now);
        }
    }

    /// Whether anything waits to be sent.
    pub fn is_waiting(&self) -> bool {
        let Waits { audio, video } = self.queues.waits();
        audio || video
    }

    /// When [`flush`](Self::flush) is to be called though nothing is sent.
    pub fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }

    /// How many packets were dropped since this was last asked.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.queues.dropped)
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
        let Self { queues, streams, stalled, .. } = self;
        queues.drop_late(now, |stream| {
            let mid = streams[stream].mid;
            if !stalled.contains(&mid) {
                stalled.push(mid);
            }
        });
        for _ in 0..MAX_FLUSHED {
            let waiting = self.queues.waits();
            let next = self.controller.as_mut().map_or_else(|| unpaced(waiting), |it| it.next(waiting, now));
            let packet = match next {
                Next::Audio => self.queues.next_voice().map(|voice| (voice, false)),
                Next::Video => self.queues.next_picture(),
                Next::Padding { .. } => self.padding(now).map(|again| (again, false)),
                Next::Wait { until } => {
                    self.wake_at = until;
                    return;
                }
            };
            let Some((packet, is_padded)) = packet else { break };
            self.write(packet, is_padded, now, out, &mut written);
        }
        self.wake_at = None;
    }

    /// What to send to find out what the path carries: the newest packet once more, as a repair. None before there is one.
    fn padding(&mut self, now: Instant) -> Option<Waiting> {
        self.streams.iter_mut().enumerate().find_map(|(index, stream)| {
            let (sequence, newest) = stream.repairs.newest().filter(|(_, packet)| packet.types.repair.is_some())?;
            let (packet, number) = (newest.clone(), stream.repair.as_mut()?.take_next()?);
            Some(Waiting { since: now, stream: index, number, packet, purpose: Purpose::Padding(sequence) })
        })
    }

    /// Writes one packet, a byte longer if it is to be padded.
    fn write(
        &mut self,
        waiting: Waiting,
        is_padded: bool,
        now: Instant,
        out: &mut Vec<u8>,
        written: &mut impl FnMut(usize),
    ) {
        let bytes = waiting.payload_bytes() + usize::from(is_padded) + OVERHEAD_BYTES;
        let Waiting { stream, number, packet, purpose, .. } = waiting;
        let sequence = number.sequence();
        let label = match purpose {
            Purpose::First => Name { stream, sequence }.label(),
            Purpose::Repair(sequence) => Name { stream, sequence }.label(),
            Purpose::Padding(_) => Name::NONE,
        };
        let is_numbered =
            self.streams[stream].ids.transport.is_some() && (self.wants_pictures || !packet.media.codec.is_audio());
        let controller = self.controller.as_mut().filter(|_| is_numbered);
        let transport = controller.map(|controller| controller.sent(label, bytes, now).0);
        let start = out.len();
        let form = Form { is_repair: purpose != Purpose::First, is_padded, transport };
        let header_bytes = self.streams[stream].write_header(&number, &packet, form, out);
        if let Some(sequence) = purpose.repeats() {
            // RFC 4588 section 4: the number of the packet that is repaired, and then that packet.
            out.extend_from_slice(&sequence.to_be_bytes());
        }
        let payload_at = out.len();
        out.extend_from_slice(&packet.media.payload);
        if let Some(picture) = packet.numbers.picture {
            write_picture(packet.media.codec, &mut out[payload_at..], picture);
        }
        if is_padded {
            out.push(1);
        }
        if self.sealer.seal_rtp(number, out, start, header_bytes).is_err() {
            out.truncate(start);
            self.queues.dropped.full += 1;
            return;
        }
        written(out.len() - start);
        let payload = packet.media.payload.len() as u64;
        match purpose {
            Purpose::First => {
                self.extra.padding += u64::from(is_padded);
                self.streams[stream].was_sent(sequence, packet, now);
            }
            Purpose::Repair(_) => self.extra.repair += payload,
            Purpose::Padding(_) => self.extra.probe += payload,
        }
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
                    stream.lost = f64::from(reception.fraction_lost) / 256.0;
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
            self.queues.push(Waiting { since: now, stream: name.stream, number, packet: packet.clone(), purpose });
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
            stream.write_report(now, at, name, out);
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
