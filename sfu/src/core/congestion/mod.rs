//! Congestion control for what is sent to one receiver: RTP with transport-wide feedback. Sans-IO: packets sent,
//! feedback and the time go in; an estimate comes out, and when what may go.
//!
//! It is Google's congestion control (draft-ietf-rmcat-gcc-02) with four differences, for a media node does not encode
//! but chooses among layers:
//!
//! - What is sent moves in steps and rarely fills the path. So the estimate grows only as far as was tested by what
//!   arrived, and `probe` finds the rest, up to what is desired and no further.
//! - Besides the slope of delay its height counts (`queue`): a queue that is full has no slope.
//! - Loss is judged by how it changes with the rate (`loss`), not by its share: a radio link that loses one packet in
//!   ten carries pictures all the same.
//! - What a probe does to delay and loss is kept apart from what the media do to them.
//!
//! | module       | job                                                                               |
//! |--------------|-----------------------------------------------------------------------------------|
//! | `history`    | what was sent, numbered, until feedback says what became of it                    |
//! | `feedback`   | the wire format of feedback, and the receiver's clock                             |
//! | `arrival`    | groups of packets sent together, and how much later one comes than the one before |
//! | `trend`      | whether delay grows                                                               |
//! | `queue`      | how long packets wait                                                             |
//! | `throughput` | how much is sent, how much arrives                                                |
//! | `rate`       | the delay-based rate: additive increase, multiplicative decrease                  |
//! | `loss`       | the loss-based bound                                                              |
//! | `probe`      | padding that finds out what a path carries beyond what is sent                    |
//! | `pacer`      | when a packet may go                                                              |
//!
//! How it is driven: [`Controller::next`] says what may go, [`Controller::sent`] numbers what went,
//! [`Controller::feedback`] takes what the receiver says, after which `next` is asked again; [`Controller::needs`] says
//! what to look for, and nothing is looked for before. What waits, waits with the caller; here is no queue.
//!
//! Rates are in kbit/s and count what the caller counts: best everything from the IP header on, since that is what a
//! path carries. Times inside are microseconds since the controller was made, or on the receiver's clock
//! (`arrived_us`).
//!
//! Cost: constant per packet sent, amortised constant per packet reported; no allocation once the history has reached
//! its size. Memory: 2 KiB, and 24 to 48 bytes for each packet of the last three seconds, at most 96 KiB.

mod arrival;
pub mod feedback;
mod history;
mod loss;
mod pacer;
mod probe;
mod queue;
mod rate;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
mod throughput;
mod trend;

use std::time::{Duration, Instant};

use self::{
    arrival::{Arrival, Groups},
    feedback::{Feedback, ReceiverClock},
    history::{History, Sent},
    loss::Loss,
    pacer::{Breadth, Pacer},
    probe::{Part, Prober, View},
    queue::Queue,
    rate::Rate,
    throughput::Throughput,
    trend::{Trend, Usage},
};

pub use self::history::{Label, TransportSequence};

/// Growing delay is no overuse before packets wait this long, in milliseconds: there is no queue to speak of.
const LEAST_WAIT_MS: f64 = 10.0;
/// A queue that has just begun to grow is looked at twice, unless packets wait longer than this, in milliseconds: what
/// arrives is not yet what a full path carries.
const LONG_WAIT_MS: f64 = 40.0;
/// What it takes beyond a round trip to see the effect of a change (draft-ietf-rmcat-gcc-02 section 5.5).
const RESPONSE_US: i64 = 100_000;
/// A queue is this flow's own if what arrives is at least this share of its rate, or if it sends this multiple of what arrives. It is
/// not if no picture has been sent for so long: a voice is sent in any case, and what it meets with says nothing of what pictures
/// would.
const USED: f64 = 0.5;
const OUTSENT: f64 = 1.5;
const NO_PICTURE_US: i64 = 1_000_000;
/// How far the delay-based rate may be above a bound that loss has proven.
const BEYOND_BOUND: f64 = 1.2;
/// A probe that shows less than this share of the estimate refutes it; somewhat less may be jitter.
const FAR_LESS: f64 = 0.5;
/// Weight of a new round-trip time.
const RTT_SMOOTHING: f64 = 0.2;
/// Weight of a new deviation in the jitter (as in RFC 3550 section 6.4.1).
const JITTER_SMOOTHING: f64 = 1.0 / 16.0;
/// Feedback comes ten to twenty times a second. One that is missing is nothing, a path that is silent for so long may
/// be dead: then the estimate falls, each time by as much.
const SILENCE_US: i64 = 1_500_000;
const SILENCE_STEP_US: i64 = 500_000;
const SILENCE_DECREASE: f64 = 0.8;

