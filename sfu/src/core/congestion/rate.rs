//! The delay-based rate: up while the path takes it, down when a queue grows (draft-ietf-rmcat-gcc-02 section 5.5).

use super::trend::Usage;

/// What remains of the acknowledged rate after overuse (section 5.5: beta): the queue needs room to drain.
const DECREASE: f64 = 0.85;
/// A long queue gets more room: so much that it would be gone after this time, in milliseconds, ...
const DRAIN_MS: f64 = 1_000.0;
/// ... but no more than half.
const LEAST_DECREASE: f64 = 0.5;
/// Growth per second while nothing is known of the capacity.
const GROWTH_PER_SECOND: f64 = 0.08;
/// Near the capacity: one packet of 1,500 bytes more, in kbit, for each time that it takes to see what comes of it; so
/// flows that share a path come nearer to each other with each cut. Of a low rate that is too much: no more than this
/// per second.
const PACKET_KBIT: f64 = 12.0;
const MOST_BY_PACKET: f64 = 0.16;
/// The rate is never assumed to be more than this above what was seen to arrive; what lies beyond, probes find out.
const UNTESTED: f64 = 1.1;
/// Overuse within this share of the capacity known so far is taken to be of the same capacity.
const NEAR: f64 = 0.15;
/// Weight of a new measurement of the capacity.
const NEW_CAPACITY: f64 = 0.2;
/// A pause in the feedback is not made up for.
const LONGEST_STEP_US: i64 = 500_000;

/// Additive increase, multiplicative decrease.
#[derive(Debug)]
pub(super) struct Rate {
    kbps: f64,
    /// It never falls below this: from nothing it would not grow.
    floor_kbps: f64,
    /// What arrived, in kbit/s, when the path was last full.
    capacity_kbps: Option<f64>,
    /// The rate is lower than the path would carry, until the queue is gone.
    is_draining: bool,
    updated_us: i64,
    decreased_us: Option<i64>,
    /// The rate before that.
    uncut_kbps: f64,
}

impl Rate {
    pub(super) fn new(kbps: f64, floor_kbps: f64) -> Self {
        Self {
            kbps,
            floor_kbps,
            capacity_kbps: None,
            is_draining: false,
            updated_us: 0,
            decreased_us: None,
            uncut_kbps: kbps,
        }
    }

    pub(super) fn kbps(&self) -> f64 {
        self.kbps
    }

    /// Whether the path has been seen full, and not to carry more since.
    pub(super) fn knows_capacity(&self) -> bool {
        self.capacity_kbps.is_some()
    }

    /// Whether a queue stands that the rate makes room for.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// The queue is gone: the rate need no longer make room for it.
    pub(super) fn drained(&mut self) {
        if std::mem::take(&mut self.is_draining) {
            self.kbps = self.kbps.max(self.capacity_kbps.unwrap_or(0.0) * DECREASE);
        }
    }

    /// Goes on after a period without overuse, in which `arriving_kbps` arrived. `response_us` is how long it takes
    /// until the effect of a change is seen.
    pub(super) fn grow(&mut self, usage: Usage, arriving_kbps: f64, response_us: i64, now_us: i64) {
        let passed_s = (now_us - self.updated_us).clamp(0, LONGEST_STEP_US) as f64 / 1e6;
        self.updated_us = now_us;
        let is_settling = usage != Usage::Normal || self.decreased_us.is_some_and(|at| now_us - at < response_us);
        if is_settling {
            return;
        }
        let by_share = self.kbps * GROWTH_PER_SECOND * passed_s;
        let by_packet = (PACKET_KBIT * 1e6 / response_us as f64).min(self.kbps * MOST_BY_PACKET) * passed_s;
        let is_known = self.capacity_kbps.is_some_and(|capacity| self.kbps > capacity * (1.0 - 2.0 * NEAR));
        if self.capacity_kbps.is_some_and(|capacity| arriving_kbps > capacity * (1.0 + NEAR)) {
            self.capacity_kbps = None;
        }
        let growth = if is_known { by_packet } else { by_share };
        self.kbps = self.kbps.max((self.kbps + growth).min(arriving_kbps * UNTESTED));
    }

