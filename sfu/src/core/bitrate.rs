//! How much of something flows, over a sliding window.

use std::time::{Duration, Instant};

const BUCKETS: usize = 10;
const BUCKET: Duration = Duration::from_millis(100);
const WINDOW_MS: u64 = BUCKETS as u64 * BUCKET.as_millis() as u64;
/// A flow is not judged by less: it begins with a keyframe, which is a burst.
const LEAST_MS: u64 = 300;

/// Bits per second over the last second, or since it began, in ten buckets: constant memory, constant time per packet.
#[derive(Debug, Default)]
pub struct RateMeter {
    bytes: [u32; BUCKETS],
    /// When the bucket at `at` began.
    began: Option<Instant>,
    at: usize,
    /// When the first was counted that is followed by others within the window.
    since: Option<Instant>,
}

impl RateMeter {
    /// Counts `bytes` at `now`.
    pub fn add(&mut self, bytes: usize, now: Instant) {
        self.advance(now);
        if self.since.is_none() || self.bytes.iter().all(|bytes| *bytes == 0) {
            self.since = Some(now);
        }
        self.bytes[self.at] = self.bytes[self.at].saturating_add(bytes as u32);
    }

    /// The rate at `now`, in kbit/s.
    pub fn kbps(&mut self, now: Instant) -> u32 {
        self.advance(now);
        let sum: u64 = self.bytes.iter().map(|b| u64::from(*b)).sum();
        let age_ms = self.since.map_or(0, |since| now.saturating_duration_since(since).as_millis() as u64);
        (sum * 8 / age_ms.clamp(LEAST_MS, WINDOW_MS)) as u32
    }

    fn advance(&mut self, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let steps = now.saturating_duration_since(began).as_millis() / BUCKET.as_millis();
        if steps == 0 {
            return;
        }
        for _ in 0..steps.min(BUCKETS as u128) {
            self.at = (self.at + 1) % BUCKETS;
            self.bytes[self.at] = 0;
        }
        self.began = Some(began + BUCKET * steps as u32);
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn measures_a_steady_flow_and_forgets_a_stopped_one() {
        let start = Instant::now();
        let mut meter = RateMeter::default();
        for step in 0..100u32 {
            meter.add(1250, start + Duration::from_millis(u64::from(step) * 10));
        }
        let rate = meter.kbps(start + Duration::from_millis(990));
        assert!((950..=1050).contains(&rate), "1 Mbit/s read as {rate} kbit/s");
        assert_eq!(meter.kbps(start + Duration::from_secs(3)), 0);
        let again = start + Duration::from_secs(4);
        for step in 0..40u32 {
            meter.add(1250, again + Duration::from_millis(u64::from(step) * 10));
        }
        let rate = meter.kbps(again + Duration::from_millis(400));
        assert!((950..=1050).contains(&rate), "1 Mbit/s that began 400 ms ago read as {rate} kbit/s");
    }
}