/// What an estimate may be, in kbit/s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The least: a voice is sent in any case.
    pub floor_kbps: u32,
    /// What it is before anything is known.
    pub initial_kbps: u32,
    /// The most.
    pub ceiling_kbps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { floor_kbps: 30, initial_kbps: 300, ceiling_kbps: 20_000 }
    }
}

/// What the caller holds ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// A packet of a voice.
    pub audio: bool,
    /// A packet of a picture, or one sent again.
    pub video: bool,
}

/// What is to be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The voice that waits.
    Audio,
    /// The picture that waits.
    Video,
    /// Padding of about this size, as retransmissions or empty packets; one packet, the next is asked for in time. Who
    /// cannot pad has no [needs](Controller::needs).
    Padding {
        /// With all headers.
        bytes: u32,
    },
    /// Nothing before this moment, or before something else waits.
    Wait {
        /// When to ask again if nothing happens.
        until: Option<Instant>,
    },
}

/// The congestion controller of one transport.
#[derive(Debug)]
pub struct Controller {
    origin: Instant,
    limits: Limits,
    history: History,
    clock: ReceiverClock,
    /// What the last feedback leads to expect.
    next_feedback: Option<feedback::Next>,
    groups: Groups,
    trend: Trend,
    queue: Queue,
    /// What is sent, and what the receiver says has arrived.
    sent: Throughput,
    acked: Throughput,
    rate: Rate,
    loss: Loss,
    prober: Prober,
    pacer: Pacer,
    rtt_us: Option<f64>,
    least_rtt_us: Option<i64>,
    /// Mean deviation of delay from one group of packets to the next.
    jitter_us: f64,
    /// When a picture waited last.
    picture_us: Option<i64>,
    /// The last feedback showed overuse.
    was_overused: bool,
    /// Since when packets have been sent that nothing is known of.
    unanswered_us: Option<i64>,
}

