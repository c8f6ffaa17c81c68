//! Figures, goals and how they are printed. No clock, no IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use serde::Serialize;

use super::loads::Load;
use crate::{
    client::{media::Material, report::rounded},
    run::{
        figures::Distribution,
        health::GENERATOR_TIRED,
        report::{RunReport, Verdict},
    },
};

/// The name of this shape of JSON; the number grows when a field changes its meaning.
const SCHEMA: &str = "isthmus-loadtest-bench/1";

/// Cost over the floor of the same run, at most.
const MAX_OVER_FLOOR: f64 = 1.7;
/// The same in a hall of voices, whose packets cannot be batched.
const MAX_OVER_FLOOR_IN_HALL: f64 = 2.0;
/// Cost over Janus's of the same run, at most.
const MAX_OVER_JANUS: f64 = 0.25;
/// Socket in to socket out with half a core of work for one shard, in milliseconds: half of the packets, and 99 in 100.
const MAX_FORWARD_P50_MS: f64 = 0.5;
const MAX_FORWARD_P99_MS: f64 = 2.0;
/// Resident memory of someone who has joined and says nothing.
const MAX_IDLE_KIB: f64 = 300.0;
/// How much of it may come while nothing happens, as a share: flat, but for what an allocator does.
const MAX_IDLE_GROWTH: f64 = 0.02;
/// CPU for each participant of a crowd, over that for each of the smallest crowd.
const MAX_OVER_SMALL_CROWD: f64 = 1.15;
/// From the first request to the media path, 95 in 100.
const MAX_JOIN_P95_MS: f64 = 250.0;
/// What calls are to be like over networks that lose so many of 100 packets each way: the mean opinion score of 19 voices in 20
/// at least, of the pictures a second as many, and no picture that stands still for longer.
const LOSSY: [(u32, f64, Option<f64>, Option<f64>); 4] = [
    (1, 4.0, Some(MIN_FRAMES), None),
    (5, 3.8, Some(MIN_FRAMES), None),
    (10, 3.5, None, Some(MAX_FREEZE_MS)),
    (20, 3.0, None, None),
];
/// Of the bytes sent, at most this share makes packets equally long or finds out what a path carries.
const MAX_PADDING: f64 = 0.02;
const MIN_FRAMES: f64 = 24.0;
const MAX_FREEZE_MS: f64 = 1000.0;

/// What was measured. Names are those of the JSON.
pub(super) mod figure {
    pub(in crate::bench) const US_PER_PACKET: &str = "cpu_us_per_packet";
    pub(super) const CORES: &str = "cpu_cores";
    pub(super) const US_PER_PARTICIPANT: &str = "cpu_us_per_participant_second";
    pub(super) const PACKETS: &str = "packets_per_second";
    pub(super) const EXTRA: &str = "extra_packets_share";
    pub(super) const PADDING: &str = "padding_share";
    pub(super) const KIB: &str = "memory_kib_per_participant";
    pub(super) const GROWTH: &str = "memory_growth_share";
    pub(super) const FORWARD_P50: &str = "forward_delay_p50_ms";
    pub(super) const FORWARD_P99: &str = "forward_delay_p99_ms";
    pub(super) const VOICE_P99: &str = "voice_delay_p99_ms";
    pub(super) const PICTURE_P99: &str = "picture_delay_p99_ms";
    pub(super) const LOSS: &str = "loss_share";
    pub(super) const FAILED: &str = "joins_failed";
    pub(super) const JOIN_P95: &str = "join_p95_ms";
    pub(super) const MOS_P5: &str = "voice_mos_p5";
    pub(super) const FRAMES_P5: &str = "frames_per_second_p5";
    pub(super) const FREEZE_MAX: &str = "longest_freeze_ms";
    pub(super) const GENERATOR: &str = "generator_busiest_thread_share";
}

/// Who carried the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Carrier {
    /// Nobody: packets are sealed and sent, one system call each.
    FloorSendto,
    /// Nobody: packets are sealed and sent by UDP GSO.
    FloorGso,
    /// Isthmus's media node.
    Isthmus,
    /// Janus.
    Janus,
}

impl Carrier {
    fn name(self) -> &'static str {
        match self {
            Self::FloorSendto => "floor, sendto",
            Self::FloorGso => "floor, GSO",
            Self::Isthmus => "Isthmus",
            Self::Janus => "Janus",
        }
    }
}

