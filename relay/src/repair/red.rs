//! A voice with redundancy of its own (RFC 2198) brings the packet before it along: what the publisher's encoder put in for the
//! last hop repairs the link too, without a byte more.

use isthmus_protocol::media::{Codec, MediaPacket};

/// A block's header but for the last one's: more follow (1 bit), payload type (7), timestamp offset (14), length (10).
const HEADER_BYTES: usize = 4;
const MORE: u8 = 0x80;
/// The longest redundant packet is 60 ms, of a clock of 48 kHz.
const MAX_OFFSET: u32 = 48 * 60;

/// The packet before `packet`, as one with a single block, if it is in there.
pub(super) fn predecessor(packet: &MediaPacket) -> Option<MediaPacket> {
    let (payload_type, offset, block) = newest_redundant(packet)?;
    let mut payload = Vec::with_capacity(1 + block.len());
    payload.push(payload_type);
    payload.extend_from_slice(block);
    Some(MediaPacket {
        sequence: packet.sequence.wrapping_sub(1),
        timestamp: packet.timestamp.wrapping_sub(offset),
        marker: false,
        captured_us: packet.captured_us.map(|at| at.saturating_sub(u64::from(offset) * 1000 / 48)),
        payload: payload.into(),
        ..packet.clone()
    })
}

/// Whether the packet brings the one before it along.
pub(super) fn has_predecessor(packet: &MediaPacket) -> bool {
    newest_redundant(packet).is_some()
}

/// Payload type, timestamp offset and bytes of the last block before the packet's own.
fn newest_redundant(packet: &MediaPacket) -> Option<(u8, u32, &[u8])> {
    if packet.codec != Codec::Red {
        return None;
    }
    let mut headers = &packet.payload[..];
    let mut earlier = 0;
    let mut last = None;
    while headers.first()? & MORE != 0 {
        let (header, rest) = headers.split_first_chunk::<HEADER_BYTES>()?;
        let fields = u32::from_be_bytes(*header);
        let length = (fields & 0x3ff) as usize;
        earlier += last.map_or(0, |(_, _, length)| length);
        last = Some((header[0] & !MORE, fields >> 10 & 0x3fff, length));
        headers = rest;
    }
    let (payload_type, offset, length) = last.filter(|(_, offset, _)| (1..=MAX_OFFSET).contains(offset))?;
    let block = headers.get(1 + earlier..1 + earlier + length).filter(|block| !block.is_empty())?;
    Some((payload_type, offset, block))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repair::virtual_link::voice;

    fn red(payload: &[u8]) -> MediaPacket {
        MediaPacket { codec: Codec::Red, payload: payload.into(), captured_us: Some(1_000_000), ..voice(5, 10) }
    }

    /// A block of payload type 111 with its offset in samples.
    fn header(offset: u32, length: u32) -> [u8; 4] {
        (u32::from(MORE | 0x6f) << 24 | offset << 10 | length).to_be_bytes()
    }

    #[test]
    fn the_newest_redundant_block_is_the_packet_before() {
        let payload = [&header(1920, 3)[..], &header(960, 2), &[111], b"old", b"me", b"self"].concat();
        let before = predecessor(&red(&payload)).expect("it is in there");
        assert_eq!((before.sequence, before.timestamp), (4, red(&payload).timestamp - 960));
        assert_eq!((&before.payload[..], before.captured_us), (&b"\x6fme"[..], Some(980_000)));
        assert!(!has_predecessor(&before), "it has none itself");
    }

    #[test]
    fn without_redundancy_there_is_none() {
        assert_eq!(predecessor(&red(b"\x6fself")), None);
        assert_eq!(predecessor(&voice(5, 10)), None, "not RED");
        assert_eq!(predecessor(&red(&[&header(960, 9)[..], &[111], b"self"].concat())), None, "cut short");
        assert_eq!(predecessor(&red(&[&header(16_000, 2)[..], &[111], b"meself"].concat())), None, "long ago");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            predecessor(&red(&payload));
        }
    }
}
