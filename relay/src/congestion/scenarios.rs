//! The window against bottlenecks, losses and others' traffic, on a virtual clock: one seed, one run.
#![expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::window::Window;

const PACKET: u64 = 1200;
const MSS: f64 = PACKET as f64;

/// A path that all flows share.
#[derive(Debug, Clone, Copy)]
struct Path {
    rate_mbps: f64,
    /// Of the bottleneck's drop-tail queue.
    queue_ms: f64,
    rtt_ms: u64,
    /// Random loss behind the bottleneck.
    loss: f64,
}

/// What a flow is.
enum Kind {
    Media(Box<Media>),
    /// Cubic (RFC 9438) with everything to send.
    Cubic(Cubic),
}

/// The window under test, paced as QUIC paces, with media of that many Mbit/s; what does not get out within 100 ms is
/// dropped, as the link does.
struct Media {
    window: Window,
    mbps: f64,
    backlog: VecDeque<Instant>,
    next_frame: Instant,
    tokens_at: Instant,
    held: u64,
}

struct Cubic {
    window: f64,
    threshold: f64,
    before: f64,
    since: Instant,
    recovery: Instant,
}

struct Flow {
    kind: Kind,
    begins: Instant,
    in_flight: u64,
    next_number: u64,
    /// Sent and neither acknowledged nor lost.
    outstanding: VecDeque<(u64, Instant)>,
    wake_at: Option<Instant>,
    delivered: u64,
    sent: u64,
    /// One-way queueing of what was delivered, in milliseconds.
    queued_ms: Vec<f64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A packet reaches the receiver and its acknowledgement the sender.
    Acked { number: u64 },
    /// The flow may send.
    Wake,
}

struct World {
    path: Path,
    random: StdRng,
    start: Instant,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, usize, What)>>,
    order: u64,
    flows: Vec<Flow>,
    /// When the bottleneck will have sent everything that it has.
    free_at: Instant,
    measure_from: Instant,
}

impl World {
    fn new(path: Path) -> Self {
        let start = Instant::now();
        Self {
            path,
            random: StdRng::seed_from_u64(7),
            start,
            now: start,
            events: BinaryHeap::new(),
            order: 0,
            flows: Vec::new(),
            free_at: start,
            measure_from: start,
        }
    }

    fn add(&mut self, kind: impl FnOnce(Instant) -> Kind, after_s: u64) -> usize {
        let begins = self.start + Duration::from_secs(after_s);
        self.flows.push(Flow {
            kind: kind(begins),
            begins,
            in_flight: 0,
            next_number: 0,
            outstanding: VecDeque::new(),
            wake_at: None,
            delivered: 0,
            sent: 0,
            queued_ms: Vec::new(),
        });
        self.at(begins, self.flows.len() - 1, What::Wake);
        self.flows.len() - 1
    }

    fn media(&mut self, mbps: f64, after_s: u64) -> usize {
        self.add(
            |begins| {
                Kind::Media(Box::new(Media {
                    window: Window::new(),
                    mbps,
                    backlog: VecDeque::new(),
                    next_frame: begins,
                    tokens_at: begins,
                    held: 0,
                }))
            },
            after_s,
        )
    }

    fn cubic(&mut self, after_s: u64) -> usize {
        self.add(
            |begins| {
                let window = 10.0;
                Kind::Cubic(Cubic { window, threshold: f64::MAX, before: 0.0, since: begins, recovery: begins })
            },
            after_s,
        )
    }

    fn at(&mut self, when: Instant, flow: usize, what: What) {
        self.order += 1;
        self.events.push(Reverse((when, self.order, flow, what)));
    }

    /// Runs for `seconds`; measures the part after `from`.
    fn run(mut self, seconds: u64, from: u64) -> Vec<Outcome> {
        self.measure_from = self.start + Duration::from_secs(from);
        let end = self.start + Duration::from_secs(seconds);
        while let Some(Reverse((when, _, flow, what))) = self.events.pop() {
            if when > end {
                break;
            }
            self.now = when;
            if let What::Acked { number } = what {
                self.acked(flow, number);
            }
            self.send(flow);
        }
        let span_s = (seconds - from) as f64;
        self.flows.into_iter().map(|flow| Outcome::of(flow, span_s)).collect()
    }

