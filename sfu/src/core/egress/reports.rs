//! What a client says by RTCP of the streams that it is sent.

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
/// Formats of transport feedback: RFC 4585 section 6.2.1, draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
const NACK: u8 = 1;
const TRANSPORT_WIDE: u8 = 15;
/// Formats of payload feedback: RFC 4585 section 6.3.1, RFC 5104 section 4.3.1, draft-alvestrand-rmcat-remb-03 section 2.2.
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA_REQUEST: u8 = 4;
const APPLICATION: u8 = 15;

const HEADER_BYTES: usize = 4;
const REPORT_BLOCK_BYTES: usize = 24;
/// What a sender says of itself in front of its report blocks.
const SENDER_INFO_BYTES: usize = 20;
/// Entries of one NACK that are looked at: each asks for up to 17 packets, and more than some hundred are not kept.
const MAX_NACK_ENTRIES: usize = 64;

/// One thing that a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report<'a> {
    /// These packets of the stream have not come.
    Missing {
        /// The stream.
        ssrc: u32,
        /// Their sequence numbers.
        packets: Missing<'a>,
    },
    /// Its decoder needs a keyframe of the stream (PLI or FIR).
    KeyframeWanted {
        /// The stream.
        ssrc: u32,
    },
    /// What came of the stream.
    Received(Reception),
    /// When packets of any stream came, by their transport-wide numbers: the whole packet, for
    /// [`Feedback::parse`](crate::core::congestion::feedback::Feedback::parse).
    Arrivals(&'a [u8]),
    /// What the client itself takes its path to carry (REMB), in bits per second.
    Estimate {
        /// Of the pictures alone.
        bps: u64,
    },
}

/// What a compound packet speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    /// Of what the client is sent alone.
    Sent,
    /// Also of what it sends, or of its leaving, or of what is not known here.
    Both,
}

/// A report block (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// The stream.
    pub ssrc: u32,
    /// The share lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// The highest sequence number that came, extended by its rollovers.
    pub highest: u32,
    /// In units of the codec's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report that came; 0 if none has.
    pub last_report: u32,
    /// How long ago that was, in 1/65536 s.
    pub since_last_report: u32,
}

/// Sequence numbers that a NACK names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing<'a>(&'a [u8]);

impl<'a> Missing<'a> {
    /// Each of them. A packet id and a bit for each of the 16 after it (RFC 4585 section 6.2.1).
    pub fn iter(self) -> impl Iterator<Item = u16> + 'a {
        let (entries, _) = self.0.as_chunks::<4>();
        entries.iter().take(MAX_NACK_ENTRIES).flat_map(|[a, b, c, d]| {
            let (first, following) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            let others = (0..16).filter(move |bit| following >> bit & 1 == 1);
            std::iter::once(first).chain(others.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}

/// Reads a compound packet and calls `tell` for everything in it that is said of what the client is sent. What is not
/// understood is passed over, and so is everything behind what is cut off.
pub fn read<'a>(mut compound: &'a [u8], mut tell: impl FnMut(Report<'a>)) -> Concerns {
    let mut concerns = Concerns::Sent;
    while let Some((packet, rest)) = split_packet(compound) {
        read_packet(packet, &mut tell);
        if !matches!(packet[1], RECEIVER_REPORT | SOURCE_DESCRIPTION | TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK) {
            concerns = Concerns::Both;
        }
        compound = rest;
    }
    concerns
}

/// The first packet without its padding, and what follows.
fn split_packet(compound: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first, _, high, low, ..] = *compound else { return None };
    let words = usize::from(u16::from_be_bytes([high, low]));
    let (packet, rest) = compound.split_at_checked(HEADER_BYTES + 4 * words)?;
    if first >> 6 != 2 {
        return None;
    }
    let padding = if first & 0x20 == 0 { 0 } else { usize::from(*packet.last()?) };
    let length = packet.len().checked_sub(padding).filter(|length| *length >= HEADER_BYTES)?;
    Some((&packet[..length], rest))
}

fn read_packet<'a>(packet: &'a [u8], tell: &mut impl FnMut(Report<'a>)) {
    let (head, body) = packet.split_at(HEADER_BYTES);
    let format = head[0] & 0x1f;
    match head[1] {
        // Behind the SSRC of who speaks.
        RECEIVER_REPORT => read_blocks(body.get(4..), format, tell),
        SENDER_REPORT => read_blocks(body.get(4 + SENDER_INFO_BYTES..), format, tell),
        TRANSPORT_FEEDBACK => read_transport_feedback(format, packet, body, tell),
        PAYLOAD_FEEDBACK => read_payload_feedback(format, body, tell),
        _ => {}
    }
}

fn read_blocks<'a>(blocks: Option<&[u8]>, count: u8, tell: &mut impl FnMut(Report<'a>)) {
    let blocks = blocks.unwrap_or_default().chunks_exact(REPORT_BLOCK_BYTES).take(count.into());
    for block in blocks {
        let word = |at: usize| word(block, at).unwrap_or_default();
        tell(Report::Received(Reception {
            ssrc: word(0),
            fraction_lost: block[4],
            highest: word(8),
            jitter: word(12),
            last_report: word(16),
            since_last_report: word(20),
        }));
    }
}

