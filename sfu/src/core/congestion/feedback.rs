//! What a receiver says of each packet: transport-wide feedback, as in
//! draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1. Read in place; nothing is allocated.

use super::history::{MOST_PACKETS, TransportSequence};

/// RTPFB (RFC 4585 section 6.2) and the format the draft's section 3.1 takes in it.
const PACKET_TYPE: u8 = 205;
const FORMAT: u8 = 15;
/// Common header and the two SSRCs.
const HEADER_BYTES: usize = 12;
/// More packets than this between two messages were not passed over but overtaken.
const MOST_PASSED_OVER: u16 = 512;
/// The unit of receive deltas, and of the reference time (section 3.1), in microseconds.
const DELTA_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

/// One feedback message whose lengths have been checked: reading on cannot fail.
#[derive(Debug, Clone, Copy)]
pub struct Feedback<'a> {
    base: TransportSequence,
    count: u16,
    /// 24 bits.
    reference: u32,
    /// Counts messages, and wraps around.
    number: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// The number of a message and the first packet that it speaks of, as they are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    number: u8,
    sequence: TransportSequence,
}

/// What is said of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) sequence: TransportSequence,
    /// When it arrived, in microseconds after the message's reference time; none if it had not arrived yet.
    pub(super) after_reference_us: Option<i64>,
}

/// The feedback messages in a (decrypted) compound RTCP packet; what else is in it, and what is malformed, is passed
/// over.
#[cfg(test)]
pub(super) fn in_compound(mut rtcp: &[u8]) -> impl Iterator<Item = Feedback<'_>> {
    std::iter::from_fn(move || {
        while let [_, _, high, low, ..] = rtcp {
            let bytes = (usize::from(u16::from_be_bytes([*high, *low])) + 1) * 4;
            let (packet, rest) = rtcp.split_at_checked(bytes)?;
            rtcp = rest;
            if let Some(feedback) = Feedback::parse(packet) {
                return Some(feedback);
            }
        }
        None
    })
}

impl<'a> Feedback<'a> {
    /// One RTCP packet, header included. None if it is something else or malformed, or speaks of more packets than
    /// `MOST_PACKETS`, of which most could not be known any more.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, body) = packet.split_at_checked(HEADER_BYTES)?;
        let is_feedback = header[0] & 0xdf == 0x80 | FORMAT && header[1] == PACKET_TYPE;
        let ([base_high, base_low, count_high, count_low, r0, r1, r2, number], body) = body.split_first_chunk()?;
        let base = TransportSequence(u16::from_be_bytes([*base_high, *base_low]));
        let count = u16::from_be_bytes([*count_high, *count_low]);
        if !is_feedback || usize::from(count) > MOST_PACKETS {
            return None;
        }
        let mut symbols = Symbols { rest: body, chunk: 0, left_in_chunk: 0 };
        let mut delta_bytes = 0;
        for _ in 0..count {
            delta_bytes += symbols.next()?.delta_bytes();
        }
        let deltas = symbols.rest.get(..delta_bytes)?;
        let reference = u32::from_be_bytes([0, *r0, *r1, *r2]);
        Some(Self { base, count, reference, number: *number, chunks: body, deltas })
    }

    /// What comes after this message and the packets that it speaks of.
    pub(super) fn next(&self) -> Next {
        let sequence = TransportSequence(self.base.0.wrapping_add(self.count));
        Next { number: self.number.wrapping_add(1), sequence }
    }

    /// The packets between those of the message before, which ended at `next`, and those of this one. Some receivers pass
    /// over those that have not arrived there. None if a message between is lost: it may have spoken of them.
    pub(super) fn passed_over(&self, next: Next) -> impl Iterator<Item = TransportSequence> + use<> {
        let between = self.base.0.wrapping_sub(next.sequence.0);
        let is_next = self.number == next.number && between <= MOST_PASSED_OVER;
        (0..if is_next { between } else { 0 }).map(move |place| TransportSequence(next.sequence.0.wrapping_add(place)))
    }

    /// Each packet it speaks of, in the order of their sequence numbers.
    pub(super) fn statuses(&self) -> impl Iterator<Item = Status> + use<'a> {
        let mut symbols = Symbols { rest: self.chunks, chunk: 0, left_in_chunk: 0 };
        let mut deltas = self.deltas;
        let mut after_reference_us = 0;
        let base = self.base.0;
        (0..self.count).map_while(move |place| {
            let delta = match symbols.next()? {
                Symbol::Missing => None,
                Symbol::SmallDelta => deltas.split_off_first().map(|delta| i64::from(*delta)),
                Symbol::LargeDelta => {
                    let (delta, rest) = deltas.split_first_chunk()?;
                    deltas = rest;
                    Some(i64::from(i16::from_be_bytes(*delta)))
                }
            };
            after_reference_us += delta.unwrap_or(0) * DELTA_US;
            let sequence = TransportSequence(base.wrapping_add(place));
            Some(Status { sequence, after_reference_us: delta.map(|_| after_reference_us) })
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Missing,
    SmallDelta,
    LargeDelta,
}

impl Symbol {
    /// Section 3.1.1; the fourth is reserved.
    fn of(bits: u16) -> Option<Self> {
        match bits & 3 {
            0 => Some(Symbol::Missing),
            1 => Some(Symbol::SmallDelta),
            2 => Some(Symbol::LargeDelta),
            _ => None,
        }
    }

    fn delta_bytes(self) -> usize {
        match self {
            Symbol::Missing => 0,
            Symbol::SmallDelta => 1,
            Symbol::LargeDelta => 2,
        }
    }
}

/// The symbols of run-length chunks (section 3.1.3) and of vector chunks (3.1.4), until the chunks end or make no
/// sense.
struct Symbols<'a> {
    /// What follows the current chunk.
    rest: &'a [u8],
    chunk: u16,
    left_in_chunk: u16,
}

