//! Opening: what a client says by RTCP of the streams that it is sent. str0m opens everything too, for what it takes in; of
//! streams that it does not know it would tell nobody.

use std::fmt;

use aws_lc_rs::{
    aead::{Aad, LessSafeKey, Nonce},
    constant_time::verify_slices_are_equal,
};

use rustc_hash::FxHashMap;

use super::{
    keys::{MasterKey, Traffic},
    seal::{Cipher, CounterMode, ENCRYPTED, GCM_TAG_BYTES, RTCP_CLEAR_BYTES, SHA1_TAG_BYTES, Unsealed, rtcp_nonce},
};

/// Bytes of the word behind an RTCP packet.
const WORD_BYTES: usize = 4;
/// How far behind the newest a packet may come.
const WINDOW: u32 = 64;
/// The most SSRCs that one client may report under: browsers take one for each m-line.
const MAX_SENDERS: usize = 256;

/// Opens the RTCP packets of one client.
pub struct Opener {
    cipher: Cipher,
    /// Each SSRC counts its packets by itself (RFC 3711 section 3.2.3: the context of a packet is that of its SSRC).
    seen: FxHashMap<u32, Seen>,
}

/// Says nothing of the keys.
impl fmt::Debug for Opener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Opener").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// Which packets of one SSRC have come: a bit for each of the last 64 (RFC 3711 section 3.3.2).
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// One more than the newest index.
    next: u32,
    /// The lowest bit is the newest.
    bits: u64,
}

impl Opener {
    /// With the keys derived from `master`, the client's own.
    ///
    /// # Errors
    /// The crypto library took the key for unusable.
    pub fn new(master: &MasterKey) -> Result<Self, Unsealed> {
        let cipher = Cipher::new(master.profile(), &master.session_keys(Traffic::Rtcp)?)?;
        Ok(Self { cipher, seen: FxHashMap::default() })
    }

    /// Opens an SRTCP packet in place: the compound packet that it was. None if it is not authentic, not encrypted, or has
    /// come before; nor where it is of one SSRC too many.
    pub fn open_rtcp<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p [u8]> {
        let (length, index) = match &self.cipher {
            Cipher::Gcm { key, salt } => open_gcm(key, *salt, packet)?,
            Cipher::CounterMode(cipher) => open_counter_mode(cipher, packet)?,
        };
        let sender = sender_of(packet)?;
        if self.seen.len() >= MAX_SENDERS && !self.seen.contains_key(&sender) {
            return None;
        }
        self.seen.entry(sender).or_default().take(index)?;
        packet.get(..length)
    }
}

/// The length of what was opened, and its index.
fn open_gcm(key: &LessSafeKey, salt: [u8; 12], packet: &mut [u8]) -> Option<(usize, u32)> {
    let (sealed, word) = packet.split_at_mut_checked(packet.len().checked_sub(WORD_BYTES)?)?;
    let index = index_of(word)?;
    let (clear, body) = sealed.split_at_mut_checked(RTCP_CLEAR_BYTES)?;
    let mut associated = [0; RTCP_CLEAR_BYTES + WORD_BYTES];
    associated[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
    associated[RTCP_CLEAR_BYTES..].copy_from_slice(word);
    let nonce = Nonce::assume_unique_for_key(rtcp_nonce(salt, sender_of(clear)?, index));
    let length = body.len().checked_sub(GCM_TAG_BYTES)?;
    key.open_in_place(nonce, Aad::from(associated), body).ok()?;
    Some((RTCP_CLEAR_BYTES + length, index))
}

/// The same for the older profile.
fn open_counter_mode(cipher: &CounterMode, packet: &mut [u8]) -> Option<(usize, u32)> {
    let (sealed, tag) = packet.split_at_mut_checked(packet.len().checked_sub(SHA1_TAG_BYTES)?)?;
    verify_slices_are_equal(&cipher.tag(&[sealed]), tag).ok()?;
    let (sealed, word) = sealed.split_at_mut_checked(sealed.len().checked_sub(WORD_BYTES)?)?;
    let index = index_of(word)?;
    let (clear, body) = sealed.split_at_mut_checked(RTCP_CLEAR_BYTES)?;
    cipher.encrypt(sender_of(clear)?, index.into(), body).ok()?;
    Some((sealed.len(), index))
}

fn sender_of(clear: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(clear.get(4..RTCP_CLEAR_BYTES)?.try_into().ok()?))
}

