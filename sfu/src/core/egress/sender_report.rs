//! Sender reports: which RTP timestamp was captured when, so that the receiver can put voice and picture together, and from
//! which it measures the round trip (RFC 3550 section 6.4.1).

/// Seconds from 1900, where NTP begins, to 1970, where Unix time does.
const NTP_OFFSET_S: u64 = 2_208_988_800;
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const CNAME: u8 = 1;
/// The longest name, in bytes, so that its length fits a byte with room to spare.
const MAX_NAME_BYTES: usize = 64;

/// A point in time as NTP counts it: 32 bits of seconds and 32 bits of their fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NtpTime(u64);

impl NtpTime {
    /// From microseconds of Unix time.
    pub fn from_unix_us(micros: u64) -> Self {
        let seconds = (micros / 1_000_000 + NTP_OFFSET_S) & u64::from(u32::MAX);
        let fraction = ((micros % 1_000_000) << 32) / 1_000_000;
        Self(seconds << 32 | fraction)
    }

    /// The middle 32 bits, by which receivers name a report.
    pub fn short(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// What has been sent of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets, without retransmissions.
    pub packets: u32,
    /// Bytes of their payloads.
    pub payload_bytes: u32,
}

/// Puts a sender report without blocks, and the name that belongs to every compound packet (RFC 3550 section 6.1), behind what
/// is in `out`. Streams that share `name` are played together. `timestamp` is the stream's at `at`.
pub fn write(out: &mut Vec<u8>, ssrc: u32, at: NtpTime, timestamp: u32, sent: Sent, name: &str) {
    let begin = out.len();
    out.extend_from_slice(&[0x80, SENDER_REPORT, 0, 0]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&at.0.to_be_bytes());
    for word in [timestamp, sent.packets, sent.payload_bytes] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    end_packet(out, begin);
    let begin = out.len();
    out.extend_from_slice(&[0x81, SOURCE_DESCRIPTION, 0, 0]);
    out.extend_from_slice(&ssrc.to_be_bytes());
    let name = &name.as_bytes()[..name.len().min(MAX_NAME_BYTES)];
    out.extend_from_slice(&[CNAME, name.len() as u8]);
    out.extend_from_slice(name);
    // The list of items ends with at least one zero (RFC 3550 section 6.5).
    out.push(0);
    end_packet(out, begin);
}

/// Fills up to whole words and says how many follow the first.
fn end_packet(out: &mut Vec<u8>, begin: usize) {
    while !(out.len() - begin).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - begin) / 4 - 1) as u16;
    out[begin + 2..begin + 4].copy_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::{super::keys::bytes, *};

    #[test]
    fn ntp_time_is_that_of_rfc_5905() {
        // 2021-01-01 00:00:00.5 UTC.
        let time = NtpTime::from_unix_us(1_609_459_200_500_000);
        assert_eq!(time.0 >> 32, 3_818_448_000);
        assert_eq!(time.0 & 0xffff_ffff, 1 << 31);
        assert_eq!(time.short(), (3_818_448_000u64 << 16 | 0x8000) as u32);
    }

    #[test]
    fn a_report_has_its_fields_where_rfc_3550_puts_them() {
        let mut out = vec![0xee];
        let sent = Sent { packets: 3, payload_bytes: 700 };
        write(&mut out, 0x0102_0304, NtpTime::from_unix_us(1_609_459_200_500_000), 90_000, sent, "isthmus");
        let (report, name) = out[1..].split_at(28);
        assert_eq!(report, bytes("80c80006 01020304 e398e480 80000000 00015f90 00000003 000002bc"));
        assert_eq!(name, bytes("81ca0004 01020304 01 07 697374686d7573 00 0000"));
    }
}
