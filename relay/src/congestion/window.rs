//! The window of one path. Sans-IO: acknowledgements, losses and the time go in, a window comes out.
//!
//! The window judges a round trip at a time, by two signs of congestion: the queue (the least round trip of the round above
//! the least of all) and loss. Neither is proof. The queue may be another's, who fills it whatever we do; loss may be the
//! path's own. So **a cut is an experiment**: what should come of it if the sign was ours is known, and where it does not
//! come the cut is taken back and something is learnt:
//!
//! * a queue that does not fall as it would if it were ours is another's: from then on the window competes, that is, it
//!   takes loss alone for congestion, as that other does, until the queue has drained once;
//! * loss that does not fall is the path's own, and from then on is not taken for congestion.
//!
//! Between cuts it grows by Cubic's function (RFC 9438), so that next to Cubic it takes about the same share.

use std::time::{Duration, Instant};

/// The window at first, in bytes: 128 Mbit/s at 250 ms. QUIC paces by the window, so a small one would also stretch bursts.
pub(super) const INITIAL_BYTES: u64 = 4 * 1024 * 1024;
/// The least window, in bytes: 0.5 Mbit/s at 250 ms, some voices.
pub(super) const LEAST_BYTES: u64 = 16 * 1024;
/// The largest window, in bytes: 2 Gbit/s at 250 ms.
pub(super) const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// A round with fewer bytes than this says nothing and goes on: one packet of it would be too large a share.
const LEAST_ROUND_BYTES: u64 = 24_000;
/// A packet, where one is counted with.
const PACKET_BYTES: f64 = 1200.0;
/// A queue of this much and an eighth of the round trip is congestion: above what jitter leaves in the least of a round's
/// round trips, below what a talker notices.
const QUEUE: Duration = Duration::from_millis(20);
/// And only if it stands for so long: a process that was not scheduled for a while sees no queue.
const STANDING: Duration = Duration::from_millis(100);
/// Less than this is no queue.
const JITTER: Duration = Duration::from_millis(4);
/// How long the least round trip stands for the path without a queue. Cuts drain the queue more often than that; a path
/// that has become longer is known as such after it. Six times as long next to one who never drains it.
const BASE_LASTS: Duration = Duration::from_secs(20);
/// What a cut by the queue leaves of the path's own content: the queue then drains.
const DRAINED: f64 = 0.9;
/// The most that a cut takes.
const MOST_CUT: f64 = 0.5;
/// What a cut by loss leaves, as Cubic's.
const AFTER_LOSS: f64 = 0.7;
/// The same while competing, where media, which comes in bursts, loses more often than what is sent evenly.
const AFTER_LOSS_COMPETING: f64 = 0.9;
/// Rounds until a cut shows: one until what was sent after it is acknowledged, and one of those.
const ROUNDS_TO_SHOW: u32 = 2;
/// Cuts in a row that did not drain the queue until it is taken for another's.
const STRIKES: u32 = 2;
/// The share that a queue must fall by, of what it would if it were ours alone. It falls by our share of what fills it: so
/// who has 0.4 of a bottleneck or more gives way, who has less competes, and two windows do not compete with each other.
const FELL: f64 = 0.4;
/// After so long without a queue nobody competes.
const QUIET: Duration = Duration::from_secs(10);
/// While competing, a cut that might show that nobody competes any more is tried after so many rounds, and after twice as
/// many each time that it does not show it, up to eight times.
const TRY_AFTER_ROUNDS: u32 = 16;
/// Shares of loss that are no congestion whatever the window: what the path itself is allowed
/// (draft-ietf-rmcat-gcc-02 section 6).
const ALLOWED: f64 = 0.10;
/// Cubic's constant, in packets a second cubed (RFC 9438 section 5).
const CUBIC: f64 = 0.4;
/// The growth of a round at most, where Cubic would take more.
const MOST_GROWTH: f64 = 1.25;
/// And until the first sign of congestion.
const FIRST_GROWTH: f64 = 2.0;

