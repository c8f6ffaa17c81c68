//! What a run was and what came of it: what `--json` writes and the HTML page shows.

use std::process::ExitCode;

use isthmus_protocol::PopId;
use serde::Serialize;

use super::{figures::Figures, threshold::Threshold};
use crate::exit;

/// The name of this shape of JSON; the number grows when a field changes its meaning.
pub const SCHEMA: &str = "isthmus-loadtest-run/1";

/// One run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The scenario's file.
    pub scenario: String,
    /// Origin of the server that was asked first.
    pub target: String,
    /// The PoPs that those of a room had to join by, one after the other; none: each by the nearest.
    pub pops: Vec<PopId>,
    /// Of what was drawn.
    pub seed: u64,
    /// Part of the names of this run's rooms: `lt-RUN-KIND-NUMBER`.
    pub run: String,
    /// When it began, in seconds since 1970.
    pub started_unix_s: u64,
    /// How long it was to last.
    pub planned_s: f64,
    /// How long it lasted.
    pub ran_s: f64,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it did not pass; empty if it did.
    pub reasons: Vec<String>,
    /// Each threshold with its figure.
    pub thresholds: Vec<Judged>,
    /// What was measured. A figure that is null was not.
    pub figures: Figures,
    /// Why joins failed and stays ended early, the most frequent reason first.
    pub failures: Vec<Failure>,
    /// What this run could not measure, and why.
    pub not_measured: Vec<String>,
    /// The course of the run, second by second.
    pub seconds: Vec<Sample>,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It ran to its end and every threshold held. Exit code 0.
    Passed,
    /// It ran to its end and a threshold did not hold. Exit code 99.
    ThresholdCrossed,
    /// It was interrupted, the target was gone, or the load generator did not keep up. Exit code 1.
    Failed,
}

impl Verdict {
    /// The exit code that goes with it.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Passed => ExitCode::SUCCESS,
            Self::ThresholdCrossed => ExitCode::from(exit::THRESHOLD_CROSSED),
            Self::Failed => ExitCode::from(exit::FAILED),
        }
    }
}

/// A threshold and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// As it was written.
    pub threshold: String,
    /// The figure; null if it was not measured, and then the threshold does not hold.
    pub value: Option<f64>,
    /// Whether it held.
    pub held: bool,
}

/// A reason and how often there was it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What the client was told, or what it waited for.
    pub reason: String,
    /// How often.
    pub count: u64,
}

/// One second of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sample {
    /// The second's end, from the beginning of the run.
    pub at_s: f64,
    /// Clients in their calls.
    pub in_call: u64,
    /// Clients that got into their calls in it.
    pub joined: u64,
    /// Joins that failed in it.
    pub failed: u64,
    /// RTP packets a second, all clients together.
    pub sent_packets_per_second: f64,
    /// RTP packets a second, all clients together.
    pub received_packets_per_second: f64,
    /// Payloads received.
    pub received_mbps: f64,
    /// Packets that were found missing; below 0 when late ones came.
    pub lost_packets_per_second: f64,
    /// CPU time over time of the generator's threads: 1 is one core.
    pub generator_cores: f64,
    /// The generator's latest timer.
    pub timer_late_ms: f64,
    /// CPU time over time of the target's media nodes, where they can be seen.
    pub server_cores: Option<f64>,
    /// Resident memory of the target's media nodes, where they can be seen.
    pub server_mib: Option<f64>,
}

/// Holds thresholds against figures.
pub fn judge(thresholds: &[Threshold], figures: &Figures) -> Vec<Judged> {
    let figures = figures.by_name();
    let judged = |threshold: &Threshold| {
        let value = figures.get(threshold.figure()).copied().flatten();
        Judged { threshold: threshold.to_string(), value, held: threshold.holds(value) }
    };
    thresholds.iter().map(judged).collect()
}

/// What comes of a run that went wrong for these reasons (or none), and whose thresholds did this.
pub fn verdict(failures: &[String], judged: &[Judged]) -> (Verdict, Vec<String>) {
    let crossed = judged.iter().filter(|judged| !judged.held).map(|judged| match judged.value {
        Some(value) => format!("{} does not hold: it is {value}", judged.threshold),
        None => format!("{} does not hold: it was not measured", judged.threshold),
    });
    let reasons: Vec<String> = failures.iter().cloned().chain(crossed).collect();
    let verdict = match (failures.is_empty(), reasons.is_empty()) {
        (false, _) => Verdict::Failed,
        (true, false) => Verdict::ThresholdCrossed,
        (true, true) => Verdict::Passed,
    };
    (verdict, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::figures::Joins;

    #[test]
    fn a_run_that_failed_cannot_pass_and_an_unmeasured_figure_holds_nothing() {
        let figures = Figures { joins: Joins { joined: 5, ..Joins::default() }, ..Figures::default() };
        let thresholds = ["joins.joined == 5", "joins.failed > 0", "server.cpu_us_per_packet < 6"];
        let thresholds: Vec<Threshold> = thresholds.map(|text| text.parse().expect("good")).into();
        let judged = judge(&thresholds, &figures);
        assert_eq!(judged.iter().map(|judged| judged.held).collect::<Vec<_>>(), [true, false, false]);
        let (crossed, reasons) = verdict(&[], &judged);
        assert_eq!((crossed, reasons.len()), (Verdict::ThresholdCrossed, 2));
        assert!(reasons[1].ends_with("it was not measured"), "{reasons:?}");
        assert_eq!(verdict(&["interrupted".into()], &judged).0, Verdict::Failed);
        assert_eq!(verdict(&["interrupted".into()], &judged[..1]).0, Verdict::Failed);
        assert_eq!(verdict(&[], &judged[..1]), (Verdict::Passed, Vec::new()));
    }
}