/// What one carrier did with one load, once.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    #[serde(flatten)]
    pub(super) load: Load,
    pub(super) media: Material,
    pub(super) carrier: Carrier,
    pub(super) figures: BTreeMap<&'static str, f64>,
    /// Why its figures are worthless, if they are: the generator did not keep up, the server failed.
    pub(super) failures: Vec<String>,
    /// What else is to be known.
    pub(super) notes: Vec<String>,
}

impl Outcome {
    /// Of the floor.
    pub(super) fn of_floor(load: Load, media: Material, carrier: Carrier, us_per_packet: f64) -> Self {
        let figures = BTreeMap::from([(figure::US_PER_PACKET, us_per_packet)]);
        Self { load, media, carrier, figures, failures: Vec::new(), notes: Vec::new() }
    }

    /// Of one that could not be measured at all.
    pub(super) fn failed(load: Load, media: Material, carrier: Carrier, why: String) -> Self {
        Self { load, media, carrier, figures: BTreeMap::new(), failures: vec![why], notes: Vec::new() }
    }

    /// Of a run.
    pub(super) fn of_run(load: Load, media: Material, carrier: Carrier, report: &RunReport) -> Self {
        let figures = &report.figures;
        let server = &figures.server;
        let quantile = |spread: &Distribution| spread.p99;
        let received_per_second = server.cpu_cores.zip(server.cpu_us_per_received_packet);
        let received_per_second = received_per_second.filter(|(_, us)| *us > 0.0).map(|(cores, us)| cores * 1e6 / us);
        // What the server sent beside what arrived as media: padding, probes, retransmissions.
        let extra = server.packets_out_per_second.zip(received_per_second).map(|(out, received)| out / received - 1.0);
        let found = [
            (figure::US_PER_PACKET, server.cpu_us_per_received_packet),
            (figure::CORES, server.cpu_cores),
            (figure::US_PER_PARTICIPANT, per_participant(report)),
            (figure::PACKETS, received_per_second.map(rounded)),
            (figure::EXTRA, extra),
            (figure::PADDING, server.padding_share),
            (figure::KIB, server.memory_kib_per_participant),
            (figure::GROWTH, growth(report)),
            (figure::FORWARD_P50, server.forward_delay_p50_ms),
            (figure::FORWARD_P99, server.forward_delay_p99_ms),
            (figure::VOICE_P99, quantile(&figures.voice_delay_ms)),
            (figure::PICTURE_P99, quantile(&figures.picture_delay_ms)),
            (figure::LOSS, figures.loss.share),
            (figure::FAILED, Some(figures.joins.failed as f64)),
            (figure::JOIN_P95, figures.join_ms.p95),
            (figure::MOS_P5, figures.voice_mos.p5),
            (figure::FRAMES_P5, figures.frames_per_second.p5),
            (figure::FREEZE_MAX, figures.freezes.longest_ms),
            (figure::GENERATOR, figures.generator.busiest_thread_share),
        ];
        let failures = if report.verdict == Verdict::Failed { report.reasons.clone() } else { Vec::new() };
        let told = report.failures.iter().map(|failure| format!("{} x {}", failure.count, failure.reason));
        Self {
            load,
            media,
            carrier,
            figures: found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
            failures,
            notes: told.chain(report.not_measured.iter().cloned()).collect(),
        }
    }
}

/// CPU time a second over everyone who was there.
fn per_participant(report: &RunReport) -> Option<f64> {
    let (cores, most) = (report.figures.server.cpu_cores?, report.figures.joins.most_at_once);
    (most > 0).then(|| rounded(cores * 1e6 / most as f64))
}

/// How much memory came while everyone was there and nobody came or went, as a share.
fn growth(report: &RunReport) -> Option<f64> {
    let most = report.figures.joins.most_at_once;
    let mut full = report.seconds.iter().filter(|second| second.in_call == most).filter_map(|second| second.server_mib);
    // The reading of the second in which the last one came may be older than that one.
    let first = full.nth(1)?;
    full.next_back().map(|last| last / first - 1.0)
}

/// Everything that was measured, each load and carrier once: the median of each figure over the rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Bench {
    schema: &'static str,
    pub(super) started_unix_s: u64,
    cores: usize,
    rounds: u32,
    hold_s: u64,
    outcomes: Vec<Outcome>,
    goals: Vec<Goal>,
}

/// A goal and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Goal {
    what: String,
    /// None if it was not measured; then the goal is missed.
    value: Option<f64>,
    #[serde(flatten)]
    bound: Bound,
    held: bool,
}

