//! What a client sends when: a camera in one or three layers at 30 frames/s, a microphone at 50 packets/s.
//!
//! Sans-IO: [`Camera`] and [`Microphone`] say when they are due and then hand out RTP packets.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    media::{Clip, Library, Material, Speech},
    stamp::Stamps,
    vp8,
};

const FRAMES_PER_SECOND: u32 = 30;
const VIDEO_CLOCK_HZ: u32 = 90_000;
/// Samples of one Opus packet of 20 ms at the RTP clock of 48 kHz (RFC 7587 section 4.1).
const SPEECH_SAMPLES: u32 = 960;
const SPEECH_PACKETS_PER_SECOND: u32 = 50;
/// Louder than this (in -dBov, so lower) is marked as voice.
const VOICE_LEVEL: u8 = 50;

/// An RTP packet to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingPacket {
    /// The simulcast layer; none for sound and for video in one layer.
    pub rid: Option<&'static str>,
    /// Counts from 0; RFC 3550's sequence number is its lower 16 bits.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The end of a frame, or the first packet of a talk spurt.
    pub marker: bool,
    /// RTP payload.
    pub payload: Arc<[u8]>,
    /// RFC 6464 level in -dBov and whether it is a voice, for sound.
    pub level: Option<(u8, bool)>,
}

/// Further behind than this, frames and packets are left out instead of sent in a burst.
const MAX_LATENESS: Duration = Duration::from_millis(250);

/// Counts what is due at a steady rate, and what was left out because the process was late: that is the load
/// generator's own fault, and reports must show it.
#[derive(Debug)]
struct Metronome {
    start: Instant,
    per_second: u32,
    beats: u64,
    left_out: u64,
}

impl Metronome {
    fn new(start: Instant, per_second: u32) -> Self {
        Self { start, per_second, beats: 0, left_out: 0 }
    }

    fn next_due(&self) -> Instant {
        self.start + Duration::from_nanos(self.beats * 1_000_000_000 / u64::from(self.per_second))
    }

    /// The number of a beat that is due.
    fn beat(&mut self, now: Instant) -> Option<u64> {
        while self.next_due() + MAX_LATENESS < now {
            self.beats += 1;
            self.left_out += 1;
        }
        if self.next_due() > now {
            return None;
        }
        self.beats += 1;
        Some(self.beats - 1)
    }
}

/// A camera that sends one or more layers.
#[derive(Debug)]
pub struct Camera {
    layers: Vec<Layer>,
    max_payload_bytes: usize,
    metronome: Metronome,
    /// The packets of one frame in all layers; the next frame is made when it is empty.
    queue: VecDeque<OutgoingPacket>,
    muted: bool,
    stamps: Option<Stamps>,
}

#[derive(Debug)]
struct Layer {
    clip: Arc<Clip>,
    rid: Option<&'static str>,
    /// The next frame of the clip.
    position: usize,
    sequence: u64,
    picture_id: u16,
    /// Whether anyone shows the layer.
    shown: bool,
}

impl Camera {
    /// A camera that starts now: in three layers where there are that many, or only in the highest.
    pub fn new(library: &Library, material: Material, simulcast: bool, now: Instant) -> Self {
        let layer = |(rid, clip): (Option<&'static str>, Arc<Clip>)| Layer {
            clip,
            rid,
            position: 0,
            sequence: 0,
            picture_id: 0,
            shown: true,
        };
        Self {
            layers: library.layers(material, simulcast).into_iter().map(layer).collect(),
            max_payload_bytes: material.max_payload_bytes(),
            metronome: Metronome::new(now, FRAMES_PER_SECOND),
            queue: VecDeque::new(),
            muted: false,
            stamps: None,
        }
    }

    /// The same, with the time of sending at the end of each picture.
    #[must_use]
    pub fn stamping(self, stamps: Option<Stamps>) -> Self {
        Self { stamps, ..self }
    }

    /// When there is something to send.
    pub fn next_due(&self) -> Instant {
        self.metronome.next_due()
    }

