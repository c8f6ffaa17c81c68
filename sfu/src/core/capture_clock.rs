//! When a packet was captured, on this node's own clock, so that a person's voice and picture stay together.

use std::time::{Duration, Instant};

/// Follows one publisher's clock. The smallest delay seen between capture and arrival is taken as the path's; it is
/// let grow slowly, so that a drifting clock or a longer path is followed too.
#[derive(Debug, Default)]
pub struct CaptureClock {
    /// An arrival and what the publisher's clock said for it, in microseconds.
    anchor: Option<(Instant, u64)>,
}

/// How fast the mapping may fall behind: 1 ms a second covers a clock that is 1000 ppm off.
const DRIFT_US_PER_S: u64 = 1_000;
/// A step larger than this is a new clock, not jitter.
const RESET: Duration = Duration::from_secs(5);

impl CaptureClock {
    /// The capture time of a packet that arrived at `now`, if its publisher said when that was.
    pub fn map(&mut self, captured_us: Option<u64>, now: Instant) -> Instant {
        let Some(captured_us) = captured_us else { return now };
        let Some((arrival, anchor_us)) = self.anchor else {
            self.anchor = Some((now, captured_us));
            return now;
        };
        let expected = if captured_us >= anchor_us {
            arrival.checked_add(Duration::from_micros(captured_us - anchor_us))
        } else {
            arrival.checked_sub(Duration::from_micros(anchor_us - captured_us))
        };
        let Some(expected) = expected.filter(|at| distance(*at, now) < RESET) else {
            self.anchor = Some((now, captured_us));
            return now;
        };
        if expected > now {
            // It came sooner than any before it: the path is shorter than thought.
            self.anchor = Some((now, captured_us));
            return now;
        }
        if captured_us.saturating_sub(anchor_us) > 1_000_000 {
            let drift = Duration::from_micros((captured_us - anchor_us) / 1_000_000 * DRIFT_US_PER_S);
            self.anchor = Some(((expected + drift).min(now), captured_us));
        }
        expected
    }
}

fn distance(a: Instant, b: Instant) -> Duration {
    a.saturating_duration_since(b).max(b.saturating_duration_since(a))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn jitter_of_the_path_does_not_show() {
        let start = Instant::now();
        let mut clock = CaptureClock::default();
        let mut spread = Vec::new();
        for packet in 0..500u64 {
            let jitter = (packet * 7919) % 30;
            let arrival = start + Duration::from_millis(packet * 20 + 50 + jitter);
            let mapped = clock.map(Some(1_000_000 + packet * 20_000), arrival);
            if packet > 100 {
                spread.push((mapped - start).as_micros() as i64 - i64::try_from(packet * 20_000).unwrap_or(0));
            }
        }
        let (min, max) = (spread.iter().min().copied(), spread.iter().max().copied());
        assert!(max.zip(min).is_some_and(|(max, min)| max - min < 12_000), "spread {min:?}..{max:?} us");
    }

    #[test]
    fn a_clock_that_jumps_is_followed() {
        let start = Instant::now();
        let mut clock = CaptureClock::default();
        clock.map(Some(5_000_000), start);
        let later = start + Duration::from_secs(1);
        assert_eq!(clock.map(Some(900_000_000_000), later), later);
        assert_eq!(clock.map(None, later), later);
    }
}