impl Iterator for Symbols<'_> {
    type Item = Symbol;

    fn next(&mut self) -> Option<Symbol> {
        if self.left_in_chunk == 0 {
            let (chunk, rest) = self.rest.split_first_chunk()?;
            self.rest = rest;
            self.chunk = u16::from_be_bytes(*chunk);
            self.left_in_chunk = match self.chunk >> 14 {
                0b10 => 14,
                0b11 => 7,
                _ => self.chunk & 0x1fff,
            };
        }
        self.left_in_chunk = self.left_in_chunk.checked_sub(1)?;
        match self.chunk >> 14 {
            0b10 => Symbol::of(self.chunk >> self.left_in_chunk & 1),
            0b11 => Symbol::of(self.chunk >> (2 * self.left_in_chunk)),
            _ => Symbol::of(self.chunk >> 13),
        }
    }
}

/// Unwrapped reference times stay within this (two thousand years), whatever a receiver says: what is reckoned with
/// them cannot overflow.
const MOST_REFERENCE: i64 = 1 << 40;

/// The receiver's clock, of which feedback carries 24 bits: they wrap after twelve days.
#[derive(Debug, Default)]
pub(super) struct ReceiverClock {
    /// The last reference time, unwrapped.
    last: Option<i64>,
}

impl ReceiverClock {
    /// The reference time of `feedback` in microseconds since some moment that stays the same.
    pub(super) fn reference_us(&mut self, feedback: &Feedback<'_>) -> i64 {
        let wrapped = i64::from(feedback.reference);
        let reference = self.last.map_or(wrapped, |last| {
            let step = (wrapped.wrapping_sub(last) as u32) << 8;
            (last + i64::from(step.cast_signed() >> 8)).clamp(-MOST_REFERENCE, MOST_REFERENCE)
        });
        self.last = Some(reference);
        reference * REFERENCE_US
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(base: u16, count: u16, reference: u32, chunks_and_deltas: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x8f, PACKET_TYPE, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend(base.to_be_bytes());
        packet.extend(count.to_be_bytes());
        packet.extend(&reference.to_be_bytes()[1..]);
        packet.push(7);
        packet.extend(chunks_and_deltas);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = (packet.len() / 4 - 1) as u16;
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        packet
    }

    fn arrivals(packet: &[u8]) -> Option<Vec<(u16, Option<i64>)>> {
        let feedback = Feedback::parse(packet)?;
        Some(feedback.statuses().map(|status| (status.sequence.0, status.after_reference_us)).collect())
    }

    #[test]
    fn runs_are_read_across_the_wrap_of_sequence_numbers() {
        // Three received with small deltas, then two missing.
        let packet = message(65_534, 5, 1, &[0x20, 3, 0x00, 2, 4, 0, 40]);
        let expected = [(65_534, Some(1_000)), (65_535, Some(1_000)), (0, Some(11_000)), (1, None), (2, None)];
        assert_eq!(arrivals(&packet).expect("valid"), expected);
    }

    #[test]
    fn both_vectors_are_read_and_deltas_may_be_negative() {
        // One-bit vector: received, missing x 12, received; two-bit vector: large, missing, small.
        let packet = message(10, 17, 0, &[0b1010_0000, 0b0000_0001, 0b1110_0001, 0, 1, 2, 0xff, 0xfe, 8]);
        let read = arrivals(&packet).expect("valid");
        let received: Vec<_> = read.iter().filter_map(|(sequence, at)| at.map(|at| (*sequence, at))).collect();
        assert_eq!(received, [(10, 250), (23, 750), (24, 250), (26, 2_250)]);
        assert_eq!(read.len(), 17);
    }

    #[test]
    fn what_is_cut_short_or_reserved_is_refused() {
        assert_eq!(arrivals(&message(0, 9, 0, &[0x20, 3])), None, "statuses missing");
        assert_eq!(arrivals(&message(0, 8, 0, &[0x20, 8, 0])), None, "deltas missing");
        assert_eq!(arrivals(&message(0, 1, 0, &[0x60, 1])), None, "a reserved symbol");
        assert_eq!(arrivals(&message(0, 1, 0, &[0x00, 0])), None, "an empty run");
        assert_eq!(arrivals(&message(0, 5_000, 0, &[0x1f, 0xff])), None, "more than is remembered");
    }

    #[test]
    fn what_two_messages_pass_over_has_not_arrived_unless_one_between_them_is_lost() {
        let numbered = |number: u8, base| {
            let mut packet = message(base, 2, 0, &[0x20, 2, 4, 4]);
            packet[19] = number;
            packet
        };
        let passed_over = |first: (u8, u16), second: (u8, u16)| -> Vec<u16> {
            let [first, second] = [first, second].map(|(number, base)| numbered(number, base));
            let next = Feedback::parse(&first).expect("valid").next();
            let second = Feedback::parse(&second).expect("valid");
            second.passed_over(next).map(|sequence| sequence.0).collect()
        };
        assert_eq!(passed_over((255, 65_532), (0, 1)), [65_534, 65_535, 0]);
        assert!(passed_over((7, 10), (8, 12)).is_empty());
        assert!(passed_over((7, 10), (9, 14)).is_empty(), "the message between may have spoken of them");
        assert!(passed_over((7, 10), (8, 8)).is_empty(), "it goes back");
    }

    #[test]
    fn feedback_is_found_among_other_reports() {
        let mut compound = vec![0x81, 201, 0, 1, 0, 0, 0, 9];
        compound.extend(message(3, 1, 0, &[0x20, 1, 4]));
        compound.extend([0x80, 203, 0, 0]);
        assert_eq!(in_compound(&compound).count(), 1);
    }

    #[test]
    fn the_receivers_clock_goes_on_when_its_24_bits_wrap() {
        let mut clock = ReceiverClock::default();
        let mut at = |reference| {
            let packet = message(0, 0, reference, &[]);
            clock.reference_us(&Feedback::parse(&packet).expect("valid"))
        };
        let before = at(0xff_fffe);
        assert_eq!(at(3) - before, 5 * REFERENCE_US);
        assert_eq!(at(0xff_ffff) - before, REFERENCE_US, "and back: messages may be reordered");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(packet in prop::collection::vec(any::<u8>(), 0..80)) {
            for feedback in in_compound(&packet) {
                prop_assert!(feedback.statuses().count() <= MOST_PACKETS);
            }
        }

        #[test]
        fn rubbish_behind_a_valid_header_never_panics(
            base: u16, count in 0u16..5_000, reference in 0u32..0x100_0000,
            body in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let packet = message(base, count, reference, &body);
            if let Some(feedback) = Feedback::parse(&packet) {
                prop_assert_eq!(feedback.statuses().count(), usize::from(count));
            }
        }
    }
}