    /// The path is full with `arriving_kbps`, and packets wait for `wait_ms`. Whether the rate was cut: only once per
    /// `response_us`, for the effect of one cut is to be seen before the next.
    pub(super) fn overused(&mut self, arriving_kbps: f64, wait_ms: f64, response_us: i64, now_us: i64) -> bool {
        self.updated_us = now_us;
        let is_near = |capacity: &f64| (arriving_kbps / capacity - 1.0).abs() < NEAR;
        let known = self.capacity_kbps.filter(is_near).unwrap_or(arriving_kbps);
        self.capacity_kbps = Some(known + (arriving_kbps - known) * NEW_CAPACITY);
        let is_first = self.decreased_us.is_none_or(|at| now_us - at >= response_us);
        if is_first {
            (self.uncut_kbps, self.decreased_us) = (self.kbps, Some(now_us));
        }
        // What a full path lets through is its capacity. At the first look the path was not full for long, and had
        // perhaps just been asked for more, or become narrower; what is seen while the queue stands is better, so the
        // cut is made anew.
        let left = arriving_kbps * (1.0 - wait_ms / DRAIN_MS).clamp(LEAST_DECREASE, DECREASE);
        self.kbps = left.min(self.uncut_kbps).max(self.floor_kbps);
        self.is_draining = true;
        is_first
    }

    /// A probe showed that the path carries `kbps`.
    pub(super) fn found(&mut self, kbps: f64) {
        if kbps > self.kbps {
            self.kbps = kbps;
            self.capacity_kbps = None;
        }
    }

    /// Something else showed that the path carries no more than `kbps`.
    pub(super) fn limit(&mut self, kbps: f64) {
        self.kbps = self.kbps.min(kbps).max(self.floor_kbps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE_US: i64 = 200_000;

    #[test]
    fn it_grows_with_what_arrives_and_not_without() {
        let mut rate = Rate::new(500.0, 30.0);
        for step in 1..=100 {
            rate.grow(Usage::Normal, 200.0, RESPONSE_US, step * 100_000);
        }
        assert!((rate.kbps() - 500.0).abs() < 0.01, "what is not sent shows nothing");
        for step in 101..=200 {
            rate.grow(Usage::Normal, 490.0, RESPONSE_US, step * 100_000);
        }
        assert!((535.0..540.0).contains(&rate.kbps()), "{}", rate.kbps());
    }

    #[test]
    fn overuse_cuts_once_and_then_waits_for_the_effect() {
        let mut rate = Rate::new(2_000.0, 30.0);
        assert!(rate.overused(1_000.0, 50.0, RESPONSE_US, 100_000));
        assert!((rate.kbps() - 850.0).abs() < 0.01);
        assert!(!rate.overused(900.0, 50.0, RESPONSE_US, 200_000));
        assert!((rate.kbps() - 765.0).abs() < 0.01, "the same cut, better measured");
        assert!(!rate.overused(200.0, 50.0, RESPONSE_US, 250_000));
        assert!(!rate.overused(2_000.0, 50.0, RESPONSE_US, 260_000));
        assert!((rate.kbps() - 1_700.0).abs() < 0.01, "the path was asked for more and carries it");
        assert!(rate.overused(200.0, 50.0, RESPONSE_US, 300_000));
        assert!((rate.kbps() - 170.0).abs() < 0.01);
    }

    #[test]
    fn a_long_queue_is_given_room_until_it_is_gone() {
        let mut rate = Rate::new(2_000.0, 30.0);
        rate.overused(200.0, 400.0, RESPONSE_US, 100_000);
        assert!((rate.kbps() - 120.0).abs() < 0.01);
        rate.drained();
        assert!((rate.kbps() - 170.0).abs() < 0.01);
    }

    #[test]
    fn near_the_capacity_it_grows_slowly() {
        let grown = |known: bool| {
            let mut rate = Rate::new(2_000.0, 30.0);
            if known {
                rate.overused(2_000.0, 50.0, RESPONSE_US, 0);
            } else {
                rate.limit(1_700.0);
            }
            (5..=15).for_each(|step| rate.grow(Usage::Normal, 1_900.0, RESPONSE_US, step * 100_000));
            rate.kbps() - 1_700.0
        };
        assert!(grown(true) < 100.0 && grown(false) > 120.0, "{} {}", grown(true), grown(false));
    }
}