    fn send(&mut self, index: usize) {
        let (now, rtt) = (self.now, Duration::from_millis(self.path.rtt_ms));
        if now < self.flows[index].begins {
            return;
        }
        self.give_up(index);
        loop {
            let measured = now >= self.measure_from;
            let flow = &mut self.flows[index];
            let wake = match &mut flow.kind {
                Kind::Cubic(cubic) => {
                    let is_full = flow.in_flight as f64 + MSS > cubic.window * MSS;
                    is_full.then(|| now + Duration::from_millis(100))
                }
                Kind::Media(media) => {
                    let Media { window, mbps, backlog, next_frame, tokens_at, held } = &mut **media;
                    // Frames of 33 ms, so that media comes in bursts.
                    while *next_frame <= now {
                        let packets = (*mbps * 1e6 / 8.0 / 30.0 / MSS).round() as usize;
                        backlog.extend(std::iter::repeat_n(*next_frame, packets));
                        *next_frame += Duration::from_micros(33_333);
                    }
                    while backlog.front().is_some_and(|since| now - *since > Duration::from_millis(100)) {
                        backlog.pop_front();
                        *held += u64::from(measured);
                    }
                    if backlog.is_empty() {
                        Some(*next_frame)
                    } else if flow.in_flight + PACKET > window.bytes() {
                        // An acknowledgement, or a loss, opens it.
                        Some(now + Duration::from_millis(10))
                    } else if *tokens_at > now {
                        Some(*tokens_at)
                    } else {
                        backlog.pop_front();
                        let gap = rtt.mul_f64(MSS / (1.25 * window.bytes() as f64));
                        // A burst of ten packets is let through.
                        *tokens_at = (*tokens_at + gap).max(now.checked_sub(gap * 10).unwrap_or(now));
                        None
                    }
                }
            };
            if let Some(wake) = wake {
                if flow.wake_at.is_none_or(|at| at <= now || at > wake) {
                    flow.wake_at = Some(wake);
                    self.at(wake, index, What::Wake);
                }
                return;
            }
            self.transmit(index);
        }
    }

    /// Where nothing is acknowledged for long, everything is lost: what a probe timeout would find out.
    fn give_up(&mut self, index: usize) {
        let (now, patience) = (self.now, Duration::from_millis(3 * self.path.rtt_ms + self.path.queue_ms as u64));
        let flow = &mut self.flows[index];
        if flow.outstanding.front().is_none_or(|(_, sent)| now - *sent < patience) {
            return;
        }
        let lost = flow.outstanding.len() as u64;
        flow.outstanding.clear();
        flow.in_flight = 0;
        match &mut flow.kind {
            Kind::Media(media) => {
                let window = &mut media.window;
                window.lost(lost * PACKET, now);
                window.interrupted();
            }
            Kind::Cubic(cubic) => {
                (cubic.before, cubic.window, cubic.threshold) = (cubic.window, 2.0, cubic.window / 2.0);
            }
        }
    }

    fn transmit(&mut self, index: usize) {
        let (now, measured) = (self.now, self.now >= self.measure_from);
        let flow = &mut self.flows[index];
        let number = flow.next_number;
        flow.next_number += 1;
        flow.in_flight += PACKET;
        flow.sent += u64::from(measured);
        flow.outstanding.push_back((number, now));
        let waits = self.free_at.saturating_duration_since(now);
        if waits.as_secs_f64() * 1e3 > self.path.queue_ms {
            return;
        }
        let takes = Duration::from_secs_f64(MSS * 8.0 / (self.path.rate_mbps * 1e6));
        self.free_at = self.free_at.max(now) + takes;
        if self.random.random_bool(self.path.loss) {
            return;
        }
        if measured {
            flow.queued_ms.push(waits.as_secs_f64() * 1e3);
            flow.delivered += 1;
        }
        let back = self.free_at + Duration::from_millis(self.path.rtt_ms);
        self.at(back, index, What::Acked { number });
    }

    fn acked(&mut self, index: usize, number: u64) {
        let (now, rtt) = (self.now, Duration::from_millis(self.path.rtt_ms));
        let flow = &mut self.flows[index];
        if flow.outstanding.front().is_none_or(|(oldest, _)| *oldest > number) {
            return;
        }
        let mut lost = 0;
        let mut sent = now;
        while let Some((oldest, at)) = flow.outstanding.front().copied().filter(|(oldest, _)| *oldest <= number) {
            flow.outstanding.pop_front();
            flow.in_flight -= PACKET;
            // A single queue does not reorder: what was passed over is lost.
            if oldest == number {
                sent = at;
            } else {
                lost += 1;
            }
        }
        match &mut flow.kind {
            Kind::Media(media) => {
                let window = &mut media.window;
                window.acknowledged(PACKET, sent, now);
                if lost > 0 {
                    window.lost(lost * PACKET, now);
                }
                window.in_flight(flow.in_flight, now);
            }
            Kind::Cubic(cubic) => cubic.acked(lost, sent, now, rtt),
        }
    }
}

impl Cubic {
    fn acked(&mut self, lost: u64, sent: Instant, now: Instant, rtt: Duration) {
        if lost > 0 && sent >= self.recovery {
            self.before = self.window;
            self.window = (self.window * 0.7).max(2.0);
            self.threshold = self.window;
            (self.since, self.recovery) = (now, now);
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            let passed = (now + rtt).duration_since(self.since).as_secs_f64();
            let inflection = (self.before * 0.3 / 0.4).cbrt();
            let cubic = self.before + 0.4 * (passed - inflection).powi(3);
            let reno = self.before * 0.7 + 0.53 * passed / rtt.as_secs_f64();
            let target = cubic.max(reno).clamp(self.window, self.window * 1.5);
            self.window += (target - self.window) / self.window;
        }
    }
}

/// What became of a flow.
#[derive(Debug)]
struct Outcome {
    mbps: f64,
    /// The share of what was sent that did not arrive.
    lost: f64,
    /// The share of the media that was not sent.
    held: f64,
    queue_p50_ms: f64,
    queue_p95_ms: f64,
}

