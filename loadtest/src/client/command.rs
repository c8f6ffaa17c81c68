//! `loadtest join`: one headless client in one room.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the core, draws where the speech begins")]

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use isthmus_protocol::{PopId, RoomId};
use reqwest::Url;

use super::{
    drive::{Driver, Link, media_socket, open_signalling},
    join::{Doors, JoinOptions},
    media::{Library, Material},
    report::Report,
    session::{Client, ClientConfig, Measuring},
    signalling::{Signalling, isthmus},
};
use crate::{duration::parse_duration, exit};

/// Arguments of `loadtest join`.
#[derive(Debug, Args)]
pub struct JoinArguments {
    /// Origin of any PoP's door, such as `http://127.0.0.1:7100`
    #[arg(long)]
    url: Url,
    /// Room to join
    #[arg(long)]
    room: RoomId,
    /// Name that others see
    #[arg(long, default_value = "loadtest")]
    name: String,
    /// What to publish
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..)]
    publish: Vec<Published>,
    /// Publishes the camera in three layers (320x180, 640x360, 1280x720) instead of the largest alone
    #[arg(long)]
    simulcast: bool,
    /// Receive slots for sound
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=8))]
    audio_slots: u8,
    /// Receive slots for pictures
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=48))]
    video_slots: u8,
    /// Height that received pictures are shown at, in pixels: decides which layer is asked for
    #[arg(long, default_value_t = 720, value_name = "PIXELS")]
    tile_height: u16,
    /// How long to stay: 30s, 5m; Ctrl-C leaves earlier
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Joins by this PoP instead of the nearest
    #[arg(long)]
    pop: Option<PopId>,
    /// How media travels
    #[arg(long, value_enum, default_value = "udp")]
    ice: Ice,
    /// Certificate authority to trust, alone, as a PEM file: the development cluster has its own
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Writes the report as JSON to this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Published {
    Audio,
    Video,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ice {
    /// ICE over UDP
    Udp,
    /// ICE over TCP alone (RFC 6544), as behind a firewall that drops UDP
    Tcp,
}

/// Runs `loadtest join`. Exit code 1 if the client did not get into the call, or was thrown out.
pub async fn run(arguments: JoinArguments) -> anyhow::Result<ExitCode> {
    let line = ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    line.enable_steady_tick(Duration::from_millis(200));
    let client = Box::pin(stay(&arguments, &line)).await;
    line.finish_and_clear();
    let client = client?;
    let report = client.report(Instant::now());
    let mut out = std::io::stdout().lock();
    match arguments.json.as_deref() {
        Some(file) if file.as_os_str() == "-" => writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?,
        Some(file) => {
            let text = serde_json::to_string_pretty(&report)?;
            std::fs::write(file, text).with_context(|| format!("cannot write the report to {}", file.display()))?;
            print_summary(&mut out, &report)?;
        }
        None => print_summary(&mut out, &report)?,
    }
    let good = client.is_connected() && report.ended.is_none();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

async fn stay(arguments: &JoinArguments, line: &ProgressBar) -> anyhow::Result<Client> {
    // The first random bytes of a process take aws-lc 50 ms to seed itself by. A browser has long done that.
    aws_lc_rs::rand::fill(&mut [0; 16]).context("there is no randomness")?;
    line.set_message("finding the nearest PoP");
    let library = Library::built_in();
    let doors = Doors::new(arguments.ca.as_deref())?;
    let options = JoinOptions {
        url: arguments.url.clone(),
        room: arguments.room.clone(),
        name: arguments.name.clone(),
        pop: arguments.pop.clone(),
    };
    let mut ticket = doors.join(&options).await?;
    let signalling = open_signalling(&ticket, doors.tls()).await?;
    ticket.times.socket = Some(Instant::now());
    let udp = match arguments.ice {
        Ice::Udp => Some(media_socket(&ticket.door).await?),
        Ice::Tcp => None,
    };
    let address = udp.as_ref().map(|(_, address)| *address);
    let dialogue = Signalling::Isthmus(isthmus::Dialogue::new(ticket.pop, ticket.probes));
    let client = Client::new(config(arguments), library, dialogue, ticket.times, address, Instant::now())?;
    let watch = |client: &mut Client, now| line.set_message(client.live_line(now));
    let client = Box::pin(
        Driver::new(client, Link::Socket(Box::new(signalling)), udp).run(end_of_stay(arguments.duration), watch),
    )
    .await;
    // It ends by itself in time; a panic in it would be ours to see.
    ticket.reporting.await.context("the report of what was measured failed")?;
    client
}

/// After `duration`, or earlier with Ctrl-C: the client then leaves and reports as usual.
async fn end_of_stay(duration: Duration) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        // Without the handler Ctrl-C would have ended the process.
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn config(arguments: &JoinArguments) -> ClientConfig {
    ClientConfig {
        name: arguments.name.clone(),
        room: arguments.room.clone(),
        audio: arguments.publish.contains(&Published::Audio),
        video: arguments.publish.contains(&Published::Video),
        material: Material::Clip,
        simulcast: arguments.simulcast,
        audio_slots: arguments.audio_slots.into(),
        video_slots: arguments.video_slots.into(),
        tile_height: arguments.tile_height,
        speech_offset: usize::from(rand::random::<u16>()),
        // Others are in other processes.
        stamps: None,
        measuring: Measuring::Judges,
    }
}

fn print_summary(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let at = |ms: Option<f64>| ms.map_or_else(|| "-".into(), |ms| format!("{ms:.0} ms"));
    let join = &report.join;
    writeln!(
        out,
        "joined {} by {}: welcome {}, answer {}, ICE {}, DTLS {}, first packet {}, first frame {}",
        report.room,
        report.pop.as_ref().map_or("-", PopId::as_str),
        at(join.welcome_ms),
        at(join.answer_ms),
        at(join.ice_ms),
        at(join.dtls_ms),
        at(join.first_packet_ms),
        at(join.first_frame_ms)
    )?;
    writeln!(out, "sent {} packets; {} participants", report.sent.packets, report.participants)?;
    for slot in report.slots.iter().filter(|slot| slot.packets > 0) {
        write!(
            out,
            "slot {} {:?}: {} packets, {} lost, jitter {}, {} kbit/s",
            slot.mid,
            slot.kind,
            slot.packets,
            slot.lost,
            slot.jitter_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms")),
            slot.bitrate_kbps
        )?;
        if let Some(video) = &slot.video {
            let size = video.width.zip(video.height).map_or_else(String::new, |(w, h)| format!("{w}x{h}, "));
            write!(
                out,
                ", {size}{} frames/s, {} freezes ({} ms)",
                video.frames_per_second, video.freezes, video.freeze_ms
            )?;
        }
        writeln!(out)?;
    }
    for error in &report.errors {
        writeln!(out, "error: {error}")?;
    }
    Ok(())
}
