//! How busy a shard's thread is, by the time that the system gave it: what it waited for a core that others had does not count.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// How often the time is read.
const EVERY: Duration = Duration::from_secs(1);

/// What a thread did since the last time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    /// The time that it ran.
    pub ran: Duration,
    /// The same as a share of the time that passed.
    pub share: f64,
}

/// Of the thread that it is used on.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    /// What the thread had run then; none before the first reading, which may be on another thread than the meter was made on.
    ran: Option<Duration>,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, ran: None }
    }

    /// What was done, if it is time to say so again.
    pub(super) fn measure(&mut self, now: Instant) -> Option<Work> {
        let passed = now.saturating_duration_since(self.since);
        if passed < EVERY && self.ran.is_some() {
            return None;
        }
        let total: Duration = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok()?.into();
        self.since = now;
        let before = self.ran.replace(total)?;
        let ran = total.saturating_sub(before);
        Some(Work { ran, share: (ran.as_secs_f64() / passed.as_secs_f64()).min(1.0) })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "reads the clock that the meter reads")]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_is_idle_and_one_that_works_is_not() {
        let began = Instant::now();
        let mut meter = Meter::new(began);
        assert_eq!(meter.measure(began), None, "from here on it counts");
        assert_eq!(meter.measure(began + EVERY / 2), None);
        let idle = meter.measure(began + Duration::from_hours(1)).expect("an hour later");
        assert!(idle.share < 0.1, "{idle:?}");
        let mut spins = 0u64;
        while clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).is_ok_and(|ran| {
            meter.ran.is_some_and(|before| Duration::from(ran).saturating_sub(before) < Duration::from_millis(5))
        }) {
            spins += 1;
        }
        let busy = meter.measure(began + Duration::from_hours(1) + EVERY).expect("a second later");
        assert!(spins > 0 && busy.ran >= Duration::from_millis(5) && busy.share >= 0.005, "{busy:?}");
    }
}
