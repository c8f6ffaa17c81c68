//! Flows without the controller.

use super::log::Log;

#[derive(Debug)]
pub(super) struct Cross {
    pub(super) competitor: Competitor,
    pub(super) is_on: bool,
    pub(super) log: Log,
}

#[derive(Debug)]
pub(super) enum Competitor {
    /// Constant rate.
    Constant { kbps: f64 },
    /// Fills the queue until it loses.
    Greedy(Reno),
}

/// Slow start, congestion avoidance and fast recovery (RFC 5681), counted in packets. The path keeps the order, so that
/// a number that is skipped is lost.
#[derive(Debug)]
pub(super) struct Reno {
    window: f64,
    threshold: f64,
    next: u64,
    expected: u64,
    /// Losses below this number were answered already.
    recovered: u64,
    acked_us: u64,
}

impl Reno {
    pub(super) fn new() -> Self {
        Self { window: 4.0, threshold: 1e9, next: 0, expected: 0, recovered: 0, acked_us: 0 }
    }

    /// The number of the next packet, if the window lets it go.
    pub(super) fn take(&mut self) -> Option<u64> {
        let goes = ((self.next - self.expected) as f64) < self.window;
        goes.then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    pub(super) fn acked(&mut self, number: u64, now_us: u64) {
        self.acked_us = now_us;
        if number > self.expected && number >= self.recovered {
            self.window = (self.window / 2.0).max(2.0);
            self.threshold = self.window;
            self.recovered = self.next;
        }
        self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
        self.expected = self.expected.max(number + 1);
    }

    /// To be called every second: after one without acknowledgements it begins anew.
    pub(super) fn check(&mut self, now_us: u64) {
        if now_us > self.acked_us + 1_000_000 {
            self.threshold = (self.window / 2.0).max(2.0);
            (self.window, self.expected) = (2.0, self.next);
        }
    }
}
