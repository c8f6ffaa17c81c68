//! Media datagrams between nodes: one RTP packet each, without what only the last hop knows (SSRC, payload type).
//!
//! ```text
//!  byte 0       version (4 bits) | kind (4 bits)
//!  kind MEDIA   flags u8, stream u32, link sequence u16, RTP sequence u16, RTP timestamp u32, codec u8,
//!               [level u8] [orientation u8] [capture time u64] [descriptor length u8, bytes], payload
//!  kind REST    stream u32, link sequence u16, second half of the payload of link sequence - 1
//!  kind NACK    stream u32, then up to 32 x (link sequence u16, bitmask of the following 16 u16)
//!  kind SPEECH  parities u8, as often (mask u8, length u16, bytes), then a MEDIA datagram without its first byte
//!  kind LOSS    expected u16, lost u16, runs u16: what the sender of this one missed of the receiver's speech
//! ```
//! All integers are big-endian. The link sequence counts the datagrams of one stream on one link, so that the hop can
//! tell its own losses from those before it. A packet too large for the path's datagram size goes as MEDIA with the
//! SPLIT flag and one REST.
//!
//! A SPEECH datagram carries ahead what repairs the loss of those before it ([`Parity`]). SPEECH and LOSS came after the
//! other kinds; they go only to a peer that says in its opening that it reads them ([`Opening::Peer`](crate::node::Opening)).

use std::sync::Arc;

use crate::peer::StreamId;

/// The version of the envelope; a datagram of another one is dropped and counted.
pub const VERSION: u8 = 1;
/// The most bytes an envelope adds to a payload: everything but a dependency descriptor of 255 bytes.
pub const MAX_HEADER_BYTES: usize = 25 + 1 + 255;
/// The most RTP payload accepted from a peer, in bytes.
pub const MAX_PAYLOAD_BYTES: usize = 1500;
/// The most NACK entries in a datagram.
pub const MAX_NACKS: usize = 32;
/// The most parities in a SPEECH datagram.
pub const MAX_PARITIES: usize = 3;
/// How far back a parity may reach, in datagrams of its stream.
pub const MAX_REACH: u16 = 8;

const KIND_MEDIA: u8 = 0;
const KIND_REST: u8 = 1;
const KIND_NACK: u8 = 2;
const KIND_SPEECH: u8 = 3;
const KIND_LOSS: u8 = 4;

const FLAG_MARKER: u8 = 1;
const FLAG_LEVEL: u8 = 2;
const FLAG_ORIENTATION: u8 = 4;
const FLAG_CAPTURED: u8 = 8;
const FLAG_DESCRIPTOR: u8 = 16;
const FLAG_SPLIT: u8 = 32;
const FLAG_REPAIR: u8 = 64;

/// What a payload is encoded as; the payload type number is each client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// RFC 7587.
    Opus = 1,
    /// RFC 2198 over Opus.
    Red = 2,
    /// RFC 3551.
    Pcmu = 3,
    /// RFC 3551.
    Pcma = 4,
    /// RFC 7741.
    Vp8 = 16,
    /// RFC 9628, profile 0.
    Vp9 = 17,
    /// RFC 6184, constrained baseline, packetization mode 1.
    H264 = 18,
    /// The AOM's RTP payload format, profile 0.
    Av1 = 19,
}

impl Codec {
    fn from_byte(byte: u8) -> Option<Self> {
        use Codec::{Av1, H264, Opus, Pcma, Pcmu, Red, Vp8, Vp9};
        [Opus, Red, Pcmu, Pcma, Vp8, Vp9, H264, Av1].into_iter().find(|codec| *codec as u8 == byte)
    }

    /// Whether it is sound.
    pub const fn is_audio(self) -> bool {
        (self as u8) < 16
    }
}

/// RFC 6464: how loud the packet's sound is and whether it is a voice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// 0 is the loudest, 127 is silence, in -dBov.
    pub below_full_scale: u8,
    /// Whether the sender took it for a voice.
    pub voice: bool,
}