impl Outcome {
    fn of(mut flow: Flow, span_s: f64) -> Self {
        flow.queued_ms.sort_by(f64::total_cmp);
        let at =
            |share: f64| flow.queued_ms.get((flow.queued_ms.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        let held = if let Kind::Media(media) = &flow.kind { media.held } else { 0 };
        Self {
            mbps: flow.delivered as f64 * MSS * 8.0 / 1e6 / span_s,
            lost: 1.0 - flow.delivered as f64 / flow.sent.max(1) as f64,
            held: held as f64 / (held + flow.sent).max(1) as f64,
            queue_p50_ms: at(0.5),
            queue_p95_ms: at(0.95),
        }
    }
}

const RTTS_MS: [u64; 3] = [20, 100, 250];
const QUEUES_MS: [f64; 4] = [10.0, 50.0, 200.0, 800.0];

#[test]
fn random_loss_holds_no_media_back() {
    for rtt_ms in RTTS_MS {
        for loss in [0.0, 0.01, 0.02, 0.05, 0.1] {
            let mut world = World::new(Path { rate_mbps: 100.0, queue_ms: 50.0, rtt_ms, loss });
            world.media(9.0, 0);
            let [media] = &world.run(40, 2)[..] else { unreachable!("one flow") };
            println!("{rtt_ms} ms, {loss}: {media:?}");
            assert!(media.held < 0.001, "{rtt_ms} ms, {loss}: {media:?}");
        }
    }
}

#[test]
fn a_bottleneck_is_filled_and_its_queue_is_not() {
    for rtt_ms in RTTS_MS {
        for queue_ms in QUEUES_MS {
            for loss in [0.0, 0.02, 0.1] {
                let mut world = World::new(Path { rate_mbps: 20.0, queue_ms, rtt_ms, loss });
                world.media(30.0, 0);
                let [media] = &world.run(60, 15)[..] else { unreachable!("one flow") };
                println!("{rtt_ms} ms, queue {queue_ms} ms, {loss}: {media:?}");
                assert!(media.mbps > 16.0 * (1.0 - loss), "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {media:?}");
                assert!(media.queue_p50_ms < 50.0, "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {media:?}");
                assert!(media.queue_p95_ms < 80.0, "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {media:?}");
                assert!(media.lost < loss + 0.04, "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {media:?}");
            }
        }
    }
}

#[test]
fn next_to_cubic_it_takes_a_share_and_leaves_one() {
    for rtt_ms in RTTS_MS {
        for queue_ms in QUEUES_MS {
            for first in [true, false] {
                let mut world = World::new(Path { rate_mbps: 20.0, queue_ms, rtt_ms, loss: 0.0 });
                let media = world.media(30.0, if first { 0 } else { 10 });
                let cubic = world.cubic(if first { 10 } else { 0 });
                let outcomes = world.run(240, 60);
                let ratio = outcomes[media].mbps / outcomes[cubic].mbps;
                println!("{rtt_ms} ms, queue {queue_ms} ms, media first {first}: ratio {ratio:.2} {outcomes:?}");
                // A queue of 800 ms hides for long what came of a cut.
                let least = if queue_ms > 200.0 { 0.1 } else { 0.33 };
                assert!((least..3.0).contains(&ratio), "{rtt_ms} ms, queue {queue_ms} ms, first {first}: {outcomes:?}");
            }
        }
    }
}

#[test]
fn media_of_less_than_its_share_is_hardly_held_back_next_to_cubic() {
    for rtt_ms in RTTS_MS {
        for queue_ms in [50.0, 200.0] {
            let mut world = World::new(Path { rate_mbps: 20.0, queue_ms, rtt_ms, loss: 0.0 });
            let (media, _) = (world.media(4.0, 0), world.cubic(5));
            let outcome = &world.run(90, 10)[media];
            println!("{rtt_ms} ms, queue {queue_ms} ms, 4 Mbit/s: {outcome:?}");
            assert!(outcome.held < 0.05, "{rtt_ms} ms, queue {queue_ms} ms: {outcome:?}");
        }
    }
}

#[test]
fn two_of_them_converge() {
    for rtt_ms in RTTS_MS {
        for queue_ms in QUEUES_MS {
            for loss in [0.0, 0.02] {
                let mut world = World::new(Path { rate_mbps: 20.0, queue_ms, rtt_ms, loss });
                let (one, other) = (world.media(30.0, 0), world.media(30.0, 10));
                let outcomes = world.run(130, 40);
                let ratio = outcomes[one].mbps / outcomes[other].mbps;
                println!("{rtt_ms} ms, queue {queue_ms} ms, {loss}: ratio {ratio:.2} {outcomes:?}");
                assert!((0.33..3.0).contains(&ratio), "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {outcomes:?}");
                let queued = outcomes.iter().all(|outcome| outcome.queue_p50_ms < 50.0);
                assert!(queued, "{rtt_ms} ms, queue {queue_ms} ms, {loss}: {outcomes:?}");
            }
        }
    }
}
