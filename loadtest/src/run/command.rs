//! `loadtest run`: reads a scenario, runs it, writes reports.

#![expect(clippy::disallowed_methods, reason = "IO: draws the name of the run's rooms")]

use std::{
    ffi::OsString,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use isthmus_protocol::PopId;
use reqwest::Url;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    agent,
    conduct::{Settings, Spawn, conduct},
    html,
    live::Live,
    report::RunReport,
    scenario::{Scenario, Service},
    threshold::Threshold,
};
use crate::{exit, signals::EndSignals};

/// What `loadtest run --help` says beside the flags.
pub const HELP: &str = r#"A scenario, with every key (only [target] url, one [[stage]] and one [[rooms]] must be there):
  seed = 1                        # one seed is one load: which rooms, who leaves when
  thresholds = ["joins.failed == 0", "join_ms.p95 <= 250", "loss.share < 0.001"]

  [target]
  kind = "isthmus"                # default; or "whip" or "janus", below
  url = "http://127.0.0.1:7100"   # any door; each client looks for the nearest PoP, as a browser does
  pops = ["panama", "zurich"]     # or those of a room join by these, one after the other
  ca = "ca.pem"                   # trusts this authority alone; paths stand beside the scenario

  [server]                        # what can be seen of the target; without it the server.* figures are null
  pid_file = "pids.json"          # names and process ids, as `isthmus dev` writes them: takes the media nodes
  processes = ["panama-sfu-1"]    # or these of the file
  pids = [4711]                   # or just process ids
  metrics = ["http://127.0.0.1:7103/metrics"]   # of the media nodes: how many packets they send

  [[stage]]                       # one after the other
  duration = "30s"
  participants = 120              # so many at the end of the ramp; or rooms = 20; or joins_per_second = 50
  ramp = "20s"                    # default: the whole stage
  [[stage]]
  duration = "1m"                 # nothing else: everyone stays

  [[rooms]]                       # kinds of rooms; they fill one after the other, publishers first
  name = "meeting"
  weight = 3                      # how often among the kinds (default 1); or count = 10 of each kind
  participants = 6
  audio_publishers = 6            # who speaks (default: everyone)
  video_publishers = 4            # who shows a camera (default: nobody)
  simulcast = true                # cameras in three layers
  viewers = 6                     # who watches (default: everyone)
  audio_slots = 3                 # receive slots of each (default 3)
  video_slots = 4                 # of each viewer (default: as many as there are cameras, at most 9)
  judges = 2                      # so many of those who only listen decrypt and judge what they hear (default: everyone); the
                                  # others count packets by their headers, which costs this program less and shows no
                                  # delay, jitter or MOS
  tile_height = 360               # pixels at which viewers show a picture: decides the layer (default 360)
  media = "clip"                  # default: real VP8 and Opus; or "even": 5 packets of 1200 B a picture, sounds of 120 B;
                                  # or "chromium": pictures of sizes that Chromium's encoder made, 1.5 Mbit/s
  networks = { mobile = 0.3 }     # this share of the participants has that network; the others that of this machine

  [networks.mobile]               # of clients' UDP, each way; all keys optional. Signalling goes unhindered
  loss = 0.02                     # a share, 0 to 1
  delay_ms = 40
  jitter_ms = 10
  reorder = false                 # whether jitter lets packets overtake
  [networks.mobile.down]          # or up: what is said here is of one way
  rate_mbps = 4
  queue_ms = 200                  # longest wait behind the rate; then packets are dropped

  [churn]
  per_minute = 0.2                # this share of those present leaves each minute, at any moment,
  away = "2s"                     # and comes back after so long

Other targets. There a session goes one way: who publishes neither watches nor listens.
  [target]
  kind = "whip"                   # any server with WHIP (RFC 9725) and WHEP; {room} becomes the room's name
  whip = "http://127.0.0.1:7100/v1/rooms/{room}/whip"
  whep = "http://127.0.0.1:7100/v1/rooms/{room}/whep"
  guests = "http://127.0.0.1:7100/v1/rooms/{room}/guests"   # an Isthmus door gives each a token; or token = "..." for all
  [target]
  kind = "janus"                  # the videoroom, by WebSocket; viewers watch whole feeds, as many as they have slots.
  url = "ws://127.0.0.1:8188"     # Publishers make the rooms, which stay until Janus ends
  secret = "..."                  # its api_secret, if it has one