/// On which side of a figure its goal is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl Bench {
    /// Of outcomes of several rounds.
    pub(super) fn new(started_unix_s: u64, cores: usize, rounds: u32, hold_s: u64, outcomes: &[Outcome]) -> Self {
        let outcomes = medians(outcomes);
        let goals = Goals { outcomes: &outcomes }.all();
        Self { schema: SCHEMA, started_unix_s, cores, rounds, hold_s, outcomes, goals }
    }

    /// Whether every goal was held.
    pub(super) fn is_good(&self) -> bool {
        self.goals.iter().all(|goal| goal.held)
    }

    /// Whether everything could be measured.
    pub(super) fn is_whole(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.failures.is_empty())
    }
}

/// The median of each figure over those of one load, material and carrier, in the order of first appearance.
fn medians(outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut groups: Vec<(Load, Material, Carrier)> = Vec::new();
    for outcome in outcomes {
        let key = (outcome.load, outcome.media, outcome.carrier);
        if !groups.contains(&key) {
            groups.push(key);
        }
    }
    let of = |key: (Load, Material, Carrier)| {
        let all: Vec<_> = outcomes.iter().filter(|o| (o.load, o.media, o.carrier) == key).collect();
        let names: BTreeSet<_> = all.iter().flat_map(|outcome| outcome.figures.keys().copied()).collect();
        let median = |name: &'static str| {
            let mut values: Vec<_> = all.iter().filter_map(|outcome| outcome.figures.get(name).copied()).collect();
            values.sort_by(f64::total_cmp);
            (name, values[(values.len() - 1) / 2])
        };
        let unique = |texts: fn(&Outcome) -> &Vec<String>| -> Vec<String> {
            let texts: BTreeSet<_> = all.iter().flat_map(|outcome| texts(outcome).iter().cloned()).collect();
            texts.into_iter().collect()
        };
        let (load, media, carrier) = key;
        let figures = names.into_iter().map(median).collect();
        Outcome { load, media, carrier, figures, failures: unique(|o| &o.failures), notes: unique(|o| &o.notes) }
    };
    groups.into_iter().map(of).collect()
}

/// Judges outcomes.
struct Goals<'a> {
    outcomes: &'a [Outcome],
}

