//! When to dial again: soon at first, then less and less often, never all nodes at the same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);
/// A connection that stood this long was a good one: the next failure begins from the first delay.
const GOOD: Duration = Duration::from_secs(2);

/// Doubling delays from 100 ms to 2 s, each shortened at random by up to a half.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait now, after a connection that stood for `stood` (zero if it never did). `random` is in 0..1.
    pub(crate) fn delay(&mut self, stood: Duration, random: f64) -> Duration {
        if stood >= GOOD {
            self.next = FIRST;
        }
        let delay = self.next.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_two_seconds_and_begin_anew_after_a_good_connection() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..7).map(|_| backoff.delay(Duration::ZERO, 0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(backoff.delay(GOOD, 0.0), FIRST);
    }

    #[test]
    fn a_connection_that_is_refused_at_once_does_not_reset_the_delay() {
        let mut backoff = Backoff::new();
        backoff.delay(Duration::ZERO, 0.0);
        assert_eq!(backoff.delay(Duration::from_millis(300), 0.0), FIRST * 2);
    }

    #[test]
    fn jitter_shortens_by_at_most_a_half() {
        for random in [0.0, 0.3, 0.999, 7.0] {
            let delay = Backoff::new().delay(Duration::ZERO, random);
            assert!((FIRST / 2..=FIRST).contains(&delay), "{delay:?}");
        }
    }
}
