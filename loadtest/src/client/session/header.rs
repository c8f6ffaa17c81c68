//! What an RTP packet says without its key: SRTP leaves the header in the open (RFC 3711 section 3.1).

/// The fixed header and the CSRCs behind it (RFC 3550 section 5.1), and what an extension has in front (section 5.3.1), in bytes.
const FIXED_BYTES: usize = 12;
const CSRC_BYTES: usize = 4;
const EXTENSION_BYTES: usize = 4;
/// Of AES-GCM (RFC 7714), which is what servers agree to with this program.
const TAG_BYTES: usize = 16;

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    /// Without the tag.
    pub(super) payload_bytes: usize,
}

impl Header {
    /// Of a datagram that is RTP (RFC 7983 section 7, RFC 5761 section 4).
    pub(super) fn of(datagram: &[u8]) -> Option<Self> {
        let &[first, second, high, low, _, _, _, _, a, b, c, d, ..] = datagram else { return None };
        if !matches!((first, second), (128..192, 0..192 | 224..)) {
            return None;
        }
        let csrcs = FIXED_BYTES + CSRC_BYTES * usize::from(first & 0x0f);
        let extension = match datagram.get(csrcs..csrcs + EXTENSION_BYTES) {
            Some([_, _, high, low]) if first & 0x10 != 0 => {
                EXTENSION_BYTES + 4 * usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => 0,
        };
        Some(Self {
            ssrc: u32::from_be_bytes([a, b, c, d]),
            sequence: u16::from_be_bytes([high, low]),
            payload_bytes: datagram.len().checked_sub(csrcs + extension + TAG_BYTES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_tell_their_stream_and_number_and_nothing_else_does() {
        let packet = |first: u8, second: u8, rest: usize| {
            let head = [first, second, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 1, 2, 0xbe, 0xde, 0, 1];
            [&head[..], &vec![0; rest]].concat()
        };
        let header = |payload_bytes| Some(Header { ssrc: 0x0102, sequence: 0x1234, payload_bytes });
        assert_eq!(Header::of(&packet(0x90, 111, 4 + 80 + 16)), header(80), "an extension of one word");
        assert_eq!(Header::of(&packet(0x80, 0xef, 80 + 16)), header(84), "without one those bytes are the payload's");
        assert_eq!(Header::of(&packet(0x80, 200, 96)), None, "RTCP");
        assert_eq!(Header::of(&packet(0, 1, 96)), None, "STUN");
        assert_eq!(Header::of(&packet(22, 254, 96)), None, "DTLS");
        assert_eq!(Header::of(&packet(0x90, 111, 4)), None, "an extension and no tag");
        assert_eq!(Header::of(&[0x80; 11]), None);
    }
}
