//! RFC 2198: a voice sent with its last packets again. A receiver that did not offer RED gets the newest packet alone; one
//! that numbers Opus otherwise than the publisher gets the blocks under its own number.

use std::sync::Arc;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    proptest! {
        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..60), payload_type: u8) {
            let _ = newest_block(&payload);
            let _ = renumbered(&payload.into(), payload_type);
        }
    }
}
