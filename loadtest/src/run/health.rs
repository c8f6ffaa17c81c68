//! Whether the load generator itself kept up. One that is tired measures itself and not the target: then the run fails,
//! whatever its thresholds say. No clock, no files: [`super::fleet`] measures, [`super::sockets`] reads the kernel's
//! counters.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use super::figures::precise;
use crate::client::report::rounded;

/// How a failure begins that is this program's own.
pub const GENERATOR_TIRED: &str = "the load generator did not keep up";

/// A thread that is busier than this over [`BUSY_WINDOW_S`] has no room for the next burst.
const MAX_BUSY_SHARE: f64 = 0.9;
/// Seconds.
const BUSY_WINDOW_S: usize = 5;
/// 1 in 100 timers may be later than one packet of speech lasts.
const MAX_LATE_P99_MS: f64 = 20.0;
/// What the kernel dropped before a busy thread looks like loss of the target: at most 1 in 10,000.
const MAX_DROP_SHARE: f64 = 0.0001;
/// What was not sent in time is load that was not made: at most 1 in 1,000.
const MAX_LEFT_OUT_SHARE: f64 = 0.001;
/// A shorter run says nothing of what it cost.
const SHORTEST: Duration = Duration::from_secs(1);
/// Lateness is counted in steps of this.
const LATE_STEP: Duration = Duration::from_micros(100);
/// Later than 2 s is counted as 2 s.
const LATE_STEPS: usize = 20_000;

/// How this program did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GeneratorFigures {
    /// Threads that carry clients.
    pub threads: u64,
    /// CPU time of the whole program over the time of the run: 1 is one core.
    pub cpu_cores: Option<f64>,
    /// CPU time over time of the busiest thread, in its busiest 5 s.
    pub busiest_thread_share: Option<f64>,
    /// How late timers were, half of them.
    pub timer_late_p50_ms: Option<f64>,
    /// How late timers were, 1 in 100.
    pub timer_late_p99_ms: Option<f64>,
    /// How late the latest timer was.
    pub timer_late_max_ms: Option<f64>,
    /// Packets that the kernel dropped because a thread did not read them in time (`/proc/net/udp`).
    pub receive_drops: Option<u64>,
    /// The same over all packets that came.
    pub receive_drop_share: Option<f64>,
    /// Frames and packets of speech that were not sent because a thread was late, over those that were sent.
    pub left_out_share: Option<f64>,
}

/// What was seen of the threads in one second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Second {
    /// How long it was.
    pub span: Duration,
    /// CPU time of each thread in it.
    pub cpu: Vec<Duration>,
    /// How late each timer of a steady beat was.
    pub late: Vec<Duration>,
}

impl Second {
    /// CPU time over time, of all threads.
    pub fn cores(&self) -> f64 {
        self.cpu.iter().sum::<Duration>().as_secs_f64() / self.span.as_secs_f64().max(1e-9)
    }

    /// The latest timer.
    pub fn latest(&self) -> Duration {
        self.late.iter().copied().max().unwrap_or_default()
    }
}

/// Follows a run second by second.
#[derive(Debug)]
pub struct Health {
    late: Vec<u64>,
    latest: Duration,
    /// The last seconds: how long, and each thread's CPU time.
    window: VecDeque<Second>,
    busiest_share: Option<f64>,
    threads: usize,
}

impl Health {
    /// Of so many threads.
    pub fn new(threads: usize) -> Self {
        let late = vec![0; LATE_STEPS];
        Self { late, latest: Duration::ZERO, window: VecDeque::new(), busiest_share: None, threads }
    }

    /// A second has passed.
    pub fn handle_second(&mut self, second: Second) {
        for late in &second.late {
            let step = (late.as_nanos() / LATE_STEP.as_nanos()) as usize;
            self.late[step.min(LATE_STEPS - 1)] += 1;
            self.latest = self.latest.max(*late);
        }
        self.window.push_back(Second { late: Vec::new(), ..second });
        if self.window.len() > BUSY_WINDOW_S {
            self.window.pop_front();
        }
        if self.window.len() == BUSY_WINDOW_S {
            let span_s: f64 = self.window.iter().map(|second| second.span.as_secs_f64()).sum();
            let cpu_s = |thread: usize| -> f64 {
                self.window.iter().filter_map(|second| second.cpu.get(thread)).map(Duration::as_secs_f64).sum()
            };
            let share = (0..self.threads).map(|thread| cpu_s(thread) / span_s.max(1e-9)).fold(0.0, f64::max);
            self.busiest_share = Some(self.busiest_share.map_or(share, |before| before.max(share)));
        }
    }

