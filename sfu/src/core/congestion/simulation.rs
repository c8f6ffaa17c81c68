//! A bottleneck on a virtual clock: senders with the controller, competitors without, one queue before one link, and
//! receivers that send real feedback back. One seed is one run.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    super::allocation::{Layer, Wish, allocate},
    Controller, Limits, Next, Waiting, feedback,
};

/// What a voice takes: 100 bytes every 20 ms. The room sets 60 kbit/s aside for it.
pub(super) const VOICE_KBPS: f64 = 40.0;
const VOICE_BYTES: u32 = 100;
const VOICE_EVERY_US: u64 = 20_000;
const VOICE_SET_ASIDE_KBPS: u32 = 60;
const FRAME_EVERY_US: u64 = 33_333;
const PACKET_BYTES: u32 = 1_200;
/// What the room does at least this often; on a falling estimate at once.
const CHOOSE_EVERY_US: u64 = 200_000;
/// As in the room (`receivers.rs`).
const RAISE_PAUSE_US: u64 = 3_000_000;
const PAUSE_AFTER_US: u64 = 1_000_000;
/// A receiver's clock has nothing to do with ours.
const RECEIVER_CLOCK_US: i64 = 77_000_123_456;
const KEYFRAME_SIZE: f64 = 4.0;
/// Video that waits longer than this at the estimate is dropped, as the egress would.
const LONGEST_WAIT_S: f64 = 0.4;

/// The path, both ways. Everything may be changed between two runs.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) kbps: f64,
    /// Drop tail.
    pub(super) queue_bytes: u32,
    pub(super) one_way_ms: u64,
    /// Uniform, in order.
    pub(super) jitter_ms: f64,
    /// Share lost behind the bottleneck.
    pub(super) loss: f64,
    /// Rate and burst in bytes of a policer before the bottleneck.
    pub(super) policer: Option<(f64, f64)>,
    pub(super) feedback_every_ms: u64,
    pub(super) feedback_loss: f64,
}

impl Path {
    /// 40 ms round trip, a queue of 250 ms, feedback ten times a second.
    pub(super) fn of(kbps: f64) -> Self {
        Self {
            kbps,
            queue_bytes: bytes_of(kbps, 250.0),
            one_way_ms: 20,
            jitter_ms: 0.0,
            loss: 0.0,
            policer: None,
            feedback_every_ms: 100,
            feedback_loss: 0.0,
        }
    }

    pub(super) fn queue_ms(mut self, ms: f64) -> Self {
        self.queue_bytes = bytes_of(self.kbps, ms);
        self
    }
}

fn bytes_of(kbps: f64, ms: f64) -> u32 {
    (kbps * ms / 8.0) as u32
}

/// What a sender would like to send besides its voice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum App {
    Voice,
    /// So many pictures of 150, 500 and 1700 kbit/s.
    Layers(usize),
    /// One picture of 150 kbit/s that has no better layer.
    Thumbnail,
    /// An encoder that follows the estimate up to so much in all.
    Elastic(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Voice,
    Video,
    Padding,
    Cross,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    flow: usize,
    kind: Kind,
    number: u64,
    bytes: u32,
    entered_us: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Voice(usize),
    Frame(usize),
    Choose(usize),
    Wake(usize),
    Served,
    Arrives(Packet),
    Reports(usize),
    Told(usize, Vec<u8>),
    Acked(usize, u64),
    CrossTick(usize),
}

/// What was seen of a flow.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Every 100 ms: the estimate, in kbit/s.
    pub(super) estimates: Vec<f64>,
    /// Every 100 ms: media bytes that arrived.
    pub(super) arrived: Vec<u64>,
    /// Of each voice packet: when it arrived and how long it waited in the bottleneck's queue, in microseconds.
    pub(super) voice: Vec<(u64, u64)>,
    pub(super) sent_packets: Vec<u64>,
    pub(super) lost_packets: Vec<u64>,
    pub(super) padding_bytes: Vec<u64>,
    pub(super) media_bytes: Vec<u64>,
    /// How often a picture's layer changed.
    pub(super) switches: Vec<u64>,
}