/// One RTP packet on its way, freed of what belongs to one hop. Cloning it does not copy the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPacket {
    /// The publisher's RTP sequence number; gaps are losses before this hop.
    pub sequence: u16,
    /// The publisher's RTP timestamp, in the codec's clock.
    pub timestamp: u32,
    /// RTP marker bit: the end of a frame for video, the start of a talk spurt for audio.
    pub marker: bool,
    /// What the payload is.
    pub codec: Codec,
    /// For audio that says it.
    pub level: Option<AudioLevel>,
    /// 3GPP TS 26.114 coordination of video orientation, as in its header extension's byte.
    pub orientation: Option<u8>,
    /// When it was captured, in microseconds of the publisher's own NTP clock, once its sender reports tell it.
    pub captured_us: Option<u64>,
    /// The AV1 dependency descriptor as the publisher sent it, at most 255 bytes.
    pub descriptor: Option<Arc<[u8]>>,
    /// The RTP payload.
    pub payload: Arc<[u8]>,
}

/// A received datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datagram {
    /// A packet, or its first part if `split`.
    Media {
        /// Which layer of which track.
        stream: StreamId,
        /// Counts the stream's datagrams on the link.
        link_sequence: u16,
        /// The rest of the payload follows in the next link sequence.
        split: bool,
        /// Sent again because it was asked for.
        repair: bool,
        /// The packet.
        packet: MediaPacket,
    },
    /// The second part of a payload.
    Rest {
        /// As that of the first part.
        stream: StreamId,
        /// One more than that of the first part.
        link_sequence: u16,
        /// What follows the first part's payload.
        payload: Arc<[u8]>,
    },
    /// Datagrams the receiver misses.
    Nack {
        /// The stream.
        stream: StreamId,
        /// Link sequences, at most [`MAX_NACKS`] x 17.
        missing: Vec<u16>,
    },
    /// A packet, and what repairs the loss of packets before it.
    Speech {
        /// As in [`Datagram::Media`].
        stream: StreamId,
        /// As in [`Datagram::Media`].
        link_sequence: u16,
        /// As in [`Datagram::Media`].
        repair: bool,
        /// The packet.
        packet: MediaPacket,
        /// The MEDIA datagram that carries the packet alone, to be taken out of parities that cover it.
        plain: Vec<u8>,
        /// At most [`MAX_PARITIES`].
        parities: Vec<Parity>,
    },
    /// What was missed of all speech on the link since the last report.
    Loss(LossReport),
}

/// How much speech a link loses, in datagrams, before any repair. Reports are not repeated: one that is lost is a sample
/// less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LossReport {
    /// How many should have come.
    pub expected: u16,
    /// How many of them did not.
    pub lost: u16,
    /// In how many runs of one stream's consecutive datagrams they were lost: the same as `lost` if each was alone.
    pub runs: u16,
}

/// The sum (XOR) of some MEDIA datagrams of one stream, without what the receiver of the sum knows anyway: version, kind,
/// stream and link sequence. With all but one of them at hand it gives the missing one.
///
/// ```text
/// what is summed:  length of what follows u16, flags u8, MEDIA datagram from its RTP sequence on; the shorter ones are
///                  filled up with zeros
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parity {
    /// Bit i stands for the datagram `i + 1` before the one that carries the parity.
    pub mask: u8,
    bytes: Vec<u8>,
}

impl Parity {
    /// Adds the MEDIA datagram `back` (1 to [`MAX_REACH`]) before the one that will carry the parity. One that is in it
    /// already is taken out.
    ///
    /// # Panics
    /// Never, whatever stands in `media`: what is not a MEDIA datagram gives a parity that [`restore`](Self::restore)
    /// refuses.
    pub fn toggle(&mut self, back: u16, media: &[u8]) {
        self.mask ^= (1u8).checked_shl(u32::from(back) - 1).unwrap_or(0);
        let flags = media.get(1).copied().unwrap_or(0) & !FLAG_REPAIR;
        let rest = media.get(BODY..).unwrap_or_default();
        let length = (1 + rest.len()) as u16;
        let summed = length.to_be_bytes().into_iter().chain([flags]).chain(rest.iter().copied());
        if self.bytes.len() < PARITY_HEAD_BYTES + rest.len() {
            self.bytes.resize(PARITY_HEAD_BYTES + rest.len(), 0);
        }
        for (sum, byte) in self.bytes.iter_mut().zip(summed) {
            *sum ^= byte;
        }
    }