impl Goals<'_> {
    fn all(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let measured: BTreeSet<_> = self.outcomes.iter().map(|outcome| outcome.load).collect();
        let mut materials: Vec<_> = Vec::new();
        for outcome in self.outcomes {
            if !materials.contains(&outcome.media) {
                materials.push(outcome.media);
            }
        }
        for (load, media) in measured.iter().flat_map(|load| materials.iter().map(|media| (*load, *media))) {
            // Goals are Isthmus's.
            let measured = |o: &Outcome| (o.load, o.media, o.carrier) == (load, media, Carrier::Isthmus);
            if !self.outcomes.iter().any(measured) {
                continue;
            }
            match load {
                Load::Camera { .. } => self.camera(load, media, &mut goals),
                Load::Rooms { .. } => self.forwarding(load, media, &mut goals),
                Load::Hall { .. } => {
                    let over = self.over_floor(load, media);
                    goals.push(goal(load, media, "CPU per packet over the floor", over, MAX_OVER_FLOOR_IN_HALL));
                    if self.has(Carrier::Janus) {
                        goals.push(goal(
                            load,
                            media,
                            "CPU per packet over Janus",
                            self.over_janus(load, media),
                            MAX_OVER_JANUS,
                        ));
                    }
                }
                Load::Crowd { .. } => {
                    let us = |load| self.figure(load, media, Carrier::Isthmus, figure::US_PER_PARTICIPANT);
                    let smallest =
                        self.outcomes.iter().map(|o| o.load).filter(|load| matches!(load, Load::Crowd { .. })).min();
                    if smallest != Some(load) {
                        let over = us(load).zip(smallest.and_then(us)).map(|(us, least)| us / least);
                        let what = "CPU per participant over that in the smallest crowd";
                        goals.push(goal(load, media, what, over, MAX_OVER_SMALL_CROWD));
                    }
                    let lost = self.figure(load, media, Carrier::Isthmus, figure::LOSS);
                    goals.push(goal(load, media, "share of packets lost", lost, 0.0));
                }
                Load::Idle { .. } => {
                    let isthmus = |name| self.figure(load, media, Carrier::Isthmus, name);
                    goals.push(goal(load, media, "KiB per participant", isthmus(figure::KIB), MAX_IDLE_KIB));
                    goals.push(goal(
                        load,
                        media,
                        "growth of memory afterwards",
                        isthmus(figure::GROWTH),
                        MAX_IDLE_GROWTH,
                    ));
                }
                Load::Joins { .. } => {
                    let isthmus = |name| self.figure(load, media, Carrier::Isthmus, name);
                    goals.push(goal(load, media, "ms to join, 95 in 100", isthmus(figure::JOIN_P95), MAX_JOIN_P95_MS));
                    goals.push(goal(load, media, "joins failed", isthmus(figure::FAILED), 0.0));
                }
                Load::Lossy { percent } => self.lossy(load, media, percent, &mut goals),
            }
        }
        goals
    }

    fn camera(&self, load: Load, media: Material, goals: &mut Vec<Goal>) {
        goals.push(goal(load, media, "CPU per packet over the floor", self.over_floor(load, media), MAX_OVER_FLOOR));
        if self.has(Carrier::Janus) {
            goals.push(goal(load, media, "CPU per packet over Janus", self.over_janus(load, media), MAX_OVER_JANUS));
        }
        self.forwarding(load, media, goals);
        let padding = self.figure(load, media, Carrier::Isthmus, figure::PADDING);
        goals.push(goal(load, media, "share of bytes that are padding", padding, MAX_PADDING));
    }

    fn forwarding(&self, load: Load, media: Material, goals: &mut Vec<Goal>) {
        let isthmus = |name| self.figure(load, media, Carrier::Isthmus, name);
        goals.push(goal(load, media, "ms of forwarding, half", isthmus(figure::FORWARD_P50), MAX_FORWARD_P50_MS));
        goals.push(goal(load, media, "ms of forwarding, 99 in 100", isthmus(figure::FORWARD_P99), MAX_FORWARD_P99_MS));
    }

    fn lossy(&self, load: Load, media: Material, percent: u32, goals: &mut Vec<Goal>) {
        let Some((_, mos, frames, freeze_ms)) = LOSSY.into_iter().find(|(known, ..)| *known == percent) else { return };
        let isthmus = |name| self.figure(load, media, Carrier::Isthmus, name);
        let mut least =
            |what, name, least| goals.push(bounded(load, media, what, isthmus(name), Bound::AtLeast(least)));
        least("MOS of voices, 19 in 20", figure::MOS_P5, mos);
        if let Some(frames) = frames {
            least("pictures a second, 19 in 20", figure::FRAMES_P5, frames);
        }
        if let Some(most) = freeze_ms {
            goals.push(goal(load, media, "ms that a picture stood still", isthmus(figure::FREEZE_MAX), most));
        }
    }

    fn has(&self, carrier: Carrier) -> bool {
        self.outcomes.iter().any(|outcome| outcome.carrier == carrier)
    }

    /// A figure that counts: not one of a failed run.
    fn figure(&self, load: Load, media: Material, carrier: Carrier, name: &str) -> Option<f64> {
        let same = |outcome: &&Outcome| (outcome.load, outcome.media, outcome.carrier) == (load, media, carrier);
        let outcome = self.outcomes.iter().find(same).filter(|outcome| outcome.failures.is_empty())?;
        outcome.figures.get(name).copied()
    }

    fn us(&self, load: Load, media: Material, carrier: Carrier) -> Option<f64> {
        self.figure(load, media, carrier, figure::US_PER_PACKET)
    }

    /// The faster way of sending.
    fn floor(&self, load: Load, media: Material) -> Option<f64> {
        let ways = [Carrier::FloorSendto, Carrier::FloorGso];
        ways.into_iter().filter_map(|way| self.us(load, media, way)).reduce(f64::min)
    }

    fn over_floor(&self, load: Load, media: Material) -> Option<f64> {
        Some(self.us(load, media, Carrier::Isthmus)? / self.floor(load, media)?)
    }

    fn over_janus(&self, load: Load, media: Material) -> Option<f64> {
        Some(self.us(load, media, Carrier::Isthmus)? / self.janus_us(load, media)?)
    }

    /// What a packet costs Janus that it sent, lost or not: where it takes the whole machine the generator does not keep up, so
    /// that packets are lost and delays say nothing, but Janus has sent them.
    fn janus_us(&self, load: Load, media: Material) -> Option<f64> {
        let same = |outcome: &&Outcome| (outcome.load, outcome.media, outcome.carrier) == (load, media, Carrier::Janus);
        let is_tired = |why: &String| why.starts_with(GENERATOR_TIRED);
        let outcome = self.outcomes.iter().find(same).filter(|outcome| outcome.failures.iter().all(is_tired))?;
        let lost = outcome.figures.get(figure::LOSS).copied().unwrap_or(0.0);
        Some(outcome.figures.get(figure::US_PER_PACKET)? * (1.0 - lost))
    }
}