/// The window.
#[derive(Debug, Clone)]
pub(super) struct Window {
    bytes: f64,
    /// From what was in flight at a cut down to the window, and how much of what is acknowledged it comes down by.
    shrinking: f64,
    shrinks_by: f64,
    round: Option<Round>,
    base: Base,
    growth: Option<Growth>,
    trial: Option<Trial>,
    competes: bool,
    strikes: u32,
    rounds_since_try: u32,
    /// When it began to give way to a queue, and what it carried then, in bytes per second.
    yielded: Option<(Instant, f64)>,
    /// Since when every round has seen a queue.
    queue_since: Option<Instant>,
    /// When there was a queue last.
    queued: Option<Instant>,
    /// The path's own loss.
    own_loss: f64,
}

/// What happened since a moment, until what was sent after it was acknowledged.
#[derive(Debug, Clone)]
struct Round {
    since: Instant,
    acknowledged: u64,
    lost: u64,
    /// The most that was in flight after acknowledgements.
    in_flight: u64,
    least_rtt: Duration,
    is_over: bool,
    /// Whether something was lost when the queue was about as long as it ever gets.
    lost_at_peak: bool,
    /// Whether a router said so.
    marked: bool,
}

/// The least and the most round trip of a while.
#[derive(Debug, Clone, Default)]
struct Base {
    /// Of the time before, and of this.
    extremes: [Option<(Duration, Duration)>; 2],
    since: Option<Instant>,
    latest: Duration,
}

/// Growth by Cubic since a cut.
#[derive(Debug, Clone)]
struct Growth {
    since: Instant,
    /// The window before and after the cut, in packets.
    before: f64,
    after: f64,
}

