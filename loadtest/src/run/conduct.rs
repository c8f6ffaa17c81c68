//! Carries a plan out: orders clients to join and leave when it says so, counts second by second, and reports.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the cores")]

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval_at},
};

use super::{
    agent::monotonic,
    figures::Collector,
    fleet::Fleet,
    generators::{Generators, News, Processes},
    health::{Counts, GENERATOR_TIRED, Health, Second},
    live::Live,
    plan::{Plan, Seat, Step},
    pulse::{Beat, Pulse},
    report::{Failure, RunReport, SCHEMA, Sample, judge, verdict},
    scenario::Scenario,
    server::{Clients, Probe, Reading, ServerMeter},
    stay::{Outcome, Shared, Stay},
    target,
    wire::Vitals,
};
use crate::client::{report::rounded, session::Traffic};

/// How long clients may take for their goodbyes at the end.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// What of a run is not in its scenario.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How reports name the scenario.
    pub file: String,
    /// Threads that carry clients, in each process.
    pub threads: usize,
    /// Generator processes; none: this one carries the clients.
    pub processes: Option<Spawn>,
    /// Becomes part of the names of rooms, in eight hexadecimal digits, so that no two runs meet.
    pub run: u32,
}

/// Generator processes to start.
#[derive(Debug, Clone)]
pub struct Spawn {
    /// How many.
    pub count: u16,
    /// Which program.
    pub program: PathBuf,
    /// Its arguments, by which it becomes a generator of the same scenario.
    pub arguments: Vec<OsString>,
}

/// Runs a scenario until its end, until the target fails, or until `interrupted`. A run that fails has a report too.
pub async fn conduct(
    scenario: &Scenario,
    settings: Settings,
    live: &mut Live,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<RunReport> {
    let plan = Plan::new(scenario);
    let started_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let cpu_before = process_cpu();
    let mut run = Run::new(scenario, &plan, &settings);
    let mut cpu = None;
    match run.prepare().await {
        Ok((mut generators, probe)) => {
            let readings = probe.map(Probe::watch);
            run.begin = Instant::now();
            generators.begin(settings.run, monotonic()?.as_nanos() as u64).await;
            run.carry_out(&mut generators, readings, live, interrupted).await;
            live.say("clients leave");
            cpu = run.take_leave(generators).await;
        }
        Err(error) => run.failures.push(format!("{error:#}")),
    }
    let cpu = cpu_before.zip(cpu).map(|(before, after)| after.saturating_sub(before));
    Ok(run.report(started_unix_s, cpu, &settings))
}

/// CPU time of this process so far.
pub(super) fn process_cpu() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok().map(Duration::from)
}

/// Everything that is known of a run under way.
struct Run<'a> {
    scenario: &'a Scenario,
    plan: &'a Plan,
    settings: &'a Settings,
    begin: Instant,
    /// How long it lasted, once it is over.
    lasted: Duration,
    collector: Collector,
    pulse: Pulse,
    health: Health,
    server: ServerMeter,
    /// CPU time over time of the media nodes, when they were last read.
    server_cores: Option<f64>,
    /// Resident memory of the media nodes, when they were last read.
    server_mib: Option<f64>,
    /// Seats of clients in their calls.
    in_call: HashSet<usize>,
    /// By room: how many in it publish, and how many are in it.
    rooms: HashMap<u32, (u32, u32)>,
    most_in_call: u64,
    joined: u64,
    failed: u64,
    /// Whether anyone came or went since the last second.
    moved: bool,
    last: LastSecond,
    drops: Option<u64>,
    failures: Vec<String>,
    not_measured: Vec<String>,
    seconds: Vec<Sample>,
}

