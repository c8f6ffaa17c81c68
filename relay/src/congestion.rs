//! Congestion control for connections whose load is live media. Sans-IO: acknowledgements, losses and the time go in, a
//! window comes out.
//!
//! Live media comes at the rate its encoders chose, and what they choose is steered above this, by layers. So most of
//! the time the window must only stay out of the way. The usual controllers do not: Cubic and its kin take each lost
//! packet for congestion and hold back most of the media of a long path at 1 % loss; BBR measures the path by what it
//! is given to send, and media that begins with a burst or pauses can leave it with too low an estimate for seconds
//! (seen here: half of 9 Mbit/s held back at 250 ms and 2 % loss in some runs, nothing in others).
//!
//! What is taken for congestion instead is what the loss-based part of Google's congestion control takes for it
//! (draft-ietf-rmcat-gcc-02 section 6): over 10 % of a round trip's bytes lost shrinks, under 2 % may grow, between
//! them nothing changes. And a round-trip time far above the least one seen: then a queue stands before a bottleneck.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// The window at first, in bytes: 128 Mbit/s at 250 ms. QUIC paces by the window, so a small one would also stretch bursts.
const INITIAL_BYTES: u64 = 4 * 1024 * 1024;
/// The least window, in bytes: 16 Mbit/s at 250 ms. The media above must fit what the path carries; a window that
/// starved it would turn one hop's loss into everyone's silence.
const LEAST_BYTES: u64 = 512 * 1024;
/// The largest window, in bytes: 2 Gbit/s at 250 ms.
const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// A round with fewer bytes than this says nothing about loss: one packet of it would be too large a share.
const LEAST_ROUND_BYTES: u64 = 24_000;
/// Shares of loss, in percent.
const LITTLE_LOSS: u64 = 2;
const HEAVY_LOSS: u64 = 10;
/// A round-trip time of twice the least one and this much more is a standing queue.
const STANDING_QUEUE: Duration = Duration::from_millis(100);

/// Makes a controller for each connection.
pub(crate) struct LiveMedia;

/// The window of one path.
#[derive(Debug, Clone)]
struct Window {
    bytes: u64,
    round: Option<Round>,
}

/// What happened within one round trip.
#[derive(Debug, Clone)]
struct Round {
    since: Instant,
    acknowledged: u64,
    lost: u64,
    /// The most in flight at any moment.
    in_flight: u64,
    rtt: Duration,
    least_rtt: Duration,
}

impl Window {
    fn new() -> Self {
        Self { bytes: INITIAL_BYTES, round: None }
    }

    fn acknowledged(&mut self, bytes: u64, rtt: Duration, least_rtt: Duration, now: Instant) {
        let round = self.round(now);
        round.acknowledged += bytes;
        (round.rtt, round.least_rtt) = (rtt, least_rtt);
    }

    fn lost(&mut self, bytes: u64, now: Instant) {
        self.round(now).lost += bytes;
    }

    fn in_flight(&mut self, bytes: u64, now: Instant) {
        let round = self.round(now);
        round.in_flight = round.in_flight.max(bytes);
        let is_over = now.saturating_duration_since(round.since) >= round.rtt;
        if is_over && round.acknowledged + round.lost >= LEAST_ROUND_BYTES {
            let round = self.round.take();
            self.bytes = round.map_or(self.bytes, |round| round.verdict(self.bytes)).clamp(LEAST_BYTES, MOST_BYTES);
        }
    }

    fn round(&mut self, now: Instant) -> &mut Round {
        self.round.get_or_insert(Round {
            since: now,
            acknowledged: 0,
            lost: 0,
            in_flight: 0,
            rtt: Duration::ZERO,
            least_rtt: Duration::ZERO,
        })
    }
}