/// The index in the word behind a packet; none if that says that the packet is not encrypted.
fn index_of(word: &[u8]) -> Option<u32> {
    let word = u32::from_be_bytes(word.try_into().ok()?);
    (word & ENCRYPTED != 0).then_some(word & !ENCRYPTED)
}

impl Seen {
    fn take(&mut self, index: u32) -> Option<()> {
        if index >= self.next {
            self.bits = self.bits.checked_shl(index - self.next + 1).unwrap_or(0) | 1;
            self.next = index + 1;
            return Some(());
        }
        let behind = self.next - 1 - index;
        let bit = 1u64.checked_shl(behind).filter(|_| behind < WINDOW)?;
        let is_new = self.bits & bit == 0;
        self.bits |= bit;
        is_new.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            keys::{Profile, Role},
            seal::Sealer,
        },
        *,
    };

    const PROFILES: [Profile; 3] = [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];

    fn pair(profile: Profile) -> (Sealer, Opener) {
        let exported: Vec<u8> = (0..120).collect();
        let master = MasterKey::from_exported(profile, &exported, Role::Client).expect("long enough");
        (Sealer::new(&master).expect("usable"), Opener::new(&master).expect("usable"))
    }

    fn sealed(sealer: &mut Sealer, packet: &[u8]) -> Vec<u8> {
        let mut out = packet.to_vec();
        sealer.seal_rtcp(&mut out, 0).expect("sealed");
        out
    }

    #[test]
    fn what_was_sealed_is_opened_once() {
        for profile in PROFILES {
            let (mut sealer, mut opener) = pair(profile);
            let packet: Vec<u8> = (100..140).collect();
            let late = sealed(&mut sealer, &packet);
            for _ in 0..3 {
                let mut arrived = sealed(&mut sealer, &packet);
                let mut again = arrived.clone();
                assert_eq!(opener.open_rtcp(&mut arrived), Some(&packet[..]), "{profile:?}");
                assert_eq!(opener.open_rtcp(&mut again), None, "{profile:?}: it has come before");
            }
            assert_eq!(opener.open_rtcp(&mut late.clone()), Some(&packet[..]), "{profile:?}: late, but new");
        }
    }

    #[test]
    fn each_ssrc_counts_by_itself_up_to_a_bound() {
        let (_, mut opener) = pair(Profile::AeadAes256Gcm);
        let packet = |sender: u32| [&[0x80, 201, 0, 1], &sender.to_be_bytes()[..], &[0; 4]].concat();
        let mut open_from = |sender: u32| {
            // Firefox begins anew for each of its m-lines.
            let (mut sealer, _) = pair(Profile::AeadAes256Gcm);
            opener.open_rtcp(&mut sealed(&mut sealer, &packet(sender))).is_some()
        };
        let most = MAX_SENDERS as u32;
        assert_eq!((0..most + 5).filter(|sender| open_from(*sender)).count(), MAX_SENDERS);
        assert!(!open_from(0), "it has come before");
    }

    proptest! {
        #[test]
        fn what_was_changed_or_made_up_is_not_opened(
            place in 0usize..200, flip in 1u8.., made_up in prop::collection::vec(any::<u8>(), 0..80)
        ) {
            for profile in PROFILES {
                let (mut sealer, mut opener) = pair(profile);
                let mut arrived = sealed(&mut sealer, &[5; 40]);
                let length = arrived.len();
                arrived[place % length] ^= flip;
                prop_assert_eq!(opener.open_rtcp(&mut arrived), None);
                let mut made_up = made_up.clone();
                prop_assert_eq!(opener.open_rtcp(&mut made_up), None);
            }
        }
    }
}
