//! RFC 2198: a voice with its last packets again in each packet.
//!
//! A receiver that did not offer it gets the newest packet alone; one that numbers Opus otherwise than the publisher gets the blocks
//! under its own number. And what was lost on the way is restored from the packet after it, hop by hop: what a publisher's
//! encoder put in for the last hop repairs those before too, without a byte more.

use std::sync::Arc;

use crate::media::{Codec, MediaPacket};

/// A block's header but for the last one's: more follow (1 bit), payload type (7), timestamp offset (14), length (10).
const HEADER_BYTES: usize = 4;
const MORE: u8 = 0x80;
/// The longest redundant packet is 60 ms, of a clock of 48 kHz.
const MAX_OFFSET: u32 = 48 * 60;

/// The newest block of a RED payload, which is its last; none if the payload is cut short.
pub fn newest_block(payload: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    let mut redundant = 0;
    // Each redundant block has a header of 4 bytes that begins with a set bit and ends with a length of 10 bits; the header
    // of the newest has one byte, and its block takes the rest.
    while payload.get(at)? & 0x80 != 0 {
        let header = payload.get(at..at + 4)?;
        redundant += usize::from(u16::from_be_bytes([header[2] & 0x03, header[3]]));
        at += 4;
    }
    payload.get(at + 1 + redundant..).filter(|block| !block.is_empty())
}

/// The payload with every block under `payload_type`: the same one where nothing changes. None if it is cut short.
pub fn renumbered(payload: &Arc<[u8]>, payload_type: u8) -> Option<Arc<[u8]>> {
    let mut headers = Vec::new();
    let mut at = 0;
    while payload.get(at)? & 0x80 != 0 {
        headers.push(at);
        at += 4;
    }
    headers.push(at);
    if headers.iter().all(|at| payload[*at] & 0x7f == payload_type) {
        return Some(payload.clone());
    }
    let mut copy = payload.to_vec();
    for at in headers {
        copy[at] = copy[at] & 0x80 | payload_type & 0x7f;
    }
    Some(copy.into())
}

/// The packet before `packet`, as one with a single block, if it is in there.
pub fn predecessor(packet: &MediaPacket) -> Option<MediaPacket> {
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
pub fn has_predecessor(packet: &MediaPacket) -> bool {
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

    fn packet(codec: Codec, payload: &[u8]) -> MediaPacket {
        MediaPacket {
            sequence: 5,
            timestamp: 4_800,
            marker: true,
            codec,
            level: None,
            orientation: None,
            captured_us: Some(1_000_000),
            descriptor: None,
            payload: payload.into(),
        }
    }

    fn red(payload: &[u8]) -> MediaPacket {
        packet(Codec::Red, payload)
    }

    #[test]
    fn the_newest_block_is_the_last() {
        assert_eq!(newest_block(&[111, 1, 2, 3]), Some(&[1u8, 2, 3][..]), "no redundancy");
        assert_eq!(newest_block(&[0x80 | 0x6f, 0, 0, 2, 111, 9, 9, 1, 2, 3]), Some(&[1u8, 2, 3][..]));
        assert_eq!(newest_block(&[0x80 | 0x6f, 0, 0, 9, 111, 9, 9]), None, "cut short");
        assert_eq!(newest_block(&[]), None);
    }

    #[test]
    fn blocks_go_out_under_the_receivers_number() {
        let payload: Arc<[u8]> = vec![0xef, 0, 0, 2, 0x6f, 9, 9, 1, 2, 3].into();
        let same = renumbered(&payload, 111).expect("whole");
        assert!(Arc::ptr_eq(&same, &payload), "no copy where nothing changes");
        let other = renumbered(&payload, 96).expect("whole");
        assert_eq!(&other[..], [0xe0, 0, 0, 2, 0x60, 9, 9, 1, 2, 3]);
        assert_eq!(renumbered(&vec![0xff].into(), 96), None);
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
        assert_eq!(predecessor(&packet(Codec::Opus, b"self")), None, "not RED");
        assert_eq!(predecessor(&red(&[&header(960, 9)[..], &[111], b"self"].concat())), None, "cut short");
        assert_eq!(predecessor(&red(&[&header(16_000, 2)[..], &[111], b"meself"].concat())), None, "long ago");
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..60), payload_type: u8) {
            let _ = newest_block(&payload);
            let _ = predecessor(&red(&payload));
            let _ = renumbered(&payload.into(), payload_type);
        }
    }
}