    /// The MEDIA datagram that the parity has come down to, if it is one.
    pub fn restore(&self, stream: StreamId, link_sequence: u16) -> Option<Vec<u8>> {
        let (length, body) = self.bytes.split_first_chunk::<2>()?;
        let (body, filling) = body.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        let (flags, rest) = body.split_first()?;
        if filling.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut media = Vec::with_capacity(BODY + rest.len());
        media.extend_from_slice(&[VERSION << 4 | KIND_MEDIA, *flags]);
        media.extend_from_slice(&stream.to_be_bytes());
        media.extend_from_slice(&link_sequence.to_be_bytes());
        media.extend_from_slice(rest);
        Some(media)
    }

    /// What it takes in a datagram, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        1 + 2 + self.bytes.len()
    }
}

/// Where a MEDIA datagram's RTP sequence stands: after version and kind, flags, stream and link sequence.
const BODY: usize = 1 + 1 + 4 + 2;
/// Length and flags.
const PARITY_HEAD_BYTES: usize = 2 + 1;

/// Why a datagram was not understood. All of them are dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedDatagram {
    /// Shorter than its own fields say.
    #[error("truncated")]
    Truncated,
    /// Of a version or kind this node does not speak.
    #[error("unknown version or kind")]
    Unknown,
    /// Of a codec this node does not know.
    #[error("unknown codec")]
    UnknownCodec,
    /// Payload larger than [`MAX_PAYLOAD_BYTES`].
    #[error("payload too large")]
    TooLarge,
}

impl MediaPacket {
    /// Appends the datagrams that carry the packet as `stream`, the first with `link_sequence`: one, or two when it
    /// does not fit `max_datagram` bytes. Returns how many. A payload that does not fit two is not sent: 0.
    pub fn encode(
        &self,
        stream: StreamId,
        link_sequence: u16,
        max_datagram: usize,
        out: &mut Vec<bytes::Bytes>,
    ) -> u16 {
        let mut head = Vec::with_capacity(MAX_HEADER_BYTES.min(64) + self.payload.len());
        let descriptor = self.descriptor.as_deref().filter(|d| d.len() <= 255);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags = flag(self.marker, FLAG_MARKER)
            | flag(self.level.is_some(), FLAG_LEVEL)
            | flag(self.orientation.is_some(), FLAG_ORIENTATION)
            | flag(self.captured_us.is_some(), FLAG_CAPTURED)
            | flag(descriptor.is_some(), FLAG_DESCRIPTOR);
        head.push(VERSION << 4 | KIND_MEDIA);
        head.push(flags);
        head.extend_from_slice(&stream.to_be_bytes());
        head.extend_from_slice(&link_sequence.to_be_bytes());
        head.extend_from_slice(&self.sequence.to_be_bytes());
        head.extend_from_slice(&self.timestamp.to_be_bytes());
        head.push(self.codec as u8);
        if let Some(level) = self.level {
            head.push(level.below_full_scale.min(127) | flag(level.voice, 0x80));
        }
        head.extend(self.orientation);
        if let Some(captured) = self.captured_us {
            head.extend_from_slice(&captured.to_be_bytes());
        }
        if let Some(descriptor) = descriptor {
            head.push(descriptor.len() as u8);
            head.extend_from_slice(descriptor);
        }
        let room = max_datagram.saturating_sub(head.len());
        if self.payload.len() <= room {
            head.extend_from_slice(&self.payload);
            out.push(head.into());
            return 1;
        }
        let mut rest = Vec::with_capacity(REST_HEADER_BYTES + self.payload.len() - room);
        if self.payload.len() - room > max_datagram.saturating_sub(REST_HEADER_BYTES) {
            return 0;
        }
        head[1] |= FLAG_SPLIT;
        head.extend_from_slice(&self.payload[..room]);
        rest.push(VERSION << 4 | KIND_REST);
        rest.extend_from_slice(&stream.to_be_bytes());
        rest.extend_from_slice(&link_sequence.wrapping_add(1).to_be_bytes());
        rest.extend_from_slice(&self.payload[room..]);
        out.push(head.into());
        out.push(rest.into());
        2
    }
}

