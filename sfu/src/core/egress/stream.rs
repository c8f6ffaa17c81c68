//! One stream to a client: its numbers, how its headers are written, and what the client is told of its time.

use std::time::Instant;

use isthmus_protocol::media::Codec;
use str0m::media::Mid;

use super::{
    header::{Extension, Header},
    numbers::{PacketNumber, StreamNumbers},
    outlet::{ExtensionIds, Packet},
    repair::Repairs,
    sender_report::{self, NtpTime, Sent},
};

/// How a packet is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) is_repair: bool,
    pub(super) is_padded: bool,
    /// Its transport-wide number.
    pub(super) transport: Option<u16>,
}

/// See the [module](self).
pub(super) struct Stream {
    pub(super) mid: Mid,
    pub(super) ids: ExtensionIds,
    pub(super) numbers: StreamNumbers,
    pub(super) repair: Option<StreamNumbers>,
    pub(super) repairs: Repairs,
    /// Whether the client has spoken of it, so that it knows the m-line.
    pub(super) is_known: bool,
    sent: Sent,
    /// The timestamp that was captured last, when, and its clock's rate in Hz.
    last: Option<(u32, Instant, u32)>,
    /// Whether something was sent since the last report.
    is_due: bool,
}

impl Stream {
    pub(super) fn new(mid: Mid, ids: ExtensionIds, numbers: StreamNumbers, repair: Option<StreamNumbers>) -> Self {
        Self {
            mid,
            ids,
            numbers,
            repair,
            repairs: Repairs::default(),
            is_known: false,
            sent: Sent::default(),
            last: None,
            is_due: false,
        }
    }

    /// Puts the header of `packet` behind what is in `out`. Its length in bytes.
    pub(super) fn write_header(&self, number: &PacketNumber, packet: &Packet, form: Form, out: &mut Vec<u8>) -> usize {
        let Self { mid, ids, is_known, .. } = self;
        let transport = form.transport.map(u16::to_be_bytes);
        let level = packet.level.map(|level| [u8::from(level.voice) << 7 | level.below_full_scale.min(127)]);
        let orientation = packet.orientation.map(|orientation| [orientation]);
        let candidates: [(Option<u8>, &[u8]); 4] = [
            (ids.transport, transport.as_ref().map_or(&[], |value| value)),
            (ids.mid.filter(|_| !is_known), mid.as_bytes()),
            (ids.level, level.as_ref().map_or(&[], |value| value)),
            (ids.orientation, orientation.as_ref().map_or(&[], |value| value)),
        ];
        let extensions = candidates.map(|(id, value)| Extension { id: id.unwrap_or_default(), value });
        let types = packet.types;
        let payload_type = if form.is_repair { types.repair.unwrap_or(types.media) } else { types.media };
        let header = Header {
            payload_type,
            marker: packet.marker,
            timestamp: packet.numbers.timestamp,
            padded: form.is_padded,
            extensions: &extensions,
        };
        header.write(number, out)
    }

    /// A packet went out for the first time at `now`.
    pub(super) fn was_sent(&mut self, sequence: u16, packet: Packet, now: Instant) {
        self.sent.packets = self.sent.packets.wrapping_add(1);
        self.sent.payload_bytes = self.sent.payload_bytes.wrapping_add(packet.payload.len() as u32);
        self.is_due = true;
        if self.last.is_none_or(|(_, captured, _)| packet.captured >= captured) {
            self.last = Some((packet.numbers.timestamp, packet.captured, clock_hz(packet.codec)));
        }
        if self.repair.is_none() || packet.codec.is_audio() {
            return;
        }
        self.repairs.keep(sequence, packet, now);
    }

    /// Puts what the client is to be told of the stream's time behind what is in `out`, if anything was sent since the last
    /// time. `at` is `now`.
    pub(super) fn write_report(&mut self, now: Instant, at: NtpTime, name: &str, out: &mut Vec<u8>) {
        let is_due = std::mem::take(&mut self.is_due);
        let Some((timestamp, captured, hz)) = self.last.filter(|_| is_due) else { return };
        let passed = now.saturating_duration_since(captured).as_micros() * u128::from(hz) / 1_000_000;
        let timestamp = timestamp.wrapping_add(passed as u32);
        sender_report::write(out, self.numbers.ssrc(), at, timestamp, self.sent, name);
    }
}

/// RTP timestamps a second.
fn clock_hz(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 8_000,
        codec if codec.is_audio() => 48_000,
        _ => 90_000,
    }
}
