//! Whether delay grows: a line through the latest steps, and how steep it must be to mean a queue
//! (draft-ietf-rmcat-gcc-02 sections 5.3 and 5.4, with a line fitted by least squares in place of the Kalman filter).

use super::arrival::Step;

/// The steps that the line goes through: about a third of a second of voice and video.
const WINDOW: usize = 20;
/// Weight of what was before in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// What a slope (milliseconds of delay per millisecond) is multiplied with before it is compared with the threshold.
const GAIN: f64 = 240.0;
/// The threshold follows what it is compared with, faster up than down, so that neither a jittery path nor a competitor
/// that fills queues starves the flow (section 5.4: `K_u`, `K_d`), per millisecond.
const THRESHOLD_UP: f64 = 0.01;
const THRESHOLD_DOWN: f64 = 0.000_18;
const FIRST_THRESHOLD: f64 = 12.5;
const LEAST_THRESHOLD: f64 = 6.0;
const LARGEST_THRESHOLD: f64 = 600.0;
/// What exceeds the threshold by more than this is not followed: it is a real change, not jitter.
const NOT_FOLLOWED: f64 = 15.0;
/// The delay must have grown for this long.
const OVERUSE_US: i64 = 10_000;

/// How the path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    /// A queue drains.
    Under,
    /// No queue changes.
    #[default]
    Normal,
    /// A queue grows.
    Over,
}

/// The detector.
#[derive(Debug)]
pub(super) struct Trend {
    delay_ms: f64,
    smoothed_ms: f64,
    /// Time on the receiver's clock in microseconds, and smoothed delay; the oldest at `oldest` once it is full.
    window: [(i64, f64); WINDOW],
    filled: usize,
    oldest: usize,
    slope: f64,
    threshold: f64,
    last_us: Option<i64>,
    over_since_us: Option<i64>,
    usage: Usage,
}

impl Default for Trend {
    fn default() -> Self {
        Self {
            delay_ms: 0.0,
            smoothed_ms: 0.0,
            window: [(0, 0.0); WINDOW],
            filled: 0,
            oldest: 0,
            slope: 0.0,
            threshold: FIRST_THRESHOLD,
            last_us: None,
            over_since_us: None,
            usage: Usage::Normal,
        }
    }
}

impl Trend {
    /// What the steps so far show.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the next step.
    pub(super) fn add(&mut self, step: Step) {
        self.delay_ms += step.delay_us as f64 / 1_000.0;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.delay_ms;
        self.window[self.oldest] = (step.arrived_us, self.smoothed_ms);
        self.oldest = (self.oldest + 1) % WINDOW;
        self.filled = (self.filled + 1).min(WINDOW);
        let before = self.slope;
        self.slope = if self.filled == WINDOW { self.fitted_slope().unwrap_or(before) } else { 0.0 };
        let passed_us =
            self.last_us.replace(step.arrived_us).map_or(0, |last| step.arrived_us - last).clamp(0, 100_000);
        self.judge(before, step.arrived_us);
        self.adapt(passed_us as f64 / 1_000.0);
    }

    fn judge(&mut self, slope_before: f64, now_us: i64) {
        let trend = self.slope * GAIN;
        if trend > self.threshold {
            let since_us = *self.over_since_us.get_or_insert(now_us);
            if now_us - since_us >= OVERUSE_US && self.slope >= slope_before {
                self.usage = Usage::Over;
            }
            return;
        }
        self.over_since_us = None;
        self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
    }

    fn adapt(&mut self, passed_ms: f64) {
        let distance = (self.slope * GAIN).abs() - self.threshold;
        if distance > NOT_FOLLOWED {
            return;
        }
        let gain = if distance > 0.0 { THRESHOLD_UP } else { THRESHOLD_DOWN };
        self.threshold = (self.threshold + gain * distance * passed_ms).clamp(LEAST_THRESHOLD, LARGEST_THRESHOLD);
    }

    /// Least squares over the window; none if all came at one moment.
    fn fitted_slope(&self) -> Option<f64> {
        let origin_us = self.window[self.oldest].0;
        let points = || self.window.iter().map(|(at_us, delay)| ((at_us - origin_us) as f64 / 1_000.0, *delay));
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / WINDOW as f64, sum_y / WINDOW as f64);
        let (over, under) = points().fold((0.0, 0.0), |(over, under), (x, y)| {
            (over + (x - mean_x) * (y - mean_y), under + (x - mean_x) * (x - mean_x))
        });
        (under > f64::EPSILON).then(|| over / under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `steps` groups 20 ms apart, each `delay_us` later than the one before it by what the closure says.
    fn feed(trend: &mut Trend, from_us: i64, steps: i64, delay_us: impl Fn(i64) -> i64) -> i64 {
        let mut now_us = from_us;
        for step in 0..steps {
            now_us += 20_000 + delay_us(step);
            trend.add(Step { arrived_us: now_us, delay_us: delay_us(step) });
        }
        now_us
    }

    #[test]
    fn a_queue_that_grows_is_overuse_and_one_that_drains_underuse() {
        let mut trend = Trend::default();
        let now_us = feed(&mut trend, 0, 50, |_| 0);
        assert_eq!(trend.usage(), Usage::Normal);
        let now_us = feed(&mut trend, now_us, 20, |_| 5_000);
        assert_eq!(trend.usage(), Usage::Over);
        feed(&mut trend, now_us, 40, |_| -5_000);
        assert_eq!(trend.usage(), Usage::Under);
    }

    #[test]
    fn a_slow_growth_is_seen_too() {
        let mut trend = Trend::default();
        let now_us = feed(&mut trend, 0, 50, |_| 0);
        feed(&mut trend, now_us, 60, |_| 2_000);
        assert_eq!(trend.usage(), Usage::Over, "10 % more than the path carries");
    }

    #[test]
    fn jitter_is_not_a_queue() {
        let mut trend = Trend::default();
        let mut overused = 0;
        let mut now_us = 0;
        for round in 0..200 {
            now_us = feed(&mut trend, now_us, 1, |_| if round % 2 == 0 { 15_000 } else { -15_000 });
            overused += usize::from(trend.usage() == Usage::Over);
        }
        assert_eq!(overused, 0);
    }

    #[test]
    fn the_threshold_follows_a_rough_path_and_comes_back() {
        let mut trend = Trend::default();
        let rough = |step: i64| if step / 15 % 2 == 0 { 3_000 } else { -3_000 };
        let now_us = feed(&mut trend, 0, 600, rough);
        let high = trend.threshold;
        assert!(high > FIRST_THRESHOLD, "{high}");
        feed(&mut trend, now_us, 6_000, |_| 0);
        assert!(trend.threshold < FIRST_THRESHOLD);
    }
}
