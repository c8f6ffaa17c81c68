//! A bottleneck on a virtual clock: senders with the controller, competitors without, one queue before one link, and
//! receivers that send real feedback back. One seed is one run.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

mod application;
mod competitor;
mod log;
mod report;

pub(super) use self::{application::App, log::Log};
use self::{
    application::Picture,
    competitor::{Competitor, Cross, Reno},
    log::count,
    report::encode,
};
use super::{
    super::allocation::{Layer, Pick, Wish, allocate},
    Controller, Label, Limits, Next, Waiting, feedback,
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
enum Flow {
    Media(Box<Media>),
    Cross(Box<Cross>),
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
        self.cross(Competitor::Constant { kbps })
    }

    pub(super) fn greedy(&mut self) -> usize {
        self.cross(Competitor::Greedy(Reno::new()))
    }

    fn cross(&mut self, competitor: Competitor) -> usize {
        self.flows.push(Flow::Cross(Box::new(Cross { competitor, is_on: true, log: Log::default() })));
        self.schedule(0, Event::CrossTick(self.flows.len() - 1));
        self.flows.len() - 1
    }

    pub(super) fn stop(&mut self, flow: usize) {
        if let Flow::Cross(cross) = &mut self.flows[flow] {
            cross.is_on = false;
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
            Flow::Cross(cross) => &cross.log,
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
                Flow::Cross(cross) => (&mut cross.log, 0.0),
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
            Event::Arrives(packet) => self.arrives(&packet),
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
        let layers: Vec<(Pick, Layer)> = layers.map(|(index, layer)| (Pick::whole(index), layer)).collect();
        let wish =
            |picture: &Picture| Wish { layers: layers.clone(), height: 720, current: picture.layer.map(Pick::whole) };
        let wishes: Vec<Wish> = media.pictures.iter().map(wish).collect();
        let chosen = allocate(estimate.saturating_sub(VOICE_SET_ASIDE_KBPS), &wishes);
        let kbps_of = |(wish, pick): (&Wish, &Option<Pick>)| pick.map_or(0, |pick| wish.layers[pick.layer].1.kbps);
        let taken: u32 = wishes.iter().zip(&chosen).map(kbps_of).sum();
        let desired = VOICE_SET_ASIDE_KBPS + wishes.iter().map(Wish::ideal_kbps).sum::<u32>();
        let minimum = if chosen.contains(&None) { VOICE_SET_ASIDE_KBPS + taken + 150 } else { 0 };
        media.controller.needs(desired, minimum, now);
        let mut changed = 0;
        for (picture, pick) in media.pictures.iter_mut().zip(chosen) {
            let before = picture.layer;
            picture.aim(pick.map(|pick| pick.layer), now_us);
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
            let sequence = media.controller.sent(Label(0), bytes as usize, now);
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

    fn arrives(&mut self, packet: &Packet) {
        let now_us = self.now_us;
        if packet.kind != Kind::Padding {
            count(&mut self.log_mut(packet.flow).arrived, packet.bytes.into());
        }
        match &mut self.flows[packet.flow] {
            Flow::Media(media) => {
                media.received.insert(packet.number, now_us.cast_signed() + RECEIVER_CLOCK_US);
            }
            Flow::Cross(_) => self.schedule(self.path.one_way_ms * 1_000, Event::Acked(packet.flow, packet.number)),
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
            media.controller.feedback(&message, now, |_| {});
            messages += 1;
        }
        assert_eq!(messages, 1, "our own encoding is read");
        if media.controller.estimate_kbps() < media.last_estimate {
            self.choose(flow);
        }
        self.send(flow);
    }

    fn cross_tick(&mut self, flow: usize) {
        let now_us = self.now_us;
        let Some(cross) = self.running(flow) else { return };
        match &mut cross.competitor {
            Competitor::Constant { kbps } => {
                let every_us = (f64::from(PACKET_BYTES) * 8_000.0 / *kbps) as u64;
                self.schedule(every_us, Event::CrossTick(flow));
                self.enter(Packet { flow, kind: Kind::Cross, number: 0, bytes: PACKET_BYTES, entered_us: now_us });
            }
            Competitor::Greedy(reno) => {
                reno.check(now_us);
                self.schedule(1_000_000, Event::CrossTick(flow));
                self.fill_window(flow);
            }
        }
    }

    fn acked(&mut self, flow: usize, number: u64) {
        let now_us = self.now_us;
        if let Some(Cross { competitor: Competitor::Greedy(reno), .. }) = self.running(flow) {
            reno.acked(number, now_us);
            self.fill_window(flow);
        }
    }

    fn fill_window(&mut self, flow: usize) {
        let entered_us = self.now_us;
        while let Some(Cross { competitor: Competitor::Greedy(reno), .. }) = self.running(flow) {
            let Some(number) = reno.take() else { return };
            self.enter(Packet { flow, kind: Kind::Cross, number, bytes: PACKET_BYTES, entered_us });
        }
    }

    fn running(&mut self, flow: usize) -> Option<&mut Cross> {
        match &mut self.flows[flow] {
            Flow::Cross(cross) if cross.is_on => Some(cross),
            _ => None,
        }
    }

    fn schedule(&mut self, after_us: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse((self.now_us + after_us, self.order, event)));
    }

    fn media_mut(&mut self, flow: usize) -> &mut Media {
        match &mut self.flows[flow] {
            Flow::Media(media) => media,
            Flow::Cross(_) => panic!("no media"),
        }
    }

    fn log_mut(&mut self, flow: usize) -> &mut Log {
        match &mut self.flows[flow] {
            Flow::Media(media) => &mut media.log,
            Flow::Cross(cross) => &mut cross.log,
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
