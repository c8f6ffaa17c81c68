//! One continuous stream for a receiver out of many sources.
//!
//! A slot shows one layer, then another, then another person; the receiver's decoder must see one stream whose
//! sequence numbers, timestamps and picture ids go on without a jump. Gaps that the source has (losses before this
//! node) stay gaps, so that the receiver's loss report is right and a late packet still finds its place.

use std::time::{Duration, Instant};

use isthmus_protocol::media::{Codec, MediaPacket};
use str0m::rtp::Vp8Descriptor;

use super::{omissions::Omissions, svc::descriptor};

/// VP8 and VP9 picture ids have 15 bits (RFC 7741 section 4.2, RFC 9628 section 4.2).
const PICTURE_ID_MASK: u16 = 0x7fff;
/// A source whose numbers jump by more than this has paused, was held back here, or began anew: what comes is taken as after
/// a switch. Far below 2^15, beyond which a number of 16 bits does not tell later from earlier.
const MAX_STEP: u16 = 4_096;
/// So does one that nothing came of for this long, however its numbers look: they may have gone around meanwhile.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// After a switch the timestamp goes on by the time that passed, at least by this many milliseconds.
const MIN_SWITCH_STEP_MS: u64 = 10;

/// The numbers a packet gets for one receiver.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Extended sequence number: the SRTP rollover count is its part above 16 bits, and the first is below 65536.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Picture id and TL0PICIDX for VP8 and VP9 payloads that carry them.
    pub picture: Option<Picture>,
    /// The number of its frame in its dependency descriptor, if it has one.
    pub frame: Option<u16>,
}

/// The picture numbers of a payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// 15 bits.
    pub id: u16,
    /// Counts the pictures of the lowest temporal layer, where the payload carries it.
    pub tl0: Option<u8>,
}

#[derive(Debug)]
struct Source {
    /// The highest sequence number so far, extended by its own rollovers; starts at 2^32 so that it never underflows.
    highest: u64,
    /// The extended number of the source's first packet: earlier ones belong to before the switch.
    first: u64,
    /// When its newest packet was captured.
    captured: Instant,
    sequence_offset: u64,
    timestamp_offset: u32,
    picture_offset: u16,
    tl0_offset: u8,
    frame_offset: u16,
    /// Few streams have any.
    omissions: Option<Box<Omissions>>,
}

#[derive(Debug)]
struct Sent {
    highest: u64,
    timestamp: u32,
    captured: Instant,
    picture: Option<Picture>,
    frame: Option<u16>,
}

/// Rewrites the numbers of the packets of successive sources.
#[derive(Debug)]
pub struct Rewriter {
    clock_hz: u32,
    first_sequence: u16,
    source: Option<Source>,
    sent: Option<Sent>,
}

impl Rewriter {
    /// A stream of `clock_hz` that begins at `first_sequence`; best below 2^15, so that it does not roll over at once.
    pub fn new(clock_hz: u32, first_sequence: u16) -> Self {
        Self { clock_hz, first_sequence, source: None, sent: None }
    }

    /// The next packet is of another source (another layer, another track, or the same one after a pause).
    pub fn switch(&mut self) {
        self.source = None;
    }

    /// The numbers for `packet`, captured at `captured` on this node's clock; none if it belongs to before the last
    /// switch and must not be sent.
    pub fn rewrite(&mut self, packet: &MediaPacket, captured: Instant) -> Option<Numbers> {
        let picture = picture(packet);
        let source = self.source.get_or_insert_with(|| {
            begin_source(self.clock_hz, self.first_sequence, self.sent.as_ref(), packet, picture, captured)
        });
        let step = source.step(packet.sequence);
        let paused = captured.saturating_duration_since(source.captured) > MAX_PAUSE;
        if paused || step.unsigned_abs() > MAX_STEP {
            self.switch();
            return self.rewrite(packet, captured);
        }
        let extended = source.highest.wrapping_add_signed(step.into());
        if extended < source.first {
            return None;
        }
        let closed_up = match &source.omissions {
            Some(omissions) => omissions.close_up(extended)?,
            None => extended,
        };
        source.highest = source.highest.max(extended);
        source.captured = source.captured.max(captured);
        let numbers = Numbers {
            sequence: closed_up.wrapping_add(source.sequence_offset),
            timestamp: packet.timestamp.wrapping_add(source.timestamp_offset),
            picture: picture.map(|p| Picture {
                id: p.id.wrapping_add(source.picture_offset) & PICTURE_ID_MASK,
                tl0: p.tl0.map(|tl0| tl0.wrapping_add(source.tl0_offset)),
            }),
            frame: frame_number(packet).map(|number| number.wrapping_add(source.frame_offset)),
        };
        self.remember(numbers, captured);
        Some(numbers)
    }