const REST_HEADER_BYTES: usize = 1 + 4 + 2;

/// The same MEDIA datagram marked as a repair; anything else unchanged.
pub fn mark_repair(datagram: &[u8]) -> bytes::Bytes {
    let mut copy = datagram.to_vec();
    if copy.len() > 1 && copy[0] & 0x0f == KIND_MEDIA {
        copy[1] |= FLAG_REPAIR;
    }
    copy.into()
}

/// A SPEECH datagram: the MEDIA datagram `media` with `parities` before it; of more than [`MAX_PARITIES`] the first.
pub fn encode_speech(media: &[u8], parities: &[Parity]) -> bytes::Bytes {
    let parities = &parities[..parities.len().min(MAX_PARITIES)];
    let ahead: usize = parities.iter().map(Parity::encoded_bytes).sum();
    let mut out = Vec::with_capacity(2 + ahead + media.len());
    out.push(VERSION << 4 | KIND_SPEECH);
    out.push(parities.len() as u8);
    for parity in parities {
        out.push(parity.mask);
        out.extend_from_slice(&(parity.bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(&parity.bytes);
    }
    out.extend_from_slice(media.get(1..).unwrap_or_default());
    out.into()
}

/// A datagram that tells the peer what was missed of its speech.
pub fn encode_loss(report: LossReport) -> bytes::Bytes {
    let mut out = vec![VERSION << 4 | KIND_LOSS];
    for number in [report.expected, report.lost, report.runs] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.into()
}

/// A datagram that asks for `missing` link sequences of `stream`, and how many of them it holds: the list must be
/// in order; what does not fit waits for the next one.
pub fn encode_nack(stream: StreamId, missing: &[u16]) -> (bytes::Bytes, usize) {
    let mut out = vec![VERSION << 4 | KIND_NACK];
    out.extend_from_slice(&stream.to_be_bytes());
    let (mut taken, mut entries) = (0, 0);
    while taken < missing.len() && entries < MAX_NACKS {
        let first = missing[taken];
        let mut mask = 0u16;
        taken += 1;
        while let Some(distance) =
            missing.get(taken).map(|next| next.wrapping_sub(first)).filter(|d| (1..=16).contains(d))
        {
            mask |= 1 << (distance - 1);
            taken += 1;
        }
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
        entries += 1;
    }
    (out.into(), taken)
}

/// Reads a datagram that came from a peer.
pub fn decode(datagram: &[u8]) -> Result<Datagram, MalformedDatagram> {
    let mut reader = Reader(datagram);
    let first = reader.u8()?;
    if first >> 4 != VERSION {
        return Err(MalformedDatagram::Unknown);
    }
    match first & 0x0f {
        KIND_MEDIA => decode_media(reader),
        KIND_REST => {
            let (stream, link_sequence) = (reader.u32()?, reader.u16()?);
            Ok(Datagram::Rest { stream, link_sequence, payload: reader.payload()? })
        }
        KIND_NACK => decode_nack(reader),
        KIND_SPEECH => decode_speech(reader),
        KIND_LOSS => {
            let (expected, lost, runs) = (reader.u16()?, reader.u16()?, reader.u16()?);
            Ok(Datagram::Loss(LossReport { expected, lost, runs }))
        }
        _ => Err(MalformedDatagram::Unknown),
    }
}

fn decode_media(mut reader: Reader<'_>) -> Result<Datagram, MalformedDatagram> {
    let flags = reader.u8()?;
    let has = |bit: u8| flags & bit != 0;
    let (stream, link_sequence) = (reader.u32()?, reader.u16()?);
    let (sequence, timestamp) = (reader.u16()?, reader.u32()?);
    let codec = Codec::from_byte(reader.u8()?).ok_or(MalformedDatagram::UnknownCodec)?;
    let level = if has(FLAG_LEVEL) {
        let byte = reader.u8()?;
        Some(AudioLevel { below_full_scale: byte & 0x7f, voice: byte & 0x80 != 0 })
    } else {
        None
    };
    let orientation = if has(FLAG_ORIENTATION) { Some(reader.u8()?) } else { None };
    let captured_us = if has(FLAG_CAPTURED) { Some(reader.u64()?) } else { None };
    let descriptor = if has(FLAG_DESCRIPTOR) {
        let length = reader.u8()?;
        Some(reader.take(usize::from(length))?.into())
    } else {
        None
    };
    let payload = reader.payload()?;
    let packet = MediaPacket {
        sequence,
        timestamp,
        marker: has(FLAG_MARKER),
        codec,
        level,
        orientation,
        captured_us,
        descriptor,
        payload,
    };
    Ok(Datagram::Media { stream, link_sequence, split: has(FLAG_SPLIT), repair: has(FLAG_REPAIR), packet })
}

fn decode_speech(mut reader: Reader<'_>) -> Result<Datagram, MalformedDatagram> {
    let count = usize::from(reader.u8()?);
    if count > MAX_PARITIES {
        return Err(MalformedDatagram::TooLarge);
    }
    let mut parities = Vec::with_capacity(count);
    for _ in 0..count {
        let (mask, length) = (reader.u8()?, usize::from(reader.u16()?));
        if length > MAX_HEADER_BYTES + MAX_PAYLOAD_BYTES {
            return Err(MalformedDatagram::TooLarge);
        }
        parities.push(Parity { mask, bytes: reader.take(length)?.to_vec() });
    }
    let plain = [&[VERSION << 4 | KIND_MEDIA], reader.0].concat();
    match decode_media(reader)? {
        Datagram::Media { stream, link_sequence, split: false, repair, packet } => {
            Ok(Datagram::Speech { stream, link_sequence, repair, packet, plain, parities })
        }
        _ => Err(MalformedDatagram::Unknown),
    }
}

fn decode_nack(mut reader: Reader<'_>) -> Result<Datagram, MalformedDatagram> {
    let stream = reader.u32()?;
    let mut missing = Vec::new();
    for _ in 0..MAX_NACKS {
        if reader.0.is_empty() {
            break;
        }
        let (first, mask) = (reader.u16()?, reader.u16()?);
        missing.push(first);
        missing.extend((0..16).filter(|bit| mask & (1 << bit) != 0).map(|bit| first.wrapping_add(bit + 1)));
    }
    Ok(Datagram::Nack { stream, missing })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], MalformedDatagram> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(MalformedDatagram::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MalformedDatagram> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(MalformedDatagram::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, MalformedDatagram> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, MalformedDatagram> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, MalformedDatagram> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, MalformedDatagram> {
        self.array().map(u64::from_be_bytes)
    }

    fn payload(&mut self) -> Result<Arc<[u8]>, MalformedDatagram> {
        if self.0.len() > MAX_PAYLOAD_BYTES {
            return Err(MalformedDatagram::TooLarge);
        }
        Ok(self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packets() -> impl Strategy<Value = MediaPacket> {
        let codecs =
            prop::sample::select(vec![Codec::Opus, Codec::Red, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1]);
        let level = prop::option::of((0u8..128, any::<bool>()));
        let descriptor = prop::option::of(prop::collection::vec(any::<u8>(), 0..=255));
        let payload = prop::collection::vec(any::<u8>(), 0..=1400);
        let fields = (any::<u16>(), any::<u32>(), any::<bool>(), codecs, level, any::<Option<u8>>());
        (fields, any::<Option<u64>>(), descriptor, payload).prop_map(
            |((sequence, timestamp, marker, codec, level, orientation), captured_us, descriptor, payload)| {
                MediaPacket {
                    sequence,
                    timestamp,
                    marker,
                    codec,
                    level: level.map(|(below_full_scale, voice)| AudioLevel { below_full_scale, voice }),
                    orientation,
                    captured_us,
                    descriptor: descriptor.map(Into::into),
                    payload: payload.into(),
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_packet_comes_out_as_it_went_in(packet in packets(), stream: u32, link_sequence: u16, max in 1162usize..1500) {
            let mut out = Vec::new();
            let count = packet.encode(stream, link_sequence, max, &mut out);
            prop_assert_eq!(usize::from(count), out.len());
            prop_assert!(out.iter().all(|d| d.len() <= max));
            let Ok(Datagram::Media { stream: s, link_sequence: l, split, packet: mut got, .. }) = decode(&out[0]) else {
                return Err(TestCaseError::fail("the first datagram is not media"));
            };
            prop_assert_eq!((s, l, split), (stream, link_sequence, count == 2));
            if count == 2 {
                let Ok(Datagram::Rest { stream: s, link_sequence: l, payload }) = decode(&out[1]) else {
                    return Err(TestCaseError::fail("the second datagram is not a rest"));
                };
                prop_assert_eq!((s, l), (stream, link_sequence.wrapping_add(1)));
                got.payload = [&got.payload[..], &payload[..]].concat().into();
            }
            prop_assert_eq!(got, packet);
        }

        #[test]
        fn rubbish_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn every_truncation_is_refused_or_shorter(packet in packets(), cut in 0usize..40) {
            let mut out = Vec::new();
            packet.encode(1, 1, 2000, &mut out);
            let whole = &out[0];
            let _ = decode(&whole[..cut.min(whole.len())]);
        }

        #[test]
        fn a_parity_gives_whichever_of_its_datagrams_is_missing(
            packets in prop::collection::vec(packets(), 1..4), stream: u32, number: u16, missing: prop::sample::Index,
        ) {
            let datagrams: Vec<_> = (0u16..).zip(&packets).map(|(i, packet)| {
                let mut out = Vec::new();
                packet.encode(stream, number.wrapping_sub(i + 1), 2000, &mut out);
                mark_repair(&out[0])
            }).collect();
            let mut parity = Parity::default();
            for (back, datagram) in (1u16..).zip(&datagrams) {
                parity.toggle(back, datagram);
            }
            let mut carrier = Vec::new();
            packets[0].encode(stream, number, 2000, &mut carrier);
            let speech = encode_speech(&carrier[0], std::slice::from_ref(&parity));
            prop_assert_eq!(speech.len(), carrier[0].len() + 1 + parity.encoded_bytes());
            let Ok(Datagram::Speech { packet, plain, parities, link_sequence, .. }) = decode(&speech) else {
                return Err(TestCaseError::fail("not speech"));
            };
            prop_assert_eq!((&packet, &plain[..], link_sequence), (&packets[0], &carrier[0][..], number));
            let (mut parity, missing) = (parities[0].clone(), missing.index(packets.len()));
            for (i, datagram) in datagrams.iter().enumerate().filter(|(i, _)| *i != missing) {
                parity.toggle(i as u16 + 1, datagram);
            }
            prop_assert_eq!(parity.mask, 1 << missing);
            let restored = parity.restore(stream, number.wrapping_sub(missing as u16 + 1)).expect("it is one datagram");
            prop_assert_eq!(mark_repair(&restored), datagrams[missing].clone());
        }

        #[test]
        fn reports_read_as_written(expected: u16, lost: u16, runs: u16) {
            let report = LossReport { expected, lost, runs };
            prop_assert_eq!(decode(&encode_loss(report)), Ok(Datagram::Loss(report)));
        }

        #[test]
        fn nacks_ask_for_exactly_what_is_missing(start: u16, gaps in prop::collection::vec(1u16..200, 1..100)) {
            let missing: Vec<u16> = gaps.iter().scan(start, |at, gap| { *at = at.wrapping_add(*gap); Some(*at) }).collect();
            let mut rest = &missing[..];
            while !rest.is_empty() {
                let (datagram, taken) = encode_nack(9, rest);
                prop_assert!(taken > 0);
                prop_assert_eq!(decode(&datagram), Ok(Datagram::Nack { stream: 9, missing: rest[..taken].to_vec() }));
                rest = &rest[taken..];
            }
        }
    }
}
