//! RTP packets sealed as SRTP seals them with AES-256-GCM (RFC 7714): the header is authenticated, the payload encrypted.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
};

const HEADER_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Protects nothing: the packets carry zeros and go nowhere.
const KEY: [u8; 32] = [7; 32];

/// Seals packets of one receiver after the other under one key. What a key of its own for each costs is in the cache misses
/// of a media node, and not in a floor.
pub(super) struct Sealer {
    key: LessSafeKey,
    packets: u64,
}

impl Sealer {
    pub(super) fn new() -> Result<Self, Unspecified> {
        Ok(Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEY)?), packets: 0 })
    }

    /// The length of a sealed packet.
    pub(super) fn sealed_bytes(payload_bytes: usize) -> usize {
        HEADER_BYTES + payload_bytes + TAG_BYTES
    }

    /// Writes a packet with this payload behind what is in `out`.
    pub(super) fn seal(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Unspecified> {
        let start = out.len();
        let sequence = self.packets.to_be_bytes();
        self.packets += 1;
        out.extend_from_slice(&[0x80, 96, sequence[6], sequence[7], 0, 0, 0, 0, 0, 0, 0, 1]);
        out.extend_from_slice(payload);
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - sequence.len()..].copy_from_slice(&sequence);
        let (header, body) = out[start..].split_at_mut(HEADER_BYTES);
        let tag =
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), body)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_their_length_and_are_really_sealed() {
        let (mut sealer, mut out) = (Sealer::new().expect("a key"), Vec::new());
        for _ in 0..2 {
            sealer.seal(&[0; 120], &mut out).expect("it can be sealed");
        }
        let length = Sealer::sealed_bytes(120);
        assert_eq!((length, out.len()), (148, 296));
        let (first, second) = out.split_at(length);
        assert_ne!(first[HEADER_BYTES..], second[HEADER_BYTES..], "a nonce was used twice");
        assert_ne!(first[HEADER_BYTES..][..120], [0; 120], "the payload is not encrypted");
    }
}
