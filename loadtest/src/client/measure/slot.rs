//! Everything measured of one receive slot.

use std::time::Instant;

use isthmus_protocol::{
    TrackId,
    signal::{Kind, SlotContent, SlotState},
};

use super::{Delays, FrameTracker, Freezes, PacketMeter};
use crate::client::{
    redundancy::{Arrived, Blocks, blocks},
    report::{SlotReport, VideoReport, millis, per_second, rounded},
    stamp::Stamps,
};

const AUDIO_CLOCK_HZ: u32 = 48_000;
const VIDEO_CLOCK_HZ: u32 = 90_000;

/// An RTP packet that arrived in a slot.
#[derive(Debug, Clone, Copy)]
pub struct ReceivedPacket<'a> {
    /// The stream's identifier; another one is another stream.
    pub ssrc: u32,
    /// Extended, so that it does not wrap.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The end of a frame.
    pub marker: bool,
    /// RTP payload.
    pub payload: &'a [u8],
    /// Whether the payload is of RFC 2198: packets of a voice.
    pub redundant: bool,
}

/// Measures one receive slot.
#[derive(Debug)]
pub struct SlotMeter {
    mid: String,
    kind: Kind,
    packets: PacketMeter,
    ssrc: Option<u32>,
    content: Option<SlotContent>,
    video: Option<VideoMeter>,
    stamps: Option<Stamps>,
    delays: Delays,
    /// Of a voice with redundancy.
    arrived: Arrived,
    /// Packets that came with the one after alone.
    restored: u64,
    /// Packets are only counted.
    is_counted: bool,
}

#[derive(Debug, Default)]
struct VideoMeter {
    tracker: FrameTracker,
    freezes: Freezes,
    /// From trackers before the present one.
    undecodable_before: u64,
    frames: u64,
    keyframes: u64,
    keyframe_requests: u64,
    first_at: Option<Instant>,
    size: Option<(u16, u16)>,
    /// Since when frames have had that size.
    size_since: Option<Instant>,
}

impl SlotMeter {
    /// A meter for the slot on m-line `mid`.
    pub fn new(mid: String, kind: Kind) -> Self {
        let (clock_hz, video) = match kind {
            Kind::Audio => (AUDIO_CLOCK_HZ, None),
            Kind::Video => (VIDEO_CLOCK_HZ, Some(VideoMeter::default())),
        };
        let (packets, delays) = (PacketMeter::new(clock_hz), Delays::default());
        Self {
            mid,
            kind,
            packets,
            ssrc: None,
            content: None,
            video,
            stamps: None,
            delays,
            arrived: Arrived::default(),
            restored: 0,
            is_counted: false,
        }
    }

    /// The same, measuring how long media was under way by these stamps.
    #[must_use]
    pub fn reading_stamps(self, stamps: Option<Stamps>) -> Self {
        Self { stamps, ..self }
    }

    /// The m-line.
    pub fn mid(&self) -> &str {
        &self.mid
    }

    /// The door says what stands in the slot now.
    pub fn set_content(&mut self, content: Option<SlotContent>) {
        let live = |content: &Option<SlotContent>| -> Option<TrackId> {
            content.as_ref().filter(|content| content.state == SlotState::Live).map(|content| content.track.clone())
        };
        if live(&self.content) != live(&content)
            && let Some(video) = &mut self.video
        {
            video.freezes.start_anew();
        }
        self.content = content;
    }

    /// A packet arrived.
    pub fn handle_packet(&mut self, now: Instant, packet: &ReceivedPacket<'_>) {
        if self.ssrc.replace(packet.ssrc).is_some_and(|before| before != packet.ssrc) {
            self.packets.start_anew();
            self.arrived = Arrived::default();
            if let Some(video) = &mut self.video {
                video.start_anew();
            }
        }
        if packet.redundant {
            return self.handle_redundant(now, packet);
        }
        self.packets.handle_packet(now, packet.sequence, packet.timestamp, packet.payload.len());
        let age = match &mut self.video {
            Some(video) => {
                video.handle_packet(now, packet);
                // The last packet of a picture has its stamp.
                let stamps = self.stamps.filter(|_| packet.marker);
                stamps.and_then(|stamps| stamps.age_of_picture(now, packet.payload))
            }
            None => return self.note_voice(now, packet.payload),
        };
        if let Some(age) = age {
            self.delays.add(age);
        }
    }

    /// A packet came of which only this is known, and not when exactly. What the packet after one that is lost may bring along is not
    /// seen, so that one counts as lost.
    pub fn count_packet(&mut self, now: Instant, ssrc: u32, sequence: u16, payload_bytes: usize) {
        if self.ssrc.replace(ssrc).is_some_and(|before| before != ssrc) {
            self.packets.start_anew();
        }
        self.is_counted = true;
        let sequence = self.packets.extended(sequence);
        self.packets.handle_packet(now, sequence, 0, payload_bytes);
    }

