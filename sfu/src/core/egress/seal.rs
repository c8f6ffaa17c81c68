//! Sealing: SRTP and SRTCP packets of one client, in place.

use std::fmt;

use aws_lc_rs::{
    aead::{self, AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
    iv::FixedLength,
};

use super::{
    keys::{MasterKey, Profile, SessionKeys, Traffic},
    numbers::PacketNumber,
};

/// The tag of AES-GCM (RFC 7714 section 13).
pub(super) const GCM_TAG_BYTES: usize = 16;
/// The tag of the older profile (RFC 3711 section 5.2).
pub(super) const SHA1_TAG_BYTES: usize = 10;
/// What stays in the clear of an RTCP packet: the first header with its SSRC.
pub(super) const RTCP_CLEAR_BYTES: usize = 8;
/// Set in the word behind an RTCP packet that is encrypted (RFC 3711 section 3.4).
pub(super) const ENCRYPTED: u32 = 1 << 31;

/// The packet was not sealed and must not be sent: what stands in its place is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed;

impl From<Unspecified> for Unsealed {
    fn from(_: Unspecified) -> Self {
        Unsealed
    }
}

/// Seals what goes to one client.
pub struct Sealer {
    rtp: Cipher,
    rtcp: Cipher,
    /// The index of the next RTCP packet: 31 bits, each used once for all SSRCs together.
    rtcp_index: u32,
}

/// Says nothing of the keys.
impl fmt::Debug for Sealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sealer").field("rtcp_index", &self.rtcp_index).finish_non_exhaustive()
    }
}

pub(super) enum Cipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; 12],
    },
    /// Boxed, being fifty times as large and rare.
    CounterMode(Box<CounterMode>),
}

pub(super) struct CounterMode {
    key: EncryptingKey,
    auth: hmac::Key,
    salt: [u8; 14],
}

impl Sealer {
    /// With the keys derived from `master`.
    ///
    /// # Errors
    /// The crypto library took the key for unusable.
    pub fn new(master: &MasterKey) -> Result<Self, Unsealed> {
        let cipher = |traffic| Cipher::new(master.profile(), &master.session_keys(traffic)?);
        Ok(Self { rtp: cipher(Traffic::Rtp)?, rtcp: cipher(Traffic::Rtcp)?, rtcp_index: 0 })
    }

    /// Seals the RTP packet that is the end of `out`, from `start` on, and puts the tag behind it. Its header, extensions
    /// included, has `header_bytes` and carries `number`, which is used up.
    ///
    /// # Errors
    /// The packet is no longer than its header says, or the crypto library refused.
    pub fn seal_rtp(
        &self,
        number: PacketNumber,
        out: &mut Vec<u8>,
        start: usize,
        header_bytes: usize,
    ) -> Result<(), Unsealed> {
        let packet = out.get_mut(start..).ok_or(Unsealed)?;
        let (header, payload) = packet.split_at_mut_checked(header_bytes).ok_or(Unsealed)?;
        let (ssrc, index) = number.spend();
        match &self.rtp {
            Cipher::Gcm { key, salt } => {
                let tag = seal_gcm(key, rtp_nonce(*salt, ssrc, index), header, payload)?;
                out.extend_from_slice(tag.as_ref());
            }
            Cipher::CounterMode(cipher) => {
                cipher.encrypt(ssrc, index, payload)?;
                let rollovers = ((index >> 16) as u32).to_be_bytes();
                let tag = cipher.tag(&[header, payload, &rollovers]);
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }

    /// Seals the compound RTCP packet that is the end of `out`, from `start` on.
    ///
    /// # Errors
    /// It has no header, all 2^31 numbers are used up, or the crypto library refused.
    pub fn seal_rtcp(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), Unsealed> {
        let index = self.rtcp_index;
        if index >= ENCRYPTED {
            return Err(Unsealed);
        }
        self.rtcp_index += 1;
        let packet = out.get_mut(start..).ok_or(Unsealed)?;
        let (clear, body) = packet.split_at_mut_checked(RTCP_CLEAR_BYTES).ok_or(Unsealed)?;
        let ssrc = u32::from_be_bytes([clear[4], clear[5], clear[6], clear[7]]);
        let word = (index | ENCRYPTED).to_be_bytes();
        match &self.rtcp {
            Cipher::Gcm { key, salt } => {
                let mut associated = [0; RTCP_CLEAR_BYTES + 4];
                associated[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
                associated[RTCP_CLEAR_BYTES..].copy_from_slice(&word);
                let tag = seal_gcm(key, rtcp_nonce(*salt, ssrc, index), &associated, body)?;
                out.extend_from_slice(tag.as_ref());
                out.extend_from_slice(&word);
            }
            Cipher::CounterMode(cipher) => {
                cipher.encrypt(ssrc, index.into(), body)?;
                let tag = cipher.tag(&[clear, body, &word]);
                out.extend_from_slice(&word);
                out.extend_from_slice(&tag);
            }
        }
        Ok(())
    }
}

impl Cipher {
    pub(super) fn new(profile: Profile, keys: &SessionKeys) -> Result<Self, Unspecified> {
        let gcm = |algorithm: &'static aead::Algorithm| -> Result<Self, Unspecified> {
            let key = LessSafeKey::new(UnboundKey::new(algorithm, &keys.cipher)?);
            Ok(Cipher::Gcm { key, salt: keys.salt.as_slice().try_into().map_err(|_| Unspecified)? })
        };
        match profile {
            Profile::AeadAes256Gcm => gcm(&AES_256_GCM),
            Profile::AeadAes128Gcm => gcm(&AES_128_GCM),
            Profile::Aes128CmSha1_80 => Ok(Cipher::CounterMode(Box::new(CounterMode {
                key: EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, &keys.cipher)?)?,
                auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &keys.auth),
                salt: keys.salt.as_slice().try_into().map_err(|_| Unspecified)?,
            }))),
        }
    }
}