    /// A packet of the source is not sent on purpose: the numbers of those after it close up. One that comes late leaves a
    /// gap, since those after it have been sent.
    pub fn leave_out(&mut self, sequence: u16) {
        let Some(source) = &mut self.source else { return };
        let step = source.step(sequence);
        if step > 0 && step.unsigned_abs() <= MAX_STEP {
            source.highest += u64::from(step.unsigned_abs());
            source.omissions.get_or_insert_default().add(source.highest);
        }
    }

    fn remember(&mut self, numbers: Numbers, captured: Instant) {
        let is_newest = self.sent.as_ref().is_none_or(|sent| numbers.sequence > sent.highest);
        if is_newest {
            let before = self.sent.as_ref();
            let picture = numbers.picture.or(before.and_then(|sent| sent.picture));
            let frame = numbers.frame.or(before.and_then(|sent| sent.frame));
            self.sent =
                Some(Sent { highest: numbers.sequence, timestamp: numbers.timestamp, captured, picture, frame });
        }
    }
}

impl Source {
    /// How far ahead of the newest a packet is.
    fn step(&self, sequence: u16) -> i16 {
        sequence.wrapping_sub(self.highest as u16).cast_signed()
    }
}

fn begin_source(
    clock_hz: u32,
    first_sequence: u16,
    sent: Option<&Sent>,
    packet: &MediaPacket,
    picture: Option<Picture>,
    captured: Instant,
) -> Source {
    let first = (1 << 32) + u64::from(packet.sequence);
    let Some(sent) = sent else {
        return Source {
            highest: first,
            first,
            captured,
            sequence_offset: u64::from(first_sequence).wrapping_sub(first),
            timestamp_offset: 0,
            picture_offset: 0,
            tl0_offset: 0,
            frame_offset: 0,
            omissions: None,
        };
    };
    let passed = captured.saturating_duration_since(sent.captured).max(Duration::from_millis(MIN_SWITCH_STEP_MS));
    let ticks = (passed.as_micros() * u128::from(clock_hz) / 1_000_000) as u32;
    let next_id = sent.picture.map_or(0, |p| p.id.wrapping_add(1));
    let next_tl0 = sent.picture.and_then(|p| p.tl0).map_or(0, |tl0| tl0.wrapping_add(1));
    Source {
        highest: first,
        first,
        captured,
        sequence_offset: (sent.highest + 1).wrapping_sub(first),
        timestamp_offset: sent.timestamp.wrapping_add(ticks).wrapping_sub(packet.timestamp),
        picture_offset: next_id.wrapping_sub(picture.map_or(0, |p| p.id)) & PICTURE_ID_MASK,
        tl0_offset: next_tl0.wrapping_sub(picture.and_then(|p| p.tl0).unwrap_or(0)),
        frame_offset: sent.frame.map_or(0, |f| f.wrapping_add(1)).wrapping_sub(frame_number(packet).unwrap_or(0)),
        omissions: None,
    }
}

fn frame_number(packet: &MediaPacket) -> Option<u16> {
    descriptor::frame_number(packet.descriptor.as_deref()?)
}

fn picture(packet: &MediaPacket) -> Option<Picture> {
    match packet.codec {
        Codec::Vp8 => {
            let descriptor = Vp8Descriptor::parse(&packet.payload).ok()?;
            Some(Picture { id: descriptor.picture_id()?, tl0: descriptor.tl0_pic_idx() })
        }
        Codec::Vp9 => vp9::picture(&packet.payload),
        _ => None,
    }
}

/// Gives a VP8 or VP9 payload the numbers of `picture`, in place, as far as they fit where it has some.
pub fn write_picture(codec: Codec, payload: &mut [u8], picture: Picture) {
    match codec {
        Codec::Vp8 => vp8::write(payload, picture),
        Codec::Vp9 => vp9::write(payload, picture),
        _ => {}
    }
}