#[derive(Debug, Default, Clone)]
struct Picture {
    layer: Option<usize>,
    not_raised_before_us: u64,
    starved_since_us: Option<u64>,
}

#[derive(Debug)]
struct Media {
    controller: Controller,
    app: App,
    pictures: Vec<Picture>,
    keyframes_due: usize,
    voice: VecDeque<u32>,
    video: VecDeque<u32>,
    numbers: u64,
    /// What arrived and was not reported yet.
    received: BTreeMap<u64, i64>,
    unreported: u64,
    last_estimate: u32,
    /// The one wake-up that counts.
    wake_us: u64,
    log: Log,
}

#[derive(Debug)]
enum Cross {
    /// Constant rate while on.
    Constant { kbps: f64 },
    /// Fills the queue until it loses (Reno).
    Greedy { window: f64, threshold: f64, next: u64, expected: u64, recovered: u64, acked_us: u64 },
}

#[derive(Debug)]
enum Flow {
    Media(Box<Media>),
    Cross { kind: Cross, is_on: bool, log: Log },
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) path: Path,
    now_us: u64,
    origin: Instant,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    order: u64,
    queue: VecDeque<Packet>,
    queued_bytes: u32,
    is_serving: bool,
    last_arrival_us: u64,
    tokens: (f64, u64),
    flows: Vec<Flow>,
    random: u64,
}