impl Controller {
    /// A controller that knows nothing yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        let mut controller = Self {
            origin: now,
            limits,
            history: History::default(),
            clock: ReceiverClock::default(),
            next_feedback: None,
            groups: Groups::default(),
            trend: Trend::default(),
            queue: Queue::default(),
            sent: Throughput::default(),
            acked: Throughput::default(),
            rate: Rate::new(limits.initial_kbps.into(), limits.floor_kbps.into()),
            loss: Loss::default(),
            prober: Prober::new(0),
            pacer: Pacer::new(0),
            rtt_us: None,
            least_rtt_us: None,
            jitter_us: 0.0,
            picture_us: None,
            was_overused: false,
            unanswered_us: None,
        };
        controller.follow(0);
        controller
    }

    /// What the path is taken to carry, in kbit/s.
    pub fn estimate_kbps(&self) -> u32 {
        self.estimate() as u32
    }

    /// The share of packets that the path loses however little is sent.
    pub fn inherent_loss(&self) -> f64 {
        self.loss.inherent()
    }

    /// The shortest time from sending a packet to hearing that it has come.
    pub fn least_rtt(&self) -> Option<Duration> {
        self.least_rtt_us.map(|us| Duration::from_micros(us as u64))
    }

    /// What could be used, and what it takes to send the next picture that is paused (0: none is), in kbit/s without
    /// any margin. No more than that, with a margin, is probed for; so nothing before this is called, or while both are
    /// 0.
    pub fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
        self.prober.needs(desired_kbps, minimum_kbps);
        self.follow(self.us(now));
    }

    /// What is to be sent at `now`. To be asked again after each packet sent, when something begins to wait, and at the
    /// moment it said.
    pub fn next(&mut self, waiting: Waiting, now: Instant) -> Next {
        let now_us = self.us(now);
        if self.is_calm() {
            self.prober.begin_if_due(self.estimate(), self.jitter_us, now_us);
        }
        if waiting.video {
            self.picture_us = Some(now_us);
        }
        if waiting.audio {
            return Next::Audio;
        }
        let probe = self.prober.due();
        let ready_us = match probe {
            Some((due_us, _)) => Some(due_us),
            None if waiting.video => Some(self.pacer.ready_us()),
            None => None,
        };
        match (ready_us, probe) {
            (Some(ready_us), _) if ready_us > now_us => Next::Wait { until: Some(self.at(ready_us)) },
            (Some(_), _) if waiting.video => Next::Video,
            (Some(_), Some((_, bytes))) => Next::Padding { bytes },
            _ => Next::Wait { until: self.wake_at() },
        }
    }

    /// The packet `label` of `bytes` goes out at `now`; the number it carries.
    pub fn sent(&mut self, label: Label, bytes: usize, now: Instant) -> TransportSequence {
        let now_us = self.us(now);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.unanswered_us.get_or_insert(now_us);
        self.pacer.sent(bytes.into(), now_us);
        self.sent.add(bytes, now_us);
        let part = self.prober.sent(bytes.into(), now_us);
        self.history.sent(Sent { at_us: now_us, bytes, part, label })
    }

    /// Feedback came in at `now`. `lost` is called once with each packet that has not come though others have that were sent
    /// later; of packets on which the feedback was lost nothing is known.
    pub fn feedback(&mut self, feedback: &Feedback<'_>, now: Instant, lost: impl FnMut(Label)) {
        let now_us = self.us(now);
        if let Some(next) = self.next_feedback.replace(feedback.next()) {
            for sequence in feedback.passed_over(next) {
                self.history.reported(sequence, false);
            }
        }
        let reference_us = self.clock.reference_us(feedback);
        let mut has_news = false;
        for status in feedback.statuses() {
            let sent = self.history.reported(status.sequence, status.after_reference_us.is_some());
            if let (Some(sent), Some(after_us)) = (sent, status.after_reference_us) {
                self.arrived(sent, reference_us + after_us);
                has_news = true;
            }
        }
        if !has_news {
            return;
        }
        self.unanswered_us = None;
        self.queue.feedback_ends(now_us);
        self.measure_rtt(now_us);
        self.judge_loss(now_us, lost);
        self.conclude_probe(now_us);
        self.steer(now_us);
        self.follow(now_us);
    }

    /// Does what time alone brings. To be called at [`wake_at`](Self::wake_at), oftener at will.
    pub fn tick(&mut self, now: Instant) {
        let now_us = self.us(now);
        self.conclude_probe(now_us);
        let Some(since_us) = self.unanswered_us.filter(|since_us| now_us - since_us >= SILENCE_US) else { return };
        self.unanswered_us = Some(since_us + SILENCE_STEP_US);
        self.rate.limit(self.estimate() * SILENCE_DECREASE);
        self.prober.fell(self.estimate(), now_us);
        self.follow(now_us);
    }

    /// When something is to be done though nothing happens: a probe ([`next`](Self::next)) or the verdict on a path
    /// that is silent ([`tick`](Self::tick)). Changes with each call that changes anything.
    pub fn wake_at(&self) -> Option<Instant> {
        let begins_us = self.prober.next_us(self.estimate()).filter(|_| self.is_calm());
        let probe_us = self.prober.due().map(|(due_us, _)| due_us).or(begins_us);
        let silence_us = self.unanswered_us.map(|since_us| since_us + SILENCE_US);
        let wake_us = probe_us.into_iter().chain(silence_us).min();
        wake_us.map(|us| self.at(us))
    }

    /// No queue is there that a probe would add to. It takes feedback to change that.
    fn is_calm(&self) -> bool {
        self.trend.usage() == Usage::Normal && self.queue.is_calm()
    }

    fn estimate(&self) -> f64 {
        let bound_kbps = self.loss.bound_kbps().unwrap_or(f64::INFINITY);
        self.rate.kbps().min(bound_kbps).clamp(self.limits.floor_kbps.into(), self.limits.ceiling_kbps.into())
    }

    fn arrived(&mut self, sent: Sent, arrived_us: i64) {
        let arrival = Arrival { sent_us: sent.at_us, arrived_us };
        self.acked.add(sent.bytes, arrived_us);
        self.queue.add(arrival, sent.part != Part::None);
        match sent.part {
            Part::Of(cluster) => self.prober.arrived(cluster, arrival),
            // What a probe does to the queue says nothing about what is sent otherwise.
            Part::Beside => {}
            Part::None => {
                if let Some(step) = self.groups.add(arrival) {
                    self.jitter_us += (step.delay_us.abs() as f64 - self.jitter_us) * JITTER_SMOOTHING;
                    self.trend.add(step);
                }
            }
        }
    }

    /// From the latest packet that arrived: the time that the receiver held its report back for is part of it.
    fn measure_rtt(&mut self, now_us: i64) {
        let Some(newest_us) = self.history.newest_arrived_us() else { return };
        let latest_us = now_us - newest_us;
        let latest = latest_us as f64;
        self.rtt_us = Some(self.rtt_us.map_or(latest, |rtt| rtt + (latest - rtt) * RTT_SMOOTHING));
        self.least_rtt_us = Some(self.least_rtt_us.map_or(latest_us, |least| least.min(latest_us)));
    }

    fn judge_loss(&mut self, now_us: i64, mut lost: impl FnMut(Label)) {
        let before_kbps = self.estimate();
        while let Some((sent, is_lost)) = self.history.settle() {
            if is_lost {
                lost(sent.label);
            }
            if sent.part == Part::None {
                self.loss.settled(sent.at_us, sent.bytes, is_lost);
            }
        }
        if let Some(bound_kbps) = self.loss.proven_kbps() {
            self.rate.limit(bound_kbps * BEYOND_BOUND);
        }
        if self.estimate() < before_kbps {
            self.prober.fell(self.estimate(), now_us);
        }
    }

    fn conclude_probe(&mut self, now_us: i64) {
        if !self.prober.is_awaited() {
            return;
        }
        let view = View {
            estimate_kbps: self.estimate(),
            inherent_loss: self.loss.inherent(),
            newest_arrived_us: self.history.newest_arrived_us(),
        };
        let Some(outcome) = self.prober.conclude(view, now_us) else { return };
        match outcome.carries_kbps {
            Some(kbps) if kbps > view.estimate_kbps => {
                self.rate.found(kbps);
                self.loss.found(kbps, outcome.packets, outcome.lost);
            }
            Some(kbps) if outcome.was_filled && kbps < view.estimate_kbps * FAR_LESS => {
                self.rate.limit(kbps.max(self.acked.kbps().unwrap_or(0.0)));
            }
            Some(_) => self.loss.probed(outcome.sent_kbps, outcome.packets, outcome.lost),
            None => {}
        }
        self.follow(now_us);
    }

    fn steer(&mut self, now_us: i64) {
        let (Some(arriving), Some(lately)) = (self.acked.kbps(), self.acked.recent_kbps()) else { return };
        let response_us = self.rtt_us.unwrap_or(0.0) as i64 + RESPONSE_US;
        let usage = self.trend.usage();
        let wait_ms = self.queue.wait_ms();
        if self.queue.is_gone() {
            self.rate.drained();
        }
        let grows = usage == Usage::Over && wait_ms > LEAST_WAIT_MS;
        let stands = usage != Usage::Under && self.queue.stands();
        let is_overused = grows || stands;
        let is_sure = std::mem::replace(&mut self.was_overused, is_overused) || wait_ms > LONG_WAIT_MS;
        if !is_overused {
            self.rate.grow(usage, arriving / (1.0 - self.loss.inherent()), response_us, now_us);
            return;
        }
        if stands {
            self.queue.cut(now_us);
        }
        let has_pictures = self.picture_us.is_some_and(|at_us| now_us - at_us < NO_PICTURE_US);
        let sent = self.sent.recent_kbps().unwrap_or(0.0) * (1.0 - self.loss.inherent());
        let is_own = has_pictures && (grows || lately > self.rate.kbps() * USED || sent > lately * OUTSENT);
        let carried = if grows { lately } else { lately.min(arriving) };
        if is_sure && is_own && self.rate.overused(carried, wait_ms, response_us, now_us) {
            self.prober.fell(self.estimate(), now_us);
            if stands {
                // Sent nothing but voices for as long as packets wait, the path has no queue any more, or half of one.
                self.pacer.hold(now_us + (wait_ms * 1_000.0) as i64);
            }
        }
    }

    /// The pacer follows the estimate.
    fn follow(&mut self, now_us: i64) {
        let estimate = self.estimate();
        let breadth = if self.rate.is_draining() {
            Breadth::Full
        } else if self.prober.is_satisfied(estimate) {
            Breadth::Ample
        } else if self.rate.knows_capacity() || self.loss.bound_kbps().is_some() {
            Breadth::Narrow
        } else {
            Breadth::Unknown
        };
        self.pacer.follow(estimate, breadth, now_us);
    }

    fn us(&self, at: Instant) -> i64 {
        at.saturating_duration_since(self.origin).as_micros() as i64
    }

    fn at(&self, us: i64) -> Instant {
        self.origin + Duration::from_micros(us.max(0) as u64)
    }
}
