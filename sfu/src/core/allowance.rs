//! How often somebody may do something that costs more than it costs them to ask for it.

use std::time::{Duration, Instant};

/// So many at once, and one more every so often (the generic cell rate algorithm of ITU-T I.371).
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    burst: u32,
    every: Duration,
    /// When the allowance is whole again.
    whole_at: Option<Instant>,
}

impl Allowance {
    /// `burst` at once, one more `every` so often.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, whole_at: None }
    }

    /// Whether it may be done once more at `now`; if so it counts as done.
    pub fn take(&mut self, now: Instant) -> bool {
        let whole_at = self.whole_at.map_or(now, |at| at.max(now));
        let allowed = whole_at.saturating_duration_since(now) + self.every <= self.every * self.burst;
        if allowed {
            self.whole_at = Some(whole_at + self.every);
        }
        allowed
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut allowance = Allowance::new(3, Duration::from_secs(1));
        let mut taken = |ms| (0..10).filter(|_| allowance.take(start + Duration::from_millis(ms))).count();
        assert_eq!(taken(0), 3);
        assert_eq!(taken(900), 0);
        assert_eq!(taken(1_000), 1);
        assert_eq!(taken(60_000), 3, "it does not grow beyond the burst");
    }
}