    /// What its packet after has brought along is neither lost nor late once more when it comes by itself.
    fn handle_redundant(&mut self, now: Instant, packet: &ReceivedPacket<'_>) {
        let Some(Blocks { own, before }) = blocks(packet.payload) else { return };
        let bytes = packet.payload.len();
        if let Some(before) = before
            && let Some(sequence) = packet.sequence.checked_sub(1)
            && self.packets.has_begun()
            && self.arrived.note(sequence)
        {
            self.packets.handle_restored(sequence);
            self.restored += 1;
            self.note_voice(now, before);
        }
        if self.arrived.note(packet.sequence) {
            self.packets.handle_packet(now, packet.sequence, packet.timestamp, bytes);
            self.note_voice(now, own);
        }
    }

    fn note_voice(&mut self, now: Instant, opus: &[u8]) {
        if let Some(age) = self.stamps.and_then(|stamps| stamps.age(now, opus)) {
            self.delays.add(age);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(video) = &mut self.video {
            let frames = video.tracker.handle_timeout(now);
            video.note(now, &frames);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.video.as_ref()?.tracker.next_timeout()
    }

    /// The stream to ask for a keyframe, if it needs one now.
    pub fn poll_keyframe_request(&mut self, now: Instant) -> Option<u32> {
        let video = self.video.as_mut()?;
        let wanted = video.tracker.poll_keyframe_request(now);
        video.keyframe_requests += u64::from(wanted);
        self.ssrc.filter(|_| wanted)
    }

    /// Packets that arrived.
    pub fn packets(&self) -> u64 {
        self.packets.packets()
    }

    /// Bytes of their payloads.
    pub fn bytes(&self) -> u64 {
        self.packets.bytes()
    }

    /// Packets that have not arrived.
    pub fn lost(&self) -> u64 {
        self.packets.lost()
    }

    /// When the first packet arrived.
    pub fn first_packet_at(&self) -> Option<Instant> {
        self.packets.first_at()
    }

    /// When the first decodable frame was whole.
    pub fn first_frame_at(&self) -> Option<Instant> {
        self.video.as_ref()?.first_at
    }

    /// Decodable frames so far.
    pub fn frames(&self) -> u64 {
        self.video.as_ref().map_or(0, |video| video.frames)
    }

    /// The rate in the second before `now`.
    pub fn live_kbps(&mut self, now: Instant) -> f64 {
        self.packets.live_kbps(now)
    }

    /// All of it at `now`, with times since `start`. Rates count up to `now`: of a stream that died they tell.
    pub fn report(&self, start: Instant, now: Instant) -> SlotReport {
        SlotReport {
            mid: self.mid.clone(),
            kind: self.kind,
            content: self.content.clone(),
            packets: self.packets.packets(),
            bytes: self.packets.bytes(),
            lost: self.packets.lost(),
            restored: self.restored,
            out_of_order: self.packets.out_of_order(),
            jitter_ms: (!self.is_counted).then(|| rounded(self.packets.jitter_ms())),
            bitrate_kbps: rounded(self.packets.mean_kbps(now)),
            first_packet_ms: self.first_packet_at().map(|at| millis(at - start)),
            silent_ms: self.packets.last_at().map(|at| millis(now.saturating_duration_since(at))),
            delay_p50_ms: self.delays.quantile(0.5).map(millis),
            delay_p99_ms: self.delays.quantile(0.99).map(millis),
            delays: self.delays.clone(),
            video: self.video.as_ref().map(|video| video.report(start, now)),
        }
    }
}

impl VideoMeter {
    fn handle_packet(&mut self, now: Instant, packet: &ReceivedPacket<'_>) {
        let frames = self.tracker.handle_packet(now, packet.sequence, packet.marker, packet.payload);
        self.note(now, &frames);
    }

    fn note(&mut self, now: Instant, frames: &[super::DecodableFrame]) {
        for frame in frames {
            self.frames += 1;
            self.keyframes += u64::from(frame.keyframe_size.is_some());
            if frame.keyframe_size.is_some() && frame.keyframe_size != self.size {
                (self.size, self.size_since) = (frame.keyframe_size, Some(now));
            }
            self.first_at.get_or_insert(now);
            self.freezes.handle_frame(now);
        }
    }

    fn start_anew(&mut self) {
        self.undecodable_before += self.tracker.undecodable();
        self.tracker = FrameTracker::default();
    }

    fn report(&self, start: Instant, now: Instant) -> VideoReport {
        let watched = self.first_at.map_or_else(Default::default, |first| now.saturating_duration_since(first));
        VideoReport {
            frames: self.frames,
            keyframes: self.keyframes,
            undecodable_frames: self.undecodable_before + self.tracker.undecodable(),
            frames_per_second: per_second(self.frames.saturating_sub(1), watched),
            freezes: self.freezes.count(now),
            freeze_ms: millis(self.freezes.total(now)),
            longest_freeze_ms: millis(self.freezes.longest(now)),
            keyframe_requests: self.keyframe_requests,
            first_frame_ms: self.first_at.map(|first| millis(first - start)),
            width: self.size.map(|(width, _)| width),
            height: self.size.map(|(_, height)| height),
            size_stood_ms: self.size_since.map(|since| millis(now.saturating_duration_since(since))),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::{
        media::{Library, Material},
        publish::Camera,
        redundancy::Redundancy,
    };

    const FRAME: Duration = Duration::from_millis(34);

    fn receive(slot: &mut SlotMeter, camera: &mut Camera, ssrc: u32, now: Instant) {
        while let Some(packet) = camera.poll(now) {
            let payload = &packet.payload;
            let (sequence, timestamp, marker) = (packet.sequence, packet.timestamp, packet.marker);
            slot.handle_packet(now, &ReceivedPacket { ssrc, sequence, timestamp, marker, payload, redundant: false });
        }
    }

    #[test]
    fn a_voice_is_lost_only_if_the_packet_after_is_lost_too() {
        let start = Instant::now();
        let mut slot = SlotMeter::new("0".into(), Kind::Audio);
        let mut voice = Redundancy::new(111);
        for sequence in 0..100u32 {
            let payload = &voice.wrap(960 * sequence, b"voice");
            let now = start + Duration::from_millis(20) * sequence;
            let (sequence, timestamp) = (u64::from(sequence), 960 * sequence);
            let packet = ReceivedPacket { ssrc: 1, sequence, timestamp, marker: false, payload, redundant: true };
            // Every tenth is lost, at 50 the one after it too; 30 comes late, after the next has brought it along.
            match sequence {
                30 => {}
                31 => {
                    slot.handle_packet(now, &packet);
                    slot.handle_packet(now, &ReceivedPacket { sequence: 30, payload: b"\x6fvoice", ..packet });
                }
                _ if sequence % 10 == 0 || sequence == 51 => {}
                _ => slot.handle_packet(now, &packet),
            }
        }
        let report = slot.report(start, start + Duration::from_secs(2));
        assert_eq!((report.lost, report.restored), (1, 9), "50 alone; 10 to 90 without it, 51, and 30 before it came");
        assert!(report.jitter_ms.is_some_and(|ms| ms < 0.01), "{:?}", report.jitter_ms);
    }

    #[test]
    fn what_is_only_counted_has_losses_and_no_jitter() {
        let now = Instant::now();
        let mut slot = SlotMeter::new("0".into(), Kind::Audio);
        for sequence in (65_500..65_600u32).filter(|sequence| sequence % 10 > 0) {
            slot.count_packet(now, 1, sequence as u16, 80);
        }
        // Another stream in its place.
        slot.count_packet(now, 2, 7, 80);
        let report = slot.report(now, now);
        assert_eq!((report.packets, report.lost, report.bytes, report.jitter_ms), (91, 9, 91 * 80, None));
    }

    #[test]
    fn a_slot_reports_the_frames_and_the_size_of_what_stands_in_it() {
        let start = Instant::now();
        let mut slot = SlotMeter::new("4".into(), Kind::Video);
        let mut camera = Camera::new(&Library::built_in(), Material::Clip, false, start);
        for step in 0..60 {
            receive(&mut slot, &mut camera, 1, start + FRAME * step);
        }
        let report = slot.report(start, start + FRAME * 60);
        let video = report.video.expect("it is a video slot");
        assert_eq!((video.width, video.height, video.freezes, video.undecodable_frames), (Some(1280), Some(720), 0, 0));
        assert!((video.frames_per_second - 29.7).abs() < 0.7, "{}", video.frames_per_second);
        assert_eq!((report.lost, video.keyframes), (0, 1));
        // A stream that died is no stream of 30 frames a second.
        let dead = slot.report(start, start + FRAME * 120);
        let frozen = dead.video.as_ref().expect("it is a video slot");
        assert!((14.0..16.0).contains(&frozen.frames_per_second), "{frozen:?}");
        assert!(frozen.freezes == 1 && frozen.longest_freeze_ms > 2000.0, "{frozen:?}");
        assert_eq!(frozen.size_stood_ms, Some(millis(FRAME * 120)), "from the first frame on");
        assert!(dead.silent_ms.is_some_and(|silent| silent > 2000.0), "{dead:?}");
        assert!(dead.bitrate_kbps < 0.6 * report.bitrate_kbps, "{} kbit/s", dead.bitrate_kbps);
        // Another stream in the same slot: neither its sequence nor its frames have to do with those before.
        let later = start + FRAME * 60;
        let mut another = Camera::new(&Library::built_in(), Material::Clip, false, later);
        receive(&mut slot, &mut another, 2, later);
        let report = slot.report(start, later);
        assert_eq!((report.lost, report.video.map(|video| video.keyframes)), (0, Some(2)));
    }
}