fn seal_gcm(key: &LessSafeKey, nonce: [u8; 12], associated: &[u8], body: &mut [u8]) -> Result<aead::Tag, Unspecified> {
    key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), body)
}

impl CounterMode {
    /// Encrypts or, which is the same in this mode, decrypts.
    pub(super) fn encrypt(&self, ssrc: u32, index: u64, body: &mut [u8]) -> Result<(), Unspecified> {
        let begin = EncryptionContext::Iv128(FixedLength::from(self.counter(ssrc, index)));
        self.key.less_safe_encrypt(body, begin).map(drop)
    }

    /// RFC 3711 section 4.2.1.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; SHA1_TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.auth);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; SHA1_TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..SHA1_TAG_BYTES]);
        tag
    }

    /// RFC 3711 section 4.1.1: where the key stream of a packet begins; its last 16 bits count blocks.
    fn counter(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&ssrc.to_be_bytes());
        counter[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in counter.iter_mut().zip(self.salt) {
            *byte ^= salt;
        }
        counter
    }
}

/// RFC 7714 section 8.1: SSRC, rollover count and sequence number, which are the 48 bits of the index.
fn rtp_nonce(salt: [u8; 12], ssrc: u32, index: u64) -> [u8; 12] {
    let mut position = [0; 12];
    position[2..6].copy_from_slice(&ssrc.to_be_bytes());
    position[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(position, salt)
}

/// RFC 7714 section 9.1.
pub(super) fn rtcp_nonce(salt: [u8; 12], ssrc: u32, index: u32) -> [u8; 12] {
    let mut position = [0; 12];
    position[2..6].copy_from_slice(&ssrc.to_be_bytes());
    position[8..].copy_from_slice(&index.to_be_bytes());
    xor(position, salt)
}

fn xor(mut position: [u8; 12], salt: [u8; 12]) -> [u8; 12] {
    for (byte, salt) in position.iter_mut().zip(salt) {
        *byte ^= salt;
    }
    position
}

#[cfg(test)]
mod tests {
    use super::{
        super::{keys::bytes, numbers::Streams},
        *,
    };

    /// "Gallia est omnis divisa in partes tres" in one packet (RFC 7714 section 15).
    const PACKET: &str = "8040f17b 8041f8d3 5501a0b2 \
        47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";
    const SSRC: u32 = 0x5501_a0b2;
    const SEQUENCE: u64 = 0xf17b;

    fn sealer(profile: Profile, key: &str, salt: &str) -> Sealer {
        let keys = || SessionKeys {
            cipher: bytes(key),
            auth: bytes("00112233445566778899aabbccddeeff00112233"),
            salt: bytes(salt),
        };
        let cipher = || Cipher::new(profile, &keys()).expect("usable keys");
        Sealer { rtp: cipher(), rtcp: cipher(), rtcp_index: 0 }
    }

    fn sealed(sealer: &Sealer) -> Vec<u8> {
        let mut out = vec![0xee; 3];
        out.extend(bytes(PACKET));
        let number = Streams::default().begin(SSRC).and_then(|mut numbers| numbers.take(SEQUENCE)).expect("new");
        sealer.seal_rtp(number, &mut out, 3, 12).expect("sealed");
        assert_eq!(out[..3], [0xee; 3], "what stands before it is not touched");
        out.split_off(3)
    }

    #[test]
    fn packets_are_those_of_rfc_7714_section_16() {
        let salt = "51756964 2070726f 2071756f";
        let with_128 = sealer(Profile::AeadAes128Gcm, "00010203 04050607 08090a0b 0c0d0e0f", salt);
        assert_eq!(
            sealed(&with_128),
            bytes(
                "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a \
                 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce"
            )
        );
        let key = "00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f";
        assert_eq!(
            sealed(&sealer(Profile::AeadAes256Gcm, key, salt)),
            bytes(
                "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 \
                 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13"
            )
        );
    }

    /// RFC 3711 appendix B.2: the key stream that a payload of zeros becomes.
    #[test]
    fn the_older_cipher_has_the_key_stream_of_rfc_3711_appendix_b_2() {
        let sealer =
            sealer(Profile::Aes128CmSha1_80, "2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let number = Streams::default().begin(0).and_then(|mut numbers| numbers.take(0)).expect("new");
        let mut out = vec![0; 12 + 32];
        sealer.seal_rtp(number, &mut out, 0, 12).expect("sealed");
        assert_eq!(out[12..44], bytes("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB"));
        assert_eq!(out.len(), 12 + 32 + SHA1_TAG_BYTES);
    }

    #[test]
    fn control_packets_end_with_their_number_and_differ_each_time() {
        let rtcp = "80c80006 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61";
        let mut gcm =
            sealer(Profile::AeadAes128Gcm, "00010203 04050607 08090a0b 0c0d0e0f", "51756964 2070726f 2071756f");
        let (mut first, mut second) = (bytes(rtcp), bytes(rtcp));
        gcm.seal_rtcp(&mut first, 0).expect("sealed");
        gcm.seal_rtcp(&mut second, 0).expect("sealed");
        assert_eq!(first[..8], bytes(rtcp)[..8], "the header stays in the clear");
        assert_eq!(first[first.len() - 4..], [0x80, 0, 0, 0]);
        assert_eq!(second[second.len() - 4..], [0x80, 0, 0, 1]);
        assert_ne!(first[8..28], second[8..28]);
        let mut older =
            sealer(Profile::Aes128CmSha1_80, "2B7E151628AED2A6ABF7158809CF4F3C", "F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let mut sealed = bytes(rtcp);
        older.seal_rtcp(&mut sealed, 0).expect("sealed");
        assert_eq!(sealed.len(), 32 + 4 + SHA1_TAG_BYTES);
        assert_eq!(sealed[32..36], [0x80, 0, 0, 0]);
        gcm.rtcp_index = ENCRYPTED;
        assert_eq!(gcm.seal_rtcp(&mut bytes(rtcp), 0), Err(Unsealed), "no number is used twice");
    }

    #[test]
    fn what_is_no_packet_is_not_sealed() {
        let mut sealer =
            sealer(Profile::AeadAes128Gcm, "00010203 04050607 08090a0b 0c0d0e0f", "51756964 2070726f 2071756f");
        let number = Streams::default().begin(1).and_then(|mut numbers| numbers.take(1)).expect("new");
        assert_eq!(sealer.seal_rtp(number, &mut vec![0; 11], 0, 12), Err(Unsealed));
        assert_eq!(sealer.seal_rtcp(&mut vec![0; 7], 0), Err(Unsealed));
    }
}
