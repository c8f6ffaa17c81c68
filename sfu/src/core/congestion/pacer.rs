//! When the next packet may go: a leaky bucket, so that a keyframe does not fill the queues of a narrow path at once.
//!
//! Nothing waits here. The caller keeps what waits, and asks; a voice is never held back, only counted.

/// Pictures leave at this multiple of the estimate: a frame is spread over most of its time, since the queue of a
/// narrow path may be short, and then bursts are what is lost. It is no more than the path carries, so nothing would
/// come sooner.
const NARROW_PACE: f64 = 1.25;
/// Where a queue stands, the estimate is what lets it drain.
const FULL_PACE: f64 = 1.0;
/// The same where the path has never been full: a keyframe is soon through, and more than the estimate does not wait for the
/// next probe.
const OPEN_PACE: f64 = 2.0;
/// A burst is at most this long at the pace, ...
const BURST_S: f64 = 0.002;
/// ... or one frame at the estimate (of 30 a second) where the path carries all that is desired: then bursts are no
/// danger, and what leaves together costs one system call (UDP GSO).
const FRAME_S: f64 = 1.0 / 30.0;

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Breadth {
    /// A queue stands in it, which is to drain.
    Full,
    /// It has been full.
    Narrow,
    /// It has not, and may carry more than the estimate.
    Unknown,
    /// It carries all that is desired.
    Ample,
}

/// The bucket.
#[derive(Debug)]
pub(super) struct Pacer {
    /// What went beyond the pace and has not leaked out by `updated_us`, in bytes.
    level_bytes: f64,
    updated_us: i64,
    bytes_per_us: f64,
    burst_bytes: f64,
    /// No picture goes before.
    held_until_us: i64,
}

impl Pacer {
    pub(super) fn new(now_us: i64) -> Self {
        Self { level_bytes: 0.0, updated_us: now_us, bytes_per_us: 0.0, burst_bytes: 0.0, held_until_us: 0 }
    }

    /// Follows the estimate.
    pub(super) fn follow(&mut self, estimate_kbps: f64, breadth: Breadth, now_us: i64) {
        self.leak(now_us);
        let pace = match breadth {
            Breadth::Full => FULL_PACE,
            Breadth::Narrow => NARROW_PACE,
            Breadth::Unknown | Breadth::Ample => OPEN_PACE,
        };
        let bytes_per_s = estimate_kbps * 125.0;
        self.bytes_per_us = bytes_per_s * pace / 1e6;
        self.burst_bytes = bytes_per_s * if breadth == Breadth::Ample { FRAME_S } else { pace * BURST_S };
    }

    /// When the next packet of a picture may go, in microseconds; what lies in the past is now.
    pub(super) fn ready_us(&self) -> i64 {
        let over = (self.level_bytes - self.burst_bytes).max(0.0);
        let leaked_us = self.updated_us + (over / self.bytes_per_us.max(1e-6)).ceil() as i64;
        leaked_us.max(self.held_until_us)
    }

    /// Pictures wait until then: those that are under way already are as much as the path can take, and voices go through the same
    /// queue.
    pub(super) fn hold(&mut self, until_us: i64) {
        self.held_until_us = until_us;
    }

    /// A packet goes, of whatever kind.
    pub(super) fn sent(&mut self, bytes: u32, now_us: i64) {
        self.leak(now_us);
        self.level_bytes += f64::from(bytes);
    }

    fn leak(&mut self, now_us: i64) {
        let passed_us = (now_us - self.updated_us).max(0) as f64;
        self.level_bytes = (self.level_bytes - passed_us * self.bytes_per_us).max(0.0);
        self.updated_us = self.updated_us.max(now_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `packets` of 1,200 bytes goes that all wait from the beginning, in microseconds.
    fn departures(estimate_kbps: f64, breadth: Breadth, packets: usize) -> Vec<i64> {
        let mut pacer = Pacer::new(0);
        pacer.follow(estimate_kbps, breadth, 0);
        let mut now_us = 0;
        let next = |_| {
            now_us = pacer.ready_us().max(now_us);
            pacer.sent(1_200, now_us);
            now_us
        };
        (0..packets).map(next).collect()
    }

    #[test]
    fn a_narrow_path_gets_a_keyframe_at_the_pace() {
        let departures = departures(600.0, Breadth::Narrow, 20);
        assert_eq!(departures[0], 0);
        let last = departures[19];
        assert!((230_000..=256_000).contains(&last), "24 kB at 750 kbit/s took {last} us");
        assert!(departures.windows(2).all(|pair| pair[1] - pair[0] >= 10_000), "never two at once: {departures:?}");
    }

    #[test]
    fn an_ample_path_gets_a_frame_at_once_and_no_more() {
        let departures = departures(2_400.0, Breadth::Ample, 30);
        let at_once = departures.iter().filter(|at| **at == 0).count();
        assert!((8..=10).contains(&at_once), "{at_once} of a burst of 10,000 bytes");
    }

    #[test]
    fn a_full_path_gets_nothing_while_it_is_held_and_then_no_more_than_the_estimate() {
        let mut pacer = Pacer::new(0);
        pacer.follow(600.0, Breadth::Full, 0);
        pacer.hold(200_000);
        pacer.sent(100, 50_000);
        assert_eq!(pacer.ready_us(), 200_000, "voices go all the same");
        (0..2).for_each(|_| pacer.sent(1_500, pacer.ready_us()));
        assert_eq!(pacer.ready_us(), 200_000 + 38_000, "20 ms each, but for the burst of 2 ms");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut pacer = Pacer::new(0);
        pacer.follow(600.0, Breadth::Narrow, 0);
        pacer.sent(1_200, 60_000_000);
        assert!(pacer.ready_us() > 60_000_000);
    }
}
