//! `loadtest bench`: measures everything in turn, prints the table.

#![expect(clippy::disallowed_methods, reason = "IO: reads the date, draws the names of rooms")]

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use reqwest::Url;

use super::{
    loads::Load,
    machine,
    servers::{Elsewhere, Running, isthmus_beside_this},
    table::{Bench, Carrier, Outcome},
};
use crate::{
    client::media::Material,
    exit,
    floor::{
        plan::{Method, Row},
        sending,
    },
    run::{
        conduct::{Settings, conduct},
        live::Live,
        scenario::Server,
    },
    signals::EndSignals,
};

/// How long each way of sending is measured for the floor.
const FLOOR: Duration = Duration::from_secs(5);
/// The shortest look at memory that is to stay flat, and at calls that are to go on well.
const LONG_ENOUGH: Duration = Duration::from_secs(30);

/// What `loadtest bench --help` says beside the flags.
pub const HELP: &str = r"For each load, one after the other on the same machine: the floor (packets are sealed and sent and nothing is decided; see
`loadtest floor`), then Isthmus, then Janus, each started for that load in a folder of its own and ended after it.

  camera   one participant sends 30 pictures a second of 5 packets of 1200 B and 50 sounds of 120 B to N receivers
           and the same with the sizes of Chromium's pictures, to receivers that lose 2 % (--media, --loss)
  rooms    20 rooms, in each of which one shows a camera as above to 20: about half a core of work for one shard, with which
           forwarding is to take no longer than its goals say
  hall     10 speak, 500 listen to three of them (Isthmus: the loudest three; Janus knows no loudest: the first three)
  crowd    100 and 1000 are in one room, 10 speak, everyone hears the loudest three; with a shard for each core
  idle     1000 have joined, in rooms of 10, with slots for 3 voices and 4 pictures, and nobody says anything
  joins    50 join each second for a minute, in rooms of 10
  lossy    4 calls of two, with camera and voice, everyone by a network with a round trip of 100 ms that loses 1, 5, 10 and 20 %
           each way

What the columns say:
  us/packet      CPU time of the server's process (of the sending thread, for the floor) over RTP packets that the receivers got
                 in the seconds in which nobody came or went
  x floor        the same over the faster floor of the same load in the same run
  us/person      the same over the participants, each second
  cores          CPU time over time of the server's process
  extra          packets that the server sent beside those: padding, probes, retransmissions (Isthmus tells what it sends)
  padding        of the bytes that it sent, the share that makes packets equally long or finds out what a path carries
  KiB each       resident memory added since the start, over participants
  forwarding ms  from socket in to socket out, half of the packets / 99 in 100 (Isthmus's own histogram, from when the first packet
                 was read that was forwarded with this one: waiting for the rest of a picture, 1 ms at most, is part of it)
  MOS            mean opinion score of voices by the E-model (ITU-T G.107), 19 in 20 are better; pictures/s: decodable ones, 19
                 slots in 20 have more; frozen ms: the longest that a picture stood still
  voice ms       from a speaker's socket to a hearer's, 99 in 100 packets of speech; picture ms: to a picture's last packet
  generator      the busiest of the threads that carry clients, in its busiest 5 s: above 90 % the run does not count

A load whose run failed, or whose generator did not keep up, holds no goal. Nothing else should run on the machine meanwhile:
what others used just before a load is told below it. Goals are printed below the table, and a missed one as missed.

Isthmus runs with one shard (ISTHMUS_SFU__SHARDS=1), but for a crowd; its other settings are taken from the environment, as always.

Examples:
  loadtest bench                                            everything, about 26 minutes
  loadtest bench --loads camera --receivers 60 --rounds 3   one load three times; figures are medians
  loadtest bench --loads camera --receivers 10,20,50,100,200,500 --carriers floor,isthmus --json curve.json
  loadtest bench --isthmus http://127.0.0.1:7100 --pid-file .isthmus/pids.json --metrics http://127.0.0.1:7103/metrics

Exit codes: 0 every goal was held, 99 one was missed, 1 something could not be measured, 2 bad usage.";

