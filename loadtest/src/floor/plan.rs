//! What is sent when, and the figures made of what was measured. No sockets, no clock.

use std::{fmt, time::Duration};

use serde::Serialize;

/// Pictures a second.
const FRAMES_PER_SECOND: u32 = 30;
/// Packets of one picture: 1.4 Mbit/s at 30 pictures a second.
const PACKETS_PER_FRAME: usize = 5;
/// Packets of one voice a second, as Opus is sent.
const VOICE_PACKETS_PER_SECOND: u32 = 50;

/// Packets of equal length that go to each receiver at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Burst {
    /// A picture.
    Frame,
    /// A packet of speech.
    Voice,
}

impl Burst {
    /// How many packets.
    pub fn packets(self) -> usize {
        match self {
            Self::Frame => PACKETS_PER_FRAME,
            Self::Voice => 1,
        }
    }

    /// RTP payload of each.
    pub fn payload_bytes(self) -> usize {
        match self {
            Self::Frame => 1200,
            Self::Voice => 120,
        }
    }
}

/// What is sent to each receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// One stream of pictures and one voice: someone who shows a camera.
    Camera,
    /// So many voices, at moments that are spread evenly.
    Voices(u32),
}

impl Streams {
    fn frames_per_second(self) -> u32 {
        match self {
            Self::Camera => FRAMES_PER_SECOND,
            Self::Voices(_) => 0,
        }
    }

    fn voices(self) -> u32 {
        match self {
            Self::Camera => 1,
            Self::Voices(voices) => voices,
        }
    }
}

/// The moments at which something is sent, until `duration`.
#[derive(Debug)]
pub struct Schedule {
    streams: Streams,
    duration: Duration,
    frames: u32,
    voice_packets: u32,
}

impl Schedule {
    /// From the beginning.
    pub fn new(streams: Streams, duration: Duration) -> Self {
        Self { streams, duration, frames: 0, voice_packets: 0 }
    }
}

impl Iterator for Schedule {
    type Item = (Duration, Burst);

    fn next(&mut self) -> Option<Self::Item> {
        // None for what is never sent.
        let moment = |number: u32, per_second: u32| (Duration::from_secs(1) * number).checked_div(per_second);
        let frame_at = moment(self.frames, self.streams.frames_per_second());
        let voice_at = moment(self.voice_packets, VOICE_PACKETS_PER_SECOND * self.streams.voices());
        let frame_is_next = frame_at.is_some_and(|frame| voice_at.is_none_or(|voice| frame <= voice));
        let (at, burst) = if frame_is_next {
            self.frames += 1;
            (frame_at?, Burst::Frame)
        } else {
            self.voice_packets += 1;
            (voice_at?, Burst::Voice)
        };
        (at < self.duration).then_some((at, burst))
    }
}

/// How packets are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// One system call per packet.
    Sendto,
    /// One system call per receiver and burst: the kernel cuts it into packets (UDP GSO).
    Gso,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sendto => "sendto per packet",
            Self::Gso => "GSO per receiver",
        })
    }
}

/// What was counted while packets were sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Sent.
    pub sent: u64,
    /// Read by the receivers.
    pub received: u64,
    /// CPU time of the sending thread, the kernel's work for it included.
    pub cpu: Duration,
    /// The longest that a burst was late: more than an interval means that the machine does not keep up.
    pub latest: Duration,
}

impl Counted {
    /// CPU time per packet sent, in microseconds; none if nothing was sent.
    pub fn us_per_packet(&self) -> Option<f64> {
        (self.sent > 0).then(|| self.cpu.as_secs_f64() * 1e6 / self.sent as f64)
    }
}

/// One line of the paced table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Receivers of the one stream.
    pub receivers: usize,
    /// How it was sent.
    pub method: Method,
    /// Packets sent.
    pub packets: u64,
    /// CPU time of the sending thread for each.
    pub us_per_packet: f64,
    /// The share of them that receivers read.
    pub delivered: f64,
    /// The longest that a burst was late.
    pub latest_ms: f64,
}

/// Too many lost packets, or none sent, make no figure.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoFigure {
    /// The schedule was empty.
    #[error("nothing was sent: measure for longer")]
    NothingSent,
    /// A packet that is dropped on the way costs less than one that arrives.
    #[error("only {received} of {sent} packets arrived: the machine is too busy, try again")]
    Lost {
        /// Sent.
        sent: u64,
        /// Read by the receivers.
        received: u64,
    },
}

