//! How long packets wait on the way: one-way delay above the least one seen. The slope of delay (see `trend`) is blind
//! to a queue that is full and stays so; this is not.

use super::arrival::Arrival;

/// The least delay is that of the last one to two of these: long enough to see an empty queue in, short enough for a
/// new route, or a drift of 100 ppm between the clocks (2 ms in 20 s), not to matter.
const BASE_US: i64 = 10_000_000;
/// A wait of this, in milliseconds, is a standing queue.
const STANDING_MS: f64 = 80.0;
/// A wait below this, in milliseconds, is no queue to speak of: it may be added to by a probe.
const CALM_MS: f64 = 30.0;
/// A queue of one's own making shortens after a cut, as soon as what stood in it before has come through. One that has
/// not shortened by a third after this and twice its length is somebody else's, or the route grew longer: ...
const PATIENCE_US: i64 = 3_000_000;
const NOT_SHORTER: f64 = 0.67;
/// ... then this multiple of it is borne, for so long.
const BORNE: f64 = 3.0;
const BORNE_US: i64 = 30_000_000;

/// The wait on the way of one path.
#[derive(Debug)]
pub(super) struct Queue {
    /// The least difference of the two clocks in the running period and in the one before, in microseconds.
    least_us: [i64; 2],
    period_since_us: i64,
    /// The least in the feedback being read, then that of the last one: bursts and jitter do not reach it.
    latest_us: Option<i64>,
    wait_ms: f64,
    /// What is borne, in milliseconds, and until when.
    tolerance_ms: f64,
    borne_until_us: i64,
    /// Since when cuts have been made, and the longest wait since then, in milliseconds.
    cut_since: Option<(i64, f64)>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            least_us: [i64::MAX; 2],
            period_since_us: 0,
            latest_us: None,
            wait_ms: 0.0,
            tolerance_ms: STANDING_MS,
            borne_until_us: 0,
            cut_since: None,
        }
    }
}

impl Queue {
    /// Takes a packet of the feedback being read. One that a probe has held up may still show how short the way can be.
    pub(super) fn add(&mut self, packet: Arrival, is_held_up: bool) {
        let delay_us = packet.arrived_us - packet.sent_us;
        if packet.sent_us - self.period_since_us > BASE_US {
            self.period_since_us = packet.sent_us;
            self.least_us = [i64::MAX, self.least_us[0]];
        }
        self.least_us[0] = self.least_us[0].min(delay_us);
        if is_held_up {
            return;
        }
        self.latest_us = Some(self.latest_us.map_or(delay_us, |least| least.min(delay_us)));
    }

    /// The feedback is read.
    pub(super) fn feedback_ends(&mut self, now_us: i64) {
        let Some(latest_us) = self.latest_us.take() else { return };
        let least_us = self.least_us[0].min(self.least_us[1]);
        self.wait_ms = (latest_us - least_us) as f64 / 1_000.0;
        if self.wait_ms < STANDING_MS {
            self.cut_since = None;
        }
        if now_us > self.borne_until_us {
            self.tolerance_ms = STANDING_MS;
        }
    }

    /// How long packets waited at least, according to the last feedback, in milliseconds.
    pub(super) fn wait_ms(&self) -> f64 {
        self.wait_ms
    }

    /// Whether a queue stands that sending less may shorten.
    pub(super) fn stands(&self) -> bool {
        self.wait_ms > self.tolerance_ms
    }

    /// Whether there is no queue that a probe would make worse; one that is somebody else's does not count.
    pub(super) fn is_calm(&self) -> bool {
        self.is_gone() || self.tolerance_ms > STANDING_MS && !self.stands()
    }

    /// Whether there is none.
    pub(super) fn is_gone(&self) -> bool {
        self.wait_ms < CALM_MS
    }

    /// The rate was cut while a queue stood. If that does not help, the queue is borne, or a competitor that fills
    /// queues would drive this flow to nothing.
    pub(super) fn cut(&mut self, now_us: i64) {
        let (since_us, longest_ms) = self.cut_since.unwrap_or((now_us, self.wait_ms));
        let longest_ms = longest_ms.max(self.wait_ms);
        self.cut_since = Some((since_us, longest_ms));
        if now_us - since_us <= PATIENCE_US + (self.wait_ms * 2_000.0) as i64 {
            return;
        }
        self.cut_since = None;
        if self.wait_ms > longest_ms * NOT_SHORTER {
            (self.tolerance_ms, self.borne_until_us) = (self.wait_ms * BORNE, now_us + BORNE_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One feedback on packets sent over 100 ms that waited for `waits_ms`.
    fn feedback(queue: &mut Queue, at_us: i64, waits_ms: &[i64]) {
        for wait_ms in waits_ms {
            queue.add(Arrival { sent_us: at_us, arrived_us: at_us - 7_000_000 + wait_ms * 1_000 }, false);
        }
        queue.feedback_ends(at_us);
    }

    #[test]
    fn the_least_wait_counts_not_that_of_a_burst() {
        let mut queue = Queue::default();
        feedback(&mut queue, 0, &[0, 30, 90]);
        feedback(&mut queue, 100_000, &[200, 5, 150]);
        assert!((queue.wait_ms() - 5.0).abs() < 0.01 && !queue.stands());
        feedback(&mut queue, 200_000, &[200, 120]);
        assert!(queue.stands());
    }

    #[test]
    fn a_longer_route_is_the_new_measure_after_a_while() {
        let mut queue = Queue::default();
        (0..300).for_each(|step| feedback(&mut queue, step * 100_000, &[if step < 10 { 0 } else { 150 }]));
        assert!(!queue.stands());
    }

    #[test]
    fn a_queue_that_cuts_do_not_shorten_is_borne_for_a_while() {
        let mut queue = Queue::default();
        feedback(&mut queue, 0, &[0]);
        feedback(&mut queue, 100_000, &[300]);
        (0..40).for_each(|step| queue.cut(100_000 + step * 100_000));
        assert!(!queue.stands());
        feedback(&mut queue, 4_200_000, &[10]);
        feedback(&mut queue, 4_300_000, &[300]);
        assert!(!queue.stands());
        feedback(&mut queue, 40_000_000, &[10]);
        feedback(&mut queue, 40_100_000, &[300]);
        assert!(queue.stands());
    }
}