/// Arguments of `loadtest bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// What to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "camera,rooms,hall,crowd,idle,joins,lossy")]
    loads: Vec<LoadName>,
    /// Numbers of receivers of one camera
    #[arg(long, value_delimiter = ',', default_value = "20,60,200", value_parser = clap::value_parser!(u32).range(1..=2000))]
    receivers: Vec<u32>,
    /// Rooms with a camera and 20 who watch it
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    rooms: u32,
    /// Listeners in the hall
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=4000))]
    listeners: u32,
    /// Participants of a crowd
    #[arg(long, value_delimiter = ',', default_value = "100,1000", value_parser = clap::value_parser!(u32).range(11..=1000))]
    crowd: Vec<u32>,
    /// Participants who do nothing
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    idle: u32,
    /// Joins each second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    joins_per_second: u32,
    /// Seconds of joins
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    join_seconds: u32,
    /// What cameras send: packets of even size, or as recorded
    #[arg(long, value_enum, value_delimiter = ',', default_value = "even,chromium")]
    media: Vec<Material>,
    /// The share of what is sent to them that receivers of recorded media lose
    #[arg(long, default_value_t = 0.02, value_parser = parse_share)]
    loss: f64,
    /// Packets of 100 that the networks of calls lose each way
    #[arg(long, value_delimiter = ',', default_value = "1,5,10,20", value_parser = clap::value_parser!(u32).range(1..=50))]
    percent_lost: Vec<u32>,
    /// Who carries the loads
    #[arg(long, value_enum, value_delimiter = ',', default_value = "floor,isthmus,janus")]
    carriers: Vec<CarrierName>,
    /// How often everything is measured; figures are medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// How long each load is held after everyone is there
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=600))]
    seconds: u64,
    /// Writes the figures as JSON to this file; `-` is standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program to measure [default: the one beside this one]
    #[arg(long, value_name = "PROGRAM")]
    isthmus_program: Option<PathBuf>,
    /// First port of the PoP that is started; 0: a free block
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    base_port: u16,
    /// A door of an Isthmus that runs already, instead of one started for each load: its memory is then not of that load alone
    #[arg(long, value_name = "URL", requires = "pid_file")]
    isthmus: Option<Url>,
    /// Names and process ids of that Isthmus (`isthmus dev` writes STATE/pids.json)
    #[arg(long, value_name = "FILE", requires = "isthmus")]
    pid_file: Option<PathBuf>,
    /// Prometheus page of its media node. Repeatable
    #[arg(long, value_name = "URL", requires = "isthmus")]
    metrics: Vec<Url>,
    /// Janus's program
    #[arg(long, default_value = "janus", value_name = "PROGRAM")]
    janus_program: PathBuf,
    /// Threads that carry clients [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadName {
    Camera,
    Rooms,
    Hall,
    Crowd,
    Idle,
    Joins,
    Lossy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CarrierName {
    Floor,
    Isthmus,
    Janus,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no share like 0.02"))?;
    if (0.0..0.5).contains(&share) { Ok(share) } else { Err("a share from 0 to below 0.5".into()) }
}