/// A cut whose outcome is open.
#[derive(Debug, Clone)]
struct Trial {
    sign: Sign,
    before: f64,
    growth: Option<Growth>,
    rounds_left: u32,
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    /// The round trip at the cut and what it should become.
    Queue { rtt: Duration, expected: Duration },
    /// The share lost at the cut.
    Loss(f64),
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            bytes: INITIAL_BYTES as f64,
            shrinking: 0.0,
            shrinks_by: 0.0,
            round: None,
            base: Base::default(),
            growth: None,
            trial: None,
            competes: false,
            strikes: 0,
            rounds_since_try: 0,
            yielded: None,
            queue_since: None,
            queued: None,
            own_loss: 0.0,
        }
    }

    /// What may be in flight. After a cut it comes down with what is acknowledged, so that sending goes on meanwhile
    /// (RFC 6937): a voice would not wait for half a second of queue to drain.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.max(self.shrinking) as u64
    }

    /// A packet that was sent at `sent` is acknowledged.
    pub(super) fn acknowledged(&mut self, bytes: u64, sent: Instant, now: Instant) {
        self.shrinking -= bytes as f64 * self.shrinks_by;
        let rtt = now.saturating_duration_since(sent);
        self.base.note(rtt, if self.competes { BASE_LASTS * 6 } else { BASE_LASTS }, now);
        let round = self.round(now);
        round.acknowledged += bytes;
        round.least_rtt = round.least_rtt.min(rtt);
        round.is_over |= sent >= round.since;
    }

    /// Packets are lost.
    pub(super) fn lost(&mut self, bytes: u64, now: Instant) {
        self.shrinking -= bytes as f64 * self.shrinks_by;
        let is_at_peak = self.base.is_at_peak();
        let round = self.round(now);
        round.lost += bytes;
        round.lost_at_peak |= is_at_peak;
    }

    /// A router says that its queue is long (RFC 3168).
    pub(super) fn marked(&mut self, now: Instant) {
        self.round(now).marked = true;
    }

    /// Nothing at all came through for several probe timeouts (RFC 9002 section 7.6).
    pub(super) fn interrupted(&mut self) {
        self.bytes = self.bytes.min(LEAST_BYTES as f64 * 4.0);
        self.shrinking = 0.0;
        self.growth = None;
        self.trial = None;
    }

    /// So many bytes are in flight after the latest acknowledgements.
    pub(super) fn in_flight(&mut self, bytes: u64, now: Instant) {
        let round = self.round(now);
        round.in_flight = round.in_flight.max(bytes);
        if round.is_over
            && round.acknowledged + round.lost >= LEAST_ROUND_BYTES
            && let Some(round) = self.round.take()
        {
            self.judge(&round, now);
            self.bytes = self.bytes.clamp(LEAST_BYTES as f64, MOST_BYTES as f64);
        }
    }

    fn round(&mut self, now: Instant) -> &mut Round {
        self.round.get_or_insert(Round {
            since: now,
            acknowledged: 0,
            lost: 0,
            in_flight: 0,
            least_rtt: Duration::MAX,
            is_over: false,
            lost_at_peak: false,
            marked: false,
        })
    }

    fn judge(&mut self, round: &Round, now: Instant) {
        self.rounds_since_try = self.rounds_since_try.saturating_add(1);
        let base = self.base.least();
        let is_queue = round.least_rtt.saturating_sub(base) > self.base.queue_limit();
        if let Some(trial) = &mut self.trial {
            trial.rounds_left -= 1;
            if trial.rounds_left > 0 {
                return;
            }
            if let Some(trial) = self.trial.take() {
                self.conclude(trial, round, now);
            }
            return;
        }
        if is_queue {
            self.queued = Some(now);
            self.queue_since.get_or_insert(round.since);
        } else {
            self.queue_since = None;
        }
        let stands = self.queue_since.is_some_and(|since| now.saturating_duration_since(since) >= STANDING);
        if !is_queue && self.queued.is_none_or(|at| now.saturating_duration_since(at) > QUIET) {
            (self.competes, self.strikes) = (false, 0);
        }
        let is_used = round.in_flight as f64 > self.bytes * 0.75;
        // Near the queue's end the other is about to give way itself, which would look like our doing.
        let is_near_peak = round.least_rtt.saturating_sub(base) >= self.base.peak().mul_f64(0.8);
        let patience = TRY_AFTER_ROUNDS << self.strikes.saturating_sub(STRIKES).min(3);
        let may_try = is_used && self.rounds_since_try >= patience && !is_near_peak;
        let tries = !self.competes || may_try;
        let span_s = now.saturating_duration_since(round.since).as_secs_f64().max(1e-6);
        // Bytes per second, and by Little's law the round trip of what is in flight now: the queue may be growing.
        let rate = round.acknowledged as f64 / span_s;
        if self.is_lossy(round, is_used) {
            let share = if self.competes { AFTER_LOSS_COMPETING } else { AFTER_LOSS };
            self.cut(Sign::Loss(round.loss()), share, round, now);
        } else if stands && tries {
            let in_flight = (round.in_flight as f64).clamp(PACKET_BYTES, self.bytes);
            let share = DRAINED * rate * base.as_secs_f64() / in_flight;
            let rtt = Duration::from_secs_f64(in_flight / rate);
            let expected = base.max(rtt.mul_f64(share.clamp(MOST_CUT, 1.0)));
            self.rounds_since_try = 0;
            if self.yielded.is_none_or(|(since, _)| now.saturating_duration_since(since) > BASE_LASTS) {
                self.yielded = Some((now, rate));
            }
            self.cut(Sign::Queue { rtt, expected }, share.min(DRAINED), round, now);
        } else if round.in_flight as f64 > self.bytes * 0.5 {
            // Media comes in bursts and its round trips grow with the queue: it needs room beyond what it has in flight.
            self.learn_own_loss(round);
            self.grow(round.least_rtt, now);
        } else if let Some(growth) = &mut self.growth {
            // What is not used does not grow, nor does it make up for it later (RFC 9438 section 5.8).
            growth.since += round.least_rtt.min(now.saturating_duration_since(growth.since));
        }
    }

    /// A round without a sign of congestion says what the path loses itself.
    fn learn_own_loss(&mut self, round: &Round) {
        self.own_loss = (self.own_loss + (round.loss() - self.own_loss) * 0.1).min(ALLOWED);
    }

    /// Whether a round lost more than the path's own loss explains.
    fn is_lossy(&self, round: &Round, is_used: bool) -> bool {
        let packets = (round.acknowledged + round.lost) as f64 / PACKET_BYTES;
        // Who does not fill the window is not the cause, but for heavy loss.
        let own = if is_used { self.own_loss } else { self.own_loss.max(ALLOWED) };
        let usual = own * packets;
        let is_shallow = self.base.peak() <= self.base.queue_limit();
        let at_full_queue = is_used && (round.marked || round.lost_at_peak && (self.competes || is_shallow));
        at_full_queue || round.lost as f64 / PACKET_BYTES > usual + 3.0 * usual.sqrt() + 1.5
    }

    /// Leaves `share` of what was in flight.
    fn cut(&mut self, sign: Sign, share: f64, round: &Round, now: Instant) {
        let in_flight = (round.in_flight as f64).min(self.bytes);
        // What was never in flight was never tried.
        let window = self.bytes.min(2.0 * in_flight);
        let growth = self.growth.take();
        let share = share.max(MOST_CUT);
        self.bytes = in_flight * share;
        // A queue that overflows is relieved twice as soon.
        let haste = if matches!(sign, Sign::Loss(_)) { 2.0 } else { 1.0 };
        (self.shrinking, self.shrinks_by) = (in_flight, haste * (1.0 - share));
        let (reached, after) = (in_flight / PACKET_BYTES, self.bytes / PACKET_BYTES);
        // Who did not get back to where it was leaves room to others (RFC 9438 section 4.7).
        let gives_way =
            matches!(sign, Sign::Queue { .. }) && growth.as_ref().is_some_and(|growth| reached < growth.before);
        let before = if gives_way { f64::midpoint(reached, after) } else { reached };
        self.growth = Some(Growth { since: now, before, after });
        self.trial = Some(Trial { sign, before: window, growth, rounds_left: ROUNDS_TO_SHOW });
    }

    /// What a cut has shown.
    fn conclude(&mut self, trial: Trial, round: &Round, now: Instant) {
        match trial.sign {
            Sign::Queue { rtt, expected } => {
                let fall = rtt.saturating_sub(round.least_rtt).as_secs_f64();
                if fall >= FELL * rtt.saturating_sub(expected).as_secs_f64() {
                    (self.competes, self.strikes) = (false, 0);
                } else {
                    self.take_back(trial);
                    self.strikes += 1;
                    if self.strikes >= STRIKES && !self.competes {
                        self.compete(round.least_rtt, now);
                    }
                }
            }
            Sign::Loss(before) => {
                let after = round.loss();
                if after > before / 2.0 && after < 1.3 * ALLOWED {
                    self.own_loss = self.own_loss.max(before.min(after)).min(ALLOWED);
                    self.take_back(trial);
                }
            }
        }
    }

    /// Competes from now on, beginning where a loss would have left it when it began to give way.
    fn compete(&mut self, rtt: Duration, now: Instant) {
        self.competes = true;
        if let Some((_, rate)) = self.yielded.take() {
            self.bytes = self.bytes.max(AFTER_LOSS * rate * rtt.as_secs_f64());
            let packets = self.bytes / PACKET_BYTES;
            self.growth = Some(Growth { since: now, before: packets, after: packets });
        }
    }

    fn take_back(&mut self, trial: Trial) {
        self.bytes = self.bytes.max(trial.before);
        self.growth = trial.growth;
    }

    fn grow(&mut self, rtt: Duration, now: Instant) {
        let most = self.bytes * MOST_GROWTH;
        let Some(growth) = &self.growth else {
            self.bytes *= FIRST_GROWTH;
            return;
        };
        let passed = (now + rtt).saturating_duration_since(growth.since).as_secs_f64();
        let cubic = {
            let inflection = ((growth.before - growth.after).max(0.0) / CUBIC).cbrt();
            growth.before + CUBIC * (passed - inflection).powi(3)
        };
        // As much as Reno would (RFC 9438 section 4.3).
        let reno = growth.after + 3.0 * (1.0 - AFTER_LOSS) / (1.0 + AFTER_LOSS) * passed / rtt.as_secs_f64().max(1e-3);
        self.bytes = (cubic.max(reno) * PACKET_BYTES).clamp(self.bytes, most);
    }
}