    /// The figures, with what was counted elsewhere.
    pub fn figures(&self, counts: &Counts) -> GeneratorFigures {
        let share = |part: u64, whole: u64| (whole > 0).then(|| precise(part as f64 / whole as f64));
        let drop_share = |drops| share(drops, counts.received + drops);
        GeneratorFigures {
            threads: self.threads as u64,
            // A run that ended before it began has no span to speak of.
            cpu_cores: counts
                .cpu
                .filter(|_| counts.span >= SHORTEST)
                .map(|cpu| rounded(cpu.as_secs_f64() / counts.span.as_secs_f64())),
            busiest_thread_share: self.busiest_share.map(rounded),
            timer_late_p50_ms: self.late_quantile(0.5),
            timer_late_p99_ms: self.late_quantile(0.99),
            timer_late_max_ms: self.late_quantile(1.0).map(|_| rounded(self.latest.as_secs_f64() * 1e3)),
            receive_drops: counts.receive_drops,
            receive_drop_share: counts.receive_drops.and_then(drop_share),
            left_out_share: share(counts.left_out, counts.left_out + counts.sent),
        }
    }

    fn late_quantile(&self, q: f64) -> Option<f64> {
        let total: u64 = self.late.iter().sum();
        let rank = ((q * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let step = self.late.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        step.map(|step| rounded(LATE_STEP.as_secs_f64() * 1e3 * step as f64))
    }
}

/// What was counted over the whole run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// How long it was.
    pub span: Duration,
    /// CPU time of this process.
    pub cpu: Option<Duration>,
    /// Dropped before sockets; none where the kernel does not say.
    pub receive_drops: Option<u64>,
    /// Packets that clients received.
    pub received: u64,
    /// Packets that clients sent.
    pub sent: u64,
    /// Packets and frames that they should have sent.
    pub left_out: u64,
}

impl GeneratorFigures {
    /// What makes this run's other figures worthless. Empty for a generator that kept up.
    pub fn complaints(&self) -> Vec<String> {
        let percent = |share: f64| rounded(share * 100.0);
        let mut complaints = Vec::new();
        if let Some(share) = self.busiest_thread_share.filter(|share| *share > MAX_BUSY_SHARE) {
            let (share, most) = (percent(share), percent(MAX_BUSY_SHARE));
            complaints.push(format!("its busiest thread had {share} % of a core for 5 s, at most {most} % is sound"));
        }
        if let Some(late) = self.timer_late_p99_ms.filter(|late| *late > MAX_LATE_P99_MS) {
            complaints.push(format!(
                "1 in 100 of its timers was {late} ms late or more, at most {MAX_LATE_P99_MS} ms is sound"
            ));
        }
        if let (Some(drops), Some(share)) = (self.receive_drops, self.receive_drop_share)
            && share > MAX_DROP_SHARE
        {
            let (share, most) = (rounded(share * 1e4), rounded(MAX_DROP_SHARE * 1e4));
            complaints.push(format!(
                "the kernel dropped {drops} packets that it did not read in time ({share} in 10,000), at most {most} is sound"
            ));
        }
        if let Some(share) = self.left_out_share.filter(|share| *share > MAX_LEFT_OUT_SHARE) {
            let (share, most) = (percent(share), percent(MAX_LEFT_OUT_SHARE));
            complaints.push(format!("it did not send {share} % of its media in time, at most {most} % is sound"));
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn second(cpu: [u32; 2], late: &[u32]) -> Second {
        let cpu = cpu.map(|ms| MS * ms).to_vec();
        Second { span: 1000 * MS, cpu, late: late.iter().map(|ms| MS * *ms).collect() }
    }

    #[test]
    fn the_busiest_thread_counts_over_five_seconds() {
        let mut health = Health::new(2);
        for _ in 0..4 {
            health.handle_second(second([100, 990], &[0; 100]));
        }
        let counts = Counts { span: 1000 * MS, ..Counts::default() };
        assert_eq!(health.figures(&counts).busiest_thread_share, None, "a burst is no tiredness");
        health.handle_second(second([100, 990], &[0; 100]));
        health.handle_second(second([100, 10], &[0; 100]));
        let figures = health.figures(&counts);
        assert_eq!(figures.busiest_thread_share, Some(0.99));
        assert!(figures.complaints()[0].contains("99 % of a core"), "{:?}", figures.complaints());
    }

    #[test]
    fn late_timers_drops_and_media_left_out_are_complained_of() {
        let mut health = Health::new(2);
        let mut late = [0; 100];
        late[..2].copy_from_slice(&[30, 70]);
        health.handle_second(second([1, 1], &late));
        let (receive_drops, span) = (Some(2), 1000 * MS);
        let counts = Counts { span, receive_drops, received: 9998, sent: 990, left_out: 10, cpu: Some(500 * MS) };
        let figures = health.figures(&counts);
        assert_eq!((figures.timer_late_p50_ms, figures.timer_late_p99_ms), (Some(0.0), Some(30.0)));
        assert_eq!((figures.timer_late_max_ms, figures.cpu_cores), (Some(70.0), Some(0.5)));
        assert_eq!((figures.receive_drop_share, figures.left_out_share), (Some(0.0002), Some(0.01)));
        assert_eq!(figures.complaints().len(), 3, "{:?}", figures.complaints());
    }

    #[test]
    fn a_generator_that_kept_up_has_nothing_to_complain_of_and_what_was_not_seen_is_not_told() {
        let figures = Health::new(1).figures(&Counts::default());
        assert!(figures.complaints().is_empty());
        assert_eq!((figures.timer_late_p99_ms, figures.receive_drops, figures.cpu_cores), (None, None, None));
    }
}