fn goal(load: Load, media: Material, what: &str, value: Option<f64>, at_most: f64) -> Goal {
    bounded(load, media, what, value, Bound::AtMost(at_most))
}

fn bounded(load: Load, media: Material, what: &str, value: Option<f64>, bound: Bound) -> Goal {
    let value = value.map(|value| (value * 1e4).round() / 1e4);
    let what = format!("{load}{}: {what}", suffix(media));
    Goal { what, value, bound, held: value.is_some_and(|value| bound.holds(value)) }
}

/// The usual material goes without saying.
fn suffix(media: Material) -> &'static str {
    match media {
        Material::Even => "",
        Material::Clip => " (clip)",
        Material::Chromium => " (Chromium)",
    }
}

/// A column: its heading, and what stands in it.
type Column = (&'static str, fn(&Goals<'_>, &Outcome) -> Option<String>);

const COLUMNS: [Column; 17] = [
    ("us/packet", |_, o| number(o, figure::US_PER_PACKET, 2)),
    ("x floor", |goals, o| {
        let floor = goals.floor(o.load, o.media)?;
        Some(format!("{:.2}", o.figures.get(figure::US_PER_PACKET)? / floor))
    }),
    ("cores", |_, o| number(o, figure::CORES, 2)),
    ("us/person", |_, o| number(o, figure::US_PER_PARTICIPANT, 0)),
    ("packets/s", |_, o| number(o, figure::PACKETS, 0)),
    ("extra", |_, o| percent(o, figure::EXTRA)),
    ("padding", |_, o| percent(o, figure::PADDING)),
    ("KiB each", |_, o| number(o, figure::KIB, 0)),
    ("forwarding ms", |_, o| {
        let (p50, p99) = (o.figures.get(figure::FORWARD_P50)?, o.figures.get(figure::FORWARD_P99)?);
        Some(format!("{p50:.2}/{p99:.2}"))
    }),
    ("voice ms", |_, o| number(o, figure::VOICE_P99, 1)),
    ("picture ms", |_, o| number(o, figure::PICTURE_P99, 1)),
    ("lost", |_, o| percent(o, figure::LOSS)),
    ("join ms", |_, o| number(o, figure::JOIN_P95, 0)),
    ("MOS", |_, o| number(o, figure::MOS_P5, 2)),
    ("pictures/s", |_, o| number(o, figure::FRAMES_P5, 1)),
    ("frozen ms", |_, o| number(o, figure::FREEZE_MAX, 0)),
    ("generator", |_, o| percent(o, figure::GENERATOR)),
];

fn number(outcome: &Outcome, name: &str, digits: usize) -> Option<String> {
    outcome.figures.get(name).map(|value| format!("{value:.digits$}"))
}

fn percent(outcome: &Outcome, name: &str) -> Option<String> {
    outcome.figures.get(name).map(|share| format!("{:.2} %", share * 100.0))
}

impl fmt::Display for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut heading = format!("{:<28} {:<14}", "load", "carried by");
        for (name, _) in COLUMNS {
            let _ = write!(heading, " {:>width$}", name, width = width(name));
        }
        writeln!(f, "{}", heading.trim_end())?;
        let goals = Goals { outcomes: &self.outcomes };
        for outcome in &self.outcomes {
            let load = format!("{}{}", outcome.load, suffix(outcome.media));
            let mut line = format!("{load:<28} {:<14}", outcome.carrier.name());
            for (name, cell) in COLUMNS {
                let cell = cell(&goals, outcome).unwrap_or_else(|| "-".into());
                let _ = write!(line, " {cell:>width$}", width = width(name));
            }
            writeln!(f, "{}", line.trim_end())?;
            for failure in &outcome.failures {
                writeln!(f, "    does not count: {failure}")?;
            }
            for note in &outcome.notes {
                writeln!(f, "    {note}")?;
            }
        }
        for Goal { what, value, bound, held } in &self.goals {
            let outcome = if *held { "held  " } else { "MISSED" };
            let value = value.map_or("not measured".into(), |value| value.to_string());
            writeln!(f, "{outcome} {what}: {value} (goal: {bound})")?;
        }
        // The last line is what the evidence shows.
        let told = self.goals.iter().map(|Goal { what, value, .. }| {
            let value = value.map_or("not measured".into(), |value| value.to_string());
            format!("{what} {value}")
        });
        let held = self.goals.iter().filter(|goal| goal.held).count();
        writeln!(f, "{held} of {} goals held: {}", self.goals.len(), told.collect::<Vec<_>>().join(", "))
    }
}