Thresholds compare a figure with a number by <=, >=, ==, !=, < or >. Figures have the paths of the report's JSON, among them
joins.{planned,joined,failed,ended_early,failed_share}, join_ms.{p50,p95,p99,max}, phases.token_ms.p95, first_packet_ms.p95,
first_frame_ms.p95, loss.{share,audio_share,video_share,worst_client_share}, audio_jitter_ms.p95, voice_delay_ms.p99, picture_delay_ms.p99, voice_mos.p5, frames_per_second.p5,
freezes.per_minute, server.cpu_us_per_packet, server.memory_kib_per_participant, generator.busiest_thread_share; a wrong name
is answered with all of them. A figure that was not measured holds no threshold.

The run ends early, with a report of what was measured until then, when the target is not there, refuses 20 joins in a row,
drops everyone, or sends nothing for 10 s; and with Ctrl-C. The door counts every client as the one network that they come
from: raise its limits ([gateway.limits]), as `isthmus dev` does, or it refuses most of them.

This program watches itself. If a thread of it was busy more than 90 % of 5 s, 1 in 100 timers more than 20 ms late, more than
1 in 10,000 packets dropped by the kernel because it did not read them in time, or 1 in 1,000 not sent in time, then the run fails.

With --generators K participants are dealt out among K processes of this program, which one report joins: their delays and
counts, not averages of averages. A generator that is gone fails the run.

Examples:
  loadtest run loadtest/scenarios/meeting.toml
  loadtest run loadtest/scenarios/bad-networks.toml --generators 2
  loadtest run loadtest/scenarios/audio-room.toml --json report.json --html report.html --threshold 'loss.share < 0.001'
  loadtest run loadtest/scenarios/one-to-one.toml --url https://zurich.example.org --pop zurich
  loadtest run loadtest/scenarios/audio-room.toml --pid-file .isthmus/pids.json --metrics http://127.0.0.1:7103/metrics

Exit codes: 0 passed, 99 a threshold was crossed, 2 bad usage (with file, line and key), 1 the run itself failed."#;

/// Arguments of `loadtest run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// What load to make on which target
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Writes the report as JSON to this file; `-` is standard output, instead of the summary
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the report as one HTML page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What must hold beside the scenario's own thresholds, such as `join_ms.p95 <= 250`. Repeatable
    #[arg(long, value_name = "EXPR")]
    threshold: Vec<Threshold>,
    /// Door to ask instead of the scenario's
    #[arg(long)]
    url: Option<Url>,
    /// PoPs that those of a room join by, one after the other, instead of the scenario's or the nearest
    #[arg(long, value_delimiter = ',')]
    pop: Vec<PopId>,
    /// Certificate authority to trust, alone, as a PEM file, instead of the scenario's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Names and process ids of the target (`isthmus dev` writes STATE/pids.json), beside the scenario's
    #[arg(long, value_name = "FILE")]
    pid_file: Vec<PathBuf>,
    /// Prometheus page of a media node, beside the scenario's. Repeatable
    #[arg(long, value_name = "URL")]
    metrics: Vec<Url>,
    /// Seed instead of the scenario's
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that carry clients, in each generator process [default: one for each core, or one in each of several]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Processes of this program among which the participants are dealt out, joined into one report; one is this process
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    generators: u16,
    /// Is one of those processes
    #[arg(long, hide = true)]
    agent: bool,
}

