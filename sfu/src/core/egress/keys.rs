//! SRTP session keys from what DTLS exported (RFC 5764 section 4.2, RFC 3711 section 4.3).

use aws_lc_rs::{
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    iv::FixedLength,
};

/// Bytes of an AES block.
const BLOCK_BYTES: usize = 16;

/// An SRTP protection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// RFC 7714; the fastest where the processor has vector AES.
    AeadAes256Gcm,
    /// RFC 7714.
    AeadAes128Gcm,
    /// RFC 3711: for peers that speak nothing newer.
    Aes128CmSha1_80,
}

impl Profile {
    /// Bytes of a master key and of the session keys derived from it.
    pub const fn key_bytes(self) -> usize {
        match self {
            Profile::AeadAes256Gcm => 32,
            Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => 16,
        }
    }

    /// Bytes of a master salt and of the session salts derived from it.
    pub const fn salt_bytes(self) -> usize {
        match self {
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => 12,
            Profile::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes of the key that authenticates, where that is not the cipher's business.
    const fn auth_key_bytes(self) -> usize {
        match self {
            Profile::AeadAes256Gcm | Profile::AeadAes128Gcm => 0,
            Profile::Aes128CmSha1_80 => 20,
        }
    }
}

/// The DTLS role of the one whose keys are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opened the handshake.
    Client,
    /// Answered it.
    Server,
}

/// A master key and salt: what one side seals with.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    key: Vec<u8>,
    salt: Vec<u8>,
}

/// Says nothing of the key: it must not reach a log.
impl std::fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What a session key is for (RFC 3711 section 4.3.1).
#[derive(Debug, Clone, Copy)]
pub(super) enum Traffic {
    Rtp,
    Rtcp,
}

/// The keys of one kind of traffic.
pub(super) struct SessionKeys {
    pub cipher: Vec<u8>,
    pub auth: Vec<u8>,
    pub salt: Vec<u8>,
}

impl MasterKey {
    /// The key that `role` seals with, out of what DTLS exported: client key, server key, client salt, server salt. None if
    /// that is too short.
    pub fn from_exported(profile: Profile, exported: &[u8], role: Role) -> Option<Self> {
        let (keys, rest) = exported.split_at_checked(2 * profile.key_bytes())?;
        let salts = rest.get(..2 * profile.salt_bytes())?;
        let (client_key, server_key) = keys.split_at(profile.key_bytes());
        let (client_salt, server_salt) = salts.split_at(profile.salt_bytes());
        let (key, salt) = match role {
            Role::Client => (client_key, client_salt),
            Role::Server => (server_key, server_salt),
        };
        Some(Self { profile, key: key.to_vec(), salt: salt.to_vec() })
    }

    /// The profile that was negotiated.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    pub(super) fn session_keys(&self, traffic: Traffic) -> Result<SessionKeys, Unspecified> {
        let first_label = match traffic {
            Traffic::Rtp => 0,
            Traffic::Rtcp => 3,
        };
        Ok(SessionKeys {
            cipher: self.derive(first_label, self.profile.key_bytes())?,
            auth: self.derive(first_label + 1, self.profile.auth_key_bytes())?,
            salt: self.derive(first_label + 2, self.profile.salt_bytes())?,
        })
    }

    /// RFC 3711 section 4.3.3: the key stream of AES in counter mode from the salt with the label in it. There is one
    /// derivation for the life of a key, so the index in the formula is 0.
    fn derive(&self, label: u8, bytes: usize) -> Result<Vec<u8>, Unspecified> {
        let algorithm = if self.key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = EncryptingKey::ctr(UnboundCipherKey::new(algorithm, &self.key)?)?;
        let mut counter = [0; BLOCK_BYTES];
        counter[..self.salt.len()].copy_from_slice(&self.salt);
        counter[7] ^= label;
        let mut derived = vec![0; bytes];
        key.less_safe_encrypt(&mut derived, EncryptionContext::Iv128(FixedLength::from(counter)))?;
        Ok(derived)
    }
}

#[cfg(test)]
pub(in crate::core) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(profile: Profile, key: &str, salt: &str) -> MasterKey {
        MasterKey { profile, key: bytes(key), salt: bytes(salt) }
    }

    #[test]
    fn session_keys_are_those_of_rfc_3711_appendix_b_3() {
        let master =
            master(Profile::Aes128CmSha1_80, "E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
        let keys = master.session_keys(Traffic::Rtp).expect("derived");
        assert_eq!(keys.cipher, bytes("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(keys.salt, bytes("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(keys.auth, bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn a_key_of_256_bits_is_derived_with_aes_256() {
        // RFC 6188 section 7.3; its salt has 14 bytes, as for AES-256 in counter mode.
        let key = "f0f04914b513f2763a1b1fa130f10e29 98f6f6e43e4309d1e622a0e332b9f1b6";
        let master = master(Profile::AeadAes256Gcm, key, "3b04803de51ee7c96423ab5b78d2");
        let derived = master.derive(0, 32).expect("derived");
        assert_eq!(derived, bytes("5ba1064e30ec51613cad926c5a28ef73 1ec7fb397f70a960653caf06554cd8c4"));
    }

    #[test]
    fn each_side_has_its_own_key() {
        let exported: Vec<u8> = (0..56).collect();
        let key = |role| MasterKey::from_exported(Profile::AeadAes128Gcm, &exported, role).expect("long enough");
        assert_eq!((key(Role::Client).key[0], key(Role::Client).salt[0]), (0, 32));
        assert_eq!((key(Role::Server).key[0], key(Role::Server).salt[0]), (16, 44));
        assert!(MasterKey::from_exported(Profile::AeadAes256Gcm, &exported, Role::Client).is_none());
        assert_eq!(format!("{:?}", key(Role::Client)), "MasterKey { profile: AeadAes128Gcm, .. }");
    }
}