/// The least share of packets that must arrive, in percent.
const LEAST_DELIVERED_PERCENT: u64 = 98;

impl Row {
    /// The line for what was counted.
    pub fn new(receivers: usize, method: Method, counted: &Counted) -> Result<Self, NoFigure> {
        let &Counted { sent, received, latest, .. } = counted;
        let us_per_packet = counted.us_per_packet().ok_or(NoFigure::NothingSent)?;
        if received * 100 < sent * LEAST_DELIVERED_PERCENT {
            return Err(NoFigure::Lost { sent, received });
        }
        let delivered = received as f64 / sent as f64;
        Ok(Self { receivers, method, packets: sent, us_per_packet, delivered, latest_ms: latest.as_secs_f64() * 1e3 })
    }
}

/// What one step costs flat out, in microseconds of CPU time per packet.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Alone {
    /// Sealing a packet of a picture.
    pub seal_frame_us: f64,
    /// Sealing a packet of speech.
    pub seal_voice_us: f64,
    /// Sending a packet of a picture, one system call for each.
    pub sendto_us: f64,
}

/// All figures.
#[derive(Debug, Clone, Serialize)]
pub struct Floor {
    /// How long each line was measured.
    pub seconds: f64,
    /// At the pace of a call.
    pub paced: Vec<Row>,
    /// Flat out.
    pub alone: Alone,
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "receivers  sent by            us per packet  packets  delivered  latest")?;
        for row in &self.paced {
            writeln!(
                f,
                "{:>9}  {:<17}  {:>13.2}  {:>7}  {:>8.1}%  {:>3.0} ms",
                row.receivers,
                row.method,
                row.us_per_packet,
                row.packets,
                row.delivered * 100.0,
                row.latest_ms
            )?;
        }
        let Alone { seal_frame_us, seal_voice_us, sendto_us } = self.alone;
        writeln!(
            f,
            "flat out: sealing {} B {seal_frame_us:.2} us, {} B {seal_voice_us:.2} us; sendto {sendto_us:.2} us",
            Burst::Frame.payload_bytes(),
            Burst::Voice.payload_bytes()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_pictures_and_its_speech_in_order() {
        let moments: Vec<_> = Schedule::new(Streams::Camera, Duration::from_secs(2)).collect();
        assert!(moments.is_sorted_by_key(|(at, _)| *at));
        let count = |wanted| moments.iter().filter(|(_, burst)| *burst == wanted).count();
        assert_eq!((count(Burst::Frame), count(Burst::Voice)), (60, 100));
        let packets: usize = moments.iter().map(|(_, burst)| burst.packets()).sum();
        assert_eq!(packets, 2 * (30 * 5 + 50));
        assert_eq!(moments.last(), Some(&(Duration::from_millis(1980), Burst::Voice)));
        assert_eq!(Schedule::new(Streams::Camera, Duration::ZERO).next(), None);
        let voices: Vec<_> = Schedule::new(Streams::Voices(3), Duration::from_secs(1)).collect();
        assert!(voices.len() == 150 && voices.iter().all(|(_, burst)| *burst == Burst::Voice), "{voices:?}");
        assert_eq!(Schedule::new(Streams::Voices(0), Duration::from_secs(1)).next(), None);
    }

    #[test]
    fn cost_is_cpu_time_over_packets_and_needs_packets_that_arrive() {
        let counted =
            Counted { sent: 4000, received: 4000, cpu: Duration::from_millis(10), latest: Duration::from_millis(3) };
        let row = Row::new(20, Method::Gso, &counted).expect("all arrived");
        assert!((row.us_per_packet - 2.5).abs() < 1e-9 && (row.delivered - 1.0).abs() < 1e-9, "{row:?}");
        let refused = |counted: Counted| Row::new(20, Method::Gso, &counted).expect_err("it is no figure");
        assert_eq!(refused(Counted { received: 3919, ..counted }), NoFigure::Lost { sent: 4000, received: 3919 });
        assert_eq!(refused(Counted { sent: 0, received: 0, ..counted }), NoFigure::NothingSent);
    }
}
