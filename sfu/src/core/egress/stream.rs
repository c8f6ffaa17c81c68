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
use crate::core::svc::descriptor;

/// What a header extension has at most (RFC 8285 section 4.3).
const MAX_DESCRIPTOR_BYTES: usize = 255;

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
    /// The share of packets that the client missed between its last two reports.
    pub(super) lost: f64,
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
            lost: 0.0,
            sent: Sent::default(),
            last: None,
            is_due: false,
        }
    }

    /// Puts the header of `packet` behind what is in `out`. Its length in bytes.
    pub(super) fn write_header(&self, number: &PacketNumber, packet: &Packet, form: Form, out: &mut Vec<u8>) -> usize {
        let Self { mid, ids, is_known, .. } = self;
        let transport = form.transport.map(u16::to_be_bytes);
        let level = packet.media.level.map(|level| [u8::from(level.voice) << 7 | level.below_full_scale.min(127)]);
        let orientation = packet.media.orientation.map(|orientation| [orientation]);
        let mut written = [0; MAX_DESCRIPTOR_BYTES];
        let descriptor = packet.media.descriptor.as_deref().filter(|_| ids.descriptor.is_some());
        let descriptor = descriptor.and_then(|bytes| renumbered(bytes, packet.numbers.frame, &mut written));
        let candidates: [(Option<u8>, &[u8]); 5] = [
            (ids.transport, transport.as_ref().map_or(&[], |value| value)),
            (ids.mid.filter(|_| !is_known), mid.as_bytes()),
            (ids.level, level.as_ref().map_or(&[], |value| value)),
            (ids.orientation, orientation.as_ref().map_or(&[], |value| value)),
            (ids.descriptor, descriptor.unwrap_or_default()),
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
        self.sent.payload_bytes = self.sent.payload_bytes.wrapping_add(packet.media.payload.len() as u32);
        self.is_due = true;
        if self.last.is_none_or(|(_, captured, _)| packet.captured >= captured) {
            self.last = Some((packet.numbers.timestamp, packet.captured, clock_hz(packet.media.codec)));
        }
        if self.repair.is_none() || packet.media.codec.is_audio() {
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

/// A dependency descriptor with its number in the client's stream.
fn renumbered<'a>(bytes: &[u8], frame: Option<u16>, out: &'a mut [u8; MAX_DESCRIPTOR_BYTES]) -> Option<&'a [u8]> {
    let out = out.get_mut(..bytes.len())?;
    out.copy_from_slice(bytes);
    descriptor::write_frame_number(out, frame?);
    Some(out)
}

/// RTP timestamps a second.
fn clock_hz(codec: Codec) -> u32 {
    match codec {
        Codec::Pcmu | Codec::Pcma => 8_000,
        codec if codec.is_audio() => 48_000,
        _ => 90_000,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use std::sync::Arc;

    use isthmus_protocol::media::MediaPacket;

    use super::{
        super::{numbers::Streams, tests::picture},
        *,
    };
    use crate::core::rewrite::Numbers;

    #[test]
    fn a_descriptor_goes_to_whoever_negotiated_it_with_the_number_that_the_frame_has_there() {
        let descriptor: Vec<u8> = (0..20).collect();
        let like = picture(7, 0, Instant::now());
        let media = MediaPacket { descriptor: Some(descriptor.clone().into()), ..(*like.media).clone() };
        let numbers = Numbers { frame: Some(0xabcd), ..like.numbers };
        let packet = Packet { numbers, media: Arc::new(media), ..like };
        let header = |descriptor| {
            let mut streams = Streams::default();
            let mut numbers = streams.begin(1).expect("new");
            let number = numbers.take(7).expect("new");
            let ids = ExtensionIds { descriptor, ..ExtensionIds::default() };
            let stream = Stream::new(Mid::from("v"), ids, numbers, None);
            let mut out = Vec::new();
            stream.write_header(
                &number,
                &packet,
                Form { is_repair: false, is_padded: false, transport: None },
                &mut out,
            );
            out
        };
        let with = header(Some(12));
        assert_eq!(with[12..16], [0x10, 0x00, 0, 6], "RFC 8285 section 4.3: too long for the form of one byte");
        assert_eq!(with[16..21], [12, 20, 0, 0xab, 0xcd]);
        assert_eq!(with[21..38], descriptor[3..]);
        assert_eq!(header(None).len(), 12);
    }
}
