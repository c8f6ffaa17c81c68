//! The sending thread: waits, seals, sends, and reads how much CPU time it had.

#![expect(clippy::disallowed_methods, reason = "IO: reads the clock for the plan, and waits on a thread of its own")]

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::time::{ClockId, clock_gettime};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};

use super::{
    plan::{Alone, Burst, Counted, Method, Schedule, Streams},
    receiving::Receivers,
    seal::Sealer,
};

/// How long packets may take from the last one sent until it is read.
const ARRIVES_WITHIN: Duration = Duration::from_secs(2);
/// How often that is looked at, and after how many packets flat out the clock is.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const FLAT_OUT_BATCH: u64 = 256;

/// Sends at the pace of a call to so many receivers.
pub(crate) fn paced(streams: Streams, receivers: usize, method: Method, duration: Duration) -> anyhow::Result<Counted> {
    let receivers = Receivers::start(receivers)?;
    let mut sender = Sender::new()?;
    let mut counted = Counted::default();
    let (began, cpu_before) = (Instant::now(), cpu_time()?);
    for (at, burst) in Schedule::new(streams, duration) {
        thread::sleep((began + at).saturating_duration_since(Instant::now()));
        counted.latest = counted.latest.max(began.elapsed().saturating_sub(at));
        for to in receivers.addresses() {
            counted.sent += sender.send(burst, method, *to)?;
        }
    }
    counted.cpu = cpu_time()?.saturating_sub(cpu_before);
    let deadline = Instant::now() + ARRIVES_WITHIN;
    while receivers.received() < counted.sent && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
    }
    counted.received = receivers.received();
    Ok(counted)
}

/// What sealing and sending cost by themselves, as fast as they go.
pub(super) fn alone(duration: Duration) -> anyhow::Result<Alone> {
    let seal = |burst: Burst| {
        let (mut sealer, mut out) = (Sealer::new()?, Vec::new());
        let payload = vec![0; burst.payload_bytes()];
        flat_out(duration, || {
            out.clear();
            Ok(sealer.seal(&payload, &mut out)?)
        })
    };
    let receiver = Receivers::start(1)?;
    let [to] = *receiver.addresses() else { bail!("one receiver has one address") };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let packet = vec![0; Sealer::sealed_bytes(Burst::Frame.payload_bytes())];
    let sendto = flat_out(duration, || socket.send_to(&packet, to).map(drop).context("cannot send"))?;
    Ok(Alone { seal_frame_us: seal(Burst::Frame)?, seal_voice_us: seal(Burst::Voice)?, sendto_us: sendto })
}

/// CPU time of one `step`, in microseconds.
fn flat_out(duration: Duration, mut step: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (began, cpu_before) = (Instant::now(), cpu_time()?);
    let mut counted = Counted::default();
    while counted.sent == 0 || began.elapsed() < duration {
        for _ in 0..FLAT_OUT_BATCH {
            step()?;
        }
        counted.sent += FLAT_OUT_BATCH;
    }
    counted.cpu = cpu_time()?.saturating_sub(cpu_before);
    counted.us_per_packet().context("nothing was done")
}

/// CPU time of this thread, in the kernel too. The receivers and the progress bar have threads of their own.
fn cpu_time() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("this system does not tell CPU time")?.into())
}

struct Sender {
    socket: UdpSocket,
    state: UdpSocketState,
    sealer: Sealer,
    payload: Vec<u8>,
    /// The sealed packets of a burst, one behind the other.
    packets: Vec<u8>,
}

impl Sender {
    fn new() -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if state.max_gso_segments() < Burst::Frame.packets() {
            bail!("this kernel has no UDP GSO (Linux has it from 4.18 on)");
        }
        let payload = vec![0; Burst::Frame.payload_bytes()];
        Ok(Self { socket, state, sealer: Sealer::new()?, payload, packets: Vec::new() })
    }

    /// Seals a burst for one receiver and sends it; returns how many packets that were.
    fn send(&mut self, burst: Burst, method: Method, to: SocketAddr) -> anyhow::Result<u64> {
        self.packets.clear();
        for _ in 0..burst.packets() {
            self.sealer.seal(&self.payload[..burst.payload_bytes()], &mut self.packets)?;
        }
        let length = Sealer::sealed_bytes(burst.payload_bytes());
        match method {
            Method::Sendto => {
                for packet in self.packets.chunks(length) {
                    self.socket.send_to(packet, to).context("cannot send")?;
                }
            }
            Method::Gso => {
                let segment_size = (burst.packets() > 1).then_some(length);
                let transmit =
                    Transmit { destination: to, ecn: None, contents: &self.packets, segment_size, src_ip: None };
                self.state.try_send(UdpSockRef::from(&self.socket), &transmit).context("cannot send with GSO")?;
            }
        }
        Ok(burst.packets() as u64)
    }
}