fn width(name: &str) -> usize {
    name.len().max(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load::Camera { receivers: 60 };

    fn outcome(carrier: Carrier, us: f64) -> Outcome {
        let mut outcome = Outcome::of_floor(LOAD, Material::Even, carrier, us);
        if carrier == Carrier::Isthmus {
            outcome.figures.extend([(figure::FORWARD_P50, 0.2), (figure::FORWARD_P99, 2.5), (figure::PADDING, 0.01)]);
        }
        outcome
    }

    fn bench(outcomes: &[Outcome]) -> Bench {
        Bench::new(0, 2, 1, 20, outcomes)
    }

    fn held(bench: &Bench) -> Vec<bool> {
        bench.goals.iter().map(|goal| goal.held).collect()
    }

    #[test]
    fn cost_is_held_against_the_faster_floor_and_janus() {
        let carriers = [
            outcome(Carrier::FloorSendto, 4.0),
            outcome(Carrier::FloorGso, 2.0),
            outcome(Carrier::Isthmus, 3.4),
            outcome(Carrier::Janus, 13.0),
        ];
        let bench = bench(&carriers);
        assert_eq!(held(&bench), [true, false, true, false, true], "1.7, 0.26, 0.2 ms, 2.5 ms, 1 %");
        assert!(!bench.is_good() && bench.is_whole());
        let text = bench.to_string();
        assert!(
            text.contains("held   1 camera to 60: CPU per packet over the floor: 1.7 (goal: at most 1.7)"),
            "{text}"
        );
        assert!(text.contains("MISSED 1 camera to 60: CPU per packet over Janus: 0.2615"), "{text}");
        let row = text.lines().find(|line| line.contains("Isthmus")).expect("a row");
        assert_eq!(row.split_whitespace().nth(5), Some("3.40"), "{row}");
        assert_eq!(row.split_whitespace().nth(6), Some("1.70"), "{row}");
    }

    #[test]
    fn a_failed_run_holds_no_goal() {
        let mut isthmus = outcome(Carrier::Isthmus, 1.0);
        isthmus.failures.push("the load generator did not keep up: it was tired".into());
        let bench = bench(&[outcome(Carrier::FloorGso, 2.0), isthmus]);
        assert_eq!(held(&bench), [false, false, false, false], "without Janus nothing is held against it");
        assert!(!bench.is_whole());
        let text = bench.to_string();
        assert!(text.contains("does not count: the load generator") && text.contains("not measured"), "{text}");
    }

    #[test]
    fn rounds_make_a_median_of_each_figure() {
        let rounds = [3.0, 9.0, 2.0].map(|us| outcome(Carrier::Isthmus, us));
        let whole = medians(&rounds);
        assert_eq!((whole.len(), whole[0].figures[figure::US_PER_PACKET]), (1, 3.0));
    }

    #[test]
    fn voices_memory_and_joins_have_goals_of_their_own() {
        let of = |load, figures: &[(&'static str, f64)]| Outcome {
            figures: figures.iter().copied().collect(),
            ..Outcome::of_floor(load, Material::Even, Carrier::Isthmus, 4.1)
        };
        let hall = Load::Hall { listeners: 500 };
        let outcomes = [
            Outcome::of_floor(hall, Material::Even, Carrier::FloorSendto, 2.0),
            of(hall, &[(figure::US_PER_PACKET, 4.1)]),
            of(Load::Idle { participants: 1000 }, &[(figure::KIB, 299.0), (figure::GROWTH, 0.0)]),
            of(Load::Joins { per_second: 50, seconds: 60 }, &[(figure::JOIN_P95, 80.0), (figure::FAILED, 1.0)]),
        ];
        assert_eq!(held(&bench(&outcomes)), [false, true, true, true, false]);
    }
}