/// RFC 7741 section 4.2: the payload descriptor.
mod vp8 {
    use super::Picture;

    const EXTENDED: u8 = 0x80;
    const HAS_PICTURE_ID: u8 = 0x80;
    const HAS_TL0: u8 = 0x40;
    const LONG_ID: u8 = 0x80;

    pub(super) fn write(payload: &mut [u8], picture: Picture) {
        let [first, extension, rest @ ..] = payload else { return };
        if *first & EXTENDED == 0 {
            return;
        }
        let rest = match rest {
            [high, low, rest @ ..] if *extension & HAS_PICTURE_ID != 0 && *high & LONG_ID != 0 => {
                [*high, *low] = (picture.id | 0x8000).to_be_bytes();
                rest
            }
            [id, rest @ ..] if *extension & HAS_PICTURE_ID != 0 => {
                *id = picture.id as u8 & 0x7f;
                rest
            }
            rest => rest,
        };
        if let ([tl0, ..], Some(value)) = (rest, picture.tl0.filter(|_| *extension & HAS_TL0 != 0)) {
            *tl0 = value;
        }
    }
}

/// RFC 9628 section 4.2: the payload descriptor's picture id and TL0PICIDX.
mod vp9 {
    use super::Picture;

    const HAS_PICTURE_ID: u8 = 0x80;
    const HAS_LAYERS: u8 = 0x20;
    const FLEXIBLE: u8 = 0x10;

    /// Where the numbers stand in a payload: the picture id, of two bytes, always after the first byte.
    struct Places {
        tl0: Option<usize>,
    }

    fn places(payload: &[u8]) -> Option<Places> {
        let first = *payload.first()?;
        let long_id = payload.get(1)? & 0x80 != 0;
        if first & HAS_PICTURE_ID == 0 || !long_id || payload.len() < 3 {
            return None;
        }
        let has_tl0 = first & HAS_LAYERS != 0 && first & FLEXIBLE == 0;
        Some(Places { tl0: has_tl0.then_some(4).filter(|place| *place < payload.len()) })
    }

    pub(super) fn picture(payload: &[u8]) -> Option<Picture> {
        let places = places(payload)?;
        let id = u16::from_be_bytes([payload[1] & 0x7f, payload[2]]);
        Some(Picture { id, tl0: places.tl0.map(|place| payload[place]) })
    }

    pub(super) fn write(payload: &mut [u8], picture: Picture) {
        if let Some(places) = places(payload) {
            write_at(&places, payload, picture);
        }
    }