    /// The next packet that is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<OutgoingPacket> {
        while self.queue.is_empty() {
            let number = self.metronome.beat(now)?;
            self.send_frame(now, number);
        }
        self.queue.pop_front()
    }

    /// Frames that were not sent because the process was late.
    pub fn left_out(&self) -> u64 {
        self.metronome.left_out
    }

    /// Goes on with a keyframe: a receiver asked for one (RFC 4585 section 6.3.1, RFC 5104 section 4.3.1).
    pub fn restart_with_keyframe(&mut self, rid: Option<&str>) {
        for layer in self.layers.iter_mut().filter(|layer| rid.is_none() || layer.rid == rid) {
            layer.position = 0;
        }
    }

    /// The layers there are; one without a name where there is no simulcast.
    pub fn rids(&self) -> impl Iterator<Item = Option<&'static str>> {
        self.layers.iter().map(|layer| layer.rid)
    }

    /// Sends only these layers from now on. One that comes back begins with a keyframe.
    pub fn show_layers(&mut self, rids: &[String]) {
        for layer in &mut self.layers {
            let shown = layer.rid.is_none_or(|rid| rids.iter().any(|shown| shown == rid));
            if shown && !layer.shown {
                layer.position = 0;
            }
            layer.shown = shown;
        }
    }

    /// Stops sending, or goes on with a keyframe.
    pub fn set_muted(&mut self, muted: bool) {
        if self.muted && !muted {
            self.restart_with_keyframe(None);
        }
        self.muted = muted;
    }

    fn send_frame(&mut self, now: Instant, number: u64) {
        // Wraps with the RTP timestamp, every 13 hours.
        let timestamp = (number * u64::from(VIDEO_CLOCK_HZ / FRAMES_PER_SECOND)) as u32;
        if self.muted {
            return;
        }
        for layer in self.layers.iter_mut().filter(|layer| layer.shown) {
            let clip = Arc::clone(&layer.clip);
            let frame = &clip.frames()[layer.position].data;
            let stamped = self.stamps.map(|stamps| stamps.stamp_picture(now, frame));
            let frame = stamped.as_ref().unwrap_or(frame);
            layer.send(frame, timestamp, self.max_payload_bytes, &mut self.queue);
            layer.position = (layer.position + 1) % clip.frames().len();
        }
    }
}

impl Layer {
    fn send(&mut self, frame: &[u8], timestamp: u32, max_bytes: usize, queue: &mut VecDeque<OutgoingPacket>) {
        let payloads = vp8::packetise(frame, self.picture_id, max_bytes);
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        let last = payloads.len() - 1;
        for (index, payload) in payloads.into_iter().enumerate() {
            let marker = index == last;
            let sequence = self.sequence;
            self.sequence += 1;
            queue.push_back(OutgoingPacket { rid: self.rid, sequence, timestamp, marker, payload, level: None });
        }
    }
}

/// A microphone that someone speaks into, with pauses.
#[derive(Debug)]
pub struct Microphone {
    speech: Arc<Speech>,
    metronome: Metronome,
    /// Where in the speech the client begins, so that many clients do not speak in chorus.
    offset: usize,
    sequence: u64,
    spoke: bool,
    muted: bool,
    stamps: Option<Stamps>,
}

impl Microphone {
    /// A microphone that starts now, `offset` packets into the speech.
    pub fn new(library: &Library, material: Material, offset: usize, now: Instant) -> Self {
        let speech = library.sounds(material);
        let metronome = Metronome::new(now, SPEECH_PACKETS_PER_SECOND);
        Self { speech, metronome, offset, sequence: 0, spoke: false, muted: false, stamps: None }
    }

    /// The same, with the time of sending in each packet.
    #[must_use]
    pub fn stamping(self, stamps: Option<Stamps>) -> Self {
        Self { stamps, ..self }
    }

    /// When there is something to send.
    pub fn next_due(&self) -> Instant {
        self.metronome.next_due()
    }