/// Counters at the end of the last second.
#[derive(Default)]
struct LastSecond {
    at: Duration,
    traffic: Traffic,
    joined: u64,
    failed: u64,
    cpu: Vec<Duration>,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, plan: &'a Plan, settings: &'a Settings) -> Self {
        Self {
            scenario,
            plan,
            settings,
            begin: Instant::now(),
            lasted: Duration::ZERO,
            collector: Collector::default(),
            pulse: Pulse::default(),
            health: Health::new(settings.threads * settings.processes.as_ref().map_or(1, |spawn| spawn.count.into())),
            server: ServerMeter::default(),
            server_cores: None,
            server_mib: None,
            in_call: HashSet::new(),
            rooms: HashMap::new(),
            most_in_call: 0,
            joined: 0,
            failed: 0,
            moved: true,
            last: LastSecond::default(),
            drops: None,
            failures: Vec::new(),
            not_measured: Vec::new(),
            seconds: Vec::new(),
        }
    }

    /// Asks the target whether it is there, before any load is made, and gets those ready who make it.
    async fn prepare(&mut self) -> anyhow::Result<(Generators, Option<Probe>)> {
        let shared = Shared::new(self.scenario)?;
        target::reach(&self.scenario.target.service, &shared.doors).await?;
        let probe = Probe::new(&self.scenario.server).await.context("the target's processes cannot be read")?;
        if probe.is_none() {
            self.not_measured.push("server: the scenario's [server] names no process and no metrics page".into());
        }
        let generators = match &self.settings.processes {
            None => Generators::Threads(Fleet::start(self.settings.threads, &shared)?, shared),
            Some(Spawn { count, program, arguments }) => {
                Generators::Processes(Processes::start(*count, program.clone(), arguments).await?)
            }
        };
        Ok((generators, probe))
    }

    async fn carry_out(
        &mut self,
        generators: &mut Generators,
        mut readings: Option<mpsc::Receiver<anyhow::Result<Reading>>>,
        live: &mut Live,
        interrupted: impl Future<Output = ()>,
    ) {
        let mut interrupted = std::pin::pin!(interrupted);
        let mut moves = self.plan.moves.iter().peekable();
        let mut second = interval_at((self.begin + SECOND).into(), SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = self.begin + self.plan.duration;
        while self.failures.is_empty() {
            let next = moves.peek().map_or(end, |step| self.begin + step.at);
            tokio::select! {
                Some(news) = generators.news() => self.handle_news(news),
                () = tokio::time::sleep_until(next.into()) => match moves.next() {
                    Some(step) => self.order(generators, step.seat, step.what).await,
                    None => break,
                },
                _ = second.tick() => {
                    self.handle_second(generators);
                    if let Some(sample) = self.seconds.last() {
                        live.show(sample, self.joined, self.failed);
                    }
                }
                Some(reading) = next_of(&mut readings) => self.handle_reading(reading, generators.traffic()),
                () = &mut interrupted => self.failures.push("interrupted".into()),
            }
        }
        self.lasted = self.begin.elapsed();
        // While sockets are open: the kernel forgets the drops of those that are closed.
        self.drops = generators.vitals().drops;
    }

    async fn order(&mut self, generators: &Generators, seat: usize, what: Step) {
        self.moved = true;
        match what {
            Step::Join => {
                let room = self.plan.seats[seat].room;
                let others_published = self.rooms.get(&room).is_some_and(|(publishers, _)| *publishers > 0);
                let (run, begin) = (self.settings.run, self.begin);
                let invitation = || target::invite(self.scenario, self.plan, run, begin, seat, others_published);
                generators.join(invitation, seat, others_published).await;
            }
            Step::Leave => generators.leave(seat).await,
        }
    }

    fn handle_news(&mut self, news: News) {
        self.moved = true;
        match news {
            News::Joined(seat) => {
                self.joined += 1;
                self.in_call.insert(seat);
                self.most_in_call = self.most_in_call.max(self.in_call.len() as u64);
                let (publishers, members) = self.rooms.entry(self.plan.seats[seat].room).or_default();
                *publishers += u32::from(publishes(self.scenario, &self.plan.seats[seat]));
                *members += 1;
                self.pulse.handle_joined();
            }
            News::Ended(stay) => self.handle_ended(&stay),
            News::Lost(why) => self.failures.push(why),
        }
    }

    fn handle_ended(&mut self, stay: &Stay) {
        let mut dead = None;
        if self.in_call.remove(&stay.seat) {
            let seat = &self.plan.seats[stay.seat];
            let (publishers, members) = self.rooms.entry(seat.room).or_default();
            *publishers -= u32::from(publishes(self.scenario, seat));
            *members -= 1;
            let early = match &stay.outcome {
                Outcome::EndedEarly(reason) => Some(reason.as_str()),
                _ => None,
            };
            dead = self.pulse.handle_left(early);
        }
        if let Outcome::Failed(reason) = &stay.outcome {
            self.failed += 1;
            dead = dead.or_else(|| self.pulse.handle_failed(reason));
        }
        self.failures.extend(dead);
        self.collector.add(stay);
    }

    fn handle_reading(&mut self, reading: anyhow::Result<Reading>, traffic: Traffic) {
        let now = self.begin.elapsed();
        match reading {
            Ok(reading) => {
                let quiet = !std::mem::take(&mut self.moved);
                self.server_mib = reading.resident_bytes.map(|bytes| bytes / 1024.0 / 1024.0);
                let clients = Clients { count: self.in_call.len() as u64, received: traffic.received_packets };
                self.server_cores = self.server.handle_reading(now, reading, clients, quiet);
            }
            Err(error) => {
                (self.server_cores, self.server_mib) = (None, None);
                if !self.not_measured.iter().any(|known| known.starts_with("server: ")) {
                    let from_s = now.as_secs();
                    self.not_measured.push(format!("server: a reading at {from_s} s, and maybe later ones: {error:#}"));
                }
            }
        }
    }

    fn handle_second(&mut self, generators: &Generators) {
        let now = self.begin.elapsed();
        let Vitals { cpu, late, traffic, .. } = generators.vitals();
        let before = std::mem::replace(
            &mut self.last,
            LastSecond { at: now, traffic, joined: self.joined, failed: self.failed, cpu: cpu.clone() },
        );
        let span = now.saturating_sub(before.at);
        let used =
            |(thread, cpu): (usize, Duration)| cpu.saturating_sub(before.cpu.get(thread).copied().unwrap_or_default());
        let second = Second { span, cpu: cpu.into_iter().enumerate().map(used).collect(), late };
        let rate = |now: u64, before: u64| rounded(now.wrapping_sub(before).cast_signed() as f64 / span.as_secs_f64());
        let received_bytes = rate(traffic.received_bytes, before.traffic.received_bytes);
        self.seconds.push(Sample {
            at_s: rounded(now.as_secs_f64()),
            in_call: self.in_call.len() as u64,
            joined: self.joined - before.joined,
            failed: self.failed - before.failed,
            sent_packets_per_second: rate(traffic.sent_packets, before.traffic.sent_packets),
            received_packets_per_second: rate(traffic.received_packets, before.traffic.received_packets),
            received_mbps: rounded(received_bytes * 8.0 / 1e6),
            lost_packets_per_second: rate(traffic.lost_packets, before.traffic.lost_packets),
            generator_cores: rounded(second.cores()),
            timer_late_ms: rounded(second.latest().as_secs_f64() * 1e3),
            server_cores: self.server_cores.map(rounded),
            server_mib: self.server_mib.map(rounded),
        });
        self.health.handle_second(second);
        let someone_should_receive = self.rooms.values().any(|(publishers, members)| *publishers > 0 && *members > 1);
        let beat = Beat { now, received_packets: traffic.received_packets, someone_should_receive };
        self.failures.extend(self.pulse.handle_beat(beat));
    }

    /// Everyone leaves; their reports come in. CPU time of all processes until then.
    async fn take_leave(&mut self, mut generators: Generators) -> Option<Duration> {
        generators.dismiss();
        let mut failures = std::mem::take(&mut self.failures);
        let last_news = async {
            while let Some(news) = generators.news().await {
                match news {
                    // It would have told of its clients.
                    News::Lost(why) => failures.push(why),
                    news => self.handle_news(news),
                }
            }
        };
        let in_time = tokio::time::timeout(LEAVE_TIMEOUT, last_news).await.is_ok();
        // What else fails while everyone leaves has not failed the run.
        self.failures = failures;
        let cpu = generators.vitals().process_cpu;
        if in_time {
            self.failures.extend(generators.end().await.err().map(|error| format!("{error:#}")));
        } else {
            let (still, limit_s) = (self.in_call.len(), LEAVE_TIMEOUT.as_secs());
            self.failures.push(format!("{still} clients had not left {limit_s} s after they were asked to"));
        }
        cpu
    }

    fn report(mut self, started_unix_s: u64, cpu: Option<Duration>, settings: &Settings) -> RunReport {
        let mut figures = self.collector.figures();
        figures.joins.planned = self.plan.joins() as u64;
        figures.joins.most_at_once = self.most_in_call;
        let most = |of: fn(&Sample) -> f64| self.seconds.iter().map(of).reduce(f64::max);
        figures.traffic.peak_received_packets_per_second = most(|sample| sample.received_packets_per_second);
        figures.traffic.peak_received_mbps = most(|sample| sample.received_mbps);
        figures.server = self.server.figures();
        let (left_out, sent) = self.collector.left_out_and_sent();
        let (span, receive_drops, received) = (self.lasted, self.drops, self.collector.received());
        figures.generator = self.health.figures(&Counts { span, cpu, receive_drops, received, sent, left_out });
        let tired = figures.generator.complaints().into_iter();
        self.failures.extend(tired.map(|why| format!("{GENERATOR_TIRED}: {why}")));
        let thresholds = judge(&self.scenario.thresholds, &figures);
        let (verdict, reasons) = verdict(&self.failures, &thresholds);
        let failures = self.collector.reasons().into_iter().map(|(reason, count)| Failure { reason, count }).collect();
        RunReport {
            schema: SCHEMA,
            scenario: settings.file.clone(),
            target: self.scenario.target.service.origin(),
            pops: self.scenario.target.service.pops().to_vec(),
            seed: self.scenario.seed,
            run: format!("{:08x}", settings.run),
            started_unix_s,
            planned_s: rounded(self.plan.duration.as_secs_f64()),
            ran_s: rounded(self.lasted.as_secs_f64()),
            verdict,
            reasons,
            thresholds,
            figures,
            failures,
            not_measured: self.not_measured,
            seconds: self.seconds,
        }
    }
}

/// What arrives next; none from nowhere.
async fn next_of<T>(receiver: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    receiver.as_mut()?.recv().await
}

fn publishes(scenario: &Scenario, seat: &Seat) -> bool {
    let part = seat.part(&scenario.rooms[seat.kind]);
    part.audio || part.video
}