/// The body: who speaks, of which stream, and what is said.
fn read_transport_feedback<'a>(format: u8, packet: &'a [u8], body: &'a [u8], tell: &mut impl FnMut(Report<'a>)) {
    let (Some(ssrc), Some(said)) = (word(body, 4), body.get(8..)) else { return };
    match format {
        NACK => tell(Report::Missing { ssrc, packets: Missing(said) }),
        TRANSPORT_WIDE => tell(Report::Arrivals(packet)),
        _ => {}
    }
}

fn read_payload_feedback<'a>(format: u8, body: &'a [u8], tell: &mut impl FnMut(Report<'a>)) {
    let (Some(ssrc), Some(said)) = (word(body, 4), body.get(8..)) else { return };
    match format {
        PICTURE_LOSS => tell(Report::KeyframeWanted { ssrc }),
        // The stream stands in each entry, before its number.
        FULL_INTRA_REQUEST => {
            for entry in said.chunks_exact(8) {
                tell(Report::KeyframeWanted { ssrc: word(entry, 0).unwrap_or_default() });
            }
        }
        APPLICATION => {
            if let Some(bps) = remb(said) {
                tell(Report::Estimate { bps });
            }
        }
        _ => {}
    }
}

/// A name, a count of SSRCs, then 6 bits of exponent and 18 of mantissa.
fn remb(said: &[u8]) -> Option<u64> {
    let rest = said.strip_prefix(b"REMB")?;
    let value = word(rest, 0)? & 0x00ff_ffff;
    let (exponent, mantissa) = (value >> 18, u64::from(value & 0x3_ffff));
    Some(mantissa.checked_shl(exponent).filter(|bps| bps >> exponent == mantissa).unwrap_or(u64::MAX))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::keys::bytes, *};

    fn all(compound: &[u8]) -> Vec<Report<'_>> {
        let mut heard = Vec::new();
        read(compound, |report| heard.push(report));
        heard
    }

    #[test]
    fn a_compound_packet_is_read_to_its_end() {
        let compound = bytes(
            "81c90007 00000001 000003e8 40000005 0001ffff 00000010 aabbccdd 00010000 \
             81cd0003 00000001 000003e8 00640005 \
             81ce0002 00000001 000007d0 \
             84ce0004 00000001 00000000 00000bb8 05000000 \
             8fce0005 00000001 00000000 52454d42 01 0d09c4 000003e8",
        );
        let heard = all(&compound);
        let reception = Reception {
            ssrc: 1_000,
            fraction_lost: 64,
            highest: 0x0001_ffff,
            jitter: 16,
            last_report: 0xaabb_ccdd,
            since_last_report: 65_536,
        };
        assert_eq!(heard[0], Report::Received(reception));
        let Report::Missing { ssrc: 1_000, packets } = heard[1] else { panic!("{:?}", heard[1]) };
        assert_eq!(packets.iter().collect::<Vec<_>>(), [100, 101, 103]);
        assert_eq!(heard[2], Report::KeyframeWanted { ssrc: 2_000 });
        assert_eq!(heard[3], Report::KeyframeWanted { ssrc: 3_000 });
        // Exponent 3, mantissa 0x109c4.
        assert_eq!(heard[4..], [Report::Estimate { bps: 0x1_09c4 << 3 }]);
    }

    #[test]
    fn arrivals_are_handed_on_as_they_are() {
        let compound = bytes("afcd0006 00000001 000003e8 00010002 00000a01 20020102 00000002");
        assert_eq!(all(&compound), [Report::Arrivals(&compound[..26])], "without the padding");
    }

    #[test]
    fn sender_reports_are_looked_through_for_what_they_say_of_us() {
        let compound = bytes(
            "81c8000c 00000001 00000000 00000000 00000000 00000000 00000000 \
             00000007 00000000 00000000 00000000 00000000 00000000",
        );
        assert!(matches!(all(&compound)[..], [Report::Received(Reception { ssrc: 7, .. })]));
    }

    #[test]
    fn what_a_client_says_of_itself_is_told_apart() {
        let concerns = |hex: &str| read(&bytes(hex), |_| ());
        let empty_report = "80c90001 00000001";
        let description = "81ca0003 00000001 01026162 00000000";
        let goodbye = "81cb0001 00000001";
        assert_eq!(concerns(&format!("{empty_report} {description}")), Concerns::Sent);
        assert_eq!(concerns(&format!("{empty_report} {goodbye}")), Concerns::Both);
        assert_eq!(concerns("80c80006 00000001 00000000 00000000 00000000 00000000 00000000"), Concerns::Both);
        assert_eq!(concerns("80cf0001 00000001"), Concerns::Both, "an extended report");
    }

    #[test]
    fn a_nack_that_never_ends_is_cut() {
        let mut nack = bytes("81cd0000 00000001 00000002");
        nack.extend([0, 0, 0xff, 0xff].repeat(5_000));
        let words = (nack.len() / 4 - 1) as u16;
        nack[2..4].copy_from_slice(&words.to_be_bytes());
        let [Report::Missing { packets, .. }] = all(&nack)[..] else { panic!("one NACK") };
        assert_eq!(packets.iter().count(), 17 * MAX_NACK_ENTRIES);
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(rubbish in prop::collection::vec(any::<u8>(), 0..200), kind in 199u8..208, format in 0u8..32) {
            let _ = all(&rubbish);
            let mut likely = vec![0x80 | format, kind, 0, (rubbish.len() / 4) as u8];
            likely.extend(&rubbish);
            for report in all(&likely) {
                if let Report::Missing { packets, .. } = report {
                    prop_assert!(packets.iter().count() <= 17 * MAX_NACK_ENTRIES);
                }
            }
        }
    }
}
