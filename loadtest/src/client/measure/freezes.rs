//! Freezes of video, as the WebRTC statistics define `freezeCount`: a frame that comes later after the one before than
//! three times the usual interval, and than the usual interval and 150 ms.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The usual interval is the mean of this many.
const INTERVALS: usize = 30;
const LEAST_EXCESS: Duration = Duration::from_millis(150);

/// Counts freezes of one slot.
#[derive(Debug, Default)]
pub struct Freezes {
    last: Option<Instant>,
    intervals: VecDeque<Duration>,
    count: u32,
    total: Duration,
    longest: Duration,
}

impl Freezes {
    /// A frame was decodable at `now`.
    pub fn handle_frame(&mut self, now: Instant) {
        if let Some(interval) = self.last.replace(now).map(|last| now.saturating_duration_since(last)) {
            if self.is_freeze(interval) {
                self.count += 1;
                self.total += interval;
                self.longest = self.longest.max(interval);
            }
            if self.intervals.len() == INTERVALS {
                self.intervals.pop_front();
            }
            self.intervals.push_back(interval);
        }
    }

    /// Something else stands in the slot, or nothing: no frame is missed until the first one of it.
    pub fn start_anew(&mut self) {
        self.last = None;
        self.intervals.clear();
    }

    /// Freezes, one that lasts at `now` included.
    pub fn count(&self, now: Instant) -> u32 {
        self.count + u32::from(self.current(now).is_some())
    }

    /// Their time together, one that lasts at `now` included.
    pub fn total(&self, now: Instant) -> Duration {
        self.total + self.current(now).unwrap_or_default()
    }

    /// The longest, one that lasts at `now` included.
    pub fn longest(&self, now: Instant) -> Duration {
        self.longest.max(self.current(now).unwrap_or_default())
    }

    fn current(&self, now: Instant) -> Option<Duration> {
        self.last.map(|last| now.saturating_duration_since(last)).filter(|interval| self.is_freeze(*interval))
    }

    fn is_freeze(&self, interval: Duration) -> bool {
        let Some(count) = u32::try_from(self.intervals.len()).ok().filter(|count| *count > 0) else { return false };
        let usual = self.intervals.iter().sum::<Duration>() / count;
        interval > (usual * 3).max(usual + LEAST_EXCESS)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a virtual clock may begin at any moment")]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);

    #[test]
    fn a_gap_is_a_freeze_once_it_is_long_enough() {
        let mut now = Instant::now();
        let mut freezes = Freezes::default();
        for _ in 0..60 {
            now += FRAME;
            freezes.handle_frame(now);
        }
        assert_eq!(freezes.count(now + Duration::from_millis(180)), 0);
        assert_eq!(freezes.count(now + Duration::from_millis(190)), 1, "it need not have ended");
        freezes.handle_frame(now + Duration::from_millis(500));
        let later = now + Duration::from_millis(500);
        assert_eq!((freezes.count(later), freezes.total(later)), (1, Duration::from_millis(500)));
        assert_eq!(freezes.longest(later + Duration::from_secs(1)), Duration::from_secs(1));
        freezes.start_anew();
        freezes.handle_frame(later + Duration::from_secs(9));
        assert_eq!(freezes.count(later + Duration::from_secs(9)), 1, "an empty slot does not freeze");
    }
}