    fn write_at(places: &Places, payload: &mut [u8], picture: Picture) {
        payload[1] = 0x80 | (picture.id >> 8) as u8;
        payload[2] = picture.id as u8;
        if let Some((place, value)) = places.tl0.zip(picture.tl0) {
            payload[place] = value;
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vp8(sequence: u16, timestamp: u32, picture_id: u16) -> MediaPacket {
        let [high, low] = picture_id.to_be_bytes();
        let payload = vec![0x90, 0xe0, 0x80 | high, low, 7, 0x20, 0x01, 0, 0];
        MediaPacket {
            sequence,
            timestamp,
            marker: true,
            codec: Codec::Vp8,
            level: None,
            orientation: None,
            captured_us: None,
            descriptor: None,
            payload: payload.into(),
        }
    }

    #[test]
    fn a_switch_goes_on_without_a_jump() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut rewriter = Rewriter::new(90_000, 100);
        let one = rewriter.rewrite(&vp8(65_535, 1_000, 50), at(0)).expect("first");
        let two = rewriter.rewrite(&vp8(0, 4_000, 51), at(33)).expect("next");
        assert_eq!((one.sequence, two.sequence), (100, 101));
        rewriter.switch();
        let three = rewriter.rewrite(&vp8(700, 9_000_000, 9), at(66)).expect("other source");
        assert_eq!(three.sequence, 102);
        assert_eq!(three.timestamp.wrapping_sub(two.timestamp), 33 * 90);
        assert_eq!(three.picture.map(|p| p.id), two.picture.map(|p| p.id + 1));
        let four = rewriter.rewrite(&vp8(702, 9_003_000, 10), at(99)).expect("after a loss");
        assert_eq!(four.sequence, 104, "the source's gap stays");
        let late = rewriter.rewrite(&vp8(701, 9_000_000, 9), at(100)).expect("late but its own");
        assert_eq!(late.sequence, 103);
        assert_eq!(rewriter.rewrite(&vp8(699, 1, 1), at(101)), None, "from before the switch");
    }

    /// A voice that was held back for minutes (muted, or not among the loudest) has moved on by more than half of its
    /// numbers.
    #[test]
    fn after_any_pause_the_stream_goes_on_at_once() {
        let start = Instant::now();
        for missed in [1_000u16, 5_000, 32_700, 32_769, 40_000, 65_500] {
            let mut rewriter = Rewriter::new(48_000, 100);
            let before = rewriter.rewrite(&vp8(7, 0, 1), start).expect("first");
            let back = start + Duration::from_millis(20) * missed.into();
            let after = rewriter.rewrite(&vp8(missed.wrapping_add(7), 0, 2), back).expect("after the pause");
            assert!(after.sequence > before.sequence, "{missed} missed: {} after {}", after.sequence, before.sequence);
        }
    }

    #[test]
    fn numbers_are_written_where_they_are_read() {
        let wanted = Picture { id: 0x1234, tl0: Some(9) };
        let payloads =
            [(Codec::Vp8, vp8(1, 1, 300).payload), (Codec::Vp9, vec![0xa8, 0x81, 0x02, 0x00, 0x05, 0xaa].into())];
        for (codec, payload) in payloads {
            let mut payload = payload.to_vec();
            write_picture(codec, &mut payload, wanted);
            let packet = MediaPacket { codec, payload: payload.into(), ..vp8(1, 1, 1) };
            assert_eq!(picture(&packet), Some(wanted), "{codec:?}");
        }
        // An id of one byte, and none.
        let mut short = [0x90, 0xc0, 5, 7, 0xaa];
        write_picture(Codec::Vp8, &mut short, wanted);
        assert_eq!(short, [0x90, 0xc0, 0x34, 9, 0xaa]);
        let mut none = [0x10, 0xaa, 0xbb];
        write_picture(Codec::Vp8, &mut none, wanted);
        assert_eq!(none, [0x10, 0xaa, 0xbb]);
    }

    proptest! {
        /// Whatever sources follow each other, no sequence number goes out twice: with AES-GCM that would reuse a nonce.
        #[test]
        fn no_number_is_used_twice(
            runs in prop::collection::vec((any::<u16>(), prop::collection::vec(0u16..20, 1..60)), 1..12),
            jumps in prop::collection::vec(prop::option::weighted(0.2, any::<u16>()), 60)
        ) {
            let mut rewriter = Rewriter::new(90_000, 0x7fff);
            let mut used = std::collections::HashSet::new();
            let start = Instant::now();
            let mut tick = 0;
            for (base, steps) in runs {
                rewriter.switch();
                let mut seen = std::collections::HashSet::new();
                let mut sequence = base;
                for (step, jump) in steps.into_iter().zip(&jumps) {
                    // Mostly in order, with losses and late packets, and now and then anywhere.
                    sequence = jump.unwrap_or_else(|| sequence.wrapping_add(step).wrapping_sub(5));
                    if !seen.insert(sequence) {
                        continue;
                    }
                    tick += 1;
                    let now = start + Duration::from_millis(tick);
                    if let Some(numbers) = rewriter.rewrite(&vp8(sequence, 0, 0), now) {
                        prop_assert!(used.insert(numbers.sequence), "{} twice", numbers.sequence);
                    }
                }
            }
        }

        #[test]
        fn rubbish_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..12), id: u16, tl0: Option<u8>) {
            let mut packet = vp8(1, 1, 1);
            packet.payload = payload.into();
            for codec in [Codec::Vp8, Codec::Vp9] {
                packet.codec = codec;
                let _ = picture(&packet);
            }
            let picture = Picture { id, tl0 };
            for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
                let mut written = packet.payload.to_vec();
                write_picture(codec, &mut written, picture);
                prop_assert_eq!(written.len(), packet.payload.len());
            }
        }
    }
}