impl World {
    #[expect(clippy::disallowed_methods, reason = "the origin of the virtual clock")]
    pub(super) fn new(path: Path, seed: u64) -> Self {
        Self {
            path,
            now_us: 0,
            origin: Instant::now(),
            events: BinaryHeap::new(),
            order: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_serving: false,
            last_arrival_us: 0,
            tokens: (0.0, 0),
            flows: Vec::new(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// A sender with the controller, from now on.
    pub(super) fn media(&mut self, app: App) -> usize {
        let flow = self.flows.len();
        let media = Media {
            controller: Controller::new(Limits::default(), self.instant()),
            app,
            pictures: Vec::new(),
            keyframes_due: 0,
            voice: VecDeque::new(),
            video: VecDeque::new(),
            numbers: 0,
            received: BTreeMap::new(),
            unreported: 0,
            last_estimate: 0,
            wake_us: 0,
            log: Log::default(),
        };
        self.flows.push(Flow::Media(Box::new(media)));
        self.set_app(flow, app);
        let feedback_us = self.path.feedback_every_ms * 1_000;
        for (after_us, event) in [
            (0, Event::Choose(flow)),
            (flow as u64 * 3_000, Event::Voice(flow)),
            (flow as u64 * 7_000, Event::Frame(flow)),
            (feedback_us + flow as u64 * 11_000, Event::Reports(flow)),
        ] {
            self.schedule(after_us, event);
        }
        flow
    }

    pub(super) fn constant(&mut self, kbps: f64) -> usize {
        self.cross(Cross::Constant { kbps })
    }

    pub(super) fn greedy(&mut self) -> usize {
        self.cross(Cross::Greedy { window: 4.0, threshold: 1e9, next: 0, expected: 0, recovered: 0, acked_us: 0 })
    }

    fn cross(&mut self, kind: Cross) -> usize {
        self.flows.push(Flow::Cross { kind, is_on: true, log: Log::default() });
        self.schedule(0, Event::CrossTick(self.flows.len() - 1));
        self.flows.len() - 1
    }

    pub(super) fn stop(&mut self, flow: usize) {
        if let Flow::Cross { is_on, .. } = &mut self.flows[flow] {
            *is_on = false;
        }
    }

    pub(super) fn set_app(&mut self, flow: usize, app: App) {
        let Flow::Media(media) = &mut self.flows[flow] else { panic!("no media") };
        media.app = app;
        let pictures = match app {
            App::Layers(pictures) => pictures,
            App::Thumbnail => 1,
            App::Voice | App::Elastic(_) => 0,
        };
        media.pictures.resize(pictures, Picture::default());
        self.choose(flow);
    }

    pub(super) fn log(&self, flow: usize) -> &Log {
        match &self.flows[flow] {
            Flow::Media(media) => &media.log,
            Flow::Cross { log, .. } => log,
        }
    }

    /// Runs until so many seconds from the beginning.
    pub(super) fn run_until(&mut self, seconds: f64) {
        let end_us = (seconds * 1e6) as u64;
        while let Some(Reverse((at_us, _, _))) = self.events.peek() {
            let at_us = *at_us;
            if at_us >= end_us {
                break;
            }
            let Some(Reverse((_, _, event))) = self.events.pop() else { break };
            self.sample_until(at_us);
            self.now_us = at_us;
            self.happen(event);
        }
        self.sample_until(end_us);
        self.now_us = end_us;
    }

    fn sample_until(&mut self, us: u64) {
        let slots = (us / 100_000 + 1) as usize;
        for flow in &mut self.flows {
            let (log, estimate) = match flow {
                Flow::Media(media) => (&mut media.log, media.controller.estimate_kbps().into()),
                Flow::Cross { log, .. } => (log, 0.0),
            };
            log.estimates.resize(slots.max(log.estimates.len()), estimate);
            for series in [
                &mut log.arrived,
                &mut log.sent_packets,
                &mut log.lost_packets,
                &mut log.switches,
                &mut log.padding_bytes,
                &mut log.media_bytes,
            ] {
                series.resize(slots.max(series.len()), 0);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Voice(flow) => {
                self.media_mut(flow).voice.push_back(VOICE_BYTES);
                self.schedule(VOICE_EVERY_US, Event::Voice(flow));
                self.send(flow);
            }
            Event::Frame(flow) => {
                self.frame(flow);
                self.schedule(FRAME_EVERY_US, Event::Frame(flow));
                self.send(flow);
            }
            Event::Choose(flow) => {
                self.choose(flow);
                self.schedule(CHOOSE_EVERY_US, Event::Choose(flow));
                self.send(flow);
            }
            Event::Wake(flow) => {
                let (now, now_us) = (self.instant(), self.now_us);
                let media = self.media_mut(flow);
                if media.wake_us == now_us {
                    media.controller.tick(now);
                    self.send(flow);
                }
            }
            Event::Served => self.served(),
            Event::Arrives(packet) => self.arrives(packet),
            Event::Reports(flow) => self.reports(flow),
            Event::Told(flow, rtcp) => self.told(flow, &rtcp),
            Event::Acked(flow, number) => self.acked(flow, number),
            Event::CrossTick(flow) => self.cross_tick(flow),
        }
    }

    /// The room's allocation, with its patience.
    fn choose(&mut self, flow: usize) {
        let (now, now_us) = (self.instant(), self.now_us);
        let media = self.media_mut(flow);
        let estimate = media.controller.estimate_kbps();
        media.last_estimate = estimate;
        if let App::Elastic(kbps) = media.app {
            media.controller.needs(kbps as u32, 0, now);
            return;
        }
        let layers = match media.app {
            App::Thumbnail => &[(150, 180)][..],
            _ => &[(150, 180), (500, 360), (1_700, 720)],
        };
        let layers = layers.iter().map(|(kbps, height)| Layer { kbps: *kbps, height: *height }).enumerate();
        let wish = |picture: &Picture| Wish { layers: layers.clone().collect(), height: 720, current: picture.layer };
        let wishes: Vec<Wish> = media.pictures.iter().map(wish).collect();
        let chosen = allocate(estimate.saturating_sub(VOICE_SET_ASIDE_KBPS), &wishes);
        let kbps_of = |(wish, layer): (&Wish, &Option<usize>)| layer.map_or(0, |layer| wish.layers[layer].1.kbps);
        let taken: u32 = wishes.iter().zip(&chosen).map(kbps_of).sum();
        let desired = VOICE_SET_ASIDE_KBPS + wishes.iter().map(Wish::ideal_kbps).sum::<u32>();
        let minimum = if chosen.contains(&None) { VOICE_SET_ASIDE_KBPS + taken + 150 } else { 0 };
        media.controller.needs(desired, minimum, now);
        let mut changed = 0;
        for (picture, layer) in media.pictures.iter_mut().zip(chosen) {
            let before = picture.layer;
            picture.aim(layer, now_us);
            changed += usize::from(picture.layer != before);
        }
        media.keyframes_due += changed;
        count(&mut media.log.switches, changed as u64);
    }

    fn frame(&mut self, flow: usize) {
        let spread = 0.8 + 0.4 * self.chance();
        let media = self.media_mut(flow);
        let estimate: f64 = media.controller.estimate_kbps().into();
        let kbps = match media.app {
            App::Elastic(kbps) => (kbps.min(estimate) - VOICE_KBPS).max(0.0),
            _ => media
                .pictures
                .iter()
                .filter_map(|picture| picture.layer)
                .map(|layer| [150.0, 500.0, 1_700.0][layer])
                .sum(),
        };
        let keyframe = if std::mem::take(&mut media.keyframes_due) > 0 { KEYFRAME_SIZE } else { 1.0 };
        let mut left = (kbps * 125.0 * FRAME_EVERY_US as f64 / 1e6 * spread * keyframe) as u32;
        while left > 0 {
            let bytes = left.min(PACKET_BYTES);
            media.video.push_back(bytes);
            left -= bytes;
        }
        if f64::from(media.video.iter().sum::<u32>()) > (estimate * 125.0 * LONGEST_WAIT_S).max(6_000.0) {
            media.video.clear();
        }
    }

    /// The egress: as much as the controller lets go.
    fn send(&mut self, flow: usize) {
        loop {
            let now = self.instant();
            let media = self.media_mut(flow);
            let waiting = Waiting { audio: !media.voice.is_empty(), video: !media.video.is_empty() };
            let (kind, bytes) = match media.controller.next(waiting, now) {
                Next::Audio => (Kind::Voice, media.voice.pop_front().expect("it waits")),
                Next::Video => (Kind::Video, media.video.pop_front().expect("it waits")),
                Next::Padding { bytes } => (Kind::Padding, bytes),
                Next::Wait { until } => {
                    return self.wake(flow, until);
                }
            };
            let number = media.numbers;
            media.numbers += 1;
            let sequence = media.controller.sent(bytes as usize, now);
            assert_eq!(sequence.0, number as u16, "one count");
            let log = &mut media.log;
            count(if kind == Kind::Padding { &mut log.padding_bytes } else { &mut log.media_bytes }, bytes.into());
            self.enter(Packet { flow, kind, number, bytes, entered_us: self.now_us });
        }
    }

    fn wake(&mut self, flow: usize, until: Option<Instant>) {
        let Some(until) = until else { return };
        let after_us = until.saturating_duration_since(self.instant()).as_micros().max(100) as u64;
        let at_us = self.now_us + after_us;
        if std::mem::replace(&mut self.media_mut(flow).wake_us, at_us) != at_us {
            self.schedule(after_us, Event::Wake(flow));
        }
    }

    fn enter(&mut self, packet: Packet) {
        count(&mut self.log_mut(packet.flow).sent_packets, 1);
        let is_policed = self.path.policer.is_some_and(|(kbps, burst)| {
            let (tokens, since_us) = self.tokens;
            let tokens = (tokens + (self.now_us - since_us) as f64 * kbps / 8_000.0).min(burst);
            let passes = tokens >= f64::from(packet.bytes);
            self.tokens = (if passes { tokens - f64::from(packet.bytes) } else { tokens }, self.now_us);
            !passes
        });
        if is_policed || self.queued_bytes + packet.bytes > self.path.queue_bytes {
            self.lose(packet.flow);
            return;
        }
        self.queued_bytes += packet.bytes;
        self.queue.push_back(packet);
        self.serve();
    }

    fn serve(&mut self) {
        if let Some(packet) = self.queue.front().filter(|_| !self.is_serving) {
            let takes_us = (f64::from(packet.bytes) * 8_000.0 / self.path.kbps) as u64;
            self.is_serving = true;
            self.schedule(takes_us, Event::Served);
        }
    }

    fn served(&mut self) {
        self.is_serving = false;
        if let Some(packet) = self.queue.pop_front() {
            self.queued_bytes -= packet.bytes;
            if self.chance() < self.path.loss {
                self.lose(packet.flow);
            } else {
                if packet.kind == Kind::Voice {
                    let waited_us = self.now_us - packet.entered_us;
                    let now_us = self.now_us;
                    self.log_mut(packet.flow).voice.push((now_us, waited_us));
                }
                let jitter_us = (self.chance() * self.path.jitter_ms * 1_000.0) as u64;
                let at_us = (self.now_us + self.path.one_way_ms * 1_000 + jitter_us).max(self.last_arrival_us);
                self.last_arrival_us = at_us;
                self.schedule(at_us - self.now_us, Event::Arrives(packet));
            }
        }
        self.serve();
    }

    fn lose(&mut self, flow: usize) {
        count(&mut self.log_mut(flow).lost_packets, 1);
    }

    fn arrives(&mut self, packet: Packet) {
        let now_us = self.now_us;
        if packet.kind != Kind::Padding {
            count(&mut self.log_mut(packet.flow).arrived, packet.bytes.into());
        }
        match &mut self.flows[packet.flow] {
            Flow::Media(media) => {
                media.received.insert(packet.number, now_us as i64 + RECEIVER_CLOCK_US);
            }
            Flow::Cross { kind: Cross::Greedy { .. }, .. } => {
                self.schedule(self.path.one_way_ms * 1_000, Event::Acked(packet.flow, packet.number));
            }
            Flow::Cross { .. } => {}
        }
    }

    fn reports(&mut self, flow: usize) {
        self.schedule(self.path.feedback_every_ms * 1_000, Event::Reports(flow));
        let is_lost = self.chance() < self.path.feedback_loss;
        let media = self.media_mut(flow);
        let received = std::mem::take(&mut media.received);
        let (Some(first), Some(last)) = (received.first_key_value(), received.last_key_value()) else { return };
        let (base, last) = (media.unreported.min(*first.0), *last.0);
        media.unreported = last + 1;
        let statuses: Vec<Option<i64>> = (base..=last).map(|number| received.get(&number).copied()).collect();
        if !is_lost {
            let rtcp = encode(base as u16, &statuses);
            self.schedule(self.path.one_way_ms * 1_000, Event::Told(flow, rtcp));
        }
    }

    fn told(&mut self, flow: usize, rtcp: &[u8]) {
        let now = self.instant();
        let media = self.media_mut(flow);
        let mut messages = 0;
        for message in feedback::in_compound(rtcp) {
            media.controller.feedback(&message, now);
            messages += 1;
        }
        assert_eq!(messages, 1, "our own encoding is read");
        if media.controller.estimate_kbps() < media.last_estimate {
            self.choose(flow);
        }
        self.send(flow);
    }

    fn cross_tick(&mut self, flow: usize) {
        let Flow::Cross { kind, is_on: true, .. } = &mut self.flows[flow] else { return };
        match kind {
            Cross::Constant { kbps } => {
                let every_us = (f64::from(PACKET_BYTES) * 8_000.0 / *kbps) as u64;
                self.schedule(every_us, Event::CrossTick(flow));
                self.enter(Packet { flow, kind: Kind::Cross, number: 0, bytes: PACKET_BYTES, entered_us: self.now_us });
            }
            Cross::Greedy { window, threshold, next, expected, acked_us, .. } => {
                if self.now_us > *acked_us + 1_000_000 {
                    *threshold = (*window / 2.0).max(2.0);
                    (*window, *expected) = (2.0, *next);
                }
                self.schedule(1_000_000, Event::CrossTick(flow));
                self.fill_window(flow);
            }
        }
    }

    fn fill_window(&mut self, flow: usize) {
        loop {
            let Flow::Cross { kind: Cross::Greedy { window, next, expected, .. }, is_on: true, .. } =
                &mut self.flows[flow]
            else {
                return;
            };
            if (*next - *expected) as f64 >= *window {
                return;
            }
            let number = *next;
            *next += 1;
            self.enter(Packet { flow, kind: Kind::Cross, number, bytes: PACKET_BYTES, entered_us: self.now_us });
        }
    }

    fn acked(&mut self, flow: usize, number: u64) {
        let now_us = self.now_us;
        if let Flow::Cross { kind: Cross::Greedy { window, threshold, next, expected, recovered, acked_us }, .. } =
            &mut self.flows[flow]
        {
            *acked_us = now_us;
            if number > *expected && number >= *recovered {
                *window = (*window / 2.0).max(2.0);
                *threshold = *window;
                *recovered = *next;
            }
            *window += if *window < *threshold { 1.0 } else { 1.0 / *window };
            *expected = (number + 1).max(*expected);
        }
        self.fill_window(flow);
    }

    fn schedule(&mut self, after_us: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now_us + after_us, self.order, event)));
    }

    fn media_mut(&mut self, flow: usize) -> &mut Media {
        match &mut self.flows[flow] {
            Flow::Media(media) => media,
            Flow::Cross { .. } => panic!("no media"),
        }
    }

    fn log_mut(&mut self, flow: usize) -> &mut Log {
        match &mut self.flows[flow] {
            Flow::Media(media) => &mut media.log,
            Flow::Cross { log, .. } => log,
        }
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_micros(self.now_us)
    }

    /// From 0 to 1 (xorshift64*).
    fn chance(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Picture {
    fn aim(&mut self, layer: Option<usize>, now_us: u64) {
        let is_raise = layer > self.layer && self.layer.is_some();
        if is_raise && now_us < self.not_raised_before_us {
            return;
        }
        if layer.is_some() {
            self.starved_since_us = None;
        } else if self.layer.is_some() && now_us - *self.starved_since_us.get_or_insert(now_us) < PAUSE_AFTER_US {
            self.layer = Some(0);
            return;
        }
        if layer < self.layer {
            self.not_raised_before_us = now_us + RAISE_PAUSE_US;
        }
        self.layer = layer;
    }
}

impl Log {
    fn between<T>(series: &[T], from_s: f64, to_s: f64) -> &[T] {
        let [from, to] = [from_s, to_s].map(|seconds| ((seconds * 10.0) as usize).min(series.len()));
        &series[from..to]
    }

    /// Media that arrived, in kbit/s.
    pub(super) fn kbps(&self, from_s: f64, to_s: f64) -> f64 {
        Self::sum(&self.arrived, from_s, to_s) / 125.0 / (to_s - from_s)
    }

    pub(super) fn estimate(&self, at_s: f64) -> f64 {
        self.estimates[((at_s * 10.0) as usize).min(self.estimates.len() - 1)]
    }

    pub(super) fn least_estimate(&self, from_s: f64, to_s: f64) -> f64 {
        Self::between(&self.estimates, from_s, to_s).iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(super) fn mean_estimate(&self, from_s: f64, to_s: f64) -> f64 {
        let series = Self::between(&self.estimates, from_s, to_s);
        series.iter().sum::<f64>() / series.len() as f64
    }

    /// How long after `from_s` the estimate first is as it should be, in seconds.
    pub(super) fn seconds_until(&self, from_s: f64, is_right: impl Fn(f64) -> bool) -> f64 {
        let from = (from_s * 10.0) as usize;
        let place = self.estimates[from..].iter().position(|estimate| is_right(*estimate));
        place.map_or(f64::INFINITY, |place| place as f64 / 10.0)
    }

    /// The share of packets lost.
    pub(super) fn loss(&self, from_s: f64, to_s: f64) -> f64 {
        let [sent, lost] = [&self.sent_packets, &self.lost_packets].map(|series| Self::sum(series, from_s, to_s));
        lost / sent.max(1.0)
    }

    /// The share of bytes sent that were padding.
    pub(super) fn padding(&self, from_s: f64, to_s: f64) -> f64 {
        let [padding, media] = [&self.padding_bytes, &self.media_bytes].map(|series| Self::sum(series, from_s, to_s));
        padding / (padding + media).max(1.0)
    }

    fn sum(series: &[u64], from_s: f64, to_s: f64) -> f64 {
        Self::between(series, from_s, to_s).iter().sum::<u64>() as f64
    }

    pub(super) fn switches(&self, from_s: f64, to_s: f64) -> u64 {
        Self::between(&self.switches, from_s, to_s).iter().sum()
    }

    /// What voice packets waited in the bottleneck: mean and 95th percentile, in milliseconds.
    pub(super) fn waits_ms(&self, from_s: f64, to_s: f64) -> (f64, f64) {
        let mut waits: Vec<u64> = self.voice_between(from_s, to_s).map(|(_, wait)| wait).collect();
        waits.sort_unstable();
        let mean = waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64;
        let high = waits.get(waits.len() * 95 / 100).copied().unwrap_or(0) as f64;
        (mean / 1_000.0, high / 1_000.0)
    }

    /// The longest time without a voice packet, in milliseconds.
    pub(super) fn longest_gap_ms(&self, from_s: f64, to_s: f64) -> f64 {
        let times: Vec<u64> = self.voice_between(from_s, to_s).map(|(at, _)| at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1_000.0
    }

    fn voice_between(&self, from_s: f64, to_s: f64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let [from, to] = [from_s, to_s].map(|seconds| (seconds * 1e6) as u64);
        self.voice.iter().copied().filter(move |(at, _)| (from..to).contains(at))
    }
}

/// Counts in the running tenth of a second.
fn count(series: &mut [u64], more: u64) {
    if let Some(last) = series.last_mut() {
        *last += more;
    }
}

/// Transport-wide feedback as a receiver sends it: two-bit vectors, then deltas.
fn encode(base: u16, statuses: &[Option<i64>]) -> Vec<u8> {
    let first_us = statuses.iter().flatten().next().copied().unwrap_or(0);
    let reference = first_us / 64_000;
    let (mut symbols, mut deltas, mut before) = (Vec::new(), Vec::new(), reference * 256);
    for status in statuses {
        let delta = status.map(|us| {
            let at = us / 250;
            at - std::mem::replace(&mut before, at)
        });
        match delta {
            None => symbols.push(0u16),
            Some(delta) => match u8::try_from(delta) {
                Ok(small) => {
                    symbols.push(1);
                    deltas.push(small);
                }
                Err(_) => {
                    symbols.push(2);
                    let large = delta.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                    deltas.extend(large.to_be_bytes());
                }
            },
        }
    }
    let chunk =
        |symbols: &[u16]| (0..7).fold(0b11, |chunk, place| chunk << 2 | symbols.get(place).copied().unwrap_or(0));
    let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend(base.to_be_bytes());
    packet.extend((statuses.len() as u16).to_be_bytes());
    packet.extend(&((reference & 0xff_ffff) as u32).to_be_bytes()[1..]);
    packet.push(0);
    symbols.chunks(7).for_each(|symbols| packet.extend(chunk(symbols).to_be_bytes()));
    packet.extend(deltas);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}
