//! `loadtest floor`: measures, prints the table.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    plan::{Floor, Method, Row, Streams},
    sending,
};

/// What `loadtest floor --help` says beside the flags.
pub const HELP: &str = "\
One stream, 30 pictures a second of 5 packets of 1200 bytes and a voice of 50 packets a second of 120 bytes, is sealed (AES-256-GCM,
as SRTP does) for each of N receivers on loopback and sent: once with a system call per packet, once with one per receiver and
picture, which the kernel cuts into packets (UDP GSO). The figure is the CPU time of the sending thread, the kernel's part of
it included, over the packets it sent.

How to read it: a media node decrypts, chooses and rewrites besides, so it costs more. CPU time of its process over the packets that
it sent (process_cpu_seconds_total over isthmus_rtp_packets_total{direction=\"out\"}), divided by the GSO line with as many
receivers, says how much more. Measure both on the same machine within minutes: the floor differs between machines, and
on one machine with its load. Packets on loopback are received in the sender's time; a network card's are not.

Examples:
  loadtest floor                                  a table, about 25 s
  loadtest floor --receivers 60 --seconds 10      one number of receivers, a steadier figure
  loadtest floor --json floor.json                the same as JSON beside the table; - prints JSON alone

Exit codes: 0 measured, 1 it could not be (packets did not arrive, no UDP GSO), 2 bad usage.";

/// Arguments of `loadtest floor`.
#[derive(Debug, Args)]
pub struct FloorArguments {
    /// Numbers of receivers to measure with
    #[arg(long, value_delimiter = ',', default_value = "20,60,200", value_parser = clap::value_parser!(u16).range(1..=500))]
    receivers: Vec<u16>,
    /// How long to measure each line of the table
    #[arg(long, default_value_t = 3.0, value_parser = parse_seconds)]
    seconds: f64,
    /// Writes the figures as JSON to this file; `-` is standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if (0.1..=600.0).contains(&seconds) { Ok(seconds) } else { Err("a time from 0.1 to 600 seconds".into()) }
}

/// Runs `loadtest floor`. Not async: it measures the thread it runs on.
pub fn run(arguments: &FloorArguments) -> anyhow::Result<ExitCode> {
    let floor = measure(arguments)?;
    let mut out = std::io::stdout().lock();
    match arguments.json.as_deref() {
        Some(file) if file.as_os_str() == "-" => writeln!(out, "{}", serde_json::to_string_pretty(&floor)?)?,
        Some(file) => {
            let written = std::fs::write(file, serde_json::to_string_pretty(&floor)?);
            written.with_context(|| format!("cannot write the figures to {}", file.display()))?;
            write!(out, "{floor}")?;
        }
        None => write!(out, "{floor}")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(arguments: &FloorArguments) -> anyhow::Result<Floor> {
    let duration = Duration::from_secs_f64(arguments.seconds);
    let lines: Vec<_> = arguments.receivers.iter().flat_map(|n| [(*n, Method::Sendto), (*n, Method::Gso)]).collect();
    let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {msg} {elapsed}")?;
    let progress = ProgressBar::new(lines.len() as u64 + 1).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(200));
    let mut paced = Vec::with_capacity(lines.len());
    for (receivers, method) in lines {
        progress.set_message(format!("{receivers} receivers, {method}"));
        let counted = sending::paced(Streams::Camera, receivers.into(), method, duration)?;
        paced.push(Row::new(receivers.into(), method, &counted)?);
        progress.inc(1);
    }
    progress.set_message("flat out");
    let alone = sending::alone(duration / 3)?;
    progress.finish_and_clear();
    Ok(Floor { seconds: arguments.seconds, paced, alone })
}
