//! RFC 2198: a voice sent with its last packets again. A receiver that did not offer RED gets the newest packet alone.

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

    proptest! {
        #[test]
        fn rubbish_never_panics(payload in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = newest_block(&payload);
        }
    }
}