impl Round {
    fn loss(&self) -> f64 {
        self.lost as f64 / (self.acknowledged + self.lost).max(1) as f64
    }
}

impl Base {
    fn note(&mut self, rtt: Duration, lasts: Duration, now: Instant) {
        if now.saturating_duration_since(*self.since.get_or_insert(now)) >= lasts / 2 {
            self.extremes = [self.extremes[1], None];
            self.since = Some(now);
        }
        let (least, most) = self.extremes[1].unwrap_or((rtt, rtt));
        self.extremes[1] = Some((least.min(rtt), most.max(rtt)));
        self.latest = rtt;
    }

    fn least(&self) -> Duration {
        self.extremes.iter().flatten().map(|(least, _)| *least).min().unwrap_or_default()
    }

    /// The longest that the queue was.
    fn peak(&self) -> Duration {
        let most = self.extremes.iter().flatten().map(|(_, most)| *most).max();
        most.unwrap_or_default().saturating_sub(self.least())
    }

    /// A queue longer than this is congestion.
    fn queue_limit(&self) -> Duration {
        QUEUE + self.least() / 8
    }

    /// Whether the queue is about as long as it ever gets.
    fn is_at_peak(&self) -> bool {
        let queue = self.latest.saturating_sub(self.least());
        queue > JITTER && queue >= self.peak().mul_f64(0.8)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(250);

    /// Some round trips in which what is in flight, at most `in_flight` bytes, is acknowledged but for `loss_percent` of it.
    fn after(mut window: Window, rounds: u32, loss_percent: u64, in_flight: u64) -> u64 {
        let start = Instant::now();
        for step in 10..=rounds * 10 {
            let (sent, now) = (start + RTT / 10 * (step - 10), start + RTT / 10 * step);
            let in_flight = window.bytes().min(in_flight);
            window.acknowledged(in_flight / 1000 * (100 - loss_percent), sent, now);
            window.lost(in_flight / 1000 * loss_percent, now);
            window.in_flight(in_flight, now);
        }
        window.bytes()
    }

    #[test]
    fn a_window_that_is_used_grows_to_its_bound_and_one_that_is_not_does_not() {
        assert_eq!(after(Window::new(), 40, 0, INITIAL_BYTES / 4), INITIAL_BYTES);
        assert!(after(Window::new(), 4, 0, INITIAL_BYTES) > INITIAL_BYTES);
        assert_eq!(after(Window::new(), 60, 0, MOST_BYTES), MOST_BYTES);
    }

    #[test]
    fn loss_of_half_leaves_some_voices() {
        let bytes = after(Window::new(), 200, 50, MOST_BYTES);
        assert!((LEAST_BYTES..LEAST_BYTES * 3).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_quiet_connection_is_not_judged_by_one_packet() {
        let (mut window, start) = (Window::new(), Instant::now());
        for step in 1..100 {
            let (sent, now) = (start + RTT * (step - 1), start + RTT * step);
            window.acknowledged(200, sent, now);
            if step == 50 {
                window.lost(1200, now);
            }
            window.in_flight(200, now);
        }
        assert_eq!(window.bytes(), INITIAL_BYTES);
    }
}