/// Runs `loadtest run`.
pub async fn run(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let scenario = scenario(&arguments)?;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if arguments.agent {
        // Ctrl-C reaches the whole group of processes; the one that gives orders says when to leave.
        let _interrupts = signal(SignalKind::interrupt())?;
        agent::run(&scenario, arguments.threads.map_or_else(cores, usize::from)).await?;
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything else: an interrupted run has a report too.
    let mut ended = EndSignals::listen()?;
    let settings = Settings {
        file: arguments.scenario.display().to_string(),
        threads: match arguments.threads {
            Some(threads) => threads.into(),
            None if arguments.generators > 1 => 1,
            None => cores(),
        },
        processes: (arguments.generators > 1).then(|| spawn(&arguments)).transpose()?,
        run: rand::random(),
    };
    let mut live = Live::new(scenario.duration())?;
    let report = Box::pin(conduct(&scenario, settings, &mut live, ended.next())).await;
    live.end();
    let report = report?;
    write_reports(&arguments, &report)?;
    Ok(report.verdict.exit_code())
}

/// The generator processes: the same program with what the command line says of the scenario.
fn spawn(arguments: &RunArguments) -> anyhow::Result<Spawn> {
    let program = std::env::current_exe().context("this program does not find itself")?;
    let mut passed: Vec<OsString> = vec!["run".into(), arguments.scenario.clone().into(), "--agent".into()];
    passed.extend(["--threads".into(), arguments.threads.unwrap_or(1).to_string().into()]);
    let mut pass = |flag: &str, value: OsString| passed.extend([flag.into(), value]);
    if let Some(url) = &arguments.url {
        pass("--url", url.as_str().into());
    }
    for pop in &arguments.pop {
        pass("--pop", pop.as_str().into());
    }
    if let Some(ca) = &arguments.ca {
        pass("--ca", ca.into());
    }
    if let Some(seed) = arguments.seed {
        pass("--seed", seed.to_string().into());
    }
    Ok(Spawn { count: arguments.generators, program, arguments: passed })
}

/// The scenario's file with what the command line says over it.
fn scenario(arguments: &RunArguments) -> anyhow::Result<Scenario> {
    let mut scenario = Scenario::read(&arguments.scenario).map_err(|error| exit::BadUsage(error.to_string()))?;
    match (&mut scenario.target.service, &arguments.url) {
        (Service::Isthmus { url, .. } | Service::Janus { url, .. }, Some(other)) => url.clone_from(other),
        (Service::Whip { .. }, Some(_)) => {
            return Err(exit::BadUsage("--url does not go with a target of kind whip: write its URLs".into()).into());
        }
        (_, None) => {}
    }
    if !arguments.pop.is_empty() {
        let Service::Isthmus { pops, .. } = &mut scenario.target.service else {
            return Err(exit::BadUsage("--pop goes with a target of kind isthmus alone".into()).into());
        };
        pops.clone_from(&arguments.pop);
    }
    if arguments.ca.is_some() {
        scenario.target.authority.clone_from(&arguments.ca);
    }
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    scenario.server.pid_files.extend(arguments.pid_file.iter().cloned());
    scenario.server.metrics.extend(arguments.metrics.iter().cloned());
    scenario.thresholds.extend(arguments.threshold.iter().cloned());
    Ok(scenario)
}

fn write_reports(arguments: &RunArguments, report: &RunReport) -> anyhow::Result<()> {
    let write = |file: &Path, text: String| {
        std::fs::write(file, text).with_context(|| format!("cannot write the report to {}", file.display()))
    };
    if let Some(file) = &arguments.html {
        write(file, html::page(report))?;
    }
    let json = || serde_json::to_string_pretty(report);
    let mut out = std::io::stdout().lock();
    match arguments.json.as_deref() {
        Some(file) if file.as_os_str() == "-" => return Ok(writeln!(out, "{}", json()?)?),
        Some(file) => write(file, json()? + "\n")?,
        None => {}
    }
    Ok(summarise(&mut out, report)?)
}

fn summarise(out: &mut impl Write, report: &RunReport) -> std::io::Result<()> {
    let figures = &report.figures;
    let or_dash = |value: Option<f64>, unit: &str| value.map_or("-".into(), |value| format!("{value}{unit}"));
    let percent = |share: Option<f64>| or_dash(share.map(|share| (share * 1e6).round() / 1e4), " %");
    let joins = &figures.joins;
    writeln!(
        out,
        "joins     {} of {} joined, {} failed, {} ended early, {} at once; p50 {}, p95 {}, p99 {}",
        joins.joined,
        joins.planned,
        joins.failed,
        joins.ended_early,
        joins.most_at_once,
        or_dash(figures.join_ms.p50, " ms"),
        or_dash(figures.join_ms.p95, " ms"),
        or_dash(figures.join_ms.p99, " ms"),
    )?;
    writeln!(
        out,
        "media     {} packets received, {} lost, jitter of sound p95 {}, pictures/s p5 {}, freezes/min {}",
        figures.traffic.received_packets,
        percent(figures.loss.share),
        or_dash(figures.audio_jitter_ms.p95, " ms"),
        or_dash(figures.frames_per_second.p5, ""),
        or_dash(figures.freezes.per_minute, ""),
    )?;
    writeln!(
        out,
        "voices    {} under way p50, {} p99; E-model MOS p5 {}",
        or_dash(figures.voice_delay_ms.p50, " ms"),
        or_dash(figures.voice_delay_ms.p99, " ms"),
        or_dash(figures.voice_mos.p5, ""),
    )?;
    let server = &figures.server;
    writeln!(
        out,
        "target    {} cores, {} packets/s sent, {} per packet, {} per participant",
        or_dash(server.cpu_cores, ""),
        or_dash(server.packets_out_per_second, ""),
        or_dash(server.cpu_us_per_packet, " us CPU"),
        or_dash(server.memory_kib_per_participant, " KiB"),
    )?;
    let own = &figures.generator;
    writeln!(
        out,
        "self      {} cores, busiest thread {}, timers p99 {} late, {} packets dropped by the kernel",
        or_dash(own.cpu_cores, ""),
        percent(own.busiest_thread_share),
        or_dash(own.timer_late_p99_ms, " ms"),
        own.receive_drops.map_or("-".into(), |drops| drops.to_string()),
    )?;
    for judged in &report.thresholds {
        let held = if judged.held { "held   " } else { "CROSSED" };
        writeln!(out, "{held}   {} ({})", judged.threshold, or_dash(judged.value, ""))?;
    }
    for failure in &report.failures {
        writeln!(out, "{:>7} x {}", failure.count, failure.reason)?;
    }
    for problem in &report.not_measured {
        writeln!(out, "not measured: {problem}")?;
    }
    for reason in &report.reasons {
        writeln!(out, "FAILED: {reason}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_in_the_help_and_the_examples_can_be_read() {
        let shown = HELP.split_once('\n').and_then(|(_, rest)| rest.split_once("\nOther targets"));
        let (scenario, rest) = shown.expect("the help has a scenario");
        Scenario::parse("help", scenario).expect("good");
        let targets = rest.split_once("\nThresholds compare").expect("other targets come before").0.split("[target]");
        let others = scenario.split_once("[server]").expect("the target comes before").1;
        for target in targets.skip(1) {
            Scenario::parse("help", &format!("[target]\n{target}\n[server]\n{others}")).expect("good");
        }
        for (file, text) in [
            ("one-to-one.toml", include_str!("../../scenarios/one-to-one.toml")),
            ("meeting.toml", include_str!("../../scenarios/meeting.toml")),
            ("audio-room.toml", include_str!("../../scenarios/audio-room.toml")),
            ("across-pops.toml", include_str!("../../scenarios/across-pops.toml")),
            ("one-to-many.toml", include_str!("../../scenarios/one-to-many.toml")),
            ("bad-networks.toml", include_str!("../../scenarios/bad-networks.toml")),
            ("whip.toml", include_str!("../../scenarios/whip.toml")),
            ("janus.toml", include_str!("../../scenarios/janus.toml")),
        ] {
            let scenario = Scenario::parse(file, text).expect("good");
            assert!(!scenario.thresholds.is_empty(), "{file} would pass whatever happens");
        }
    }
}