/// Runs `loadtest bench`.
pub async fn run(arguments: BenchArguments) -> anyhow::Result<ExitCode> {
    let started_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut ended = EndSignals::listen()?;
    let steps = steps(&arguments);
    let mut outcomes = Vec::new();
    let mut interrupted = false;
    for (number, (load, media, carrier)) in steps.iter().enumerate() {
        eprintln!("{} of {}: {load} by {}", number + 1, steps.len(), name(*carrier));
        let busy = machine::busy_cores().await.filter(|cores| *cores > machine::QUIET_CORES);
        let mut found = match carrier {
            CarrierName::Floor => floor(*load, *media),
            server => vec![carry(&arguments, *load, *media, *server, &mut ended).await],
        };
        if let Some(cores) = busy {
            let note = format!("others used {cores:.1} cores just before");
            for outcome in &mut found {
                outcome.notes.push(note.clone());
            }
        }
        interrupted = found.iter().any(|outcome| outcome.failures.iter().any(|why| why == "interrupted"))
            || tokio::time::timeout(Duration::ZERO, ended.next()).await.is_ok();
        outcomes.extend(found);
        if interrupted {
            eprintln!("interrupted: this is what was measured until now");
            break;
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let bench = Bench::new(started_unix_s, cores, arguments.rounds, arguments.seconds, &outcomes);
    write(&arguments, &bench)?;
    Ok(match (bench.is_whole() && !interrupted, bench.is_good()) {
        (false, _) => ExitCode::from(exit::FAILED),
        (true, false) => ExitCode::from(exit::THRESHOLD_CROSSED),
        (true, true) => ExitCode::SUCCESS,
    })
}

/// Everything that is to be measured, in order: carriers of one load come one after the other.
fn steps(arguments: &BenchArguments) -> Vec<(Load, Material, CarrierName)> {
    let mut steps = Vec::new();
    for _ in 0..arguments.rounds {
        for (load, media) in arguments.loads.iter().flat_map(|name| loads(arguments, *name)) {
            let measured = |carrier: &&CarrierName| match carrier {
                CarrierName::Floor => load.floor().is_some(),
                CarrierName::Isthmus => true,
                CarrierName::Janus => load.suits_janus(),
            };
            steps.extend(arguments.carriers.iter().filter(measured).map(|carrier| (load, media, *carrier)));
        }
    }
    steps
}

fn loads(arguments: &BenchArguments, name: LoadName) -> Vec<(Load, Material)> {
    match name {
        LoadName::Camera => {
            let of = |media: &Material| {
                let media = *media;
                arguments.receivers.iter().map(move |receivers| (Load::Camera { receivers: *receivers }, media))
            };
            arguments.media.iter().flat_map(of).collect()
        }
        LoadName::Rooms => vec![(Load::Rooms { rooms: arguments.rooms }, Material::Even)],
        LoadName::Hall => vec![(Load::Hall { listeners: arguments.listeners }, Material::Even)],
        LoadName::Crowd => {
            arguments.crowd.iter().map(|people| (Load::Crowd { participants: *people }, Material::Even)).collect()
        }
        LoadName::Idle => vec![(Load::Idle { participants: arguments.idle }, Material::Even)],
        LoadName::Joins => {
            let (per_second, seconds) = (arguments.joins_per_second, arguments.join_seconds);
            vec![(Load::Joins { per_second, seconds }, Material::Even)]
        }
        LoadName::Lossy => {
            arguments.percent_lost.iter().map(|percent| (Load::Lossy { percent: *percent }, Material::Clip)).collect()
        }
    }
}

fn name(carrier: CarrierName) -> &'static str {
    match carrier {
        CarrierName::Floor => "nobody: the floor",
        CarrierName::Isthmus => "Isthmus",
        CarrierName::Janus => "Janus",
    }
}

/// Both ways of sending. Not async: it measures the thread it runs on.
fn floor(load: Load, media: Material) -> Vec<Outcome> {
    let Some((streams, receivers)) = load.floor() else { return Vec::new() };
    let measure = |method: Method| -> anyhow::Result<f64> {
        let counted = sending::paced(streams, receivers, method, FLOOR)?;
        Ok(Row::new(receivers, method, &counted)?.us_per_packet)
    };
    let of = |(method, carrier)| match measure(method) {
        Ok(us) => Outcome::of_floor(load, media, carrier, us),
        Err(error) => Outcome::failed(load, media, carrier, format!("{error:#}")),
    };
    [(Method::Sendto, Carrier::FloorSendto), (Method::Gso, Carrier::FloorGso)].map(of).into()
}

/// Starts a server, puts the load on it, ends it.
async fn carry(
    arguments: &BenchArguments,
    load: Load,
    media: Material,
    server: CarrierName,
    ended: &mut EndSignals,
) -> Outcome {
    let carrier = if server == CarrierName::Janus { Carrier::Janus } else { Carrier::Isthmus };
    let measured = async {
        let running = start(arguments, load, server).await?;
        let (target, seen) = (running.target.clone(), running.server.clone());
        let hold = Duration::from_secs(arguments.seconds);
        let hold = if matches!(load, Load::Idle { .. } | Load::Lossy { .. }) { hold.max(LONG_ENOUGH) } else { hold };
        let loss = if media == Material::Even { 0.0 } else { arguments.loss };
        let scenario = load.scenario(media, loss, target, seen, hold);
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = Settings {
            file: load.to_string(),
            threads: arguments.threads.map_or_else(cores, usize::from),
            processes: None,
            run: rand::random(),
        };
        let mut live = Live::new(scenario.duration())?;
        let report = Box::pin(conduct(&scenario, settings, &mut live, ended.next())).await;
        live.end();
        running.end().await?;
        anyhow::Ok(Outcome::of_run(load, media, carrier, &report?))
    };
    measured.await.unwrap_or_else(|error| Outcome::failed(load, media, carrier, format!("{error:#}")))
}

async fn start(arguments: &BenchArguments, load: Load, server: CarrierName) -> anyhow::Result<Running> {
    match (server, &arguments.isthmus) {
        (CarrierName::Janus, _) => Running::janus(&arguments.janus_program).await,
        (_, Some(url)) => {
            let pid_files = arguments.pid_file.iter().cloned().collect();
            let server = Server { pid_files, metrics: arguments.metrics.clone(), ..Server::default() };
            Ok(Running::elsewhere(&Elsewhere { url: url.clone(), server }))
        }
        (_, None) => {
            let program = arguments.isthmus_program.clone().unwrap_or_else(isthmus_beside_this);
            Running::isthmus(&program, arguments.base_port, load.shards()).await
        }
    }
}

fn write(arguments: &BenchArguments, bench: &Bench) -> anyhow::Result<()> {
    let json = || serde_json::to_string_pretty(bench);
    let mut out = std::io::stdout().lock();
    match arguments.json.as_deref() {
        Some(file) if file.as_os_str() == "-" => return Ok(writeln!(out, "{}", json()?)?),
        Some(file) => {
            let written = std::fs::write(file, json()? + "\n");
            written.with_context(|| format!("cannot write the figures to {}", file.display()))?;
        }
        None => {}
    }
    Ok(write!(out, "{bench}")?)
}