impl Round {
    /// The window after this round, which began with `window` bytes.
    fn verdict(&self, window: u64) -> u64 {
        let loss_percent = self.lost * 100 / (self.acknowledged + self.lost);
        let is_used = self.in_flight.saturating_mul(2) > window;
        if loss_percent > HEAVY_LOSS {
            window - window * loss_percent / 200
        } else if self.rtt > self.least_rtt * 2 + STANDING_QUEUE {
            window * 85 / 100
        } else if loss_percent < LITTLE_LOSS && is_used {
            window * 125 / 100
        } else {
            window
        }
    }
}

impl ControllerFactory for LiveMedia {
    fn build(self: Arc<Self>, _now: Instant, _mtu_bytes: u16) -> Box<dyn Controller> {
        Box::new(Window::new())
    }
}

impl Controller for Window {
    fn on_ack(&mut self, now: Instant, _sent: Instant, bytes: u64, _app_limited: bool, rtt: &RttEstimator) {
        self.acknowledged(bytes, rtt.get(), rtt.min(), now);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, _largest: Option<u64>) {
        self.in_flight(in_flight, now);
    }

    fn on_congestion_event(&mut self, now: Instant, _sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.lost(lost_bytes, now);
        if is_persistent {
            // Nothing at all came through for several probe timeouts (RFC 9002 section 7.6).
            self.bytes = LEAST_BYTES;
        }
    }

    fn on_mtu_update(&mut self, _mtu_bytes: u16) {}

    fn window(&self) -> u64 {
        self.bytes
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(250);

    /// Some rounds on a path that loses `loss_percent`, has `in_flight` bytes on it and takes `rtt`.
    fn after(window: &mut Window, rounds: u32, loss_percent: u64, in_flight: u64, rtt: Duration) -> u64 {
        let start = Instant::now();
        for step in 0..=rounds * 10 {
            let now = start + rtt / 10 * step;
            window.acknowledged(1000 * (100 - loss_percent), rtt, RTT, now);
            window.lost(1000 * loss_percent, now);
            window.in_flight(in_flight, now);
        }
        window.window()
    }

    #[test]
    fn random_loss_of_a_long_path_changes_nothing() {
        for loss_percent in [0, 1, 2, 5, 10] {
            let window = after(&mut Window::new(), 40, loss_percent, 300_000, RTT);
            assert_eq!(window, INITIAL_BYTES, "at {loss_percent} %");
        }
    }

    #[test]
    fn a_window_that_is_used_grows_and_one_that_is_not_does_not() {
        assert!(after(&mut Window::new(), 4, 0, INITIAL_BYTES * 2, RTT) > INITIAL_BYTES * 3 / 2);
        assert_eq!(after(&mut Window::new(), 40, 0, INITIAL_BYTES / 4, RTT), INITIAL_BYTES);
        assert_eq!(after(&mut Window::new(), 400, 0, u64::MAX, RTT), MOST_BYTES, "it has a bound");
    }

    #[test]
    fn a_path_that_cannot_carry_it_gets_less() {
        let heavy = after(&mut Window::new(), 4, 30, INITIAL_BYTES, RTT);
        assert!(heavy < INITIAL_BYTES * 7 / 10, "{heavy} after heavy loss");
        let queue = after(&mut Window::new(), 4, 0, INITIAL_BYTES, RTT * 2 + STANDING_QUEUE * 2);
        assert!(queue < INITIAL_BYTES * 7 / 10, "{queue} behind a queue");
        assert_eq!(
            after(&mut Window::new(), 400, 90, INITIAL_BYTES, RTT),
            LEAST_BYTES,
            "and never less than its least"
        );
    }

    #[test]
    fn a_quiet_connection_is_not_judged_by_one_packet() {
        let (mut window, start) = (Window::new(), Instant::now());
        for step in 0..100 {
            let now = start + RTT * step;
            window.lost(if step == 50 { 1200 } else { 0 }, now);
            window.acknowledged(200, RTT, RTT, now);
            window.in_flight(200, now);
        }
        assert_eq!(window.window(), INITIAL_BYTES);
    }
}