    /// The next packet that is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<OutgoingPacket> {
        while let Some(number) = self.metronome.beat(now) {
            if !self.muted {
                return Some(self.send(now, number));
            }
        }
        None
    }

    /// Packets that were not sent because the process was late.
    pub fn left_out(&self) -> u64 {
        self.metronome.left_out
    }

    /// Stops sending, or goes on.
    pub fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
    }

    fn send(&mut self, now: Instant, number: u64) -> OutgoingPacket {
        let sounds = self.speech.sounds();
        let sound = &sounds[(self.offset + number as usize) % sounds.len()];
        let speaks = sound.level < VOICE_LEVEL;
        let sequence = self.sequence;
        self.sequence += 1;
        let marker = speaks && !std::mem::replace(&mut self.spoke, speaks);
        let timestamp = (number * u64::from(SPEECH_SAMPLES)) as u32;
        let level = Some((sound.level, speaks));
        let stamped = self.stamps.and_then(|stamps| stamps.stamp(now, &sound.packet));
        let payload = stamped.as_deref().unwrap_or(&sound.packet).into();
        OutgoingPacket { rid: None, sequence, timestamp, marker, payload, level }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(10);
    const FRAME: Duration = Duration::from_millis(40);

    fn keyframes(packets: &[OutgoingPacket], rid: &str) -> usize {
        let of_layer = packets.iter().filter(|packet| packet.rid == Some(rid));
        let descriptors = of_layer.filter_map(|packet| vp8::Descriptor::parse(&packet.payload));
        descriptors.filter(|descriptor| descriptor.keyframe_size.is_some()).count()
    }

    /// What is sent from `from` to `to` when time moves in steps of 10 ms.
    fn send_between(camera: &mut Camera, from: Instant, to: Instant) -> Vec<OutgoingPacket> {
        let steps = (to - from).as_millis() / 10;
        let times = (0..=steps as u32).map(|step| from + STEP * step);
        times.flat_map(|now| std::iter::from_fn(|| camera.poll(now)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_camera_sends_thirty_frames_a_second_in_each_layer() {
        let start = Instant::now();
        let mut camera = Camera::new(&Library::built_in(), Material::Clip, true, start);
        let packets = send_between(&mut camera, start, start + 99 * STEP);
        for rid in ["q", "h", "f"] {
            let of_layer: Vec<_> = packets.iter().filter(|packet| packet.rid == Some(rid)).collect();
            assert_eq!(of_layer.iter().filter(|packet| packet.marker).count(), 30, "{rid}");
            assert!(of_layer.iter().enumerate().all(|(number, packet)| packet.sequence == number as u64));
            assert_eq!(of_layer.last().map(|packet| packet.timestamp), Some(29 * 3000));
        }
        assert!(packets.iter().all(|packet| packet.payload.len() <= 1150));
    }

    #[test]
    fn even_material_has_packets_of_one_size_with_a_stamp_in_them() {
        let start = Instant::now();
        let stamps = Some(Stamps { epoch: start, run: 7 });
        let library = Library::built_in();
        let mut camera = Camera::new(&library, Material::Even, true, start).stamping(stamps);
        let pictures = send_between(&mut camera, start, start + 99 * STEP);
        assert_eq!((pictures.len(), pictures[0].rid), (150, None), "30 pictures of 5 packets, in one layer");
        assert!(pictures.iter().all(|packet| packet.payload.len() == 1200));
        let stamps = Stamps { epoch: start, run: 7 };
        let now = start + 100 * STEP;
        let ages = pictures.iter().filter_map(|packet| stamps.age_of_picture(now, &packet.payload));
        assert_eq!(ages.collect::<Vec<_>>()[0], SECOND, "only the last packet of each has one");
        let mut microphone = Microphone::new(&library, Material::Even, 0, start).stamping(Some(stamps));
        let sounds: Vec<_> = std::iter::from_fn(|| microphone.poll(start + SECOND / 5)).collect();
        assert!(sounds.iter().all(|packet| packet.payload.len() == 120), "{:?}", sounds[0].payload.len());
        assert_eq!(stamps.age(start + SECOND, &sounds[0].payload), Some(SECOND * 4 / 5));
    }

    #[test]
    fn a_keyframe_request_makes_the_next_frame_of_that_layer_a_keyframe() {
        let start = Instant::now();
        let mut camera = Camera::new(&Library::built_in(), Material::Clip, true, start);
        send_between(&mut camera, start, start + SECOND);
        camera.restart_with_keyframe(Some("h"));
        let packets = send_between(&mut camera, start + SECOND, start + SECOND + FRAME);
        assert_eq!((keyframes(&packets, "h"), keyframes(&packets, "f")), (1, 0));
    }

    #[test]
    fn a_layer_that_nobody_shows_is_not_sent_and_comes_back_with_a_keyframe() {
        let start = Instant::now();
        let mut camera = Camera::new(&Library::built_in(), Material::Clip, true, start);
        send_between(&mut camera, start, start);
        camera.show_layers(&["q".into()]);
        let packets = send_between(&mut camera, start, start + SECOND);
        assert!(packets.iter().all(|packet| packet.rid == Some("q")));
        camera.show_layers(&["q".into(), "f".into()]);
        let packets = send_between(&mut camera, start + SECOND, start + SECOND + FRAME);
        assert_eq!((keyframes(&packets, "f"), keyframes(&packets, "q")), (1, 0));
    }

    #[test]
    fn a_microphone_keeps_time_while_muted_but_does_not_count_packets() {
        let start = Instant::now();
        let mut microphone = Microphone::new(&Library::built_in(), Material::Clip, 0, start);
        assert_eq!(std::iter::from_fn(|| microphone.poll(start + SECOND / 5)).count(), 11);
        microphone.set_muted(true);
        assert_eq!(microphone.poll(start + SECOND * 2 / 5), None);
        microphone.set_muted(false);
        let next = microphone.poll(start + SECOND * 2 / 5 + 2 * STEP).expect("it is due");
        assert_eq!((next.sequence, next.timestamp), (11, 21 * SPEECH_SAMPLES));
        assert!(next.level.is_some());
    }

    #[test]
    fn what_a_late_process_could_not_send_is_left_out_and_counted() {
        let start = Instant::now();
        let mut camera = Camera::new(&Library::built_in(), Material::Clip, false, start);
        let burst: Vec<_> = std::iter::from_fn(|| camera.poll(start + SECOND)).collect();
        assert_eq!(burst.iter().filter(|packet| packet.marker).count(), 8, "frames of the last 250 ms");
        assert_eq!(camera.left_out(), 23);
    }
}
